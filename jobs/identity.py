"""What decides a job's result: written into job.json, and compared before a job is resumed."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from ..core import numerics
from ..core.errors import Refused
from ..core.spec import TiffReading
from ..models.checkpoints import Checkpoint
from ..models.metadata import preprocessing_to_json
from .job import Job
from .profile import asked_differences, recorded_profile
from .record import JobRecord


def identity_of(job: Job) -> dict[str, Any]:
    """What decides the result, but for the plan and the profile."""
    source = job.spec.source
    return {
        **job.identity(),
        "input": _place(source),
        "include": list(job.spec.include),
        "exclude": list(job.spec.exclude),
    }


def absolute(path: Path | str) -> str:
    """The path as it is named from anywhere."""
    return os.path.abspath(path)  # noqa: PTH100  (resolve would follow links, which may move)


def of_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a member's checkpoint decides: its weights, and what it makes of an image."""
    return {
        "digest": checkpoint.digest,
        # As it is read back from job.json: lists, not tuples.
        "preprocessing": json.loads(preprocessing_to_json(checkpoint.preprocessing)),
        # Jobs begun earlier took its probabilities for logits.
        **({"softmax": True} if checkpoint.softmax else {}),
    }


def tiff_identity(reading: TiffReading) -> dict[str, list[float]]:
    """What was asked for of TIFFs; nothing where nothing was, as in jobs begun earlier."""
    return {name: list(value) for name, value in asdict(reading).items() if value is not None}


def fingerprint(identity: Mapping[str, Any]) -> str:
    """A digest of all that decides a job's result, SHA-256 in hexadecimal."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def refuse_other(job: Job, before: Mapping[str, Any]) -> None:
    """Raise Refused where the job that was begun is not the one that is asked for now.

    Its plan is not looked at, nor what nobody asked for of its numerics profile.
    """
    recorded = recorded_profile(before)
    asked = {**numerics.identity(recorded), **asked_differences(job.spec, recorded)}
    now = {**identity_of(job), "plan": before["plan"], "profile": asked}
    if _real(now["input"]) == _real(before["input"]):
        now["input"] = before["input"]
    refuse_difference(job, {**before, "profile": numerics.identity(recorded)}, now)


def rebatched(job: Job, record: JobRecord, *, committed: bool) -> JobRecord:
    """The record with the batch size that is asked for now, where nothing has been committed yet.

    So a job whose first batch didn't fit a GPU goes on with smaller ones.
    """
    asked = getattr(job.spec, "batch_size", None)
    profile = record.identity["profile"]
    if committed or asked in (None, profile.get("batch_size")):
        return record
    batches = {"batch_size": asked, **({"unit": unit} if (unit := job.unit(asked)) else {})}
    identity = {**record.identity, "profile": {**profile, **batches}}
    return msgspec.structs.replace(
        record,
        identity=identity,
        fingerprint=fingerprint(identity),
        shard_size=job.shard_size(asked),
    )


def refuse_difference(job: Job, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise Refused where two jobs' identity_of differ, with what differs."""
    found = differences(before, now)
    if found:
        raise Refused(
            f"{job.spec.output} belongs to another job ({'; '.join(found)}): give another name, "
            "or --overwrite"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two jobs' identity_of, a phrase each: ``precision fp32, now bf16``."""
    found: list[str] = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and _comparable(key, old, new):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            switch = isinstance(old, bool) or isinstance(new, bool)
            words = [_on(value) if switch else _brief(value) for value in (old, new)]
            found.append(f"{prefix}{key} {words[0]}, now {words[1]}")
    return found


def _comparable(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether what is within differs, rather than the whole: other members are named."""
    return key != "members" or old.keys() == new.keys()


def _place(source: str) -> str:
    """IN, wherever the next command is given from."""
    if source.startswith("@"):
        return source if source == "@-" else "@" + absolute(source[1:])
    return absolute(source)


def _real(place: str) -> str:
    """What ``_place`` says, without symbolic links: one folder may have several names."""
    return place[: place.startswith("@")] + os.path.realpath(place.removeprefix("@"))


def _on(value: Any) -> str:
    return "on" if value else "off"


def _brief(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(value)
    text = "none" if value in (None, [], "") else json.dumps(value, ensure_ascii=False).strip('"')
    return text if len(text) <= 60 else text[:57] + "…"
