"""True labels and masks, found by name, and paired with what was predicted."""

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath

from ..core.classes import REFERENCE_CLASSIFIER, Classes, read_classes, reference_classes
from ..core.errors import InputError
from ..core.records import TaskKind
from ..core.text import delimiter_of, encoding_of, shown, some
from ..pipeline.formats import SUFFIXES
from ..pipeline.rows import ERRORS

_CLASS_IN_NAME = re.compile(r"(\d+)_.+")
_DIGITS = 1000  # of a label, with zeros before it; int refuses a few thousand
_SHOWN = 40  # characters of what is no label
_ROLE = re.compile(r"_(sat|mask)$")


def classes_of_result(job: Path, task: TaskKind, given: Path | None) -> Classes:
    """The classes that a result's labels or masks stand for.

    Those of the file ``given``, else those that the job's folder lists, else the reference's.
    """
    reference = reference_classes(task)
    path = given or job / "classes.csv"
    if given is None and not path.is_file():
        return reference
    found = read_classes(path)
    if task == "segment":
        found = found.coloured()
    same = (found.names, found.colours) == (reference.names, reference.colours)
    return reference if same else found


def read_labels(truth: Path, classes: Classes = REFERENCE_CLASSIFIER) -> dict[str, int]:
    """The true label of each image_id, an index.

    ``truth`` is a CSV, its first column the image and its second the label, a number or a name; a
    first row whose second field is neither is a header. Or it is a folder with a folder for each
    class, or whose files are named ``{class}_{id}.png``; image_ids are then relative to it. Raises
    InputError.
    """
    if truth.is_dir():
        from ..pipeline.find import find

        return labels_in_names((each.image_id for each in find(str(truth)).images), classes)
    return _read_label_table(truth, classes)


def class_in_name(name: str, count: int = len(REFERENCE_CLASSIFIER)) -> int | None:
    """The class that a file's name like ``12_0450.png`` begins with; None without, or beyond."""
    match = _CLASS_IN_NAME.match(name)
    return int(match[1]) if match and int(match[1]) < count else None


def labels_in_names(
    image_ids: Iterable[str], classes: Classes = REFERENCE_CLASSIFIER
) -> dict[str, int]:
    """The labels in names like ``cat/x.jpg`` or ``12_0450.png``; InputError for other names."""
    labels: dict[str, int] = {}
    unnamed = []
    for image_id in image_ids:
        path = PurePosixPath(image_id)
        label = classes.index_of(path.parts[0]) if len(path.parts) > 1 else None
        if label is None:
            label = class_in_name(path.name, len(classes))
        if label is None:
            unnamed.append(image_id)
        else:
            labels[image_id] = label
    if unnamed:
        raise InputError(
            "true images lie in a folder named as their class, or their names begin with its "
            f"number, as in 12_0450.png, 0 to {len(classes) - 1}; "
            f"{len(unnamed)} don't: {some(unnamed)}. Rename them, or give the truth as a CSV"
        )
    return labels


def _read_label_table(path: Path, classes: Classes) -> dict[str, int]:
    rows: dict[str, tuple[int, str]] = {}
    for number, row in enumerate(read_table(path), 1):
        if len(row) < 2:
            raise InputError(
                f"{path}, row {number}: expected an image and its label, found {row[0]!r} alone"
            )
        image_id, label = row[0], row[1].strip()
        if number == 1 and not label.isdecimal() and classes.index_of(label) is None:
            continue  # the header
        if image_id in rows:
            raise InputError(f"{path}, row {number}: {shown(image_id)} has a label already")
        rows[image_id] = number, label
    if not rows:
        raise InputError(f"{path}: no labels in it; expected rows of an image and its label")
    # Classes may be named 1, 2, 3: a table of nothing but names is one of names.
    found = {image_id: classes.index_of(label) for image_id, (_, label) in rows.items()}
    labels = {image_id: index for image_id, index in found.items() if index is not None}
    if len(labels) == len(rows):
        return labels
    return {
        image_id: parse_label(label, f"{path}, row {number}", classes)
        for image_id, (number, label) in rows.items()
    }


def read_class_names(path: Path) -> dict[int, str]:
    """Names of classes from a CSV whose first column is the label and whose second the name."""
    names: dict[int, str] = {}
    for number, row in enumerate(read_table(path), 1):
        if number == 1 and not row[0].strip().isdecimal():
            continue  # the header
        if len(row) < 2:
            raise InputError(f"{path}, row {number}: expected a label and its name")
        label = row[0].strip()
        if not label.isdecimal() or len(label) > _DIGITS:
            raise InputError(
                f"{path}, row {number}: a label is an integer, found {label[:_SHOWN]!r}"
            )
        names[int(label)] = row[1]
    return names


def parse_label(text: str, place: str, classes: Classes = REFERENCE_CLASSIFIER) -> int:
    """A label, the index of a class, from its number or name; InputError, with the place."""
    if text.isdecimal() and len(text) <= _DIGITS and int(text) < len(classes):
        return int(text)
    if (index := classes.index_of(text)) is not None:
        return index
    found = text[:_SHOWN]
    raise InputError(
        f"{place}: a label is an integer 0 to {len(classes) - 1}, or a class's name, found "
        f"{found!r}. --classes FILE names other classes"
    )


def read_table(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file; InputError where it can't be read.

    Also one with semicolons or tabs, and of UTF-16, as spreadsheets write them; else names that
    are not UTF-8 come back as the bytes they were.
    """
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.peek(2))
            errors = "strict" if encoding == "utf-16" else ERRORS
            lines = io.TextIOWrapper(file, encoding, errors, newline="")
            first = lines.readline()
            rows = csv.reader(chain([first], lines), delimiter=delimiter_of(first))
            yield from (row for row in rows if row)
    except (OSError, csv.Error, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: can't be read as a CSV file: {said}") from error


@dataclass(frozen=True, slots=True)
class Pairs:
    """Names that both sides have, sorted, and how many were rejected by the job instead.

    ``other_form`` are those whose true name differs in its Unicode form, and that name.
    """

    names: list[str]
    rejected: int
    other_form: Mapping[str, str] = field(default_factory=dict)

    def true(self, name: str) -> str:
        """The truth's name for a prediction's."""
        return self.other_form.get(name, name)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores should know, in sentences."""
        if not self.other_form:
            return ()
        return (
            f"{len(self.other_form)} names of the truth differ from the predictions' in Unicode "
            f"form alone (é as one character, or as e and an accent), and are paired with them: "
            f"{some(list(self.other_form))}",
        )


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
    other_form = _other_forms(predicted, true)
    paired = set(other_form.values())
    lacking = [name for name in true if name not in predicted and name not in paired]
    gone = [name for name in lacking if name in rejected]
    missing = [name for name in lacking if name not in rejected]
    extra = [name for name in predicted if name not in true and name not in other_form]
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
    return Pairs(names, len(gone), other_form)


def _other_forms(predicted: Iterable[str], true: Iterable[str]) -> dict[str, str]:
    """The truth's name for each prediction whose name it has in another Unicode form alone."""
    ours, theirs = set(predicted), set(true)
    lacking, found = ours - theirs, theirs - ours
    forms: dict[str, list[str]] = {}
    for name in found:
        forms.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    again = Counter(unicodedata.normalize("NFC", name) for name in lacking)
    pairs = {}
    for name in sorted(lacking):
        form = unicodedata.normalize("NFC", name)
        if again[form] == 1 and len(forms.get(form, [])) == 1:
            pairs[name] = forms[form][0]
    return pairs


def find_masks(folder: Path, *, predicted: bool = False) -> dict[str, Path]:
    """The PNG files below a folder by the name that pairs them, hidden ones left out.

    ``a/0010.png``, ``a/0010_mask.png`` and ``a/0010_sat.jpg.png`` are all ``a/0010``. Where a
    folder of true masks has both, ``0010_mask.png`` is the mask and ``0010_sat.png`` the image; of
    ``predicted`` ones the first is what a network made of a mask, and which is meant can't be
    told. Raises InputError where there is none, or two have one name.
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
        if other is path or (beside and not predicted):
            continue
        hint = "; score images alone: --include '*_sat.*'" if beside else ""
        raise InputError(
            f"{folder}: {shown(other.name)} and {shown(path.name)} are both masks of "
            f"{shown(name)}{hint}"
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
