"""Which page of a TIFF is read, and whether its layout is one that Pillow, or we, can read."""

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ..core.spec import TiffReading
from .limits import Reject

if TYPE_CHECKING:
    import tifffile

HOW_TO_INSTALL: Final = "pip install 'hw1[tiff]'"
UNCOMPRESSED: Final = 1
RGB, PALETTE, CMYK, YCBCR, LAB = 2, 3, 5, 6, 8
"""Photometric interpretations; 0 and 1 are grey, whose 0 is white or black."""

_COLOURS: Final = {0, 1, RGB, PALETTE, CMYK, YCBCR}
_RAW: Final = (32803, 34892)
"""Photometric interpretations of a camera's sensor: a mosaic of colours, and linear raw."""

_MOST_PAGES: Final = 64
JPEG: Final = (6, 7, 33007, 34892)
_CCITT: Final = (2, 3, 4)
_WEBP: Final = 50001
_WITHOUT_IMAGECODECS: Final = (1, 8, 16, 32, 64)
"""Bits of a sample that tifffile alone can unpack."""

_PILLOW_COMPRESSIONS: Final = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000})
_PILLOW_SAMPLES: Final = {
    0: (1,),
    1: (1, 2),
    RGB: (3, 4),
    PALETTE: (1,),
    CMYK: (4,),
    YCBCR: (3,),
    LAB: (3,),
}
_DNG_VERSION: Final = 50706


DEFAULT: Final = TiffReading()


def full_page(file: "tifffile.TiffFile") -> "tuple[int, tifffile.TiffPage]":
    """The first page that isn't a smaller copy or a mask, and its place (-1: not in the chain)."""
    first = file.pages.first
    pages = enumerate(_pages(file))
    if _DNG_VERSION in first.tags:
        raise Reject("unsupported", "a camera's raw file (DNG): convert it to TIFF, PNG or JPEG")
    chosen = None
    if not _is_preview(first):
        chosen = 0, first
        if int(first.photometric) not in _RAW:
            return chosen
    for index, page in pages:
        if int(page.photometric or 0) in _RAW:
            raise Reject("unsupported", "a camera's raw file: convert it to TIFF, PNG or JPEG")
        if chosen is None and not _is_preview(page):
            chosen = index, page
    if chosen is None:
        chosen = 0, first
    for page in _sub_pages(first):
        if int(page.photometric or 0) in _RAW:
            raise Reject("unsupported", "a camera's raw file: convert it to TIFF, PNG or JPEG")
        if _is_preview(chosen[1]) and not _is_preview(page):
            chosen = -1, page
    return chosen


def _pages(file: "tifffile.TiffFile") -> "Iterator[tifffile.TiffPage]":
    import tifffile

    for page, _ in zip(file.pages, range(_MOST_PAGES), strict=False):
        if isinstance(page, tifffile.TiffPage):
            yield page


def _sub_pages(page: "tifffile.TiffPage") -> "Iterator[tifffile.TiffPage]":
    import tifffile

    for sub, _ in zip(page.pages or (), range(_MOST_PAGES), strict=False):
        if isinstance(sub, tifffile.TiffPage):
            yield sub


def _is_preview(page: "tifffile.TiffPage") -> bool:
    return bool(page.subfiletype & 0b101)


def pillow_reads(page: "tifffile.TiffPage", reading: TiffReading) -> bool:
    """Whether Pillow gives the right pixels for this layout, and always has."""
    colours, compression = int(page.photometric or 0), int(page.compression)
    if reading.bands is not None or compression not in _PILLOW_COMPRESSIONS or _has_gaps(page):
        return False
    if page.bitspersample != 8 and reading.scale_from is not None:
        return False
    if page.fillorder != 1 and compression not in _CCITT:
        return False
    if page.samplesperpixel not in _PILLOW_SAMPLES.get(colours, ()):
        return False
    return _pillow_reads_samples(page, colours, compression)


def _pillow_reads_samples(page: "tifffile.TiffPage", colours: int, compression: int) -> bool:
    bits, samples = page.bitspersample, page.samplesperpixel
    apart = page.planarconfig == 2 and samples > 1
    # Of raw planes, one alone too, it takes the first letter of their layout for all of it: "L;I",
    # where 0 is white, is read as "L".
    raw_plane = page.planarconfig == 2 and compression == UNCOMPRESSED
    if raw_plane and (bits != 8 or colours == 0):
        return False
    if page.sampleformat == 1 and bits == 8:
        rgba_jpeg = compression in JPEG and samples == 4 and colours != CMYK
        return not rgba_jpeg and (not apart or colours == RGB)
    if page.sampleformat == 1 and bits in (1, 2, 4):
        return samples == 1
    if page.sampleformat == 1 and bits == 16:
        return colours == RGB or (colours == 1 and samples == 1)
    # Compressed floats of the other byte order come with their bytes swapped.
    swapped = page.parent.byteorder == ">" and compression != UNCOMPRESSED
    is_float = page.sampleformat == 3 and bits == 32
    return is_float and samples == 1 and colours == 1 and not swapped


def _has_gaps(page: "tifffile.TiffPage") -> bool:
    """Whether tiles or strips are left out, as GDAL's SPARSE_OK does."""
    return 0 in page.dataoffsets or 0 in page.databytecounts


def unsupported(page: "tifffile.TiffPage", reading: TiffReading) -> str | None:
    """Why this page can't be read, if so: in the words of the file's header."""
    layout = f"{page.samplesperpixel} bands of {page.bitspersample} bits"
    colours = int(page.photometric or 0)
    fault = None
    if colours not in _COLOURS:
        fault = f"{layout}, photometric interpretation {_name(page.photometric)}: not supported"
    elif page.imagedepth != 1:
        fault = f"{page.imagedepth} layers of a volume: not supported"
    elif not isinstance(page.bitspersample, int):
        fault = f"bands of {', '.join(map(str, page.bitspersample))} bits: not supported"
    elif page.dtype is None or page.dtype.kind not in "iufb":
        fault = f"{layout}, sample format {_name(page.sampleformat)}: not supported"
    elif colours in (CMYK, YCBCR) and not _plain_colours(page):
        fault = f"{layout}, {_name(page.photometric)}: not supported"
    elif page.compression == _WEBP and page.planarconfig == 2 and page.samplesperpixel > 1:
        fault = f"{layout}, WEBP with bands apart: not supported"
    return fault or _no_codec(page, layout) or _no_such_band(page, reading)


def _plain_colours(page: "tifffile.TiffPage") -> bool:
    if page.sampleformat != 1:
        return False
    if is_image_codec(page):
        return True
    samples = 4 if page.photometric == CMYK else 3
    return (
        page.bitspersample in (8, 16) and page.samplesperpixel >= samples and not page.is_subsampled
    )


def is_image_codec(page: "tifffile.TiffPage") -> bool:
    """Whether strips and tiles are pictures of a format of their own, JPEG 2000 for one."""
    import tifffile

    return page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS


def _no_codec(page: "tifffile.TiffPage", layout: str) -> str | None:
    import tifffile

    if page.compression == UNCOMPRESSED and page.bitspersample in _WITHOUT_IMAGECODECS:
        return None
    if importlib.util.find_spec("imagecodecs") is None:
        return f"{layout}, compression {_name(page.compression)}: needs {HOW_TO_INSTALL}"
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        return f"compression {_name(page.compression)}: not supported"
    return None


def _no_such_band(page: "tifffile.TiffPage", reading: TiffReading) -> str | None:
    if reading.bands is None:
        return None
    if int(page.photometric or 0) in (PALETTE, CMYK, YCBCR):
        return f"{_name(page.photometric)}: its samples are no bands to choose from"
    most = max(reading.bands)
    has = page.samplesperpixel
    return f"band {most} was asked for, it has {has}" if most > has else None


def _name(value: Any) -> str:
    name = getattr(value, "name", None)
    return f"{name} ({int(value)})" if name else str(value)
