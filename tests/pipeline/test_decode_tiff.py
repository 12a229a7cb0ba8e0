"""TIFFs as the land-cover world writes them: the first three bands, or a true reason."""

import io
import itertools
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw1.core.preprocessing import Preprocessing
from hw1.core.records import Planned, Shard, UInt8
from hw1.core.spec import TiffReading
from hw1.pipeline import tiff_layout
from hw1.pipeline.decode import decode_rgb
from hw1.pipeline.decode_pieces import decode_crops, decode_photos
from hw1.pipeline.limits import MAX_PIXELS, Reject

HEIGHT, WIDTH = 48, 80


def ramp(bands: int) -> UInt8:
    """A picture each of whose bands differs from the others: (H, W, bands)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [3 * x, 5 * y, x + y, 255 - 2 * x, 2 * y, 7 * x, 255 - x, x + 2 * y]
    return np.stack(planes[:bands], 2).astype(np.uint8)


def levels(dtype: str, bands: int) -> NDArray[Any]:
    """The ramp in a type whose range is scaled to 8 bits by keeping the high ones."""
    picture = ramp(bands)
    if dtype.startswith("f"):
        return picture.astype(dtype) / np.array(255, dtype)
    kind = np.dtype(dtype)
    if kind.kind == "i":
        return (picture.astype(np.int64) << (8 * kind.itemsize - 9)).astype(dtype) | (
            picture >> 1 if kind.itemsize == 1 else 0
        )
    return picture.astype(dtype) << (8 * kind.itemsize - 8)


def tiff(samples: NDArray[Any], *, apart: bool = False, **options: Any) -> bytes:
    file = io.BytesIO()
    if samples.shape[2] == 1:
        samples = samples[..., 0]
    elif apart:
        samples = np.moveaxis(samples, 2, 0)
    if samples.ndim == 3:
        options["planarconfig"] = "separate" if apart else "contig"
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def decoded(data: bytes, folder: Path, name: str = "a.tif", **reading: Any) -> UInt8:
    path = folder / name
    path.write_bytes(data)
    return decode_rgb(path, reading=TiffReading(**reading))


def rejection(data: bytes, folder: Path, name: str = "a.tif", **reading: Any) -> Reject:
    with pytest.raises(Reject) as caught:
        decoded(data, folder, name, **reading)
    return caught.value


def expected(bands: int) -> UInt8:
    return ramp(3) if bands >= 3 else np.repeat(ramp(1), 3, 2)


def noticed(samples: NDArray[Any], folder: Path, **options: Any) -> str:
    """What a person is told of a file when it is decoded for each kind of job."""
    (folder / "a.tif").write_bytes(tiff(samples, **options))
    piece = Shard(0, 0, (plan_of(folder / "a.tif"),))
    photos = decode_photos(piece, folder, 10**9)
    assert photos.notice == decode_crops(piece, folder, [Preprocessing(size=8).framing]).notice
    assert not photos.rejections
    return photos.notice


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_levels_that_fill_little_of_16_bits_are_noticed(tmp_path: Path, bands: int) -> None:
    sensor = levels("u2", bands) >> 5  # 11 bits
    said = noticed(sensor, tmp_path)
    assert said.startswith("a.tif: its levels are at most 2,047 of 65,535, nearly black")
    assert "--scale-from 0,2047" in said
    assert "0,255 --overwrite" in noticed(levels("u2", bands) >> 8, tmp_path)  # all black
    assert "32,767" in noticed(levels("i2", bands) >> 5, tmp_path)


def test_other_tiffs_get_no_notice(tmp_path: Path) -> None:
    for dtype in ("u1", "u2", "i2", "f4"):
        assert noticed(levels(dtype, 3), tmp_path) == ""
    assert noticed(np.zeros((9, 9, 3), np.uint16), tmp_path) == ""  # empty, as GDAL has tiles
    assert noticed(ramp(3) >> 4, tmp_path) == ""
    chosen = TiffReading(scale_from=(0, 2047))
    (tmp_path / "a.tif").write_bytes(tiff(levels("u2", 3) >> 5))
    piece = Shard(0, 0, (plan_of(tmp_path / "a.tif"),))
    assert decode_photos(piece, tmp_path, 10**9, reading=chosen).notice == ""


def plan_of(path: Path) -> Planned:
    status = path.stat()
    return Planned(path.name, status.st_size, status.st_mtime_ns)


LOSSLESS = (None, "lzw", "deflate", "packbits", "zstd", "lzma")
PREDICTED = ("lzw", "deflate", "zstd", "lzma")


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f2", "f4", "f8"])
def test_every_depth_and_layout_gives_its_first_three_bands(
    tmp_path: Path, compression: str | None, dtype: str
) -> None:
    bands, tiles, orders = (1, 2, 3, 4, 5, 8), (None, (32, 16)), ("<", ">")
    layouts = list(itertools.product(bands, tiles, orders, (False, True)))
    some = random.Random(f"{compression} {dtype}").sample(layouts, 6)  # of 48: seconds in all
    for count, tile, order, apart in some:
        data = tiff(
            levels(dtype, count),
            apart=apart and count > 1,
            compression=compression,
            predictor=(compression in PREDICTED and dtype != "f2") or None,
            tile=tile,
            rowsperstrip=None if tile else 7,
            byteorder=order,
            bigtiff=count == 5,
        )
        layout = (count, tile, order, apart)
        assert np.array_equal(decoded(data, tmp_path), expected(count)), layout


@pytest.mark.parametrize(
    ("compression", "tolerance"),
    [("webp", 24), ("lerc", 0), ("jpegxl", 24), ("jpeg2000", 0), ("jpeg", 48), ("png", 0)],
)
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_strips_and_tiles_may_be_pictures_of_another_format(
    tmp_path: Path, compression: str, tolerance: int, photometric: str
) -> None:
    for count, tile, apart in itertools.product((1, 3, 4, 5), (None, (32, 16)), (False, True)):
        if apart and count == 1:
            continue
        if compression == "webp" and (apart or count not in (3, 4)):
            continue
        if (compression in ("png", "jpeg") and count > 3 and not apart) or (
            photometric == "rgb" and count < 3
        ):
            continue
        options = {"compression": compression, "tile": tile, "photometric": photometric}
        data = tiff(ramp(count), apart=apart, **options)
        off = np.abs(decoded(data, tmp_path).astype(int) - expected(count)).max()
        assert off <= tolerance, (count, tile, apart)


def test_bands_and_levels_can_be_chosen(tmp_path: Path) -> None:
    data = tiff(ramp(5), compression="deflate")
    assert np.array_equal(decoded(data, tmp_path, bands=(4, 3, 1)), ramp(5)[..., [3, 2, 0]])
    fault = rejection(data, tmp_path, bands=(6, 1, 2))
    assert (fault.reason, fault.detail) == ("unsupported", "TIFF: band 6 was asked for, it has 5")
    wide = ramp(4).astype(np.uint16) * 8 + 100
    for apart in (False, True):
        data = tiff(wide, apart=apart, compression="lzw")
        assert np.array_equal(decoded(data, tmp_path, scale_from=(100, 2140)), ramp(3))
    data = tiff(np.array([[[-5.0], [0], [np.nan], [1], [np.inf]]], np.float32))
    assert decoded(data, tmp_path, scale_from=(-1, 1))[0, :, 0].tolist() == [0, 128, 0, 255, 255]
    assert np.array_equal(decoded(tiff(ramp(3)), tmp_path, scale_from=(0, 9)), ramp(3))


def test_signed_levels_below_0_are_black(tmp_path: Path) -> None:
    data = tiff(np.array([[[-32768], [-1], [0], [16384], [32767]]], np.int16), byteorder=">")
    assert decoded(data, tmp_path)[0, :, 0].tolist() == [0, 0, 0, 128, 255]


def sparse(data: bytes, *segments: int) -> bytes:
    """Leave out strips or tiles as GDAL's SPARSE_OK does: offset 0, byte count 0."""
    file = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        page = opened.pages.first
        for tag in (page.tags.get(324) or page.tags[273], page.tags.get(325) or page.tags[279]):
            size = tag.dtype_itemsize if hasattr(tag, "dtype_itemsize") else tag.valuebytecount
            size //= tag.count
            for segment in segments:
                start = tag.valueoffset + segment * size
                file[start : start + size] = bytes(size)
    return bytes(file)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_what_a_sparse_file_leaves_out_is_0(tmp_path: Path, compression: str | None) -> None:
    data = tiff(ramp(4), tile=(16, 16), compression=compression)
    picture = ramp(3)
    picture[:16, 16:32] = 0
    assert np.array_equal(decoded(sparse(data, 1), tmp_path), picture)


def test_a_value_that_stands_for_no_data_decides_no_scale(tmp_path: Path) -> None:
    samples = levels("f4", 3)
    samples[0, 0] = -3.4e38
    samples[1, 1] = 3e38
    nodata = [(42113, 2, 0, "3e38", True)]
    picture = ramp(3)
    picture[0, 0] = picture[1, 1] = 0
    assert decoded(tiff(samples, extratags=nodata), tmp_path)[1, 1].tolist() == [0, 0, 0]


def test_a_preview_before_the_picture_is_skipped(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(ramp(3)[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
        writer.write(ramp(3), photometric="rgb", metadata=None)
    assert np.array_equal(decoded(file.getvalue(), tmp_path), ramp(3))


def test_raw_files_are_named_not_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        preview = ramp(3)[::4, ::4]
        writer.write(preview, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(ramp(1)[..., 0].astype(np.uint16), photometric=32803, metadata=None)
    for data, name in ((file.getvalue(), "a.tif"), (tiff(ramp(3)), "a.NEF")):
        fault = rejection(data, tmp_path, name)
        assert fault.reason == "unsupported"
        assert "raw" in fault.detail


def test_what_is_not_supported_is_named(tmp_path: Path) -> None:
    complex_levels = levels("f4", 3).astype(np.complex64)
    fault = rejection(tiff(complex_levels), tmp_path)
    assert fault.reason == "unsupported"
    assert fault.detail.startswith("TIFF: 3 bands of 64 bits, sample format")
    data = bytearray(tiff(ramp(5), compression="deflate"))
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        place = opened.pages.first.tags[259].valueoffset
    data[place : place + 2] = struct.pack("<H", 4242)
    assert rejection(bytes(data), tmp_path).detail == "TIFF: compression 4242: not supported"


def test_without_imagecodecs_the_way_to_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_layout.importlib.util, "find_spec", lambda _: None)  # type: ignore[attr-defined]
    assert np.array_equal(decoded(tiff(ramp(5)), tmp_path), ramp(3))
    assert np.array_equal(decoded(tiff(ramp(3), photometric="rgb"), tmp_path), ramp(3))
    fault = rejection(tiff(ramp(5), compression="lzw"), tmp_path)
    assert fault.reason == "unsupported"
    assert fault.detail.endswith("needs pip install 'hw1[tiff]'")
    twelve = rejection(tiff_of_12_bits(), tmp_path)
    assert twelve.reason == "unsupported"
    assert twelve.detail.endswith("needs pip install 'hw1[tiff]'")


def tiff_of_12_bits() -> bytes:
    """Uncompressed samples that are packed: three bytes for two."""
    return header(4, 1, 2, 12, t273=8 + 2 + 14 * 12, t279=12, t339=1) + bytes(12)


def header(width: int, height: int, bands: int, bits: int, **more: int) -> bytes:
    """A TIFF that claims a size and holds nothing of it."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: bands, 278: height}
    tags |= {279: 8, 339: 3} | {int(key[1:]): value for key, value in more.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        header(13_000, 13_000, 3, 64),
        header(65_000, 65_000, 5, 8),
        header(1, MAX_PIXELS, 5, 8),
        header(64, 64, 5, 32, t322=2**16, t323=2**16, t324=8, t325=8),
        header(2**13, 2**13, 5, 32, t322=1, t323=1, t324=8, t325=8),
    ],
)
def test_what_would_take_too_much_is_rejected_by_its_header(tmp_path: Path, data: bytes) -> None:
    assert rejection(data, tmp_path).reason == "too_large"


def test_a_strip_may_not_claim_more_than_the_header(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    bomb = imagecodecs.jpeg_encode(np.zeros((9000, 9000), np.uint8))
    data = tiff(ramp(5), apart=True, compression="jpeg", rowsperstrip=HEIGHT)
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        page = opened.pages.first
        offsets, counts = page.tags[273], page.tags[279]
    file = bytearray(data)
    file[offsets.valueoffset : offsets.valueoffset + 4] = struct.pack("<I", len(data))
    size = counts.valuebytecount // counts.count
    file[counts.valueoffset : counts.valueoffset + size] = len(bomb).to_bytes(4, "little")[:size]
    if len(bomb) < 2 ** (8 * size):
        fault = rejection(bytes(file) + bomb, tmp_path)
        assert fault.detail == "TIFF: a strip or tile claims 81,000,000 pixels"


def test_a_cut_file_is_truncated(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 5), np.uint8)
    for compression in (None, "lzw", "deflate", "lerc", "jpegxl", "zstd"):
        file = bytearray(tiff(noise, compression=compression, rowsperstrip=8))
        for part in (0.5, 0.9):
            fault = rejection(bytes(file[: int(len(file) * part)]), tmp_path)
            assert fault.reason == "truncated"


VALID = [
    tiff(levels("u2", 4), compression="lzw", tile=(16, 16), byteorder=">", predictor=True),
    tiff(levels("f4", 3), compression="deflate", predictor=True),
    tiff(ramp(5), compression="jpeg", apart=True),
    tiff(ramp(5), compression="jpegxl", rowsperstrip=16),
    tiff(ramp(3), compression="lerc"),
    tiff(ramp(4), compression="webp", photometric="rgb"),
    tiff(levels("i2", 8), apart=True, bigtiff=True, rowsperstrip=9),
    tiff(ramp(3), compression="jpeg2000", tile=(32, 32)),
]


@settings(deadline=None, max_examples=200)
@given(
    data=st.sampled_from(VALID),
    cut=st.floats(0.1, 1),
    keep=st.booleans(),
    flips=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6),
    near=st.booleans(),
)
def test_damaged_tiffs_give_pixels_or_a_rejection(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    cut: float,
    keep: bool,
    flips: list[tuple[int, int]],
    near: bool,
) -> None:
    damaged = bytearray(data if keep else data[: int(len(data) * cut)])
    for place, value in flips:
        damaged[place % (min(300, len(damaged)) if near else len(damaged))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.tif"
    path.write_bytes(damaged)
    try:
        pixels = decode_rgb(path)
    except Reject as fault:
        reasons = ("not_image", "truncated", "too_large", "unsupported")
        assert fault.reason in reasons  # noqa: PT017
        assert "\n" not in fault.detail  # noqa: PT017
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
