"""What a classifier sees of a photo: resized as its checkpoint says, and its middle cropped."""

import math
from typing import Final

import numpy as np
from PIL import Image

from ..core.preprocessing import Framing, Interpolation, Sides
from ..core.records import UInt8

_RESAMPLING: Final[dict[Interpolation, Image.Resampling]] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_MOST_PIXELS: Final = 2**25
"""Of a resized image: one of 1 × 65,000 pixels would have 4 billion, of which a few are seen."""


def crop(image: Image.Image | UInt8, framing: Framing | int) -> UInt8:
    """An RGB image as uint8 (height, width, 3), in a framing; a number is that of a square.

    The same pixels as torchvision's Resize (antialiased) and CenterCrop of a PIL image: what the
    crop needs beyond the resized image's edges is black.
    """
    if isinstance(framing, int):
        framing = Framing((framing, framing))
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if framing.shrink is not None:
        picture = _shrunk(picture, framing.shrink, framing.interpolation)
    height, width = resized_sides(picture, framing.resize or framing.size)
    tall, wide = framing.size
    top, left = round((height - tall) / 2), round((width - wide) / 2)
    resampling = _RESAMPLING[framing.interpolation]
    if height * width > _MOST_PIXELS:
        return np.asarray(_part(picture, (height, width), framing, resampling))
    resized = resize(picture, (height, width), framing.interpolation)
    if (height, width) == framing.size:
        return np.asarray(resized)
    if height < tall or width < wide:  # as torchvision divides an odd number of black pixels
        top, left = (
            -((tall - height) // 2) if height < tall else top,
            (-((wide - width) // 2) if width < wide else left),
        )
    return np.asarray(resized.crop((left, top, left + wide, top + tall)))


def _shrunk(image: Image.Image, shrink: int | Sides, how: Interpolation) -> Image.Image:
    """The image where it isn't larger, else at that size."""
    sides = resized_sides(image, shrink)
    if sides[0] >= image.height and sides[1] >= image.width:
        return image
    return resize(image, (max(1, sides[0]), max(1, sides[1])), how)


def resize(image: Image.Image, sides: Sides, interpolation: Interpolation) -> Image.Image:
    """The image at another height and width, antialiased."""
    return image.resize((sides[1], sides[0]), _RESAMPLING[interpolation])


def resized_sides(image: Image.Image, resize: int | Sides) -> Sides:
    """Height and width of an image after its resize: a number is that of the shorter side."""
    if isinstance(resize, tuple):
        return resize
    width, height = image.size
    longer = int(resize * max(width, height) / min(width, height))
    return (longer, resize) if width <= height else (resize, longer)


def longest_side(framing: Framing) -> int:
    """The larger side, in pixels, that an image must have for its framing to lose nothing."""
    if framing.shrink is not None:
        return max(_pair(framing.shrink))
    return max(*framing.size, *_pair(framing.resize or framing.size))


def _pair(sides: int | Sides) -> Sides:
    return sides if isinstance(sides, tuple) else (sides, sides)


def _part(
    image: Image.Image, sides: Sides, framing: Framing, resampling: Image.Resampling
) -> Image.Image:
    """The middle of a resized image that is too large to be made whole."""
    shape = [min(side, whole) for side, whole in zip(framing.size, sides, strict=True)]
    starts = [round((whole - side) / 2) for whole, side in zip(sides, shape, strict=True)]
    scales = image.height / sides[0], image.width / sides[1]
    top, left = (start * scale for start, scale in zip(starts, scales, strict=True))
    lower, right = (
        min(edge, (start + side) * scale)
        for edge, start, side, scale in zip(
            (image.height, image.width), starts, shape, scales, strict=True
        )
    )
    part = image.resize((shape[1], shape[0]), resampling, box=(left, top, right, lower))
    if tuple(shape) == framing.size:
        return part
    offsets = [math.floor((s - has) / 2) for s, has in zip(framing.size, shape, strict=True)]
    blank = Image.new("RGB", (framing.size[1], framing.size[0]))
    blank.paste(part, (offsets[1], offsets[0]))
    return blank
