import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hw1.pipeline import masks as palette

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)


def test_colours_are_the_contract():
    assert palette.NAMES == (
        "urban", "agriculture", "rangeland", "forest", "water", "barren", "unknown",
    )  # fmt: skip
    assert palette.COLOURS.tolist() == [
        [0, 255, 255],
        [255, 255, 0],
        [255, 0, 255],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 255],
        [0, 0, 0],
    ]


@settings(deadline=None)
@given(arrays.arrays(np.uint8, SHAPES, elements=st.integers(0, 6)))
def test_colours_read_back_as_their_classes(classes):
    np.testing.assert_array_equal(palette.classes_of(palette.colours_of(classes)), classes)


def test_channels_are_split_at_128_and_red_is_foreign():
    rgb = np.array([[[127, 128, 200], [127, 127, 127], [128, 0, 90], [255, 0, 0]]], np.uint8)
    assert palette.classes_of(rgb).tolist() == [[0, palette.UNKNOWN, palette.FOREIGN, 255]]


def test_a_class_without_a_colour_is_refused():
    with pytest.raises(IndexError):
        palette.colours_of(np.array([[palette.FOREIGN]], np.uint8))


def test_colours_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        palette.COLOURS[0, 0] = 1
