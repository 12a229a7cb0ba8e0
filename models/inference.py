"""A network made ready to predict: its device, precision, layout, and its input's form."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from ..core.allocator import keep_blocks
from ..core.errors import DeviceFull, EnvironmentFault
from ..core.events import report
from ..core.numerics import Profile, backend_of
from ..core.preprocessing import Preprocessing, normalise
from ..core.records import UInt8
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
    """Turn torch's lack of memory into DeviceFull, of a GPU's, or EnvironmentFault.

    Of several around each other the outermost gives the advice: it knows who asked.
    """
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, DeviceFull) as error:
        raise DeviceFull(f"the GPU's memory ran out: {advice}") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise EnvironmentFault(f"the machine's memory ran out: {advice}") from error


class Predict(Protocol):
    """A network made ready, whatever runs it."""

    @property
    def device(self) -> "torch.device":
        """Where inputs of `logits` lie, and what it returns."""

    def __call__(self, images: "UInt8 | Tensor") -> "Tensor":
        """Logits (N, classes), float32, of uint8 (N, H, W, 3) RGB images; on the device.

        A tensor lies there already (see `Transfers`).
        """

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

    def __call__(self, images: "UInt8 | Tensor") -> "Tensor":
        """See `Predict`."""
        import torch

        # The bytes travel, not the floats: a quarter of the traffic to a GPU.
        pixels = torch.as_tensor(images).to(self.device)
        return self.logits(normalise(pixels.permute(0, 3, 1, 2), self.preprocessing))

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


class Transfers:
    """Copies to and from a GPU that are made beside what it computes; on a CPU there are none.

    Uploads lie in page-locked memory and go on a stream of their own, so that the next batch's
    bytes travel while the last one is computed. Results are waited for when they are asked for.
    """

    def __init__(self, device: "torch.device") -> None:
        import torch

        self._device = device
        stream: Any = torch.cuda.Stream  # untyped, as events are
        self._uploads = stream(device) if device.type == "cuda" else None

    def up(self, images: UInt8) -> "UInt8 | Tensor":
        """The images on the GPU, for what is computed on the current stream; on a CPU as is."""
        import torch

        if self._uploads is None:
            return images
        # torch keeps page-locked memory from being used again before the copy has been made.
        pinned = torch.from_numpy(images).pin_memory()
        with torch.cuda.stream(self._uploads):
            there = pinned.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._uploads)
        there.record_stream(current)
        return there

    def down(self, *tensors: "Tensor") -> Callable[[], "list[NDArray[Any]]"]:
        """What waits for the tensors, and gives them as arrays."""
        import torch

        if self._uploads is None:
            return lambda: [tensor.numpy() for tensor in tensors]
        copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        event: Any = torch.cuda.Event
        made = event()
        made.record(torch.cuda.current_stream(self._device))

        def wait() -> "list[NDArray[Any]]":
            made.synchronize()
            return [copy.numpy() for copy in copies]

        return wait


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
    return ready_each([checkpoint], profile)[0]


def ready_each(checkpoints: Sequence[Checkpoint], profile: Profile) -> list[Predict]:
    """Load networks and make them ready to predict, in order. Raises InputError as `load`."""
    keep_blocks()
    made: list[Predict] = []

    def say() -> None:
        text = f"reading members, {len(made)} of {len(checkpoints)} are ready"
        if len(made) == len(checkpoints):
            text = "the members are ready, scoring the first shard"
        report(logging.DEBUG, "start", text)

    say()
    if backend_of(profile) == "openvino":
        from .openvino_network import prepare_each

        for compiled in prepare_each(checkpoints, profile):
            made.append(compiled)
            say()
        return made
    from .checkpoints import load_each

    for checkpoint, network in zip(checkpoints, load_each(checkpoints), strict=True):
        if network is None:
            from .onnx_network import prepare as prepare_onnx

            file = checkpoint.path, checkpoint.digest, checkpoint.preprocessing
            made.append(prepare_onnx(*file, profile))
        else:
            made.append(prepare(network, checkpoint.preprocessing, profile))
        say()
        del network
    return made


def prepare(network: "nn.Module", preprocessing: Preprocessing, profile: Profile) -> Ready:
    """Make a loaded network ready to predict under a numerics profile.

    Sets the process's number of torch threads, which is the actor's own, and what cuDNN may do.
    """
    import torch

    from .blocked import block, can_block
    from .fold import has_known_structure, optimise
    from .pack import pack

    _exact_cudnn()
    if profile.threads:
        torch.set_num_threads(profile.member_threads)
    device = torch.device(profile.device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
        profile.precision
    ]
    sides = preprocessing.sides
    plain = sides is None and profile.precision == "fp32" and device.type == "cpu"
    if plain and (can_block(network) or not has_known_structure(network)):
        # Folded and packed these are no faster, and a few pixels in a million, whose classes are
        # nearly equal, would get another than plain torch gives them.
        network = network.eval().to(device=device, dtype=dtype)
        network = block(network) if can_block(network) else network
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
