"""Reads image files as pixels, and says of each that cannot be read what is wrong with it.

The bytes of a file are read first, whole, then decoded from memory. So an error while reading is
the machine's or the file system's, and an error while decoding is the image's own: only the
latter, and permissions, reject an image.
"""

import errno
import io
import logging
import os
import platform
import re
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from ..core.records import Decoded, Planned, Reason, Rejection, Shard, UInt8
from .formats import HEAD_BYTES, format_of
from .pixels import to_rgb

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

MAX_PIXELS: Final = 2 * 89_478_485
"""More pixels than this (13,377 × 13,377) are ``too_large``: Pillow's own limit.

Such an image takes 0.7 GB in Pillow and 0.5 GB as an array. A few bytes of PNG can claim to be
one of 65,000 × 65,000; the header is believed before anything is decoded.
"""

MAX_BYTES: Final = 8 * MAX_PIXELS
"""A longer file cannot be an image within MAX_PIXELS (16-bit RGBA is 8 bytes a pixel)."""

_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM)
_stderr_lock = threading.Lock()

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its complaints go to stderr


class Reject(Exception):
    """An image that cannot be used, for its own fault."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail


def open_image(path: Path, planned: Planned | None = None) -> Image.Image:
    """Read a file and its image's header; the pixels are decoded when they are asked for.

    ``planned`` is what the file was in the plan; None: it need not be as it was. Raises Reject
    for the image's faults and EnvironmentFault for the machine's. Decoding the pixels may raise
    anything: use decode_rgb.
    """
    data = _read(path, planned)
    with _image_faults(data):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise Reject("too_large", f"{width} × {height} pixels, at most {MAX_PIXELS:,} are read")
        return image


def decode_rgb(path: Path, planned: Planned | None = None) -> UInt8:
    """The first frame of an image file as uint8 (H, W, 3) RGB, upright.

    See pixels.to_rgb for what becomes of transparency and of more than 8 bits. Raises Reject and
    EnvironmentFault as open_image does.
    """
    return np.asarray(_rgb(open_image(path, planned)))


def crop(image: Image.Image | UInt8, size: int) -> UInt8:
    """An RGB image as uint8 (size, size, 3): the whole of it, whatever its shape.

    Bilinear and antialiased: what torchvision's Resize((size, size)) does with a PIL image.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def decode_crops(piece: Shard, root: Path, sizes: Sequence[int], *, draft: bool = False) -> Decoded:
    """Decode a piece's images for classifiers: an array (n, S, S, 3) for each size, in order.

    Each image is decoded once, and shrunk to every size at once. With ``draft`` JPEGs are decoded
    at the smallest of their scales (1, 1/2, 1/4, 1/8) that leaves twice the largest size: less
    work, and pixels that differ a little.
    """
    least = 2 * max(sizes)
    arrays = [np.empty((len(piece.images), size, size, 3), np.uint8) for size in sizes]
    positions: list[int] = []
    rejections: list[Rejection] = []
    for position, planned in enumerate(piece.images, piece.first):
        try:
            image = open_image(root / planned.image_id, planned)
            if draft:
                image.draft(None, (least, least))  # of other formats this is a no-op
            image = _rgb(image)
        except Reject as fault:
            rejections.append(_rejection(root, planned, fault))
            continue
        for array, size in zip(arrays, sizes, strict=True):
            array[len(positions)] = crop(image, size)
        positions.append(position)
    count = len(positions)
    kept = tuple(array[:count].copy() if rejections else array for array in arrays)
    return _decoded(piece, positions, kept, rejections)


def decode_photos(piece: Shard, root: Path, max_bytes: int) -> Decoded:
    """Decode a piece's images for segmenters: an array (H, W, 3) for each.

    Ends before the image whose pixels would make more than ``max_bytes``, as its header says;
    the first image that can be decoded is, however large.
    """
    photos: list[UInt8] = []
    positions: list[int] = []
    rejections: list[Rejection] = []
    held = 0
    for position, planned in enumerate(piece.images, piece.first):
        try:
            image = open_image(root / planned.image_id, planned)
            if photos and held + image.width * image.height * 3 > max_bytes:
                piece = piece.piece(piece.first, position)
                break
            photos.append(np.asarray(_rgb(image)))
            held += photos[-1].nbytes
            positions.append(position)
        except Reject as fault:
            rejections.append(_rejection(root, planned, fault))
    return _decoded(piece, positions, tuple(photos), rejections)


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
) -> Decoded:
    names = tuple(piece.images[position - piece.first].image_id for position in positions)
    return Decoded(piece, tuple(positions), names, arrays, tuple(rejections))


def _read(path: Path, planned: Planned | None) -> bytes:
    """The file's bytes, where it is what it was when it was planned."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a FIFO would wait for its writer
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise Reject("not_image", f"it is {kind}")
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            _check(status, planned)
            data = file.read()
    except OSError as error:
        raise _reading_fault(error, path) from error
    except MemoryError as error:
        raise EnvironmentFault(f"not enough memory to read {path}") from error
    if len(data) != status.st_size:
        raise Reject("changed", "it was written to while it was read")
    return data


def _check(status: os.stat_result, planned: Planned | None) -> None:
    """Compare a file with the plan, before any of it is read."""
    if planned is not None and planned.size == -1:
        raise Reject("changed", "it was not there when the plan was made")
    if planned is not None and status.st_size != planned.size:
        raise Reject("changed", f"{status.st_size} bytes, {planned.size} when planned")
    if planned is not None and status.st_mtime_ns != planned.mtime_ns:
        raise Reject("changed", "it was written to since the plan was made")
    if status.st_size == 0:
        raise Reject("empty", "0 bytes")
    if status.st_size > MAX_BYTES:
        raise Reject("too_large", f"{status.st_size:,} bytes, at most {MAX_BYTES:,} are read")


def _reading_fault(error: OSError, path: Path) -> Reject | EnvironmentFault:
    """Whose fault it is that a file could not be read."""
    said = error.strerror or str(error)
    if error.errno in _GONE:
        return Reject("gone", said)
    if error.errno in _FORBIDDEN:
        return Reject("unreadable", said)
    return EnvironmentFault(f"cannot read {path}: {said}")


def _rgb(image: Image.Image) -> Image.Image:
    """The opened image, decoded, as mode "RGB"."""
    with _image_faults(b"", image):
        if image.format == TiffImagePlugin.TiffImageFile.format:
            with _quiet_stderr():
                return to_rgb(image)
        return to_rgb(image)


@contextmanager
def _image_faults(data: bytes, image: Image.Image | None = None) -> Iterator[None]:
    """Make a Reject of all that a decoder may raise for bad content, whatever its type.

    Decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more, and warn.
    ``image`` is None while the header is read, of ``data``.
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
        pixels = image.width * image.height if image is not None else 0
        if "memory" in f"{error!r}".lower() and _memory_is_short(pixels):
            raise EnvironmentFault(f"not enough memory to decode {pixels:,} pixels") from error
        raise _damage(data, error, image) from error


def _damage(data: bytes, error: Exception, image: Image.Image | None) -> Reject:
    known = format_of(data[:HEAD_BYTES]) if image is None else image.format
    if known is None:
        return Reject("not_image", "its content is none of " + ", ".join(map(str, FORMATS)))
    if image is None:
        return Reject("truncated", f"it begins as {known}, but its header is damaged or not known")
    return Reject("truncated", f"{known}: {_said(error)}")


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


def _said(error: Exception) -> str:
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
