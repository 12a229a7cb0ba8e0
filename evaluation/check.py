"""What a checkpoint's labels, or masks, become under the plausible mistakes in its preprocessing.

Metadata that are wrong cost accuracy and raise nothing. Here some images are scored as the
checkpoint says, and under each mistake that people make between training and scoring; what flips
few labels doesn't matter, what flips many has to be right.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core import numerics
from ..core.classes import Classes
from ..core.errors import InputError
from ..core.preprocessing import Framing, Preprocessing, normalise
from ..core.records import Float32, UInt8
from ..core.spec import Device
from ..core.text import some
from ..models import onnx_file
from ..models.architectures import ONNX
from ..models.catalogue import describe
from ..models.checkpoints import Checkpoint, verify
from ..pipeline.classification import framing_of, require_finite_outputs
from ..pipeline.crops import crop
from ..pipeline.decode import open_image
from ..pipeline.find import find
from ..pipeline.limits import Reject
from ..pipeline.pixels import turned_back
from ..pipeline.segmentation import mask_of
from .mistakes import AS_SAID, Variant, variants_of
from .truth import read_labels

if TYPE_CHECKING:
    from ..models.inference import Predict

MOST = {"classify": 200, "segment": 20}
"""Images, by the task: a mask costs as much as many labels."""

_BATCH = 8
_Answers = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tried:
    """What a mistake changed: the share, 0 to 1, of labels (or pixels) that differ.

    ``confidence`` is the change of the mean top probability, ``accuracy`` that under the mistake,
    where known. Of a mistake that can't be made here, ``why_not`` says why.
    """

    mistake: str
    share: float | None = None
    confidence: float | None = None
    accuracy: float | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Same:
    """How another file's labels, or masks, compare: those that differ, of ``total``.

    ``largest`` is the largest difference of a logit; None for masks.
    """

    other: str
    differ: int
    total: int
    largest: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of a check. ``never`` are the classes that no image, or pixel, got."""

    file: str
    task: str
    images: int
    unreadable: int
    says: str
    classes: Classes
    never: tuple[str, ...]
    tried: tuple[Tried, ...]
    accuracy: float | None
    same: Same | None

    @property
    def what(self) -> str:
        """What is compared."""
        return "labels" if self.task == "classify" else "pixels"

    def sentences(self) -> Iterator[str]:
        """What matters of it, a line each."""
        flips = [each for each in self.tried if each.share]
        if flips:
            worst = max(flips, key=lambda each: each.share or 0)
            yield (
                f"{_percent(worst.share)} of the {self.what} flip with: {worst.mistake}; "
                f"the checkpoint says {self.says}"
            )
        else:
            yield f"no mistake flips any of the {self.what}; the checkpoint says {self.says}"
        if self.never:
            yield (
                f"{len(self.never)} of {len(self.classes)} classes never win in these "
                f"{self.images} images: {some(list(self.never))}"
            )
        better = [t for t in self.tried if t.accuracy is not None and self.accuracy is not None]
        best = max(better, key=lambda each: each.accuracy or 0, default=None)
        if best is not None and (best.accuracy or 0) > (self.accuracy or 0):
            yield (
                f"accuracy is {best.accuracy:.4f} with: {best.mistake}, and {self.accuracy:.4f} as "
                "the checkpoint says: is its preprocessing right?"
            )
        if self.same is not None:
            same = self.same
            logits = "" if same.largest is None else f"; a logit by up to {same.largest:.2g}"
            yield f"{same.other}: {same.differ:,} of {same.total:,} {self.what} differ{logits}"

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        from dataclasses import asdict

        return {
            **asdict(self),
            "classes": len(self.classes),
            "summary": list(self.sentences()),
        }


class _Scores(Protocol):
    def __call__(self, variant: Variant) -> _Answers:
        """Logits (n, classes) of the images under a variant, or their masks, end to end."""


def check(
    checkpoint: Checkpoint,
    images: str,
    *,
    same_as: Path | None = None,
    truth: Path | None = None,
    most: int | None = None,
    device: Device = "cpu",
) -> Check:
    """Score some of ``images`` (a folder, a glob, a list) in each way, in fp32.

    ``same_as`` is another file to compare with: of torch's tensors it runs in plain torch, with
    FILE's preprocessing and classes where it has no metadata. ``truth``: labels, as `evaluate`
    reads them. Raises InputError where a file or folder can't be used.
    """
    if truth is not None and checkpoint.task != "classify":
        raise InputError("--truth is of labels: give it for a classifier")
    verify(checkpoint)
    other = None if same_as is None else _other(same_as, checkpoint)
    names, photos, unreadable = _photos(images, most or MOST[checkpoint.task])
    true = None if truth is None else _truth(truth, names, checkpoint.classes)
    kind = _Labels if checkpoint.task == "classify" else _Masks
    scores: _Scores = kind(checkpoint, _ready(checkpoint, device), photos)
    one_size = checkpoint.architecture == ONNX and onnx_file.read(checkpoint.path).sides is not None
    variants = variants_of(checkpoint, any(turn for _, turn in photos), one_size)
    said = scores(Variant(AS_SAID, checkpoint.preprocessing))
    tried = []
    for variant in variants:
        if variant.why_not:
            tried.append(Tried(variant.mistake, why_not=variant.why_not))
        else:
            tried.append(_tried(variant.mistake, said, scores(variant), true))
    won = np.unique(_winners(said))
    return Check(
        file=str(checkpoint.path),
        task=checkpoint.task,
        images=len(photos),
        unreadable=unreadable,
        says=_says(checkpoint.preprocessing),
        classes=checkpoint.classes,
        never=tuple(n for i, n in enumerate(checkpoint.classes.names) if i not in won),
        tried=tuple(tried),
        accuracy=_accuracy(_winners(said), true),
        same=None if other is None else _same(other, said, kind(*other, photos)),
    )


class _Labels:
    """Logits of photos, each cropped once for each framing."""

    def __init__(
        self, checkpoint: Checkpoint, ready: "Predict", photos: Sequence[tuple[UInt8, int]]
    ) -> None:
        self._checkpoint, self._ready, self._photos = checkpoint, ready, photos
        self._crops: dict[tuple[Framing, bool], UInt8] = {}

    def __call__(self, variant: Variant) -> Float32:
        """Logits (n, classes)."""
        import torch

        framing = framing_of(replace(self._checkpoint, preprocessing=variant.preprocessing))
        pixels = self._cropped(framing, variant.upright)
        found = []
        with torch.inference_mode():
            for at in range(0, len(pixels), _BATCH):
                batch = torch.from_numpy(pixels[at : at + _BATCH]).to(self._ready.device)
                inputs = normalise(batch.permute(0, 3, 1, 2), variant.preprocessing)
                found.append(self._ready.logits(inputs).cpu())
        logits = torch.cat(found)
        if variant.mistake == AS_SAID:
            require_finite_outputs(logits, self._checkpoint)
        finite: Float32 = logits.nan_to_num().numpy()
        return finite

    def _cropped(self, framing: Framing, upright: bool) -> UInt8:
        key = framing, upright
        if key not in self._crops:
            self._crops[key] = np.stack(
                [
                    crop(photo if upright else turned_back(photo, t), framing)
                    for photo, t in self._photos
                ]
            )
        return self._crops[key]


class _Masks:
    """Masks of photos, one after the other as (pixels,)."""

    def __init__(
        self, checkpoint: Checkpoint, ready: "Predict", photos: Sequence[tuple[UInt8, int]]
    ) -> None:
        self._checkpoint, self._ready, self._photos = checkpoint, ready, photos

    def __call__(self, variant: Variant) -> UInt8:
        """Classes (pixels,)."""
        changed = replace(self._checkpoint, preprocessing=variant.preprocessing)
        return np.concatenate(
            [mask_of(self._ready, photo, changed).ravel() for photo, _ in self._photos]
        )


def _ready(checkpoint: Checkpoint, device: Device) -> "Predict":
    from ..models.inference import ready

    resolved = numerics.resolve_device(device)
    libraries = [checkpoint.library] if checkpoint.library else []
    profile = numerics.detect(resolved, "fp32", _BATCH, numerics.cores(), libraries)
    return ready(checkpoint, profile)


def _other(path: Path, checkpoint: Checkpoint) -> tuple[Checkpoint, "Predict"]:
    """Another file's network, in onnxruntime or in plain torch, and what is known of it."""
    import torch

    from ..models.importing import beside
    from ..models.inference import Ready

    found, network = beside(path, checkpoint)
    if found.task != checkpoint.task or len(found.classes) != len(checkpoint.classes):
        raise InputError(
            f"--same-as {path}: it has {len(found.classes)} classes to {found.task}, and "
            f"{checkpoint.path.name} {len(checkpoint.classes)} to {checkpoint.task}"
        )
    if network is None:
        return found, _ready(found, "cpu")
    plain = torch.contiguous_format
    cpu = torch.device("cpu")
    return found, Ready(network, cpu, torch.float32, plain, found.preprocessing)


def _photos(images: str, most: int) -> tuple[list[str], list[tuple[UInt8, int]], int]:
    """Names, pixels upright with their EXIF orientation's number, and how many can't be read."""
    found = find(images)
    step = -(-len(found.images) // most)
    names, photos, unreadable = [], [], 0
    for planned in found.images[::step]:
        try:
            picture = open_image(found.root / planned.image_id)
            photos.append((np.asarray(picture.rgb()), picture.orientation))
        except Reject:
            unreadable += 1
        else:
            names.append(planned.image_id)
    if not photos:
        raise InputError(f"--images {images}: none of {unreadable} images can be read")
    return names, photos, unreadable


def _truth(path: Path, names: Sequence[str], classes: Classes) -> NDArray[np.int64]:
    """The images' labels, -1 where there is none."""
    labels = read_labels(path, classes)
    true = np.array([labels.get(name, -1) for name in names], np.int64)
    if (true < 0).all():
        raise InputError(f"--truth {path}: no label of any image, such as {names[0]}")
    return true


def _winners(answers: _Answers) -> NDArray[Any]:
    return answers.argmax(1) if answers.ndim == 2 else answers


def _tried(mistake: str, said: _Answers, found: _Answers, true: NDArray[np.int64] | None) -> Tried:
    labels = _winners(found)
    share = float((labels != _winners(said)).mean())
    confidence = None if said.ndim == 1 else _confidence(found) - _confidence(said)
    return Tried(mistake, share, confidence, _accuracy(labels, true))


def _confidence(logits: Float32) -> float:
    """The mean probability of the label."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return float((1 / powers.sum(1)).mean())


def _accuracy(labels: NDArray[Any], true: NDArray[np.int64] | None) -> float | None:
    return None if true is None else float((labels == true)[true >= 0].mean())


def _same(other: tuple[Checkpoint, "Predict"], said: _Answers, scores: _Scores) -> Same:
    found = scores(Variant(AS_SAID, other[0].preprocessing))
    differ = int((_winners(found) != _winners(said)).sum())
    largest = None
    if said.ndim == 2:  # less what all logits of an image share, which changes no label
        difference = found - said
        largest = float(np.abs(difference - difference.mean(1, keepdims=True)).max())
    return Same(str(other[0].path), differ, len(said), largest)


def _says(preprocessing: Preprocessing) -> str:
    words = describe(preprocessing)
    size, resize = preprocessing.size, preprocessing.resize
    if preprocessing.interpolation == "bilinear" and (size or resize):
        words += ", bilinear"
    if isinstance(size, int) and isinstance(resize, int):
        words += f", crop {size / resize:.3g}"
    return words


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0):.3g} %"
