"""The classes that a checkpoint tells apart: names in order, and for masks their colours.

They belong to the checkpoint (its metadata carry them as JSON): the networks' last layers, the
columns of scores, masks and all that is counted follow from them. A checkpoint without them has
the reference's: 50 for a classifier, 7 kinds of land cover for a segmenter.
"""

import csv
import io
import json
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import InputError
from .records import TaskKind
from .text import decoded, delimiter_of

RGB = tuple[int, int, int]

MOST = 100_000
"""More classes than this are a mistake: a file of names that is something else."""

MOST_IN_MASKS = 255
"""A mask has a byte a pixel, and 255 in it stands for a pixel without a class."""

_NO_LABEL = ("unknown", "unlabelled", "unlabeled", "void")
"""What lists of masks' colours call the class of pixels that nobody labelled."""

_FIELDS = ("names", "colours", "unlabelled")
_LONG = {"red": "r", "green": "g", "blue": "b"}
_SHOWN = 80  # characters of what makes no sense


@dataclass(frozen=True, slots=True)
class Classes:
    """At least two classes: names, all different; each one's colour, all different, or None.

    ``unlabelled`` is the index of the class of pixels that nobody labelled, left out of means.
    Raises InputError for what isn't so.
    """

    names: tuple[str, ...]
    colours: tuple[RGB, ...] | None = None
    unlabelled: int | None = None

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise InputError(f"classes: {fault}")

    def __len__(self) -> int:
        return len(self.names)

    def to_json(self) -> str:
        """One line of JSON, as metadata hold it: names, and what else there is."""
        fields: dict[str, Any] = {"names": self.names}
        if self.colours is not None:
            fields["colours"] = self.colours
        if self.unlabelled is not None:
            fields["unlabelled"] = self.unlabelled
        return json.dumps(fields, ensure_ascii=False)

    def to_csv(self) -> str:
        """A table for people and programs: ``index,name``, then what else there is.

        ``r,g,b``, and ``unlabelled``, which is 1 for that class and 0 for the others.
        """
        columns: list[Sequence[Any]] = [("index", *range(len(self))), ("name", *self.names)]
        if self.colours is not None:
            channels = zip(*self.colours, strict=True)
            columns += [(name, *levels) for name, levels in zip("rgb", channels, strict=True)]
        if self.unlabelled is not None:
            is_it = (int(index == self.unlabelled) for index in range(len(self)))
            columns.append(("unlabelled", *is_it))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(zip(*columns, strict=True))
        return text.getvalue()

    def index_of(self, name: str) -> int | None:
        """The index of the class that has this name, in whichever Unicode form, or None."""
        known = _indices(self.names)
        return known.get(name, known.get(unicodedata.normalize("NFC", name)))

    def coloured(self) -> "Classes":
        """The same classes with colours: their own, or those of PASCAL VOC's colour map."""
        if self.colours is not None:
            return self
        return Classes(self.names, colour_map(len(self)), self.unlabelled)

    def difference(self, other: "Classes") -> str | None:
        """In what another's classes differ from these, a phrase; None where they are equal."""
        if len(self) != len(other):
            return f"{len(self)} classes, and {len(other)}"
        for index, pair in enumerate(zip(self.names, other.names, strict=True)):
            if pair[0] != pair[1]:
                return f"class {index} is {pair[0]!r}, and {pair[1]!r}"
        if self.unlabelled != other.unlabelled:
            return f"unlabelled is class {self.unlabelled}, and {other.unlabelled}"
        return None if self.colours == other.colours else "the colours of the classes"

    def _fault(self) -> str | None:  # noqa: PLR0911  (a line a rule)
        names, colours, unlabelled = self.names, self.colours, self.unlabelled
        if not 2 <= len(names) <= MOST:
            return f"expected 2 to {MOST:,}, found {len(names)}"
        if bad := [name for name in names if not name.strip() or not name.isprintable()]:
            return f"expected names of printable characters, found {bad[0]!r}"
        if len(set(names)) < len(names):
            twice = next(name for index, name in enumerate(names) if name in names[:index])
            return f"{twice!r} is there twice"
        if unlabelled is not None and (
            not isinstance(unlabelled, int) or not 0 <= unlabelled < len(names)
        ):
            return f"unlabelled is {unlabelled!r}, expected an index from 0 to {len(names) - 1}"
        if colours is None:
            return None
        if len(colours) != len(names):
            return f"{len(names)} names but {len(colours)} colours"
        for name, colour in zip(names, colours, strict=True):
            if not all(type(level) is int and 0 <= level <= 255 for level in colour):
                return f"the colour of {name} is {colour}, expected three numbers from 0 to 255"
        if len(set(colours)) < len(colours):
            twice = next(n for i, n in enumerate(names) if colours[i] in colours[:i])
            return f"the colour of {twice} is another class's too"
        return None


_CLASSIFIER_NAMES = """
    bicycle chair camel rabbit lamp clock forest fox porcupine bed baby dinosaur skyscraper
    willow_tree apple raccoon skunk kangaroo oak_tree worm beetle wardrobe possum pine_tree house
    wolf rose bee dolphin woman mushroom television bus mouse castle boy lizard sweet_pepper
    mountain palm_tree couch girl cup crab elephant lion streetcar otter shrew sunflower
"""

REFERENCE_CLASSIFIER = Classes(tuple(_CLASSIFIER_NAMES.split()))
"""The 50 classes of the reference's classifiers."""

REFERENCE_SEGMENTER = Classes(
    ("urban", "agriculture", "rangeland", "forest", "water", "barren", "unknown"),
    (
        (0, 255, 255),
        (255, 255, 0),
        (255, 0, 255),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
        (0, 0, 0),
    ),
    unlabelled=6,
)
"""The seven kinds of land cover of the reference's segmenters, with DeepGlobe's colours."""


def reference_classes(task: TaskKind) -> Classes:
    """What a checkpoint without classes in its metadata has."""
    return REFERENCE_CLASSIFIER if task == "classify" else REFERENCE_SEGMENTER


def numbered(count: int, task: TaskKind) -> Classes:
    """Classes of which only the number is known: the reference's, where it has as many."""
    reference = reference_classes(task)
    if count == len(reference):
        return reference
    if count > MOST:
        raise InputError(f"classes: {count:,}, expected at most {MOST:,}")
    if count < 2:
        raise InputError(
            f"classes: the last layer has {count} output, expected one for each of two classes or "
            "more (for the x of a sigmoid these are 0 and x)"
        )
    return Classes(tuple(map(str, range(count))))


def classes_from_json(text: str | None, task: TaskKind) -> Classes:
    """The classes in a checkpoint's metadata; of None the reference's.

    Older checkpoints hold the number of classes alone. Raises InputError.
    """
    if not text:
        return reference_classes(task)
    try:
        fields = json.loads(text)
        if isinstance(fields, int):
            return numbered(fields, task)
        return _from_fields(fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"classes {text[:_SHOWN]!r}: expected JSON with names") from error


def read_classes(path: Path) -> Classes:
    """The classes that a file lists, in order.

    ``.txt``: a name a line. ``.csv``: columns name, perhaps index (or id), r, g, b, and unlabelled
    (1 for that class), named in its first line; with colours and without that column, as DeepGlobe
    ships it, a class named unknown, unlabelled or void is the unlabelled one. ``.toml``: names, and
    perhaps colours and unlabelled. Raises InputError.
    """
    try:
        text = decoded(path.read_bytes())
        if path.suffix.lower() == ".csv":
            delimiter = delimiter_of(text.partition("\n")[0])
            return _from_table(list(csv.reader(io.StringIO(text), delimiter=delimiter)))
        if path.suffix.lower() == ".toml":
            return _from_toml(tomllib.loads(text))
        return Classes(tuple(line.strip() for line in text.splitlines() if line.strip()))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: expected a file of class names") from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: expected a text file of class names: {error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


@lru_cache(maxsize=8)
def _indices(names: tuple[str, ...]) -> dict[str, int]:
    """Each name's index, and that of its composed form, where that is no other class's name."""
    composed = {unicodedata.normalize("NFC", name): index for index, name in enumerate(names)}
    return composed | {name: index for index, name in enumerate(names)}


def colour_map(count: int) -> tuple[RGB, ...]:
    """PASCAL VOC's colour map: up to 256 different colours, the first black.

    The bits of an index, three at a time, are those of red, green and blue from the highest down.
    """
    return tuple(
        tuple(  # type: ignore[misc]
            sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
            for channel in range(3)
        )
        for index in range(count)
    )


def _from_toml(fields: Mapping[str, Any]) -> Classes:
    if unknown := sorted(fields.keys() - set(_FIELDS)):
        raise InputError(f"expected {', '.join(_FIELDS)}, found {unknown[0]!r}")
    if not _are_names(names := fields.get("names")):
        found = "none" if names is None else repr(names)[:_SHOWN]
        raise InputError(f'expected names to be a list of text, as ["cat", "dog"], found {found}')
    try:
        return _from_fields(fields)
    except (ValueError, TypeError) as error:
        raise InputError("expected colours to be lists of three numbers from 0 to 255") from error


def _from_fields(fields: Mapping[str, Any]) -> Classes:
    """Raises KeyError, ValueError or TypeError where names or colours aren't lists."""
    names, colours = fields["names"], fields.get("colours")
    if not _are_names(names):
        raise TypeError(f"names are a list of text, not {names!r}")
    return Classes(
        tuple(names),
        None if colours is None else tuple(map(_rgb, colours)),
        fields.get("unlabelled"),
    )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _from_table(rows: Sequence[Sequence[str]]) -> Classes:
    rows = [row for row in rows if row]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    header = [_LONG.get(name, name) for name in header]
    if "name" not in header or len({"r", "g", "b"} & set(header)) in (1, 2):
        raise InputError(f"expected columns name or name,r,g,b in the first line, found {header}")
    table = [dict(zip(header, row, strict=False)) for row in rows[1:]]
    for key in ("index", "id"):
        if key in header and [row.get(key, "").strip() for row in table] != [
            str(index) for index in range(len(table))
        ]:
            raise InputError(f"expected {key} to be 0, 1, 2, … in order")
    try:
        names = tuple(row["name"].strip() for row in table)
        colours = (
            tuple(_rgb([int(row[channel]) for channel in "rgb"]) for row in table)
            if {"r", "g", "b"} <= set(header)
            else None
        )
    except (KeyError, ValueError, TypeError) as error:
        raise InputError("a line lacks its name, or r, g, b from 0 to 255") from error
    return Classes(names, colours, _unlabelled(table, names, "unlabelled" in header, colours))


def _unlabelled(
    table: Sequence[Mapping[str, str]], names: Sequence[str], said: bool, colours: object
) -> int | None:
    """The index of a table's unlabelled class, by its column; else, of masks, by its name."""
    if said:
        marks = [row.get("unlabelled", "").strip() for row in table]
        if not {*marks} <= {"", "0", "1"} or marks.count("1") > 1:
            raise InputError("expected unlabelled to be 1 for one class, and 0 for the others")
        return marks.index("1") if "1" in marks else None
    named = [index for index, name in enumerate(names) if name.lower() in _NO_LABEL]
    return named[0] if colours is not None and len(named) == 1 else None


def _rgb(values: Sequence[Any]) -> RGB:
    red, green, blue = values
    return red, green, blue
