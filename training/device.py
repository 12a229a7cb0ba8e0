"""Tensors to and from the device, such that a GPU has to wait as little as can be."""

import torch
from torch import Tensor

_SHARE = 0.25
"""Of a GPU's free memory, what the training images may take."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device; a GPU goes on meanwhile with what it has to do.

    A plain ``to`` would first wait until it has done all that.
    """
    return tensor.to(device, non_blocking=True)


class PendingScalar:
    """A scalar that the device computes; to read it waits for that, not for what comes after.

    Of a GPU's tensor ``float`` would wait until the GPU has done all that it was given since.
    """

    def __init__(self, scalar: Tensor) -> None:
        self._value = scalar.to("cpu", non_blocking=True)
        self._there: torch.cuda.Event | None = None
        if scalar.is_cuda:
            self._there = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._there.record()

    def read(self) -> float:
        """The value, as soon as it's there."""
        if self._there is not None:
            self._there.synchronize()
        return float(self._value)


def has_room_for(tensors: list[Tensor], device: torch.device) -> bool:
    """Whether the device is a GPU on which there is room for these beside the network's work."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(tensor.nbytes for tensor in tensors) <= _SHARE * free
