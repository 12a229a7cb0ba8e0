"""The plan: what a job will do, frozen in its folder before anything is scored."""

import gzip
import hashlib
import json
import os
import posixpath
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from ..errors import EnvironmentFault, InputError
from .durable import sync_folders
from .formats import SUFFIXES, suffix_of
from .records import Planned

PLAN: Final = "plan.jsonl"
COMPRESSED_PLAN: Final = "plan.jsonl.gz"

LONG: Final = 100_000
"""A plan of more images than this is compressed."""


def write_plan(images: Iterable[Planned], path: Path) -> str:
    """Write a plan, a JSON object a line, sorted by the bytes of image_id; return its SHA-256.

    ``path`` is FOLDER/plan.jsonl; a plan of more than LONG images is FOLDER/plan.jsonl.gz
    instead. The digest, in hexadecimal, is of the lines, uncompressed. The file is durable, and
    whole or not there. Names that are not UTF-8 are written as JSON's escapes of their
    surrogates, so that the file is ASCII. Raises EnvironmentFault where it cannot be written.
    """
    ordered = sorted(images, key=lambda planned: os.fsencode(planned.image_id))
    compressed = len(ordered) > LONG
    final = path.with_name(COMPRESSED_PLAN if compressed else PLAN)
    other = path.with_name(PLAN if compressed else COMPRESSED_PLAN)
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


def read_plan(folder: Path, digest: str | None = None) -> list[Planned]:
    """Read the plan that write_plan left in a job's folder, and check its digest if it is given.

    Takes about 250 bytes of memory an image. Raises InputError where there is no plan, or it is
    not what was written, and EnvironmentFault where it cannot be read.
    """
    path = folder / PLAN
    if not path.exists():
        path = folder / COMPRESSED_PLAN
    images: list[Planned] = []
    sha256 = hashlib.sha256()
    try:
        with gzip.open(path) if path.name == COMPRESSED_PLAN else path.open("rb") as file:
            for line in file:
                sha256.update(line)
                images.append(_planned(line))
    except FileNotFoundError as error:
        raise InputError(f"no plan in {folder}: neither {PLAN} nor {COMPRESSED_PLAN}") from error
    except (ValueError, KeyError, TypeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        at = len(images) + 1
        raise InputError(f"{path} is damaged at line {at}: start anew, with --overwrite") from error
    except OSError as error:
        raise EnvironmentFault(f"cannot read the plan {path}: {error.strerror}") from error
    if digest is not None and sha256.hexdigest() != digest:
        raise InputError(
            f"{path} is not the plan that the job was started with (SHA-256 {digest[:12]}…,"
            f" found {sha256.hexdigest()[:12]}…): put it back, or start anew, with --overwrite"
        )
    return images


def _planned(line: bytes) -> Planned:
    fields = json.loads(line)
    image_id, size, mtime_ns = fields["image_id"], fields["size"], fields["mtime_ns"]
    if not (isinstance(image_id, str) and type(size) is int and type(mtime_ns) is int):
        raise TypeError("a field is of another type")
    return Planned(image_id, size, mtime_ns)


def output_name(image_id: str, suffix: str, keep_suffix: bool = False) -> str:
    """The path, below the output folder, of what is written for an image: ``a/0010.png``.

    An image's suffix gives way to ``suffix`` (".png"); another is part of the name, and stays, as
    every suffix does with ``keep_suffix`` (``a/0010.jpg.png``).
    """
    path = posixpath.normpath(image_id)
    old = suffix_of(path)
    return path[: len(path) - len(old)] + suffix if _gives_way(old, keep_suffix) else path + suffix


def _gives_way(suffix: str, keep_suffix: bool) -> bool:
    return suffix in SUFFIXES and not keep_suffix


def collisions(
    image_ids: Iterable[str], suffix: str, keep_suffix: bool = False
) -> list[tuple[str, str]]:
    """Pairs of images whose outputs cannot both be: the same file, or one a folder of the other.

    Each pair's first image stands before the second in ``image_ids``, or, for a folder, is the
    one whose output is the file. See output_name for the other arguments.
    """
    writers: dict[str, str] = {}
    pairs = []
    for image_id in image_ids:
        output = output_name(image_id, suffix, keep_suffix)
        earlier = writers.setdefault(output, image_id)
        if earlier is not image_id:
            pairs.append((earlier, image_id))
    folders = {posixpath.dirname(output): image_id for output, image_id in writers.items()}
    for folder, image_id in folders.items():
        above = folder
        while above:
            if above in writers:
                pairs.append((writers[above], image_id))
            above = posixpath.dirname(above)
    return pairs
