"""Which files are images: by their suffix, and by the first bytes of their content."""

import re
from typing import Final

SUFFIXES: Final = frozenset(
    {
        *(".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
"""Suffixes, in lower case, of files that are planned without a look inside."""

HEAD_BYTES: Final = 32
"""How much of a file ``format_of`` wants to see."""

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
)
_BMP_HEADER_SIZES: Final = (12, 40, 52, 56, 64, 108, 124)
_PORTABLE: Final = re.compile(rb"P[1-6]\s+(#|\d+\s)")


def suffix_of(name: str) -> str:
    """The suffix of a path's last part, in lower case, with its dot; "" where there is none.

    Much faster than pathlib's, which matters in folders of many thousand files.
    """
    stem, dot, suffix = name[name.rfind("/") + 1 :].rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def format_of(head: bytes) -> str | None:
    """Pillow's name of the format that a file's first HEAD_BYTES announce; None for no image.

    Short signatures ("BM", "P5") are text that any file may begin with, so what must follow them
    is looked at too.
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if _PORTABLE.match(head):
        return "PPM"
    return None
