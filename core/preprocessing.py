"""How pixels become a network's input; a checkpoint's metadata carries it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Sides = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, slots=True, order=True)
class Framing:
    """How a photo becomes a classifier's crop of uint8 pixels: one decode serves all framings.

    Without ``resize`` the whole image is resized to ``size``, whatever its shape. With a number,
    its shorter side is resized to so many pixels, and the middle of it cropped to ``size``; with
    (height, width) the whole is resized to that before the crop. An image that is larger than
    ``shrink`` is shrunk to it first, in the same way: a number is of its shorter side.
    """

    size: Sides
    resize: int | Sides | None = None
    interpolation: Interpolation = "bilinear"
    shrink: int | Sides | None = None


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """RGB, resized (antialiased, as Pillow does), scaled to [0, 1], less ``mean``, over ``std``.

    A classifier's image becomes ``size`` × ``size`` pixels, or (height, width), in the way of its
    ``framing``. A segmenter's is enlarged by ``scale`` in each direction (below 1: shrunk), or
    until its shorter side has ``resize`` pixels, its logits enlarged back to the image's size;
    ``size`` is None. With a ``cell`` above 1 its logits are first made
    one value for each cell × cell of them, their mean, and enlarged again (bilinear): FCN8s's last
    layer fills every cell of 8 × 8 from one prediction alone, so neighbours meet in steps that
    aren't in the image. ``white`` is the value that 255 becomes before mean and std, ``order``
    that of the channels, as the network was trained (OpenCV's is BGR); mean and std are in that
    order too. ``shrink`` (see `Framing`) is of a classifier that was trained on small images,
    enlarged, and so has never seen finer detail. The defaults are the reference's classifiers'.
    """

    size: int | Sides | None = 40
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    cell: int = 1
    resize: int | Sides | None = None
    interpolation: Interpolation = "bilinear"
    white: float = 1.0
    order: Literal["rgb", "bgr"] = "rgb"
    shrink: int | Sides | None = None

    @property
    def sides(self) -> Sides | None:
        """``size`` as (height, width); None for a segmenter."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def framing(self) -> Framing | None:
        """What is cut out of an image; None for a segmenter, which sees all of it."""
        sides = self.sides
        if sides is None:
            return None
        return Framing(sides, self.resize, self.interpolation, self.shrink)


def normalise(images: "Tensor", preprocessing: Preprocessing) -> "Tensor":
    """Pixels (N, 3, H, W), 0 to 255, as float32 up to ``white``, less the mean, over the deviation.

    A new tensor on the images' device, its memory format theirs. A GPU isn't waited for.
    """
    import torch

    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1).to(images.device, non_blocking=True)
        for values in (preprocessing.mean, preprocessing.std)
    )
    if preprocessing.order == "bgr":
        images = images.flip(1)
    pixels = images.to(torch.float32, copy=True)
    if preprocessing.white != 255:
        pixels.div_(255)
    if preprocessing.white not in (1, 255):
        pixels.mul_(preprocessing.white)
    return pixels.sub_(mean).div_(std)
