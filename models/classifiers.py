"""The reference's eight classifiers: torchvision's networks with heads of their own.

Names and shapes in the state dicts are those of the reference's checkpoints, so that these load.
"""

from itertools import pairwise

from torch import Tensor, nn

from ._torchvision import models
from .backbones import vgg16_features, vgg19_bn_features


class VGG16(nn.Module):
    """VGG16's convolutions (``backbone``), averaged to 512 values, and two layers (``fc``)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = vgg16_features()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of float (N, 3, H, W) images, H and W at least 32."""
        logits: Tensor = self.fc(self.avgpool(self.backbone(images)).flatten(1))
        return logits


class VGG19BN(nn.Module):
    """VGG19's convolutions with batch norm (``features``), pooled to 7 × 7, and a ``classifier``.

    ``hidden`` are the sizes of the layers before the last.
    """

    def __init__(self, hidden: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.features = vgg19_bn_features()
        self.avgpool: nn.Module = nn.AdaptiveAvgPool2d(7)
        sizes = (512 * 7 * 7, *hidden)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout()]
        self.classifier = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of float (N, 3, H, W) images, H and W at least 32."""
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits


def resnet152(classes: int) -> nn.Module:
    """ResNet-152 (He et al. 2016); its head is ``fc``."""
    network: nn.Module = models.resnet152(num_classes=classes)
    return network


def resnext101_32x8d(classes: int) -> nn.Module:
    """ResNeXt-101 32×8d (Xie et al. 2017); its head is ``fc``."""
    network: nn.Module = models.resnext101_32x8d(num_classes=classes)
    return network


def densenet161(classes: int) -> nn.Module:
    """DenseNet-161 (Huang et al. 2017); its head is ``classifier``."""
    network: nn.Module = models.densenet161(num_classes=classes)
    return network


def densenet169(classes: int) -> nn.Module:
    """DenseNet-169 (Huang et al. 2017); its head is ``classifier``."""
    network: nn.Module = models.densenet169(num_classes=classes)
    return network


def vgg19_bn_1(classes: int) -> nn.Module:
    """VGG19 with batch norm, and two hidden layers of 4096."""
    return VGG19BN((4096, 4096), classes)


def vgg19_bn_2(classes: int) -> nn.Module:
    """VGG19 with batch norm, and one hidden layer of 4096."""
    return VGG19BN((4096,), classes)


def vgg19_bn_3(classes: int) -> nn.Module:
    """VGG19 with batch norm, and hidden layers of 4096, 4096 and 2048."""
    return VGG19BN((4096, 4096, 2048), classes)
