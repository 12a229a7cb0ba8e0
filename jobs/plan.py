"""The plan: what a job will do, frozen in its folder before anything is scored; and its shards."""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ..core.durable import sync_folders
from ..core.errors import EnvironmentFault, InputError
from ..core.records import Planned, Shard

PLAN: Final = "plan.jsonl"
COMPRESSED_PLAN: Final = "plan.jsonl.gz"

_DAMAGE: Final = (
    ValueError, KeyError, TypeError, EOFError, RecursionError, gzip.BadGzipFile, zlib.error,
)  # fmt: skip

LONG: Final = 100_000
"""A plan of more images than this is compressed."""


def write_plan(images: Iterable[Planned], path: Path) -> str:
    """Write a plan, a JSON object a line, sorted by the bytes of image_id; return its SHA-256.

    ``path`` is FOLDER/plan.jsonl, say; a plan of more than LONG images is FOLDER/plan.jsonl.gz
    instead. The digest, in hexadecimal, is of the lines, uncompressed. The file is durable, and
    whole or not there. Names that are not UTF-8 are written as JSON's escapes of their surrogates,
    so that the file is ASCII. Raises EnvironmentFault where it cannot be written.
    """
    ordered = sorted(images, key=lambda planned: os.fsencode(planned.image_id))
    compressed = len(ordered) > LONG
    gzipped = path.with_name(f"{path.name}.gz")
    final, other = (gzipped, path) if compressed else (path, gzipped)
    temporary = final.with_name(f".{final.name}.new")
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as raw:
            file = gzip.GzipFile("", "wb", 3, raw, mtime=0) if compressed else raw
            for block in _blocks(ordered):
                digest.update(block)
                file.write(block)
            if compressed:
                file.close()
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(final)
        other.unlink(missing_ok=True)
        sync_folders([final.parent])
    except OSError as error:
        raise EnvironmentFault(f"cannot write the plan {final}: {error.strerror}") from error
    return digest.hexdigest()


def _blocks(images: Iterable[Planned], size: int = 2**20) -> Iterator[bytes]:
    """The plan's lines in blocks of about ``size`` bytes: hashing line by line takes longer."""
    lines: list[str] = []
    held = 0
    for planned in images:
        name = json.dumps(planned.image_id)
        line = f'{{"image_id": {name}, "size": {planned.size}, "mtime_ns": {planned.mtime_ns}}}\n'
        lines.append(line)
        held += len(line)
        if held >= size:
            yield "".join(lines).encode("ascii")
            lines, held = [], 0
    yield "".join(lines).encode("ascii")


def read_plan(folder: Path, digest: str | None = None, name: str = PLAN) -> list[Planned]:
    """Read the plan that write_plan left in a job's folder, and check its digest if it is given.

    Takes about 250 bytes of memory an image. Raises InputError where there is no plan, or it is
    not what was written, and EnvironmentFault where it cannot be read.
    """
    path = folder / name
    if not path.exists():
        path = folder / f"{name}.gz"
    images: list[Planned] = []
    sha256 = hashlib.sha256()
    try:
        with gzip.open(path) if path.name != name else path.open("rb") as file:
            for line in file:
                sha256.update(line)
                images.append(_planned(line))
    except FileNotFoundError as error:
        raise InputError(f"no plan in {folder}: neither {name} nor {name}.gz") from error
    except _DAMAGE as error:
        at = len(images) + 1
        raise InputError(
            f"{path} is damaged at line {at}: start again, with --overwrite"
        ) from error
    except OSError as error:
        raise EnvironmentFault(f"cannot read the plan {path}: {error.strerror}") from error
    if digest is not None and sha256.hexdigest() != digest:
        raise InputError(
            f"{path} is not the plan that the job was started with (SHA-256 {digest[:12]}…,"
            f" found {sha256.hexdigest()[:12]}…): put it back, or start again, with --overwrite"
        )
    return images


def _planned(line: bytes) -> Planned:
    fields = json.loads(line)
    image_id, size, mtime_ns = fields["image_id"], fields["size"], fields["mtime_ns"]
    if not (isinstance(image_id, str) and type(size) is int and type(mtime_ns) is int):
        raise TypeError("a field is of another type")
    return Planned(image_id, size, mtime_ns)


def shards(images: Sequence[Planned], shard_size: int, together: int) -> Iterator[Shard]:
    """Yield the plan's shards, in order, each made when it is asked for.

    ``together`` is the size of a batch, or of a cascade's unit. A shard is whole ones:
    ``shard_size`` images, rounded up to a multiple (the last shard: what is left). So batch k is
    the planned images [kB, (k+1)B) whatever the shard size, and no result depends on it.
    """
    if shard_size < 1 or together < 1:
        raise ValueError(f"sizes must be at least 1: shard {shard_size}, batch {together}")
    step = -(-shard_size // together) * together
    for number, first in enumerate(range(0, len(images), step)):
        yield Shard(number, first, tuple(images[first : first + step]), together)
