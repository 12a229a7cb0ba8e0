"""The run's state on the disk: whole or not at all, whatever kills the writer."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..core.durable import replacing, sync_folders, write_bytes
from ..core.errors import EnvironmentFault, InputError, Refused


@contextmanager
def hold(output: Path) -> Iterator[None]:
    """Make a run's folder and hold it alone; Refused where another process trains into it.

    The operating system lets the lock go when its holder dies, however it dies. Where the run is
    refused before it leaves anything there, no folder is left that wasn't there before.
    """
    is_new = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / ".lock").open("a")
    except OSError as error:
        raise InputError(f"--output {output}: the folder cannot be made ({error})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(
                f"{output}: another process trains into it: wait for it, stop it, or give "
                "another --output"
            ) from error
        try:
            yield
        except InputError:
            if is_new and [path.name for path in output.iterdir()] == [".lock"]:
                (output / ".lock").unlink()
                output.rmdir()
            raise


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state (tensors, numbers, strings, and lists and dicts of these).

    Raises EnvironmentFault for a full disk; what lay at ``path`` is kept.
    """
    with replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's writer says a full disk so
            raise EnvironmentFault(
                f"{path} cannot be written ({error}); the state of the last epoch is kept: make "
                "room and give the same command again to resume"
            ) from error
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    sync_folders([path.parent])


def write_names(path: Path, names: Sequence[str]) -> None:
    """Write a list of files' names, a line each."""
    content = "".join(f"{name}\n" for name in names).encode(errors="surrogateescape")
    write_bytes(path, [content])


def read_state(path: Path) -> dict[str, Any] | None:
    """The state of the last epoch that was finished; None where no run has begun.

    The tensors are read when they are used. Never executes a pickle. Raises InputError for a file
    that is no state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        return None
    except MemoryError:
        raise
    except Exception as error:  # damage makes the unpickler raise nearly anything
        raise InputError(
            f"{path} cannot be read ({error}): give another --output, or --overwrite to start again"
        ) from error
    if not isinstance(state, dict) or "recipe" not in state:
        raise InputError(f"{path} is not the state of a training run: give another --output")
    return state
