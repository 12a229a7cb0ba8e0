"""Test-time augmentation: a network asked about several views of an image, its answers averaged.

A network's mistakes differ a little from view to view, so their average makes fewer. Each view
costs a forward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from .records import UInt8

if TYPE_CHECKING:
    from torch import Tensor

    Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class View:
    """An image whose sides are ``sixths`` / 6 as long, mirrored left to right or not."""

    sixths: int
    mirrored: bool


VIEWS: Final = (View(6, False), View(5, True), View(4, False))
"""Of a tile. On held-out tiles three sizes gave more than one size and its mirror image."""

GRID: Final = 6 * 32
"""Sides that are multiples of it are multiples of 32, the segmenters' cell, in each view too."""

TILING: Final = {"grid": GRID, "halo": 336}
"""Of ``segment_image``: its own halo is 224, and the smallest view sees 6 / 4 as far."""


def with_mirror(predict: "Callable[[UInt8], Tensor]") -> "Callable[[UInt8], Tensor]":
    """The mean of a classifier's logits (N, C) for uint8 images (N, H, W, 3) and their mirrors."""

    def mean(images: UInt8) -> "Tensor":
        mirrored = np.ascontiguousarray(images[:, :, ::-1])
        return (predict(images) + predict(mirrored)) / 2

    return mean


def with_views(network: "Network") -> "Network":
    """The mean of a segmenter's probabilities, float32 (N, C, H, W), for VIEWS of its inputs.

    Inputs are float (N, 3, H, W), H and W multiples of GRID; ``network`` gets multiples of 32, and
    gives logits. What it says of a smaller view is enlarged, all bilinearly.
    """

    def mean(inputs: "Tensor") -> "Tensor":
        first, *others = VIEWS
        total = _probabilities(network, inputs, first)
        for view in others:
            total += _probabilities(network, inputs, view)
        return total / len(VIEWS)

    return mean


def _probabilities(network: "Network", inputs: "Tensor", view: View) -> "Tensor":
    import torch.nn.functional as F

    full = list(inputs.shape[2:])
    size = [side * view.sixths // 6 for side in full]
    pixels = inputs
    if size != full:
        pixels = F.interpolate(inputs, size, mode="bilinear", antialias=True)
    found = network(pixels.flip(3) if view.mirrored else pixels).float().softmax(1)
    if view.mirrored:
        found = found.flip(3)
    return found if size == full else F.interpolate(found, full, mode="bilinear")
