"""Which arithmetic, and which library, a job's checkpoints are run with."""

from collections.abc import Sequence
from typing import TypedDict

from ..core.errors import InputError
from ..core.spec import Backend, Device, Precision
from .architectures import require_library
from .checkpoints import Checkpoint


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
