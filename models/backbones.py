"""VGG's convolutions (Simonyan & Zisserman 2015), without the 120 million weights behind them.

torchvision's ``vgg16()`` would draw those at random only for us to drop them.
"""

from torch import nn

from ._torchvision import models


def vgg16_features() -> nn.Sequential:
    """torchvision's ``vgg16().features``: 31 layers, 512 channels at a 32nd of the input's size."""
    return _features("D", batch_norm=False)


def vgg19_bn_features() -> nn.Sequential:
    """torchvision's ``vgg19_bn().features``: 53 layers, with batch norms."""
    return _features("E", batch_norm=True)


def _features(configuration: str, batch_norm: bool) -> nn.Sequential:
    layers: nn.Sequential = models.vgg.make_layers(models.vgg.cfgs[configuration], batch_norm)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):  # as torchvision starts them
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return layers
