"""The schedule, the optimiser, and the moving average of the weights (EMA) that a run gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .recipe import Recipe

CLIP = 5.0
"""The norm of the gradients, over all weights, that a step has at most."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """``steps`` in all, ``epoch_steps`` of them an epoch (the last one may be shorter)."""

    steps: int
    epoch_steps: int

    @property
    def epochs(self) -> int:
        """The number of epochs, the last one counted in full."""
        return math.ceil(self.steps / self.epoch_steps)

    def progress(self, step: int) -> float:
        """How much of the schedule is done, 0 to 1."""
        return step / self.steps

    def epoch_end(self, epoch: int) -> int:
        """The step after the last one of an epoch, counted from 0."""
        return min((epoch + 1) * self.epoch_steps, self.steps)


def plan(recipe: Recipe, images: int) -> Schedule:
    """The schedule of ``recipe.epochs`` epochs; incomplete batches are cut.

    An epoch is a pass over the ``images``, or ends after ``recipe.epoch_images``, be that within a
    pass or after several.
    """
    step_images = min(recipe.batch_size, images)
    epoch_steps = max(1, (recipe.epoch_images or images) // step_images)
    return Schedule(recipe.epochs * epoch_steps, epoch_steps)


def fit(schedule: Schedule, minutes: float, step_seconds: float, epoch_seconds: float) -> Schedule:
    """As many steps as fit into ``minutes``, at so many seconds a step and an epoch's scoring."""
    per_step = step_seconds + epoch_seconds / schedule.epoch_steps
    return Schedule(max(1, int(minutes * 60 / per_step)), schedule.epoch_steps)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Linear warm-up over the first ``recipe.warmup`` of the schedule, then half a cosine to 0.

    Of the progress alone, unlike torch's LRScheduler, whose state has to be saved with the length
    that a --budget gives only once steps have been measured.
    """
    if progress < recipe.warmup:
        return recipe.lr * progress / recipe.warmup
    return (
        recipe.lr * 0.5 * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup)))
    )


def side(recipe: Recipe, progress: float) -> int:
    """The side of a step's crops in pixels: from ``size_from`` to ``size`` in steps of 32.

    Each side has an equal share of the schedule. Small crops first cost less and teach as much
    (Tan & Le 2021, "EfficientNetV2", section 4).
    """
    stages = (recipe.size - recipe.size_from) // 32 + 1
    return recipe.size - 32 * (stages - 1 - min(int(progress * stages), stages - 1))


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

    Buffers (batch norm's statistics) are averaged too, counters copied. torch's AveragedModel
    hands its count of updates over as a tensor on the weights' device: a decay that depends on it
    would wait for a GPU at each step. And its first update copies, where this one averages.
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
