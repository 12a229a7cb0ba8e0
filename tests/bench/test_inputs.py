"""What the bench works on is the same every time; random checkpoints give labels that differ."""

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
