"""The seven land-cover classes and their colours in a mask, as DeepGlobe defines them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .records import UInt8

NAMES: tuple[str, ...] = (
    "urban",
    "agriculture",
    "rangeland",
    "forest",
    "water",
    "barren",
    "unknown",
)

UNKNOWN = 6
"""The class of pixels that nobody labelled: clouds and the like. Never averaged in a score."""

FOREIGN = 255
"""What ``classes_of`` gives for a colour that is no class's."""

COLOURS: UInt8 = np.array(
    [
        [0, 255, 255],
        [255, 255, 0],
        [255, 0, 255],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 255],
        [0, 0, 0],
    ],
    dtype=np.uint8,
)
"""uint8 (7, 3) RGB; row i is the colour of class i."""
COLOURS.setflags(write=False)


def _class_of_bits() -> UInt8:
    """Uint8 (8,): the class of each colour, its channels taken as the bits of a number."""
    table = np.full(8, FOREIGN, dtype=np.uint8)
    bits = (COLOURS >> 7) @ np.array([4, 2, 1], dtype=np.uint8)
    table[bits] = np.arange(len(COLOURS), dtype=np.uint8)
    return table


_CLASS_OF_BITS = _class_of_bits()


def classes_of(rgb: UInt8) -> UInt8:
    """The classes (H, W) of a mask's uint8 (H, W, 3) RGB pixels.

    A channel of 128 and more counts as 255, one below as 0, since masks that went through a lossy
    format are a little off. Of the eight colours that leaves, pure red is no class: FOREIGN.
    """
    high = rgb >> 7
    bits = (high[..., 0] << 2) | (high[..., 1] << 1) | high[..., 2]
    return _lookup(_CLASS_OF_BITS, bits)


def colours_of(classes: UInt8) -> UInt8:
    """The uint8 (H, W, 3) RGB pixels of a mask whose classes, 0 to 6, are uint8 (H, W).

    Raises IndexError for any other class, FOREIGN too.
    """
    return _lookup(COLOURS, classes)


def _lookup(table: UInt8, index: NDArray[Any]) -> UInt8:
    """``table[index]``, in bands: numpy makes an eight-byte number of every index first."""
    found = np.empty((*index.shape, *table.shape[1:]), dtype=np.uint8)
    for top in range(0, len(index), 256):
        found[top : top + 256] = table[index[top : top + 256]]
    return found
