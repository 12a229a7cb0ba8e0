"""A mask's PNG file, in any of the three forms that we write, as classes."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import Hw1Error, InputError
from ..pipeline.palette import FOREIGN, NAMES, classes_of
from ..pipeline.records import UInt8


def read_mask(path: Path) -> tuple[UInt8, int]:
    """The classes (H, W) of a mask, and how many of its pixels have a colour that is no class's.

    Such pixels are FOREIGN. RGB and palette PNGs are read by their colours; one with a single
    8-bit channel holds the classes themselves. Raises InputError.
    """
    try:
        with warnings.catch_warnings():
            # A mask of a large image is large: Pillow's warning is about files from strangers.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as image:
                classes = _classes(image, path)
    except (Hw1Error, MemoryError):
        raise
    except Exception as error:  # Pillow raises nearly anything for a damaged chunk
        found = "no PNG image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{path}: expected a PNG mask, found: {found}") from error
    return classes, int(np.count_nonzero(classes == FOREIGN))


def _classes(image: Image.Image, path: Path) -> UInt8:
    if image.mode == "L":
        index = np.array(image)
        index[index >= len(NAMES)] = FOREIGN
        return index
    if image.mode in ("RGB", "RGBA", "P"):
        return classes_of(np.asarray(image.convert("RGB")))
    raise InputError(
        f"{path}: expected a mask of RGB colours, a palette, or 8-bit classes 0 to "
        f"{len(NAMES) - 1}; found a PNG of mode {image.mode}"
    )
