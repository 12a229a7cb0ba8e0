"""torchvision's networks, importable beside a CPU-only build of torch too.

The registry's torchvision is compiled against CUDA. Beside a CPU-only torch its operators
cannot load, and its import then fails where it describes two of them (nms, qnms: box filtering,
which nothing here uses). Declaring their schemas first lets the networks, plain Python, import.
"""

import sys

import torch

_BOX_FILTERS = ("nms", "qnms")

try:
    from torchvision import models
except RuntimeError as error:
    if "torchvision::nms does not exist" not in str(error):
        raise
    for _name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[_name]
    for _name in _BOX_FILTERS:
        torch.library.define(
            f"torchvision::{_name}",
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        )
    from torchvision import models

__all__ = ["models"]
