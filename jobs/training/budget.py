"""How long a step takes here: measured once, before the first one, and never asked again."""

import copy
import time

import torch
from torch import Generator

from .lesson import Part
from .loop import Loop
from .schedule import fit

_MEASURED_SECONDS = 0.5
_MEASURED_STEPS = 2


def fit_schedule(loop: Loop, minutes: float) -> None:
    """Give a run that has not begun as many steps as fit into ``minutes``.

    Measures steps early, midway and late in the schedule, and an epoch's scoring, then puts all
    back as it was. What follows the last epoch, the scoring of its checkpoints, comes on top.
    """
    states = copy.deepcopy(
        (loop.network.state_dict(), loop.ema.state_dict(), loop.optimizer.state_dict())
    )
    step_seconds = sum(_step_seconds(loop, share) for share in (0.0, 0.5, 0.99)) / 3
    part: Part = "held-out" if loop.lesson.has("held-out") else "validation"
    began = time.monotonic()
    loop.score(part)
    scoring = time.monotonic() - began
    loop.step = 0
    loop.network.load_state_dict(states[0])
    loop.ema.load_state_dict(states[1])
    loop.optimizer.load_state_dict(states[2])
    loop.schedule = fit(loop.schedule, minutes, step_seconds, scoring)
    loop.say(
        f"{minutes:g} minutes at {step_seconds:.2f} s a step: {loop.schedule.steps} steps, "
        f"{loop.schedule.steps / loop.schedule.epoch_steps:.1f} epochs"
    )


def _step_seconds(loop: Loop, share: float) -> float:
    """The seconds of a step where so much of the schedule lies behind; the first one not counted.

    The first allocates what the others use again.
    """
    loop.step = int(share * loop.schedule.steps)
    generator = Generator().manual_seed(0)
    count = min(loop.recipe.batch_size, len(loop.lesson))
    indices = torch.randperm(len(loop.lesson), generator=generator)[:count].tolist()
    float(loop.train_step(indices, generator))
    began = time.monotonic()
    steps, seconds = 0, 0.0
    while steps < _MEASURED_STEPS or seconds < _MEASURED_SECONDS:
        for _ in range(_MEASURED_STEPS):
            loss = loop.train_step(indices, generator)
        float(loss)  # waits for a GPU
        steps += _MEASURED_STEPS
        seconds = time.monotonic() - began
    return seconds / steps
