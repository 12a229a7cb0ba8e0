"""Networks with one output, the x of a sigmoid, as networks with two classes.

The softmax of (0, x) is (1 - sigmoid(x), sigmoid(x)). So a last layer with zeros for the class
before the one that it has says the same.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.preprocessing import Sides

if TYPE_CHECKING:
    from torch import Tensor


def two_outputs(
    state: Mapping[str, "Tensor"], word: str, sides: Sides | None = None
) -> dict[str, "Tensor"]:
    """The state dict of an architecture with one output, its last layers with two: 0 and x."""
    import torch

    from .registry import class_axes

    two = dict(state)
    for name, axis in class_axes(word, sides).items():
        if name in state and state[name].dim() > axis:  # what doesn't fit is reported later
            two[name] = torch.cat([torch.zeros_like(state[name]), state[name]], axis)
    return two
