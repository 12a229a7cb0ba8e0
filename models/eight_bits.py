"""Weights stored in eight bits: each an int8, times a scale of its output channel.

A file that is half as large as in float16. Only what lies in the file is rounded: it is decoded
when it's read, and the network computes in floats, as with any other checkpoint (int8 arithmetic
is ``quantising``'s). Every tensor of two dimensions or more with enough values to a channel, its
first, is stored so: weights of convolutions and Linears, embeddings too. Biases, norms and small
kernels, which err the most and weigh nothing, are stored in float16.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

KEY, STORED = "stored", "eight bits per output channel"
"""The metadata's entry of such a file."""

_SCALES = "scales of "
_LARGEST = 127
_FEWEST = 64  # values of a channel: a depthwise kernel has 9 or 25


def encode(state: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """A state dict as it lies in the file: int8 weights and their float32 scales, by channel.

    A scale is the channel's largest absolute value over 127. What was decoded from such a file
    is encoded as it was. Raises InputError for values that aren't finite, or beyond float16.
    """
    import torch

    from .fit import cast, require_finite

    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.dim() < 2 or tensor[0].numel() < _FEWEST:
            stored |= cast({name: tensor}, torch.float16, "eight bits")
            continue
        rows = tensor.detach().float().flatten(1)
        scales = rows.abs().amax(1) / _LARGEST
        require_finite({name: scales}, "eight bits")
        divisors = torch.where(scales > 0, scales, 1)[:, None]
        stored[name] = (rows / divisors).round().to(torch.int8).view(tensor.shape)
        stored[_SCALES + name] = scales
    return stored


def decode(stored: Mapping[str, "Tensor"], source: object) -> dict[str, "Tensor"]:
    """The other way round: a weight is its int8 times its channel's scale, in float32.

    Raises InputError where the scales of a weight are missing or of another number.
    """
    import torch

    state: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.startswith(_SCALES):
            continue
        if tensor.dtype == torch.int8:
            scales = stored.get(_SCALES + name)
            if scales is None or scales.shape != tensor.shape[:1] or tensor.dim() < 2:
                raise InputError(f"{source} is damaged (no scales of {name}): copy it again")
            state[name] = (tensor.flatten(1) * scales.float()[:, None]).view(tensor.shape)
        else:
            state[name] = tensor
    return state
