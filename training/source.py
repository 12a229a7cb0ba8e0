"""The training and the validation images as files: where they are, which are held out, pixels.

What cannot be read is an error here, not a rejection.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from ..core.records import UInt8
from ..pipeline.decode import decode_rgb
from ..pipeline.limits import Reject


@dataclass(frozen=True, slots=True)
class Source:
    """The folder to train on, and the folder to score on, if there is one."""

    train: Path
    validation: Path | None


def find_source(data: Path, validation: Path | None) -> Source:
    """Find the two folders: DATA holds ``train*`` and ``val*``, or is the training folder itself.

    In the second case the validation folder is the one given, or the ``val*`` folder beside it.
    DATA may be a CSV file of images and labels too, and so may the validation images be. Raises
    InputError where there is no such folder, or more than one.
    """
    if data.is_file() and data.suffix.lower() == ".csv":
        if validation is not None and not validation.exists():
            raise InputError(f"--validation {validation}: no such file or folder")
        return Source(data, validation)
    if not data.is_dir():
        raise InputError(f"{data}: no such folder of training images")
    train = None if _holds_classes(data) else one_folder(data, "train")
    beside = data
    if train is None:
        train, beside = data, data.absolute().parent
    if validation is None:
        validation = one_folder(beside, "val")
        if validation is not None and validation.resolve() == train.resolve():
            validation = None
    elif not validation.is_dir() and validation.suffix.lower() != ".csv":
        raise InputError(f"--validation {validation}: no such folder")
    return Source(train, validation)


def _holds_classes(data: Path) -> bool:
    """Whether DATA is a folder of classes, one of which may be named trains, or valleys."""
    inner = [path.name for path in data.iterdir() if path.is_dir() and path.name[0] != "."]
    others = [name for name in inner if not name.startswith(("train", "val", "test"))]
    return len(others) > 1 and not {"images", "masks"} & set(others)


def one_folder(parent: Path, prefix: str) -> Path | None:
    """The folder in ``parent`` whose name begins so; None without one, InputError for several."""
    found = sorted(path for path in parent.glob(f"{prefix}*") if path.is_dir())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(
            f"{parent} holds {len(found)} folders named {prefix}* ({names}): give the training "
            "folder itself as DATA, and --validation"
        )
    return found[0] if found else None


def fingerprint(paths: Sequence[Path], names: Sequence[str] | None = None) -> str:
    """A digest, in hexadecimal, of the files' names and sizes: whether a resume has the same.

    ``names`` None: those in their own folders.
    """
    digest = hashlib.sha256()
    for path, name in zip(paths, names or [path.name for path in paths], strict=True):
        digest.update(f"{name}\0{path.stat().st_size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def hold_out(images: int, count: int) -> tuple[list[int], list[int]]:
    """Positions to train on, and ``count`` to hold out: the same ones whatever the run's seed.

    Raises InputError where that leaves nothing to train on.
    """
    import torch

    if not 0 <= count < images:
        raise InputError(f"--holdout {count}: there are {images} training images; hold out fewer")
    order = torch.randperm(images, generator=torch.Generator().manual_seed(1234)).tolist()
    return sorted(order[count:]), sorted(order[:count])


def read_pixels(path: Path) -> UInt8:
    """An image as uint8 (H, W, 3) RGB. Raises InputError where it cannot be decoded."""
    try:
        return decode_rgb(path)
    except Reject as reject:
        raise InputError(
            f"{path} cannot be read ({reject.reason}: {reject.detail}): repair it, or take it out "
            "of the training images"
        ) from reject


def listing(names: Sequence[str], most: int = 3) -> str:
    """The first few names and how many more there are, for an error's text."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
