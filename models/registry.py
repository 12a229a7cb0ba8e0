"""Networks by the word that names their architecture, and the layout of their state dicts."""

from collections.abc import Callable
from functools import cache
from typing import Literal

from torch import Tensor, nn

from ..core.errors import InputError
from ..core.preprocessing import Sides
from ..core.text import first_line
from . import classifiers, libraries, segmenters
from .architectures import Architecture, find_architecture
from .efficientnet import EfficientNetLite2
from .members import MEMBERS

CLASSIFIERS: dict[str, Callable[[int], nn.Module]] = {
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
SEGMENTERS: dict[str, Callable[[int], nn.Module]] = {
    "fcn8s": segmenters.FCN8s,
    "fcn32s": segmenters.FCN32s,
}

_SAID = 150  # characters of a library's reason


def build(
    word: str,
    device: Literal["cpu", "meta"] = "cpu",
    classes: int | None = None,
    sides: Sides | None = None,
) -> nn.Module:
    """The architecture's network, in training mode, with random weights.

    On "meta" it has shapes and no weights, and costs nothing: what a checkpoint is loaded into
    (``load_state_dict(state, assign=True)``), or a layout is read from; a few of timm's have
    weights there too. ``classes`` None: as many as the reference's. ``sides`` are those of the
    input, on which some transformers' layout depends. Raises InputError for an unknown word.
    """
    found = find_architecture(word)
    count = len(found.classes) if classes is None else classes
    if found.library is None:
        builder = (CLASSIFIERS | SEGMENTERS)[found.name]
        if device == "cpu":
            return builder(count)
        with libraries.shapes_only():
            return builder(count)
    return _of_library(found, device, count, sides)


def layout(
    word: str, classes: int | None = None, sides: Sides | None = None
) -> dict[str, tuple[int, ...]]:
    """The names in the network's state dict and the shapes of their tensors, in order."""
    return {name: tuple(tensor.shape) for name, tensor in tensors(word, classes, sides).items()}


def tensors(word: str, classes: int | None = None, sides: Sides | None = None) -> dict[str, Tensor]:
    """The network's state dict as it is built on "meta": shapes and dtypes."""
    found = find_architecture(word)
    count = len(found.classes) if classes is None else classes
    if word in MEMBERS:
        return _preset((CLASSIFIERS | SEGMENTERS)[word], count)
    return _library(found, count, sides)


def class_axes(word: str, sides: Sides | None = None) -> dict[str, int]:
    """The tensors whose shape tells the number of classes, and along which axis."""
    two, three = layout(word, 2, sides), layout(word, 3, sides)
    return {
        name: next(
            axis for axis, (a, b) in enumerate(zip(shape, three[name], strict=True)) if a != b
        )
        for name, shape in two.items()
        if shape != three[name]
    }


@cache
def _preset(builder: Callable[[int], nn.Module], classes: int) -> dict[str, Tensor]:
    with libraries.shapes_only():
        return builder(classes).state_dict()


@cache
def _library(found: Architecture, classes: int, sides: Sides | None) -> dict[str, Tensor]:
    state = _of_library(found, "meta", classes, sides).state_dict()
    return {name: tensor.to("meta") for name, tensor in state.items()}


def _of_library(
    found: Architecture, device: Literal["cpu", "meta"], classes: int, sides: Sides | None
) -> nn.Module:
    assert found.library is not None
    if device == "meta":
        try:
            with libraries.shapes_only():
                return libraries.build(found.library, found.name, classes, sides)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError):
            pass  # it computes with what has no values: build it whole
    try:
        return libraries.build(found.library, found.name, classes, sides)
    except (AssertionError, RuntimeError, ValueError, TypeError) as error:
        of = f" of {sides[0]} × {sides[1]} pixels" if sides else ""
        said = first_line(error, _SAID)
        raise InputError(f"{found.word} can't be built for images{of}: {said}") from error
