"""How large an image may be, and the exception that says that an image cannot be used."""

from typing import Final

from ..core.records import Reason

MAX_PIXELS: Final = 2 * 89_478_485
"""More pixels than this (13,377 × 13,377) are ``too_large``: Pillow's own limit.

Such an image takes 0.7 GB in Pillow and 0.5 GB as an array. A few bytes of PNG can claim to be
one of 65,000 × 65,000; the header is believed before anything is decoded.
"""

MAX_SIDE: Final = 2**20
"""More pixels than this in a row or a column are ``too_large``, however few there are in all.

Pillow keeps an address for each row, and to shrink a side it holds 16 bytes for each of its
pixels: 2.8 GB for a picture of 1 × 178 million.
"""

MAX_BYTES: Final = 8 * MAX_PIXELS
"""A longer file cannot be an image within MAX_PIXELS (16-bit RGBA is 8 bytes a pixel).

Nor are samples read that take more than this together, as a TIFF's header says.
"""


class Reject(Exception):
    """An image that cannot be used, for its own fault."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail


def check_size(width: int, height: int, sample_bytes: int = 1) -> None:
    """Raise Reject where a header's claim is above the limits; before anything is allocated.

    ``sample_bytes`` are those of a pixel while it is decoded.
    """
    said = f"{width} × {height} pixels"
    if width * height > MAX_PIXELS:
        raise Reject("too_large", f"{said}, at most {MAX_PIXELS:,} are read")
    if max(width, height) > MAX_SIDE:
        raise Reject("too_large", f"{said}, at most {MAX_SIDE:,} a side are read")
    if width * height * sample_bytes > MAX_BYTES:
        raise Reject(
            "too_large",
            f"{said} of {sample_bytes} bytes each, at most {MAX_BYTES:,} bytes are read",
        )
