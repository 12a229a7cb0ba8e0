"""The two segmenters: fully convolutional networks on VGG16 (Long, Shelhamer & Darrell 2015).

Names and shapes in the state dicts are those of the reference's checkpoints, so that these load.
"""

from torch import Tensor, nn

from .backbones import vgg16_features


def _numbered(layers: nn.Sequential, first: int, end: int) -> nn.Sequential:
    """Layers first to end - 1 as a Sequential of their own, numbered from 0."""
    return nn.Sequential(*list(layers)[first:end])


class FCN8s(nn.Module):
    """FCN8s: predictions at strides 32, 16 and 8, added up and enlarged to the input's size."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        features = vgg16_features()
        self.to_pool3 = _numbered(features, 0, 17)
        self.to_pool4 = _numbered(features, 17, 24)
        self.to_pool5 = _numbered(features, 24, 31)
        self.to_pool5_predict = nn.Sequential(
            nn.Conv2d(512, 1024, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(1024, 1024, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(1024, classes, 1),
        )
        self.pool5_upsample = nn.ConvTranspose2d(classes, classes, 2, stride=2)
        self.to_pool4_predict = nn.Conv2d(512, classes, 1)
        self.fused_pool4_pool5_upsample = nn.ConvTranspose2d(classes, classes, 2, stride=2)
        self.to_pool3_predict = nn.Conv2d(256, classes, 1)
        self.fused_all_upsample = nn.ConvTranspose2d(classes, classes, 8, stride=8)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of float (N, 3, H, W) images, H and W multiples of 32."""
        pool3 = self.to_pool3(images)
        pool4 = self.to_pool4(pool3)
        pool5 = self.to_pool5(pool4)
        fused = self.pool5_upsample(self.to_pool5_predict(pool5)) + self.to_pool4_predict(pool4)
        fused = self.fused_pool4_pool5_upsample(fused) + self.to_pool3_predict(pool3)
        logits: Tensor = self.fused_all_upsample(fused)
        return logits


class FCN32s(nn.Module):
    """FCN32s: one prediction at stride 32, enlarged to the input's size."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = vgg16_features()
        self.conv = nn.Sequential(
            nn.Conv2d(512, 1024, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(1024, 1024, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(1024, 1024, 3, padding=1),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.ConvTranspose2d(1024, classes, 32, stride=32))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of float (N, 3, H, W) images, H and W multiples of 32."""
        logits: Tensor = self.classifier(self.conv(self.features(images)))
        return logits
