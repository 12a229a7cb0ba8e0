"""How pixels become a network's input; a checkpoint's metadata carries it."""

from dataclasses import dataclass

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
