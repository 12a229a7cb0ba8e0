"""Makes 8-bit RGB of whatever a decoder gives: rotated, palette, CMYK, 16-bit, float."""

from typing import Final

import numpy as np
from PIL import ExifTags, Image

from ..core.records import UInt8

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
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
        image = Image.fromarray(_floats_to_8_bits(image))
    elif image.mode.startswith("I"):
        image = Image.fromarray(_integers_to_8_bits(image))
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How to turn the pixels upright; None where the EXIF data says nothing, or is damaged.

    ImageOps.exif_transpose raises for damaged EXIF data, whose pixels may be faultless.
    """
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:
        return None


def _integers_to_8_bits(image: Image.Image) -> UInt8:
    """Grey levels of 12, 16 or 32 bits as 8 bits: the range of the file's type becomes 0 to 255.

    Pillow's convert would clip them at 255 instead.
    """
    bits, signed, inverted = _sample_type(image)
    levels = np.asarray(image, np.int32)
    if signed:
        levels = np.maximum(levels, 0) << 1
    if inverted:
        levels = ~levels
    high: UInt8 = (levels.view(np.uint32) >> (bits - 8)).astype(np.uint8)  # modulo 256
    return high


def _floats_to_8_bits(image: Image.Image) -> UInt8:
    """Float grey levels as 8 bits; what is not finite becomes 0.

    Where no level is above 1, 1.0 becomes 255; else they are levels of 0 to 255, and clipped.
    """
    levels = np.nan_to_num(np.asarray(image, np.float32), nan=0, posinf=0, neginf=0)
    scale = np.float32(255 if levels.max() <= 1 else 1)
    grey: UInt8 = np.rint(np.clip(levels * scale, 0, 255)).astype(np.uint8)
    return grey


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
