"""The schedule: how many steps, and each one's learning rate and side of the crops."""

import math
from dataclasses import dataclass

from .recipe import Recipe


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
        """How much of the schedule lies behind, 0 to 1."""
        return step / self.steps

    def epoch_end(self, epoch: int) -> int:
        """The step behind the last one of an epoch, counted from 0."""
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
    """Linear warm-up over the first ``recipe.warmup`` of the schedule, then half a cosine to 0."""
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
