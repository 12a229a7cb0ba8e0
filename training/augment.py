"""Augmentation in batched torch: every random number comes from one CPU generator.

So a run's pixels depend on its seed alone, not on the device or on worker processes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .device import to_device

Mix = Literal["none", "mixup", "cutmix"]
Augment = Literal["usual", "strong"]
MIXED = 0.5
"""The share of batches that are mixed: all of them would never show what is to be scored."""


def _uniform(generator: Generator, n: int, low: float, high: float) -> Tensor:
    return torch.empty(n).uniform_(low, high, generator=generator)


def _colours(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Change each image's brightness and contrast by up to ``strength``; float (N, 3, H, W)."""
    n, device = len(images), images.device
    factors = [
        to_device(_uniform(generator, n, 1 - strength, 1 + strength).view(-1, 1, 1, 1), device)
        for _ in range(2)
    ]
    mean = images.mean((1, 2, 3), keepdim=True)
    return ((images - mean) * factors[0] + mean) * factors[1]


def _light(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Change each image's saturation by up to ``strength``, each channel by up to a fifth of it.

    Land of one class has another tint in another season or haze, and few tiles show few of them.
    """
    n, device = len(images), images.device
    grey = images.mean(1, keepdim=True)
    saturation = to_device(
        _uniform(generator, n, 1 - strength, 1 + strength).view(-1, 1, 1, 1), device
    )
    least, most = 1 - strength / 5, 1 + strength / 5
    tint = to_device(_uniform(generator, 3 * n, least, most).view(-1, 3, 1, 1), device)
    return ((images - grey) * saturation + grey) * tint


@dataclass(frozen=True, slots=True)
class _Changes:
    """How far photos are changed at random.

    ``area`` is the range of a crop's share of the photo's area, ``aspect`` the largest exponent of
    its aspect ratio, e^±aspect, ``turn`` the largest angle in degrees; ``colours`` and ``light``
    are the strengths of the functions of that name.
    """

    area: tuple[float, float]
    aspect: float
    turn: float
    colours: float
    light: float


_CHANGES: Final[dict[Augment, _Changes]] = {
    "usual": _Changes((0.6, 1.1), aspect=0.3, turn=0, colours=0.2, light=0),
    "strong": _Changes((0.4, 1.1), aspect=0.4, turn=15, colours=0.4, light=0.5),
}


def photos(images: Tensor, side: int, generator: Generator, how: Augment = "usual") -> Tensor:
    """Photos uint8 (N, 3, H, W) as float crops (N, 3, side, side), about 0 to 255, at random.

    Flipped, cropped to 60 to 100 % of their area (or a little beyond, reflected) at aspect ratios
    of e^±0.3, brighter or darker and of another contrast by up to a fifth. ``strong``: 40 to
    100 %, e^±0.4, turned by up to 15 degrees, two fifths, and of another saturation and tint.
    """
    n, device = len(images), images.device
    changes = _CHANGES[how]
    flipped = to_device((torch.rand(n, generator=generator) < 0.5).view(-1, 1, 1, 1), device)
    images = torch.where(flipped, images.flip(3), images)
    grid = F.affine_grid(
        to_device(_crops(n, changes, generator), device), [n, 3, side, side], align_corners=False
    )
    crops = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
    crops = _colours(crops, generator, changes.colours)
    return _light(crops, generator, changes.light) if changes.light else crops


def _crops(n: int, changes: _Changes, generator: Generator) -> Tensor:
    """Where ``n`` crops lie in their photos, as F.affine_grid wants it: float (n, 2, 3)."""
    scale = _uniform(generator, n, *changes.area).sqrt()
    aspect = _uniform(generator, n, -changes.aspect / 2, changes.aspect / 2).exp()
    affine = torch.zeros(n, 2, 3)
    for axis, extent in enumerate((scale * aspect, scale / aspect)):
        affine[:, axis, axis] = extent
        affine[:, axis, 2] = _uniform(generator, n, -1, 1) * (1 - extent).abs()
    if changes.turn:
        angle = math.pi / 180 * _uniform(generator, n, -changes.turn, changes.turn)
        cosine, sine = angle.cos(), angle.sin()
        turn = torch.stack([cosine, -sine, sine, cosine], 1).view(n, 2, 2)
        affine[:, :, :2] = turn @ affine[:, :, :2]
    return affine


def tiles(
    images: Sequence[Tensor],
    masks: Sequence[Tensor],
    crop: tuple[int, int],
    side: int,
    generator: Generator,
    colours: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Crops at random of tiles uint8 (3, H, W) and their masks (H, W), shrunk to ``side``.

    Crops are squares with sides of ``crop[0]`` to ``crop[1]`` pixels (at most the tile's),
    turned by quarters, flipped, brighter or darker and of another contrast by up to a fifth, of
    another saturation and tint, each ``colours`` as much as that. Returns float
    (N, 3, side, side), about 0 to 255, and int64 (N, side, side).
    """
    pixels, classes = [], []
    for image, mask in zip(images, masks, strict=True):
        height, width = mask.shape
        most = min(crop[1], height, width)
        extent = _integer(generator, min(crop[0], most), most)
        top = _integer(generator, 0, height - extent)
        left = _integer(generator, 0, width - extent)
        window = (slice(top, top + extent), slice(left, left + extent))
        piece = F.interpolate(
            image[:, window[0], window[1]][None].float(),
            (side, side),
            mode="bilinear",
            antialias=True,
        )
        truth = F.interpolate(mask[window][None, None], (side, side), mode="nearest-exact")
        turns, flip = _integer(generator, 0, 3), _integer(generator, 0, 1)
        piece, truth = piece.rot90(turns, (2, 3)), truth.rot90(turns, (2, 3))
        pixels.append(piece.flip(3) if flip else piece)
        classes.append((truth.flip(3) if flip else truth)[:, 0])
    lit = _light(_colours(torch.cat(pixels), generator, 0.2 * colours), generator, 0.5 * colours)
    return lit, torch.cat(classes).long()


def _integer(generator: Generator, low: int, high: int) -> int:
    """An integer from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def mix(images: Tensor, targets: Tensor, how: Mix, generator: Generator) -> tuple[Tensor, Tensor]:
    """Blend each image (N, 3, H, W) and its class probabilities (N, C) with another one's.

    ``mixup`` adds them up (Zhang et al. 2018, alpha 0.2), ``cutmix`` pastes a rectangle (Yun et
    al. 2019, alpha 1); ``none``, and half of the batches, are returned as they are. torchvision's
    MixUp and CutMix draw from the global generator, and so wouldn't depend on ``generator`` alone.
    """
    if how == "none" or float(torch.rand((), generator=generator)) >= MIXED:
        return images, targets
    n, _, height, width = images.shape
    other = to_device(torch.randperm(n, generator=generator), images.device)
    if how == "mixup":
        share = _beta(0.2, generator)
        images = share * images + (1 - share) * images[other]
    else:
        cut = (1 - _beta(1.0, generator)) ** 0.5
        rows, columns = round(cut * height), round(cut * width)
        top, left = _integer(generator, 0, height - rows), _integer(generator, 0, width - columns)
        images = images.clone()
        window = (..., slice(top, top + rows), slice(left, left + columns))
        images[window] = images[other][window]
        share = 1 - rows * columns / (height * width)
    return images, share * targets + (1 - share) * targets[other]


def _beta(alpha: float, generator: Generator) -> float:
    """A draw of Beta(alpha, alpha), by Jöhnk's method (torch's own takes no generator)."""
    while True:
        x, y = (torch.rand(2, generator=generator, dtype=torch.float64) ** (1 / alpha)).tolist()
        if 0 < x + y <= 1:
            return float(x / (x + y))
