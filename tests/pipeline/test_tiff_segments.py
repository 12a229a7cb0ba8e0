"""Strips that hold their bands in ways that the TIFF's header doesn't tell, as libtiff's do."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hw1.core.records import UInt8
from hw1.core.spec import TiffReading
from hw1.pipeline.decode import decode_rgb
from hw1.pipeline.limits import Reject

imagecodecs = pytest.importorskip("imagecodecs")

HEIGHT, WIDTH = 16, 24
LERC, JPEG, WEBP = 34887, 7, 50001


def ramp(bands: int) -> UInt8:
    """A picture each of whose bands differs from the others: (H, W, bands)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [9 * x, 15 * y, 5 * (x + y), 255 - 8 * x, 12 * y]
    return np.stack(planes[:bands], 2).astype(np.uint8)


def built(segments: list[bytes], bands: int, bits: int, order: str = "<", **tags: int) -> bytes:
    """A TIFF of these strips, as they are; tags are named t262 and the like."""
    lines = {256: WIDTH, 257: HEIGHT, 258: bits, 259: 1, 262: 1, 277: bands, 278: HEIGHT, 284: 1}
    lines |= {int(name[1:]): value for name, value in tags.items()}
    count = len(segments)
    start = 8 + 2 + 12 * (len(lines) + 2) + 4
    strips = start + 8 * count
    places = [strips + sum(map(len, segments[:i])) for i in range(count)]
    entries: dict[int, tuple[int, int, int]] = {t: (4, 1, v) for t, v in lines.items()}
    entries[273] = (4, count, start if count > 1 else places[0])
    entries[279] = (4, count, start + 4 * count if count > 1 else len(segments[0]))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", 8) + struct.pack(f"{order}H", len(entries))
    for tag in sorted(entries):
        head += struct.pack(f"{order}HHII", tag, *entries[tag])
    head += bytes(4) + struct.pack(f"{order}{count}I", *places)
    return head + struct.pack(f"{order}{count}I", *map(len, segments)) + b"".join(segments)


def decoded(data: bytes, folder: Path, **reading: Any) -> UInt8:
    (folder / "a.tif").write_bytes(data)
    return decode_rgb(folder / "a.tif", reading=TiffReading(**reading))


def grey(levels: NDArray[Any]) -> UInt8:
    return np.repeat(levels.astype(np.uint8)[..., None], 3, 2)


PICTURE = ramp(1)[..., 0]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("bits", "levels", "tags"),
    [
        (8, PICTURE, {}),
        (8, ~PICTURE, {"t262": 0}),
        (16, PICTURE.astype("u2") << 8, {}),
        (32, PICTURE.astype("u4") << 24, {}),
        (32, PICTURE.astype("f4") / np.float32(255), {"t339": 3}),
        (64, PICTURE.astype("f8") / 255, {"t339": 3}),
    ],
)
def test_one_band_may_be_called_a_plane_of_its_own(
    tmp_path: Path, order: str, bits: int, levels: NDArray[Any], tags: dict[str, int]
) -> None:
    """GDAL's INTERLEAVE=BAND writes PlanarConfiguration 2 for one band as well."""
    strip = levels.astype(levels.dtype.newbyteorder(order)).tobytes()
    data = built([strip], 1, bits, order, t284=2, **tags)
    assert np.array_equal(decoded(data, tmp_path), grey(PICTURE))


@pytest.mark.parametrize("white", [False, True])
def test_one_plane_of_single_bits(tmp_path: Path, white: bool) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH), np.uint8)
    data = built([np.packbits(bits, axis=1).tobytes()], 1, 1, t284=2, t262=0 if white else 1)
    assert np.array_equal(decoded(data, tmp_path), grey((bits ^ white) * 255))


def lerc_strip(samples: NDArray[Any], order: str, **options: Any) -> bytes:
    """The samples in LERC, their bytes in the file's order, as libtiff encodes them."""
    stored = samples.astype(samples.dtype.newbyteorder(order)).view(samples.dtype)
    return bytes(imagecodecs.lerc_encode(np.ascontiguousarray(stored), **options))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("bands", [2, 3, 5])
def test_lerc_may_hold_a_picture_for_each_band(
    tmp_path: Path, order: str, dtype: str, bands: int
) -> None:
    """libtiff does so where pixels are missing (NaN) in one band and not in another."""
    samples = ramp(bands).astype(dtype) / np.array(255, dtype)
    strip = lerc_strip(np.moveaxis(samples, 2, 0), order, planar=True)
    data = built([strip], bands, 8 * samples.itemsize, order, t259=LERC, t339=3)
    picture = ramp(3) if bands >= 3 else grey(ramp(1)[..., 0])
    assert np.array_equal(decoded(data, tmp_path), picture)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_lerc_may_hold_all_bands_of_a_pixel_together(
    tmp_path: Path, dtype: str, order: str
) -> None:
    kind = np.dtype(dtype)
    samples = ramp(4).astype(dtype)
    if kind.kind == "f":
        samples = samples / np.array(255, dtype)
    elif kind.itemsize > 1:
        samples = samples << (8 * kind.itemsize - 8 - (kind.kind == "i"))
    sign = {"u": 1, "i": 2, "f": 3}[kind.kind]
    strip = lerc_strip(samples, order)
    data = built([strip], 4, 8 * kind.itemsize, order, t259=LERC, t339=sign)
    assert np.array_equal(decoded(data, tmp_path), ramp(3))


@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_of_0_and_255_is_the_mask_of_lerc(tmp_path: Path, bands: int) -> None:
    seen = np.ones((HEIGHT, WIDTH), bool)
    seen[:, :9] = False
    colours = ramp(bands - 1) * seen[..., None]
    samples = colours[..., 0] if bands == 2 else colours
    for mask in (seen, None):
        strip = bytes(imagecodecs.lerc_encode(np.ascontiguousarray(samples), masks=mask))
        data = built([strip], bands, 8, t259=LERC, t338=2)
        picture = colours if bands == 4 else grey(colours[..., 0])
        assert np.array_equal(decoded(data, tmp_path), picture)
        alpha = decoded(data, tmp_path, bands=(bands, bands, bands))[..., 0]
        assert np.array_equal(alpha, np.where(seen, 255, 0) if mask is not None else seen * 0 + 255)


def test_lerc_of_other_bands_than_the_header_is_damaged(tmp_path: Path) -> None:
    strip = bytes(imagecodecs.lerc_encode(ramp(5)))
    with pytest.raises(Reject, match="truncated"):
        decoded(built([strip], 3, 8, t259=LERC), tmp_path)


def smooth(bands: int) -> UInt8:
    """Bands far apart, flat: JPEG keeps them nearly."""
    return np.broadcast_to(np.uint8([200, 20, 90, 250, 60][:bands]), (HEIGHT, WIDTH, bands))


@pytest.mark.parametrize("photometric", [0, 1])
def test_three_grey_bands_in_jpeg_are_no_colours(tmp_path: Path, photometric: int) -> None:
    """GDAL's PHOTOMETRIC=MINISBLACK: no markers, and components that a decoder takes for YCbCr."""
    strip = imagecodecs.jpeg_encode(
        np.ascontiguousarray(smooth(3)), level=98, colorspace="RGB", outcolorspace="RGB"
    )
    data = built([bytes(strip)], 3, 8, t259=JPEG, t262=photometric, t338=0)
    off = np.abs(decoded(data, tmp_path).astype(int) - smooth(3))
    assert off.max() <= 3


def test_planes_of_rgb_in_jpeg_are_grey_pictures(tmp_path: Path) -> None:
    planes = [np.ascontiguousarray(smooth(3)[..., band]) for band in range(3)]
    strips = [bytes(imagecodecs.jpeg_encode(plane, level=98)) for plane in planes]
    data = built(strips, 3, 8, t259=JPEG, t262=2, t284=2)
    off = np.abs(decoded(data, tmp_path, bands=(3, 2, 1)).astype(int) - smooth(3)[..., ::-1])
    assert off.max() <= 3


def test_webp_with_bands_apart_is_unsupported(tmp_path: Path) -> None:
    strips = [bytes(imagecodecs.webp_encode(ramp(4), lossless=True))] * 4
    with pytest.raises(Reject, match="WEBP with bands apart"):
        decoded(built(strips, 4, 8, t259=WEBP, t262=2, t284=2), tmp_path)


@pytest.mark.parametrize("photometric", [5, 6])
def test_signed_colours_of_print_and_video_are_unsupported(
    tmp_path: Path, photometric: int
) -> None:
    bands = 4 if photometric == 5 else 3
    strip = bytes(imagecodecs.lerc_encode(ramp(bands)))
    with pytest.raises(Reject, match="unsupported"):
        decoded(built([strip], bands, 8, t259=LERC, t262=photometric, t339=2), tmp_path)
