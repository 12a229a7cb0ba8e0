"""Which crops a segmenter is trained on where the user doesn't say: those that the tiles allow."""

from pathlib import Path
from typing import Final, TypedDict

from ..core.errors import InputError
from ..pipeline.decode import open_image
from ..pipeline.limits import Reject
from .masks import find_tiles
from .source import find_source
from .tiles import Tiles

USUAL = (320, 512)
"""The least and the greatest side of a crop, in pixels, of tiles that are as large."""

_USUAL_SIDE: Final = 256
_GRID: Final = 32


class Chosen(TypedDict):
    """Fields of a Recipe."""

    crop: tuple[int, int]
    size: int
    score_scale: float


def choose(
    data: Path,
    validation: Path | None,
    crop: tuple[int, int] | None,
    size: int | None,
    scale: float | None,
    *,
    largest_scale: float,
) -> Chosen:
    """What a recipe has of these where they are None.

    Crops are the usual ones, or so much less as the smallest training tile, by its header, is
    smaller; the network's input is at most as large, in steps of 32. Raises InputError where there
    are no tiles with masks, and for crops that would be enlarged more than ``largest_scale`` times.
    """
    crop = crop or _crop_for(data, validation)
    size = size or max(_GRID, min(_USUAL_SIDE, crop[1] // _GRID * _GRID))
    return Chosen(
        crop=crop, size=size, score_scale=scale or _score_scale(crop, size, largest_scale)
    )


def require_room(crop: tuple[int, int], tiles: Tiles) -> None:
    """Raise InputError for crops larger than a tile: they would be scaled otherwise than meant."""
    sides = [min(mask.shape) for mask in tiles.masks]
    least = min(range(len(sides)), key=lambda i: sides[i])
    if crop[1] > sides[least]:
        height, width = tiles.masks[least].shape
        raise InputError(
            f"--crop {crop[0]} {crop[1]}: {tiles.names[least]} has {width} × {height} pixels, and "
            f"crops are cut from tiles: expected MOST up to {sides[least]}, or leave --crop out"
        )


def _crop_for(data: Path, validation: Path | None) -> tuple[int, int]:
    tiles, _ = find_tiles(find_source(data, validation).train)
    least, most = USUAL
    smallest = min(most, *map(_shorter_side, tiles))
    return max(1, least * smallest // most), smallest


def _score_scale(crop: tuple[int, int], size: int, largest: float) -> float:
    """What crops are enlarged by, by and large, rounded up to a sixteenth."""
    if sum(crop) <= 0:
        return 1.0  # such crops are refused with what else is wrong
    scale = -(-32 * size // sum(crop)) / 16
    if scale > largest:
        raise InputError(
            f"--crop {crop[0]} {crop[1]} is enlarged {scale:g} times to --size {size}, and tiles "
            f"are scored at {largest} times at most: give larger crops, a smaller --size, or "
            "--score-scale"
        )
    return scale


def _shorter_side(tile: Path) -> int:
    try:
        return min(open_image(tile).size)
    except Reject:  # reported when it's read
        return USUAL[1]
