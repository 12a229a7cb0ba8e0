"""What a checkpoint's labels become under the plausible mistakes; through the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from networks import PETS, random_network, save_network, save_onnx
from PIL import Image

from hw1.cli import main
from hw1.core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from hw1.evaluation.mistakes import variants_of
from hw1.models.checkpoints import read_checkpoint, save

WORD = "torchvision:squeezenet1_1"
CROPPED = Preprocessing(
    size=32, resize=40, interpolation="bicubic", mean=IMAGENET_MEAN, std=IMAGENET_STD
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of noise in colours, two of them turned by EXIF, and a damaged one."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(12):
        small = random.integers(0, 256, (5, 7, 3), np.uint8)
        image = Image.fromarray(small).resize((60, 50), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[0x0112] = 6 if number < 2 else 1
        image.save(folder / f"{number:02}.png", exif=exif)
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(tmp_path_factory.mktemp("file") / "a.safetensors", WORD, CROPPED)


def checked(*words: object) -> Result:
    return CliRunner().invoke(main, ["models", "check", *map(str, words)])


def content(*words: object) -> dict[str, Any]:
    done = checked(*words, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_each_mistake_and_the_share_that_flips(file: Path, images: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("".join(f"{number:02}.png,{number % 3}\n" for number in range(12)))
    found = content(file, "--images", images, "--truth", truth)
    assert (found["images"], found["unreadable"], found["classes"]) == (12, 1, 3)
    tried = {each["mistake"]: each for each in found["tried"]}
    assert list(tried) == [
        "BGR instead of RGB",
        "no EXIF rotation",
        "0 to 255 instead of 0 to 1",
        "mean and std of 0.5",
        "no mean and std",
        "the crop left out: the whole image squashed",
        "the resize rule left out: the shorter side resized to the crop",
        "bilinear instead of bicubic",
        "nearest instead of bicubic",
    ]
    assert all(0 <= each["share"] <= 1 for each in tried.values())
    assert tried["BGR instead of RGB"]["share"] > 0
    assert tried["no EXIF rotation"]["share"] <= 2 / 12
    assert all(0 <= each["accuracy"] <= 1 for each in tried.values())
    assert found["summary"][0].endswith("bicubic, normalised, crop 0.8")


def test_the_original_in_plain_torch_gives_the_same(
    file: Path, images: Path, tmp_path: Path
) -> None:
    original = tmp_path / "original.pth"
    torch.save({"state_dict": random_network(WORD, 3).state_dict()}, original)
    found = content(file, "--images", images, "--same-as", original)["same"]
    assert (found["differ"], found["total"]) == (0, 12)
    assert found["largest"] < 0.05  # the file's weights are fp16


def test_another_network_is_not_the_same(file: Path, images: Path, tmp_path: Path) -> None:
    network = random_network(WORD, 3)
    with torch.no_grad():
        network.get_submodule("classifier.1").weight.neg_()
    other = tmp_path / "other.safetensors"
    save(network, other, WORD, CROPPED, {}, classes=PETS)
    done = checked(file, "--images", images, "--same-as", other)
    assert done.exit_code == 1
    assert "12 labels differ; a logit by up to" in done.stdout


def test_classes_that_never_win(images: Path, tmp_path: Path) -> None:
    model = save_onnx(tmp_path / "a.onnx", classes=40)
    done = checked(model, "--images", images, "--most", 4)
    assert done.exit_code == 0, done.output
    assert "39 of 40 classes never win in these 3 images" in done.stdout


def test_a_segmenters_pixels(images: Path, tmp_path: Path) -> None:
    model = save_onnx(tmp_path / "a.onnx", shape=("n", 3, "h", "w"), segments=True)
    found = content(model, "--images", images, "--most", 3, "--same-as", model)
    assert found["task"] == "segment"
    assert found["same"]["differ"] == 0
    why_not = {each["mistake"]: each["why_not"] for each in found["tried"]}
    assert why_not["no EXIF rotation"] == "a mask lies as its image does"
    assert why_not["the resize left out"] == "the checkpoint resizes no image"
    done = checked(model, "--images", images, "--most", 3)
    assert "pixels that flip" in done.stdout


def test_mistakes_with_a_file_that_squashes(tmp_path: Path) -> None:
    said = Preprocessing(size=32, white=255.0, order="bgr", mean=(104.0, 117.0, 123.0))
    found = variants_of(
        read_checkpoint(save_network(tmp_path / "a.safetensors", WORD, said)), False
    )
    named = {each.mistake: each for each in found}
    assert named["no EXIF rotation"].why_not == "no image has an EXIF orientation"
    assert named["RGB instead of BGR"].preprocessing.order == "rgb"
    assert named["0 to 1 instead of 0 to 255"].preprocessing.white == 1
    expected = tuple(255 * value for value in reversed(IMAGENET_MEAN))
    assert named["mean and std of ImageNet"].preprocessing.mean == expected
    assert named["no mean and std"].preprocessing.std == (1.0, 1.0, 1.0)
    assert named["shape kept: the shorter side resized, the middle cropped"]
    assert named["bicubic instead of bilinear"]
    assert "not shrunk first" not in named


def test_that_large_images_arent_shrunk_is_a_mistake(tmp_path: Path) -> None:
    path = save_network(tmp_path / "a.safetensors", WORD, Preprocessing(size=32, shrink=(16, 16)))
    named = {each.mistake: each for each in variants_of(read_checkpoint(path), False)}
    assert named["not shrunk first"].preprocessing.shrink is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "none"], "cannot read none"),
        (["--same-as", "none.pth"], "none.pth: No such file"),
        (["--same-as", "other.onnx"], "it has 4 classes to classify, and a.safetensors 3"),
        (["--truth", "truth.csv"], "no label of any image, such as 00.png"),
    ],
)
def test_what_is_refused(
    words: list[str],
    message: str,
    file: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_onnx(tmp_path / "other.onnx", classes=4)
    (tmp_path / "truth.csv").write_text("x.png,1\n")
    done = checked(file, "--images", images, *words)
    assert done.exit_code == 2
    assert message in done.stderr


def test_an_onnx_segmenter_of_one_size(images: Path, tmp_path: Path) -> None:
    """A mistake that it can't be run with is listed with the reason."""
    file = save_onnx(tmp_path / "s.onnx", shape=(1, 3, 32, 48), segments=True)
    found = content(file, "--images", images, "--most", 2)
    tried = {each["mistake"]: each for each in found["tried"]}
    assert tried["the resize left out"]["why_not"] == "the file takes images of one size"
    assert tried["BGR instead of RGB"]["share"] > 0
