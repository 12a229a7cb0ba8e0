"""What the kinds of job have in common: the methods that make them, and their summary."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..core.numerics import Device, Profile
from ..core.records import Committed, Planned, TaskKind, Work
from .account import ShardAccount
from .folder import JobFolder
from .spec import JobSpec


class Job(Protocol):
    """What is particular to a kind of job."""

    task: TaskKind

    @property
    def spec(self) -> JobSpec:
        """The job in words."""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """What the job writes, besides its folder."""

    @property
    def members(self) -> tuple[str, ...]:
        """The models that the job runs."""

    def batch_size(self, device: Device) -> int:
        """The images in a forward pass, where none is asked for."""

    def shard_size(self, batch_size: int) -> int:
        """The images in a shard."""

    def identity(self) -> dict[str, Any]:
        """What decides the result, besides the plan and the numerics profile."""

    def check_names(self, root: Path, images: Sequence[Planned]) -> None:
        """Raise InputError where two images below ``root`` would be written to one output."""

    def earlier(self, folder: JobFolder) -> frozenset[Path]:
        """What the job that the folder describes may have written; empty where there is none."""

    def check_weights(self) -> None:
        """Read the checkpoints whole; raise InputError where one is damaged or doesn't fit."""

    def check_free(self, images: Sequence[Planned], earlier: frozenset[Path] = frozenset()) -> None:
        """Raise Refused where an output exists that is not of ``earlier``."""

    def prepare(self) -> None:
        """Make what must be there before the first shard is done, if it isn't yet."""

    def work(self, root: Path, job: Path, profile: Profile) -> Work:
        """What is done to each shard."""

    def is_intact(self, folder: JobFolder, entry: Committed) -> bool:
        """Whether what a shard wrote beside its part is still there."""

    def finish(self, folder: JobFolder, shards: Iterator[ShardAccount]) -> None:
        """Write the result from the shards' parts; consumes all of them."""

    def discard(self, folder: JobFolder) -> None:
        """Remove the outputs of the job that the folder describes, and nothing else."""


@dataclass(slots=True)
class Summary:
    """What became of a job.

    ``resumed`` is the number of images that were done before this run, ``seconds`` its length.
    """

    task: TaskKind
    output: Path
    job: Path
    planned: int
    ignored: int
    scored: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    seconds: float = 0.0

    def exit_code(self, *, rejected_ok: bool) -> int:
        """0: all scored, or some rejected and that is fine; 3: some rejected."""
        return 3 if self.rejected and not rejected_ok else 0
