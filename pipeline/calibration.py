"""The images that show how large a network's numbers get, when it's made int8: what it sees."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ..core.errors import InputError
from ..core.events import report
from ..core.preprocessing import normalise
from ..core.records import Float32, Planned, UInt8
from ..core.spec import TiffReading
from ..core.text import shown
from ..models.checkpoints import Checkpoint
from .classification import framing_of
from .crops import crop
from .decode import open_image
from .limits import Reject
from .tiff_layout import DEFAULT

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

IMAGES: Final = {"classify": 128, "segment": 24}
"""How many of a folder's images are used, by the network's task."""

_SIDE: Final = 512
"""A segmenter sees the middle of an image, so many pixels a side."""


def write_int8(
    checkpoint: Checkpoint,
    root: Path,
    images: Sequence[Planned],
    path: Path,
    reading: TiffReading = DEFAULT,
) -> None:
    """Make a checkpoint's network int8, with images below ``root``, as a file.

    Raises InputError where none of them can be read, or the network can't be converted.
    """
    from ..models.quantising import write_int8 as write

    name, picked = checkpoint.member, chosen(images, IMAGES[checkpoint.task])
    report(logging.INFO, "int8", f"{name}: made int8 with {len(picked)} images of {root}")
    write(checkpoint, _samples(checkpoint, root, picked, reading), path)


def chosen(images: Sequence[Planned], count: int) -> list[Planned]:
    """``count`` of the images, evenly spaced in the plan's order: the middle of each part."""
    count = min(count, len(images))
    return [images[(2 * number + 1) * len(images) // (2 * count)] for number in range(count)]


def _samples(
    checkpoint: Checkpoint, root: Path, picked: Sequence[Planned], reading: TiffReading
) -> list[Float32]:
    """What the network gets of each picked image that can be read: float32 (1, 3, H, W).

    Raises InputError where there is none.
    """
    samples, faults = [], []
    for image in picked:
        try:
            # Whatever its time is now: the file's digest shows whether it is the same.
            photo = open_image(root / image.image_id, reading=reading).rgb()
        except Reject as reject:
            faults.append(f"{shown(image.image_id)} is {reject.reason} ({reject.detail})")
        else:
            samples.append(_input(checkpoint, photo))
    if not samples:
        raise InputError(
            f"no image to make {checkpoint.member} int8 with: expected at least one that can be "
            f"read, found {len(faults)} that can't, the first: {faults[0]}"
        )
    return samples


def _input(checkpoint: Checkpoint, photo: "Image") -> Float32:
    if checkpoint.task == "segment":
        return _seen(checkpoint, np.asarray(photo))
    import torch

    pixels = torch.from_numpy(crop(photo, framing_of(checkpoint)).copy())
    planes = pixels.permute(2, 0, 1).unsqueeze(0)
    return normalise(planes, checkpoint.preprocessing).numpy()


def _seen(checkpoint: Checkpoint, image: UInt8) -> Float32:
    """What a segmenter's network gets of an image's middle: scaled, padded, normalised."""
    from .segmentation import mask_of

    top, left = (max(0, (length - _SIDE) // 2) for length in image.shape[:2])
    recorder = _Recorder()
    try:
        mask_of(recorder, image[top : top + _SIDE, left : left + _SIDE], checkpoint)
    except _Enough:
        return recorder.inputs[0].numpy()
    raise InputError(f"{checkpoint.path}: its network was never asked")


class _Enough(Exception):
    """The network's input is known."""


@dataclass
class _Recorder:
    """A network that only notes its input (see `models.inference.Predict`)."""

    inputs: "list[torch.Tensor]" = field(default_factory=list)

    @property
    def device(self) -> "torch.device":
        """The CPU."""
        import torch

        return torch.device("cpu")

    def __call__(self, images: "UInt8 | torch.Tensor") -> "torch.Tensor":
        """Never called: a segmenter's images come normalised."""
        raise NotImplementedError

    def logits(self, inputs: "torch.Tensor") -> "torch.Tensor":
        """Note the input, and stop."""
        self.inputs.append(inputs.contiguous())
        raise _Enough
