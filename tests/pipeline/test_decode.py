import errno
import importlib
import io
import os
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from hw1.core.errors import EnvironmentFault
from hw1.core.preprocessing import Framing
from hw1.core.records import Planned, Shard, UInt8
from hw1.core.spec import TiffReading
from hw1.models import _torchvision
from hw1.pipeline import decode, decode_pieces, strip
from hw1.pipeline.crops import crop
from hw1.pipeline.decode import decode_rgb, open_image
from hw1.pipeline.decode_pieces import decode_crops, decode_photos
from hw1.pipeline.limits import MAX_BYTES, MAX_PIXELS, Reject, check_size

SQUARES = [Framing((40, 40)), Framing((16, 16))]


def photo(height: int = 24, width: int = 36) -> UInt8:
    """A smooth picture, so that a lossy format changes little, that no turn leaves the same."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 / width, y * 255 / height, 255 - (x + y) * 255 / (width + height)]
    return np.stack(planes, 2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes, folder: Path, name: str = "image") -> UInt8:
    path = folder / name
    path.write_bytes(data)
    return decode_rgb(path)


def planned(root: Path, name: str) -> Planned:
    status = (root / name).stat()
    return Planned(name, status.st_size, status.st_mtime_ns)


RGB = Image.fromarray(photo())


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 12),
        ("PPM", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 16),
        ("JPEG2000", {"irreversible": False}, 0),
        ("JPEG", {"quality": 95}, 12),
        ("JPEG", {"quality": 95, "progressive": True}, 12),
        ("AVIF", {"quality": 95}, 16),
    ],
)
def test_every_format_gives_its_pixels(
    tmp_path: Path, kind: str, options: dict[str, Any], tolerance: int
) -> None:
    pixels = decoded(encoded(RGB, kind, **options), tmp_path, "lying.gif")
    assert pixels.dtype == np.uint8
    assert pixels.shape == (24, 36, 3)
    assert np.abs(pixels.astype(int) - photo()).max() <= tolerance


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")]
    + [("TIFF", mode) for mode in ("1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I;16")],
)
def test_modes_become_rgb_as_pillow_converts_them(tmp_path: Path, kind: str, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(photo()[..., 0].astype(np.uint16) * 257)
        expected = np.repeat(photo()[..., :1], 3, 2)
    else:
        image = RGB.convert(mode) if mode != "PA" else RGB.convert("P").convert("PA")
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decoded(encoded(image, kind), tmp_path), expected)


def test_transparent_pixels_have_the_colour_stored_for_them(tmp_path: Path) -> None:
    image = RGB.copy()
    image.putalpha(Image.new("L", RGB.size, 0))
    assert np.array_equal(decoded(encoded(image, "PNG"), tmp_path), photo())
    palette = RGB.convert("P", palette=Image.Palette.ADAPTIVE)
    data = encoded(palette, "PNG", transparency=bytes([0, 128] + [255] * 254))
    assert np.array_equal(decoded(data, tmp_path), np.asarray(palette.convert("RGB")))


def test_interlaced_png(tmp_path: Path) -> None:
    """Pillow writes none: the seven passes of Adam7, put together here."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    rows = b""
    for y, x, dy, dx in (*passes, (1, 0, 2, 1)):
        for row in photo()[y::dy, x::dx]:
            rows += b"\0" + row.tobytes()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 36, 24, 8, 2, 0, 0, 1)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in parts:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        data += struct.pack(">I", len(content)) + name + content + checksum
    assert np.array_equal(decoded(data, tmp_path), photo())


def test_a_cmyk_jpeg_is_not_a_negative(tmp_path: Path) -> None:
    pixels = decoded(encoded(RGB.convert("CMYK"), "JPEG", quality=95), tmp_path)
    assert np.abs(pixels.astype(int) - photo()).max() <= 16


def test_the_first_frame_counts(tmp_path: Path) -> None:
    second = Image.new("RGB", RGB.size, "red")
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        extra = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(RGB, kind, save_all=True, append_images=[second], **extra)
        pixels = decoded(data, tmp_path)
        assert np.abs(pixels.astype(int) - photo()).mean() < 20, kind  # a GIF has 256 colours


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_photos_are_turned_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(turned[orientation](photo())))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    pixels = decoded(encoded(stored, kind, exif=exif, **lossless), tmp_path)
    assert pixels.shape == (24, 36, 3)
    assert np.abs(pixels.astype(int) - photo()).max() <= 24


def test_damaged_exif_data_costs_no_image(tmp_path: Path) -> None:
    data = encoded(RGB, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff and nonsense")
    assert np.array_equal(decoded(data, tmp_path), photo())


def tiff(samples: UInt8 | Any, bits: int, sample_format: int, photometric: int = 1) -> bytes:
    """A grey, uncompressed, little-endian TIFF of any sample type: Pillow writes only some."""
    height, width = samples.shape
    data = samples.tobytes()
    if bits == 12:
        pairs = samples.astype(int).reshape(-1, 2)
        first, second = pairs[:, 0], pairs[:, 1]
        packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1)
        data = packed.astype(np.uint8).tobytes()
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, height),
        (279, len(data)),
        (339, sample_format),
    ]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    end = struct.pack("<H", len(tags)) + directory + b"\0\0\0\0"
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + end


@pytest.mark.parametrize(
    ("bits", "sample_format", "dtype", "levels", "expected"),
    [
        (16, 1, np.uint16, [0, 255, 256, 65535], [0, 0, 1, 255]),
        (12, 1, np.uint16, [0, 15, 16, 4095], [0, 0, 1, 255]),
        (16, 2, np.int16, [-5, 0, 128, 32767], [0, 0, 1, 255]),
        (32, 1, np.uint32, [0, 2**24 - 1, 2**24, 2**32 - 1], [0, 0, 1, 255]),
        (32, 2, np.int32, [-5, 0, 2**23, 2**31 - 1], [0, 0, 1, 255]),
        (32, 3, np.float32, [-1, 0, 0.5, 1], [0, 0, 128, 255]),
        (32, 3, np.float32, [-1, np.nan, 127.6, 300], [0, 0, 128, 255]),
    ],
)
def test_wide_grey_levels_are_scaled_to_8_bits(
    tmp_path: Path,
    bits: int,
    sample_format: int,
    dtype: Any,
    levels: list[float],
    expected: list[int],
) -> None:
    data = tiff(np.array([levels], dtype), bits, sample_format)
    assert decoded(data, tmp_path)[0, :, 0].tolist() == expected


def test_0_may_be_white(tmp_path: Path) -> None:
    data = tiff(np.array([[0, 65535]], np.uint16), 16, 1, photometric=0)
    assert decoded(data, tmp_path)[0, :, 0].tolist() == [255, 0]


def test_wide_colour_and_portable_grey_keep_the_high_byte(tmp_path: Path) -> None:
    levels = photo()[..., 0].astype(">u2") * 257
    data = b"P5 36 24 65535\n" + levels.astype(">u2").tobytes()
    assert np.array_equal(decoded(data, tmp_path)[..., 0], photo()[..., 0])
    wide = (photo().astype(">u2") * 257).astype(">u2").tobytes()
    assert np.array_equal(decoded(b"P6 36 24 65535\n" + wide, tmp_path), photo())


def test_lab_becomes_srgb(tmp_path: Path) -> None:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(RGB, *profiles, outputMode="LAB")
    assert lab is not None
    pixels = decoded(encoded(lab, "TIFF"), tmp_path)
    assert np.abs(pixels.astype(int) - photo()).mean() < 5  # 8 bits of LAB are coarse


def rejection(path: Path, plan: Planned | None = None) -> Reject:
    with pytest.raises(Reject) as caught:
        decode_rgb(path, plan)
    assert caught.value.detail
    assert "\n" not in caught.value.detail
    assert "0x" not in caught.value.detail
    return caught.value


def test_what_is_no_image_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for content, reason in (
        (b"", "empty"),
        (b"hello, world\n", "not_image"),
        (bytes(4096), "not_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "not_image"),
    ):
        path.write_bytes(content)
        assert rejection(path).reason == reason
    assert rejection(tmp_path).reason == "not_image"
    os.mkfifo(tmp_path / "fifo.png")
    assert rejection(tmp_path / "fifo.png").reason == "not_image"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_a_cut_image_is_truncated(tmp_path: Path, kind: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "a.png"
    path.write_bytes(data[: int(len(data) * part)])
    assert rejection(path).reason == "truncated"


def test_a_decompression_bomb_is_too_large(tmp_path: Path) -> None:
    def png(width: int, height: int) -> bytes:
        data = bytearray(encoded(Image.new("1", (1, 1)), "PNG"))
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
        return bytes(data)

    path = tmp_path / "bomb.png"
    for size in ((65_000, 65_000), (2**31 - 1, 2**31 - 1), (MAX_PIXELS + 1, 1), (1, 2**20 + 1)):
        path.write_bytes(png(*size))
        assert rejection(path).reason == "too_large"
    with pytest.raises(Reject, match=f"13378 × 13378 pixels, at most {MAX_PIXELS:,} are read"):
        check_size(13_378, 13_378)  # Pillow's check is of what it opens alone
    path.write_bytes(png(13_377, 13_377))  # Pillow alone would warn here
    assert open_image(path).size == (13_377, 13_377)
    assert rejection(path).reason == "truncated"


def test_a_file_is_too_large_by_its_length(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    assert rejection(path).reason == "too_large"


def test_the_file_must_be_as_it_was_planned(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(RGB, "PNG"))
    plan = planned(tmp_path, "a.png")
    assert np.array_equal(decode_rgb(path, plan), photo())
    os.utime(path, ns=(0, plan.mtime_ns + 1))
    assert rejection(path, plan).reason == "changed"
    path.write_bytes(b"")
    os.utime(path, ns=(0, plan.mtime_ns))
    assert rejection(path, plan).reason == "changed"
    assert rejection(path, Planned("a.png", -1, -1)).reason == "changed"
    path.unlink()
    assert rejection(path, plan).reason == "gone"
    assert rejection(path, Planned("a.png", -1, -1)).reason == "gone"
    path.symlink_to("a.png")
    assert rejection(path, plan).reason == "gone"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, "unreadable"),
        (errno.EPERM, "unreadable"),
        (errno.ENOENT, "gone"),
        (errno.ENOTDIR, "gone"),
        (errno.EIO, None),  # alone in its folder: no other file says that the storage is there
        (errno.ESTALE, None),
        (errno.EMFILE, None),
        (errno.ENFILE, None),
        (errno.ENOMEM, None),
        (errno.ETIMEDOUT, None),
    ],
)
def test_the_machines_faults_reject_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: str | None
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(RGB, "PNG"))

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", fail)
    if expected is None:
        with pytest.raises(EnvironmentFault, match=os.strerror(number)):
            decode_rgb(path)
    else:
        assert rejection(path).reason == expected


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading")])
def test_lack_of_memory_is_the_machines_fault_unless_it_is_not_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(RGB, "PNG"))

    def fail(_: Image.Image) -> Image.Image:
        raise error

    monkeypatch.setattr(decode, "to_rgb", fail)
    assert rejection(path).reason == "truncated"
    monkeypatch.setattr(decode, "memory_is_short", lambda _: True)
    with pytest.raises(EnvironmentFault, match="memory"):
        decode_rgb(path)


def test_memory_is_short_where_an_image_does_not_fit() -> None:
    assert not decode.memory_is_short(1000)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 2**28, limits[1]))
    try:
        assert decode.memory_is_short(MAX_PIXELS)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


VALID = [
    encoded(Image.fromarray(photo(12, 17)), kind, **options)
    for kind, options in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "jpeg"}),
        ("PPM", {}),
        ("JPEG2000", {}),
        ("AVIF", {}),
    )
] + [tiff(np.array([[1, 2, 3, 4]], np.float32), 32, 3)]


@settings(deadline=None, max_examples=400)
@given(
    data=st.sampled_from(VALID),
    cut=st.floats(0, 1),
    keep=st.booleans(),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
)
def test_damage_gives_pixels_or_a_rejection(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    cut: float,
    keep: bool,
    flips: list[tuple[float, int]],
) -> None:
    damaged = bytearray(data if keep else data[: int(len(data) * cut)])
    for place, value in flips:
        if damaged:
            damaged[int(place * len(damaged))] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    try:
        pixels = decode_rgb(path)
    except Reject as fault:
        reasons = ("empty", "not_image", "truncated", "too_large", "unsupported")
        assert fault.reason in reasons  # noqa: PT017
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


def test_libtiffs_complaints_stay_out_of_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(encoded(RGB, "TIFF", compression="tiff_adobe_deflate"))
    data[20:60] = bytes(40)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert rejection(path).reason == "truncated"
    assert capfd.readouterr() == ("", "")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


@pytest.mark.parametrize("size", [1, 17, 40, 64])
def test_a_crop_is_what_torchvision_resizes(size: int) -> None:
    assert _torchvision.models  # imported first: then the rest of torchvision can be
    transforms = importlib.import_module("torchvision.transforms")
    image = np.random.default_rng(0).integers(0, 256, (37, 90, 3), np.uint8)
    expected = np.asarray(transforms.Resize((size, size))(Image.fromarray(image)))
    assert np.array_equal(crop(image, size), expected)
    assert np.array_equal(crop(Image.fromarray(image), size), expected)


def folder_of(root: Path, contents: list[bytes], first: int = 100) -> Shard:
    for number, content in enumerate(contents):
        (root / f"{number}.png").write_bytes(content)
    images = tuple(planned(root, f"{number}.png") for number in range(len(contents)))
    return Shard(3, first, images)


def test_crops_of_a_shard_leave_out_what_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [encoded(Image.fromarray(photo(20 + k, 30)), "PNG") for k in range(3)]
    shard = folder_of(tmp_path, [pictures[0], b"", pictures[1], b"no", pictures[2]])
    opened: list[Path] = []
    original = open_image

    def note(path: Path, plan: Planned, reading: TiffReading) -> decode.Picture:
        opened.append(path)
        return original(path, plan, reading)

    monkeypatch.setattr(decode_pieces, "open_image", note)
    result = decode_crops(shard, tmp_path, SQUARES)
    assert result.piece == shard
    assert result.positions == (100, 102, 104)
    assert result.image_ids == ("0.png", "2.png", "4.png")
    assert [(r.image_id, r.reason) for r in result.rejections] == [
        ("1.png", "empty"),
        ("3.png", "not_image"),
    ]
    assert [array.shape for array in result.arrays] == [(3, 40, 40, 3), (3, 16, 16, 3)]
    assert np.array_equal(result.arrays[0][1], crop(photo(21, 30), 40))
    assert len(opened) == 5


def test_a_draft_decodes_large_jpegs_at_a_smaller_scale_and_leaves_the_rest(tmp_path: Path) -> None:
    photos = [Image.fromarray(photo(*size)) for size in ((320, 400), (159, 200), (320, 400))]
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    large = encoded(photos[0], "JPEG", quality=95, exif=turned)
    others = [encoded(photos[1], "JPEG", quality=95), encoded(photos[2], "PNG")]
    shard = folder_of(tmp_path, [large, *others, large[:-900]])
    result = decode_crops(shard, tmp_path, SQUARES, draft=True)
    plain = decode_crops(shard, tmp_path, SQUARES)
    with Image.open(io.BytesIO(large)) as image:
        image.draft(None, (80, 80))
        assert image.size == (100, 80)
        expected = image.transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(result.arrays[0][0], crop(expected, 40))
    assert np.array_equal(result.arrays[1][0], crop(expected, 16))
    assert not np.array_equal(result.arrays[0][0], plain.arrays[0][0])
    assert np.abs(result.arrays[0][0].astype(int) - plain.arrays[0][0]).max() < 8
    assert np.array_equal(result.arrays[0][1:], plain.arrays[0][1:])
    assert result.rejections == plain.rejections
    assert [r.reason for r in result.rejections] == ["truncated"]


def test_photos_end_before_memory_does(tmp_path: Path) -> None:
    picture = encoded(Image.fromarray(photo(10, 10)), "PNG")
    shard = folder_of(tmp_path, [b"", picture, b"no", picture, picture, b"", picture])
    result = decode_photos(shard, tmp_path, 700)
    assert (result.piece.first, result.piece.stop) == (100, 104)
    assert result.positions == (101, 103)
    assert [r.image_id for r in result.rejections] == ["0.png", "2.png"]
    assert all(np.array_equal(array, photo(10, 10)) for array in result.arrays)
    rest = decode_photos(shard.piece(104, shard.stop), tmp_path, 1)
    assert (rest.piece.first, rest.piece.stop) == (104, 106)
    assert rest.positions == (104,)
    last = decode_photos(shard.piece(106, shard.stop), tmp_path, 10_000)
    assert last.piece.stop == shard.stop


def test_a_damaged_photo_takes_no_memory_from_the_others(tmp_path: Path) -> None:
    picture = encoded(Image.fromarray(photo(10, 10)), "PNG")
    shard = folder_of(tmp_path, [picture[:-60], picture])
    result = decode_photos(shard, tmp_path, 300)
    assert result.positions == (101,)
    assert [r.reason for r in result.rejections] == ["truncated"]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of RGB, with chunks behind its header."""
    parts = b"".join(png_chunk(kind, content) for kind, content in chunks)
    data = encoded(RGB, "PNG")
    return data[:33] + parts + data[33:]


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_large_metadata_of_a_png_costs_no_picture(tmp_path: Path, kind: bytes) -> None:
    """More than Pillow unpacks of one chunk; and a sequence of animation chunks out of order."""
    packed = zlib.compress(bytes(1_200_000))
    content = b"name\0" + (b"\1\0\0\0" if kind == b"iTXt" else b"\0") + packed
    data = png_with((kind, content))
    assert np.array_equal(decoded(data, tmp_path), photo())
    animation = (b"acTL", struct.pack(">II", 2, 0)), (b"fdAT", bytes(8))
    assert np.array_equal(decoded(png_with(*animation), tmp_path), photo())


def test_the_first_frame_of_an_animated_png_is_the_picture(tmp_path: Path) -> None:
    """Pillow believes a frame that is said to be smaller, and reads the rows as others."""
    y, x = np.mgrid[0:48, 0:64]
    smooth = np.stack([3 * x, 5 * y, x + y], 2).astype(np.uint8)
    data = encoded(Image.fromarray(smooth), "PNG")
    for width in (10, 64):
        frame = struct.pack(">IIIIIHHBB", 0, width, 48, 0, 0, 1, 1, 0, 0)
        chunks = png_chunk(b"acTL", struct.pack(">II", 2, 0)) + png_chunk(b"fcTL", frame)
        assert np.array_equal(decoded(data[:33] + chunks + data[33:], tmp_path), smooth)


@pytest.mark.parametrize("length", [0, 1, 3, 7])
def test_a_png_whose_transparency_is_damaged_has_its_colours(tmp_path: Path, length: int) -> None:
    data = png_with((b"tRNS", bytes(length)))
    assert np.array_equal(decoded(data, tmp_path), photo())


def test_a_png_of_endless_chunks_is_rejected_before_it_is_decoded(tmp_path: Path) -> None:
    """Of each Pillow takes some microseconds, and a file has room for millions."""
    empty = struct.pack(">I", 0) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    data = encoded(RGB, "PNG")
    assert np.array_equal(decoded(data[:33] + 50_000 * empty + data[33:], tmp_path), photo())
    path = tmp_path / "image"
    for place in (33, len(data) - 12):
        path.write_bytes(data[:place] + 300_000 * empty + data[place:])
        assert rejection(path).reason == "too_large"
        assert "chunks" in rejection(path).detail


@pytest.mark.parametrize("magic", ["P6", "P3", "P4"])
def test_a_ppm_of_endless_comments_is_rejected_before_it_is_decoded(
    tmp_path: Path, magic: str
) -> None:
    content = b"0 " * 48 if magic == "P3" else bytes(48)
    most = b"" if magic == "P4" else b" 255"
    few = f"{magic}\n# by me\n4 4 # wide\n".encode()
    assert decoded(few + most + b"\n" + content, tmp_path).shape == (4, 4, 3)
    path = tmp_path / "image"
    path.write_bytes(few[:3] + b"# x\n" * 2_000_000 + b"4 4" + most + b"\n" + content)
    assert "header" in rejection(path).detail


def test_a_jpegs_metadata_costs_no_minutes(tmp_path: Path) -> None:
    data = encoded(RGB, "JPEG", quality=95)
    expected = decoded(data, tmp_path)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 3
    exif = encoded(RGB, "JPEG", quality=95, exif=turned)
    large = b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)
    assert np.array_equal(decoded(data[:2] + 400 * large + data[2:], tmp_path), expected)
    many = exif[:2] + 400 * (b"\xff\xe2\xff\xff" + bytes(65533)) + exif[2:]
    assert np.array_equal(decoded(many, tmp_path), decoded(exif, tmp_path))
    path = tmp_path / "image"
    path.write_bytes(data[:2] + 2_000_000 * b"\xff\xe5\0\2" + data[2:])
    assert rejection(path).reason == "too_large"


def test_a_preview_in_a_jpegs_metadata_is_not_taken_for_its_picture(tmp_path: Path) -> None:
    """It holds a scan's marker, and what comes after it may cost minutes all the same."""
    data = encoded(RGB, "JPEG", quality=95)
    preview = b"\xff\xe1\x01\x00Exif\0\0\xff\xda" + bytes(246)
    large = b"\xff\xe1\xff\xffExif\0\0" + bytes(65527)
    content = data[:2] + preview + 400 * large + data[2:]
    assert len(strip.picture_of_jpeg(content)) < len(data) + len(preview) + len(large)
    assert np.array_equal(decoded(content, tmp_path), decoded(data, tmp_path))
    path = tmp_path / "image"
    path.write_bytes(data[:2] + preview + 150_000 * b"\xff\xe5\0\2" + data[2:])
    assert rejection(path).reason == "too_large"


@pytest.mark.parametrize("stray", [b"\xff\0", b"\xff\xd0"])
def test_a_stray_marker_among_large_metadata_costs_no_pixels(tmp_path: Path, stray: bytes) -> None:
    """It stands alone, without the length that a segment has."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG", quality=95)
    large = b"\xff\xe2\xff\xff" + bytes(65533)
    scan = data.index(b"\xff\xda")
    content = data[:2] + 400 * large + data[2:scan] + stray + data[scan:]
    assert np.array_equal(decoded(content, tmp_path), decoded(data, tmp_path))


def test_a_jpeg_of_thousands_of_scans_is_rejected_before_it_is_decoded(tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (3000, 2000)), "JPEG", progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:-2] + 3000 * last + data[-2:])
    assert rejection(path).reason == "too_large"
    assert "scans of 6,000,000 pixels" in rejection(path).detail
    assert decoded(data[:-2] + 30 * last + data[-2:], tmp_path).shape == (2000, 3000, 3)


def test_a_bmp_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    data = bytearray(encoded(Image.new("RGBA", (4, 4)), "BMP"))
    data[30:34] = struct.pack("<I", 3)
    data[54:66] = struct.pack("<III", 0x00F, 0x0F0, 0xF00)
    path = tmp_path / "a.bmp"
    path.write_bytes(data)
    assert rejection(path).reason == "unsupported"


@pytest.mark.parametrize("error", [RuntimeError("odd"), SystemExit("odd"), RecursionError("odd")])
@pytest.mark.parametrize(("module", "place"), [(decode, "to_rgb"), (decode_pieces, "crop")])
def test_whatever_one_image_raises_costs_the_others_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    module: Any,
    place: str,
) -> None:
    shard = folder_of(tmp_path, [encoded(RGB, "PNG")] * 3)
    original: Callable[..., Any] = getattr(module, place)
    calls: list[None] = []

    def fail(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            raise error
        return original(*arguments)

    monkeypatch.setattr(module, place, fail)
    result = decode_crops(shard, tmp_path, [Framing((16, 16))])
    assert result.positions == (100, 102)
    (lost,) = result.rejections
    assert lost.image_id == "1.png"
    assert lost.reason == "crashed"
    assert "odd" in lost.detail


def test_an_io_error_that_stays_with_one_file_is_that_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = folder_of(tmp_path, [encoded(RGB, "PNG")] * 3)
    original = Path.open
    tries: list[None] = []

    def fail(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "1.png":
            tries.append(None)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", fail)
    result = decode_photos(shard, tmp_path, 10**6)
    assert result.positions == (100, 102)
    assert [(r.image_id, r.reason) for r in result.rejections] == [("1.png", "unreadable")]
    assert len(tries) == 3


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.heic", HEIC, "HEIC"),
        ("a.jpg", HEIC, "HEIC"),
        ("a", b"\xff\x0a" + bytes(30), "JPEG XL"),
        ("a", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(30), "JPEG XL"),
        ("a", b"8BPS\0\1" + bytes(30), "PSD"),
        ("a.svg", b"<?xml version='1.0'?><svg/>", "SVG"),
        ("a.tga", bytes(40), "TGA"),
        ("a", b"\0\0\0\x18ftypcrx " + bytes(30), "CR3"),
        ("a", b"FUJIFILMCCD-RAW " + bytes(30), "RAF"),
    ],
)
def test_images_that_are_not_read_are_named(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(content)
    fault = rejection(tmp_path / name)
    assert fault.reason == "unsupported"
    assert kind in fault.detail
