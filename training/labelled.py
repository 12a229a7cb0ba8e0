"""Photos with labels as people have them: folders named as classes, a CSV, CLASS_ID.png."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.classes import Classes, numbered
from ..core.errors import InputError
from ..evaluation.truth import class_in_name, parse_label, read_table
from ..pipeline.formats import SUFFIXES
from .source import listing

_MOST_IN_NAMES = 10_000
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Labelled:
    """Image files, their names below the folder, and the indices of their classes.

    ``how`` says what named the classes; ``odd`` are the files that were passed over.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    classes: Classes
    how: str
    odd: tuple[str, ...]

    def summary(self, source: Path) -> str:
        """What was read, on a line."""
        counts = Counter(self.labels)
        each = [f"{name} {counts[i]}" for i, name in enumerate(self.classes.names[:_SHOWN])]
        more = len(self.classes) - len(each)
        text = (
            f"{source}: {len(self.paths)} images of {len(self.classes)} classes, named by "
            f"{self.how}: {', '.join(each)}{f' and {more} more' if more else ''}"
        )
        return f"{text}; passed over: {listing(self.odd)}" if self.odd else text


def find_labelled(source: Path, classes: Classes | None = None) -> Labelled:
    """The labelled images of a folder, or of a CSV file.

    ``classes`` None: those that are found. A folder has a folder for each class, or files named
    ``{class}_{id}.png``; a CSV has rows of an image, relative to its own folder, and its label, a
    number or a name. Raises InputError for no images, and for labels of no class.
    """
    if source.is_file():
        return _of_table(source, classes)
    files = sorted(path for path in source.iterdir() if path.is_file() and path.name[0] != ".")
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    folders = {
        path.name: sorted(_images_below(path))
        for path in source.iterdir()
        if path.is_dir() and path.name[0] != "."
    }
    full = [name for name, found in folders.items() if found]
    if not images and not full:
        raise InputError(
            f"{source}: no images: expected a folder for each class, or files named CLASS_ID.png "
            "(12_0450.png)"
        )
    if full and not all(class_in_name(path.name, _MOST_IN_NAMES) is not None for path in images):
        return _of_folders(source, folders, [path.name for path in files], classes)
    if full and not images:
        return _of_folders(source, folders, [path.name for path in files], classes)
    return _of_names(source, images, classes)


def _images_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part[0] == "." for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def _of_folders(
    source: Path, folders: dict[str, list[Path]], odd: list[str], classes: Classes | None
) -> Labelled:
    empty = [f"{name}/ (no image)" for name, found in folders.items() if not found]
    full = sorted(name for name, found in folders.items() if found)
    if all(name.isdecimal() for name in full):
        full.sort(key=int)
    if classes is None:
        if len(full) < 2:
            raise InputError(f"{source}: one class, {full[0]}: expected two folders or more")
        classes = Classes(tuple(full))
    if foreign := [name for name in full if classes.index_of(name) is None]:
        raise InputError(
            f"{source}: {len(foreign)} folders are named as no class of the training images: "
            f"{listing(foreign)}"
        )
    paths = [path for name in full for path in folders[name]]
    labels = [label for name in full for label in [classes.index_of(name)] * len(folders[name])]
    return _labelled(source, paths, labels, classes, "their folders", [*odd, *empty])


def _of_names(source: Path, images: list[Path], classes: Classes | None) -> Labelled:
    count = _MOST_IN_NAMES if classes is None else len(classes)
    found = [class_in_name(path.name, count) for path in images]
    if wrong := [p.name for p, label in zip(images, found, strict=True) if label is None]:
        upto = "" if classes is None else f", 0 to {len(classes) - 1},"
        raise InputError(
            f"{source}: {len(wrong)} names do not begin with a class{upto} as in 12_0450.png: "
            f"{listing(wrong)}"
        )
    labels = [label for label in found if label is not None]
    if classes is None:
        classes = numbered(max(labels) + 1, "classify")
    return _labelled(source, images, labels, classes, "their names", [])


def _of_table(path: Path, classes: Classes | None) -> Labelled:
    rows = [(number, row) for number, row in enumerate(read_table(path), 1)]
    if short := next((number for number, row in rows if len(row) < 2), None):
        raise InputError(f"{path}, row {short}: expected an image and its label")
    table = [(number, row[0], row[1].strip()) for number, row in rows]
    if table and not _is_image(path.parent / table[0][1]):
        table = table[1:]  # the header
    if not table:
        raise InputError(f"{path}: no images in it: expected rows of an image and its label")
    _check_labels(path, table)
    missing = [name for _, name, _ in table if not (path.parent / name).is_file()]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} images are not there, in {path.parent}: {listing(missing)}"
        )
    words = [word for _, _, word in table]
    if classes is None and all(word.isdecimal() for word in words):
        classes = numbered(max(map(int, words)) + 1, "classify")
    elif classes is None:
        classes = Classes(tuple(sorted(set(words))))
    numbers = {word: classes.index_of(word) for word in words}
    named = None not in numbers.values()
    labels = [
        numbers[word] if named else parse_label(word, f"{path}, row {number}", classes)
        for number, _, word in table
    ]
    paths = [path.parent / name for _, name, _ in table]
    return _labelled(path.parent, paths, labels, classes, path.name, [])


def _is_image(path: Path) -> bool:
    """Whether a table's first field names an image, there or not, rather than its column."""
    return path.is_file() or path.suffix.lower() in SUFFIXES


def _check_labels(path: Path, table: Sequence[tuple[int, str, str]]) -> None:
    """Raise InputError for a row without a label, and for an image with two."""
    labels: dict[str, tuple[int, str]] = {}
    for number, name, label in table:
        if not label:
            raise InputError(f"{path}, row {number}: expected the label of {name}, found nothing")
        first, other = labels.setdefault(name, (number, label))
        if other != label:
            raise InputError(
                f"{path}, row {number}: {name} is {label}, and in row {first} {other}: expected "
                "one label for each image"
            )


def _labelled(
    root: Path,
    paths: Sequence[Path],
    labels: Sequence[int | None],
    classes: Classes,
    how: str,
    odd: Sequence[str],
) -> Labelled:
    names = tuple(
        path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        for path in paths
    )
    known = tuple(label for label in labels if label is not None)
    return Labelled(tuple(paths), names, known, classes, how, tuple(odd))
