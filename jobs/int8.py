"""Models made int8 when a job begins: kept in its folder, used again when it's resumed."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..core.errors import InputError, Refused
from ..core.events import report
from ..core.numerics import Profile
from ..core.records import Planned
from ..models.checkpoints import Checkpoint, read_checkpoint
from ..models.files import file_digest
from ..pipeline.calibration import write_int8
from .job import Job
from .record import JobRecord

FOLDER = "int8"


def make_int8(
    job: Job, folder: Path, profile: Profile, root: Path, plan: Sequence[Planned]
) -> dict[str, str]:
    """Make int8 what isn't, in the job's folder. The files' SHA-256, by member; often none.

    The images are those that `pipeline.calibration.chosen` takes of the plan.
    """
    made: dict[str, str] = {}
    if profile.precision != "int8":
        return made
    for number, checkpoint in enumerate(job.checkpoints):
        if not checkpoint.is_int8:
            path = _path(folder, number)
            report(logging.DEBUG, "start", f"making {checkpoint.member} int8")
            write_int8(checkpoint, root, plan, path, job.spec.tiff)
            made[checkpoint.member] = file_digest(path)
    return made


def with_int8(job: Job, folder: Path, record: JobRecord, plan: Sequence[Planned]) -> Job:
    """The job with the int8 models that were made when it began; lost ones are made again.

    Raises Refused where one would be another now.
    """
    if not record.int8:
        return job
    found = []
    for number, checkpoint in enumerate(job.checkpoints):
        digest = record.int8.get(checkpoint.member)
        if digest is None:
            found.append(checkpoint)
            continue
        path = _path(folder, number)
        if not _is_whole(path, digest):
            text = f"{path} was lost or damaged: {checkpoint.member} is made int8 again"
            report(logging.WARNING, "damage", text)
            report(logging.DEBUG, "start", f"making {checkpoint.member} int8 again")
            with suppress(InputError):  # no image is left
                write_int8(checkpoint, Path(record.root), plan, path, job.spec.tiff)
            if not _is_whole(path, digest):
                path.unlink(missing_ok=True)
                raise Refused(
                    f"{path} was lost, and can't be made again as it was: the images that it was "
                    "made with, or this machine, have changed. Copy it back, or --overwrite"
                )
        found.append(_checkpoint(path.absolute(), checkpoint))
    return job.with_checkpoints(tuple(found))


def kept(
    checkpoints: tuple[Checkpoint, ...], folder: Path, record: JobRecord
) -> tuple[Checkpoint, ...]:
    """The checkpoints, those in their place that were made int8 when the job began.

    Raises InputError where one of them is lost: the job makes it again when it's resumed.
    """
    found = []
    for number, checkpoint in enumerate(checkpoints):
        digest = record.int8.get(checkpoint.member)
        path = _path(folder, number)
        if digest and not _is_whole(path, digest):
            raise InputError(
                f"{path} was lost or damaged: give the job's command again, which makes it again"
            )
        found.append(_checkpoint(path.absolute(), checkpoint) if digest else checkpoint)
    return tuple(found)


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def _path(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"{number}.safetensors"


def _checkpoint(path: Path, made_of: Checkpoint) -> Checkpoint:
    return replace(read_checkpoint(path), member=made_of.member)
