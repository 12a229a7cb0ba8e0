"""A job's end: its parts merged and accounted for, what was written, and what the record says."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import msgspec

from ..core.durable import write_bytes
from ..core.errors import EnvironmentFault
from ..core.events import report
from ..core.records import Committed, Rejection
from ..pipeline.parts import Stamp, stamp
from .account import ShardAccount, rejected_csv
from .folder import JobFolder
from .generations import Plans
from .job import Job, Summary
from .merged import stale_rows, whole
from .record import JobRecord, State
from .table import Table


def finish(
    job: Job,
    folder: JobFolder,
    plans: Plans,
    done: Mapping[int, Committed],
    resumed: int,
) -> Summary:
    """Merge the parts, check that planned = scored + rejected, and say that it is done."""
    record = folder.read()
    planned, before = len(plans.current), record.counts
    summary = Summary(
        job.task,
        job.spec.output,
        folder.path,
        planned,
        before.ignored,
        before.ignored_formats,
        resumed=resumed,
    )
    rejections: list[Rejection] = []

    def tallied(shards: Iterator[ShardAccount]) -> Iterator[ShardAccount]:
        for shard in shards:
            summary.scored += len(shard.rows)
            summary.rejected += len(shard.rejections)
            summary.reasons.update(rejection.reason for rejection in shard.rejections)
            rejections.extend(shard.rejections)
            yield shard

    with recorded(folder):
        if record.state == "done":
            _report_damage(job, folder, record, plans, done)
        with whole(folder, plans, done, folder.path) as result:
            if record.state == "done" and record.written == _stamps(job) and not job.spec.check:
                for _ in tallied(result.shards):
                    pass
            else:
                job.output.finish(result.folder, tallied(result.shards))
        if record.state != "done":
            job.output.drop(stale_rows(folder.path, plans, done), plans.scored(rejections))
        write_bytes(folder.rejected_path, [rejected_csv(rejections)])
        counts = msgspec.structs.replace(
            before,
            planned=planned,
            scored=summary.scored,
            rejected=summary.rejected,
            reasons=dict(summary.reasons),
        )
        folder.update(state="done", error=None, counts=counts, written=_stamps(job))
        if getattr(job.spec, "cascade", None) is not None:
            rows = sum(entry.rows for entry in done.values())
            summary.early = sum(entry.early for entry in done.values()) / max(1, rows)
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
    plans: Plans,
    done: Mapping[int, Committed],
) -> None:
    """Say where the result of a job that was done isn't as it was written."""
    suspect = record.written != _stamps(job) or job.spec.check
    if not suspect or not isinstance(job.output, Table):
        return
    with whole(folder, plans, done, folder.path) as result:
        fault = next(job.output.faults(result.folder, result.shards, result.plan), "")
    for path in job.output.paths:
        if fault.startswith(f"{path}:"):
            report(logging.WARNING, "damage", f"{path} was not as written: made again")


@contextmanager
def recorded(folder: JobFolder) -> Iterator[None]:
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
