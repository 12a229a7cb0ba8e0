"""An ONNX file's network made ready to predict, by onnxruntime: one way each time."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import InputError
from ..core.numerics import Profile
from ..core.preprocessing import Preprocessing, normalise
from ..core.records import UInt8
from ..core.text import first_line
from . import onnx_file
from .architectures import ONNX, require_library
from .onnx_file import KINDS, OnnxFile

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_SAID = 200  # characters of onnxruntime's reason


@dataclass(frozen=True)
class OnnxReady:
    """A session: uint8 images in, float32 logits out, as `inference.Ready` does it."""

    session: Any
    file: OnnxFile
    path: Path
    classes: int
    preprocessing: Preprocessing
    device: "torch.device"

    def __call__(self, images: "UInt8 | Tensor") -> "Tensor":
        """Logits (N, classes), float32, of uint8 (N, H, W, 3) RGB images."""
        import torch

        pixels = torch.as_tensor(images).permute(0, 3, 1, 2)
        return self.logits(normalise(pixels, self.preprocessing))

    def logits(self, inputs: "Tensor") -> "Tensor":
        """Logits, float32, of normalised float32 (N, 3, H, W) inputs.

        A model of a fixed batch gets so many at a time, the last ones filled up with blanks.
        """
        import torch

        images = inputs.permute(0, 2, 3, 1) if self.file.channels_last else inputs
        values = np.ascontiguousarray(images.numpy().astype(KINDS[self.file.image.kind]))
        count = len(values)
        batch = self.file.batch or count
        blanks = -count % batch
        if blanks:
            values = np.concatenate([values, np.zeros((blanks, *values.shape[1:]), values.dtype)])
        outputs = [self._run(values[at : at + batch]) for at in range(0, len(values), batch)]
        given = np.concatenate(outputs)[:count]
        logits = given.astype(np.float32)
        if self.file.task == "classify":
            logits = logits.reshape(count, -1)
        if logits.shape[1] != self.classes:
            raise InputError(
                f"{self.path}: it gives {logits.shape[1]} numbers for each image, expected "
                f"{self.classes}, one a class: export it again"
            )
        if self.file.softmax:  # the logits but for a constant, which makes no difference
            logits = np.log(np.maximum(logits, _least(given.dtype)))
        return torch.from_numpy(logits)

    def _run(self, values: Any) -> Any:
        try:
            return self.session.run([self.file.logits.name], {self.file.image.name: values})[0]
        except Exception as error:  # its own kinds derive from Exception alone
            raise InputError(f"{self.path}: onnxruntime: {first_line(error, _SAID)}") from error


def prepare(path: Path, digest: str, preprocessing: Preprocessing, profile: Profile) -> OnnxReady:
    """Load an ONNX file under a numerics profile: its threads, on the CPU, in its own precision.

    Raises InputError where it has changed since it was planned, or can't be loaded.
    """
    import torch

    require_library(ONNX)
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    found = onnx_file.read(path)
    if found.digest != digest:
        raise InputError(
            f"{path} has changed: its SHA-256 was {digest[:12]}…, now {found.digest[:12]}…"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = profile.member_threads or 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    if profile.threads:
        torch.set_num_threads(profile.member_threads)
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its own kinds derive from Exception alone
        raise InputError(f"{path}: onnxruntime: {first_line(error, _SAID)}") from error
    classes, _ = onnx_file.about(found, path)
    return OnnxReady(session, found, path, len(classes), preprocessing, torch.device("cpu"))


def _least(kind: "np.dtype[Any]") -> float:
    """What stands for a probability that is 0 in these floats: the least that they have.

    Of float32 the least normal one: processors may take smaller ones for 0.
    """
    least = float(np.finfo(kind).smallest_subnormal)
    return max(least, float(np.finfo(np.float32).tiny))
