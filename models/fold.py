"""Networks made lighter for prediction, without changing the function that they compute."""

from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ._torchvision import models
from .collapse import collapse
from .efficientnet import DepthwiseSeparable, EfficientNetLite2, InvertedResidual

# (convolution, batch norm) by attribute: the norm reads the convolution's output, and nothing
# else does. A DenseLayer's norm1 comes before its convolution, behind a ReLU: it can't fold.
_PAIRS: dict[type[Any], tuple[tuple[str, str], ...]] = {
    models.ResNet: (("conv1", "bn1"),),
    models.resnet.Bottleneck: (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    models.densenet._DenseLayer: (("conv1", "norm2"),),
    EfficientNetLite2: (("conv_stem", "bn1"), ("conv_head", "bn2")),
    DepthwiseSeparable: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}


def optimise(network: nn.Module, size: int | None = None) -> nn.Module:
    """Fold batch norms into the convolutions before them; collapse a vgg19_bn for ``size``.

    In place, for a network in eval mode; returns it. The results are those of the network as it
    was, but for rounding. With ``size``, inputs must be ``size`` × ``size`` pixels.
    """
    if network.training:
        raise ValueError("a network in training mode can't be folded: its norms follow the batch")
    for module in list(network.modules()):
        for convolution, norm in _pairs(module):
            _fold(module, convolution, norm)
    return network if size is None else collapse(network, size)


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """The names of the module's children that fold: convolution, batch norm."""
    if isinstance(module, nn.Sequential):
        children = list(module.named_children())
        return [
            (name, behind)
            for (name, first), (behind, second) in pairwise(children)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)
        ]
    return list(_PAIRS.get(type(module), ()))


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    first, second = getattr(module, convolution), getattr(module, norm)
    if isinstance(second, nn.Identity):  # folded before
        return
    setattr(module, convolution, fuse_conv_bn_eval(first, second))
    setattr(module, norm, nn.Identity())
