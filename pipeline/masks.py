"""Masks: classes as colours, those of DeepGlobe where a checkpoint has no others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.classes import REFERENCE_SEGMENTER, Classes
from ..core.records import UInt8

NAMES = REFERENCE_SEGMENTER.names

UNKNOWN = 6
"""The class of pixels that nobody labelled: clouds and the like. Never averaged in a score."""

FOREIGN = 255
"""What ``classes_of`` gives for a colour that is no class's."""

COLOURS: UInt8 = np.array(REFERENCE_SEGMENTER.colours, dtype=np.uint8)
"""uint8 (7, 3) RGB; row i is the colour of class i of the reference's segmenters."""
COLOURS.setflags(write=False)


def _class_of_bits() -> UInt8:
    """Uint8 (8,): the class of each colour, its channels taken as the bits of a number."""
    table = np.full(8, FOREIGN, dtype=np.uint8)
    bits = (COLOURS >> 7) @ np.array([4, 2, 1], dtype=np.uint8)
    table[bits] = np.arange(len(COLOURS), dtype=np.uint8)
    return table


_CLASS_OF_BITS = _class_of_bits()


def classes_of(rgb: UInt8, classes: Classes = REFERENCE_SEGMENTER) -> UInt8:
    """The classes (H, W) of a mask's uint8 (H, W, 3) RGB pixels; FOREIGN where a colour is none's.

    Of the reference's colours a channel of 128 and more counts as 255, one below as 0, since masks
    that went through a lossy format are a little off; pure red is no class. Others match exactly.
    """
    if classes.colours == REFERENCE_SEGMENTER.colours:
        high = rgb >> 7
        bits = (high[..., 0] << 2) | (high[..., 1] << 1) | high[..., 2]
        return _lookup(_CLASS_OF_BITS, bits)
    codes = _codes(palette_of(classes))
    order = np.argsort(codes)
    found = np.full(rgb.shape[:2], FOREIGN, np.uint8)
    for top in range(0, len(rgb), 256):
        pixels = _codes(rgb[top : top + 256])
        at = np.minimum(np.searchsorted(codes, pixels, sorter=order), len(codes) - 1)
        same = codes[order[at]] == pixels
        found[top : top + 256][same] = order[at][same]
    return found


def colours_of(index: UInt8, classes: Classes = REFERENCE_SEGMENTER) -> UInt8:
    """The uint8 (H, W, 3) RGB pixels of a mask whose classes are uint8 (H, W).

    Raises IndexError for one that isn't among ``classes``, FOREIGN too.
    """
    return _lookup(palette_of(classes), index)


def palette_of(classes: Classes) -> UInt8:
    """uint8 (classes, 3) RGB: row i is the colour of class i, its own or one of VOC's."""
    return np.array(classes.coloured().colours, np.uint8)


def _codes(rgb: UInt8) -> NDArray[np.int32]:
    wide = rgb.astype(np.int32)
    codes: NDArray[np.int32] = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return codes


def _lookup(table: UInt8, index: NDArray[Any]) -> UInt8:
    """``table[index]``, in bands: numpy makes an eight-byte number of every index first."""
    found = np.empty((*index.shape, *table.shape[1:]), dtype=np.uint8)
    for top in range(0, len(index), 256):
        found[top : top + 256] = table[index[top : top + 256]]
    return found
