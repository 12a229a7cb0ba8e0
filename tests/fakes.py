"""Jobs whose models cost nothing: an image's label and mask come from its mean brightness."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hw1.core.numerics import Profile
from hw1.core.preprocessing import Preprocessing
from hw1.core.records import Decoded, Predicted
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.segment import SegmentJob
from hw1.jobs.spec import ClassifySpec, SegmentSpec
from hw1.models.checkpoints import Checkpoint
from hw1.models.ensemble import Ensemble
from hw1.pipeline.classification import ClassifyWork
from hw1.pipeline.segmentation import SegmentWork

CHECKPOINT = Checkpoint("vgg16", Path("none"), "0" * 64, Preprocessing(size=8), {}, 0)
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
        levels = decoded.arrays[0].reshape(len(decoded.positions), -1).mean(1)
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


class FakeClassifyJob(ClassifyJob):
    """A ClassifyJob without weights. ``hook`` sees each piece before it's predicted."""

    def __init__(self, spec: ClassifySpec, hook: Hook = nothing) -> None:
        self.spec = spec
        self._hook = hook
        self._ensemble = Ensemble(("vgg16",), (1.0,), "logits")
        self._checkpoints = (CHECKPOINT,)

    def check_weights(self) -> None:
        pass

    def work(self, root: Path, job: Path, profile: Profile) -> ClassifyWork:
        hook = self._hook

        class Work(ClassifyWork):
            def load(self) -> Brightness:
                return Brightness(hook)

        made = super().work(root, job, profile)
        return Work(**{name: getattr(made, name) for name in made.__dataclass_fields__})


class FakeSegmentJob(SegmentJob):
    """A SegmentJob without weights. ``hook`` sees each piece before it's predicted."""

    def __init__(self, spec: SegmentSpec, hook: Hook = nothing) -> None:
        self.spec = spec
        self._hook = hook
        self._masks = spec.output.absolute()
        self._overlay = spec.overlay.absolute() if spec.overlay else None
        self._checkpoint = CHECKPOINT

    def check_weights(self) -> None:
        pass

    def work(self, root: Path, job: Path, profile: Profile) -> SegmentWork:
        hook = self._hook

        class Work(SegmentWork):
            def load(self) -> Halves:
                return Halves(hook, self.overlay is not None)

        made = super().work(root, job, profile)
        return Work(**{name: getattr(made, name) for name in made.__dataclass_fields__})
