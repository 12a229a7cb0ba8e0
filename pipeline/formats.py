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
RAW_SUFFIXES: Final = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc"),
        *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2"),
        *(".srf", ".srw", ".x3f"),
    }
)
"""Suffixes of cameras' raw files: most are TIFFs whose first picture is a preview."""

RAW_TIFF: Final = re.compile(rb"II\*\0....CR\x02|II\*\0....HEAPCCDR", re.DOTALL)
"""How some cameras' raw files begin that are TIFFs otherwise."""

UNREAD_SUFFIXES: Final = RAW_SUFFIXES | frozenset(
    {
        *(".dcm", ".dds", ".ecw", ".exr", ".fits", ".heic", ".heif", ".hif", ".icns", ".ico"),
        *(".jxl", ".jxr", ".nitf", ".ntf", ".pcx", ".psb", ".psd", ".qoi", ".sid", ".svg"),
        *(".svgz", ".tga", ".wdp", ".xcf"),
    }
)
"""Suffixes of images that aren't read: planned all the same, and rejected by name."""

_UNREAD_SIGNATURES: Final = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"8BPS\0", "Photoshop (PSD)"),
    (b"<svg", "SVG"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"IIRO", "a camera's raw file (ORF)"),
    (b"IIRS", "a camera's raw file (ORF)"),
    (b"MMOR", "a camera's raw file (ORF)"),
    (b"IIU\0", "a camera's raw file (RW2)"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file (RAF)"),
    (b"FOVb", "a camera's raw file (X3F)"),
    (b"\0MRM", "a camera's raw file (MRW)"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"DDS |", "DDS"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "GIMP (XCF)"),
    (b"SIMPLE  =", "FITS"),
    (b"NITF0", "NITF"),
    (b"icns", "ICNS"),
)
_HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
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


def unread_kind(head: bytes, suffix: str) -> str | None:
    """The kind of image that a file is by its first HEAD_BYTES, or else its suffix, if not read.

    To be asked of what format_of doesn't know. None: no image that is known.
    """
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in _HEIF_BRANDS:
            return "HEIC/HEIF"
        if brand == b"crx ":
            return "a camera's raw file (CR3)"
    for signature, name in _UNREAD_SIGNATURES:
        if head.startswith(signature):
            return name
    if suffix in RAW_SUFFIXES:
        return f"a camera's raw file ({suffix[1:].upper()})"
    return suffix[1:].upper() if suffix in UNREAD_SUFFIXES else None
