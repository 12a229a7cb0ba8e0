"""3 × 3 convolutions with a quarter of the multiplications, for fp32 on a CPU.

torch's CPU convolutions in fp32 are direct ones. Winograd's minimal filtering F(4 × 4, 3 × 3)
(Lavin & Gray 2016) computes 4 × 4 outputs from 6 × 6 inputs with 36 multiplications instead of
144; its transforms are three small matrices. The results are equal to 1e-5 of their range. On one
core with AVX2 and no bf16, a training step took 0.6 of the CPU time so for vgg16 (16 images of
64 × 64), 0.83 for fcn8s (2 crops of 192 × 192), two blocks frozen in each.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEW_CHANNELS = 64
"""Up to this many inputs a layer's transforms cost more than they save."""

_INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_WEIGHT = torch.tensor(
    [
        [6.0, 0, 0],
        [-4, -4, -4],
        [-4, 4, -4],
        [1, 2, 4],
        [1, -2, 4],
        [0, 0, 24],
    ]
)
_OUTPUT = torch.tensor(
    [
        [1.0, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
)
# In two dimensions at once: rows and columns of a tile as one index.
_INPUT_2D = torch.kron(_INPUT, _INPUT)
_WEIGHT_2D = torch.kron(_WEIGHT / 24, _WEIGHT / 24)
_OUTPUT_2D = torch.kron(_OUTPUT, _OUTPUT)


class WinogradConv2d(nn.Conv2d):
    """A Conv2d of 3 × 3, stride 1, padding 1, that trains by Winograd's method where it can.

    In evaluation it is the plain one, so that scores are those of the network as it is used; for
    sides below 4 pixels, too: tiles would be mostly padding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """See Conv2d."""
        if not self.training or min(input.shape[2:]) < 4:
            return super().forward(input)
        output: Tensor = _Convolution.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return output if self.bias is None else output + self.bias.view(-1, 1, 1)


def use_winograd(network: nn.Module) -> int:
    """Turn the network's convolutions that gain by it into such ones; how many. In place."""
    layers = [
        layer
        for layer in network.modules()
        if type(layer) is nn.Conv2d
        and layer.kernel_size == (3, 3)
        and layer.stride == layer.padding == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.in_channels > FEW_CHANNELS
    ]
    for layer in layers:
        layer.__class__ = WinogradConv2d  # the same weights under the same names
    return len(layers)


def train_fast(frozen: Iterable[nn.Module]) -> None:
    """Let the Winograd convolutions in frozen layers, which are in evaluation mode, be fast too."""
    for layer in frozen:
        for part in layer.modules():
            if isinstance(part, WinogradConv2d):
                part.train()


class _Convolution(torch.autograd.Function):
    """Input (N, C, H, W) and weight (K, C, 3, 3) give (N, K, H, W)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        n, c, height, width = images.shape
        k = weight.shape[0]
        inputs = _input_tiles(images)
        filters = (_WEIGHT_2D @ weight.reshape(k * c, 9).t()).view(36, k, c)
        ctx.save_for_backward(inputs, filters)
        rows, columns = -(-height // 4), -(-width // 4)
        products = torch.bmm(inputs, filters.transpose(1, 2))
        tiles = (_OUTPUT_2D @ products.view(36, -1)).view(4, 4, n, rows, columns, k)
        outputs = tiles.permute(2, 5, 3, 0, 4, 1).reshape(n, k, 4 * rows, 4 * columns)
        return outputs[:, :, :height, :width]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        inputs, filters = ctx.saved_tensors
        k, c = filters.shape[1:]
        n, _, height, width = gradient.shape
        rows, columns = -(-height // 4), -(-width // 4)
        padded = F.pad(gradient, (0, -width % 4, 0, -height % 4))
        tiles = padded.reshape(n, k, rows, 4, columns, 4).permute(3, 5, 0, 2, 4, 1)
        products = (_OUTPUT_2D.t() @ tiles.reshape(16, -1)).view(36, -1, k)
        for_images = for_weight = None
        if ctx.needs_input_grad[1]:
            by_filter = torch.bmm(products.transpose(1, 2), inputs)
            for_weight = (_WEIGHT_2D.t() @ by_filter.view(36, -1)).t().reshape(k, c, 3, 3)
        if ctx.needs_input_grad[0]:
            by_input = torch.bmm(products, filters).view(36, -1)
            tiles = (_INPUT_2D.t() @ by_input).view(6, 6, n, rows, columns, c)
            for_images = _add_up(tiles)[:, :, :height, :width]
        return for_images, for_weight


def _input_tiles(images: Tensor) -> Tensor:
    """The overlapping 6 × 6 tiles of (N, C, H, W), transformed: (36, N · H/4 · W/4, C).

    Sides that are no multiples of 4 are padded with zeros up to one.
    """
    height, width = images.shape[2:]
    margins = (0, 0, 1, 1 + -width % 4, 1, 1 + -height % 4)
    padded = F.pad(images.permute(0, 2, 3, 1), margins)
    tiles = padded.unfold(1, 6, 4).unfold(2, 6, 4).permute(4, 5, 0, 1, 2, 3)
    return (_INPUT_2D @ tiles.reshape(36, -1)).view(36, -1, images.shape[1])


def _add_up(tiles: Tensor) -> Tensor:
    """(N, C, H, W) from overlapping tiles (6, 6, N, H/4, W/4, C): the reverse of cutting them."""
    _, _, n, rows, columns, c = tiles.shape
    height, width = 4 * rows, 4 * columns
    total = tiles.new_zeros(n, height + 2, width + 2, c)
    for i in range(6):
        for j in range(6):
            total[:, i : i + height - 3 : 4, j : j + width - 3 : 4] += tiles[i, j]
    return total[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
