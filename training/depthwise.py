"""The gradient of a depthwise convolution's weights on inputs smaller than its kernel, on a CPU.

There oneDNN takes tens of times as long for it as for the gradient of the input. Here it is one
matrix product a channel: of all pairs of an input's and an output's position, summed over the
batch, those that lie a tap apart are added up. EfficientNet-Lite2's last stages have such inputs
(5 × 5 on 4 × 4 and smaller).
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input


class SmallDepthwiseConv2d(nn.Conv2d):
    """A depthwise Conv2d of stride 1 that keeps its input's size; the same function."""

    def forward(self, input: Tensor) -> Tensor:
        """See Conv2d."""
        if not self.weight.requires_grad or min(input.shape[2:]) >= self.kernel_size[0]:
            return super().forward(input)
        output: Tensor = _Convolution.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return output


def use_small_depthwise(network: nn.Module) -> None:
    """Turn the network's depthwise convolutions into such ones, in place."""
    for layer in network.modules():
        if (
            type(layer) is nn.Conv2d
            and layer.groups == layer.in_channels == layer.out_channels > 1
            and layer.bias is None
            and layer.stride == layer.dilation == (1, 1)
            and layer.kernel_size[0] == layer.kernel_size[1] == 2 * int(layer.padding[0]) + 1
            and layer.padding[0] == layer.padding[1]
        ):
            layer.__class__ = SmallDepthwiseConv2d  # the same weights under the same names


class _Convolution(torch.autograd.Function):
    """Input (N, C, H, W) and weight (C, 1, K, K) give (N, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return F.conv2d(images, weight, None, padding=weight.shape[2] // 2, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        images, weight = ctx.saved_tensors
        for_images = None
        if ctx.needs_input_grad[0]:
            half = weight.shape[2] // 2
            for_images = conv2d_input(  # type: ignore[no-untyped-call]
                # Autocast gives a gradient in bf16 to weights that are float32.
                *(images.shape, weight.to(gradient.dtype), gradient),
                padding=half,
                groups=len(weight),
            ).to(images.dtype)
        kernel, exact = weight.shape[2], weight.dtype
        for_weight = _for_weight(images.to(exact), gradient.to(exact), kernel)
        return for_images, for_weight


def _for_weight(images: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """The weights' gradient (C, 1, K, K) from the input and the output's gradient (N, C, H, W)."""
    n, c, height, width = images.shape
    inputs = images.permute(1, 2, 3, 0).reshape(c, height * width, n)
    outputs = gradient.permute(1, 0, 2, 3).reshape(c, n, height * width)
    pairs = torch.bmm(inputs, outputs).view(c, -1)
    return (pairs @ _taps(height, width, kernel).to(pairs.dtype)).view(c, 1, kernel, kernel)


@cache
def _taps(height: int, width: int, kernel: int) -> Tensor:
    """1 where an input's position lies that tap from an output's: (HW · HW, K · K), else 0."""

    def along(side: int) -> Tensor:
        positions = torch.arange(side)
        tap = positions.view(-1, 1) - positions + kernel // 2
        return (tap[..., None] == torch.arange(kernel)).float()

    taps = torch.einsum("iok,jpl->ijopkl", along(height), along(width))
    return taps.reshape((height * width) ** 2, kernel**2)
