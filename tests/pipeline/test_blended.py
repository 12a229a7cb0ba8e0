"""Masks by networks whose receptive field isn't known: whole, and in blended tiles."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hw1.core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from hw1.core.records import UInt8
from hw1.pipeline import blended
from hw1.pipeline.blended import segment_blended
from hw1.pipeline.tiles import Span
from hw1.pipeline.views import TTA_VIEWS

torch.manual_seed(0)
KERNEL = torch.randn(5, 3, 9, 9)


def network(inputs: Tensor) -> Tensor:
    """Logits at a quarter of the input's size, smooth in it."""
    return F.conv2d(F.avg_pool2d(inputs, 4, ceil_mode=True), KERNEL, padding=4)


def photo(height: int, width: int) -> UInt8:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (1, 1), (520, 520)])
def test_as_the_librarys_preset_does_it(shape: tuple[int, int]) -> None:
    image = photo(*shape)
    preprocessing = Preprocessing(None, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize=130)
    found = segment_blended(network, image, preprocessing)
    height, width = shape
    shorter = min(shape)
    size = (int(130 * width / shorter), int(130 * height / shorter))
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    logits = F.interpolate(network((pixels - mean) / std), shape, mode="bilinear")
    assert np.array_equal(found, logits[0].argmax(0).numpy())
    assert len(np.unique(found)) >= (5 if shape != (1, 1) else 1)


def test_many_classes_are_enlarged_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo(60, 80)
    whole = segment_blended(network, image, Preprocessing(None))
    monkeypatch.setattr(blended, "_AT_ONCE", 2 * 60 * 80)
    assert np.array_equal(segment_blended(network, image, Preprocessing(None)), whole)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_tiles_give_nearly_what_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    image = photo(300, 420)
    whole = segment_blended(network, image, Preprocessing(None, scale=scale))
    monkeypatch.setattr(blended, "TILE", 128)
    monkeypatch.setattr(blended, "SIDE", 128)
    monkeypatch.setattr(blended, "OVERLAP", 64)
    tiled = segment_blended(network, image, Preprocessing(None, scale=scale))
    assert tiled.shape == (300, 420)
    assert (tiled == whole).mean() > 0.97


def test_the_tiles_shares_add_up_to_one() -> None:
    tiles = [Span(0, 1024, 0, 896), Span(768, 1792, 896, 1664), Span(1500, 2524, 1664, 2524)]
    total = np.zeros(2524)
    for tile, share in zip(tiles, blended._shares(tiles, 2524), strict=True):
        total[tile.start : tile.end] += share
        assert share.min() > 0
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    first, second, _ = blended._shares(tiles, 2524)
    assert first[800] > 6 * second[800 - 768]  # near the second tile's edge, further in the first


def test_views_are_averaged() -> None:
    image = photo(100, 90)
    found = segment_blended(network, image, Preprocessing(None), views=TTA_VIEWS)
    assert found.shape == (100, 90)
    assert (found == segment_blended(network, image, Preprocessing(None))).mean() > 0.8


def test_a_strip_is_shrunk_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blended, "_MOST_PIXELS", 10_000)
    sides: list[torch.Size] = []

    def watched(inputs: Tensor) -> Tensor:
        sides.append(inputs.shape[2:])
        return network(inputs)

    found = segment_blended(watched, photo(2, 3000), Preprocessing(None, resize=130))
    assert found.shape == (2, 3000)
    assert all(height * width <= 12_000 for height, width in sides)
