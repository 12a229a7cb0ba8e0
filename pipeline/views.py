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

STRIDE: Final = 32


@dataclass(frozen=True, slots=True)
class View:
    """An image shrunk by ``factor``, mirrored left to right or not."""

    factor: float
    mirrored: bool


VIEWS: Final = (View(1.0, False), View(5 / 6, True), View(2 / 3, False))
"""Of a tile: chosen on tiles that were kept apart in training (see weights/MODEL_CARD.md)."""

REACH: Final = 1 / min(view.factor for view in VIEWS)
"""What a network sees further in the smallest view than in the image as it is."""


def with_mirror(predict: "Callable[[UInt8], Tensor]") -> "Callable[[UInt8], Tensor]":
    """The mean of a classifier's logits (N, C) for uint8 images (N, H, W, 3) and their mirrors."""

    def mean(images: UInt8) -> "Tensor":
        mirrored = np.ascontiguousarray(images[:, :, ::-1])
        return (predict(images) + predict(mirrored)) / 2

    return mean


def with_views(network: "Network") -> "Network":
    """The mean of a segmenter's probabilities, float32 (N, C, H, W), for VIEWS of its inputs.

    Inputs are float (N, 3, H, W), H and W multiples of 32, as are those that ``network`` gets.
    Probabilities are bilinearly enlarged to H × W.
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

    height, width = inputs.shape[2:]
    size = [max(1, round(side * view.factor / STRIDE)) * STRIDE for side in (height, width)]
    pixels = inputs
    if size != [height, width]:
        pixels = F.interpolate(inputs, size, mode="bilinear", antialias=True)
    if view.mirrored:
        pixels = pixels.flip(3)
    found = network(pixels).float().softmax(1)
    if view.mirrored:
        found = found.flip(3)
    if size != [height, width]:
        found = F.interpolate(found, (height, width), mode="bilinear")
    return found
