"""Small networks under members' names, and small images, to train in a second.

As a program: ``python tiny_training.py DATA OUTPUT [STEP]`` trains, and kills itself with SIGKILL
before STEP.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hw1.models import registry
from hw1.pipeline.masks import COLOURS
from hw1.training import recipe as recipes


class TinyClassifier(nn.Module):
    """Shaped like a resnet: stages, and ``fc``; with batch norm and dropout, which have state."""

    def __init__(self, classes: int = 50) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=4)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.maxpool(self.bn1(self.conv1(images)).relu())
        logits: Tensor = self.fc(self.drop(features.mean((2, 3))))
        return logits


class TinySegmenter(nn.Module):
    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.maxpool = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.fc = nn.Conv2d(8, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.maxpool(images))
        return logits


def install() -> None:
    """Put the small networks into the registry."""
    registry.CLASSIFIERS["resnet152"] = TinyClassifier
    registry.SEGMENTERS["fcn8s"] = TinySegmenter


def write_photos(folder: Path, each: int, seed: int = 0) -> Path:
    """``each`` images of 16 × 16 pixels of each class, the class in their colour."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for label in range(50):
        colour = np.array([label % 4, label // 4 % 4, label // 16]) * 70 + 20
        for number in range(each):
            pixels = np.clip(colour + random.normal(0, 5, (16, 16, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{label}_{number}.png")
    return folder


def write_tiles(folder: Path, count: int, seed: int = 0) -> Path:
    """Tiles of 48 × 48 pixels, halves of two classes, in the colours of their masks."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        classes = np.full((48, 48), random.integers(6))
        classes[:, 24:] = random.integers(6)
        pixels = COLOURS[classes]
        Image.fromarray(pixels).save(folder / f"{number:04}_mask.png")
        Image.fromarray(pixels // 2 + 60).save(folder / f"{number:04}_sat.jpg", quality=95)
    return folder


def recipe(data: Path, **changes: object) -> recipes.Recipe:
    """A recipe of some seconds."""
    words: dict[str, object] = {
        "task": "classify",
        "member": "resnet152",
        "data": str(data),
        "validation": None,
        "init": "scratch",
        "teacher": None,
        "size": 32,
        "size_from": 32,
        "crop": (1, 1),
        "score_scale": 1.0,
        "colours": 1.0,
        "dropout": 0.5,
        "epochs": 3,
        "epoch_images": None,
        "budget": None,
        "batch_size": 25,
        "lr": 0.05,
        "ema": 0.999,
        "smoothing": 0.1,
        "mix": "mixup",
        "freeze": 0,
        "holdout": 0,
        "seed": 0,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
    }
    return recipes.Recipe(**{**words, **changes})  # type: ignore[arg-type]


def segment_recipe(data: Path, **changes: object) -> recipes.Recipe:
    """The same for tiles."""
    segment = {"task": "segment", "member": "fcn8s", "crop": (24, 48), "batch_size": 4, "lr": 0.01}
    return recipe(data, **{**segment, "mix": "none", "smoothing": 0.0, **changes})


def kill_before(step: int) -> None:
    """Have the process die by SIGKILL when it is about to do this step, counted from 0."""
    from hw1.training.loop import Loop

    train_step = Loop.train_step

    def dying(self: Loop, indices: list[int], generator: torch.Generator) -> torch.Tensor:
        if self.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(self, indices, generator)

    Loop.train_step = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    from hw1.training.train import train

    install()
    if len(sys.argv) > 3:
        kill_before(int(sys.argv[3]))
    train(recipe(Path(sys.argv[1])), Path(sys.argv[2]), print)
