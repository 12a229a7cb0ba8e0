"""Decodes a piece of a shard: its images as the arrays that classifiers and segmenters take."""

import math
import os
import platform
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.errors import EnvironmentFault, Hw1Error
from ..core.preprocessing import Framing
from ..core.records import Decoded, Planned, Rejection, Shard, UInt8
from ..core.spec import TiffReading
from .crops import crop, longest_side
from .decode import Picture, memory_is_short, open_image, reason_of
from .limits import Reject
from .tiff_layout import DEFAULT


def decode_crops(
    piece: Shard,
    root: Path,
    framings: Sequence[Framing],
    *,
    draft: bool = False,
    reading: TiffReading = DEFAULT,
) -> Decoded:
    """Decode a piece's images for classifiers: an array (n, H, W, 3) for each framing, in order.

    Each image is decoded once, and cropped in every framing at once. With ``draft`` JPEGs are
    decoded at the smallest of their scales (1, 1/2, 1/4, 1/8) that leaves twice the largest side
    that one is resized to: less work, and pixels that differ a little.
    """
    arrays = [np.empty((len(piece.images), *framing.size, 3), np.uint8) for framing in framings]
    least = 2 * max(map(longest_side, framings))
    positions: list[int] = []
    rejections: list[Rejection] = []
    notice = ""
    for position, planned in enumerate(piece.images, piece.first):
        try:
            with _crashes():
                picture = open_image(root / planned.image_id, planned, reading)
                if draft:
                    picture.draft(least)
                image = picture.rgb()
                notice = notice or _noticed(planned, picture, image)
                for array, framing in zip(arrays, framings, strict=True):
                    array[len(positions)] = crop(image, framing)
        except Reject as fault:
            rejections.append(_rejection(root, planned, fault))
            continue
        positions.append(position)
    count = len(positions)
    kept = tuple(array[:count].copy() if rejections else array for array in arrays)
    return _decoded(piece, positions, kept, rejections, notice)


def decode_photos(
    piece: Shard,
    root: Path,
    max_bytes: int,
    *,
    together: int = 1,
    reading: TiffReading = DEFAULT,
) -> Decoded:
    """Decode a piece's images for segmenters: an array (H, W, 3) for each.

    Ends before the image whose pixels would make more than ``max_bytes``, as its header says, and
    where it can at a multiple of ``together`` in the plan: so that which of these images are in one
    piece doesn't depend on where a shard begins. The first image that can be decoded is, however
    large.
    """
    photos: list[UInt8] = []
    positions: list[int] = []
    rejections: list[Rejection] = []
    notice = ""
    held = 0
    for position, planned in enumerate(piece.images, piece.first):
        try:
            with _crashes():
                picture = open_image(root / planned.image_id, planned, reading)
                width, height = picture.size
                # Those that are decided together are most likely of one size: where they won't
                # all fit, none of them is decoded twice.
                coming = together if position % together == 0 else 1
                if photos and held + coming * width * height * 3 > max_bytes:
                    cut = position // together * together
                    piece = piece.piece(piece.first, cut if cut > piece.first else position)
                    break
                image = picture.rgb()
                notice = notice or _noticed(planned, picture, image)
                photos.append(np.asarray(image))
            held += photos[-1].nbytes
            positions.append(position)
        except Reject as fault:
            rejections.append(_rejection(root, planned, fault))
    kept = sum(position < piece.stop for position in positions)
    left = {planned.image_id for planned in piece.images}
    rejections = [each for each in rejections if each.image_id in left]
    return _decoded(piece, positions[:kept], tuple(photos[:kept]), rejections, notice)


def _noticed(planned: Planned, picture: Picture, image: Image.Image) -> str:
    said = picture.notice(image)
    return f"{planned.image_id}: {said}" if said else ""


def sample_of(*shapes: tuple[int, ...]) -> Decoded:
    """One made-up image as these arrays, patterns that never change, as if it had been decoded."""
    piece = Shard(0, 0, (Planned("sample", 0, 0),))
    arrays = tuple(
        (np.arange(math.prod(shape)) * 7919 % 251).astype(np.uint8).reshape(shape)
        for shape in shapes
    )
    return Decoded(piece, (0,), ("sample",), arrays, ())


@contextmanager
def _crashes() -> Iterator[None]:
    """Make a Reject of whatever else one image makes its decoding raise.

    But for an end that was asked for: Ray ends its workers by SystemExit.
    """
    try:
        yield
    except (Reject, Hw1Error, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, SystemExit) and frames and "ray" in Path(frames[-1].filename).parts:
            raise
        if isinstance(error, MemoryError) and memory_is_short(0):
            raise EnvironmentFault("not enough memory to shrink an image") from error
        raise Reject("crashed", f"{type(error).__name__}: {reason_of(error)}") from error


def _rejection(root: Path, planned: Planned, fault: Reject) -> Rejection:
    """What becomes of an image; EnvironmentFault where all of IN went, not the image alone.

    A machine of a cluster may not see the folder; unmounted storage leaves an empty one.
    """
    if fault.reason == "gone" and planned.size != -1 and not _holds_something(root):
        raise EnvironmentFault(
            f"{root} is not there, or empty, on {platform.node()}: mount it on every machine that "
            "scores, and give the same command again"
        )
    return Rejection(planned.image_id, fault.reason, fault.detail)


def _holds_something(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False
    except OSError:  # one may read files in there whose names one may not list
        return True


def _decoded(
    piece: Shard,
    positions: Sequence[int],
    arrays: tuple[UInt8, ...],
    rejections: Sequence[Rejection],
    notice: str,
) -> Decoded:
    names = tuple(piece.images[position - piece.first].image_id for position in positions)
    return Decoded(piece, tuple(positions), names, arrays, tuple(rejections), notice)
