"""The networks of torchvision and timm: their names, how they are built, what they expect."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..core.errors import InputError
from ..core.preprocessing import Interpolation, Preprocessing, Sides
from ..core.records import TaskKind
from ._torchvision import models

_AUXILIARY = ("inception_v3", "googlenet")  # a second classifier, for training alone
_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full)
_RANDOM = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_)
"""What fills weights with values. Of one without any, torch asks its compiler for the result's
shape, and so imports it: longer than the rest of torch."""


@cache
def names(library: str) -> tuple[str, ...]:
    """The networks of a library that classify, or segment."""
    if library == "torchvision":
        return (*models.list_models(module=models), *_segmenters())
    return tuple(_timm().list_models())


def has(library: str, name: str) -> bool:
    """Whether the library has exactly this: one of timm's names may have a tag behind a dot."""
    if library == "torchvision":
        return name in names(library)
    try:
        return _timm().get_pretrained_cfg(name) is not None or "." not in name
    except RuntimeError:  # no such tag
        return False


def task(library: str, name: str) -> TaskKind:
    """What the network does."""
    return "segment" if library == "torchvision" and name in _segmenters() else "classify"


def build(library: str, name: str, classes: int, sides: Sides | None) -> nn.Module:
    """The network with a last layer of so many classes, without what only training needs.

    ``sides`` are of its input, for those whose layout depends on them.
    """
    if library == "timm":
        return _build_timm(name, classes, sides)
    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if name in _segmenters():
        options["weights_backbone"] = None
    if name in _AUXILIARY:
        options |= {"aux_logits": False, "init_weights": False}
    if name.startswith("vit_") and sides is not None:
        options["image_size"] = sides[0]
    if name.startswith("maxvit_") and sides is not None:
        options["input_size"] = sides
    network: nn.Module = models.get_model_builder(name)(**options)
    return network


@contextmanager
def shapes_only() -> Iterator[None]:
    """Have networks that are built in it cost nothing: their weights have shapes, no values.

    torch.device("meta") would do so too, but some compute their layout with tensors: only those
    are left whose values somebody fills in later.
    """
    with _ShapesOnly():
        yield


def preprocessing(library: str, name: str) -> Preprocessing:
    """What the library's own weights expect: torchvision's first, timm's default ones."""
    if library == "timm":
        return _timm_preprocessing(name)
    weights = list(models.get_model_weights(name))
    transforms = weights[0].transforms()
    common: dict[str, Any] = {
        "mean": tuple(transforms.mean),
        "std": tuple(transforms.std),
        "resize": transforms.resize_size[0],
        "interpolation": _interpolation(transforms.interpolation.value),
    }
    if name in _segmenters():
        return Preprocessing(size=None, **common)
    return Preprocessing(size=transforms.crop_size[0], **common)


def unused(library: str, name: str) -> tuple[str, ...]:
    """How the names of those tensors begin that a checkpoint may hold for training alone."""
    if library == "torchvision" and name in _segmenters():
        return ("aux_classifier.",)
    if library == "torchvision" and name in _AUXILIARY:
        return ("AuxLogits.", "aux1.", "aux2.")
    return ()


def family(name: str) -> str:
    """torchvision's module that has the network: those of one module are built alike."""
    module: str = models.get_model_builder(name).__module__
    return module


class _ShapesOnly(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _RANDOM and args[0].is_meta:
            return args[0]
        options = dict(kwargs or {})
        if func in _FACTORIES and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)


@cache
def _segmenters() -> tuple[str, ...]:
    return tuple(models.list_models(module=models.segmentation))


@cache
def _timm() -> Any:
    """timm, which imports torchvision: `_torchvision` comes first, for a CPU-only torch."""
    import timm
    import timm.data

    return timm


def _build_timm(name: str, classes: int, sides: Sides | None) -> nn.Module:
    config = _timm().get_pretrained_cfg(name)
    fixed = config is not None and config.fixed_input_size and sides is not None
    options = {"img_size": sides} if fixed and sides != tuple(config.input_size[1:]) else {}
    network: nn.Module = _timm().create_model(
        name, pretrained=False, num_classes=classes, **options
    )
    return network


def _timm_preprocessing(name: str) -> Preprocessing:
    """What timm's own evaluation does: see timm.data.transforms_factory.

    Raises InputError for a network whose images get a border, which isn't done here.
    """
    config = _timm().get_pretrained_cfg(name)
    found = _timm().data.resolve_data_config({}, pretrained_cfg=config.to_dict() if config else {})
    height, width = found["input_size"][1:]
    scaled = [math.floor(side / found["crop_pct"]) for side in (height, width)]
    if found["crop_mode"] not in ("center", "squash"):
        raise InputError(
            f"timm:{name} was trained on images cut out by its crop mode {found['crop_mode']!r}; "
            "hw1 has center and squash: choose another network"
        )
    squash = found["crop_mode"] == "squash" or height != width
    return Preprocessing(
        size=height if height == width else (height, width),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        resize=(scaled[0], scaled[1]) if squash else scaled[0],
        interpolation=_interpolation(found["interpolation"]),
    )


def _interpolation(name: str) -> Interpolation:
    return cast(Interpolation, name)
