"""What a job writes besides its folder: a table, or a folder of masks."""

from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ..core.errors import EnvironmentFault
from ..core.records import Committed, Planned
from .account import ShardAccount
from .folder import JobFolder
from .mask_folder import MaskFolder
from .table import Table


class Output(Protocol):
    """The files that a job makes. Whether they may be written is checked when one is opened."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files or folders that the command names."""

    def alone(self) -> "Output":
        """The output without what lies elsewhere than its job's folder: scores, overlays."""

    def check_names(self, root: Path, images: Sequence[Planned]) -> None:
        """Raise InputError where two images below ``root`` would be written to one file."""

    def check_free(self, images: Sequence[Planned], earlier: frozenset[Path] = frozenset()) -> None:
        """Raise Refused where a file exists that is not of ``earlier``: no job wrote it."""

    def prepare(self) -> None:
        """Make what must be there before the first shard is done, if it isn't yet."""

    def damaged(
        self, folder: JobFolder, entry: Committed, stale: Container[str], *, check: bool
    ) -> list[Path]:
        """The files of a committed shard that aren't as it wrote them, but for its part.

        Those of ``stale`` images are left out. Size and time are compared, content where they
        differ, aren't recorded, or with ``check``. A place where none can be written again is
        Refused.
        """

    def finish(self, folder: JobFolder, shards: Iterator[ShardAccount]) -> None:
        """Write the result from the shards' parts; consumes all of them."""

    def drop(self, rows: Iterator[list[str]], scored: Iterable[str]) -> None:
        """Remove what was written for rows that the result has no more, once.

        Not the files of images that are ``scored``, and none that anyone has changed since.
        """

    def faults(
        self, folder: JobFolder, shards: Iterator[ShardAccount], plan: Sequence[Planned]
    ) -> Iterator[str]:
        """What is not as the job wrote it, a line each; may leave some of the shards."""

    def files(self, folder: JobFolder) -> Iterator[Path]:
        """What the job in ``folder`` may have written."""

    def discard(self, folder: JobFolder) -> None:
        """Remove these files, folders that this empties, and nothing else."""


def recorded_output(folder: JobFolder, instead: Output | None = None) -> Output:
    """The output of the job that the folder records, where it lies now.

    What it wrote elsewhere (scores, overlays) is its own only where it has not been moved or
    copied since. Where the record is damaged: ``instead``, as far as it lies beside the folder;
    EnvironmentFault without it.
    """
    try:
        record = folder.read()
    except EnvironmentFault:
        if instead is None:
            raise
        return instead.alone()
    at_home = folder.lies_where_written(record)
    kind = Table if record.task == "classify" else MaskFolder
    return kind.of_record(folder.output, record.identity, elsewhere=at_home)


def earlier_files(folder: JobFolder, instead: Output | None = None) -> frozenset[Path]:
    """What the job that was begun in the folder may have written; nothing where there is none."""
    if not folder.exists():
        return frozenset()
    return frozenset(recorded_output(folder, instead).files(folder))
