"""Looks at job folders: which there are, how far each is, whether a result is whole."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import UNSET

from ..core.errors import EnvironmentFault, InputError, Refused
from ..core.records import Rejection
from .account import ShardAccount, rejected_csv
from .folder import JobFolder, output_path
from .generations import read_plans
from .merged import whole
from .output import recorded_output
from .record import JobRecord


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its folder says. ``state`` is ``killed`` where it says running, but nobody is,
    ``unknown`` where that can't be seen, and ``damaged`` where job.json can't be read: there is no
    record then. ``error`` says why.

    ``done`` counts the images of committed shards, rejected ones too.
    """

    path: Path
    state: str
    planned: int
    done: int
    rejected: int
    record: JobRecord | None
    error: str | None = None

    @property
    def output(self) -> Path:
        """Where the job's result lies now."""
        return output_path(self.path)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "job": str(self.path),
            "state": self.state,
            "planned": self.planned,
            "done": self.done,
            "rejected": self.rejected,
            "output": str(self.output),
            **{key: getattr(self.record, key, "unknown") for key in ("task", "began", "updated")},
        }


def find_jobs(folder: Path) -> list[JobView]:
    """The jobs in a folder and those below it, by path. Raises InputError for no folder."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected a folder, found {'a file' if folder.exists() else 'nothing'}"
        )
    return [_view_or_damage(path.parent) for path in sorted(_descriptions(folder))]


def _view_or_damage(path: Path) -> JobView:
    """A job of several: what is wrong with one must not hide the others."""
    try:
        return view(path)
    except (EnvironmentFault, Refused) as error:
        return JobView(path, "damaged", 0, 0, 0, None, str(error))


def job_of(path: Path) -> Path:
    """The job folder that a person means: the folder itself, or the output that it belongs to."""
    for candidate in (path, Path(f"{path.absolute()}.job"), path / ".job"):
        with suppress(OSError):  # a name that is too long
            if (candidate / "job.json").is_file():
                return candidate
    raise InputError(
        f"{path}: found no job there; expected a job's folder, or its output (labels.csv, masks/)"
    )


def view(path: Path) -> JobView:
    """Read what a job's folder says."""
    folder = JobFolder(path)
    record = folder.read()
    entries = folder.committed().values()
    state: str = record.state
    error = record.error
    if state == "running":
        try:
            state = "running" if folder.is_running() else "killed"
        except EnvironmentFault as fault:
            state, error = "unknown", str(fault)
    committed = sum(entry.images for entry in entries)
    rejected = record.counts.rejected
    return JobView(
        path=path,
        state=state,
        planned=record.counts.planned,
        done=max(0, record.counts.planned - (_all_images(record) - committed)),
        rejected=sum(entry.rejected for entry in entries) if rejected is UNSET else rejected,
        record=record,
        error=error,
    )


def _all_images(record: JobRecord) -> int:
    """The images of all generations' plans: what an update scores again counts twice."""
    if not record.generations:
        return record.counts.planned
    return record.generations[-1].before + record.generations[-1].images


def verify(path: Path) -> list[str]:
    """What is wrong with a job's result, a line each: nothing where it is whole and unchanged.

    Each planned image has a row or a rejection, each part is as the ledger says, OUT.csv is the
    parts and nothing else, each mask's SHA-256 is the one that was written, rejected.csv is the
    parts' rejections, the scores are the parts', and overlays are there (unless the result lies
    elsewhere by now).
    """
    folder = JobFolder(path)
    record = folder.read()
    if record.state != "done":
        return [f"{path}: the job is not done (state: {view(path).state})"]
    problems: list[str] = []
    rejections: list[Rejection] = []

    def noted(shards: Iterator[ShardAccount]) -> Iterator[ShardAccount]:
        for shard in shards:
            rejections.extend(shard.rejections)
            yield shard

    try:
        plans = read_plans(path, record)
        with (
            TemporaryDirectory(prefix="hw1-") as scratch,
            whole(folder, plans, folder.committed(), Path(scratch)) as result,
        ):
            shards = noted(result.shards)
            output = recorded_output(folder)
            problems.extend(output.faults(result.folder, shards, result.plan))
            for _ in shards:  # those that a check which stopped early has left
                pass
        problems.extend(_check_rejected(folder, rejections))
    except (EnvironmentFault, InputError) as error:
        problems.append(str(error))
    return problems


def _check_rejected(folder: JobFolder, rejections: list[Rejection]) -> Iterator[str]:
    try:
        found = folder.rejected_path.read_bytes()
    except OSError as error:
        yield f"{folder.rejected_path}: {error.strerror}"
        return
    if found != rejected_csv(rejections):
        yield f"{folder.rejected_path}: it doesn't name the images that were rejected"


def _descriptions(folder: Path) -> Iterator[Path]:
    yield from folder.glob("**/*.job/job.json")  # MASKS/.job too: this star is "" there
