"""Reads image files as pixels, and says of each that cannot be read what is wrong with it.

The bytes of a file are read first, whole, then decoded from memory. So an error while reading is
the machine's or the file system's (see source.read), and an error while decoding is the image's
own.
"""

import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
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
from ..core.records import Planned, UInt8
from ..core.spec import TiffReading
from .formats import HEAD_BYTES, RAW_SUFFIXES, RAW_TIFF, format_of, suffix_of, unread_kind
from .limits import Reject, check_size
from .pixels import orientation_of, to_rgb
from .source import read
from .strip import check_png, check_ppm, is_animated_png, picture_of_jpeg, picture_of_png
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
    if is_animated_png(data):  # a damaged one says that its first frame is smaller
        return _pillow(picture_of_png(data))
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
        raise Reject("too_large", reason_of(error)) from error
    except Exception as error:
        pixels = size[0] * size[1] if size is not None else 0
        if "memory" in f"{error!r}".lower() and memory_is_short(pixels):
            raise EnvironmentFault(f"not enough memory to decode {pixels:,} pixels") from error
        if isinstance(error, RuntimeError) and kind not in _RAISE_RUNTIME_ERRORS:
            raise Reject("crashed", f"{type(error).__name__}: {reason_of(error)}") from error
        raise _damage(kind, error, header=size is None) from error


def _damage(kind: str | None, error: Exception, *, header: bool) -> Reject:
    if kind is None:
        return Reject("not_image", "its content is none of " + ", ".join(map(str, FORMATS)))
    if _UNSUPPORTED.search(str(error)):
        return Reject("unsupported", f"{kind}: {reason_of(error)}")
    if header:
        return Reject("truncated", f"it begins as {kind}, but its header is damaged or not known")
    return Reject("truncated", f"{kind}: {reason_of(error)}")


def memory_is_short(pixels: int) -> bool:
    """Whether an image of this size cannot be held.

    Decoders say "out of memory" too where damaged content asks for absurd buffers. That must not
    stop a job; a machine that is really short must.
    """
    try:
        bytearray(8 * pixels + 2**24)
    except MemoryError:
        return True
    return False


def reason_of(error: BaseException) -> str:
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
