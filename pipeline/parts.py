"""A shard's part: its rows, its rejections and, where asked for, its scores, as files.

The files of shard 12 are ``parts/0000012.csv`` and, only where there is something in them,
``parts/0000012.rejected.csv`` and ``parts/0000012.scores`` (float32, C order, a row an image, a
number a class). The digest is the SHA-256 of these three, one after the other.
``parts/0000012.files`` isn't part of it: it says what the masks' files were when they were
written, to know them again cheaply.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.durable import sync_folders, write_bytes
from ..core.records import Committed, Rejection, Shard, Written
from .rows import format_row, join_rows, read_rows

SUFFIXES = (".csv", ".rejected.csv", ".scores")
FILES = ".files"

Stamp = tuple[int, int]
"""A file's size and time of change, in bytes and ns: while they stay, its content is taken to."""


@dataclass(frozen=True, slots=True)
class FileStamps:
    """What an image's files were when they were written: its mask, and its overlay if it has one.

    The mask's digest is its row in the part. ``overlay_digest`` is "" where it isn't known.
    """

    mask: Stamp
    overlay_digest: str = ""
    overlay: Stamp | None = None

    def line(self, image_id: str) -> str:
        """The files' line in the part."""
        more = [self.overlay_digest, *map(str, self.overlay)] if self.overlay else []
        return format_row([image_id, *map(str, self.mask), *more])


def stamp(path: Path) -> Stamp:
    """What a file, or a link, is now."""
    status = path.lstat()
    return status.st_size, status.st_mtime_ns


def part_path(job: Path, shard: int, suffix: str = ".csv") -> Path:
    """The file of a shard's part; ``suffix`` is one of SUFFIXES."""
    return job / "parts" / f"{shard:07d}{suffix}"


def commit_part(job: Path, shard: Shard, pieces: Sequence[Written], seconds: float) -> Committed:
    """Write the part of a shard from the outcomes of its pieces, durably.

    Raises EnvironmentFault where the disk is full or fails, ValueError where the pieces do not
    account for each image of the shard once.
    """
    ordered = sorted(pieces, key=lambda piece: piece.piece.first)
    rows = [row for piece in ordered for row in piece.rows]
    rejections = [rejection for piece in ordered for rejection in piece.rejections]
    if len(rows) + len(rejections) != len(shard.images):
        raise ValueError(
            f"shard {shard.id}: {len(shard.images)} images, but {len(rows)} rows "
            f"and {len(rejections)} rejections"
        )
    scores = [piece.scores.tobytes() for piece in ordered if piece.scores is not None]
    contents = (join_rows(rows), join_rows(map(_rejection_row, rejections)), b"".join(scores))
    for suffix, content in zip(SUFFIXES, contents, strict=True):
        path = part_path(job, shard.id, suffix)
        if content or suffix == ".csv":
            write_bytes(path, [content], sync_folder=False)
        else:
            path.unlink(missing_ok=True)  # left by an attempt that was never entered
    files = [line for piece in ordered for line in piece.files]
    if files:
        write_bytes(part_path(job, shard.id, FILES), [join_rows(files)], sync_folder=False)
    else:
        part_path(job, shard.id, FILES).unlink(missing_ok=True)
    sync_folders([job / "parts"])
    return Committed(
        shard=shard.id,
        first=shard.first,
        images=len(shard.images),
        rows=len(rows),
        rejected=len(rejections),
        digest=hashlib.sha256(b"".join(contents)).hexdigest(),
        seconds=round(seconds, 3),
        early=sum(piece.early for piece in pieces),
    )


def part_digest(job: Path, shard: int) -> str | None:
    """The digest of a shard's part as it lies on the disk, None where there is none."""
    digest = hashlib.sha256()
    for suffix in SUFFIXES:
        try:
            digest.update(part_path(job, shard, suffix).read_bytes())
        except FileNotFoundError:
            if suffix == ".csv":
                return None
    return digest.hexdigest()


def read_rejections(job: Path, shard: int) -> Iterator[Rejection]:
    """The rejections of a shard, in the plan's order."""
    path = part_path(job, shard, ".rejected.csv")
    if path.exists():
        for image_id, reason, detail in read_rows(path):
            yield Rejection(image_id, reason, detail)  # type: ignore[arg-type]


def read_scores(
    job: Path, shard: int, classes: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The class probabilities of a shard's scored images, float32 (n, classes)."""
    path = part_path(job, shard, ".scores")
    raw = path.read_bytes() if path.exists() else b""
    return np.frombuffer(raw, np.float32).reshape(-1, classes)


def _rejection_row(rejection: Rejection) -> str:
    return format_row((rejection.image_id, rejection.reason, rejection.detail))


def read_stamps(job: Path, shard: int) -> dict[str, FileStamps]:
    """What the files of a shard's images were. A line that is damaged counts as none."""
    found: dict[str, FileStamps] = {}
    with suppress(OSError):
        for row in read_rows(part_path(job, shard, FILES)):
            with suppress(ValueError, IndexError):
                overlay = (int(row[4]), int(row[5])) if len(row) > 4 else None
                digest = row[3] if overlay else ""
                found[row[0]] = FileStamps((int(row[1]), int(row[2])), digest, overlay)
    return found


def write_stamps(job: Path, shard: int, stamps: Mapping[str, FileStamps]) -> None:
    """Write what the files of a shard's images are now."""
    lines: Iterable[str] = (stamps[image_id].line(image_id) for image_id in stamps)
    write_bytes(part_path(job, shard, FILES), [join_rows(lines)])
