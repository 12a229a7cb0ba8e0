"""EfficientNet-Lite2 (Tan & Le 2019; the Lite variant without squeeze-excitation, with ReLU6).

Names and shapes in the state dict, and the function, are those of timm's ``tf_efficientnet_lite2``,
so that weights made for it load; TensorFlow trained these, hence its padding.
"""

import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-3  # of the batch norms, as in TensorFlow
# Each stage's blocks: how many, the kernel's side, the first one's stride, the outputs' channels.
_STAGES = (
    (3, 3, 2, 24),
    (3, 5, 2, 48),
    (4, 3, 2, 88),
    (4, 5, 1, 120),
    (5, 5, 2, 208),
    (1, 3, 1, 352),
)
_STEM, _FIRST, _WIDEST = 32, 16, 1280
_EXPANSION = 6


class DepthwiseSeparable(nn.Module):
    """A depthwise convolution and a pointwise one, each with a batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_dw = _convolution(inputs, inputs, 3, groups=inputs)
        self.bn1 = nn.BatchNorm2d(inputs, _EPSILON)
        self.conv_pw = _convolution(inputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs, _EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        features = F.relu6(self.bn1(self.conv_dw(features)))
        outputs: Tensor = self.bn2(self.conv_pw(features))
        return outputs


class InvertedResidual(nn.Module):
    """Pointwise to six times the channels, depthwise, pointwise back (Sandler et al. 2018).

    What goes in is added where it has the outputs' shape.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = _EXPANSION * inputs
        self.conv_pw = _convolution(inputs, wide, 1)
        self.bn1 = nn.BatchNorm2d(wide, _EPSILON)
        self.conv_dw = _convolution(wide, wide, kernel, stride, groups=wide)
        self.bn2 = nn.BatchNorm2d(wide, _EPSILON)
        self.conv_pwl = _convolution(wide, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs, _EPSILON)
        self.kernel, self.stride = kernel, stride
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride), rounded up."""
        wide = F.relu6(self.bn1(self.conv_pw(features)))
        wide = F.relu6(self.bn2(self.conv_dw(_padded(wide, self.kernel, self.stride))))
        outputs: Tensor = self.bn3(self.conv_pwl(wide))
        return outputs + features if self.residual else outputs


class EfficientNetLite2(nn.Module):
    """The stem, seven stages of blocks, and a head whose last layer is ``classifier``."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv_stem = _convolution(3, _STEM, 3, 2)
        self.bn1 = nn.BatchNorm2d(_STEM, _EPSILON)
        stages = [nn.Sequential(DepthwiseSeparable(_STEM, _FIRST))]
        channels = _FIRST
        for count, kernel, stride, outputs in _STAGES:
            blocks = [InvertedResidual(channels, outputs, kernel, stride)]
            blocks += [InvertedResidual(outputs, outputs, kernel, 1) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = outputs
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(channels, _WIDEST, 1)
        self.bn2 = nn.BatchNorm2d(_WIDEST, _EPSILON)
        self.classifier = nn.Linear(_WIDEST, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of float (N, 3, H, W) images."""
        features = F.relu6(self.bn1(self.conv_stem(_padded(images, 3, 2))))
        features = self.blocks(features)
        features = F.relu6(self.bn2(self.conv_head(features)))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1
) -> nn.Conv2d:
    """A convolution without bias; with a stride it's for an input that is padded before."""
    padding = kernel // 2 if stride == 1 else 0
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return layer


def _padded(images: Tensor, kernel: int, stride: int) -> Tensor:
    """The input of a convolution with a stride, padded as TensorFlow does ("SAME").

    So many zeros that the output has the input's size over the stride, rounded up; where they
    can't be the same on both sides, the right and the lower one get one more.
    """
    if stride == 1:
        return images
    margins: list[int] = []
    for side in (images.shape[3], images.shape[2]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        margins += [total // 2, total - total // 2]
    return F.pad(images, margins)
