"""The ledger: a line of JSON for each committed shard, appended by the driver alone."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from ..core.durable import storage, sync_folders
from ..core.errors import EnvironmentFault
from ..core.records import Committed


def read_ledger(path: Path) -> dict[int, Committed]:
    """The committed shards by id; where a shard stands twice the later line holds.

    A last line without its line feed was torn by a kill, and does not count. Raises
    EnvironmentFault where any other line is damaged.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    shards: dict[int, Committed] = {}
    for number, line in enumerate(lines[:-1], 1):
        try:
            committed = msgspec.convert(json.loads(line), Committed)
        except (ValueError, RecursionError, msgspec.ValidationError) as error:
            raise EnvironmentFault(
                f"{path}, line {number}: expected a shard's entry, found {line[:60]!r}. "
                "The storage damaged it: delete that line to have its shard done again"
            ) from error
        shards[committed.shard] = committed
    return shards


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
            self._file.write(json.dumps(asdict(committed)).encode() + b"\n")
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
