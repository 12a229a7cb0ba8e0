"""A network made ready to predict: its device, precision, layout, and its input's form."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..core.errors import EnvironmentFault
from ..core.numerics import Profile
from ..core.preprocessing import Preprocessing, normalise
from ..core.records import UInt8
from .architectures import ONNX
from .checkpoints import Checkpoint

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


_USUAL_SIDE = 320
"""Of a tile as it's scored: packed for it, the weights serve others nearly as well."""


@contextmanager
def memory_faults(
    advice: str = "give a smaller --batch-size, or fewer --actors",
) -> Iterator[None]:
    """Turn torch's lack of memory, which is the machine's fault, into EnvironmentFault."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EnvironmentFault(f"the GPU's memory ran out: {advice}") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise EnvironmentFault(f"the machine's memory ran out: {advice}") from error


class Predict(Protocol):
    """A network made ready, whatever runs it."""

    @property
    def device(self) -> "torch.device":
        """Where inputs of `logits` lie, and what it returns."""

    def __call__(self, images: UInt8) -> "Tensor":
        """Logits (N, classes), float32, of uint8 (N, H, W, 3) RGB images; on the device."""

    def logits(self, inputs: "Tensor") -> "Tensor":
        """Logits, float32, of normalised float32 (N, 3, H, W) inputs on the device."""


@dataclass(frozen=True)
class Ready:
    """A network on its device: uint8 images in, float32 logits out."""

    network: "nn.Module"
    device: "torch.device"
    dtype: "torch.dtype"
    layout: "torch.memory_format"
    preprocessing: Preprocessing

    def __call__(self, images: UInt8) -> "Tensor":
        """Logits (N, classes), float32, of uint8 (N, H, W, 3) RGB images; on the device."""
        import torch

        # The bytes travel, not the floats: a quarter of the traffic to a GPU.
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        return self.logits(normalise(pixels, self.preprocessing))

    def logits(self, inputs: "Tensor") -> "Tensor":
        """Logits, float32, of normalised float32 (N, 3, H, W) inputs on the device.

        Raises EnvironmentFault where memory runs out.
        """
        with memory_faults():
            outputs = self.network(inputs.to(self.dtype, memory_format=self.layout))
            if isinstance(outputs, Mapping):  # as torchvision's segmenters give it
                outputs = outputs["out"]
            logits: Tensor = outputs.float()
            return logits


def _exact_cudnn() -> None:
    """Have a GPU give the same bytes again, and fp32 be what the profile calls it, not TF32.

    Some of cuDNN's transposed convolutions, with which the segmenters enlarge, add up in varying
    order; timing them would choose another one now and then.
    """
    import torch

    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False


def ready(checkpoint: Checkpoint, profile: Profile) -> Predict:
    """Load a checkpoint's network, and make it ready to predict. Raises InputError as `load`."""
    from .checkpoints import load

    if checkpoint.architecture == ONNX:
        from .onnx_network import prepare as prepare_onnx

        made = checkpoint.path, checkpoint.digest, checkpoint.preprocessing
        return prepare_onnx(*made, profile)
    return prepare(load(checkpoint), checkpoint.preprocessing, profile)


def prepare(network: "nn.Module", preprocessing: Preprocessing, profile: Profile) -> Ready:
    """Make a loaded network ready to predict under a numerics profile.

    Sets the process's number of torch threads, which is the actor's own, and what cuDNN may do.
    """
    import torch

    from .fold import has_known_structure, optimise
    from .pack import pack

    _exact_cudnn()
    if profile.threads:
        torch.set_num_threads(profile.threads)
    device = torch.device(profile.device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
        profile.precision
    ]
    sides = preprocessing.sides
    plain = sides is None and profile.precision == "fp32" and device.type == "cpu"
    if plain and not has_known_structure(network):
        # Folded and packed these are no faster, and a few pixels in a million, whose classes are
        # nearly equal, would get another than plain torch gives them.
        network = network.eval().to(device=device, dtype=dtype)
        return Ready(network, device, dtype, torch.contiguous_format, preprocessing)
    layout = torch.channels_last
    square = sides[0] if sides and sides[0] == sides[1] else None
    network = optimise(network.eval(), square).to(device=device, dtype=dtype)
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    if device.type == "cpu":
        height, width = sides or (_USUAL_SIDE, _USUAL_SIDE)
        example = torch.zeros(1, 3, height, width, dtype=dtype).to(memory_format=layout)
        batch_size = 1 if sides is None else profile.batch_size
        network = pack(network, example, batch_size)
    return Ready(network, device, dtype, layout, preprocessing)
