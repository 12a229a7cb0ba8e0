"""The classifiers' task: photos and their classes, perhaps with a teacher's opinion."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ..core.classes import Classes
from ..core.preprocessing import Preprocessing, normalise
from . import augment
from .device import to_device
from .photos import Photos
from .task import Part, digests_of
from .teacher import TEMPERATURE, Opinions, Teacher

TEACHER_SHARE = 0.5
_SCORED_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class ClassificationTask:
    """Photos of classes.

    The photos of ``held_out`` and ``validation`` are at the size that they are scored at.
    ``mix`` is none, mixup or cutmix; ``smoothing`` the share of a label spread over all classes;
    ``augmentation`` how far the photos are changed at random.
    ``teacher`` sees each crop, or has said of each image of ``train`` what it sees in it.
    """

    train: Photos
    held_out: Photos
    validation: Photos | None
    preprocessing: Preprocessing
    device: torch.device
    smoothing: float
    mix: augment.Mix
    teacher: Teacher | Opinions | None = None
    # Accuracy moves in steps of an image, by more than an epoch gains where few are held out.
    main_score: str = "log_loss"
    augmentation: augment.Augment = "usual"

    def __len__(self) -> int:
        return len(self.train)

    @property
    def classes(self) -> Classes:
        """See TrainingTask."""
        return self.train.classes

    @property
    def digests(self) -> dict[str, str]:
        """See TrainingTask."""
        found = digests_of(self.train, self.held_out, self.validation)
        return found | ({"teacher": self.teacher.digest} if self.teacher else {})

    @property
    def held_out_files(self) -> list[str]:
        """See TrainingTask."""
        return list(self.held_out.names)

    def on_device(self) -> "ClassificationTask":
        """See TrainingTask: photos of 32 × 32 pixels are sent as they're needed."""
        return self

    def batch(
        self, indices: Sequence[int], side: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """See TrainingTask; targets are probabilities (N, classes), then as many of a teacher's."""
        positions = torch.as_tensor(indices)
        images = to_device(self.train.images[positions], self.device)
        pixels = augment.photos(images, side, generator, self.augmentation)
        targets = to_device(
            F.one_hot(self.train.labels[positions], len(self.classes)).float(), self.device
        )
        if isinstance(self.teacher, Opinions):
            targets = torch.cat([targets, to_device(self.teacher.rows[positions], self.device)], 1)
        pixels, targets = augment.mix(pixels, targets, self.mix, generator)
        if isinstance(self.teacher, Teacher):
            targets = torch.cat([targets, self.teacher.opinion(pixels)], 1)
        return normalise(pixels, self.preprocessing), targets

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy; with a teacher, half of it with the teacher's probabilities.

        Distillation as in Hinton et al. 2015: softened by a temperature, whose square makes up
        for the smaller gradients.
        """
        labels = targets[:, : len(self.classes)]
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        if self.teacher is None:
            return loss
        distilled = (
            F.cross_entropy(logits / TEMPERATURE, targets[:, len(self.classes) :]) * TEMPERATURE**2
        )
        return (1 - TEACHER_SHARE) * loss + TEACHER_SHARE * distilled

    def has(self, part: Part) -> bool:
        """See TrainingTask."""
        photos = self._part(part)
        return photos is not None and len(photos) > 0

    def score(self, network: nn.Module, part: Part) -> dict[str, float]:
        """See TrainingTask: accuracy, and the mean negative log-likelihood of the true class."""
        photos = self._part(part)
        if photos is None or not len(photos):
            return {}
        logits = self.logits(network, photos)
        hits = (logits.argmax(1) == photos.labels).sum()
        return {
            "accuracy": float(hits) / len(photos),
            "log_loss": float(F.cross_entropy(logits, photos.labels)),
        }

    def logits(self, network: nn.Module, photos: Photos) -> Tensor:
        """Float32 (N, classes), on the CPU, of photos at the size that they are scored at."""
        return torch.cat(
            [
                network(normalise(images.to(self.device), self.preprocessing)).float().cpu()
                for images in torch.split(photos.images, _SCORED_AT_ONCE)
            ]
        )

    def _part(self, part: Part) -> Photos | None:
        return self.held_out if part == "held-out" else self.validation
