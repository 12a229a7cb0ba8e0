"""What the bench works on is the same every time; random checkpoints give labels that differ."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from hw1.models.checkpoints import load
from hw1.models.store import Store


@pytest.fixture(autouse=True)
def _importable(bench: Path) -> None:
    """The bench's scripts are importable in these tests."""


def test_crops_are_the_same_every_time(tmp_path: Path) -> None:
    import inputs

    photos = inputs.EXAMPLES / "photos"
    folders = [inputs.crops(tmp_path / name, photos, 13, 40, ".png") for name in ("a", "b")]
    one, other = ([path.read_bytes() for path in sorted(each.iterdir())] for each in folders)
    assert one == other
    assert len(set(one)) == 13


def test_many_small_images(tmp_path: Path) -> None:
    import inputs

    files = [path for path in inputs.small_files(tmp_path, 1003).rglob("*") if path.is_file()]
    assert len(files) == 1003
    with Image.open(files[-1]) as image:
        assert image.size == (1, 1)


def test_photographs_have_each_size_in_turn(tmp_path: Path) -> None:
    import inputs

    made = inputs.enlarged(tmp_path, inputs.PHOTOS, 3, (40, 30), (80, 60))
    sizes = []
    for path in sorted(made.iterdir()):
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes == [(40, 30), (80, 60), (40, 30)]


def test_random_weights_are_for_the_size_that_is_asked_for(tmp_path: Path) -> None:
    import inputs

    folder, made_up = inputs.weights(tmp_path, ("vgg16",), random=True, size=224)
    assert made_up == ["vgg16"]
    assert Store(folder).checkpoint("vgg16").preprocessing.size == 224


def test_int8_weights_vote_as_what_they_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import inputs

    made: list[str] = []

    def quantise(command: list[str], check: bool) -> None:
        made.append(command[3])
        Path(command[4]).touch()

    monkeypatch.setattr(inputs.subprocess, "run", quantise)
    source = tmp_path / "source"
    source.mkdir()
    for name in ("vgg16.safetensors", "ensemble.toml"):
        (source / name).write_text("of the source")
    for _ in range(2):
        folder = inputs.int8_weights(tmp_path / "int8", source, ("vgg16",), tmp_path)
    assert made == ["vgg16"]
    assert (folder / "ensemble.toml").read_text() == "of the source"
    os.utime(folder / "vgg16.safetensors", (0, 0))
    inputs.int8_weights(folder, source, ("vgg16",), tmp_path)
    assert made == ["vgg16", "vgg16"]


def test_reference_checkpoints_are_read_and_label_images_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import reference

    monkeypatch.setattr(reference, "BUILD", tmp_path)
    reference.main(tmp_path / "weights", ("densenet169",))
    path = tmp_path / "weights" / "dense169-best.pth"
    assert not path.read_bytes().startswith(b"PK")  # torch's newer format is a zip
    network = load(Store(path.parent).checkpoint("densenet169")).eval()
    images = (
        torch.rand(3, 40, 40).expand(8, -1, -1, -1) * torch.linspace(0, 1, 8)[:, None, None, None]
    )
    with torch.no_grad():
        labels = network(images).argmax(1)
    assert len(labels.unique()) > 1
