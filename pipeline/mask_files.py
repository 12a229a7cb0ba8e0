"""Masks as PNG files: read by the colours of their classes, or by the classes' indices."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..core.classes import REFERENCE_SEGMENTER, Classes
from ..core.errors import Hw1Error, InputError
from ..core.records import UInt8
from .masks import FOREIGN, classes_of, palette_of

By = Literal["colour", "index"]
"""What a pixel of a mask holds: its class's colour, or its class's index."""

_MODES = ("1", "L", "P", "RGB", "RGBA", "I", "I;16")
_SOME = 3
_FAR = 64  # from 0 and from 255: what lossy formats change is less


@dataclass(frozen=True, slots=True)
class Mask:
    """The classes, uint8 (H, W), of a mask; ``foreign`` pixels have no class's, and are FOREIGN."""

    classes: UInt8
    foreign: int


@dataclass(frozen=True, slots=True)
class _Looked:
    """A file's pixels, and what says whether they are colours or indices.

    ``by`` None: either would do, as of a black grey image, and ``usual`` is what it is alone.
    """

    path: Path
    pixels: UInt8
    palette: UInt8 | None
    by: By | None
    usual: By


class MaskReader:
    """Reads the masks of one folder, all by colour or all by index.

    A palette that holds the classes' colours is read by these, any other PNG with one channel by
    index; 255 then is no class. RGB is read by colour, unless it's grey and holds indices alone.
    Where a file would do as either, the others of its folder decide.
    """

    def __init__(self, classes: Classes = REFERENCE_SEGMENTER) -> None:
        self.classes = classes
        self.by: By | None = None
        self._first: Path | None = None

    def try_read(self, path: Path) -> Mask | None:
        """A mask; None where only the folder's others can say what it holds: `read` it last."""
        looked = self._look(path)
        return None if looked.by is None and self.by is None else self._read(looked)

    def kind(self, path: Path) -> By | None:
        """What a mask alone holds; None where either would do. Raises InputError."""
        return self._look(path).by

    def read(self, path: Path) -> Mask:
        """A mask. Raises InputError for what is none, and for colours where others hold indices."""
        return self._read(self._look(path))

    def _read(self, looked: _Looked) -> Mask:
        by = looked.by or self.by or looked.usual
        if looked.by and self.by and looked.by != self.by:
            raise InputError(
                f"{looked.path} holds {_described(looked)}, where {self._first} holds "
                f"{'colours' if self.by == 'colour' else 'indices'}: expected masks of one kind in "
                "a folder"
            )
        if looked.by and self.by is None:
            self.by, self._first = by, looked.path
        found = self._by_colour(looked) if by == "colour" else self._by_index(looked)
        return Mask(found, int(np.count_nonzero(found == FOREIGN)))

    def _by_colour(self, looked: _Looked) -> UInt8:
        pixels = looked.pixels
        if looked.palette is not None:
            table = classes_of(looked.palette[None], self.classes)[0]
            full = np.full(256, FOREIGN, np.uint8)
            full[: len(table)] = table
            return np.take(full, pixels)
        if pixels.ndim == 2:
            grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
            return np.take(classes_of(grey, self.classes)[0], pixels)
        return classes_of(pixels, self.classes)

    def _by_index(self, looked: _Looked) -> UInt8:
        index = looked.pixels if looked.pixels.ndim == 2 else looked.pixels[..., 0]
        return np.where(index < len(self.classes), index, FOREIGN).astype(np.uint8)

    def _look(self, path: Path) -> _Looked:
        with _opened(path) as image:
            if image.mode not in _MODES:
                raise InputError(
                    f"{path}: expected a mask of RGB colours, a palette, or 8-bit classes; found "
                    f"a PNG of mode {image.mode}"
                )
            if image.mode == "P":
                palette = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
                return self._look_at_palette(path, np.array(image), palette)
            if image.mode in ("RGB", "RGBA"):
                return self._look_at_colours(path, np.array(image.convert("RGB")))
            pixels = np.array(image.convert("L") if image.mode == "1" else image)
        narrow = np.where(pixels < FOREIGN, pixels, FOREIGN).astype(np.uint8)
        return _Looked(path, narrow, None, self._kind_of_grey(np.unique(narrow)), "index")

    def _look_at_palette(self, path: Path, pixels: UInt8, palette: UInt8) -> _Looked:
        colours = {tuple(row) for row in palette_of(self.classes).tolist()}
        used = {tuple(row) for row in palette[np.unique(pixels[pixels < len(palette)])].tolist()}
        held = colours & {tuple(row) for row in palette.tolist()}
        plain = all(map(_is_grey, colours))  # which a palette of greys holds whatever it is for
        if (held == colours and (not plain or used <= colours)) or (
            used <= colours and not all(map(_is_grey, used))
        ):
            return _Looked(path, pixels, palette, "colour", "colour")
        # Colours of a class are the whole of it: an optimised palette has no others.
        only = used <= colours and len(used) < len(colours) and len(palette) < len(colours)
        return _Looked(path, pixels, palette, None if only else "index", "index")

    def _look_at_colours(self, path: Path, pixels: UInt8) -> _Looked:
        first = pixels[..., 0]
        is_grey = (pixels[:1] == pixels[:1, :, :1]).all() and (pixels == first[..., None]).all()
        if not is_grey:
            return _Looked(path, pixels, None, "colour", "colour")
        kind = self._kind_of_grey(np.unique(first))
        held = set(np.unique(first).tolist())
        if kind == "index" and held - {FOREIGN} <= set(range(len(self.classes))):
            return _Looked(path, pixels, None, "index", "colour")
        return _Looked(path, pixels, None, None if held == {0} else "colour", "colour")

    def _kind_of_grey(self, values: UInt8) -> By | None:
        """Of an image with one channel that has these values."""
        held = set(values.tolist())
        palette = palette_of(self.classes).tolist()
        grey = {colour[0]: index for index, colour in enumerate(palette) if _is_grey(colour)}
        as_colours = held <= set(grey)
        as_indices = held - {FOREIGN} <= set(range(len(palette)))
        if as_colours and as_indices:
            if all(grey[value] == value for value in held):
                return None
            return "colour" if len(grey) == len(palette) else None
        return "colour" if as_colours else "index"


def require_reference(mask: Path) -> None:
    """Raise InputError where most pixels of a mask are far from the reference's colours.

    Its rule, a channel from 128 on is 1, would make some class of any colour.
    """
    with Image.open(mask) as image:
        pixels = np.array(image.convert("RGB")).reshape(-1, 3)
    far = ((pixels > _FAR) & (pixels < FOREIGN - _FAR)).any(1)
    if far.mean() > 1 / 2:
        red, green, blue = pixels[far.argmax()].tolist()
        raise InputError(
            f"{mask} has colours such as {red},{green},{blue}, which aren't those of the seven "
            "kinds of land cover: list the masks' classes as name,r,g,b in a classes.csv beside "
            "them, or in --classes FILE"
        )


def read_mask(path: Path, classes: Classes = REFERENCE_SEGMENTER) -> tuple[UInt8, int]:
    """The classes (H, W) of one mask, and how many of its pixels are of none, FOREIGN."""
    mask = MaskReader(classes).read(path)
    return mask.classes, mask.foreign


def values_of(path: Path) -> tuple[set[tuple[int, ...]], bool]:
    """The colours of a mask, or the one-channel values; and whether it has a palette.

    Of a palette those colours that pixels have. Raises InputError.
    """
    with _opened(path) as image:
        has_palette = image.mode == "P"
        if image.mode in ("RGB", "RGBA"):
            pixels = np.array(image.convert("RGB")).reshape(-1, 3)
            codes = pixels.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
            found = [(c >> 16, c >> 8 & 255, c & 255) for c in np.unique(codes).tolist()]
            return set(found), has_palette
        values = np.unique(np.array(image.convert("L") if image.mode == "1" else image)).tolist()
    return {(int(value),) for value in values}, has_palette


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # A mask of a large image is large: Pillow's warning is about files from strangers.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as image:
                yield image
    except (Hw1Error, MemoryError):
        raise
    except Exception as error:  # Pillow raises nearly anything for a damaged chunk
        found = "no PNG image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{path}: expected a PNG mask, found: {found}") from error


def _is_grey(colour: Iterable[int]) -> bool:
    return len(set(colour)) == 1


def _described(looked: _Looked) -> str:
    if looked.by == "colour":
        return "colours"
    first = looked.pixels if looked.pixels.ndim == 2 else looked.pixels[..., 0]
    values = [f"{value}" for value in np.unique(first).tolist()]
    return f"indices ({', '.join(values[:_SOME])}{', …' if len(values) > _SOME else ''})"
