"""What training puts on its device, such that the device never waits for it."""

import torch
from torch import Tensor

_SHARE = 0.25
"""Of a GPU's free memory, what the training images may take."""


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device; a GPU goes on meanwhile with what it has to do.

    A plain ``to`` would first wait until it has done all that.
    """
    return tensor.to(device, non_blocking=True)


def fits(tensors: list[Tensor], device: torch.device) -> bool:
    """Whether the device is a GPU on which there is room for these beside the network's work."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(tensor.nbytes for tensor in tensors) <= _SHARE * free
