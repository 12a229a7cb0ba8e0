"""The job that labels images: an ensemble's vote, one table."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from ..core.classes import Classes
from ..core.errors import InputError
from ..core.numerics import Device, Profile, gpu_batch_size
from ..core.records import TaskKind
from ..core.spec import ClassifySpec
from ..models.arithmetic import cheapest, settle
from ..models.checkpoints import Checkpoint, agreed_classes, read_checkpoint, verify
from ..models.ensemble import BEST, Ensemble
from ..models.store import Store, checkpoints_of
from ..pipeline.classification import ClassifyWork, framing_of, lanes_of
from .identity import of_checkpoint, tiff_identity
from .table import Table

_BATCHES_OF_A_UNIT = 8
"""Of a cascade: of so many the undecided are packed, which wastes half a batch on average."""


@dataclass(frozen=True)
class ClassifyJob:
    """What is particular to a job that labels images. See ``job.Job`` for the methods.

    ``checkpoints`` are those of the ensemble's members, in its order.
    """

    spec: ClassifySpec
    output: Table
    ensemble: Ensemble
    checkpoints: tuple[Checkpoint, ...]

    @classmethod
    def open(cls, spec: ClassifySpec) -> Self:
        """Find the checkpoints, and where to write. Raises InputError where either can't be."""
        Table.check(spec)
        ensemble, checkpoints = _voters(spec)
        for checkpoint in checkpoints:
            framing_of(checkpoint)
        classes = agreed_classes(checkpoints)
        if spec.top_k > len(classes):
            raise InputError(f"--top-k {spec.top_k}: there are {len(classes)} classes")
        spec = replace(spec, cascade_first=_first_of_cascade(spec, checkpoints))
        spec = replace(spec, **settle(spec.device, spec.precision, spec.backend, checkpoints))
        return cls(spec, Table.open(spec, classes), ensemble, checkpoints)

    @property
    def task(self) -> TaskKind:
        """A label for each image."""
        return "classify"

    @property
    def members(self) -> tuple[str, ...]:
        """The models that the job runs."""
        return self.ensemble.members

    @property
    def classes(self) -> Classes:
        """What the members, who agree, tell apart."""
        return self.output.classes

    def with_checkpoints(self, checkpoints: tuple[Checkpoint, ...]) -> Self:
        """See Job."""
        return replace(self, checkpoints=checkpoints)

    def batch_size(self, device: Device, memory: int) -> int:
        """The images in a forward pass."""
        if device == "cpu":
            return 64
        pixels = max(math.prod(framing_of(each).size) for each in self.checkpoints)
        return gpu_batch_size(pixels, sum(each.bytes for each in self.checkpoints), memory)

    def unit(self, batch_size: int) -> int:
        """Of a cascade, the images whose undecided ones are packed into batches; else 0."""
        return 0 if self.spec.cascade is None else _BATCHES_OF_A_UNIT * batch_size

    def lanes(self, device: Device, threads: int) -> int:
        """See Job; in a cascade the first member is alone."""
        return 1 if self.spec.cascade is not None else lanes_of(self.checkpoints, device, threads)

    def shard_size(self, batch_size: int) -> int:
        """The images in a shard: whole batches or units, so that each is predicted in one place."""
        whole = self.unit(batch_size) or batch_size
        return -(-(self.spec.shard_size or 2 * batch_size) // whole) * whole

    def identity(self) -> dict[str, Any]:
        """What decides the result, besides the plan and the numerics profile."""
        vote_weights = zip(self.checkpoints, self.ensemble.vote_weights, strict=True)
        return {
            "members": {
                checkpoint.member: {**of_checkpoint(checkpoint), "share": weight}
                for checkpoint, weight in vote_weights
            },
            "vote": self.ensemble.vote,
            "top_k": self.spec.top_k,
            "columns": list(self.spec.columns),
            "scores": str(self.spec.scores.absolute()) if self.spec.scores else None,
            **({"tta": True} if self.spec.tta else {}),
            **({"draft": True} if self.spec.draft else {}),
            **({"safe_csv": True} if self.spec.safe_csv else {}),
            **self._cascade(),
            **tiff_identity(self.spec.tiff),
        }

    def _cascade(self) -> dict[str, Any]:
        spec = self.spec
        if spec.cascade is None:
            return {}
        return {"cascade": {"from": spec.cascade, "first": spec.cascade_first}}

    def check_weights(self) -> None:
        """Read the checkpoints whole; raise InputError where one is damaged or doesn't fit."""
        for checkpoint in self.checkpoints:
            verify(checkpoint)

    def work(self, root: Path, folder: Path, profile: Profile) -> ClassifyWork:
        """What is done to each shard."""
        return ClassifyWork(
            spec=self.spec,
            root=root,
            folder=folder.absolute(),
            checkpoints=self.checkpoints,
            ensemble=self.ensemble,
            profile=profile,
        )


def _first_of_cascade(spec: ClassifySpec, checkpoints: tuple[Checkpoint, ...]) -> str | None:
    """Who goes first: as asked, or the cheapest. Raises InputError where that makes no sense."""
    if spec.cascade is None:
        if spec.cascade_first is not None:
            raise InputError("--cascade-first needs --cascade T: the confidence that is enough")
        return None
    if not 0 < spec.cascade <= 1:
        raise InputError(f"--cascade {spec.cascade:g}: expected a confidence, above 0 and up to 1")
    names = [checkpoint.member for checkpoint in checkpoints]
    if len(names) < 2:
        raise InputError(f"--cascade needs several members: there is {names[0]} alone")
    if spec.cascade_first is None:
        return cheapest(checkpoints)
    if spec.cascade_first not in names:
        raise InputError(
            f"--cascade-first {spec.cascade_first}: expected a member that votes: "
            f"{', '.join(names)}"
        )
    return spec.cascade_first


def _voters(spec: ClassifySpec) -> tuple[Ensemble, tuple[Checkpoint, ...]]:
    """Who votes: one file, or the members of a folder."""
    if spec.model is not None:
        if (spec.members, spec.weights, spec.ensemble) != (None, None, None):
            raise InputError(
                "--model is one file: give it without --members, --ensemble and --weights"
            )
        checkpoint = read_checkpoint(spec.model.absolute())
        return Ensemble((checkpoint.member,), (1.0,), "logits"), (checkpoint,)
    store = Store.at(spec.weights)
    if spec.members is not None and spec.ensemble is not None:
        raise InputError("--members and --ensemble both say who votes: give one of them")
    ensemble = store.ensemble(spec.members, spec.ensemble or BEST)
    return ensemble, checkpoints_of(store, ensemble.members)
