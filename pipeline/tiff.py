"""Reads the TIFFs that Pillow does not, or reads wrongly: by tifffile, with imagecodecs.

Pillow knows a list of layouts: 8 and 16 bits of grey, RGB, CMYK, palettes. What land cover comes
in is wider: bands apart, more than four of them, floats of several bands, signed integers, LERC,
WebP or JPEG XL inside, tiles that are left out. tifffile is Python on numpy (3 MB, BSD) and
decodes piece by piece, so that only the bands asked for are held; imagecodecs brings what unpacks
(79 MB, BSD; the extra ``tiff``, for it is above the 60 MB that a core dependency may cost).
rasterio, the other choice, is 107 MB and brings all of GDAL's drivers, some of which open network
addresses or other files that a picture names.
"""

import io
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.records import UInt8
from ..core.spec import TiffReading
from .limits import MAX_BYTES, Reject, check_size
from .pixels import floats_to_8_bits, integers_to_8_bits, scaled_to_8_bits, turned
from .tiff_layout import (
    CMYK,
    DEFAULT,
    PALETTE,
    YCBCR,
    full_page,
    is_image_codec,
    pillow_reads,
    unsupported,
)
from .tiff_segments import decode_segment

if TYPE_CHECKING:
    import tifffile

MAX_SEGMENTS: Final = 2**20
"""Strips or tiles that are read of one image; each costs some microseconds at least."""

_DARK: Final = 64
"""An image whose highest level of 255 is below this fills less than a quarter of its range."""

_NO_LEVELS: Final = (PALETTE, CMYK, YCBCR)
_ORIENTATION, _GDAL_NODATA = 274, 42113

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it reports to stderr
logging.getLogger("tifffile").propagate = False


@dataclass(frozen=True, slots=True)
class Tiff:
    """A TIFF whose header was read. ``by_pillow``: Pillow reads this layout, and reads it right.

    ``image`` is the page as Pillow opened it, where that reads it.
    """

    data: bytes
    page: "tifffile.TiffPage"
    index: int
    by_pillow: bool
    reading: TiffReading
    image: Image.Image | None = None

    @property
    def width(self) -> int:
        """Of the page that is read, in pixels, before it is turned upright."""
        return int(self.page.imagewidth)

    @property
    def height(self) -> int:
        """As ``width``."""
        return int(self.page.imagelength)

    def without_pillow(self) -> "Tiff":
        """Itself; Reject where it isn't supported."""
        if fault := unsupported(self.page, self.reading):
            raise Reject("unsupported", f"TIFF: {fault}")
        return self

    def rgb(self) -> Image.Image:
        """The picture as mode "RGB", upright. Raises Reject, or anything where it is damaged."""
        grey_or_rgb = _decode(self)
        orientation = self.page.tags.valueof(_ORIENTATION, 1)
        return turned(Image.fromarray(grey_or_rgb).convert("RGB"), orientation)


def open_tiff(data: bytes, reading: TiffReading = DEFAULT) -> Tiff:
    """Read a TIFF's header: the first page that is no preview.

    Raises Reject where it is larger than what is read, a camera's raw file, or of a kind that
    isn't supported; anything where it is damaged.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        index, page = full_page(file)
    page_bytes = _bytes_of_a_pixel(page, reading)
    check_size(page.imagewidth, page.imagelength, page_bytes)
    by_pillow = index >= 0 and pillow_reads(page, reading)
    tiff = Tiff(data, page, index, by_pillow, reading)
    return tiff if by_pillow else tiff.without_pillow()


def too_dark(tiff: Tiff, picture: Image.Image) -> str:
    """What to say of a page of more than 8 bits whose levels fill little of its type; else "".

    A sensor's 11 bits in a file's 16 make a picture that is nearly black: see ``pixels``.
    """
    page, colours = tiff.page, int(tiff.page.photometric or 0)
    bits = page.bitspersample
    if tiff.reading.scale_from is not None or colours in _NO_LEVELS:
        return ""
    if page.dtype is None or page.dtype.kind not in "iu" or bits <= 8:
        return ""
    extremes: Any = picture.getextrema()  # its type is that of any mode
    inverted = colours == 0 and page.samplesperpixel == 1
    highest = max(255 - low if inverted else high for low, high in extremes)
    if highest >= _DARK:
        return ""
    most = 2 ** (bits - (page.dtype.kind == "i")) - 1
    level = (highest + 1) * (most + 1) // 256 - 1
    if not highest:  # black: of levels that were dropped, or empty
        level = int(_samples(tiff).max(initial=0))
    if level <= 0:
        return ""
    shade = "white" if inverted else "black"
    return (
        f"its levels are at most {level:,} of {most:,}, nearly {shade} to a model: if all are like "
        f"this, begin again with --scale-from 0,{2 ** level.bit_length() - 1} --overwrite"
    )


def _bands(page: "tifffile.TiffPage", reading: TiffReading) -> tuple[int, ...]:
    """The bands that are read, from 0: as asked for, the first three, or the first one."""
    if reading.bands is not None:
        return tuple(band - 1 for band in reading.bands)
    if page.photometric == CMYK:
        return 0, 1, 2, 3
    return (0, 1, 2) if page.samplesperpixel >= 3 and page.photometric != PALETTE else (0,)


def _bytes_of_a_pixel(page: "tifffile.TiffPage", reading: TiffReading) -> int:
    itemsize = page.dtype.itemsize if page.dtype is not None else 1
    return itemsize * len(_bands(page, reading))


def _dtype(page: "tifffile.TiffPage") -> np.dtype[Any]:
    assert page.dtype is not None, "unsupported() looked"
    return page.dtype


def _decode(tiff: Tiff) -> UInt8:
    """The chosen bands as uint8 (H, W) grey or (H, W, 3) RGB, not turned."""
    page = tiff.page
    samples = _samples(tiff)
    scale = tiff.reading.scale_from
    colours = int(page.photometric or 0)
    if colours == PALETTE:
        return _through_palette(page, samples[..., 0])
    inverted = colours == 0 and samples.shape[2] == 1
    bits = page.bitspersample if _dtype(page).kind in "iu" else 32
    if scale is not None and (bits > 8 or _dtype(page).kind == "f"):
        levels = scaled_to_8_bits(samples, *scale)
        levels = ~levels if inverted else levels
    elif _dtype(page).kind == "f":
        levels = floats_to_8_bits(samples)
    elif _dtype(page).kind == "b":
        levels = np.where(samples, 255, 0).astype(np.uint8) ^ np.uint8(255 if inverted else 0)
    else:
        levels = integers_to_8_bits(samples, bits, inverted=inverted)
    if colours == CMYK:
        return np.asarray(Image.fromarray(levels, "CMYK").convert("RGB"))
    if colours == YCBCR and not is_image_codec(page):
        return np.asarray(Image.fromarray(levels, "YCbCr").convert("RGB"))
    return levels if levels.shape[2] == 3 else levels[..., 0]


def _through_palette(page: "tifffile.TiffPage", indices: NDArray[Any]) -> UInt8:
    palette = page.colormap
    if palette is None:
        raise Reject("unsupported", "TIFF: a palette image without a palette")
    colours = (np.asarray(palette, np.uint16) >> 8).astype(np.uint8).T
    rgb: UInt8 = colours[np.minimum(indices, len(colours) - 1)]
    return rgb


def _samples(tiff: Tiff) -> NDArray[Any]:
    """The chosen bands' samples, (H, W, bands), as the file has them (float64 as float32)."""
    page = tiff.page
    bands = _bands(page, tiff.reading)
    dtype = np.dtype(np.float32) if _dtype(page).kind == "f" else _dtype(page)
    samples = np.zeros((page.imagelength, page.imagewidth, len(bands)), dtype)
    apart = page.planarconfig == 2 and page.samplesperpixel > 1
    across, down, width, height = _grid(page)
    planes = bands if apart else (0,)
    if len(planes) * across * down > MAX_SEGMENTS:
        raise Reject("too_large", f"{across * down:,} strips or tiles, at most {MAX_SEGMENTS:,}")
    for place, plane in enumerate(planes):
        for number in range(across * down):
            y, x = number // across * height, number % across * width
            index = plane * across * down + number
            piece = decode_segment(page, tiff.data, index, width, height)
            target = samples[y : y + height, x : x + width]
            if piece is None:
                target[...] = page.nodata
                continue
            piece = piece[: target.shape[0], : target.shape[1]]
            if apart:
                target[..., place] = piece[..., 0]
            else:
                target[...] = piece[..., list(bands)]
    nodata = page.tags.valueof(_GDAL_NODATA)
    if (
        dtype.kind == "f" and nodata is not None
    ):  # a value far from all others would decide the scale
        samples[samples == dtype.type(page.nodata)] = 0
    return samples


def _grid(page: "tifffile.TiffPage") -> tuple[int, int, int, int]:
    """Segments across and down, and their width and height; Reject where one is too large."""
    width = page.tilewidth if page.is_tiled else page.imagewidth
    height = page.tilelength if page.is_tiled else page.rowsperstrip
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    size = width * height * samples * _dtype(page).itemsize
    if size > MAX_BYTES:
        raise Reject("too_large", f"a strip or tile of {size:,} bytes, at most {MAX_BYTES:,}")
    return math.ceil(page.imagewidth / width), math.ceil(page.imagelength / height), width, height
