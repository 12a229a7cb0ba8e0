"""Networks run by OpenVINO on a CPU: converted from a checkpoint, or as an int8 file holds them.

One stream, so many threads as the profile says, and its precision: nothing is left to what
OpenVINO would choose by the machine's load. A classifier's batch has the profile's size; a
segmenter's inputs have any.
"""

import sys
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import EnvironmentFault, InputError
from ..core.numerics import Profile, has_bf16
from ..core.preprocessing import Preprocessing, normalise
from ..core.records import UInt8
from .architectures import ONNX, require_library
from .checkpoints import READERS, Checkpoint, load, verified

XML, BIN = "openvino.xml", "openvino.bin"
"""The tensors, uint8, of a file that holds an OpenVINO network: its graph and its numbers."""

_SIDE = 64  # of the input that a segmenter is traced with: it takes any


@dataclass(frozen=True)
class OpenvinoReady:
    """A compiled network: uint8 images in, float32 logits out, as `inference.Ready` does it.

    ``batch`` is the number of images that it takes; None: any.
    """

    compiled: Any
    path: Path
    preprocessing: Preprocessing
    device: torch.device
    batch: int | None
    kind: Any
    channels_last: bool

    def __call__(self, images: UInt8 | Tensor) -> Tensor:
        """Logits (N, classes), float32, of uint8 (N, H, W, 3) RGB images."""
        pixels = torch.as_tensor(images).permute(0, 3, 1, 2)
        return self.logits(normalise(pixels, self.preprocessing))

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits, float32, of normalised float32 (N, 3, H, W) inputs; the last batch filled up."""
        images = inputs.permute(0, 2, 3, 1) if self.channels_last else inputs
        values = np.ascontiguousarray(images.numpy().astype(self.kind))
        count = len(values)
        batch = self.batch or count
        if blanks := -count % batch:
            values = np.concatenate([values, np.zeros((blanks, *values.shape[1:]), values.dtype)])
        outputs = [self._run(values[at : at + batch]) for at in range(0, len(values), batch)]
        return torch.from_numpy(np.concatenate(outputs)[:count].astype(np.float32))

    def _run(self, values: Any) -> Any:
        with faults(self.path):
            return self.compiled(values)[0]


def prepare_each(checkpoints: Sequence[Checkpoint], profile: Profile) -> Iterator[OpenvinoReady]:
    """Load checkpoints and compile them under a numerics profile, in order, some side by side.

    Raises InputError as `load`.
    """
    if profile.threads:
        torch.set_num_threads(profile.member_threads)
    with ThreadPoolExecutor(READERS) as compilers:  # each of them keeps one core busy
        coming: deque[Future[OpenvinoReady]] = deque()
        for checkpoint in checkpoints:
            # torch's trace is this thread's: it isn't made for several.
            model = read_network(checkpoint)
            coming.append(compilers.submit(_compiled, checkpoint, model, profile))
            if len(coming) > READERS:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _compiled(checkpoint: Checkpoint, model: Any, profile: Profile) -> OpenvinoReady:
    kind, channels_last, batch = port_of(model)
    sides = checkpoint.preprocessing.sides
    with faults(checkpoint.path):
        if batch is None and sides is not None:
            batch = profile.batch_size
            model.reshape([batch, *sides, 3] if channels_last else [batch, 3, *sides])
        compiled = library().Core().compile_model(model, "CPU", _options(profile))
    return OpenvinoReady(
        compiled,
        checkpoint.path,
        checkpoint.preprocessing,
        torch.device("cpu"),
        batch,
        kind,
        channels_last,
    )


def read_network(checkpoint: Checkpoint) -> Any:
    """The checkpoint's network as an openvino.Model, for batches of any size where it can.

    Raises InputError where the file has changed, can't be read or converted.
    """
    require_library("openvino")
    if checkpoint.is_int8:
        state = verified(checkpoint)
        if not {XML, BIN} <= state.keys():
            raise InputError(f"{checkpoint.path} holds no int8 network: make it again")
        with faults(checkpoint.path):
            parts = (state[name].numpy().tobytes() for name in (XML, BIN))
            return library().Core().read_model(*parts)
    if checkpoint.architecture == ONNX:
        from . import onnx_file

        found = onnx_file.read(checkpoint.path)
        if found.digest != checkpoint.digest:
            raise InputError(f"{checkpoint.path} has changed since it was planned")
        with faults(checkpoint.path):
            model = library().Core().read_model(str(checkpoint.path))
        return _first_output(model)
    from .fold import optimise

    sides = checkpoint.preprocessing.sides
    square = sides[0] if sides and sides[0] == sides[1] else None
    network = optimise(load(checkpoint).eval(), square)
    return _converted(network, sides or (_SIDE, _SIDE), sides is None, checkpoint.path)


def _converted(network: nn.Module, sides: tuple[int, int], anysize: bool, path: Path) -> Any:
    openvino = library()
    example = torch.zeros(2, 3, *sides)  # of one image a trace could take the batch for fixed
    with faults(path), torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates the trace that OpenVINO reads
        model = openvino.convert_model(_Logits(network).eval(), example_input=example)
        any_ = openvino.Dimension()
        ends = [any_, any_] if anysize else [openvino.Dimension(side) for side in sides]
        model.reshape(openvino.PartialShape([any_, openvino.Dimension(3), *ends]))
        return model


class _Logits(nn.Module):
    """A network whose output is its logits, where torchvision's segmenters give a mapping."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Any:
        """Logits of normalised inputs."""
        outputs = self.network(inputs)
        return outputs["out"] if isinstance(outputs, Mapping) else outputs


def _first_output(model: Any) -> Any:
    """The model with its first output alone: the logits."""
    if len(model.outputs) == 1:
        return model
    return library().Model([model.outputs[0]], model.get_parameters(), "logits")


def port_of(model: Any) -> tuple[Any, bool, int | None]:
    """Of a model's input: its dtype, whether channels come last, its batch (None: any)."""
    (port,) = model.inputs
    shape = port.get_partial_shape()
    sides = [None if side.is_dynamic else side.get_length() for side in shape]
    return port.get_element_type().to_dtype(), sides[1] != 3 and sides[3] == 3, sides[0]


def library() -> Any:
    """The openvino module, without its telemetry: it would ask, and send over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _options(profile: Profile) -> dict[str, Any]:
    # What of an int8 network stays in floats is computed as this CPU does it best.
    bf16 = has_bf16() if profile.precision == "int8" else profile.precision == "bf16"
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": profile.member_threads or 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # the actors of a machine would all take the same cores
    }


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn what OpenVINO raises, RuntimeErrors of many lines, into an error with the file's name.

    EnvironmentFault for a lack of memory.
    """
    try:
        yield
    except RuntimeError as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        text = lines[-1].strip()[:200] if lines else type(error).__name__
        if "alloc" in str(error):
            raise EnvironmentFault(f"the machine's memory ran out ({text})") from error
        raise InputError(f"{path}: openvino: {text}") from error
