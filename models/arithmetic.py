"""Which arithmetic, and which library, a job's checkpoints are run with; and what they cost."""

import math
from collections.abc import Sequence
from typing import TypedDict

from ..core.errors import InputError
from ..core.spec import Backend, Device, Precision
from ..core.text import first_line
from .architectures import ONNX, require_library
from .checkpoints import Checkpoint

_MULTIPLICATIONS = {
    "vgg16": 305_859,
    "resnet152": 229_426,
    "densenet161": 153_974,
    "densenet169": 66_930,
    "resnext101_32x8d": 327_090,
    "vgg19_bn_1": 391_186,
    "vgg19_bn_2": 390_852,
    "vgg19_bn_3": 391_351,
    "efficientnet_lite2": 11_465,
}
"""The presets' for each pixel of an input of 224 × 224; a smaller one takes a few more a pixel."""

_CHOOSE = "say which member goes first, --cascade-first NAME"
_SAID = 150  # characters of torch's reason


class Settled(TypedDict):
    """``auto`` stays where nothing else was asked for, or follows from the checkpoints."""

    device: Device
    precision: Precision
    backend: Backend


def settle(
    device: Device, precision: Precision, backend: Backend, checkpoints: Sequence[Checkpoint]
) -> Settled:
    """What is asked for, and what follows from it: int8 is OpenVINO's, and OpenVINO the CPU's.

    Raises InputError for what contradicts itself, and for a library that isn't installed.
    """
    int8 = [each for each in checkpoints if each.is_int8]
    if int8 and (backend == "torch" or precision not in ("auto", "int8")):
        asked = f"--precision {precision}" if backend != "torch" else "--backend torch"
        raise InputError(
            f"{asked}: {int8[0].path} computes in int8, by openvino: give the checkpoint that it "
            "was made of"
        )
    if int8 and len(int8) == len(checkpoints):
        precision = "int8"
    if precision == "int8" and backend == "torch":
        raise InputError("--precision int8 needs --backend openvino")
    if not int8 and precision != "int8" and backend != "openvino":
        return Settled(device=device, precision=precision, backend=backend)
    if device == "cuda" or precision == "fp16":
        word = "--device cuda" if device == "cuda" else "--precision fp16"
        raise InputError(f"{word}: openvino and int8 run on CPUs, in fp32, bf16 and int8")
    require_library("openvino")
    if precision == "int8" and len(int8) < len(checkpoints):
        require_library("nncf")
    return Settled(device="cpu", precision=precision, backend="openvino")


def libraries(checkpoints: Sequence[Checkpoint], backend: str) -> list[str]:
    """The packages that run the checkpoints, besides torch and torchvision; sorted."""
    if backend != "openvino":
        return sorted({library for each in checkpoints if (library := each.library)})
    networks = {each.library for each in checkpoints if not each.is_int8}
    return sorted({"openvino", *({"timm"} & networks)})


def cheapest(checkpoints: Sequence[Checkpoint]) -> str:
    """The member with the fewest multiplications for an image; of equal ones the first.

    Raises InputError where they can't be counted.
    """
    return min(checkpoints, key=multiplications).member


def multiplications(checkpoint: Checkpoint) -> int:
    """A classifier's multiplications for an image, about, as torch's FlopCounterMode counts them.

    Of a preset by a table, without torch. Raises InputError for an ONNX file, and for a network
    whose forward pass depends on values: none are computed.
    """
    sides = checkpoint.preprocessing.sides or (1, 1)
    if each_pixels := _MULTIPLICATIONS.get(checkpoint.architecture):
        return each_pixels * math.prod(sides)
    if checkpoint.architecture == ONNX:
        raise InputError(
            f"--cascade: the multiplications of {checkpoint.member}, an ONNX file, can't be "
            f"counted: {_CHOOSE}"
        )
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from .registry import build

    count, word = len(checkpoint.classes), checkpoint.architecture
    network = build(word, "meta", count, checkpoint.preprocessing.sides).eval()
    place = next(network.parameters()).device  # a few of timm's have weights after all
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, *sides, device=place))
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"--cascade: the multiplications of {checkpoint.member} can't be counted "
            f"({first_line(error, _SAID)}): {_CHOOSE}"
        ) from error
    return int(counter.get_total_flops()) // 2
