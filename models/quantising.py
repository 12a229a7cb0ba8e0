"""Networks made to compute in int8 on a CPU, by NNCF's post-training quantisation.

A few images show how large each layer's outputs get; that fixes the scales between floats and
integers. The result is a file of its own, whose bytes are equal where images, checkpoint, packages
and machine are.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.errors import InputError
from ..core.records import Float32
from . import files
from .architectures import ONNX, require_library
from .checkpoints import Checkpoint
from .members import MEMBERS
from .metadata import preprocessing_to_json, tensors_digest
from .openvino_network import BIN, XML, faults, library, port_of, read_network

_DROPPED = ("digest", "scores", "member", "architecture", "task")
_LAYERS = ("Convolution", "GroupConvolution", "MatMul", "MaxPool", "AvgPool", "ReduceMean")
"""Operations that make a layer of their own: norms and activations go with the one before."""


def write_int8(checkpoint: Checkpoint, samples: Sequence[Float32], path: Path) -> None:
    """Write the checkpoint's network, in int8, as safetensors that hold an OpenVINO network.

    ``samples``, one at least, are normalised inputs, (1, 3, H, W). Raises InputError where the
    checkpoint can't be converted, or is int8 already.
    """
    if checkpoint.is_int8:
        raise InputError(f"{checkpoint.path} is int8 already")
    require_library("nncf")
    model = read_network(checkpoint)
    kind, channels_last, batch = port_of(model)
    axes = (0, 2, 3, 1) if channels_last else (0, 1, 2, 3)
    inputs = [np.ascontiguousarray(each.transpose(axes).astype(kind)) for each in samples]
    if batch is not None:
        inputs = [np.repeat(each, batch, axis=0) for each in inputs]
    with faults(checkpoint.path):
        content = _serialised(_quantised(model, inputs))
    state = {
        name: torch.from_numpy(np.frombuffer(part, np.uint8).copy())
        for name, part in content.items()
    }
    files.write(state, path, {**_about(checkpoint, len(samples)), "digest": tensors_digest(state)})


def _about(checkpoint: Checkpoint, samples: int) -> dict[str, str]:
    kept = {name: text for name, text in checkpoint.metadata.items() if name not in _DROPPED}
    word = checkpoint.architecture
    named = {"member": word} if word in MEMBERS else {"architecture": word}
    return {
        **kept,
        **named,
        **({"task": checkpoint.task} if word not in MEMBERS or word == ONNX else {}),
        "classes": checkpoint.classes.to_json(),
        "preprocessing": preprocessing_to_json(checkpoint.preprocessing),
        "arithmetic": "int8",
        "made_of": f"{checkpoint.path.name} sha256:{checkpoint.digest}",
        "calibration": f"{samples} images",
    }


def _quantised(model: Any, inputs: Sequence[Any]) -> Any:
    library()
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    logging.getLogger("nncf").setLevel(logging.ERROR)
    # Without VNNI a CPU adds pairs of products in 16 bits, which overflow where weights use all
    # 8: with 7 of them a file gives the same on each CPU.
    # The whole range of what flows between layers: cut to the mean image's, as is NNCF's default,
    # efficientnet_lite2 lost 0.84 points of accuracy, vgg19_bn_2 0.40 (now 0.04).
    advanced = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.ENABLE,
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
    )
    # And the first layers of networks of MobileNet's kind in floats: in efficientnet_lite2 they
    # made most of the error that was left, and it's no slower so (docs/int8.md).
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(list(inputs)),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=_first_layers(model)),
            advanced_parameters=advanced,
        )


def _first_layers(model: Any) -> list[str]:
    """The names of a network's first convolution and of the depthwise ones that read its output.

    None where no depthwise one does. Norms, activations and sums may lie between.
    """
    first = next((op for op in model.get_ordered_ops() if op.get_type_name() in _LAYERS), None)
    if first is None or first.get_type_name() != "Convolution":
        return []
    found, coming = set(), [first]
    while coming:
        readers = coming.pop().output(0).get_target_inputs()
        for op in (each.get_node() for each in readers):
            if _is_depthwise(op):
                found.add(op.get_friendly_name())
            elif op.get_type_name() not in _LAYERS:
                coming.append(op)
    return [first.get_friendly_name(), *sorted(found)] if found else []


def _is_depthwise(op: Any) -> bool:
    """Whether each channel of a convolution's output comes of one of its input's."""
    if op.get_type_name() != "GroupConvolution":
        return False
    _, _, inputs, *_ = op.input(1).get_partial_shape()  # weights: groups, outputs, inputs, sides
    return bool(inputs == 1)


def _serialised(model: Any) -> Mapping[str, bytes]:
    """The graph and its numbers. Names made by counters would differ from process to process."""
    for number, each in enumerate(model.get_ordered_ops()):
        each.set_friendly_name(f"n{number}")
        for port in each.outputs():
            port.get_tensor().set_names(set())
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in (XML, BIN)]
        library().serialize(model, *map(str, paths))
        return {path.name: path.read_bytes() for path in paths}
