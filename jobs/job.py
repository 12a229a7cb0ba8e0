"""What the kinds of job have in common: the methods that make them, and their summary."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..core.classes import Classes
from ..core.numerics import Device, Profile
from ..core.records import TaskKind, Work
from ..core.spec import JobSpec
from ..execution.engines import EngineOptions
from ..execution.flow import Flow
from ..models.checkpoints import Checkpoint
from .output import Output


class Job(Protocol):
    """What is particular to a kind of job: its models, and what it writes."""

    @property
    def task(self) -> TaskKind:
        """What it makes of each image."""

    @property
    def spec(self) -> JobSpec:
        """The job in words."""

    @property
    def output(self) -> Output:
        """What it writes, besides its folder."""

    @property
    def members(self) -> tuple[str, ...]:
        """The models that the job runs."""

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The models' checkpoints."""

    @property
    def classes(self) -> Classes:
        """What the models, which agree, tell apart."""

    def with_checkpoints(self, checkpoints: "tuple[Checkpoint, ...]") -> "Job":
        """The same job with these checkpoints, which were made of its own."""

    def batch_size(self, device: Device, memory: int) -> int:
        """The images in a forward pass, where none is asked for; ``memory``: a GPU's bytes."""

    def unit(self, batch_size: int) -> int:
        """The images whose undecided ones are packed into batches; 0 where all always vote."""

    def lanes(self, device: Device, threads: int) -> int:
        """The models that are computed at once, and share an actor's threads."""

    def shard_size(self, batch_size: int) -> int:
        """The images in a shard."""

    def identity(self) -> dict[str, Any]:
        """What decides the result, besides the plan and the numerics profile."""

    def check_weights(self) -> None:
        """Read the checkpoints whole; raise InputError where one is damaged or doesn't fit."""

    def work(self, root: Path, folder: Path, profile: Profile) -> Work:
        """What is done to each shard: images below ``root``, parts in the job's ``folder``."""


def engine_options(spec: JobSpec) -> EngineOptions:
    """Where the job's shards are moved. Raises InputError for options of Ray's without Ray."""
    return EngineOptions(
        engine=spec.engine,
        device=spec.device,
        threads=spec.threads,
        actors=spec.actors,
        address=spec.address,
        timeout=spec.timeout,
    )


@dataclass(slots=True)
class Summary:
    """What became of a job.

    ``ignored`` counts files, ``ignored_formats`` those of each suffix.
    ``resumed`` is the number of images that were done before this run, ``seconds`` its length.
    ``new``, ``changed`` and ``gone`` count what IN has that the result has not, where it could be
    ``compared``. ``early`` is the share of the images, 0 to 1, that a cascade's first member
    decided alone; None of a job that is none. ``flow``: which step kept the others waiting.
    """

    task: TaskKind
    output: Path
    job: Path
    planned: int
    ignored: int
    ignored_formats: Mapping[str, int]
    scored: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    compared: bool = True
    early: float | None = None
    flow: Flow | None = None
    seconds: float = 0.0

    def exit_code(self, *, rejected_ok: bool) -> int:
        """0: all scored, or some rejected and that is fine; 3: IN isn't as the result says."""
        differs = self.new or self.changed or self.gone or not self.compared
        return 3 if differs or (self.rejected and not rejected_ok) else 0
