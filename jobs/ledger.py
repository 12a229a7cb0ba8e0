"""The ledger: a line of JSON for each committed shard, appended by the driver alone."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from ..core.durable import storage, sync_folders, write_bytes
from ..core.records import Committed


def read_ledger(path: Path) -> dict[int, Committed]:
    """The committed shards by id; where a shard stands twice the later line holds.

    A line that is no shard's entry counts as none: a last one torn by a kill, one that the storage
    damaged. ``repair_ledger`` takes it out.
    """
    return {entry.shard: entry for entry in map(_entry, _lines(path)) if entry}


def repair_ledger(path: Path, holds: Callable[[Committed], bool]) -> int:
    """Take out the lines that are no entries, or of no shard that the job ``holds``.

    Returns how many they were. The file is whole all the time. A torn last line isn't counted.
    """
    lines = _lines(path)
    good = [line for line in lines if (entry := _entry(line)) and holds(entry)]
    taken = len(lines) - len(good)
    if taken:
        write_bytes(path, [b"".join(line + b"\n" for line in good)])
    return taken


def _lines(path: Path) -> list[bytes]:
    """The lines without their ends; what stands after the last end was torn, and isn't one."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except (FileNotFoundError, IsADirectoryError):
        return []


def _entry(line: bytes) -> Committed | None:
    try:
        return msgspec.convert(json.loads(line), Committed)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None


class Ledger:
    """The ledger opened for appending, a torn last line cut off first.

    An entry is on the disk when ``append`` returns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Ledger":
        with storage(self._path):
            self._file = self._path.open("a+b")
            self._file.seek(0)
            whole = self._file.read().rfind(b"\n") + 1
            self._file.truncate(whole)
            os.fsync(self._file.fileno())
            sync_folders([self._path.parent])
        return self

    def append(self, committed: Committed) -> None:
        """Enter a shard whose part is durable; EnvironmentFault where the disk is full."""
        assert self._file is not None
        with storage(self._path):
            fields = asdict(committed)
            if not committed.early:  # as of any job that is no cascade
                del fields["early"]
            self._file.write(json.dumps(fields).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with storage(self._path):
                self._file.close()
