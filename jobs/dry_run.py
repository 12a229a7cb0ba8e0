"""What a job would do, without doing it: nothing is written anywhere."""

import math
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import Hw1Error
from ..core.numerics import Profile
from ..core.records import Decoded, Planned, Shard
from ..execution.inline import Inline
from ..pipeline.find import Found, find
from .changes import Changes, compare
from .folder import JobFolder, job_path
from .generations import read_plans
from .identity import rebatched, refuse_other
from .job import Job, engine_options
from .output import earlier_files
from .profile import choose_profile

TILE = 512  # pixels a side of the image that a segmenter is timed on


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a job would do. ``problems`` are what it would be refused for. ``new``, ``changed`` and
    ``gone`` count what IN has that the job which is there has not; ``since`` says it in words.

    ``seconds`` is the estimated time of one actor like this machine, from timing ``sample``; of a
    cascade that where no image stops early, and ``least`` that where all do.
    """

    images: int
    formats: dict[str, int]
    ignored: int
    ignored_formats: dict[str, int]
    shards: int
    shard_size: int
    members: tuple[str, ...]
    device: str
    device_model: str
    precision: str
    batch_size: int
    threads: int
    output: Path
    state: str
    seconds: float
    sample: str
    problems: tuple[str, ...]
    new: int = 0
    changed: int = 0
    gone: int = 0
    since: str = ""
    least: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "output": str(self.output)}


def dry_run(job: Job) -> DryRun:
    """Plan a job on this machine, and time one batch of blanks to estimate how long it takes.

    Raises InputError for what cannot be planned: no images, an unknown member.
    """
    spec = job.spec
    folder = JobFolder(job_path(job.task, spec.output.absolute()))
    found = find(spec.source, spec.include, spec.exclude, (*job.output.paths, folder.path))
    profile = choose_profile(job, Inline(engine_options(spec).actors or 1), recorded=None)
    shard_size = job.shard_size(profile.batch_size)
    problems = _problems(job, folder, found)
    changes = Changes()
    if folder.exists() and not spec.overwrite and not problems:
        changes = compare(read_plans(folder.path, folder.read()), found.images)
    seconds, least, sample = _estimate(job, found.images, profile)
    return DryRun(
        images=len(found.images),
        formats=found.formats,
        ignored=found.ignored,
        ignored_formats=found.ignored_formats,
        shards=math.ceil(len(found.images) / shard_size),
        shard_size=shard_size,
        members=job.members,
        device=profile.device,
        device_model=profile.device_model,
        precision=profile.precision,
        batch_size=profile.batch_size,
        threads=profile.threads,
        output=spec.output,
        state=_state(folder),
        seconds=seconds,
        sample=sample,
        problems=problems,
        new=len(changes.new),
        changed=len(changes.changed),
        gone=len(changes.gone),
        since=changes.text(),
        least=least,
    )


def _state(folder: JobFolder) -> str:
    if not folder.exists():
        return "new"
    running = ", running" if folder.is_running() else ""
    return f"a job is there: {folder.read().state}{running}"


def _problems(job: Job, folder: JobFolder, found: Found) -> tuple[str, ...]:
    def check_names() -> None:
        job.output.check_names(found.root, found.images)

    def check_begun() -> None:
        if folder.exists() and not job.spec.overwrite:
            begun = bool(folder.committed())
            refuse_other(job, rebatched(job, folder.read(), committed=begun).identity)
        else:
            job.output.check_free(found.images, earlier_files(folder))

    problems = []
    for check in (check_names, check_begun):
        try:
            check()
        except Hw1Error as error:
            problems.append(str(error))
    return tuple(problems)


def _estimate(job: Job, images: list[Planned], profile: Profile) -> tuple[float, float | None, str]:
    """Seconds for all images, at least (of a cascade), and what was timed.

    That is a batch of blanks, after one to warm up.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        work = job.work(Path(nowhere), Path(nowhere), profile)
        predictor = work.load()
    blank = Planned("blank", 0, 0)
    count = profile.batch_size
    sides = [framing.size for framing in getattr(work, "framings", ())]
    arrays = (
        tuple(np.zeros((count, *each, 3), np.uint8) for each in sides)
        if sides
        else (np.zeros((TILE, TILE, 3), np.uint8),) * count
    )
    piece = Shard(0, 0, (blank,) * count)
    decoded = Decoded(piece, tuple(range(count)), ("blank",) * count, arrays, ())

    def timed() -> float:
        predictor(decoded)
        start = time.perf_counter()
        predictor(decoded)
        return (time.perf_counter() - start) * math.ceil(len(images) / count)

    least = None
    if profile.unit:
        from ..pipeline.cascade import CascadePredictor

        assert isinstance(predictor, CascadePredictor)
        predictor.least = 0.0  # all stop early
        least = timed()
        predictor.least = math.inf
    seconds = timed()
    if least is not None:
        least = min(least, seconds)  # a machine that is busy for a moment takes longer for less
    height, width = max(sides, default=(TILE, TILE))
    return (
        seconds,
        least,
        f"a batch of {count} at {width} × {height} pixels in one actor like this machine",
    )
