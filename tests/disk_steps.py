"""The steps that a process takes on the disk: before and after each fsync and each rename."""

import os
from collections.abc import Callable
from pathlib import Path


def at_each_step(act: Callable[[int], None]) -> None:
    """From now on call ``act`` with the step's number, from 1, at each step of this process."""
    steps = 0
    fsync, replace = os.fsync, Path.replace

    def step() -> None:
        nonlocal steps
        steps += 1
        act(steps)

    def counted_fsync(file: int) -> None:
        step()
        fsync(file)
        step()

    def counted_replace(path: Path, target: Path) -> Path:
        step()
        moved = replace(path, target)
        step()
        return moved

    os.fsync, Path.replace = counted_fsync, counted_replace  # type: ignore[assignment,method-assign]
