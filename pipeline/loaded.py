"""Models loaded to score images in memory, in this process: what a notebook needs.

The pixels go the way of a job's: the same decoding, framing, and predicting.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from ..core import numerics
from ..core.classes import Classes
from ..core.errors import InputError
from ..core.records import Decoded, Float32, Shard, UInt8
from ..core.spec import Backend, ClassifySpec, Device, Precision, SegmentSpec
from ..models.architectures import require_library
from ..models.arithmetic import libraries, settle
from ..models.checkpoints import Checkpoint, agreed_classes, read_checkpoint
from ..models.ensemble import Ensemble, is_file_name
from ..models.members import MEMBERS, nearest
from ..models.store import Store
from .classification import ClassifyWork, framing_of, lanes_of
from .crops import crop
from .decode import open_image
from .limits import Reject
from .masks import colours_of
from .pixels import to_rgb
from .segmentation import SegmentWork

PathLike = str | os.PathLike[str]
ImageLike = PathLike | Image.Image | UInt8
"""A file's path, a PIL image, or RGB pixels as uint8 (H, W, 3), upright."""


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """What a classifier makes of an image.

    ``label`` is the index of the class, ``name`` its name, ``confidence`` its probability, and
    ``agreement`` the share of the vote, 0 to 1, that went to it (1 where one model votes).
    ``probabilities`` are float32 (classes,), read-only, and ``names`` the classes' in that order.
    """

    label: int
    name: str
    confidence: float
    agreement: float
    probabilities: Float32 = field(repr=False)
    names: tuple[str, ...] = field(repr=False)

    def top(self, count: int) -> list[tuple[str, float]]:
        """Names and probabilities of the ``count`` likeliest classes, best first."""
        ranked = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.names[label], float(self.probabilities[label])) for label in ranked]


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What a segmenter makes of an image.

    ``mask`` is uint8 (H, W), as large as the image, read-only: the index of each pixel's class in
    ``classes``, which have names and, where the checkpoint says so, colours.
    """

    mask: UInt8 = field(repr=False)
    classes: Classes = field(repr=False)

    def coloured(self) -> UInt8:
        """The mask as RGB pixels, uint8 (H, W, 3), as the job's mask files have them."""
        return colours_of(self.mask, self.classes)

    def shares(self) -> dict[str, float]:
        """The part of the image's pixels, 0 to 1, that each class has, by name."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.classes))
        return dict(zip(self.classes.names, (counts / self.mask.size).tolist(), strict=True))


class Classifier:
    """One model, or an ensemble, that labels images. Made by `load`.

    ``classes`` are what it tells apart, ``members`` the models that vote, ``profile`` what its
    numbers depend on: device, precision, batch size, threads, versions.
    """

    task: Literal["classify"] = "classify"

    def __init__(self, work: ClassifyWork) -> None:
        self.classes = work.classes
        self.members = work.ensemble.members
        self.profile = work.profile
        self._framings = work.framings
        self._predictor = work.load()

    def predict(self, images: Iterable[ImageLike]) -> list[Classification]:
        """A result for each image, in order. What is read of the images is a batch at a time.

        Raises InputError for one that can't be read, with its name or place.
        """
        photos = _photos(images)
        found: list[Classification] = []
        while batch := self._crops(islice(photos, self.profile.batch_size)):
            arrays = tuple(np.stack([crops[place] for crops in batch]) for place in self._places)
            scores, agreement = self._predictor(_decoded(len(batch), arrays)).arrays
            found += [self._result(*each) for each in zip(scores, agreement, strict=True)]
        return found

    @property
    def _places(self) -> range:
        return range(len(self._framings))

    def _crops(self, photos: Iterable[Image.Image]) -> list[list[UInt8]]:
        """What the members see of each photo: a crop for each framing. The photos aren't kept."""
        return [[crop(photo, framing) for framing in self._framings] for photo in photos]

    def _result(self, scores: Float32, agreement: float) -> Classification:
        label = int(scores.argmax())
        names = self.classes.names
        confidence = float(scores[label])
        return Classification(
            label, names[label], confidence, float(agreement), _frozen(scores), names
        )


class Segmenter:
    """A model that gives each pixel a class. Made by `load`.

    ``classes``, ``members`` and ``profile`` are as a Classifier's.
    """

    task: Literal["segment"] = "segment"

    def __init__(self, work: SegmentWork) -> None:
        self.classes = work.checkpoint.classes
        self.members = (work.checkpoint.member,)
        self.profile = work.profile
        self._predictor = work.load()

    def predict(self, images: Iterable[ImageLike]) -> list[Segmentation]:
        """A result for each image, in order; each has forward passes of its own.

        Raises InputError for one that can't be read, with its name or place.
        """
        found = []
        for photo in _photos(images):
            (mask,) = self._predictor(_decoded(1, (np.asarray(photo),))).arrays
            found.append(Segmentation(_frozen(mask), self.classes))
        return found


def load(
    model: PathLike | None = None,
    *,
    weights: PathLike | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "auto",
    batch_size: int | None = None,
    threads: int | None = None,
    tta: bool = False,
) -> Classifier | Segmenter:
    """Load a model, or an ensemble, to score images in this process.

    ``model`` is a checkpoint's file (.safetensors or .onnx); a preset's name (``"fcn8s"``), whose
    checkpoint is in the folder ``weights``, or comes with hw1; or a folder, whose ensemble is
    loaded. None: the ensemble of ``weights``, or the one that comes with hw1.

    ``batch_size`` is that of a classifier's forward pass, by default 8 on a CPU and 32 on a GPU:
    blanks fill what is missing, so that an image's result depends on no other. Probabilities equal
    those of a job of the same batch size, threads, device and precision. ``threads`` are torch's
    on a CPU, for the whole process; by default the cores. ``backend`` "openvino" runs it on a CPU,
    and an int8 file in any case. ``tta``: test-time augmentation.

    Raises InputError where there is no such model, it is damaged, or its library is missing.
    """
    _require_among("device", device, get_args(Device))
    _require_among("precision", precision, get_args(Precision))
    _require_among("backend", backend, get_args(Backend))
    for name, number in (("batch_size", batch_size), ("threads", threads)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InputError(f"{name}: expected a whole number from 1, found {number!r}")
    ensemble, checkpoints = _found(model, None if weights is None else Path(weights))
    settled = settle(device, precision, backend, checkpoints)
    chosen: numerics.Backend = "openvino" if settled["backend"] == "openvino" else "torch"
    for checkpoint in checkpoints:
        if chosen == "torch" or checkpoint.library == "timm":
            require_library(checkpoint.architecture)
        if settled["precision"] == "int8" and not checkpoint.is_int8:
            raise InputError(f"{checkpoint.path}: make it int8 first (hw1 models quantise)")
    first = checkpoints[0]
    if first.task == "classify":
        agreed_classes(checkpoints)
        for checkpoint in checkpoints:
            framing_of(checkpoint)
    resolved = numerics.resolve_device(settled["device"])
    used = threads or numerics.cores()
    lanes = lanes_of(checkpoints, resolved, used) if first.task == "classify" else 1
    profile = numerics.detect(
        resolved,
        numerics.resolve_precision(settled["precision"], resolved, chosen),
        1 if first.task == "segment" else batch_size or (8 if resolved == "cpu" else 32),
        used,
        libraries(checkpoints, chosen),
        chosen,
        lanes=lanes,
    )
    here = Path()  # nothing is written
    if first.task == "segment":
        masks = SegmentSpec(source="", output=here, tta=tta)
        return Segmenter(SegmentWork(masks, here, here, here, None, first, profile))
    labels = ClassifySpec(source="", output=here, tta=tta)
    return Classifier(ClassifyWork(labels, here, here, checkpoints, ensemble, profile))


def _found(model: PathLike | None, weights: Path | None) -> tuple[Ensemble, tuple[Checkpoint, ...]]:
    """Who votes; a segmenter alone. Raises InputError where there is no such model."""
    word = None if model is None else os.fspath(model)
    if word is None or (word not in MEMBERS and Path(word).is_dir()):
        if word is not None and weights is not None:
            raise InputError(f"{word} is a folder with checkpoints: give it without weights")
        store = Store.at(weights if word is None else Path(word))
        ensemble = store.ensemble()
        return ensemble, tuple(store.checkpoint(name) for name in ensemble.members)
    if word in MEMBERS:
        store = Store.at(weights)
        if MEMBERS[word].task == "classify":
            return store.ensemble((word,)), (store.checkpoint(word),)
        checkpoint = store.checkpoint(word)
    elif is_file_name(word) or ":" in word or Path(word).exists():
        if weights is not None:
            raise InputError(f"{word} is one file: give it without weights")
        checkpoint = read_checkpoint(Path(word).absolute())
    else:
        raise InputError(
            f"{word!r}: expected a checkpoint's file, a folder with checkpoints, or a preset: "
            f"{nearest(word, MEMBERS)}"
        )
    return Ensemble((checkpoint.member,), (1.0,), "logits"), (checkpoint,)


def _photos(images: Iterable[ImageLike]) -> Iterator[Image.Image]:
    """The images as mode "RGB", upright, each decoded when it's asked for."""
    one = isinstance(images, str | os.PathLike | Image.Image)
    if one or (isinstance(images, np.ndarray) and images.ndim != 4):
        raise InputError("expected a list of images: give predict([image]) for one")
    for place, image in enumerate(images):
        yield _photo(image, place)


def _photo(image: ImageLike, place: int) -> Image.Image:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(
                f"image {place}: expected uint8 (H, W, 3), found {image.dtype} {image.shape}"
            )
        return Image.fromarray(np.ascontiguousarray(image))
    try:
        if isinstance(image, Image.Image):
            return to_rgb(image)
        return open_image(Path(image)).rgb()
    except Reject as fault:
        raise InputError(f"{image}: {fault.reason}: {fault.detail}") from fault
    except TypeError as error:
        kind = type(image).__name__
        text = f"image {place}: expected a path, a PIL image, or uint8 (H, W, 3), found {kind}"
        raise InputError(text) from error
    except (OSError, ValueError, SyntaxError) as error:  # of a PIL image that was opened lazily
        raise InputError(f"image {place} can't be decoded: {error}") from error


def _decoded(count: int, arrays: tuple[UInt8, ...]) -> Decoded:
    return Decoded(Shard(0, 0, ()), tuple(range(count)), ("",) * count, arrays, ())


def _frozen(array: "np.ndarray[Any, np.dtype[Any]]") -> Any:
    copy = np.array(array)
    copy.setflags(write=False)
    return copy


def _require_among(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{name} {value!r}: {nearest(str(value), known)}")
