"""Image files of a training set as pixels; what cannot be read is an error, not a rejection."""

from collections.abc import Sequence
from pathlib import Path

from ..core.errors import InputError
from ..core.records import UInt8
from ..pipeline.decode import decode_rgb
from ..pipeline.limits import Reject


def read_pixels(path: Path) -> UInt8:
    """An image as uint8 (H, W, 3) RGB. Raises InputError where it cannot be decoded."""
    try:
        return decode_rgb(path)
    except Reject as reject:
        raise InputError(
            f"{path} cannot be read ({reject.reason}: {reject.detail}): repair it, or take it out "
            "of the training images"
        ) from reject


def listing(names: Sequence[str], most: int = 3) -> str:
    """The first few names and how many more there are, for an error's text."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
