"""What a machine shows before it gets work: the driver's code, packages and pixels; IN and OUT.

Another Pillow resizes to other pixels, an older hw1 makes other rows, and no ledger would tell.
"""

import base64
import hashlib
import os
import platform
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from uuid import uuid4

from .. import __version__
from ..core.durable import TEMPORARY, storage
from ..core.records import Planned

PACKAGES: Final = ("pillow", "numpy", "tifffile", "imagecodecs")
"""What decodes. What predicts is in the numerics profile, which each predictor has to meet."""

SIZES: Final = (5, 40)
"""Sides that the samples are shrunk and enlarged to, in pixels."""

WATCHED: Final = 8
"""Planned images that each machine has to see."""

_SAMPLES: Final = {
    "a.jpg": (
        "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwZlBhI9fiJ9XREhASFxURELOSFFORkbOVkdPxcjTwcfb3cHNNSCq"
        "OCkgNDfM1S2lIzW3vLqxqdEvoXd6T+204rrGGpAhjKLi4nJSctaKitY1wW7BNSSD/wcYBDkYuBkEmBmVGJgE"
        "GZkFGf8fYRAFOxUZsLIAhWUFGBhZmJiRhBkZmJgFWZVYFA1BuhjRdTGDdEkJglQxougCmiIo9P8WAw9QnEmQ"
        "WZDBnkGOJ/faSonCBG6lSTURN68tjOfJ1Te7+GrGjUqRV4dWFlv+vwkADGhT1A=="
    ),
    "a.png": (
        "eNrrDPBz5+WS4mJgYOD19HAJAtICQMzNwQQkfzbMygNSgZ4ujiEVt5JTEhIeqLNuNOgwNjAwEO5/IHWjw+WE"
        "lEWnY4ZUBYeSDy/Lnt7QZgG5Fu9mDb4l3e7NLFpB7QYfsiekJQBRQIvhEkmJJZxZE5ydGULNOG81f9yqDjSc"
        "wdPVz2WdU0ITAPrIKXI="
    ),
    "a.tif": (
        "eNrz9NRi4GBgYOBjYGBkYWAEsliAmBGJzcTIzMAMpLcBMTOQDRIHYTYomwmIBYHqQWr2ALEoVBzEF0MyRxxq"
        "zgkglmJkBYufA2JpKPsaEMsgmamBZJchIxMDD5C+xwABAmD4AcQCShsAsQIYwtTDcElmWlpaZk6qXkElAxzw"
        "M8gx6OKhIUAcCvWg0BUKEYCZgY2BExQQQKcJAWlOICkNABuWES0="
    ),
}
"""Pictures of 16 × 11 and (the TIFF's planes apart, of 16 bits) 4 × 4 pixels, deflated."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What each machine has to see: images below ``root``, and in OUT's folders the tokens."""

    root: Path
    images: tuple[str, ...]
    tokens: tuple[Path, ...]


NOTHING: Final = Sight(Path("/"), (), ())
"""No image and no folder: what a machine sees isn't known to matter yet."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a machine showed. ``code`` and ``pixels`` are digests; ``seen`` says what it found."""

    machine: str
    hw1: str
    code: str
    packages: tuple[tuple[str, str], ...]
    pixels: str
    seen: tuple[tuple[str, str], ...]


@contextmanager
def sight(root: Path, images: Iterable[Planned], folders: Iterable[Path]) -> Iterator[Sight]:
    """What to look for, with a token of its own in each folder while the context lasts."""
    names = tuple(image.image_id for image in images)[:WATCHED]
    with ExitStack() as stack:
        tokens = tuple(folder / f".{uuid4().hex}{TEMPORARY}" for folder in folders)
        for token in tokens:
            with storage(token):
                token.touch(exist_ok=False)
            stack.callback(token.unlink, missing_ok=True)
        yield Sight(root, names, tokens)


def prove(sight: Sight) -> Proof:
    """What this machine shows. Raises whatever its packages raise."""
    return Proof(
        machine=platform.node(),
        hw1=__version__,
        code=_code(Path(__file__).parents[1]),
        packages=tuple((name, _version(name)) for name in PACKAGES),
        pixels=_pixels(),
        seen=look(sight),
    )


def look(sight: Sight) -> tuple[tuple[str, str], ...]:
    """What this machine sees of the paths, each with what it is, or why it can't be seen."""
    images = [(str(sight.root / name), _seen(sight.root / name)) for name in sight.images]
    return (*images, *((str(token.parent), _written(token)) for token in sight.tokens))


def differences(expected: Proof, found: Proof) -> str:
    """Why a machine may not work beside the one that is expected of it; "" where it may."""
    if expected.hw1 != found.hw1:
        return f"it has hw1 {found.hw1}, not {expected.hw1}"
    packages = [
        f"{name} {there}, not {here}"
        for (name, here), (_, there) in zip(expected.packages, found.packages, strict=True)
        if here != there
    ]
    if packages:
        return f"it has {'; '.join(packages)}"
    if expected.code != found.code:
        return f"its hw1 {found.hw1} has other code"
    if expected.pixels != found.pixels:
        return "it decodes a test image to other pixels"
    for (path, here), (_, there) in zip(expected.seen, found.seen, strict=True):
        if here != there:
            return f"{path} is there: {there}; here: {here}"
    return ""


def _code(package: Path) -> str:
    """The digest of a package's modules, those of its folders too, by their names and bytes."""
    digest = hashlib.sha256()
    folders = [package, *(init.parent for init in sorted(package.glob("*/__init__.py")))]
    for path in (path for folder in folders for path in sorted(folder.glob("*.py"))):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _pixels() -> str:
    """The digest of the samples' pixels, whole and in each size."""
    # Here: processes that predict don't need them.
    from ..pipeline.crops import crop
    from ..pipeline.decode import open_bytes

    digest = hashlib.sha256()
    for name, text in _SAMPLES.items():
        picture = open_bytes(zlib.decompress(base64.b64decode(text)), name).rgb()
        digest.update(picture.tobytes())
        for size in SIZES:
            digest.update(crop(picture, size).tobytes())
    return digest.hexdigest()


def _seen(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return error.strerror or type(error).__name__
    if not os.access(path, os.R_OK):
        return "not to be read"
    return f"{status.st_size} bytes of {status.st_mtime_ns / 1e9:.9f}"


def _written(token: Path) -> str:
    """Whether OUT's folder is the driver's, which a token of its own shows, and takes files."""
    if not token.exists():
        return "another folder, or none"
    return "written to" if os.access(token.parent, os.W_OK | os.X_OK) else "not to be written to"
