"""Training images with a class in their names, decoded once and held in memory as uint8."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.classes import REFERENCE_CLASSIFIER
from ..core.errors import InputError
from ..core.records import UInt8
from ..evaluation.truth import class_in_name
from ..pipeline.crops import crop
from ..pipeline.formats import SUFFIXES
from .source import fingerprint, hold_out, listing, read_pixels

CLASSES = len(REFERENCE_CLASSIFIER)
ODD_SIDE = 64
"""The side, in pixels, that images of differing sizes are kept at to train on, if not larger."""


@dataclass(frozen=True, slots=True)
class Photos:
    """Images uint8 (N, 3, H, W) and their labels int64 (N,), in the order of ``names``."""

    names: tuple[str, ...]
    images: Tensor
    labels: Tensor
    digest: str

    def __len__(self) -> int:
        return len(self.names)

    def split(self, holdout: int) -> tuple["Photos", "Photos"]:
        """All but ``holdout`` images, and these: the same ones whatever the run's seed."""
        kept, held_out = hold_out(len(self), holdout)
        return self._subset(kept), self._subset(held_out)

    def resized(self, size: int) -> "Photos":
        """The images at size × size pixels, by the pipeline's own resize: as they are scored."""
        if not len(self) or self.images.shape[2:] == (size, size):
            return self
        return Photos(
            self.names,
            _stack(
                crop(np.ascontiguousarray(i.permute(1, 2, 0).numpy()), size) for i in self.images
            ),
            self.labels,
            self.digest,
        )

    def _subset(self, positions: list[int]) -> "Photos":
        names = tuple(self.names[i] for i in positions)
        return Photos(names, self.images[positions], self.labels[positions], self.digest)


def load_photos(
    folder: Path, side: int, *, every_class: bool, tick: Callable[[int, int], None]
) -> Photos:
    """Read a folder of ``{class}_{id}.png`` files (other images' suffixes too).

    Images of one size, not above ``side``, keep it. Else each becomes a square of ``side`` pixels
    when it's read, by the pipeline's own resize. Raises InputError for no images, a name without a
    class or with one beyond the 50, with ``every_class`` for a class without images, and for a
    file that cannot be read. ``tick`` gets how many images of how many are read.
    """
    paths = sorted(path for path in folder.iterdir() if _is_image(path))
    if not paths:
        raise InputError(f"{folder}: no images, files named CLASS_ID.png (12_0450.png)")
    labels = _labels(folder, paths)
    if every_class:
        _check_classes(folder, labels)
    pixels: list[UInt8] = []
    squares = False
    for count, path in enumerate(paths):
        tick(count, len(paths))
        array = read_pixels(path)
        differs = bool(pixels) and array.shape != pixels[0].shape
        if not squares and (differs or max(array.shape[:2]) > side):
            squares, pixels = True, [crop(earlier, side) for earlier in pixels]
        pixels.append(crop(array, side) if squares else array)
    return Photos(
        tuple(path.name for path in paths),
        _stack(pixels),
        torch.tensor(labels),
        fingerprint(paths),
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _labels(folder: Path, paths: list[Path]) -> list[int]:
    """The classes that the names begin with."""
    found = [class_in_name(path.name) for path in paths]
    labels = [label for label in found if label is not None]
    if len(labels) < len(paths):
        wrong = [path.name for path, label in zip(paths, found, strict=True) if label is None]
        raise InputError(
            f"{folder}: {len(wrong)} names do not begin with a class, 0 to {CLASSES - 1}, as in "
            f"12_0450.png: {listing(wrong)}"
        )
    return labels


def _check_classes(folder: Path, labels: list[int]) -> None:
    counts = Counter(labels)
    empty = [str(label) for label in range(CLASSES) if not counts[label]]
    if empty:
        raise InputError(
            f"{folder}: {len(empty)} of the {CLASSES} classes have no image: {listing(empty, 10)}"
        )


def _stack(arrays: Iterable[UInt8]) -> Tensor:
    return torch.from_numpy(np.stack(list(arrays))).permute(0, 3, 1, 2).contiguous()
