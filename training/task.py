"""What the loop needs of a task: batches, a loss, scores."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from torch import Generator, Tensor, nn

from ..core.classes import Classes
from ..core.preprocessing import Preprocessing

Part = Literal["held-out", "validation"]


class TrainingTask(Protocol):
    """Images, and what is to be learnt from them."""

    @property
    def main_score(self) -> str:
        """The name of the score that decides which epoch is the best."""

    @property
    def classes(self) -> Classes:
        """The classes, as the checkpoint lists it."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input, as the checkpoint says it."""

    @property
    def digests(self) -> dict[str, str]:
        """What decides the weights besides the recipe: a digest by what it is of, in words."""

    @property
    def held_out_files(self) -> list[str]:
        """The files of the held-out images, by their names in the training folder."""

    def __len__(self) -> int:
        """The number of training images."""

    def on_device(self) -> "TrainingTask":
        """The same, its training images on the device where there is room for them."""

    def batch(
        self, indices: Sequence[int], side: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Augmented, normalised float32 inputs (N, 3, side, side) on the device; their targets."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch, a scalar, from float32 logits."""

    def has(self, part: Part) -> bool:
        """Whether there are such images to score on."""

    def score(self, network: nn.Module, part: Part) -> dict[str, float]:
        """The scores, by name, of a network in evaluation mode on the device."""


def output_of(outputs: Any) -> Tensor:
    """The logits of what a network returned: torchvision's segmenters give a dict."""
    found: Tensor = outputs["out"] if isinstance(outputs, Mapping) else outputs
    return found


class _Images(Protocol):
    @property
    def digest(self) -> str: ...

    def __len__(self) -> int: ...


def digests_of(train: _Images, held_out: _Images, validation: _Images | None) -> dict[str, str]:
    """The digests of images that decide: validation images do where they choose the epoch."""
    found = {"training images": train.digest}
    if validation is not None and not len(held_out):
        found["validation images"] = validation.digest
    return found
