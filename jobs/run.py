"""A durable job, from its words to its account: plan, run what the ledger lacks, merge."""

import logging
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from ..core.records import Committed
from ..execution.engines import Engine, start
from ..models.cache import Copies
from ..pipeline.find import Found, find
from ..pipeline.parts import read_rejections
from .changes import Changes, compare
from .finish import finish, recorded
from .folder import JobFolder, job_path, now
from .generations import Plans, read_plans
from .identity import absolute, fingerprint, identity_of, rebatched, refuse_difference, refuse_other
from .int8 import make_int8, with_int8
from .job import Job, Summary, engine_options
from .log import logged
from .output import earlier_files, recorded_output
from .plan import PLAN, write_plan
from .profile import choose_profile, has_tiffs, missing_codecs, recorded_profile
from .progress import Progress
from .record import VERSION, JobRecord, counted
from .storm import Storm
from .update import intact, refuse_unplanned, rejected_now, report_changes, report_repair, update

CLASSES = "classes.csv"  # in the job folder: what a label, or a colour, stands for


def run_job(job: Job, progress: Progress, command: Sequence[str] | None = None) -> Summary:
    """Run a job to its end, or what is left of it.

    ``command`` is what is recorded as the command that began it; None: that of this process.

    Raises InputError, Refused, EnvironmentFault and TooManyRejected (see ``errors``), and
    KeyboardInterrupt where it is interrupted: the job folder says which, and the same command
    resumes.
    """
    started = time.monotonic()
    if job.spec.overwrite and (job.spec.update or job.spec.retry_rejected):
        one = "--update" if job.spec.update else "--retry-rejected"
        raise InputError(
            f"--overwrite discards the earlier job, and {one} goes on with it: give one of them"
        )
    folder = JobFolder(job_path(job.task, job.spec.output.absolute()))
    try:
        with progress.starting(folder.path / "parts"):
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
    _at("listing images")
    finding = _start_finding(job, folder)
    _let_mistakes_show(finding)
    # The lock outlives the engine: what still writes must not meet the next job.
    _at("starting Ray" if job.spec.engine == "ray" else "listing images")
    with ExitStack() as lock, start(engine_options(job.spec)) as engine:
        _at("listing images")
        found = finding.result()
        job.output.check_names(found.root, found.images)
        tiffs = has_tiffs(found.formats)
        profile = choose_profile(job, engine, recorded=None, tiffs=tiffs)
        lock.enter_context(folder.lock())
        if folder.exists() and not job.spec.overwrite:
            raise Refused(f"{folder.path}: another process has just begun this job")
        # Now, while the earlier job is whole: a refusal must not cost its result.
        if folder.exists():
            job.output.check_free(found.images, earlier_files(folder, job.output))
            job.check_weights()
        with _removed_if_refused(folder):
            if folder.exists():
                recorded_output(folder, job.output).discard(folder)
            folder.clear()
            job.output.check_free(found.images)
            lock.enter_context(logged(folder.path))
            record = _freeze(job, folder, found, profile, command)
            text = f"begun by hw1 {__version__}: {len(found.images)} images planned"
            report(logging.INFO, "begin", text, node=platform.node())
            if lack := missing_codecs(found.formats):
                report(logging.WARNING, "notice", lack)
            plans = read_plans(folder.path, record)
            return _run(job, folder, plans, record, {}, engine, progress)


def _at(text: str) -> None:
    """Say what the start is at."""
    report(logging.DEBUG, "start", text)


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
    _at(f"writing the plan of {len(found.images)} images")
    plan = write_plan(found.images, folder.path / PLAN)
    write_bytes(folder.path / CLASSES, [_classes_table(job)])
    int8 = make_int8(job, folder.path, profile, found.root, found.images)
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
        counts=counted(found, len(found.images)),
        fingerprint=fingerprint({**identity, "int8": int8} if int8 else identity),
        identity=identity,
        int8=int8,
    )
    folder.keep(record)
    return folder.write(record)


def _classes_table(job: Job) -> bytes:
    return (job.classes.coloured() if job.task == "segment" else job.classes).to_csv().encode()


def _repair_classes(job: Job, folder: JobFolder) -> None:
    """Write classes.csv again where it's damaged: `hw1 evaluate` reads labels by it."""
    path, table = folder.path / CLASSES, _classes_table(job)
    if path.is_file() and path.read_bytes() != table:
        write_bytes(path, [table])
        report(logging.WARNING, "damage", f"{path} was not as written: made again")


def _resume(job: Job, folder: JobFolder, progress: Progress) -> Summary:
    """A job that was begun: the same, or refused; then what its ledger lacks."""
    with folder.lock(), logged(folder.path):
        repaired = folder.repair()
        begun = folder.read()
        _at("checking what is done")
        record = rebatched(job, begun, committed=bool(folder.committed()))
        recorded = recorded_profile(record.identity)
        refuse_other(job, record.identity)
        _repair_classes(job, folder)
        if record is not begun:
            folder.keep(record)
            folder.write(record)
        plans = read_plans(folder.path, record)
        report_repair(folder, plans, begun, description=repaired)
        found = _found_again(job, folder)
        changes = compare(plans, found.images) if found else Changes()
        report_changes(job, changes)
        if found and (job.spec.update or job.spec.retry_rejected):
            record, plans = update(job, folder, record, plans, found, changes)
            changes = Changes(times=changes.times) if job.spec.update else changes
        done = intact(job, folder, plans)
        finished = len(plans.current) - plans.left(done)
        text = f"resumed by hw1 {__version__}: {finished} of {len(plans.current)} images are done"
        report(logging.INFO, "resume", text, node=platform.node())
        rejected = _rejected(folder, plans, done.values())
        _refuse_too_many(job, folder, rejected, len(plans.current))
        if finished == len(plans.current):
            _keep_int8(job, folder, record, plans)
            summary = finish(job, folder, plans, done, resumed=finished)
        else:
            summary = _run_rest(job, folder, plans, record, recorded, done, changes, progress)
        summary.new, summary.changed = len(changes.new), len(changes.changed)
        summary.gone = 0 if job.spec.keep_gone else len(changes.gone)
        summary.compared = found is not None or job.spec.source == "@-"
        return summary


def _keep_int8(job: Job, folder: JobFolder, record: JobRecord, plans: Plans) -> None:
    """Make lost int8 models of a finished job again: ``verify --sample`` needs them."""
    try:
        with_int8(job, folder.path, record, plans.plans[0])
    except Refused as error:  # the results are whole all the same
        report(logging.WARNING, "damage", str(error))


def _found_again(job: Job, folder: JobFolder) -> Found | None:
    """What IN holds now; None where it can't be looked at, or was a list through a pipe."""
    if job.spec.source == "@-" and not (job.spec.update or job.spec.retry_rejected):
        return None
    try:
        return _start_finding(job, folder).result()
    except (InputError, EnvironmentFault) as error:
        refuse_unplanned(error, job)
        return None


def _run_rest(
    job: Job,
    folder: JobFolder,
    plans: Plans,
    record: JobRecord,
    recorded: Profile,
    done: dict[int, Committed],
    changes: Changes,
    progress: Progress,
) -> Summary:
    """Run what a job that was begun lacks, on a machine like the one that it was begun on."""
    # A GPU that has come since must not be chosen by itself.
    on_cpu = recorded.device == "cpu"
    options = engine_options(job.spec)
    before = record.identity
    _at("starting Ray" if job.spec.engine == "ray" else "reading members")
    with start(replace(options, device="cpu") if on_cpu else options) as engine:
        profile = numerics.identity(choose_profile(job, engine, recorded))
        refuse_difference(
            job,
            {**before, "profile": numerics.identity(recorded)},
            {**before, "profile": profile},
        )
        record = folder.update(state="running", error=None, host=platform.node())
        return _run(job, folder, plans, record, done, engine, progress, changes.times)


def _run(
    job: Job,
    folder: JobFolder,
    plans: Plans,
    record: JobRecord,
    done: dict[int, Committed],
    engine: Engine,
    progress: Progress,
    times: Mapping[str, int] | None = None,
) -> Summary:
    """Run the shards that are not done, each entered in the ledger when it's durable."""
    profile = recorded_profile(record.identity)
    decisive = numerics.identity(profile)
    report(logging.INFO, "profile", ", ".join(f"{k} {v}" for k, v in decisive.items()))
    models = with_int8(job, folder.path, record, plans.plans[0])
    work = models.work(Path(record.root), folder.path, profile)
    pending = (shard for shard in plans.shards(times or {}) if shard.id not in done)
    planned = len(plans.current)
    before = planned - plans.left(done)

    rejected = _rejected(folder, plans, done.values())
    copies = Copies(models.checkpoints)
    storm = Storm(folder.path, work.root, plans)

    def enter(entry: Committed) -> None:
        nonlocal rejected
        ledger.append(entry)
        done[entry.shard] = entry
        rejected += _rejected(folder, plans, [entry])
        meter.advance(entry.images, entry.rejected)
        _report_shard(folder, entry)
        _refuse_too_many(job, folder, rejected, planned)

    def commit(entry: Committed) -> None:
        if job.spec.accept_gone or storm.admits(entry):
            enter(entry)

    _at("reading members")
    with recorded(folder), folder.ledger() as ledger, progress.meter(planned, before) as meter:
        job.output.prepare()
        flow = engine.run(work, pending, commit)
        if written := copies.written():
            report(logging.INFO, "cache", written)
            progress.notice(f"hw1: {written}")
        for entry in storm.rest():
            enter(entry)
    summary = finish(job, folder, plans, done, resumed=before)
    summary.flow = flow
    if flow.text:
        report(logging.INFO, "flow", flow.text)
    return summary


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


def _rejected(folder: JobFolder, plans: Plans, entries: Iterable[Committed]) -> int:
    """How many images of these shards are rejected, and in no later generation."""
    return sum(len(rejected_now(folder.path, plans, entry)) for entry in entries)


def _refuse_too_many(job: Job, folder: JobFolder, rejected: int, planned: int) -> None:
    if job.spec.max_rejected is None:
        return
    allowed = _allowed(job.spec.max_rejected, planned)
    if rejected > allowed:
        raise TooManyRejected(
            f"{rejected} images are rejected, --max-rejected {job.spec.max_rejected} allows "
            f"{allowed:g}: see {folder.path / 'parts'}/*.rejected.csv, then give the same "
            "command with a higher limit"
        )


def _allowed(limit: str, planned: int) -> float:
    """How many images may be rejected: a number, or a percentage of the planned ones."""
    return float(limit[:-1]) * planned / 100 if limit.endswith("%") else float(limit)
