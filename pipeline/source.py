"""Reads a file's bytes, and says whose fault it is where they can't be read."""

import errno
import os
import stat
import time
from pathlib import Path
from typing import Final

from ..core.errors import EnvironmentFault
from ..core.records import Planned
from .limits import MAX_BYTES, Reject

_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM)
_TRIES: Final = 3
_NEIGHBOURS: Final = 8
_SAMPLE: Final = 2**16


def read(path: Path, planned: Planned | None) -> bytes:
    """The file's bytes, where it is what it was when it was planned.

    Raises Reject for the file's faults and EnvironmentFault for the machine's. An I/O error that
    stays with this file while others beside it are read is the file's.
    """
    for attempt in range(_TRIES):
        try:
            return _read(path, planned)
        except OSError as error:
            if error.errno != errno.EIO:
                raise _reading_fault(error, path) from error
            if attempt == _TRIES - 1 and neighbours_are_read(path):
                said = f"{error.strerror}, {_TRIES} times, though files beside it are read"
                raise Reject("unreadable", said) from error
            if attempt == _TRIES - 1:
                raise _reading_fault(error, path) from error
            time.sleep(0.1)
        except MemoryError as error:
            raise EnvironmentFault(f"not enough memory to read {path}") from error
    raise AssertionError("each way out of the loop returns or raises")


def _read(path: Path, planned: Planned | None) -> bytes:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # opening a FIFO would wait for its writer
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise Reject("not_image", f"it is {kind}")
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        _check(status, planned)
        data = file.read()
    if len(data) != status.st_size:
        raise Reject("changed", "it was written to while it was read")
    return data


def _check(status: os.stat_result, planned: Planned | None) -> None:
    """Compare a file with the plan, before any of it is read."""
    if planned is not None and planned.size == -1:
        raise Reject("changed", "it was not there when the plan was made")
    if planned is not None and status.st_size != planned.size:
        raise Reject("changed", f"{status.st_size} bytes, {planned.size} when planned")
    if planned is not None and status.st_mtime_ns != planned.mtime_ns:
        raise Reject("changed", "it was written to since the plan was made")
    if status.st_size == 0:
        raise Reject("empty", "0 bytes")
    if status.st_size > MAX_BYTES:
        raise Reject("too_large", f"{status.st_size:,} bytes, at most {MAX_BYTES:,} are read")


def neighbours_are_read(path: Path) -> bool:
    """Whether any of some files in the same folder can be read: then the storage is there."""
    looked_at = 0
    try:
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if entry.name == path.name or not entry.is_file():
                    continue
                looked_at += 1
                try:
                    with Path(entry.path).open("rb", buffering=0) as file:
                        if file.read(_SAMPLE):
                            return True
                except OSError:
                    pass
                if looked_at == _NEIGHBOURS:
                    return False
    except OSError:
        pass
    return False


def _reading_fault(error: OSError, path: Path) -> Reject | EnvironmentFault:
    """Whose fault it is that a file could not be read."""
    said = error.strerror or str(error)
    if error.errno in _GONE:
        return Reject("gone", said)
    if error.errno in _FORBIDDEN:
        return Reject("unreadable", said)
    return EnvironmentFault(f"cannot read {path}: {said}")
