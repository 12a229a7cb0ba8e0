"""Growing a network out of a trained one without changing what it computes.

As in Net2Net (Chen, Goodfellow & Shlens 2016): VGG19 has one convolution more than VGG16 in each
of its last three blocks. There it follows a ReLU, so as the identity it changes nothing. Each
batch norm is given the mean and deviation that its input has on training images, and undoes them
by its own weight and bias: in evaluation it is the identity, and in training, where it takes
those of the batch, nearly so.

But for a factor: VGG16's activations reach hundreds, their variances pass what fp16 holds, and
batch norms' weights, and the inputs of a head that begins at random, want to be about 1. ReLU,
pooling and convolution pass a factor on, so each batch norm divides by the size of its input.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def rescale(vgg16: nn.Sequential, images: Tensor) -> float:
    """Give every convolution outputs of size 1 on ``images``: the same function over a factor.

    VGG16's activations are 450 at its third pooling, 150 at the fourth and 16 at the last. A head
    that begins at random on those throws the loss about for hundreds of steps, and the more so
    predictions at each of the three. Returns the factor; works in place.
    """
    activations, factor = images, 1.0
    for layer in vgg16:
        if isinstance(layer, nn.Conv2d):
            _bias(layer).div_(factor)
            activations = layer(activations)
            size = _size(activations)
            layer.weight.div_(size)
            _bias(layer).div_(size)
            activations = activations / size
            factor *= size
        else:
            activations = layer(activations)
    return factor


@torch.no_grad()
def into_vgg19_bn(vgg16: nn.Sequential, features: nn.Sequential, images: Tensor) -> float:
    """Fill VGG19-BN's ``features`` so that they compute what VGG16's layers do, over a factor.

    Returns the factor: in evaluation VGG16's outputs are these times it.
    ``images`` are normalised float32 (N, 3, H, W): the training images to calibrate on, some
    hundred of them.
    """
    given = [_convolutions(block) for block in _blocks(vgg16)]
    activations, factor = images, 1.0
    for block, old in zip(_blocks(features), given, strict=True):
        for index, new in enumerate(_convolutions(block)):
            if index < len(old):
                new.weight.copy_(old[index].weight)
                _bias(new).copy_(_bias(old[index]))
            else:
                nn.init.dirac_(new.weight)
                nn.init.zeros_(_bias(new))
        for layer in block:
            if isinstance(layer, nn.Conv2d):
                _bias(layer).div_(factor)
            if isinstance(layer, nn.BatchNorm2d):
                size = _size(activations)
                _calibrate(layer, activations, size)
                activations = activations / size
                factor *= size
            else:
                activations = layer(activations)
    return factor


def _size(inputs: Tensor) -> float:
    """The root mean square, over the channels, of their deviations; 1 for constant inputs."""
    return float(inputs.var((0, 2, 3)).mean().sqrt()) or 1.0


def _calibrate(norm: nn.BatchNorm2d, inputs: Tensor, size: float) -> None:
    """Make a batch norm divide by ``size``, and keep the statistics of ``inputs``."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    variance, mean = torch.var_mean(inputs, (0, 2, 3), correction=1)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt() / size)
    norm.bias.copy_(mean / size)


def _blocks(layers: nn.Sequential) -> list[list[nn.Module]]:
    """Layers in blocks, each up to and with its pooling."""
    blocks: list[list[nn.Module]] = [[]]
    for layer in layers:
        blocks[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
    return blocks[:-1]


def _convolutions(layers: Sequence[nn.Module]) -> list[nn.Conv2d]:
    return [layer for layer in layers if isinstance(layer, nn.Conv2d)]


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
