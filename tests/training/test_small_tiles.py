"""Tiles smaller than the usual crops: what is taken instead, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
from click.testing import CliRunner, Result
from PIL import Image

from hw1.cli import main
from hw1.models import registry
from hw1.models.store import Store


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(registry.SEGMENTERS, "fcn8s", tiny.TinySegmenter)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def buildings(folder: Path, *sides: tuple[int, int]) -> Path:
    """Tiles of these widths and heights, and masks of 0 and 255."""
    for part in ("images", "masks"):
        (folder / "train" / part).mkdir(parents=True)
    for number, (width, height) in enumerate(sides):
        mask = np.zeros((height, width), np.uint8)
        mask[:, width // 2 :] = 255
        Image.fromarray(mask).save(folder / f"train/masks/{number}.png")
        Image.fromarray(mask // 2 + 60).convert("RGB").save(folder / f"train/images/{number}.png")
    return folder


def segment(data: Path, output: Path, *options: str) -> Result:
    common = ("--init", "scratch", "--epochs", "1", "--batch-size", "2", "--threads", "1")
    words = ("train", "segment", str(data), "--output", str(output), *common, *options)
    return CliRunner().invoke(main, words)


@pytest.mark.parametrize(
    ("sides", "crop", "size", "scale"),
    [
        (((600, 512),), "320 512", 256, 0.625),  # as ever
        (((500, 375), (640, 480)), "234 375", 256, 0.875),
        (((256, 256), (300, 300)), "160 256", 256, 1.25),
        (((100, 80),), "50 80", 64, 1.0),
        (((20, 30),), "12 20", 32, 2.0),
    ],
)
def test_the_usual_crops_are_those_that_the_smallest_tile_allows(
    tmp_path: Path, sides: tuple[tuple[int, int], ...], crop: str, size: int, scale: float
) -> None:
    data = buildings(tmp_path / "data", *sides, *sides)
    done = segment(data, tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert f"crops of {crop.replace(' ', ' to ')} pixels, scaled to {size}" in done.stderr
    made = Store(tmp_path / "run").checkpoint("fcn8s")
    assert f"--size {size} " in made.metadata["recipe"]
    assert f"--crop {crop} " in made.metadata["recipe"]
    assert made.preprocessing.scale == scale
    again = segment(data, tmp_path / "run")
    assert "going on after epoch 1 of 1" in again.stderr


def test_crops_that_are_given_stay_and_must_fit(tmp_path: Path) -> None:
    data = buildings(tmp_path / "data", (100, 80), (100, 80))
    done = segment(data, tmp_path / "run", "--crop", "24", "48")
    assert done.exit_code == 0, done.output
    made = Store(tmp_path / "run").checkpoint("fcn8s")
    assert "--size 32 " in made.metadata["recipe"]
    assert "--crop 24 48 " in made.metadata["recipe"]
    refused = segment(data, tmp_path / "other", "--crop", "320", "512")
    assert refused.exit_code == 2
    assert "expected MOST up to 80, or leave --crop out" in refused.output
