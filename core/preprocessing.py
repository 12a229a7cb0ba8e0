"""How pixels become a network's input; a checkpoint's metadata carries it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """RGB, resized (bilinear, antialiased), scaled to [0, 1], less ``mean``, over ``std``.

    A classifier's image is resized to ``size`` × ``size`` pixels, whatever its shape. A
    segmenter's is enlarged by ``scale`` in each direction (below 1: shrunk), its logits enlarged
    back to the image's size; ``size`` is None. With a ``cell`` above 1 its logits are first made
    one value for each cell × cell of them, their mean, and enlarged again (bilinear): FCN8s's last
    layer fills every cell of 8 × 8 from one prediction alone, so neighbours meet in steps that
    aren't in the image. The defaults are the reference's classifiers'.
    """

    size: int | None = 40
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    cell: int = 1


def normalise(images: "Tensor", preprocessing: Preprocessing) -> "Tensor":
    """Pixels (N, 3, H, W), 0 to 255, as float32 in [0, 1], less the mean, over the deviation.

    A new tensor on the images' device, its memory format theirs. A GPU isn't waited for.
    """
    import torch

    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1).to(images.device, non_blocking=True)
        for values in (preprocessing.mean, preprocessing.std)
    )
    return images.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)
