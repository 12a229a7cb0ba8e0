"""What a classifier sees of an image: the same pixels as torchvision's transforms give."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hw1.core.preprocessing import Framing, Interpolation
from hw1.models import _torchvision  # noqa: F401  (before torchvision's transforms)
from hw1.pipeline.crops import crop, longest_side

SHAPES = [(50, 70), (70, 50), (33, 33), (1, 9), (40, 1), (64, 224)]


def photo(height: int, width: int) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("resize", "size"), [(32, (28, 28)), (31, (24, 29)), (20, (24, 24))])
def test_a_resize_and_a_crop_as_torchvision_does_them(
    shape: tuple[int, int], interpolation: Interpolation, resize: int, size: tuple[int, int]
) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    image = photo(*shape)
    expected = transforms.resize(image, [resize], InterpolationMode(interpolation))
    expected = transforms.center_crop(expected, list(size))
    found = crop(image, Framing(size, resize, interpolation))
    assert np.array_equal(found, np.asarray(expected))


def test_without_a_resize_the_whole_is_squashed() -> None:
    image = photo(50, 70)
    expected = np.asarray(image.resize((30, 20), Image.Resampling.BICUBIC))
    assert np.array_equal(crop(image, Framing((20, 30), None, "bicubic")), expected)
    assert np.array_equal(crop(image, 20), crop(image, Framing((20, 20))))


def test_a_resize_of_both_sides_then_a_crop() -> None:
    image = photo(50, 70)
    expected = np.asarray(image.resize((40, 30), Image.Resampling.BILINEAR))[5:25, 10:30]
    assert np.array_equal(crop(image, Framing((20, 20), (30, 40))), expected)


def test_a_strip_takes_no_more_memory_than_its_crop() -> None:
    """Resized whole, 1 × 60,000 pixels would be 236 × 14 million."""
    strip = photo(1, 60_000)
    found = crop(strip, Framing((224, 224), 236))
    assert found.shape == (224, 224, 3)
    middle = np.asarray(strip)[0, 30_000]
    assert np.abs(found[100, 112].astype(int) - middle).max() <= 130
    assert len(np.unique(found[:, 112], axis=0)) == 1  # a column is one pixel, enlarged


def test_a_larger_image_is_shrunk_first_as_it_is_resized() -> None:
    image = photo(50, 70)
    small = image.resize((12, 10), Image.Resampling.BICUBIC)
    squashed = Framing((40, 44), None, "bicubic", shrink=(10, 12))
    assert np.array_equal(crop(image, squashed), crop(small, Framing((40, 44), None, "bicubic")))
    small = image.resize((14, 10), Image.Resampling.BILINEAR)
    shaped = Framing((24, 24), 30, shrink=10)
    assert np.array_equal(crop(image, shaped), crop(small, Framing((24, 24), 30)))


def test_a_smaller_image_isnt_shrunk_nor_enlarged_twice() -> None:
    image = photo(9, 12)
    for shrink, resize in (((10, 12), None), (9, 30)):
        framing = Framing((24, 24), resize, "bicubic", shrink)
        assert np.array_equal(crop(image, framing), crop(image, replace(framing, shrink=None)))


def test_what_a_draft_must_leave() -> None:
    assert longest_side(Framing((224, 224), 256, shrink=(32, 40))) == 40
    assert longest_side(Framing((224, 224), 256)) == 256
    assert longest_side(Framing((40, 50))) == 50
