"""How long a step takes here: measured once, before the first one, and never asked again."""

import copy
import time
from typing import Any

import torch
from torch import Generator

from . import optimise
from .loop import Loop
from .optimise import fit
from .task import Part

_MEASURED_SECONDS = 0.5
_MEASURED_STEPS = 2


def fit_schedule(loop: Loop, minutes: float) -> None:
    """Give a run that has not begun as many steps as fit into ``minutes``.

    Measures steps early, midway and late in the schedule, and an epoch's scoring, then puts all
    back as it was. What is written at the end of epochs, and the scoring of the checkpoints behind
    the last one, come on top.
    """
    changed: tuple[Any, ...] = (loop.network, loop.ema, loop.optimizer, loop.scaler)
    states = copy.deepcopy([each.state_dict() for each in changed])
    step_seconds = sum(_step_seconds(loop, share) for share in (0.0, 0.5, 0.99)) / 3
    part: Part = "held-out" if loop.task.has("held-out") else "validation"
    began = time.monotonic()
    loop.score(part)
    scoring = time.monotonic() - began
    loop.step = 0
    for each, state in zip(changed, states, strict=True):
        each.load_state_dict(state)
    loop.schedule = fit(loop.schedule, minutes, step_seconds, scoring)
    loop.say(
        f"{minutes:g} minutes at {step_seconds:.3g} s a step: {loop.schedule.steps} steps, "
        f"{loop.schedule.steps / loop.schedule.epoch_steps:.1f} epochs"
    )


def _step_seconds(loop: Loop, share: float) -> float:
    """The seconds of a step where so much of the schedule lies behind; the first one not counted.

    The first allocates what the others use again. A GPU is waited for only behind the last one, as
    in training; so as many are measured as take long enough for that wait to count little.
    """
    loop.step = int(share * loop.schedule.steps)
    generator = Generator().manual_seed(0)
    count = min(loop.recipe.batch_size, len(loop.task))
    indices = torch.randperm(len(loop.task), generator=generator)[:count].tolist()

    def seconds(steps: int) -> float:
        began = time.monotonic()
        for _ in range(steps):
            loss = loop.train_step(indices, generator)
            optimise.average(loop.ema, loop.network, loop.step, loop.recipe.ema)
        float(loss)  # waits for a GPU
        return time.monotonic() - began

    seconds(1)
    steps = _MEASURED_STEPS
    while (taken := seconds(steps)) < _MEASURED_SECONDS:
        steps *= 2
    return taken / steps
