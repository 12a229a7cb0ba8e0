"""Files that are whole or not there: temporary name, fsync, rename, fsync of the folder."""

import errno
import functools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from .errors import EnvironmentFault

TEMPORARY = ".tmp"


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn what a full or failing disk raises into EnvironmentFault, which names the path."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: {error.strerror or error}. What is done is kept: make room or repair the "
            "storage, and give the same command again"
        ) from error


@contextmanager
def replacing(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """A temporary name to write at; the file there takes its place at ``path`` in the end.

    Its name lies in ``scratch`` where a file can be moved from there, so that what a kill leaves
    is swept with it, else beside ``path``. Raises EnvironmentFault where the disk is full or fails.
    """
    with storage(path):
        folder = path.parent
        if scratch is not None and _can_move(scratch, folder):
            folder = scratch
        # A name of its own: two workers may write one file at once (a retry after a lost node).
        temporary = folder / f".{uuid4().hex}{TEMPORARY}"
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@functools.lru_cache
def _can_move(source: Path, target: Path) -> bool:
    """Whether files can be moved between two folders, by moving one.

    Their storage's number doesn't tell: two volumes of a container may lie on one disk.
    """
    name = f".{uuid4().hex}{TEMPORARY}"
    (source / name).touch()
    try:
        (source / name).rename(target / name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    finally:
        for folder in (source, target):
            (folder / name).unlink(missing_ok=True)
    return True


def write_bytes(
    path: Path, chunks: Iterable[bytes], *, sync_folder: bool = True, scratch: Path | None = None
) -> None:
    """Write a file that is whole or absent, whatever happens; see ``replacing`` for ``scratch``.

    With ``sync_folder`` False the caller makes the name durable, with one ``sync_folders`` for
    many files. Raises EnvironmentFault where the disk is full or fails.
    """
    with replacing(path, scratch) as temporary, temporary.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if sync_folder:
        sync_folders([path.parent])


def sweep(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder."""
    with storage(folder):
        for path in folder.glob(f".*{TEMPORARY}"):
            path.unlink(missing_ok=True)


def sync_folders(folders: Iterable[Path]) -> None:
    """Make the names in these folders durable."""
    for folder in folders:
        with storage(folder):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, their names durable."""
    made: list[Path] = []
    above = folder
    while not above.exists():
        made.append(above)
        above = above.parent
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sync_folders(path.parent for path in made)
