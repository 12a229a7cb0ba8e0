"""Reads image files as pixels, and says of each that cannot be read what is wrong with it.

The bytes of a file are read first, whole, then decoded from memory. So an error while reading is
the machine's or the file system's (see source.read), and an error while decoding is the image's
own.
"""

import io
import logging
import math
import os
import platform
import re
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..core.errors import EnvironmentFault, Hw1Error
from ..core.preprocessing import Framing
from ..core.records import Decoded, Planned, Rejection, Shard, UInt8
from ..core.spec import TiffReading
from .crops import crop, longest_side
from .formats import HEAD_BYTES, RAW_SUFFIXES, RAW_TIFF, format_of, suffix_of, unread_kind
from .limits import Reject, check_size
from .pixels import orientation_of, to_rgb
from .source import read
from .strip import check_png, check_ppm, picture_of_jpeg, picture_of_png
from .tiff import Tiff, open_tiff, too_dark
from .tiff_layout import DEFAULT

FORMATS: Final = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    GifImagePlugin.GifImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    PpmImagePlugin.PpmImageFile.format,
    Jpeg2KImagePlugin.Jpeg2KImageFile.format,
    AvifImagePlugin.AvifImageFile.format,
)
"""What Pillow may try. Left to itself it also tries EPS, which runs Ghostscript."""

_JPEG, _PNG, _PPM, _TIFF = "JPEG", "PNG", "PPM", "TIFF"
_RAISE_RUNTIME_ERRORS: Final = ("AVIF", "WEBP", "TIFF")
"""Formats whose decoders say so that the content is damaged."""

_UNSUPPORTED: Final = re.compile("unsupported|not supported|not implemented", re.IGNORECASE)
_stderr_lock = threading.Lock()

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its complaints go to stderr


class Picture:
    """An image whose header was read; its pixels are decoded when they are asked for."""

    def __init__(self, data: bytes, source: "Image.Image | Tiff") -> None:
        self._data = data
        self._tiff = source if isinstance(source, Tiff) else None
        self._source = source.image or source if isinstance(source, Tiff) else source

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the header says, before it is turned upright."""
        return self._source.width, self._source.height

    @property
    def orientation(self) -> int:
        """EXIF's, from which `rgb` turns it upright; 1 where it lies upright in the file."""
        return orientation_of(self._source) if isinstance(self._source, Image.Image) else 1

    def draft(self, least: int) -> None:
        """Let a JPEG be decoded at a smaller scale, of at least this many pixels a side."""
        if isinstance(self._source, Image.Image):
            self._source.draft(None, (least, least))  # of other formats this is a no-op

    def notice(self, decoded: Image.Image) -> str:
        """What a person should know of how it was decoded, in words; "" for nothing."""
        with suppress(Exception):  # it must cost no image
            return too_dark(self._tiff, decoded) if self._tiff else ""
        return ""

    def rgb(self) -> Image.Image:
        """The first frame, decoded, as mode "RGB", upright; Reject where it is damaged."""
        source = self._source
        kind = source.format if isinstance(source, Image.Image) else _TIFF
        with _image_faults(kind, self.size):
            if kind == _TIFF:
                with _quiet_stderr():
                    return to_rgb(source) if isinstance(source, Image.Image) else source.rgb()
            assert isinstance(source, Image.Image)
            if kind != _PNG:
                return to_rgb(source)
            try:
                return to_rgb(source)
            except (OSError, SyntaxError, ValueError):
                return to_rgb(_pillow(picture_of_png(self._data)))


def open_image(
    path: Path, planned: Planned | None = None, reading: TiffReading = DEFAULT
) -> Picture:
    """Read a file and its image's header; the pixels are decoded when they are asked for.

    ``planned`` is what the file was in the plan; None: it need not be as it was. Raises Reject
    for the image's faults and EnvironmentFault for the machine's.
    """
    return open_bytes(read(path, planned), path.name, reading)


def open_bytes(data: bytes, name: str, reading: TiffReading = DEFAULT) -> Picture:
    """Read an image's header in a file's bytes. Raises Reject for the image's faults."""
    known = format_of(data[:HEAD_BYTES])
    if known is None and (kind := unread_kind(data[:HEAD_BYTES], suffix_of(name))):
        raise Reject("unsupported", f"{kind}: not read; convert it to PNG, JPEG or TIFF")
    with _image_faults(known):
        picture = Picture(data, _opened(name, data, known, reading))
        check_size(*picture.size)
        return picture


def _opened(
    name: str, data: bytes, known: str | None, reading: TiffReading
) -> "Image.Image | Tiff":
    if known == _TIFF:
        return _opened_tiff(name, data, reading)
    if known == _JPEG:
        return _pillow(picture_of_jpeg(data))
    if known == _PPM:
        check_ppm(data)
    if known != _PNG:
        return _pillow(data)
    check_png(data)
    try:
        return _pillow(data)
    except (OSError, SyntaxError, ValueError):
        return _pillow(picture_of_png(data))


def _opened_tiff(name: str, data: bytes, reading: TiffReading) -> Tiff:
    suffix = suffix_of(name)
    if suffix in RAW_SUFFIXES or RAW_TIFF.match(data[:HEAD_BYTES]):
        kind = suffix[1:].upper() or "TIFF"
        raise Reject("unsupported", f"a camera's raw file ({kind}): convert it to TIFF or JPEG")
    tiff = open_tiff(data, reading)
    if not tiff.by_pillow:
        return tiff
    try:
        image = _pillow(data)
        image.seek(tiff.index)
    except (OSError, SyntaxError, ValueError, EOFError):
        return tiff.without_pillow()
    return replace(tiff, image=image)


def _pillow(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=FORMATS)


def decode_rgb(path: Path, planned: Planned | None = None, reading: TiffReading = DEFAULT) -> UInt8:
    """The first frame of an image file as uint8 (H, W, 3) RGB, upright.

    See pixels.to_rgb for what becomes of transparency and of more than 8 bits, and TiffReading
    for a TIFF's bands. Raises Reject and EnvironmentFault as open_image does.
    """
    return np.asarray(open_image(path, planned, reading).rgb())


def decode_crops(
    piece: Shard,
    root: Path,
    framings: Sequence[Framing],
    *,
    draft: bool = False,
    reading: TiffReading = DEFAULT,
) -> Decoded:
    """Decode a piece's images for classifiers: an array (n, H, W, 3) for each framing, in order.

    Each image is decoded once, and cropped in every framing at once. With ``draft`` JPEGs are
    decoded at the smallest of their scales (1, 1/2, 1/4, 1/8) that leaves twice the largest side
    that one is resized to: less work, and pixels that differ a little.
    """
    arrays = [np.empty((len(piece.images), *framing.size, 3), np.uint8) for framing in framings]
    least = 2 * max(map(longest_side, framings))
    positions: list[int] = []
    rejections: list[Rejection] = []
    notice = ""
    for position, planned in enumerate(piece.images, piece.first):
        try:
            with _crashes():
                picture = open_image(root / planned.image_id, planned, reading)
                if draft:
                    picture.draft(least)
                image = picture.rgb()
                notice = notice or _noticed(planned, picture, image)
                for array, framing in zip(arrays, framings, strict=True):
                    array[len(positions)] = crop(image, framing)
        except Reject as fault:
            rejections.append(_rejection(root, planned, fault))
            continue
        positions.append(position)
    count = len(positions)
    kept = tuple(array[:count].copy() if rejections else array for array in arrays)
    return _decoded(piece, positions, kept, rejections, notice)


def decode_photos(
    piece: Shard,
    root: Path,
    max_bytes: int,
    *,
    together: int = 1,
    reading: TiffReading = DEFAULT,
) -> Decoded:
    """Decode a piece's images for segmenters: an array (H, W, 3) for each.

    Ends before the image whose pixels would make more than ``max_bytes``, as its header says, and
    where it can at a multiple of ``together`` in the plan: so that which of these images are in one
    piece doesn't depend on where a shard begins. The first image that can be decoded is, however
    large.
    """
    photos: list[UInt8] = []
    positions: list[int] = []
    rejections: list[Rejection] = []
    notice = ""
    held = 0
    for position, planned in enumerate(piece.images, piece.first):
        try:
            with _crashes():
                picture = open_image(root / planned.image_id, planned, reading)
                width, height = picture.size
                # Those that are decided together are most likely of one size: where they won't
                # all fit, none of them is decoded twice.
                coming = together if position % together == 0 else 1
                if photos and held + coming * width * height * 3 > max_bytes:
                    cut = position // together * together
                    piece = piece.piece(piece.first, cut if cut > piece.first else position)
                    break
                image = picture.rgb()
                notice = notice or _noticed(planned, picture, image)
                photos.append(np.asarray(image))
            held += photos[-1].nbytes
            positions.append(position)
        except Reject as fault:
            rejections.append(_rejection(root, planned, fault))
    kept = sum(position < piece.stop for position in positions)
    left = {planned.image_id for planned in piece.images}
    rejections = [each for each in rejections if each.image_id in left]
    return _decoded(piece, positions[:kept], tuple(photos[:kept]), rejections, notice)


def _noticed(planned: Planned, picture: Picture, image: Image.Image) -> str:
    said = picture.notice(image)
    return f"{planned.image_id}: {said}" if said else ""


def sample_of(*shapes: tuple[int, ...]) -> Decoded:
    """One made-up image as these arrays, patterns that never change, as if it had been decoded."""
    piece = Shard(0, 0, (Planned("sample", 0, 0),))
    arrays = tuple(
        (np.arange(math.prod(shape)) * 7919 % 251).astype(np.uint8).reshape(shape)
        for shape in shapes
    )
    return Decoded(piece, (0,), ("sample",), arrays, ())


@contextmanager
def _crashes() -> Iterator[None]:
    """Make a Reject of whatever else one image makes its decoding raise.

    But for an end that was asked for: Ray ends its workers by SystemExit.
    """
    try:
        yield
    except (Reject, Hw1Error, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, SystemExit) and frames and "ray" in Path(frames[-1].filename).parts:
            raise
        if isinstance(error, MemoryError) and _memory_is_short(0):
            raise EnvironmentFault("not enough memory to shrink an image") from error
        raise Reject("crashed", f"{type(error).__name__}: {_said(error)}") from error


def _rejection(root: Path, planned: Planned, fault: Reject) -> Rejection:
    """What becomes of an image; EnvironmentFault where all of IN went, not the image alone.

    A machine of a cluster may not see the folder; unmounted storage leaves an empty one.
    """
    if fault.reason == "gone" and planned.size != -1 and not _holds_something(root):
        raise EnvironmentFault(
            f"{root} is not there, or empty, on {platform.node()}: mount it on every machine that "
            "scores, and give the same command again"
        )
    return Rejection(planned.image_id, fault.reason, fault.detail)


def _holds_something(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False
    except OSError:  # one may read files in there whose names one may not list
        return True


def _decoded(
    piece: Shard,
    positions: Sequence[int],
    arrays: tuple[UInt8, ...],
    rejections: Sequence[Rejection],
    notice: str,
) -> Decoded:
    names = tuple(piece.images[position - piece.first].image_id for position in positions)
    return Decoded(piece, tuple(positions), names, arrays, tuple(rejections), notice)


@contextmanager
def _image_faults(kind: str | None, size: tuple[int, int] | None = None) -> Iterator[None]:
    """Make a Reject of all that a decoder may raise for bad content, whatever its type.

    Decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more, and warn.
    ``size`` is None while the header is read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (Reject, Hw1Error):
        raise
    except Image.DecompressionBombError as error:
        raise Reject("too_large", _said(error)) from error
    except Exception as error:
        pixels = size[0] * size[1] if size is not None else 0
        if "memory" in f"{error!r}".lower() and _memory_is_short(pixels):
            raise EnvironmentFault(f"not enough memory to decode {pixels:,} pixels") from error
        if isinstance(error, RuntimeError) and kind not in _RAISE_RUNTIME_ERRORS:
            raise Reject("crashed", f"{type(error).__name__}: {_said(error)}") from error
        raise _damage(kind, error, header=size is None) from error


def _damage(kind: str | None, error: Exception, *, header: bool) -> Reject:
    if kind is None:
        return Reject("not_image", "its content is none of " + ", ".join(map(str, FORMATS)))
    if _UNSUPPORTED.search(str(error)):
        return Reject("unsupported", f"{kind}: {_said(error)}")
    if header:
        return Reject("truncated", f"it begins as {kind}, but its header is damaged or not known")
    return Reject("truncated", f"{kind}: {_said(error)}")


def _memory_is_short(pixels: int) -> bool:
    """Whether an image of this size cannot be held.

    Decoders say "out of memory" too where damaged content asks for absurd buffers. That must not
    stop a job; a machine that is really short must.
    """
    try:
        bytearray(8 * pixels + 2**24)
    except MemoryError:
        return True
    return False


def _said(error: BaseException) -> str:
    """The error's text in one line, the same whenever it happens: without objects' addresses."""
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))
    return text[:200] or type(error).__name__


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send what C code writes to stderr nowhere: libtiff reports there, not in exceptions.

    Descriptors belong to the whole process, hence the lock and the shortest of times.
    """
    with _stderr_lock:
        try:
            saved = os.dup(2)
        except OSError:  # closed: nothing to keep quiet
            saved = -1
        if saved == -1:
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
