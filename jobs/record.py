"""job.json as a record: what a job was asked, what decides its result, and how far it is.

msgspec checks it: a package of its own C code without dependencies, whose types are plain classes.
The text is written by json, since a name that isn't UTF-8 holds surrogates, which msgspec refuses.
Whatever is added gets a default, so that jobs that were begun earlier can be resumed.
"""

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..core.errors import Refused
from ..core.records import Count, TaskKind
from ..pipeline.find import Found

VERSION = 1
"""The newest job.json that can be read; one without a version is of the first."""

State = Literal["running", "interrupted", "failed", "done"]


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of images: those known when the plan is frozen, and, of a job that is done, all."""

    planned: Count
    ignored: Count
    ignored_formats: dict[str, Count] = {}
    """Of the ignored files, by their suffix in lower case, "" where there is none."""
    scored: Count | UnsetType = UNSET
    rejected: Count | UnsetType = UNSET
    reasons: dict[str, Count] | UnsetType = UNSET


def counted(found: Found, planned: int) -> Counts:
    """What is known when a plan is frozen."""
    formats = dict(found.ignored_formats)
    return Counts(planned=planned, ignored=found.ignored, ignored_formats=formats)


class _Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What ``decides`` holds, as far as it is read again: the whole of it is only compared."""

    members: dict[str, dict[str, Any]]
    plan: str
    profile: dict[str, Any]
    input: str


class _ClassifyIdentity(_Identity, frozen=True, kw_only=True):
    top_k: Annotated[int, Meta(ge=1)]
    columns: list[str]
    scores: str | None = None


class _SegmentIdentity(_Identity, frozen=True, kw_only=True):
    keep_suffix: bool
    overlay: str | None = None


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What an update added. The digests, SHA-256, are of plan-1.jsonl (uncompressed), gone-1.jsonl.

    ``gone`` is "" where there is no such file. ``before`` counts the images of all earlier plans.
    """

    plan: str
    images: Count
    before: Count
    gone: str = ""


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What job.json holds. Times are UTC, in ISO 8601; paths are absolute.

    ``identity`` (on the disk: ``decides``) is compared as a whole, so it stays a dictionary; what
    is read from it is checked.
    """

    hw1: str = ""
    version: int = 1
    task: TaskKind
    command: list[str]
    state: State
    host: str
    began: str
    root: str
    output: str
    shard_size: Annotated[int, Meta(ge=1)]
    counts: Counts
    fingerprint: str
    identity: dict[str, Any] = msgspec.field(name="decides")
    updated: str
    error: str | None = None
    generations: list[Generation] = []
    int8: dict[str, str] = {}
    """SHA-256 of the models that were made int8 when the job began, by member: see `jobs.int8`."""
    written: list[tuple[int, int]] = []
    """Size and time of change, in ns, of the result's files when the job was done."""

    def __post_init__(self) -> None:
        kind = _ClassifyIdentity if self.task == "classify" else _SegmentIdentity
        try:
            msgspec.convert(self.identity, kind)
        except msgspec.ValidationError as error:
            raise ValueError(f"in decides: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        """The record with the keys that it has on the disk."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


def encode(record: JobRecord) -> bytes:
    """The content of job.json: ASCII, indented for the person who reads it."""
    return json.dumps(record.as_dict(), indent=2, ensure_ascii=True).encode() + b"\n"


def decode(content: bytes, place: str) -> JobRecord:
    """What job.json says.

    Raises ValueError where it is damaged, and Refused where a later hw1 wrote it; ``place`` is
    what the message calls it.
    """
    fields = json.loads(content)
    version = fields.get("version", 1) if isinstance(fields, dict) else 1
    if type(version) is int and version > VERSION:
        raise Refused(
            f"{place}: written by a later hw1 (version {version} of job.json; this one reads "
            f"up to {VERSION}): go on with that hw1, or give another output"
        )
    try:
        return msgspec.convert(fields, JobRecord)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
