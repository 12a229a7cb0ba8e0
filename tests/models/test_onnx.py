"""ONNX files: what they say of themselves, what is refused, and logits by onnxruntime."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import save_onnx
from onnx import TensorProto

from hw1.core.errors import InputError
from hw1.core.numerics import detect
from hw1.core.preprocessing import IMAGENET_MEAN, Preprocessing, normalise
from hw1.models import onnx_file
from hw1.models.checkpoints import read_checkpoint
from hw1.models.inference import ready
from hw1.models.onnx_network import OnnxReady

PROFILE = detect("cpu", "fp32", 4, 1, ["onnxruntime"])


def reference(path: Path, images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """The logits by onnx's own evaluator, which is numpy."""
    from onnx.reference import ReferenceEvaluator

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    values = normalise(pixels, preprocessing).numpy()
    (logits,) = ReferenceEvaluator(onnx.load(path)).run(None, {"image0": values})
    return np.asarray(logits)


def test_the_logits_are_those_of_the_file(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "a.onnx")
    checkpoint = read_checkpoint(path)
    assert (checkpoint.architecture, checkpoint.task) == ("onnx", "classify")
    assert checkpoint.preprocessing == Preprocessing(
        (24, 32), mean=IMAGENET_MEAN, std=(0.229, 0.224, 0.225)
    )
    assert checkpoint.library == "onnxruntime"
    images = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)
    found = ready(checkpoint, PROFILE)(images)
    np.testing.assert_allclose(
        found.numpy(), reference(path, images, checkpoint.preprocessing), atol=1e-4
    )


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)
    free = ready(read_checkpoint(save_onnx(tmp_path / "a.onnx")), PROFILE)(images)
    for batch in (1, 3, 8):
        path = save_onnx(tmp_path / f"{batch}.onnx", shape=(batch, 3, 24, 32))
        found = ready(read_checkpoint(path), PROFILE)(images)
        assert found.shape == (4, 3)
        torch.testing.assert_close(found, free)


def test_channels_last_and_uint8(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "a.onnx", shape=("n", 24, 24, 3), kind=TensorProto.UINT8)
    checkpoint = read_checkpoint(path)
    assert checkpoint.preprocessing == Preprocessing(24, white=255, resize=27)
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), np.uint8)
    raw = save_onnx(tmp_path / "raw.onnx", shape=("n", 3, 24, 24))
    expected = reference(raw, images, Preprocessing(24, white=255))
    np.testing.assert_allclose(ready(checkpoint, PROFILE)(images).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": ("n", 10)}, r"expected one input, an image .* found image0: \(\?, 10\) float32"),
        ({"shape": ("n", 1, 24, 24)}, r"found image0: \(\?, 1, 24, 24\)"),
        ({"inputs": 2}, "expected one input, an image .* image0.*; image1"),
        ({"kind": TensorProto.INT64}, "of type 7"),
    ],
)
def test_what_is_no_image(options: dict[str, object], message: str, tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "a.onnx", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)


def test_weights_beside_the_file_belong_to_its_digest(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "a.onnx", external=True)
    before = read_checkpoint(path)
    assert before.bytes > path.stat().st_size
    content = bytearray((tmp_path / "w.bin").read_bytes())
    content[0] ^= 1
    (tmp_path / "w.bin").write_bytes(content)
    assert read_checkpoint(path).digest != before.digest
    with pytest.raises(InputError, match="has changed"):
        ready(before, PROFILE)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InputError, match=r"w\.bin: No such file"):
        read_checkpoint(path)


def test_a_softmax_in_the_file_is_undone(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)
    plain = ready(read_checkpoint(save_onnx(tmp_path / "a.onnx")), PROFILE)(images)
    soft = read_checkpoint(save_onnx(tmp_path / "b.onnx", last="Softmax"))
    assert soft.softmax
    found = ready(soft, PROFILE)(images)
    torch.testing.assert_close(found.softmax(1), plain.softmax(1))
    assert found.isfinite().all()


@dataclass(frozen=True)
class Session:
    outputs: np.ndarray

    def run(self, *_: object) -> list[np.ndarray]:
        return [self.outputs]


@pytest.mark.parametrize(("kind", "least"), [(np.float16, 2.0**-24), (np.float32, 2.0**-126)])
def test_a_probability_of_0_is_the_least_of_its_floats(
    tmp_path: Path, kind: type[np.floating], least: float
) -> None:
    images = np.zeros((1, 24, 32, 3), np.uint8)
    whole = ready(read_checkpoint(save_onnx(tmp_path / "a.onnx", last="Softmax")), PROFILE)
    assert isinstance(whole, OnnxReady)
    found = replace(whole, session=Session(np.array([[1, 0, 0]], kind)))(images)
    np.testing.assert_allclose(found.numpy(), np.log([[1, least, least]]), rtol=1e-6)


def test_a_last_layer_of_one_pixel_classifies(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)
    plain = ready(read_checkpoint(save_onnx(tmp_path / "a.onnx")), PROFILE)(images)
    path = save_onnx(tmp_path / "b.onnx", last="Identity", says=("n", 3, 1, 1))
    checkpoint = read_checkpoint(path)
    assert (checkpoint.task, len(checkpoint.classes)) == ("classify", 3)
    torch.testing.assert_close(ready(checkpoint, PROFILE)(images), plain)


def test_an_output_that_is_not_as_the_file_says_is_refused(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save_onnx(tmp_path / "a.onnx", says=("n", 7)))
    images = np.zeros((4, 24, 32, 3), np.uint8)
    with pytest.raises(InputError, match=r"gives 3 numbers for each image, expected 7"):
        ready(checkpoint, PROFILE)(images)
    with pytest.raises(
        InputError, match=r"has one output, as for a sigmoid, .*read as two classes"
    ):
        read_checkpoint(save_onnx(tmp_path / "b.onnx", classes=1))


def test_weights_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    model = onnx.load(save_onnx(tmp_path / "in/a.onnx", external=True), load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../w.bin"
    onnx.save(model, tmp_path / "in/a.onnx")
    (tmp_path / "w.bin").write_bytes((tmp_path / "in/w.bin").read_bytes())
    with pytest.raises(InputError, match=r"weights outside its folder \(\.\./w\.bin\)"):
        read_checkpoint(tmp_path / "in/a.onnx")


def test_metadata_are_exchanged(tmp_path: Path) -> None:
    content = save_onnx(tmp_path / "a.onnx").read_bytes()
    for metadata in ({"a": "1"}, {"a": "é" * 200, "b": ""}):
        content = onnx_file.with_metadata(content, metadata)
        (tmp_path / "b.onnx").write_bytes(content)
        assert onnx_file.read(tmp_path / "b.onnx").metadata == metadata
        assert {p.key: p.value for p in onnx.load(tmp_path / "b.onnx").metadata_props} == metadata
        onnx.checker.check_model(onnx.load(tmp_path / "b.onnx"))


@given(data=st.data())
def test_a_damaged_file_is_reported(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("onnx")
    content = bytearray(save_onnx(folder / "a.onnx").read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "b.onnx").write_bytes(content)
    with contextlib.suppress(InputError):  # and nothing else
        assert len(read_checkpoint(folder / "b.onnx").classes) >= 2


def test_torchs_own_export(tmp_path: Path) -> None:
    """What a user has: the exporter's file, its weights in it."""
    from networks import random_network

    network = random_network("timm:test_efficientnet", 3)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 32, 32),),
            tmp_path / "a.onnx",
            dynamic_shapes=({0: torch.export.Dim("n")},),
            external_data=False,
            verbose=False,
        )
    checkpoint = read_checkpoint(tmp_path / "a.onnx")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    pixels = normalise(torch.from_numpy(images).permute(0, 3, 1, 2), checkpoint.preprocessing)
    with torch.inference_mode():
        expected = network(pixels)
    torch.testing.assert_close(ready(checkpoint, PROFILE)(images), expected, atol=1e-4, rtol=1e-4)
