"""True labels and masks, found by name, and paired with what was predicted."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..core.classes import REFERENCE_CLASSIFIER
from ..core.errors import InputError
from ..core.text import shown, some
from ..pipeline.formats import SUFFIXES
from ..pipeline.rows import read_rows

CLASSES = len(REFERENCE_CLASSIFIER)
_CLASS_IN_NAME = re.compile(r"(\d+)_.+")
_DIGITS = 1000  # of a label, with zeros before it; int refuses a few thousand
_SHOWN = 40  # characters of what is no label
_ROLE = re.compile(r"_(sat|mask)$")


def read_labels(truth: Path) -> dict[str, int]:
    """The true label of each image_id, 0 to 49.

    ``truth`` is a CSV, its first column the image and its second the label; a first row whose
    second field is no number is a header. Or it is a folder whose files are named
    ``{class}_{id}.png``; image_ids are then relative to it. Raises InputError.
    """
    if truth.is_dir():
        from ..pipeline.find import find

        return labels_in_names(planned.image_id for planned in find(str(truth)).images)
    return _read_label_table(truth)


def class_in_name(name: str) -> int | None:
    """The class, 0 to 49, that a file's name like ``12_0450.png`` begins with; None without."""
    match = _CLASS_IN_NAME.match(name)
    return int(match[1]) if match and int(match[1]) < CLASSES else None


def labels_in_names(image_ids: Iterable[str]) -> dict[str, int]:
    """The labels that names like ``12_0450.png`` begin with; InputError for other names."""
    labels: dict[str, int] = {}
    unnamed = []
    for image_id in image_ids:
        label = class_in_name(PurePosixPath(image_id).name)
        if label is None:
            unnamed.append(image_id)
        else:
            labels[image_id] = label
    if unnamed:
        raise InputError(
            f"names of true images begin with their class, as in 12_0450.png, 0 to {CLASSES - 1}; "
            f"{len(unnamed)} don't: {some(unnamed)}. Rename them, or give the truth as a CSV"
        )
    return labels


def _read_label_table(path: Path) -> dict[str, int]:
    labels: dict[str, int] = {}
    for number, row in enumerate(read_table(path), 1):
        if len(row) < 2:
            raise InputError(
                f"{path}, row {number}: expected an image and its label, found {row[0]!r} alone"
            )
        image_id, label = row[0], row[1].strip()
        if number == 1 and not label.isdecimal():
            continue  # the header
        if image_id in labels:
            raise InputError(f"{path}, row {number}: {shown(image_id)} has a label already")
        labels[image_id] = parse_label(label, f"{path}, row {number}")
    if not labels:
        raise InputError(f"{path}: no labels in it; expected rows of an image and its label")
    return labels


def read_class_names(path: Path) -> dict[int, str]:
    """Names of classes from a CSV whose first column is the label and whose second the name."""
    names: dict[int, str] = {}
    for number, row in enumerate(read_table(path), 1):
        if number == 1 and not row[0].strip().isdecimal():
            continue  # the header
        if len(row) < 2:
            raise InputError(f"{path}, row {number}: expected a label and its name")
        names[parse_label(row[0].strip(), f"{path}, row {number}")] = row[1]
    return names


def parse_label(text: str, place: str) -> int:
    """A label, 0 to 49; InputError, which names the place, for anything else."""
    if not text.isdecimal() or len(text) > _DIGITS or int(text) >= CLASSES:
        found = text[:_SHOWN]
        raise InputError(f"{place}: a label is an integer 0 to {CLASSES - 1}, found {found!r}")
    return int(text)


def read_table(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file; InputError where it can't be read."""
    try:
        yield from read_rows(path, "utf-8-sig")  # spreadsheets put a byte order mark first
    except (OSError, csv.Error) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: can't be read as a CSV file: {said}") from error


@dataclass(frozen=True, slots=True)
class Pairs:
    """Names that both sides have, sorted, and how many were rejected by the job instead."""

    names: list[str]
    rejected: int


def read_rejected(job: Path) -> dict[str, str]:
    """The reason for each image_id that a job rejected; empty where it says nothing."""
    path = job / "rejected.csv"
    if not path.exists():
        return {}
    rows = read_table(path)
    next(rows, None)  # image_id,reason,detail
    return {row[0]: row[1] for row in rows if len(row) > 1}


def pair(
    predicted: Mapping[str, object],
    true: Mapping[str, object],
    rejected: Mapping[str, str],
    *,
    allow_rejected: bool,
) -> Pairs:
    """Pair predictions with the truth by name.

    ``rejected`` are the names that the job rejected, and why: with ``allow_rejected`` these may
    lack a prediction. Raises InputError, with names, where either side has one that the other
    lacks, and where nothing is left.
    """
    lacking = [name for name in true if name not in predicted]
    gone = [name for name in lacking if name in rejected]
    missing = [name for name in lacking if name not in rejected]
    extra = [name for name in predicted if name not in true]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(true)} have no prediction: {some(missing)}")
    if extra:
        faults.append(f"{len(extra)} of {len(predicted)} predictions have no truth: {some(extra)}")
    if gone and not allow_rejected:
        reasons = [f"{shown(name)} ({rejected[name]})" for name in gone[:5]]
        faults.append(
            f"the job rejected {len(gone)}: {some(reasons, len(gone))}; "
            "--allow-rejected evaluates without them"
        )
    if faults:
        raise InputError(f"predictions and truth don't pair: {'; '.join(faults)}")
    names = sorted(predicted)
    if not names:
        raise InputError("there is nothing to evaluate: no image has a prediction")
    return Pairs(names, len(gone))


def find_masks(folder: Path) -> dict[str, Path]:
    """The PNG files below a folder by the name that pairs them, hidden ones left out.

    ``a/0010.png``, ``a/0010_mask.png`` and ``a/0010_sat.jpg.png`` are all ``a/0010``. Where a
    folder has both, ``0010_mask.png`` is the mask and ``0010_sat.png`` the image. Raises
    InputError where there is none, or two have one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of PNG masks, found no such folder")
    found: dict[str, Path] = {}
    for path in sorted(_files(folder)):
        if path.suffix.lower() != ".png" or not path.is_file():
            continue
        name = mask_key(path.relative_to(folder).as_posix())
        other = found.setdefault(name, path)
        # Sorted, the mask comes first.
        beside = path.stem.endswith("_sat") and other.stem.endswith("_mask")
        if other is path or beside:
            continue
        raise InputError(
            f"{folder}: {shown(other.name)} and {shown(path.name)} are both masks of {shown(name)}"
        )
    if not found:
        raise InputError(f"{folder}: no PNG masks in it")
    return found


def _files(folder: Path) -> Iterator[Path]:
    """What is below a folder and not hidden; links to folders are followed, but not in circles.

    As ``walk`` finds images: no link is followed to a folder that the link itself lies in.
    """
    for above, folders, files in os.walk(folder, followlinks=True):
        here = Path(above)
        chain = {path.resolve() for path in (here, *here.parents) if path.is_relative_to(folder)}
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and not ((here / name).is_symlink() and (here / name).resolve() in chain)
        ]
        yield from (here / name for name in files if not name.startswith("."))


def mask_key(image_id: str) -> str:
    """The name that pairs a mask with its image: no suffix, ``_sat`` or ``_mask``."""
    path = PurePosixPath(image_id)
    stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    inner = PurePosixPath(stem)
    if inner.suffix.lower() in SUFFIXES:  # written with --keep-suffix
        stem = inner.stem
    return path.with_name(_ROLE.sub("", stem) or stem).as_posix()
