"""The segmenters' task: tiles and masks, scored by mIoU."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ..core.classes import REFERENCE_SEGMENTER, Classes
from ..core.preprocessing import Preprocessing, normalise
from ..evaluation.metrics import count_pixels, land_scores, mean, pixel_accuracy
from ..pipeline.blended import segment_blended
from ..pipeline.tiles import evened, segment_image
from . import augment
from .device import to_device
from .masks import mask_name
from .task import Part, digests_of, output_of
from .tiles import IGNORED, Tiles

_TINY = 1e-12
"""In place of a 0 that is to be divided by."""


@dataclass(frozen=True, slots=True)
class SegmentationTask:
    """Crops of tiles of ``crop[0]`` to ``crop[1]`` pixels a side, and their masks.

    ``colours`` is how much of the full change of colours they undergo.
    ``class_weights`` is float32 (classes,), on the device. Unlabelled pixels teach nothing.
    ``seamless`` networks, FCN8s and FCN32s, are scored whole however large a tile is.
    """

    train: Tiles
    held_out: Tiles
    validation: Tiles | None
    crop: tuple[int, int]
    colours: float
    preprocessing: Preprocessing
    device: torch.device
    class_weights: Tensor
    seamless: bool = True
    main_score: str = "miou"

    def __len__(self) -> int:
        return len(self.train)

    @property
    def classes(self) -> Classes:
        """See TrainingTask."""
        return self.train.classes

    @property
    def digests(self) -> dict[str, str]:
        """See TrainingTask."""
        return digests_of(self.train, self.held_out, self.validation)

    @property
    def held_out_files(self) -> list[str]:
        """See TrainingTask: tiles and masks."""
        return [name for tile in self.held_out.names for name in (tile, mask_name(tile))]

    def on_device(self) -> "SegmentationTask":
        """See TrainingTask."""
        return replace(self, train=self.train.on_device(self.device))

    def batch(
        self, indices: Sequence[int], side: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """See TrainingTask; targets are int64 (N, side, side)."""
        images, classes = augment.tiles(
            [to_device(self.train.images[i], self.device) for i in indices],
            [to_device(self.train.masks[i], self.device) for i in indices],
            self.crop,
            side,
            generator,
            self.colours,
        )
        if self.classes.unlabelled is not None:
            classes = classes.masked_fill(classes == self.classes.unlabelled, IGNORED)
        return normalise(images, self.preprocessing), classes

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Balanced cross entropy, and half of one minus the soft IoU of the batch's classes.

        0 where no target is a class.
        """
        logits = evened(logits, self.preprocessing.cell)
        entropy = balanced_cross_entropy(logits, targets, self.class_weights)
        return entropy + 0.5 * soft_jaccard_loss(logits, targets)

    def has(self, part: Part) -> bool:
        """See TrainingTask."""
        tiles = self._part(part)
        return tiles is not None and len(tiles) > 0

    def score(self, network: nn.Module, part: Part) -> dict[str, float]:
        """See TrainingTask: mIoU, pixel accuracy, and the IoU of each class that occurs."""
        tiles = self._part(part)
        known = self.classes
        segment = segment_image if self.seamless else segment_blended
        counts = np.zeros((len(known), len(known)), np.int64)
        if tiles is not None:
            for image, mask in zip(tiles.images, tiles.masks, strict=True):
                pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
                classes = segment(
                    lambda inputs: output_of(network(inputs)),
                    pixels,
                    self.preprocessing,
                    self.device,
                )
                counts += count_pixels(mask.numpy(), classes, len(known))
        ious = {f"iou_{score.name}": score.iou for score in land_scores(counts, known)}
        scores = {
            "miou": mean(list(ious.values())),
            "pixel_accuracy": pixel_accuracy(counts, known.unlabelled),
        }
        return {name: value for name, value in (scores | ious).items() if value is not None}

    def _part(self, part: Part) -> Tiles | None:
        return self.held_out if part == "held-out" else self.validation


def balanced_weights(masks: Sequence[Tensor], classes: Classes = REFERENCE_SEGMENTER) -> Tensor:
    """Float32 (classes,): rarer ones weigh more, by one over the root of their share of the pixels.

    The mean over the pixels is 1; unlabelled and absent classes weigh nothing.
    """
    counts = torch.zeros(256, dtype=torch.float64)
    for mask in masks:
        counts += torch.bincount(mask.flatten().long(), minlength=256)
    known = [index for index in range(len(classes)) if index != classes.unlabelled]
    share = counts[known] / counts[known].sum().clamp(min=1)
    # A class of a few pixels would otherwise outweigh all others together.
    weights = torch.where(share > 0, share.clamp(min=1e-3).rsqrt(), 0.0)
    weights = weights / (weights * share).sum().clamp(min=_TINY)
    every = torch.zeros(len(classes), dtype=torch.float64)
    every[known] = weights
    return every.float()


def balanced_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy in which rare classes weigh more, and are not believed more often for it.

    Weights w alone teach softmax(logits) to be w · p over its sum, p the classes' chances, and so
    to see rare classes where there are none. Here the logits plus log w are taught that, so the
    logits stay those of p (as in Menon et al. 2021, "Long-tail learning via logit adjustment").
    The mean over the pixels, by weight; 0 where no target is a class.
    """
    shift = weights.where(weights > 0, 1.0).log().view(-1, 1, 1)
    known = targets != IGNORED
    weight = (weights[targets.where(known, 0)] * known).sum()
    total = F.cross_entropy(logits + shift, targets, weights, ignore_index=IGNORED, reduction="sum")
    return total / weight.clamp(min=_TINY)


def soft_jaccard_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - the mean IoU of probabilities and truth over the batch's pixels and its classes.

    The score itself, made smooth (Rahman & Wang 2016): cross entropy alone counts pixels, and so
    cares for the common classes. 0 where no target is a class.
    """
    known = (targets != IGNORED).unsqueeze(1)
    labels = targets.where(known[:, 0], 0)
    truth = F.one_hot(labels, logits.shape[1]).movedim(3, 1) * known
    guess = logits.softmax(1) * known
    both = (guess * truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    union = (guess + truth).sum((0, 2, 3)) - both
    # Not both[present]: a GPU would have to say how many these are, and be waited for.
    ious = (both / union.clamp(min=_TINY)) * present
    classes = present.sum()
    return classes.clamp(max=1) - ious.sum() / classes.clamp(min=1)
