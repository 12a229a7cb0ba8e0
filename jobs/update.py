"""A job that is there already: what its folder has that is new, and what of its work is whole."""

import logging
import platform
from pathlib import Path

import msgspec

from ..core.errors import InputError
from ..core.events import report
from ..core.records import Committed, Planned
from ..core.text import some
from ..pipeline.find import Found
from ..pipeline.parts import part_digest, read_rejections
from .changes import Changes
from .folder import JobFolder
from .generations import Plans, add_generation
from .job import Job
from .ledger import repair_ledger
from .output import earlier_files
from .record import JobRecord, counted


def intact(job: Job, folder: JobFolder, plans: Plans) -> dict[int, Committed]:
    """The ledger's shards whose parts and files are as written; the others are done again."""
    done: dict[int, Committed] = {}
    parts, files = 0, list[Path]()
    for shard, entry in folder.committed().items():
        if part_digest(folder.path, shard) != entry.digest:
            parts += 1
        else:
            stale = plans.stale_of(entry)
            bad = job.output.damaged(folder, entry, stale, check=job.spec.check)
            files += bad
            if not bad:
                done[shard] = entry
    if parts:
        _say(f"{parts} of the job's parts were not as written: their images are scored again")
    if files:
        names = some([str(path) for path in files])
        _say(f"{len(files)} masks or overlays were not as written: made again ({names})")
    return done


def report_repair(folder: JobFolder, plans: Plans, record: JobRecord, *, description: bool) -> None:
    """Take damaged lines out of the ledger, and say what was damaged."""
    if description:
        _say("job.json was damaged: made again")
    if taken := repair_ledger(folder.ledger_path, plans.holds):
        lines = f"{taken} lines of the ledger were" if taken > 1 else "a line of the ledger was"
        _say(f"{lines} damaged: taken out, and what has no entry then is done again")
    elif record.state == "done" and (lost := plans.left(folder.committed())):
        _say(f"the ledger lost the entries of {lost} images: these are done again")


def _say(text: str) -> None:
    report(logging.WARNING, "damage", text)


def rejected_now(folder: Path, plans: Plans, entry: Committed) -> list[str]:
    """The images of a shard that are rejected, but for those that a later generation has."""
    if not entry.rejected:
        return []
    stale = plans.stale_of(entry)
    names = (rejection.image_id for rejection in read_rejections(folder, entry.shard))
    return [name for name in names if name not in stale]


def report_changes(job: Job, changes: Changes) -> None:
    """Say what is new, changed or gone in the folder."""
    if text := changes.text():
        todo = "" if job.spec.update else ": --update scores what is new or changed, and drops "
        todo += "" if job.spec.update else "what is gone"
        report(logging.WARNING, "folder", f"{job.spec.source}, since it was planned: {text}{todo}")


def update(
    job: Job,
    folder: JobFolder,
    record: JobRecord,
    plans: Plans,
    found: Found,
    changes: Changes,
) -> tuple[JobRecord, Plans]:
    """Add a generation of what is asked for, durably, where there is anything to do.

    --update: what is new or changed, and, but for --keep-gone, without what is gone;
    --retry-rejected: what was rejected. The record names the generation last.
    """
    spec = job.spec
    images: dict[str, Planned] = {}
    if spec.update:
        images = {image.image_id: image for image in (*changes.new, *changes.changed)}
    if spec.retry_rejected:
        rejected = {
            name
            for shard, entry in folder.committed().items()
            if part_digest(folder.path, shard) == entry.digest
            for name in rejected_now(folder.path, plans, entry)
        }
        unchanged = {image.image_id for image in changes.changed}
        images |= {
            image.image_id: image
            for image in found.images
            if image.image_id in rejected - unchanged
        }
    gone = changes.gone if spec.update and not spec.keep_gone else []
    if not images and not gone:
        return record, plans
    planned = {image.image_id for image in plans.current}
    left = [p for p in plans.current if p.image_id not in images and p.image_id not in set(gone)]
    after = [*left, *images.values()]
    if not after:
        raise InputError(f"--update: {spec.source} holds none of the job's images any more")
    job.output.check_names(found.root, after)
    new = [image for name, image in images.items() if name not in planned]
    job.output.check_free(new, earlier_files(folder))
    generation, plans = add_generation(folder.path, plans, list(images.values()), gone)
    record = msgspec.structs.replace(
        record,
        generations=[*record.generations, generation],
        state="running",
        host=platform.node(),
        error=None,
        counts=counted(found, len(plans.current)),
    )
    folder.write(record)
    folder.keep(record)
    number = len(record.generations)
    text = f"update {number}: {len(images)} images to score, {len(gone)} rows to drop"
    report(logging.INFO, "update", text)
    return record, plans


def refuse_unplanned(error: Exception, job: Job) -> None:
    """Say that the folder couldn't be compared; raise where it must be."""
    if job.spec.update or job.spec.retry_rejected:
        raise error
    report(logging.WARNING, "folder", f"{job.spec.source} was not compared with the plan: {error}")
