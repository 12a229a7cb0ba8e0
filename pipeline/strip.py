"""Leaves out of PNG and JPEG files what isn't the picture, where it would cost the picture."""

import re
from collections.abc import Iterator
from typing import Final

from .limits import MAX_PIXELS, Reject

_PICTURE_CHUNKS: Final = (b"IHDR", b"PLTE", b"IDAT", b"eXIf", b"IEND")
_SIGNATURE: Final = 8

MAX_SCANS: Final = 500
"""A JPEG of more scans is ``too_large``: each is a pass over all pixels, of a few bytes of file."""

USUAL_SCANS: Final = 20
"""As many passes as that over MAX_PIXELS are the most that is done for one JPEG."""

MAX_SEGMENTS: Final = 100_000
"""A JPEG with more segments before its picture is ``too_large``."""

_LITTLE: Final = 2**18
"""A file of fewer bytes costs little, whatever is in it."""

_HEADER: Final = 2**16
"""A PPM's header is at most so long, comments and all."""

_MUCH: Final = 2**22
"""Segments are left out where more bytes than these stand before the picture."""

_SCAN: Final = b"\xff\xda"
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_EXIF, _ADOBE, _JFIF = (0xE1, b"Exif\0"), (0xEE, b"Adobe"), (0xE0, b"JFIF\0")
_KEPT: Final = (_EXIF, _ADOBE, _JFIF)


def picture_of_png(data: bytes) -> bytes:
    """A PNG's picture alone: no profile, text or animation, however large or out of order.

    Nor transparency, which to_rgb drops: that may be damaged too.
    """
    kept = [data[:_SIGNATURE]]
    position = _SIGNATURE
    while position + 8 <= len(data):
        stop = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] in _PICTURE_CHUNKS:
            kept.append(data[position:stop])
        position = stop
    return b"".join(kept)


def is_animated_png(data: bytes) -> bool:
    """Whether a PNG says that it's an animation; its first frame is the picture without that."""
    return data.find(b"acTL", _SIGNATURE, data.find(b"IDAT")) >= 0


def check_png(data: bytes) -> None:
    """Raise Reject for a PNG of more chunks than any has: each costs some microseconds."""
    if len(data) < _LITTLE:
        return
    others = parts = 0
    position = _SIGNATURE
    while position + 8 <= len(data):
        is_part = data[position + 4 : position + 8] == b"IDAT"
        parts, others = parts + is_part, others + (not is_part)
        if others > MAX_SEGMENTS or parts > 10 * MAX_SEGMENTS:
            raise Reject("too_large", f"PNG: more than {others + parts - 1:,} chunks")
        position += 12 + int.from_bytes(data[position : position + 4], "big")


def check_ppm(data: bytes) -> None:
    """Raise Reject for a PPM whose header, which is read byte by byte, has no end."""
    numbers = 2 if data[:2] in (b"P1", b"P4") else 3
    header = rb"P[1-6](?:(?:\s|#[^\r\n]*[\r\n])+\d+){%d}" % numbers
    if len(data) > _LITTLE and not re.compile(header).match(data, 0, _HEADER):
        raise Reject("truncated", f"PPM: its header is damaged, or longer than {_HEADER:,} bytes")


def picture_of_jpeg(data: bytes) -> bytes:
    """A JPEG without what Pillow would take minutes over: megabytes of metadata.

    Pillow joins the segments of one kind to those before, each time again. Of each kind that
    decides the pixels (Exif's orientation, Adobe's colours) the first is kept. Raises Reject
    where there are more scans or segments than is done.
    """
    if len(data) > _LITTLE and _before_scans(data) > _MUCH:
        data = _without_metadata(data)
    # The bytes of a scan never hold this marker, those of metadata may.
    if data.count(_SCAN) > USUAL_SCANS:
        _check_scans(data)
    return data


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Those before the first scan: the marker, where it begins, and where the segment ends.

    The scan comes last, to the end of the data.
    """
    position = 2
    for _ in range(MAX_SEGMENTS):
        position = _marker(data, position)
        marker = data[position + 1] if position + 4 <= len(data) else 0xDA
        if marker in (0xDA, 0xD9):
            yield marker, position, len(data)
            return
        stop = position + 2
        if not _stands_alone(marker):
            stop += int.from_bytes(data[stop : stop + 2], "big")
        yield marker, position, stop
        position = stop
    raise Reject("too_large", f"JPEG: more than {MAX_SEGMENTS:,} segments before its picture")


def _before_scans(data: bytes) -> int:
    """How many bytes stand before the first scan. A preview in the metadata has scans, too."""
    return [position for _, position, _ in _segments(data)][-1]


def _without_metadata(data: bytes) -> bytes:
    kept = [data[:2]]
    seen: set[tuple[int, bytes]] = set()
    for marker, position, stop in _segments(data):
        segment = data[position:stop]
        if marker in (0xDA, 0xD9):
            kept.append(segment)
            break
        kind = next((k for k in _KEPT if marker == k[0] and segment[4:].startswith(k[1])), None)
        if marker < 0xE0 or (kind is not None and kind not in seen):
            kept.append(segment)
            if kind is not None:
                seen.add(kind)
    return b"".join(kept)


def _marker(data: bytes, position: int) -> int:
    """Where the next marker begins, of those that any number of FF may precede."""
    position = max(data.find(b"\xff", position), 0) or len(data)
    match = re.compile(rb"\xff+").match(data, position)
    return position if match is None else match.end() - 1


def _stands_alone(marker: int) -> bool:
    """Whether no length follows the marker: decoders skip those of this kind between segments."""
    return marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8


def _check_scans(data: bytes) -> None:
    scans, pixels = 0, 0
    position = 2
    for _ in range(MAX_SEGMENTS):
        position = _marker(data, position)
        if position + 4 > len(data) or data[position + 1] == 0xD9:
            break
        marker = data[position + 1]
        if _stands_alone(marker):
            position += 2
            continue
        if marker in _FRAMES:
            height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
            pixels = int.from_bytes(height, "big") * int.from_bytes(width, "big")
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA:
            scans += 1
            position = _end_of_scan(data, position)
    if scans > MAX_SCANS or scans * pixels > USUAL_SCANS * MAX_PIXELS:
        raise Reject("too_large", f"JPEG: {scans:,} scans of {pixels:,} pixels")


_AFTER_SCAN: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def _end_of_scan(data: bytes, position: int) -> int:
    found = _AFTER_SCAN.search(data, position)
    return len(data) if found is None else found.start()
