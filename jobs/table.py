"""The output of a job that labels images: OUT, and the file of class probabilities."""

import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from ..core.classes import REFERENCE_CLASSIFIER, Classes
from ..core.durable import storage
from ..core.errors import InputError, Refused
from ..core.records import Committed, Planned
from ..core.spec import ClassifySpec
from ..core.text import shown
from ..pipeline.classification import header
from ..pipeline.parts import part_path
from .account import ShardAccount
from .folder import JobFolder, job_path
from .results import check_suffix, opened, write_result
from .scores import scores_fault, write_scores


@dataclass(frozen=True, slots=True)
class Table:
    """A row for each scored image, in a file whose suffix tells its form (see ``results``).

    See ``output.Output`` for the methods. ``classes`` are the models', needed to write it.
    """

    path: Path
    columns: tuple[str, ...]
    scores: Path | None = None
    classes: Classes = REFERENCE_CLASSIFIER
    safe_csv: bool = False

    @staticmethod
    def check(spec: ClassifySpec) -> None:
        """Raise InputError where the table that is asked for can't be written."""
        _require_writable_file(spec.output, "OUT")
        check_suffix(spec.output, "OUT")
        if spec.scores is not None:
            _require_writable_file(spec.scores, "--scores")
            check_suffix(spec.scores, "--scores", (".parquet", ".csv"))
            if spec.scores.resolve() == spec.output.resolve():
                raise InputError(f"--scores {spec.scores}: that is OUT; give another name")

    @classmethod
    def open(cls, spec: ClassifySpec, classes: Classes = REFERENCE_CLASSIFIER) -> Self:
        """The table that is asked for. Raises InputError where it can't be written."""
        cls.check(spec)
        return cls(
            spec.output, header(spec.top_k, spec.columns), spec.scores, classes, spec.safe_csv
        )

    @classmethod
    def of_record(cls, path: Path, identity: Mapping[str, Any], *, elsewhere: bool) -> Self:
        """The table of a recorded job, at ``path`` now; its scores where they are still its own."""
        scores = identity.get("scores") if elsewhere else None
        columns = header(identity["top_k"], identity["columns"])
        return cls(
            path, columns, Path(scores) if scores else None, safe_csv=bool(identity.get("safe_csv"))
        )

    @property
    def paths(self) -> tuple[Path, ...]:
        """OUT, and the scores where asked for."""
        return (self.path, *([self.scores] if self.scores else []))

    def alone(self) -> Self:
        """Without the scores."""
        return replace(self, scores=None)

    def check_names(self, root: Path, images: Sequence[Planned]) -> None:
        """Names cannot clash: all rows go to one file."""

    def check_free(self, images: Sequence[Planned], earlier: frozenset[Path] = frozenset()) -> None:
        """Refuse where OUT or the scores exist: this job has not written them."""
        for path in self.paths:
            if path.exists() and path.absolute() not in earlier:
                raise Refused(
                    f"{path} exists, and no job folder says that hw1 wrote it: give another "
                    "name, or remove it"
                )

    def prepare(self) -> None:
        """Nothing: the files are written in the end."""

    def damaged(
        self, folder: JobFolder, entry: Committed, stale: Container[str], *, check: bool
    ) -> list[Path]:
        """None: a shard writes nothing besides its part."""
        return []

    def finish(self, folder: JobFolder, shards: Iterator[ShardAccount]) -> None:
        """Write OUT, and the scores where asked for, from the parts."""
        entries: list[Committed] = []

        def parts() -> Iterator[Path]:
            for shard in shards:
                entries.append(shard.entry)
                yield part_path(folder.path, shard.entry.shard)

        write_result(
            self.path, folder.path, parts(), self.columns, self.classes, safe=self.safe_csv
        )
        if self.scores is not None:
            write_scores(self.scores, folder.path, entries, self.classes)

    def drop(self, rows: Iterator[list[str]], scored: Iterable[str]) -> None:
        """Nothing: the table was written without them."""

    def faults(
        self, folder: JobFolder, shards: Iterator[ShardAccount], plan: Sequence[Planned]
    ) -> Iterator[str]:
        """Where OUT isn't the header and the parts, or the scores are others than theirs."""
        if not self.path.is_file() or self.path.is_symlink():
            found = "a link" if self.path.is_symlink() else "nothing"
            yield f"{self.path}: expected the job's result, found {found}"
            return
        with opened(self.path, self.columns, safe=self.safe_csv) as result:
            if result.title_fault:
                yield f"{self.path}: {result.title_fault}"
            entries: list[Committed] = []
            for shard in shards:
                entries.append(shard.entry)
                if not result.continues(part_path(folder.path, shard.entry.shard)):
                    images = _images(shard.entry, plan)
                    yield f"{self.path}: the rows of {images} are not what was scored"
                    return
            if not result.ends():
                yield f"{self.path}: there are rows after the last image's"
        if self.scores is not None and (fault := scores_fault(self.scores, folder.path, entries)):
            yield fault

    def files(self, folder: JobFolder) -> Iterator[Path]:
        """OUT and the scores."""
        yield from (path.absolute() for path in self.paths)

    def discard(self, folder: JobFolder) -> None:
        """Remove them."""
        for path in self.files(folder):
            with storage(path):
                path.unlink(missing_ok=True)


def _images(entry: Committed, plan: Sequence[Planned]) -> str:
    first, last = plan[entry.first], plan[entry.first + entry.images - 1]
    return f"{shown(first.image_id)} to {shown(last.image_id)}"


def _require_writable_file(path: Path, name: str) -> None:
    """Raise InputError where a file cannot be written at ``path``."""
    try:
        if path.is_dir():
            raise InputError(f"{name} {path}: expected a file's name, found a folder")
        job_path("classify", path).exists()  # its name is the longest
    except OSError as error:
        raise InputError(f"{name} {path}: {error.strerror}") from error
    if not path.absolute().parent.is_dir():
        raise InputError(f"{name} {path}: there is no folder {path.absolute().parent}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"{name} {path}: the folder {path.absolute().parent} cannot be written to")
