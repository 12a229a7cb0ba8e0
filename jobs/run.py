"""A durable job, from its words to its account: plan, run what the ledger lacks, merge."""

import logging
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread

from .. import __version__
from ..core import numerics
from ..core.durable import write_bytes
from ..core.errors import EnvironmentFault, InputError, Refused, TooManyRejected
from ..core.events import report
from ..core.numerics import Profile
from ..core.records import Committed, Planned, Rejection
from ..core.text import some
from ..execution.engines import Engine, start
from ..pipeline.find import Found, find
from ..pipeline.parts import Stamp, part_digest, read_rejections, stamp
from .account import ShardAccount, account, rejected_csv
from .folder import JobFolder, job_path, now
from .identity import absolute, fingerprint, identity_of, refuse_difference, refuse_other
from .job import Job, Summary, engine_options
from .log import logged
from .output import earlier_files, recorded_output
from .plan import PLAN, read_plan, shards, write_plan
from .profile import choose_profile, recorded_profile
from .progress import Progress
from .record import VERSION, Counts, JobRecord, State
from .storm import Storm
from .table import Table

CLASSES = "classes.csv"  # in the job folder: what a label, or a colour, stands for


def run_job(job: Job, progress: Progress, command: Sequence[str] | None = None) -> Summary:
    """Run a job to its end, or what is left of it.

    ``command`` is what is recorded as the command that began it; None: that of this process.

    Raises InputError, Refused, EnvironmentFault and TooManyRejected (see ``errors``), and
    KeyboardInterrupt where it is interrupted: the job folder says which, and the same command
    resumes.
    """
    started = time.monotonic()
    folder = JobFolder(job_path(job.task, job.spec.output.absolute()))
    try:
        if folder.exists() and not job.spec.overwrite:
            summary = _resume(job, folder, progress)
        else:
            summary = _begin(job, folder, progress, command or sys.argv)
    except (OSError, MemoryError) as error:
        raise EnvironmentFault(
            f"{folder.path}: {str(error) or 'memory ran out'}. What is done is kept: repair the "
            "machine, and give the same command again"
        ) from error
    summary.seconds = time.monotonic() - started
    return summary


def _begin(job: Job, folder: JobFolder, progress: Progress, command: Sequence[str]) -> Summary:
    """A new job: list the images while the engine starts, freeze the plan, run it."""
    if not job.spec.overwrite:
        job.output.check_free([])
    finding = _start_finding(job, folder)
    _let_mistakes_show(finding)
    # The lock outlives the engine: what still writes must not meet the next job.
    with ExitStack() as lock, start(engine_options(job.spec)) as engine:
        found = finding.result()
        job.output.check_names(found.root, found.images)
        profile = choose_profile(job, engine, recorded=None)
        lock.enter_context(folder.lock())
        if folder.exists() and not job.spec.overwrite:
            raise Refused(f"{folder.path}: another process has just begun this job")
        # Now, while the earlier job is whole: a refusal must not cost its result.
        if folder.exists():
            job.output.check_free(found.images, earlier_files(folder))
            job.check_weights()
        with _removed_if_refused(folder):
            if folder.exists():
                recorded_output(folder).discard(folder)
            folder.clear()
            job.output.check_free(found.images)
            lock.enter_context(logged(folder.path))
            record = _freeze(job, folder, found, profile, command)
            text = f"begun by hw1 {__version__}: {len(found.images)} images planned"
            report(logging.INFO, "begin", text, node=platform.node())
            return _run(job, folder, found.images, record, {}, engine, progress)


def _start_finding(job: Job, folder: JobFolder) -> "Future[Found]":
    """List the images in a thread that nobody waits for: Ctrl-C need not wait for a slow disk.

    Standard input is read here: a thread that waits for it would end Python with a core dump.
    """
    spec = job.spec
    skip = (*job.output.paths, folder.path)
    finding: Future[Found] = Future()

    def list_images() -> None:
        try:
            finding.set_result(find(spec.source, spec.include, spec.exclude, skip))
        except BaseException as error:
            finding.set_exception(error)

    if spec.source == "@-":
        finding.set_result(find(spec.source, spec.include, spec.exclude, skip))
    else:
        Thread(target=list_images, daemon=True).start()
    return finding


def _let_mistakes_show(finding: "Future[Found]") -> None:
    """Wait a moment for a mistake in IN: starting Ray takes seconds, listing rarely does."""
    with suppress(NotYet):
        finding.result(timeout=1.0)


@contextmanager
def _removed_if_refused(folder: JobFolder) -> Iterator[None]:
    """Leave no job folder behind where a mistake kept the job from beginning: a bad checkpoint."""
    try:
        yield
    except (InputError, Refused):
        if not folder.committed():
            folder.remove()
        raise


def _freeze(
    job: Job, folder: JobFolder, found: Found, profile: Profile, command: Sequence[str]
) -> JobRecord:
    """Write the plan, then the record that makes the job resumable."""
    plan = write_plan(found.images, folder.path / PLAN)
    table = (job.classes.coloured() if job.task == "segment" else job.classes).to_csv()
    write_bytes(folder.path / CLASSES, [table.encode()])
    identity = {**identity_of(job), "plan": plan, "profile": numerics.identity(profile)}
    record = JobRecord(
        hw1=__version__,
        version=VERSION,
        task=job.task,
        command=list(command),
        state="running",
        host=platform.node(),
        began=now(),
        updated=now(),
        root=absolute(found.root),
        output=absolute(job.spec.output),
        shard_size=job.shard_size(profile.batch_size),
        counts=Counts(planned=len(found.images), ignored=found.ignored),
        fingerprint=fingerprint(identity),
        identity=identity,
    )
    return folder.write(record)


def _resume(job: Job, folder: JobFolder, progress: Progress) -> Summary:
    """A job that was begun: the same, or refused; then what its ledger lacks."""
    with folder.lock(), logged(folder.path):
        before = folder.read().identity
        recorded = recorded_profile(before)
        refuse_other(job, before)
        plan = read_plan(folder.path, before["plan"])
        done = _intact(job, folder)
        finished = sum(entry.images for entry in done.values())
        text = f"resumed by hw1 {__version__}: {finished} of {len(plan)} images are done"
        report(logging.INFO, "resume", text, node=platform.node())
        _refuse_too_many(job, folder, sum(entry.rejected for entry in done.values()), len(plan))
        if finished == len(plan):
            return _finish(job, folder, plan, done, resumed=len(plan))
        # A GPU that has come since must not be chosen by itself.
        on_cpu = recorded.device == "cpu"
        options = engine_options(job.spec)
        with start(replace(options, device="cpu") if on_cpu else options) as engine:
            profile = numerics.identity(choose_profile(job, engine, recorded))
            refuse_difference(
                job,
                {**before, "profile": numerics.identity(recorded)},
                {**before, "profile": profile},
            )
            record = folder.update(state="running", error=None, host=platform.node())
            return _run(job, folder, plan, record, done, engine, progress)


def _intact(job: Job, folder: JobFolder) -> dict[int, Committed]:
    """The ledger's shards whose parts and files are as written; the others are done again."""
    done: dict[int, Committed] = {}
    parts, files = 0, list[Path]()
    for shard, entry in folder.committed().items():
        if part_digest(folder.path, shard) != entry.digest:
            parts += 1
            continue
        bad = job.output.damaged(folder, entry, (), check=job.spec.check)
        files += bad
        if not bad:
            done[shard] = entry
    if parts:
        report(
            logging.WARNING,
            "damage",
            f"{parts} of the job's parts were not as written: their images are scored again",
        )
    if files:
        names = some([str(path) for path in files])
        report(
            logging.WARNING,
            "damage",
            f"{len(files)} masks or overlays were not as written: made again ({names})",
        )
    return done


def _run(
    job: Job,
    folder: JobFolder,
    plan: Sequence[Planned],
    record: JobRecord,
    done: dict[int, Committed],
    engine: Engine,
    progress: Progress,
) -> Summary:
    """Run the shards that are not done, each entered in the ledger when it's durable."""
    profile = recorded_profile(record.identity)
    decisive = numerics.identity(profile)
    report(logging.INFO, "profile", ", ".join(f"{k} {v}" for k, v in decisive.items()))
    work = job.work(Path(record.root), folder.path, profile)
    cut = shards(plan, record.shard_size, profile.batch_size)
    pending = (shard for shard in cut if shard.id not in done)
    before = sum(entry.images for entry in done.values())
    rejected = sum(entry.rejected for entry in done.values())

    storm = Storm(folder.path, work.root, plan)

    def enter(entry: Committed) -> None:
        nonlocal rejected
        ledger.append(entry)
        done[entry.shard] = entry
        rejected += entry.rejected
        meter.advance(entry.images, entry.rejected)
        _report_shard(folder, entry)
        _refuse_too_many(job, folder, rejected, len(plan))

    def commit(entry: Committed) -> None:
        if job.spec.accept_gone or storm.admits(entry):
            enter(entry)

    with _recorded(folder), folder.ledger() as ledger, progress.meter(len(plan), before) as meter:
        job.output.prepare()
        engine.run(work, pending, commit)
        for entry in storm.rest():
            enter(entry)
    return _finish(job, folder, plan, done, resumed=before)


def _report_shard(folder: JobFolder, entry: Committed) -> None:
    number, seconds = entry.shard, entry.seconds
    text = f"shard {number}: {entry.images} images, {entry.rejected} rejected, {seconds:.1f} s"
    report(logging.DEBUG, "shard", text, shard=number)
    if not entry.rejected:
        return
    with suppress(OSError, ValueError):  # the log is no reason to fail
        for rejection in read_rejections(folder.path, number):
            image, reason = rejection.image_id, rejection.reason
            text = f"{image}: {reason}, {rejection.detail}"
            report(logging.INFO, "rejected", text, shard=number, image=image, reason=reason)


@contextmanager
def _recorded(folder: JobFolder) -> Iterator[None]:
    """Let the job folder say how the run ended, if it can still be written to."""
    state: State = "failed"
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            state = "interrupted"
        with suppress(EnvironmentFault):
            folder.update(state=state, error=str(error) or type(error).__name__)
        raise


def _refuse_too_many(job: Job, folder: JobFolder, rejected: int, planned: int) -> None:
    allowed = _allowed(job.spec.max_rejected, planned)
    if rejected > allowed:
        raise TooManyRejected(
            f"{rejected} images are rejected, --max-rejected {job.spec.max_rejected} allows "
            f"{allowed:g}: see {folder.path / 'parts'}/*.rejected.csv, then give the same "
            "command with a higher limit"
        )


def _allowed(limit: str | None, planned: int) -> float:
    """How many images may be rejected: a number, or a percentage of the planned ones."""
    if limit is None:
        return planned
    return float(limit[:-1]) * planned / 100 if limit.endswith("%") else float(limit)


def _finish(
    job: Job,
    folder: JobFolder,
    plan: Sequence[Planned],
    done: Mapping[int, Committed],
    resumed: int,
) -> Summary:
    """Merge the parts, check that planned = scored + rejected, and say that it is done."""
    record = folder.read()
    ignored = record.counts.ignored
    summary = Summary(job.task, job.spec.output, folder.path, len(plan), ignored, resumed=resumed)
    rejections: list[Rejection] = []

    def tallied() -> Iterator[ShardAccount]:
        for shard in account(folder.path, done, plan):
            summary.scored += len(shard.rows)
            summary.rejected += len(shard.rejections)
            summary.reasons.update(rejection.reason for rejection in shard.rejections)
            rejections.extend(shard.rejections)
            yield shard

    with _recorded(folder):
        if record.state == "done":
            _report_damage(job, folder, record, account(folder.path, done, plan), plan)
        if record.state == "done" and record.written == _stamps(job) and not job.spec.check:
            for _ in tallied():
                pass
        else:
            job.output.finish(folder, tallied())
        write_bytes(folder.rejected_path, [rejected_csv(rejections)])
        counts = Counts(
            planned=len(plan),
            ignored=ignored,
            scored=summary.scored,
            rejected=summary.rejected,
            reasons=dict(summary.reasons),
        )
        folder.update(state="done", error=None, counts=counts, written=_stamps(job))
        text = f"done: {summary.scored} images scored, {summary.rejected} rejected"
        report(logging.INFO, "done", text)
    return summary


def _stamps(job: Job) -> list[Stamp]:
    """Size and time of the files, not folders, that the command names."""
    return [stamp(path) for path in job.output.paths if path.is_file()]


def _report_damage(
    job: Job,
    folder: JobFolder,
    record: JobRecord,
    shards: Iterator[ShardAccount],
    plan: Sequence[Planned],
) -> None:
    """Say where the result of a job that was done isn't as it was written."""
    suspect = record.written != _stamps(job) or job.spec.check
    if suspect and isinstance(job.output, Table) and any(job.output.faults(folder, shards, plan)):
        report(logging.WARNING, "damage", f"{job.spec.output} was not as written: made again")
