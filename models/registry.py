"""The members by name: what builds each, and the layout of its state dict."""

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import nn

from . import classifiers, segmenters
from .efficientnet import EfficientNetLite2
from .members import find_member

CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "vgg16": classifiers.VGG16,
    "resnet152": classifiers.resnet152,
    "densenet161": classifiers.densenet161,
    "densenet169": classifiers.densenet169,
    "resnext101_32x8d": classifiers.resnext101_32x8d,
    "vgg19_bn_1": classifiers.vgg19_bn_1,
    "vgg19_bn_2": classifiers.vgg19_bn_2,
    "vgg19_bn_3": classifiers.vgg19_bn_3,
    "efficientnet_lite2": EfficientNetLite2,
}
SEGMENTERS: dict[str, Callable[[], nn.Module]] = {
    "fcn8s": segmenters.FCN8s,
    "fcn32s": segmenters.FCN32s,
}


def build(name: str, device: Literal["cpu", "meta"] = "cpu") -> nn.Module:
    """The member's network, in training mode, with random weights.

    On "meta" it has shapes and no weights, and costs nothing: what a checkpoint is loaded into
    (``load_state_dict(state, assign=True)``), or a layout is read from. Raises InputError for an
    unknown name.
    """
    find_member(name)
    with torch.device(device):
        return (CLASSIFIERS | SEGMENTERS)[name]()


def layout(name: str) -> dict[str, tuple[int, ...]]:
    """The names in the member's state dict and the shapes of their tensors, in order."""
    find_member(name)
    return _layout((CLASSIFIERS | SEGMENTERS)[name])


@cache
def _layout(builder: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = builder().state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items()}
