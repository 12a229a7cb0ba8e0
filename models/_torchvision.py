"""torchvision's networks: imported without torch's compiler, and beside a CPU-only torch too.

The registry's torchvision is compiled against CUDA. Beside a CPU-only torch its operators
cannot load, and its import then fails where it describes two of them (nms, qnms: box filtering,
which nothing here uses). Declaring their schemas first lets the networks, plain Python, import.

One function of its box pooling asks torch's compiler (``torch._dynamo``, with all of SymPy)
whether it may use it, and so imports it: more than the rest of torch and torchvision together,
in each process, for what nothing here uses either. It's asked for when that function is called.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

_BOX_FILTERS = ("nms", "qnms")
_COMPILER = "torch._dynamo"
_ASKED = f"{_COMPILER}.utils"


def _is_compile_supported(device: Any) -> Any:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device)


@contextmanager
def _compiler_left_out() -> Iterator[None]:
    """Have stand-ins for the compiler's modules, unless they are imported already."""
    if _COMPILER in sys.modules:
        yield
        return
    package, asked = ModuleType(_COMPILER), ModuleType(_ASKED)
    package.__dict__["__path__"] = []
    asked.__dict__["is_compile_supported"] = _is_compile_supported
    sys.modules |= {_COMPILER: package, _ASKED: asked}
    try:
        yield
    finally:
        del sys.modules[_COMPILER], sys.modules[_ASKED]


def _forget() -> None:
    """Let the next import of torchvision begin again."""
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]


def _declare_box_filters() -> None:
    for name in _BOX_FILTERS:
        torch.library.define(
            f"torchvision::{name}",
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        )


def _import() -> Any:
    try:
        from torchvision import models
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        _forget()
        _declare_box_filters()
        from torchvision import models
    return models


try:
    with _compiler_left_out():
        _import()
except ImportError:  # a torchvision that asks the compiler for more
    _forget()
    _import()

from torchvision import models  # noqa: E402  (imported above, as this module's text says)

__all__ = ["models"]
