"""Training images with a class in their names, decoded once and held in memory as uint8."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.classes import Classes
from ..core.errors import InputError
from ..core.preprocessing import Framing, Preprocessing, Sides
from ..core.records import UInt8
from ..pipeline.crops import crop
from .labelled import Labelled, find_labelled
from .source import fingerprint, hold_out, listing, read_pixels


@dataclass(frozen=True, slots=True)
class Photos:
    """Images uint8 (N, 3, H, W) and their labels int64 (N,), in the order of ``names``.

    ``sizes`` are the files' own, height and width.
    """

    names: tuple[str, ...]
    images: Tensor
    labels: Tensor
    digest: str
    classes: Classes
    sizes: frozenset[Sides] = frozenset()

    def __len__(self) -> int:
        return len(self.names)

    def split(self, holdout: int) -> tuple["Photos", "Photos"]:
        """All but ``holdout`` images, and these: the same ones whatever the run's seed."""
        kept, held_out = hold_out(len(self), holdout)
        return self._subset(kept), self._subset(held_out)

    def resized(self, framing: Framing | int) -> "Photos":
        """The images in a framing (a number: squares), by the pipeline's own: as scored."""
        sides = (framing, framing) if isinstance(framing, int) else framing.size
        if not len(self) or tuple(self.images.shape[2:]) == sides:
            return self
        arrays = (np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in self.images)
        return replace(self, images=_stack(crop(array, framing) for array in arrays))

    def prepared(self, preprocessing: Preprocessing) -> Preprocessing:
        """The same; where all images are smaller than the input, larger ones are to be shrunk.

        A network that was trained on enlarged images alone takes fine detail for something else.
        """
        assert preprocessing.sides is not None, "only a classifier has an input's size"
        target = preprocessing.resize or preprocessing.sides
        if isinstance(target, int):
            least = max(map(min, self.sizes))
            return replace(preprocessing, shrink=least) if least < target else preprocessing
        height, width = (max(sides) for sides in zip(*self.sizes, strict=True))
        if height >= target[0] or width >= target[1]:
            return preprocessing
        return replace(preprocessing, shrink=(height, width))

    def _subset(self, positions: list[int]) -> "Photos":
        names = tuple(self.names[i] for i in positions)
        images, labels = self.images[positions], self.labels[positions]
        return replace(self, names=names, images=images, labels=labels)


def load_photos(
    folder: Path,
    framing: Framing | int,
    *,
    every_class: bool,
    tick: Callable[[int, int], None],
    classes: Classes | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Photos:
    """Read the labelled images of a folder or a CSV: see `find_labelled`.

    ``framing`` is what is kept of an image; of a number, the side of squares, images of one size
    that isn't above it keep that. Raises InputError for no images, for labels that are none, with
    ``every_class`` for a class without images, and for a file that cannot be read. ``tick`` gets
    how many images of how many are read, ``say`` what was found.
    """
    found = find_labelled(folder, classes)
    say(found.summary(folder))
    if every_class:
        _check_classes(folder, found)
    pixels: list[UInt8] = []
    sizes: set[Sides] = set()
    squares = not isinstance(framing, int)
    for count, path in enumerate(found.paths):
        tick(count, len(found.paths))
        array = read_pixels(path)
        sizes.add((array.shape[0], array.shape[1]))
        differs = bool(pixels) and array.shape != pixels[0].shape
        if isinstance(framing, int) and not squares and (differs or max(array.shape[:2]) > framing):
            squares, pixels = True, [crop(earlier, framing) for earlier in pixels]
        pixels.append(crop(array, framing) if squares else array)
    return Photos(
        found.names,
        _stack(pixels),
        torch.tensor(found.labels),
        fingerprint(found.paths, found.names),
        found.classes,
        frozenset(sizes),
    )


def _check_classes(folder: Path, found: Labelled) -> None:
    counts, total = Counter(found.labels), len(found.classes)
    empty = [
        str(label) if name == str(label) or found.how == "their names" else name
        for label, name in enumerate(found.classes.names)
        if not counts[label]
    ]
    if empty:
        raise InputError(
            f"{folder}: {len(empty)} of the {total} classes have no image: {listing(empty, 10)}. "
            "Give images of each, or name the classes that there are (numbers begin with 0)"
        )


def _stack(arrays: Iterable[UInt8]) -> Tensor:
    return torch.from_numpy(np.stack(list(arrays))).permute(0, 3, 1, 2).contiguous()
