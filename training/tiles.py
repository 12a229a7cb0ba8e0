"""Training tiles and their masks, decoded once, checked, and held in memory as uint8."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import InputError
from ..pipeline.formats import SUFFIXES
from ..pipeline.mask_files import read_mask
from ..pipeline.masks import FOREIGN, NAMES, UNKNOWN
from .device import has_room_for
from .source import fingerprint, hold_out, listing, read_pixels

IGNORED = 255
FEW = 0.001
"""The share of pixels with a colour that is no class's up to which it is a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles uint8 (3, H, W), each with its mask uint8 (H, W): classes 0 to 6, or IGNORED."""

    names: tuple[str, ...]
    images: list[Tensor]
    masks: list[Tensor]
    digest: str

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
        return Tiles(self.names, images, [mask.to(device) for mask in self.masks], self.digest)

    def _subset(self, positions: list[int]) -> "Tiles":
        return Tiles(
            tuple(self.names[i] for i in positions),
            [self.images[i] for i in positions],
            [self.masks[i] for i in positions],
            self.digest,
        )


def load_tiles(
    folder: Path, *, warn: Callable[[str], None], tick: Callable[[int, int], None]
) -> Tiles:
    """Read every ``NAME_sat.jpg`` of a folder and its ``NAME_mask.png``.

    Masks may be in any form that hw1 writes. A few pixels whose colour is no class are ignored,
    with a warning, as there is of classes without a pixel; raises InputError for many of them, for
    masks without any class, for no tiles, for masks that are missing, of another size or that
    cannot be read.
    ``tick`` gets how many tiles of how many are read.
    """
    paths = sorted(
        path
        for path in folder.glob("[!.]*_sat.*")  # hidden ones are the system's
        if path.suffix.lower() in SUFFIXES
    )
    if not paths:
        raise InputError(f"{folder}: no tiles, files named NAME_sat.jpg beside NAME_mask.png")
    masks = [path.with_name(mask_name(path.name)) for path in paths]
    missing = [mask.name for mask in masks if not mask.is_file()]
    if missing:
        raise InputError(f"{folder}: {len(missing)} tiles have no mask: {listing(missing)}")
    images, classes = [], []
    for count, (path, mask) in enumerate(zip(paths, masks, strict=True)):
        tick(count, len(paths))
        images.append(torch.from_numpy(read_pixels(path).copy()).permute(2, 0, 1).contiguous())
        classes.append(torch.from_numpy(read_mask(mask)[0]))
    names = tuple(path.name for path in paths)
    tiles = Tiles(names, images, classes, fingerprint([*paths, *masks]))
    _check_sizes(folder, tiles)
    _check_colours(folder, tiles, warn)
    _check_classes(folder, tiles, warn)
    return tiles


def mask_name(tile: str) -> str:
    """The name of a tile's mask: ``0010_mask.png`` for ``0010_sat.jpg``."""
    return Path(tile).stem.removesuffix("_sat") + "_mask.png"


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
        raise InputError(f"{text}. Are these masks in the seven colours of hw1's?")
    warn(f"{text}. They are left out of the loss")


def _check_classes(folder: Path, tiles: Tiles, warn: Callable[[str], None]) -> None:
    seen = {value for mask in tiles.masks for value in torch.unique(mask).tolist()}
    absent = [name for value, name in enumerate(NAMES[:UNKNOWN]) if value not in seen]
    if len(absent) == UNKNOWN:
        raise InputError(
            f"{folder}: no pixel of any mask has a class to learn, {', '.join(NAMES[:UNKNOWN])}: "
            "all are unknown"
        )
    if absent:
        warn(f"{folder}: no pixel of any mask is {' or '.join(absent)}")
