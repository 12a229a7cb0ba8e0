"""Which epochs' weights a run keeps, and where: each folder can be given as --weights."""

import json
import math
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..core.classes import Classes
from ..core.durable import sweep
from ..core.errors import InputError
from ..core.preprocessing import Preprocessing
from ..models.checkpoints import Checkpoint, load_state, read_checkpoint, save
from ..models.fit import cast
from .history import History
from .recipe import Recipe
from .state import read_state

BEST = "."
HELD_OUT = "held_out.txt"
STAGES = ("early", "middle", "final")


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The best epoch's checkpoint in the output folder, and those in early/, middle/, final/.

    ``main_score`` is the name of the score that decides which epoch is the best.
    """

    output: Path
    recipe: Recipe
    main_score: str
    classes: Classes | None = None
    preprocessing: Preprocessing | None = None

    def path(self, stage: str) -> Path:
        """Where a stage's checkpoint lies."""
        return self.output / stage / file_name(self.recipe.member)

    def keep(self, network: nn.Module, epochs: int, history: History) -> None:
        """Save the weights after the history's last epoch, of ``epochs``, for each stage it is.

        Raises InputError for weights that fp16 can't hold, be they saved or not.
        """
        try:
            weights = cast(network.state_dict(), torch.float16, self.path(BEST))
        except InputError as error:
            raise self.recipe.diverged(str(error)) from error
        epoch = len(history.rows)
        due = {"early": math.ceil(epochs / 10), "middle": math.ceil(epochs / 2), "final": epochs}
        stages = [stage for stage in STAGES if due[stage] == epoch]
        if history.best(self.main_score) == epoch:
            stages.append(BEST)
        row = history.rows[-1]
        scores = {name: value for name, value in row.items() if name not in _NOT_SCORES}
        about = {
            "recipe": self.recipe.command,
            "epoch": f"{epoch} of {epochs}",
            "scores": json.dumps(scores),
        }
        member = self.recipe.member
        preprocessing = self.preprocessing or self.recipe.preprocessing
        for stage in stages:
            save(
                weights,
                self.path(stage),
                member,
                preprocessing,
                about,
                dtype="keep",
                classes=self.classes,
            )

    def read(self, stage: str) -> Checkpoint:
        """A stage's checkpoint."""
        return read_checkpoint(self.path(stage), self.recipe.member)

    def add_scores(self, stage: str, scores: Mapping[str, float]) -> dict[str, float]:
        """Add scores to a stage's checkpoint; returns all that it has."""
        checkpoint = self.read(stage)
        merged = {**checkpoint.scores, **scores}
        save(
            load_state(checkpoint),
            checkpoint.path,
            checkpoint.architecture,
            checkpoint.preprocessing,
            {**checkpoint.metadata, "scores": json.dumps(merged)},
            dtype="keep",
            classes=checkpoint.classes,
        )
        return merged

    def sweep(self) -> None:
        """Remove what a kill in the middle of a write left."""
        for stage in (BEST, *STAGES):
            sweep(self.output / stage)

    def clear(self) -> None:
        """Remove what this run and the one before it write, and nothing else; the state first."""
        members = {self.recipe.member, self._earlier_member()}
        (self.output / "state.pt").unlink(missing_ok=True)
        (self.output / "metrics.csv").unlink(missing_ok=True)
        (self.output / HELD_OUT).unlink(missing_ok=True)
        for stage in (BEST, *STAGES):
            for member in members:
                (self.output / stage / file_name(member)).unlink(missing_ok=True)
        shutil.rmtree(self.output / "tensorboard", ignore_errors=True)

    def _earlier_member(self) -> str:
        """The member of the run whose state is in the folder, where it can be read."""
        with suppress(InputError, ValueError, KeyError):
            if state := read_state(self.output / "state.pt"):
                return str(json.loads(state["recipe"])["member"])
        return self.recipe.member


def file_name(word: str) -> str:
    """Of an architecture's checkpoint: ``torchvision:resnet50`` has no colon in it."""
    return f"{word.replace(':', '-')}.safetensors"


_NOT_SCORES = frozenset({"epoch", "step", "images", "seconds", "loss"})
