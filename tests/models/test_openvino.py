from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import save_network, save_onnx

from hw1.core.errors import InputError
from hw1.core.numerics import Profile, detect
from hw1.models.arithmetic import libraries, settle
from hw1.models.checkpoints import Checkpoint, read_checkpoint
from hw1.models.inference import ready
from hw1.models.openvino_network import read_network
from hw1.models.quantising import write_int8

BATCH = 4


def profile_of(checkpoint: Checkpoint, backend: str, **changes: object) -> Profile:
    made = detect("cpu", "fp32", BATCH, 1, libraries([checkpoint], backend), backend)
    return replace(made, **changes)


def logits_of(checkpoint: Checkpoint, profile: Profile, shape: tuple[int, ...]) -> np.ndarray:
    inputs = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found: np.ndarray = ready(checkpoint, profile).logits(inputs).numpy()
    return found


@pytest.mark.parametrize("kind", ["torchvision", "onnx", "segmenter"])
def test_openvino_gives_what_torch_does(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("openvino")
    shape = (BATCH, 3, 24, 32)
    if kind == "torchvision":
        path = save_network(tmp_path / "a.safetensors", "torchvision:resnet18")
    elif kind == "onnx":
        path = save_onnx(tmp_path / "a.onnx")
    else:
        path = save_onnx(tmp_path / "a.onnx", shape=(1, 3, "h", "w"), segments=True)
        shape = (1, 3, 64, 96)
    checkpoint = read_checkpoint(path)
    expected = logits_of(checkpoint, profile_of(checkpoint, "torch"), shape)
    found = logits_of(checkpoint, profile_of(checkpoint, "openvino"), shape)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    two = logits_of(checkpoint, profile_of(checkpoint, "openvino", threads=2), shape)
    assert (two == found).all()


def test_what_contradicts_openvino_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    checkpoints = [read_checkpoint(save_onnx(tmp_path / "a.onnx"))]
    assert settle("auto", "auto", "auto", checkpoints)["backend"] == "auto"
    assert settle("auto", "int8", "auto", checkpoints) == {
        "device": "cpu",
        "precision": "int8",
        "backend": "openvino",
    }
    for asked in (("cuda", "auto", "openvino"), ("auto", "fp16", "openvino")):
        with pytest.raises(InputError, match="run on CPUs"):
            settle(*asked, checkpoints)
    with pytest.raises(InputError, match="needs --backend openvino"):
        settle("auto", "int8", "torch", checkpoints)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hw1.models.architectures.find_spec", lambda name: None)
    checkpoints = [read_checkpoint(save_onnx(tmp_path / "a.onnx"))]
    with pytest.raises(InputError, match=r'pip install "hw1\[openvino\]"'):
        settle("auto", "auto", "openvino", checkpoints)


@pytest.mark.timeout(300)  # nncf imports much
@pytest.mark.parametrize(
    ("word", "floats"),
    [
        ("torchvision:mobilenet_v3_small", ["Convolution", "GroupConvolution"]),
        ("torchvision:resnet18", []),
    ],
)
def test_first_layers_stay_in_floats_where_a_depthwise_one_follows(
    tmp_path: Path, word: str, floats: list[str]
) -> None:
    pytest.importorskip("nncf")
    path = save_network(tmp_path / "a.safetensors", word)
    samples = list(np.random.default_rng(0).normal(size=(2, 1, 3, 24, 32)).astype(np.float32))
    write_int8(read_checkpoint(path), samples, tmp_path / "int8.safetensors")
    layers = [
        op
        for op in read_network(read_checkpoint(tmp_path / "int8.safetensors")).get_ordered_ops()
        if op.get_type_name() in ("Convolution", "GroupConvolution")
    ]
    kinds = [kind_of_weights(layer) for layer in layers]
    assert [layer.get_type_name() for layer in layers[: len(floats)]] == floats
    assert "i8" not in kinds[: len(floats)]
    assert set(kinds[len(floats) :]) == {"i8"}


def kind_of_weights(layer: Any) -> str:
    op = layer.input_value(1).get_node()
    while op.get_type_name() != "Constant":
        op = op.input_value(0).get_node()
    name: str = op.get_element_type().get_type_name()
    return name
