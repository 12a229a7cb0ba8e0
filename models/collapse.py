"""The first Linear of a vgg19_bn, collapsed to what its 7 × 7 pool really gives it.

For inputs of one fixed size the features are 512 × h × w, h and w at most 7, and the adaptive
pool that enlarges them to 7 × 7 only repeats and averages cells: a linear map P, 49 × h·w, of
full column rank. So with W the weights of Linear(25088, 4096), and one channel's columns at a time,

    collapsed = W P,    expanded = collapsed P⁺,    expanded P = collapsed P⁺ P = collapsed:

the same function at that size, from h·w / 49 of the weights. At other sizes the expanded network
is another function than the one that was collapsed.
"""

from collections.abc import Mapping
from math import isqrt

import torch
from torch import Tensor, nn

from .classifiers import VGG19BN

WEIGHT = "classifier.0.weight"
CHANNELS = 512
POOLED = 7
STRIDE = 32  # five pools, each halving and rounding down


def collapse(network: nn.Module, size: int) -> nn.Module:
    """Collapse a vgg19_bn, in place, for inputs of ``size`` × ``size`` pixels only.

    Any other network, and a size of 224 and more, is left as it is. Returns the network.
    """
    side = size // STRIDE
    if not isinstance(network, VGG19BN) or not 0 < side < POOLED:
        return network
    first = network.classifier[0]
    if not isinstance(first, nn.Linear) or first.in_features != CHANNELS * POOLED**2:
        return network
    weight = collapse_weight(first.weight.detach(), side)
    first.weight = nn.Parameter(weight, requires_grad=first.weight.requires_grad)
    first.in_features = weight.shape[1]
    network.avgpool = nn.Identity()
    return network


def expand_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A collapsed state dict in the layout of the table: Linear(25088, …) first.

    State dicts that aren't collapsed stay as they are. The side h = w of the features is read off
    the weight's shape.
    """
    changed = dict(state)
    weight = changed.get(WEIGHT)
    if weight is not None and (side := collapsed_side(tuple(weight.shape))):
        changed[WEIGHT] = expand_weight(weight, side)
    return changed


def collapsed_side(shape: tuple[int, ...]) -> int | None:
    """h = w for the shape (outputs, 512·h·w) of a collapsed weight, else None."""
    if len(shape) != 2 or shape[1] == 0 or shape[1] % CHANNELS:
        return None
    side = isqrt(shape[1] // CHANNELS)
    return side if side < POOLED and CHANNELS * side**2 == shape[1] else None


def collapse_weight(weight: Tensor, side: int) -> Tensor:
    """(outputs, 25088) → (outputs, 512·side²); float64 stays, any other dtype gives float32."""
    return _per_channel(weight, pool_matrix(side))


def expand_weight(weight: Tensor, side: int) -> Tensor:
    """(outputs, 512·side²) → (outputs, 25088); float64 stays, any other dtype gives float32."""
    return _per_channel(weight, torch.linalg.pinv(pool_matrix(side)))


def pool_matrix(side: int) -> Tensor:
    """P: float64 (49, side²), with P · cells = the 7 × 7 adaptive average of side × side cells."""
    cells = torch.eye(side**2, dtype=torch.float64).view(side**2, 1, side, side)
    return nn.functional.adaptive_avg_pool2d(cells, POOLED).view(side**2, POOLED**2).T


def _per_channel(weight: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each channel's columns by a matrix."""
    wide = weight if weight.dtype == torch.float64 else weight.float()
    return (wide.reshape(-1, matrix.shape[0]) @ matrix.to(wide.dtype)).view(len(weight), -1)
