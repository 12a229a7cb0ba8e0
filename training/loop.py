"""The training loop: one for photos and tiles, the same result however often it is killed."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..core.errors import InputError
from . import optimise
from .checkpoints import Checkpoints
from .depthwise import use_small_depthwise
from .device import PendingScalar
from .history import History
from .optimise import Schedule, learning_rate, side
from .recipe import Recipe
from .state import write_state
from .task import Part, TrainingTask, output_of
from .winograd import train_fast, use_winograd

LOG_SECONDS = 30.0
TRAINER = 6
"""Raised where the same recipe comes to train otherwise, or has other words: no run is of two."""
_PASSES = 50_000
"""Behind the epochs' seeds come those of the passes over the images."""


def require_same_run(state: Mapping[str, Any], recipe: Recipe, output: Path) -> None:
    """Raise InputError where ``output`` holds the state of another trainer's or recipe's run."""
    if state.get("trainer") != TRAINER:
        raise InputError(
            f"{output} holds a run of an hw1 that trains otherwise: go on with that "
            "version, give another --output, or --overwrite"
        )
    recipe.require_same(state["recipe"], output)


class _Losses:
    """The losses of an epoch's steps, each looked at when the next step has been given to a GPU.

    So it has that to do meanwhile. Raises InputError for a loss that is no number.
    """

    def __init__(self, recipe: Recipe, first: int) -> None:
        self._recipe, self._first = recipe, first
        self._sum, self._count = 0.0, 0
        self._latest: PendingScalar | None = None

    def add(self, loss: Tensor) -> None:
        """Take the next step's loss, and look at the one before."""
        latest = PendingScalar(loss)
        self._look()
        self._latest = latest

    def mean(self) -> float:
        """The mean of all, the latest among them."""
        self._look()
        return self._sum / self._count

    def _look(self) -> None:
        if self._latest is None:
            return
        value = self._latest.read()
        if not math.isfinite(value):
            step = self._first + self._count
            raise self._recipe.diverged(f"the loss is {value} at step {step}")
        self._sum += value
        self._count += 1
        self._latest = None


@dataclass
class Loop:
    """A run: the network, its average, the optimiser, and where in the schedule they are.

    Each epoch draws its random numbers from the seed and the epoch alone, so that the state at
    its end is all that a resume needs.
    """

    recipe: Recipe
    task: TrainingTask
    network: nn.Module
    head: Sequence[nn.Parameter]
    frozen: list[nn.Module]
    schedule: Schedule
    output: Path
    say: Callable[[str], None]
    step: int = 0
    epoch: int = 0
    history: History = field(default_factory=History)
    order: tuple[int, list[int]] = (-1, [])  # the pass, and its images

    def __post_init__(self) -> None:
        self.device = torch.device(self.recipe.device)
        self.network.to(self.device)
        # Winograd's has a layout of its own; a network without layers for it has pointwise ones.
        self.channels_last = self._mixed() or (
            self.device.type == "cpu" and not use_winograd(self.network)
        )
        if self.device.type == "cpu":
            use_small_depthwise(self.network)
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        heads = {id(parameter) for parameter in self.head}
        body = [p for p in self.network.parameters() if id(p) not in heads]
        self.optimizer = optimise.optimiser(self.recipe, body, self.head)
        self.scaler = torch.amp.GradScaler(
            self.recipe.device, enabled=self.recipe.precision == "fp16"
        )
        prefix = "held_out_" if self.task.has("held-out") else ""
        self.checkpoints = Checkpoints(
            self.output,
            self.recipe,
            prefix + self.task.main_score,
            self.task.classes,
            self.task.preprocessing,
        )

    @property
    def _state_path(self) -> Path:
        return self.output / "state.pt"

    def save(self) -> None:
        """Write all that a resume needs, atomically."""
        write_state(
            self._state_path,
            {
                "trainer": TRAINER,
                "recipe": self.recipe.to_json(),
                "digests": self.task.digests,
                "steps": self.schedule.steps,
                "epoch_steps": self.schedule.epoch_steps,
                "step": self.step,
                "epoch": self.epoch,
                "network": self.network.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "history": self.history.rows,
            },
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was saved. Raises InputError for another run's state."""
        require_same_run(state, self.recipe, self.output)
        ours, theirs = self.task.digests, state["digests"]
        others = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        if others:
            raise InputError(
                f"{self.output} holds a run with other {' and '.join(others)} (names or sizes "
                "differ, or a checkpoint's digest): bring those back to resume it, give another "
                "--output, or --overwrite"
            )
        self.schedule = Schedule(state["steps"], state["epoch_steps"])
        self.step, self.epoch = state["step"], state["epoch"]
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.history = History(state["history"])

    def run(self) -> None:
        """Train from where the run is to the end of its schedule."""
        if self.epoch == 0:
            self.save()  # before the first step: a full disk is reported now, and a budget is kept
        try:
            while self.step < self.schedule.steps:
                self._epoch()
        finally:
            self.history.close()

    def _epoch(self) -> None:
        began = time.monotonic()
        seed = self.recipe.seed * 100_003 + self.epoch
        generator = Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout draws from the global generator
        first, end = self.step, self.schedule.epoch_end(self.epoch)
        self._train_mode()
        losses = _Losses(self.recipe, first)
        said = began
        seen = 0
        while self.step < end:
            images = self._images()
            losses.add(self.train_step(images, generator))
            seen += len(images)
            self.step += 1
            optimise.average(self.ema, self.network, self.step, self.recipe.ema)
            if time.monotonic() - said > LOG_SECONDS:
                said = time.monotonic()
                self._say_progress(losses.mean(), first, seen, said - began)
        loss = losses.mean()
        trained = time.monotonic() - began
        self.epoch += 1
        self._finish_epoch(loss, seen, trained)

    def _images(self) -> list[int]:
        """The images of the step to come: every pass over all of them has an order of its own.

        An epoch may be shorter than a pass, and each image is seen all the same.
        """
        size = self.recipe.batch_size
        number, position = divmod(self.step, max(1, len(self.task) // size))
        if self.order[0] != number:
            generator = Generator().manual_seed(self.recipe.seed * 100_003 + _PASSES + number)
            self.order = number, torch.randperm(len(self.task), generator=generator).tolist()
        return self.order[1][position * size : (position + 1) * size]

    def train_step(self, indices: list[int], generator: Generator) -> Tensor:
        """One step on those images; returns the loss, a scalar on the device.

        It isn't read here: that would wait for a GPU.
        """
        progress = self.schedule.progress(self.step)
        optimise.set_rate(self.optimizer, learning_rate(self.recipe, progress))
        inputs, targets = self.task.batch(indices, side(self.recipe, progress), generator)
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            logits = output_of(self.network(inputs))
        loss = self.task.loss(logits.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), optimise.CLIP)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _finish_epoch(self, loss: float, images: int, seconds: float) -> None:
        part: Part = "held-out" if self.task.has("held-out") else "validation"
        scores = self.score(part)
        self.history.add(
            {
                "epoch": self.epoch,
                "step": self.step,
                "images": images,
                "seconds": round(seconds, 1),
                "loss": loss,
                **scores,
            }
        )
        # The state goes last: a kill before it repeats the epoch, and writes the same files.
        self.checkpoints.keep(self.ema, self.schedule.epochs, self.history)
        self.history.write(self.output)
        self.save()
        reported = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        self.say(
            f"epoch {self.epoch}/{self.schedule.epochs}: loss {loss:.4f}, {reported or 'no score'} "
            f"({images / seconds:.1f} images/s, {seconds:.0f} s)"
        )

    def score(self, part: Part) -> dict[str, float]:
        """The averaged network's scores, those of held-out images named ``held_out_…``."""
        if not self.task.has(part):
            return {}
        with torch.inference_mode(), self._autocast():
            scores = self.task.score(self.ema, part)
        prefix = "held_out_" if part == "held-out" else ""
        return {prefix + name: value for name, value in scores.items()}

    def _say_progress(self, loss: float, first: int, images: int, seconds: float) -> None:
        rate = (self.step - first) / seconds
        left = (self.schedule.steps - self.step) / rate / 60
        self.say(
            f"step {self.step}/{self.schedule.steps}: loss {loss:.4f}, "
            f"{images / seconds:.1f} images/s, about {left:.0f} min left"
        )

    def _train_mode(self) -> None:
        self.network.train()
        for layer in self.frozen:
            layer.eval()  # frozen batch norm keeps its statistics too
        train_fast(self.frozen)

    def _mixed(self) -> bool:
        return self.recipe.precision != "fp32"

    def _autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.recipe.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.recipe.device, dtype, enabled=self._mixed())
