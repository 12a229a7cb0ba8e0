"""The table of faults, and what several of them do to a job's process."""

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from disk_steps import at_each_step
from world import Act, Task, World


@dataclass(frozen=True)
class Fault:
    """A row of the table. ``quick``: also tried by the tests."""

    group: str
    name: str
    inject: Callable[[World, random.Random], None]
    task: Task
    engine: str
    count: int
    quick: bool


FAULTS: list[Fault] = []
"""The table, in order."""


def fault(
    group: str,
    name: str,
    tasks: Iterable[Task] = ("classify",),
    *,
    engine: str = "inline",
    count: int = 20,
    quick: Task | None = None,
) -> Callable[[Callable[[World, random.Random], None]], Callable[[World, random.Random], None]]:
    """Enter a fault into the table, once for each task; ``quick`` is the one that the tests try."""

    def enter(inject: Callable[[World, random.Random], None]) -> Callable[..., None]:
        FAULTS.extend(Fault(group, name, inject, t, engine, count, t == quick) for t in tasks)
        return inject

    return enter


BOTH: tuple[Task, ...] = ("classify", "segment")


def step_on_disk(stop: int, seen: Path | None = None) -> Act:
    """End the process, as SIGKILL does, at the stop-th step on the disk; or count them."""

    def act(step: int) -> None:
        if seen is not None:
            seen.write_text(str(step))
        if step == stop:
            os.kill(os.getpid(), signal.SIGKILL)

    return lambda: at_each_step(act)


def wipe(world: World) -> None:
    """Empty OUT; the folder itself may be a place where a node has mounted something."""
    for path in world.out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def at_commit(number: int, act: Act) -> Act:
    """Do something in the job's process as the number-th shard was committed."""

    def install() -> None:
        from hw1.jobs.ledger import Ledger

        append, count = Ledger.append, 0

        def counted(self: Ledger, committed: object) -> None:
            nonlocal count
            append(self, committed)  # type: ignore[arg-type]
            count += 1
            if count == number:
                act()

        Ledger.append = counted  # type: ignore[method-assign,assignment]

    return install
