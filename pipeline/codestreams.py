"""How large a picture inside a TIFF's strip or tile says that it is, before it is decoded.

A strip of some hundred bytes may hold a JPEG of 65,500 × 65,500 pixels, for which its decoder
allocates what its own header asks, whatever the TIFF's says.
"""

import io
import struct
from typing import Final

from PIL import Image

_PILLOW: Final = ("JPEG", "PNG", "WEBP", "JPEG2000")
_JXL_SIZE_BITS: Final = (9, 13, 18, 30)
_JXL_RATIOS: Final = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def claimed_pixels(data: bytes) -> int | None:
    """Width × height (× bands for LERC) in the header; None where the format is not known."""
    if data.startswith(b"Lerc2 "):
        return _lerc(data)
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return _jpeg_xl(data)
    try:
        with Image.open(io.BytesIO(data), formats=_PILLOW) as image:
            return image.width * image.height
    except Image.DecompressionBombError:
        raise
    except Exception:
        return None


def lerc_values(data: bytes) -> int:
    """How many values of each pixel stand together in a LERC picture; 1 where it doesn't say."""
    header = _lerc_header(data)
    return header[2] if header else 1


def _lerc(data: bytes) -> int | None:
    header = _lerc_header(data)
    return header and header[0] * header[1] * header[2]


def _lerc_header(data: bytes) -> tuple[int, int, int] | None:
    """Lerc2: "Lerc2 ", version, a checksum from 3 on, rows, columns, from 4 on values a pixel."""
    try:
        (version,) = struct.unpack_from("<i", data, 6)
        rows, columns, values = struct.unpack_from("<iii", data, 14 if version >= 3 else 10)
    except struct.error:
        return None
    return rows, columns, values if version >= 4 else 1


def _jpeg_xl(data: bytes) -> int | None:
    """ISO 18181-1, SizeHeader: the bits behind the codestream's FF 0A, lowest first."""
    start = data.find(b"\xff\x0a", 0, 2**16)
    if start < 0:
        return None
    bits = int.from_bytes(data[start + 2 : start + 18], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take(_JXL_SIZE_BITS[take(2)]) + 1

    height = side()
    ratio = take(3)
    if not ratio:
        return height * side()
    across, down = _JXL_RATIOS[ratio - 1]
    return height * (height * across // down)
