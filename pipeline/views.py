"""Test-time augmentation: a network asked about several views of an image, its answers averaged.

A network's mistakes differ a little from view to view, so their average makes fewer. Each view
costs a forward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ..core.records import UInt8

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class View:
    """An image at ``fifths`` / 5 of the checkpoint's scale, mirrored left to right or not."""

    fifths: int
    mirrored: bool


ONE_VIEW: Final = (View(5, False),)

TTA_VIEWS: Final = (View(6, False), View(5, True), View(4, False))
"""Of a tile, the largest first; what they gain is in weights/MODEL_CARD.md."""


def with_mirror(
    predict: "Callable[[UInt8 | Tensor], Tensor]",
) -> "Callable[[UInt8 | Tensor], Tensor]":
    """The mean of a classifier's logits (N, C) for uint8 images (N, H, W, 3) and their mirrors."""

    def mean(images: "UInt8 | Tensor") -> "Tensor":
        if isinstance(images, np.ndarray):
            return (predict(images) + predict(np.ascontiguousarray(images[:, :, ::-1]))) / 2
        return (predict(images) + predict(images.flip(2))) / 2

    return mean
