"""The job that labels images: an ensemble's vote, one CSV."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.durable import storage, write_bytes
from ..core.errors import InputError, Refused
from ..core.numerics import Device, Profile
from ..core.records import Committed, Planned, TaskKind
from ..models.checkpoints import Store, load_state
from ..pipeline.classification import ClassifyWork, crop_size, header
from ..pipeline.parts import part_path
from ..pipeline.rows import format_row, join_rows
from .account import ShardAccount
from .folder import JobFolder, job_path
from .identity import of_checkpoint, tiff_identity
from .scores import require_pyarrow, write_scores
from .spec import ClassifySpec


class ClassifyJob:
    """What is particular to a job that labels images. See ``job.Job`` for the methods."""

    task: TaskKind = "classify"

    def __init__(self, spec: ClassifySpec) -> None:
        self.spec = spec
        _require_writable_file(spec.output, "OUT.csv")
        if spec.scores is not None:
            require_pyarrow()
            _require_writable_file(spec.scores, "--scores")
            if spec.scores.resolve() == spec.output.resolve():
                raise InputError(f"--scores {spec.scores}: that is OUT.csv; give another name")
        store = Store.at(spec.weights)
        self._ensemble = store.ensemble(spec.members)
        self._checkpoints = tuple(store.checkpoint(name) for name in self._ensemble.members)
        for checkpoint in self._checkpoints:
            crop_size(checkpoint)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """What the job writes, besides its folder."""
        return (self.spec.output, *([self.spec.scores] if self.spec.scores else []))

    @property
    def members(self) -> tuple[str, ...]:
        """The models that the job runs."""
        return self._ensemble.members

    def batch_size(self, device: Device) -> int:
        """The images in a forward pass."""
        return self.spec.batch_size or (64 if device == "cpu" else 256)

    def shard_size(self, batch_size: int) -> int:
        """The images in a shard: whole batches, so that each is predicted in one place."""
        asked = self.spec.shard_size or 2 * batch_size
        return -(-asked // batch_size) * batch_size

    def identity(self) -> dict[str, Any]:
        """What decides the result, besides the plan and the numerics profile."""
        return {
            "members": {
                checkpoint.member: {**of_checkpoint(checkpoint), "share": weight}
                for checkpoint, weight in zip(
                    self._checkpoints, self._ensemble.vote_weights, strict=True
                )
            },
            "vote": self._ensemble.vote,
            "top_k": self.spec.top_k,
            "columns": list(self.spec.columns),
            "scores": str(self.spec.scores.absolute()) if self.spec.scores else None,
            **({"tta": True} if self.spec.tta else {}),
            **({"draft": True} if self.spec.draft else {}),
            **tiff_identity(self.spec.tiff),
        }

    def check_names(self, root: Path, images: Sequence[Planned]) -> None:
        """Names cannot clash: all rows go to one file."""

    def earlier(self, folder: JobFolder) -> frozenset[Path]:
        """OUT.csv and the scores of the job that the folder describes."""
        if not folder.exists():
            return frozenset()
        record = folder.read()
        scores = record.identity.get("scores")
        found = {self.spec.output.absolute()}
        if scores and folder.lies_where_written(record):
            found.add(Path(scores))
        return frozenset(found)

    def check_weights(self) -> None:
        """Read the checkpoints whole; raise InputError where one is damaged or doesn't fit."""
        for checkpoint in self._checkpoints:
            load_state(checkpoint)

    def check_free(self, images: Sequence[Planned], earlier: frozenset[Path] = frozenset()) -> None:
        """Refuse where OUT.csv or the scores exist: this job has not written them."""
        for path in self.outputs:
            if path.exists() and path.absolute() not in earlier:
                raise Refused(
                    f"{path} exists, and no job folder says that hw1 wrote it: give another "
                    "name, or remove it"
                )

    def prepare(self) -> None:
        """Nothing: the outputs are written in the end."""

    def work(self, root: Path, job: Path, profile: Profile) -> ClassifyWork:
        """What is done to each shard."""
        return ClassifyWork(
            root=root,
            job=job.absolute(),
            checkpoints=self._checkpoints,
            vote_weights=self._ensemble.vote_weights,
            vote=self._ensemble.vote,
            profile=profile,
            top_k=self.spec.top_k,
            columns=self.spec.columns,
            scores=self.spec.scores is not None,
            tta=self.spec.tta,
            draft=self.spec.draft,
            tiff=self.spec.tiff,
        )

    def is_intact(self, folder: JobFolder, entry: Committed) -> bool:
        """Whether what the shard wrote beside its part is still there: it writes nothing else."""
        return True

    def finish(self, folder: JobFolder, shards: Iterator[ShardAccount]) -> None:
        """Write OUT.csv, and the scores where asked for, from the parts."""
        entries: list[Committed] = []

        def chunks() -> Iterator[bytes]:
            yield join_rows([format_row(header(self.spec.top_k, self.spec.columns))])
            for shard in shards:
                entries.append(shard.entry)
                yield part_path(folder.path, shard.entry.shard).read_bytes()

        write_bytes(self.spec.output, chunks(), scratch=folder.path / "parts")
        if self.spec.scores is not None:
            write_scores(self.spec.scores, folder.path, entries)

    def discard(self, folder: JobFolder) -> None:
        """Remove the outputs of the job that the folder describes."""
        for path in self.earlier(folder):
            with storage(path):
                path.unlink(missing_ok=True)


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
