"""Test-time augmentation: the average of a network's answers about several views of an image."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from PIL import Image, ImageOps
from torch import Tensor

from hw1.cli import main
from hw1.core.preprocessing import Preprocessing
from hw1.core.records import UInt8
from hw1.models import checkpoints, registry
from hw1.models.store import Store
from hw1.pipeline.masks import colours_of
from hw1.pipeline.tiles import HALO, STRIDE, segment_image
from hw1.pipeline.views import ONE_VIEW, TTA_VIEWS, with_mirror


def noise(*shape: int) -> UInt8:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_a_classifier_sees_the_image_and_its_mirror_image() -> None:
    images = noise(2, 4, 5, 3)

    def first_columns(images: UInt8 | Tensor) -> Tensor:
        return torch.as_tensor(images)[:, :, 0].float().sum(1)

    for given in (images, torch.from_numpy(images)):  # on a GPU they're there already
        found = with_mirror(first_columns)(given).numpy()
        np.testing.assert_allclose(found, (images[:, :, 0] / 2 + images[:, :, -1] / 2).sum(1))


def test_a_segmenters_views_are_turned_back_and_averaged() -> None:
    """Against plain torch, on a tile that each view has whole cells of."""
    image = noise(40, 80, 3).repeat(8, 0).repeat(8, 1)
    mix = torch.linspace(-1, 1, 21).reshape(7, 3, 1, 1).sin()
    seen = []

    def network(inputs: Tensor) -> Tensor:
        seen.append(tuple(inputs.shape[2:]))
        left = torch.linspace(0, 3, inputs.shape[3])  # so that a mirror image matters
        return F.conv2d(inputs - 0.5, 9 * mix) * left

    preprocessing = Preprocessing(None, 0.5)
    classes = segment_image(network, image, preprocessing, views=TTA_VIEWS)
    assert seen == [(192, 384), (160, 320), (128, 256)]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    total = torch.zeros(1, 7, 192, 384)
    for view in TTA_VIEWS:
        size = (32 * view.fifths, 64 * view.fifths)
        inputs = F.interpolate(pixels, size, mode="bilinear", antialias=True).float() / 255
        logits = network(inputs.flip(3)).flip(3) if view.mirrored else network(inputs)
        total += F.interpolate(logits.softmax(1), (192, 384), mode="bilinear")
    expected = F.interpolate(total, image.shape[:2], mode="bilinear")[0].argmax(0).numpy()
    assert len(np.unique(expected)) > 2
    assert (classes == expected).mean() > 0.999
    assert (classes == segment_image(network, image, preprocessing)).mean() < 0.99


def test_tiles_give_the_views_of_the_whole_image() -> None:
    """With a network that looks as far as fcn8s does: its mean over 11 × 11 cells of 32 pixels."""
    mix = torch.linspace(-1, 1, 21).reshape(7, 3, 1, 1).sin() * 50

    def far(inputs: Tensor) -> Tensor:
        cells = F.avg_pool2d(F.conv2d(inputs - 0.5, mix), STRIDE).double()
        mean = F.avg_pool2d(F.pad(cells, (5, 5, 5, 5)), 11, 1)
        return F.interpolate(mean, scale_factor=STRIDE)

    image = noise(45, 50, 3).repeat(32, 0).repeat(32, 1)

    def classes(tile: int, halo: int) -> UInt8:
        return segment_image(
            far, image, Preprocessing(None, 5 / 6), views=TTA_VIEWS, tile=tile, halo=halo
        )

    whole = classes(4096, HALO)
    assert len(np.unique(whole)) > 2
    assert (classes(1344, HALO) != whole).mean() < 1e-5
    assert (classes(1344, 0) != whole).mean() > 1e-3  # so the test can tell


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (150, 2), (333, 517)])
@pytest.mark.parametrize("scale", [1.0, 0.625, 0.37])
def test_views_of_any_size(shape: tuple[int, int], scale: float) -> None:
    def flat(inputs: Tensor) -> Tensor:
        assert not any(side % STRIDE for side in inputs.shape[2:])
        return inputs.new_zeros(1, 7, *inputs.shape[2:])

    classes = segment_image(flat, noise(*shape, 3), Preprocessing(None, scale), views=TTA_VIEWS)
    assert classes.shape == shape


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of checkpoints with random weights; fcn8s is a small network here."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("views") / "weights"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SEGMENTERS, "fcn8s", tiny.TinySegmenter)
        for name, size in (("vgg16", 32), ("fcn8s", None)):
            network = registry.build(name)
            if isinstance(network, tiny.TinySegmenter):  # its classes are about equally frequent
                network.fc.weight.data.normal_(0, 5)
                seen = network(torch.from_numpy(noise(1, 3, 64, 64)) / 255)
                assert network.fc.bias is not None
                network.fc.bias.data -= seen.detach().mean((0, 2, 3))
            file = folder / f"{name}.safetensors"
            checkpoints.save(network, file, name, Preprocessing(size), {})
        yield folder


def batch(task: str, images: Path, output: Path, weights: Path, *words: str) -> Result:
    command = ["batch", task, str(images), str(output), "--weights", str(weights)]
    command += ["--engine", "inline", "--device", "cpu", "--precision", "fp32", *words]
    return CliRunner().invoke(main, command)


def test_an_image_and_its_mirror_image_get_the_same_scores(tmp_path: Path, weights: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    photo = Image.fromarray(noise(40, 40, 3))
    photo.save(images / "a.png")
    ImageOps.mirror(photo).save(images / "b.png")
    scores = {}
    for words in ((), ("--tta",)):
        output = tmp_path / f"{len(words)}.csv"
        done = batch("classify", images, output, weights, "--columns", "confidence", *words)
        assert done.exit_code == 0, done.output
        with output.open() as file:
            scores[words] = [float(row["confidence"]) for row in csv.DictReader(file)]
    assert scores[()][0] != scores[()][1]
    assert scores["--tta",][0] == pytest.approx(scores["--tta",][1], abs=2e-6)
    assert scores["--tta",][0] != scores[()][0]


def test_masks_are_made_of_the_views(tmp_path: Path, weights: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    tile = noise(12, 10, 3).repeat(8, 0).repeat(8, 1)
    Image.fromarray(tile).save(images / "a.png")
    words = ("--tta", "--mask-format", "index")
    done = batch("segment", images, tmp_path / "masks", weights, *words)
    assert done.exit_code == 0, done.output
    network = checkpoints.load(Store(weights).checkpoint("fcn8s"))
    expected = segment_image(network, tile, Preprocessing(None), views=TTA_VIEWS)
    single = segment_image(network, tile, Preprocessing(None))
    assert (expected != single).mean() > 0.02  # so the test can tell
    with Image.open(tmp_path / "masks" / "a.png") as mask:
        assert (np.asarray(mask) == expected).mean() > 0.99


def test_a_figure_shows_the_masks_of_the_views(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path
) -> None:
    tile = noise(12, 10, 3).repeat(8, 0).repeat(8, 1)
    Image.fromarray(tile).save(tmp_path / "a.png")
    drawn: list[UInt8] = []
    titles: list[str] = []

    def note(rows: list[list[UInt8]], names: object, columns: list[str], *_: object) -> None:
        drawn.append(rows[0][1])
        titles.append(columns[1])

    monkeypatch.setattr("hw1.plotting.plot.draw_pictures", note)
    words = ["plot", "masks", str(tmp_path / "a.png"), str(tmp_path / "figure.png")]
    words += ["--checkpoint", str(weights / "fcn8s.safetensors"), "--device", "cpu"]
    for more in ([], ["--tta"]):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 0, done.output
    network = checkpoints.load(Store(weights).checkpoint("fcn8s"))
    for picture, views in zip(drawn, (ONE_VIEW, TTA_VIEWS), strict=True):
        expected = colours_of(segment_image(network, tile, Preprocessing(None), views=views))
        assert (picture == expected).all(2).mean() > 0.99
    assert (drawn[0] != drawn[1]).any(2).mean() > 0.02
    assert titles == ["weights/fcn8s", "weights/fcn8s\n--tta"]


def test_a_lack_of_memory_is_the_machines_fault_whichever_view_it_hits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path
) -> None:
    def hungry(*_: object, **__: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(F, "interpolate", hungry)
    monkeypatch.setattr("hw1.execution.inline.PAUSES", ())
    images = tmp_path / "in"
    images.mkdir()
    Image.fromarray(noise(64, 64, 3)).save(images / "a.png")
    done = batch("segment", images, tmp_path / "masks", weights, "--tta")
    assert done.exit_code == 4
    assert "memory ran out" in done.stderr
