import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hw1.core.errors import InputError
from hw1.pipeline.mask_files import read_mask
from hw1.pipeline.masks import FOREIGN
from hw1.pipeline.segmentation import encode_mask

CLASSES = np.arange(7, dtype=np.uint8).repeat(2).reshape(2, 7)


@pytest.mark.parametrize("mask_format", ["rgb", "palette", "index"])
def test_each_form_that_we_write_reads_back(tmp_path, mask_format):
    path = tmp_path / "m.png"
    path.write_bytes(encode_mask(CLASSES, mask_format))
    classes, foreign = read_mask(path)
    np.testing.assert_array_equal(classes, CLASSES)
    assert foreign == 0


def test_foreign_colours_are_counted(tmp_path):
    path = tmp_path / "m.png"
    rgba = np.array([[[255, 0, 0, 9], [0, 0, 255, 255]]], np.uint8)
    Image.fromarray(rgba).save(path)
    classes, foreign = read_mask(path)
    assert classes.tolist() == [[FOREIGN, 4]]
    assert foreign == 1


def test_an_index_beyond_the_classes_is_foreign(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[6, 7, 200]], np.uint8)).save(path)
    classes, foreign = read_mask(path)
    assert classes.tolist() == [[6, FOREIGN, FOREIGN]]
    assert foreign == 2


@pytest.mark.parametrize("content", [b"", b"no image", b"cut"])
def test_what_is_no_mask(tmp_path, content):
    path = tmp_path / "m.png"
    path.write_bytes(encode_mask(CLASSES, "rgb")[:50] if content == b"cut" else content)
    with pytest.raises(InputError, match=r"m\.png: expected a PNG mask, found: "):
        read_mask(path)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"pHYs", b"\0\0\0"),
        (b"gAMA", b"\0\0\0"),
        (b"zTXt", b"k\0\0" + zlib.compress(bytes(2**21))),
    ],
)
def test_a_damaged_chunk_beside_the_pixels(tmp_path, kind, content):
    png = encode_mask(CLASSES, "rgb")
    chunk = struct.pack(">I", len(content)) + kind + content
    chunk += struct.pack(">I", zlib.crc32(kind + content))
    path = tmp_path / "m.png"
    path.write_bytes(png[:33] + chunk + png[33:])  # behind the signature and the header
    with pytest.raises(InputError, match=r"m\.png: expected a PNG mask, found: "):
        read_mask(path)


def test_a_mode_that_says_nothing_of_classes(tmp_path):
    path = tmp_path / "m.png"
    Image.new("LA", (2, 2)).save(path)
    with pytest.raises(InputError, match="found a PNG of mode LA"):
        read_mask(path)


def test_a_channel_of_the_references_colours_is_high_from_128(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[[127, 128, 255], [128, 127, 0]]], np.uint8)).save(path)
    classes, _ = read_mask(path)
    assert classes.tolist() == [[0, FOREIGN]]  # 0, 255, 255 is urban; pure red is no class's
