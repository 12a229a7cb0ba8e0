"""Makes 8-bit RGB of whatever a decoder gives: rotated, palette, CMYK, 16-bit, float."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from ..core.records import Float32, UInt8

Integers = NDArray[np.integer[Any]]

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BLOCK: Final = 2**20
_BITS_PER_SAMPLE: Final = 258
_PHOTOMETRIC: Final = 262
_SAMPLE_FORMAT: Final = 339


def to_rgb(image: Image.Image) -> Image.Image:
    """The image's first frame as mode "RGB", turned as its EXIF orientation says.

    Transparency is dropped, as ``convert("RGB")`` drops it: a transparent pixel has the colour
    that the file stores for it. The networks learned from pictures read that way. Channels of
    16 bits keep their high byte, as Pillow does itself with 16-bit colour.
    """
    image.load()
    turn = _turn(image)
    if image.mode == "LAB":
        image = _lab_to_rgb(image)
    elif image.mode == "F":
        image = Image.fromarray(floats_to_8_bits(np.asarray(image, np.float32)))
    elif image.mode.startswith("I"):
        image = Image.fromarray(_integers_to_8_bits(image))
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def turned(image: Image.Image, orientation: object) -> Image.Image:
    """The image upright, as EXIF's (or TIFF's) orientation says."""
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def turned_back(pixels: UInt8, orientation: int) -> UInt8:
    """Upright pixels (H, W, 3) as the file stores them, whose EXIF orientation is this."""
    turn = _TURNS.get(orientation)
    if turn is None:
        return pixels
    back = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }.get(turn, turn)  # the others undo themselves
    return np.asarray(Image.fromarray(pixels).transpose(back))


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1, upright, where the EXIF data says nothing, or is damaged.

    ImageOps.exif_transpose raises for damaged EXIF data, whose pixels may be faultless.
    """
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:
        return 1
    return found if found in _TURNS else 1


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to turn the pixels upright."""
    return _TURNS.get(orientation_of(image))


def _integers_to_8_bits(image: Image.Image) -> UInt8:
    """Grey levels of 12, 16 or 32 bits as 8 bits: see integers_to_8_bits.

    Pillow's convert would clip them at 255 instead.
    """
    bits, signed, inverted = _sample_type(image)
    levels = np.asarray(image)
    levels = levels.astype(_holder(bits, signed), copy=False)  # modulo: Pillow's are of 32 bits
    return integers_to_8_bits(levels, bits, inverted=inverted)


def _holder(bits: int, signed: bool) -> str:
    size = next(size for size in (8, 16, 32) if bits <= size)
    return f"{'int' if signed else 'uint'}{size}"


def integers_to_8_bits(levels: Integers, bits: int, *, inverted: bool = False) -> UInt8:
    """Levels of ``bits`` bits as 8 bits: the range of the file's type becomes 0 to 255.

    Of more than 8 bits the high ones are kept; fewer are spread evenly. What is below 0 becomes
    0, and the largest positive value 255. ``inverted``: 0 is white.
    """
    if levels.dtype.kind == "i":
        width = 8 * levels.dtype.itemsize
        levels = np.maximum(levels, 0).view(f"uint{width}") << 1
    if inverted:
        levels = ~levels & levels.dtype.type(2**bits - 1)
    if bits >= 8:
        return (levels >> (bits - 8)).astype(np.uint8)
    spread: UInt8 = (levels.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)
    return spread


def floats_to_8_bits(levels: Float32) -> UInt8:
    """Float levels as 8 bits; what is not finite becomes 0.

    Where no level is above 1, 1.0 becomes 255; else they are levels of 0 to 255, and clipped.
    """
    largest = max((float(_finite(block).max()) for block in _blocks(levels)), default=0.0)
    scale = np.float32(255 if largest <= 1 else 1)
    eighths = np.empty(levels.shape, np.uint8)
    for block, out in zip(_blocks(levels), _blocks(eighths), strict=True):
        out[...] = np.rint(np.clip(_finite(block) * scale, 0, 255))
    return eighths


def scaled_to_8_bits(levels: NDArray[Any], least: float, most: float) -> UInt8:
    """Levels of any kind as 8 bits: ``least`` becomes 0, ``most`` 255, what is beyond clipped.

    What is not a number becomes 0.
    """
    eighths = np.empty(levels.shape, np.uint8)
    for block, out in zip(_blocks(levels), _blocks(eighths), strict=True):
        shares = (block.astype(np.float64) - least) * (255 / (most - least))
        out[...] = np.rint(np.clip(np.nan_to_num(shares, nan=0, posinf=255, neginf=0), 0, 255))
    return eighths


def _finite(block: Float32) -> Float32:
    return np.nan_to_num(block, nan=0, posinf=0, neginf=0)


def _blocks(levels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of some rows each, so that what is computed of them takes little memory."""
    rows = max(1, _BLOCK * len(levels) // max(1, levels.size))
    for first in range(0, len(levels), rows):
        yield levels[first : first + rows]


def _sample_type(image: Image.Image) -> tuple[int, bool, bool]:
    """Bits of a grey level, whether it is signed, and whether 0 is white."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:  # PNG, PPM, JPEG 2000: Pillow spreads these over 16 bits
        return 16, False, False
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
    inverted = tags.get(_PHOTOMETRIC) == 0
    return bits, signed, inverted


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    """CIE L*a*b* (a TIFF may hold it) as sRGB."""
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("no conversion from LAB to RGB")
    return converted
