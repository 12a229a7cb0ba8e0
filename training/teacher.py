"""Teachers: a trained classifier's probabilities, learnt beside the labels (Hinton et al. 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError
from ..core.numerics import cores, detect
from ..core.preprocessing import Preprocessing, Sides, normalise
from ..evaluation.predictions import read_scores
from ..models.architectures import ONNX, require_library
from ..models.arithmetic import libraries
from ..models.checkpoints import Checkpoint, read_checkpoint
from ..models.files import file_digest
from ..models.inference import Predict, ready
from .photos import Photos
from .recipe import Recipe

TEMPERATURE = 2.0
"""What a teacher's and its student's logits are divided by, so that small chances count."""

_LEAST = 1e-30
"""A probability whose logarithm is finite in float32."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network made ready, whatever runs it, and the input that it wants.

    ``digest`` is its checkpoint's, and what else decides its opinion. ``shrink``: what is larger
    is first shrunk to that height and width, as where it scores images.
    """

    predict: Predict
    preprocessing: Preprocessing
    digest: str
    shrink: Sides | None = None

    @torch.no_grad()
    def opinion(self, pixels: Tensor) -> Tensor:
        """Class probabilities (N, classes) of images (N, 3, H, W), 0 to 255, at TEMPERATURE.

        It sees the whole of what the student sees, resized to its own input.
        """
        sides = self.preprocessing.sides
        assert sides is not None, "a classifier has an input of one size"
        device = pixels.device
        if self.shrink and _larger(pixels.shape[2:], self.shrink):
            pixels = F.interpolate(pixels, self.shrink, mode="bilinear", antialias=True)
        if tuple(pixels.shape[2:]) != sides:
            pixels = F.interpolate(pixels, sides, mode="bilinear", antialias=True)
        inputs = normalise(pixels.to(self.predict.device), self.preprocessing)
        return (self.predict.logits(inputs).float().to(device) / TEMPERATURE).softmax(1)


@dataclass(frozen=True, slots=True)
class Opinions:
    """What a teacher said of each training image, (N, classes) at TEMPERATURE, and its digest."""

    rows: Tensor
    digest: str


def open_teacher(recipe: Recipe, photos: Photos) -> Teacher | None:
    """The recipe's teacher of these photos; None without one.

    One that has learnt from small images alone has larger ones shrunk first. Crops of images that
    are as small have no finer detail, however they're enlarged, and are left as they are.
    Raises InputError where it's no classifier, or one of other classes.
    """
    if recipe.teacher is None:
        return None
    checkpoint = read_checkpoint(Path(recipe.teacher))
    if checkpoint.task != "classify":
        raise InputError(f"--teacher {recipe.teacher}: {checkpoint.member} is no classifier")
    if difference := photos.classes.difference(checkpoint.classes):
        raise InputError(f"--teacher {recipe.teacher} knows other classes: {difference}")
    own, digest = checkpoint.preprocessing, checkpoint.digest
    shrink = (own.shrink, own.shrink) if isinstance(own.shrink, int) else own.shrink
    if shrink and not any(_larger(sides, shrink) for sides in photos.sizes):
        shrink = None
    told = f"{digest} shrink {shrink}" if shrink else digest
    return Teacher(_ready(checkpoint, recipe), own, told, shrink)


def _larger(found: Sequence[int], sides: Sides) -> bool:
    return found[0] > sides[0] or found[1] > sides[1]


def read_opinions(recipe: Recipe, photos: Photos) -> Opinions | None:
    """The recipe's scores of the training images, paired by name; None without any.

    The file may hold other images too. Raises InputError where it lacks one, or has other classes.
    """
    if recipe.teacher_scores is None:
        return None
    path = Path(recipe.teacher_scores)
    scores = torch.from_numpy(read_scores(path, list(photos.names), photos.classes, others=True))
    # A softmax at temperature T is the T-th root of the plain one, and normalised.
    return Opinions((scores.clamp_min(_LEAST).log() / TEMPERATURE).softmax(1), file_digest(path))


def _ready(checkpoint: Checkpoint, recipe: Recipe) -> Predict:
    require_library(checkpoint.architecture)
    onnx = checkpoint.architecture == ONNX  # onnxruntime computes on the CPU, in the file's floats
    profile = detect(
        "cpu" if onnx or recipe.device != "cuda" else "cuda",
        "fp32" if onnx else recipe.precision,
        recipe.batch_size,
        recipe.threads or cores(),
        libraries([checkpoint], "torch"),
    )
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    try:
        return ready(checkpoint, profile)
    finally:  # what scoring sets for the whole process isn't the student's
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = before
