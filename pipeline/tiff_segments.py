"""Decodes a strip or tile of a TIFF: by tifffile, and ourselves where that takes bands for others.

libtiff, with which GDAL writes, stores the bands of a LERC or JPEG strip in ways that the file's
header doesn't tell.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from .codestreams import claimed_pixels, lerc_values
from .limits import Reject
from .tiff_layout import JPEG, RGB, UNCOMPRESSED, is_image_codec

if TYPE_CHECKING:
    import tifffile

_LERC: Final = 34887
_LERC_PARAMETERS: Final = 50674
_GREY: Final = (0, 1)


def decode_segment(
    page: "tifffile.TiffPage", data: bytes, index: int, width: int, height: int
) -> NDArray[Any] | None:
    """A strip or tile, decoded: (rows, columns, samples); None where the file leaves it out.

    ``data`` is the whole file, ``width`` and ``height`` are those of a strip or tile of the page.
    """
    if index >= len(page.dataoffsets) or index >= len(page.databytecounts):
        raise Reject("truncated", "TIFF: its header names fewer strips or tiles than it has")
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    if not offset or not count:
        return None
    encoded = data[offset : offset + count]
    if page.compression != UNCOMPRESSED:
        if len(encoded) < count:
            raise Reject("truncated", "TIFF: it ends before its last strip or tile")
        encoded = _unwrapped(page, encoded, width * height)
    if page.compression == _LERC:
        return _lerc(page, encoded)
    if page.compression in JPEG and _tifffile_turns_colours(page):
        return _jpeg_as_stored(page, encoded)
    decoded, _, _ = page.decode(
        encoded, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader
    )
    assert decoded is not None, "only of what is left out"
    return decoded.reshape(decoded.shape[-3:])


def _unwrapped(page: "tifffile.TiffPage", encoded: bytes, pixels: int) -> bytes:
    """What the codec gets, once it's known that it claims no more than the strip or tile has."""
    if not is_image_codec(page) and page.compression != _LERC:
        return encoded
    samples = page.samplesperpixel
    parameters = page.tags.valueof(_LERC_PARAMETERS)
    if page.compression == _LERC and parameters is not None and parameters[1]:
        import imagecodecs

        assert page.dtype is not None, "unsupported() looked"
        unpack = imagecodecs.zlib_decode if parameters[1] == 1 else imagecodecs.zstd_decode
        most = pixels * samples * page.dtype.itemsize * 2 + 2**16
        encoded = bytes(unpack(encoded, out=most))
    claimed = claimed_pixels(encoded)
    if claimed is not None and claimed > 2 * pixels * samples + 2**16:
        raise Reject("truncated", f"TIFF: a strip or tile claims {claimed:,} pixels")
    return encoded


def _lerc(page: "tifffile.TiffPage", encoded: bytes) -> NDArray[Any]:
    """A LERC strip or tile: (rows, columns, samples).

    libtiff writes floats with bands that lack different pixels as one picture a band, the bands
    first; else all bands of a pixel together. An alpha band of nothing but 0 and 255 is left out,
    and is LERC's mask.
    """
    import imagecodecs

    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    values, masks = imagecodecs.lerc_decode(encoded, masks=True)
    stored = values.dtype.newbyteorder(page.parent.byteorder)  # the file's, in LERC too
    values = values.view(stored).astype(values.dtype)
    together = lerc_values(encoded)
    if values.ndim == 2:
        values = values[..., None]
    elif values.ndim == 3 and together == 1:
        values = np.moveaxis(values, 0, 2)
    if values.shape[2] == samples - 1:
        alpha = np.ones(values.shape[:2], values.dtype) if masks is None else masks
        alpha = np.reshape(alpha != 0, (*values.shape[:2], 1)) * np.uint8(255)
        values = np.concatenate([values, alpha.astype(values.dtype)], axis=2)
    if values.ndim != 3 or values.shape[2] != samples:
        raise Reject("truncated", f"TIFF: LERC of {values.shape}, expected {samples} bands")
    return values


def _tifffile_turns_colours(page: "tifffile.TiffPage") -> bool:
    """Whether tifffile takes the bands of a JPEG strip or tile for colours that they aren't."""
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        return page.photometric == RGB
    # A JFIF marker says that they are, whatever the TIFF's header says: so tifffile writes.
    return page.samplesperpixel == 3 and page.photometric in _GREY and not page.is_jfif


def _jpeg_as_stored(page: "tifffile.TiffPage", encoded: bytes) -> NDArray[Any]:
    import imagecodecs

    colours = RGB if page.planarconfig == 1 else None  # from RGB to RGB: unchanged
    decoded: NDArray[Any] = imagecodecs.jpeg_decode(
        encoded,
        bitspersample=page.bitspersample,
        tables=page.jpegtables,
        header=page.jpegheader,
        colorspace=colours,
        outcolorspace=colours,
    )
    return decoded if decoded.ndim == 3 else decoded[..., None]
