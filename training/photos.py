"""Training images with a class in their names, decoded once and held in memory as uint8."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.classes import Classes
from ..core.errors import InputError
from ..core.preprocessing import Framing
from ..core.records import UInt8
from ..pipeline.crops import crop
from .labelled import Labelled, find_labelled
from .source import fingerprint, hold_out, listing, read_pixels


@dataclass(frozen=True, slots=True)
class Photos:
    """Images uint8 (N, 3, H, W) and their labels int64 (N,), in the order of ``names``."""

    names: tuple[str, ...]
    images: Tensor
    labels: Tensor
    digest: str
    classes: Classes

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
        return Photos(
            self.names,
            _stack(
                crop(np.ascontiguousarray(i.permute(1, 2, 0).numpy()), framing) for i in self.images
            ),
            self.labels,
            self.digest,
            self.classes,
        )

    def _subset(self, positions: list[int]) -> "Photos":
        names = tuple(self.names[i] for i in positions)
        return Photos(
            names, self.images[positions], self.labels[positions], self.digest, self.classes
        )


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
    squares = not isinstance(framing, int)
    for count, path in enumerate(found.paths):
        tick(count, len(found.paths))
        array = read_pixels(path)
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
