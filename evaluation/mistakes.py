"""The plausible mistakes in an image's way to a network, as changes of its preprocessing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing
from ..models.checkpoints import Checkpoint

AS_SAID = ""
_HALF = (0.5, 0.5, 0.5)
_NORMS: tuple[tuple[str, Any, Any], ...] = (
    ("mean and std of ImageNet", IMAGENET_MEAN, IMAGENET_STD),
    ("mean and std of 0.5", _HALF, _HALF),
    ("no mean and std", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)
_OTHERS: dict[Interpolation, Interpolation] = {"bilinear": "bicubic", "bicubic": "bilinear"}


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to prepare an image: ``upright`` as its EXIF orientation says, or as it is stored.

    ``why_not`` says why the mistake can't be made with these images.
    """

    mistake: str
    preprocessing: Preprocessing
    upright: bool = True
    why_not: str = ""


def variants_of(checkpoint: Checkpoint, turned: bool, one_size: bool = False) -> list[Variant]:
    """The mistakes that can be made with a checkpoint, and those that can't, with the reason.

    ``turned``: whether an image has an EXIF orientation to be forgotten. ``one_size``: whether the
    network takes inputs of one size alone.
    """
    said = checkpoint.preprocessing
    order: Literal["rgb", "bgr"] = "bgr" if said.order == "rgb" else "rgb"
    levels = "0 to 255 instead of 0 to 1" if said.white == 1 else "0 to 1 instead of 0 to 255"
    return [
        Variant(f"{order.upper()} instead of {said.order.upper()}", replace(said, order=order)),
        _not_turned(checkpoint, turned),
        Variant(levels, replace(said, white=255.0 if said.white == 1 else 1.0)),
        *_norms(said),
        *(_framings(said) if checkpoint.task == "classify" else _sizes(said, one_size)),
    ]


def _not_turned(checkpoint: Checkpoint, turned: bool) -> Variant:
    why_not = "" if turned else "no image has an EXIF orientation"
    if checkpoint.task == "segment":
        why_not = "a mask lies as its image does"
    return Variant("no EXIF rotation", checkpoint.preprocessing, upright=False, why_not=why_not)


def _norms(said: Preprocessing) -> Iterator[Variant]:
    for name, mean, std in _NORMS:
        backwards = slice(None, None, 1 if said.order == "rgb" else -1)
        white = said.white if name != _NORMS[-1][0] else 1.0
        changed = replace(
            said,
            mean=tuple(value * said.white for value in mean[backwards]),
            std=tuple(value * white for value in std[backwards]),
        )
        if changed != said:
            yield Variant(name, changed)


def _framings(said: Preprocessing) -> Iterator[Variant]:
    assert said.sides is not None
    least = min(said.sides)
    if said.resize is None:
        yield Variant(
            "shape kept: the shorter side resized, the middle cropped", replace(said, resize=least)
        )
    else:
        yield Variant("the crop left out: the whole image squashed", replace(said, resize=None))
        if said.resize != least:
            name = "the resize rule left out: the shorter side resized to the crop"
            yield Variant(name, replace(said, resize=least))
    if said.shrink is not None:
        yield Variant("not shrunk first", replace(said, shrink=None))
    yield from _interpolations(said)


def _sizes(said: Preprocessing, one_size: bool) -> Iterator[Variant]:
    """A segmenter's: its image as it is."""
    if said.resize is None and said.scale == 1:
        why_not = "the checkpoint resizes no image"
        yield Variant("the resize left out", said, why_not=why_not)
        yield Variant("another interpolation", said, why_not=why_not)
        return
    why_not = "the file takes images of one size" if one_size else ""
    left_out = replace(said, resize=None, scale=1.0)
    yield Variant("the resize left out", left_out, why_not=why_not)
    yield from _interpolations(said)


def _interpolations(said: Preprocessing) -> Iterator[Variant]:
    other = _OTHERS.get(said.interpolation, "bilinear")
    for each in (other, "nearest"):
        if each != said.interpolation:
            name = f"{each} instead of {said.interpolation}"
            yield Variant(name, replace(said, interpolation=each))
