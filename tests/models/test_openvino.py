from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import save_network, save_onnx

from hw1.core.errors import InputError
from hw1.core.numerics import Profile, detect
from hw1.models.arithmetic import libraries, settle
from hw1.models.checkpoints import Checkpoint, read_checkpoint
from hw1.models.inference import ready

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
