"""The optimiser, and the moving average of the weights (EMA) that is what a run gives."""

from collections.abc import Sequence

import torch
from torch import nn

from .recipe import Recipe

CLIP = 5.0
"""The norm of the gradients, over all weights, that a step has at most."""


def optimiser(
    recipe: Recipe, body: Sequence[nn.Parameter], head: Sequence[nn.Parameter]
) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov's momentum, as the recipe says; two groups of weights.

    Each group carries its ``factor`` of the schedule's learning rate.
    """
    groups = [
        {"params": [p for p in body if p.requires_grad], "factor": 1.0},
        {"params": [p for p in head if p.requires_grad], "factor": recipe.head_lr},
    ]
    groups = [group for group in groups if group["params"]]
    decay = recipe.weight_decay
    if recipe.adamw:
        return torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        groups, lr=recipe.lr, momentum=0.9, nesterov=True, weight_decay=decay, fused=True
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of the schedule's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@torch.no_grad()
def average(ema: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Move the averaged weights by 1 - ``decay`` towards the network's; more in the first steps.

    Buffers (batch norm's statistics) are averaged too, counters copied.
    """
    decay = min(decay, (1 + step) / (10 + step))
    ours, theirs = [], []
    for mean, value in zip(ema.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            ours.append(mean)
            theirs.append(value)
        else:
            mean.copy_(value)
    torch._foreach_lerp_(ours, theirs, 1 - decay)
