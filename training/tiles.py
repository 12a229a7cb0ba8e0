"""Training tiles and their masks, decoded once, checked, and held in memory as uint8."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.classes import REFERENCE_SEGMENTER, Classes
from ..core.errors import InputError
from ..pipeline.mask_files import MaskReader
from ..pipeline.masks import FOREIGN
from .device import has_room_for
from .masks import find_classes, find_tiles
from .source import fingerprint, hold_out, listing, read_pixels

IGNORED = 255
_SHOWN = 12
FEW = 0.001
"""The share of pixels with a colour that is no class's up to which it is a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles uint8 (3, H, W), each with its mask uint8 (H, W): classes, or IGNORED."""

    names: tuple[str, ...]
    images: list[Tensor]
    masks: list[Tensor]
    digest: str
    classes: Classes = REFERENCE_SEGMENTER

    def __len__(self) -> int:
        return len(self.names)

    def split(self, holdout: int) -> tuple["Tiles", "Tiles"]:
        """All but ``holdout`` tiles, and these: the same ones whatever the run's seed."""
        kept, held_out = hold_out(len(self), holdout)
        return self._subset(kept), self._subset(held_out)

    def on_device(self, device: torch.device) -> "Tiles":
        """The same tiles, on the device where that is a GPU with room enough for them."""
        if not has_room_for([*self.images, *self.masks], device):
            return self
        images = [image.to(device) for image in self.images]
        masks = [mask.to(device) for mask in self.masks]
        return Tiles(self.names, images, masks, self.digest, self.classes)

    def _subset(self, positions: list[int]) -> "Tiles":
        return Tiles(
            tuple(self.names[i] for i in positions),
            [self.images[i] for i in positions],
            [self.masks[i] for i in positions],
            self.digest,
            self.classes,
        )


def load_tiles(
    folder: Path,
    *,
    warn: Callable[[str], None],
    tick: Callable[[int, int], None],
    classes: Classes | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Tiles:
    """Read the tiles of a folder and their masks: see `find_tiles`.

    Masks may be by colour or by index. ``classes`` may be a file, or None: see `find_classes`. A
    few pixels whose colour is no class are ignored, with a warning, as there is of classes without
    a pixel; raises InputError for many of them, for masks without any class, for no tiles, for
    masks that are missing, of another size or that cannot be read.
    ``tick`` gets how many tiles of how many are read, ``say`` what was found.
    """
    paths, files = find_tiles(folder)
    origin = "the training masks"
    if not isinstance(classes, Classes):
        classes, origin = find_classes(classes, folder, files)
    reader = MaskReader(classes)
    images: list[Tensor] = []
    masks: dict[int, Tensor] = {}
    for count, (path, file) in enumerate(zip(paths, files, strict=True)):
        tick(count, len(paths))
        images.append(torch.from_numpy(read_pixels(path).copy()).permute(2, 0, 1).contiguous())
        if (mask := reader.try_read(file)) is not None:
            masks[count] = torch.from_numpy(mask.classes)
    for count, file in enumerate(files):
        if count not in masks:  # the others have said what it holds
            masks[count] = torch.from_numpy(reader.read(file).classes)
    names = tuple(path.name for path in paths)
    in_order = [masks[count] for count in range(len(files))]
    tiles = Tiles(names, images, in_order, fingerprint([*paths, *files]), classes)
    say(_summary(folder, tiles, reader, origin))
    _check_sizes(folder, tiles)
    _check_colours(folder, tiles, warn)
    _check_classes(folder, tiles, warn)
    return tiles


def _summary(folder: Path, tiles: Tiles, reader: MaskReader, origin: str) -> str:
    counts = [
        f"{name} {sum(bool((mask == index).any()) for mask in tiles.masks)}"
        for index, name in enumerate(tiles.classes.names)
    ]
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return (
        f"{folder}: {len(tiles)} tiles, masks by {reader.by or 'colour'}; {len(counts)} classes of "
        f"{origin}, in so many tiles: {', '.join(counts[:_SHOWN])}{more}"
    )


def _check_sizes(folder: Path, tiles: Tiles) -> None:
    differ = [
        f"{name} ({image.shape[2]} × {image.shape[1]}, its mask {mask.shape[1]} × {mask.shape[0]})"
        for name, image, mask in zip(tiles.names, tiles.images, tiles.masks, strict=True)
        if image.shape[1:] != mask.shape
    ]
    if differ:
        raise InputError(
            f"{folder}: {len(differ)} tiles and their masks differ in size: {listing(differ)}"
        )


def _check_colours(folder: Path, tiles: Tiles, warn: Callable[[str], None]) -> None:
    # FOREIGN is 255, as is IGNORED: such pixels need no rewriting to be left out of the loss.
    assert FOREIGN == IGNORED
    counts = {
        name: int((mask == FOREIGN).sum())
        for name, mask in zip(tiles.names, tiles.masks, strict=True)
    }
    files = [name for name, count in counts.items() if count]
    if not files:
        return
    pixels, total = sum(counts.values()), sum(mask.numel() for mask in tiles.masks)
    text = (
        f"{folder}: {pixels:,} of {total:,} mask pixels, in {len(files)} files, have a colour "
        f"that is no class: {listing(files)}"
    )
    if pixels > FEW * total:
        raise InputError(
            f"{text}. Are these masks in the classes' colours? --classes FILE lists others"
        )
    warn(f"{text}. They are left out of the loss")


def _check_classes(folder: Path, tiles: Tiles, warn: Callable[[str], None]) -> None:
    seen = {value for mask in tiles.masks for value in torch.unique(mask).tolist()}
    classes = tiles.classes
    known = [(i, name) for i, name in enumerate(classes.names) if i != classes.unlabelled]
    absent = [name for index, name in known if index not in seen]
    names = ", ".join(name for _, name in known[:_SHOWN])
    if len(absent) == len(known):
        raise InputError(
            f"{folder}: no pixel of any mask has a class to learn, {names}: all are unknown"
        )
    if absent:
        warn(f"{folder}: no pixel of any mask is {' or '.join(absent[:_SHOWN])}")
