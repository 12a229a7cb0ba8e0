"""Jobs whose models cost nothing: an image's label and mask come from its mean brightness."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hw1.core.classes import REFERENCE_CLASSIFIER, REFERENCE_SEGMENTER
from hw1.core.numerics import Profile
from hw1.core.preprocessing import Preprocessing
from hw1.core.records import Decoded, Predicted
from hw1.core.spec import ClassifySpec, SegmentSpec
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.mask_folder import MaskFolder
from hw1.jobs.segment import SegmentJob
from hw1.jobs.table import Table
from hw1.models.checkpoints import Checkpoint
from hw1.models.ensemble import Ensemble
from hw1.pipeline.classification import ClassifyWork
from hw1.pipeline.segmentation import SegmentWork

CHECKPOINT = Checkpoint(
    member="vgg16",
    path=Path("none"),
    digest="0" * 64,
    preprocessing=Preprocessing(size=8),
    metadata={},
    bytes=0,
    architecture="vgg16",
    task="classify",
    classes=REFERENCE_CLASSIFIER,
)
SEGMENTER = replace(
    CHECKPOINT, member="fcn8s", architecture="fcn8s", task="segment", classes=REFERENCE_SEGMENTER
)
ENSEMBLE = Ensemble(("vgg16",), (1.0,), "logits")
Hook = Callable[[Decoded], None]


def nothing(decoded: Decoded) -> None:
    """The hook that does nothing."""


def label_of(level: int) -> int:
    """The label that the fake classifier gives to a grey image of this level, 0 to 255."""
    return level // 6


def write_grey(path: Path, level: int, size: tuple[int, int] = (9, 7)) -> None:
    """Write an image of one grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)


@dataclass(frozen=True)
class Brightness:
    """The fake classifier: probability 0.51 for the label, 0.01 for each other."""

    hook: Hook

    def __call__(self, decoded: Decoded) -> Predicted:
        self.hook(decoded)
        levels = decoded.arrays[0].mean((1, 2, 3))
        scores = np.full((len(levels), 50), 0.01, np.float32)
        scores[np.arange(len(levels)), (levels // 6).astype(int)] = 0.51
        arrays = (scores, np.ones(len(levels), np.float32))
        return Predicted(decoded.piece, decoded.image_ids, arrays, decoded.rejections)


@dataclass(frozen=True)
class Halves:
    """The fake segmenter: water where dark, forest where bright."""

    hook: Hook
    overlay: bool

    def __call__(self, decoded: Decoded) -> Predicted:
        self.hook(decoded)
        masks = tuple(np.where(a[..., 0] > 127, 3, 4).astype(np.uint8) for a in decoded.arrays)
        photos = decoded.arrays if self.overlay else ()
        return Predicted(decoded.piece, decoded.image_ids, (*masks, *photos), decoded.rejections)


@dataclass(frozen=True, slots=True)
class FakeClassifyWork(ClassifyWork):
    hook: Hook = nothing

    def load(self) -> Brightness:
        return Brightness(self.hook)


@dataclass(frozen=True, slots=True)
class FakeSegmentWork(SegmentWork):
    hook: Hook = nothing

    def load(self) -> Halves:
        return Halves(self.hook, self.overlay is not None)


@dataclass(frozen=True)
class FakeClassifyJob(ClassifyJob):
    """A ClassifyJob without weights. ``hook`` sees each piece before it's predicted."""

    hook: Hook = nothing

    @classmethod
    def of(cls, spec: ClassifySpec, hook: Hook = nothing) -> "FakeClassifyJob":
        return cls(spec, Table.open(spec), ENSEMBLE, (CHECKPOINT,), hook)

    def check_weights(self) -> None:
        pass

    def work(self, root: Path, folder: Path, profile: Profile) -> FakeClassifyWork:
        made = super().work(root, folder, profile)
        return FakeClassifyWork(**fields_of(made), hook=self.hook)


@dataclass(frozen=True)
class FakeSegmentJob(SegmentJob):
    """A SegmentJob without weights. ``hook`` sees each piece before it's predicted."""

    hook: Hook = nothing

    @classmethod
    def of(cls, spec: SegmentSpec, hook: Hook = nothing) -> "FakeSegmentJob":
        return cls(spec, MaskFolder.open(spec), SEGMENTER, hook)

    def check_weights(self) -> None:
        pass

    def work(self, root: Path, folder: Path, profile: Profile) -> FakeSegmentWork:
        made = super().work(root, folder, profile)
        return FakeSegmentWork(**fields_of(made), hook=self.hook)


def fields_of(made: ClassifyWork | SegmentWork) -> dict[str, Any]:
    return {field.name: getattr(made, field.name) for field in fields(made)}


def write_blocks(folder: Path, count: int, bad: Sequence[int], side: Callable[[int], int]) -> Path:
    """``count`` images of 4 × 5 random blocks, ``side`` pixels wide by index; the bad are empty."""
    random = np.random.default_rng(0)
    for index in range(count):
        small = random.integers(0, 256, (4, 5, 3), np.uint8)
        path = folder / f"{index:02}.png"
        Image.fromarray(small).resize((side(index), 60), Image.Resampling.NEAREST).save(path)
        if index in bad:
            path.write_bytes(b"")
    return folder
