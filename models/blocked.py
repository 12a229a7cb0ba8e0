"""FCN8s and FCN32s in float32 on a CPU: plain torch's masks, bit for bit, in less time.

For each convolution plain torch brings its input into oneDNN's own layout, blocks of 8 or 16
channels, and its output back. Packed convolutions (see ``pack``) do without, channels last, but
they add up in another order: of ten million pixels some, whose classes are nearly equal, get
another. Here the layers between two transposed convolutions stay in the blocked layout. These are
the very sums that plain torch makes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .segmenters import FCN8s, FCN32s


class BlockedConv2d(nn.Module):
    """A Conv2d for inference, of tensors in the blocked layout, its weights in it too."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.geometry: tuple[Any, ...] = (
            [int(pad) for pad in convolution.padding],
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        operators: Any = torch._C._nn
        self.weight: Tensor = operators.mkldnn_reorder_conv2d_weight(
            convolution.weight.detach().to_mkldnn(), *self.geometry
        )
        assert convolution.bias is not None
        self.bias: Tensor = convolution.bias.detach().to_mkldnn()

    def forward(self, inputs: Tensor) -> Tensor:
        """The convolution of (N, C, H, W)."""
        outputs: Tensor
        if self._is_onednns(inputs):
            outputs = torch.mkldnn_convolution(inputs, self.weight, self.bias, *self.geometry)
            return outputs
        image, weight, bias = (each.to_dense() for each in (inputs, self.weight, self.bias))
        padding, stride, dilation, groups = self.geometry
        outputs = torch.conv2d(image, weight, bias, stride, padding, dilation, groups)
        return outputs.to_mkldnn()

    def _is_onednns(self, inputs: Tensor) -> bool:
        """Whether plain torch would ask oneDNN: it doesn't for small images, or 1 × 1 alone."""
        padding, stride, dilation, groups = self.geometry
        alike = (torch.empty(()).expand(each.shape) for each in (inputs, self.weight, self.bias))
        internals: Any = torch._C
        chosen = internals._select_conv_backend(
            *alike, stride, padding, dilation, False, [0, 0], groups
        )
        return bool(chosen == internals._ConvBackend.Mkldnn)


class Blocked(nn.Module):
    """Layers in the blocked layout: they take either one, and give it back where they are last."""

    def __init__(self, layers: nn.Module, *, last: bool) -> None:
        super().__init__()
        parts = layers if isinstance(layers, nn.Sequential) else [layers]
        self.layers = nn.Sequential(
            *(BlockedConv2d(part) if isinstance(part, nn.Conv2d) else part for part in parts)
        )
        self.last = last

    def forward(self, inputs: Tensor) -> Tensor:
        """What the layers make of (N, C, H, W)."""
        outputs: Tensor = self.layers(inputs if inputs.is_mkldnn else inputs.to_mkldnn())
        return outputs.to_dense() if self.last else outputs


_PARTS: dict[type[nn.Module], dict[str, bool]] = {
    FCN8s: {
        "to_pool3": False,
        "to_pool4": False,
        "to_pool5": False,
        "to_pool5_predict": True,
        "to_pool4_predict": True,
        "to_pool3_predict": True,
    },
    FCN32s: {"features": False, "conv": True},
}
"""Their parts, and whether a transposed convolution or a sum reads what each gives."""


def can_block(network: nn.Module) -> bool:
    """Whether it's one of these networks, and this torch has oneDNN."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and type(network) in _PARTS and hasattr(torch._C, "_select_conv_backend")


def block(network: nn.Module) -> nn.Module:
    """Have a network in eval mode, float32, on the CPU compute so, in place; returns it."""
    for name, last in _PARTS[type(network)].items():
        setattr(network, name, Blocked(getattr(network, name), last=last))
    return network
