"""The files that a classification leaves: its CSV of labels and its Parquet file of scores."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.classes import REFERENCE_CLASSIFIER, Classes
from ..core.errors import InputError
from ..core.text import shown, some
from ..jobs.scores import in_parquet, require_pyarrow, schema
from .truth import parse_label, read_table

_HIGHEST = 1.001
"""Of a score: a float32 sum of the members' shares may be a little more than 1."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """The labels of each image_id, best first, as many for each; its confidence where known."""

    labels: Mapping[str, tuple[int, ...]]
    confidence: Mapping[str, float] | None


def read_predictions(path: Path, classes: Classes = REFERENCE_CLASSIFIER) -> Predictions:
    """Read ``image_id,label``, and ``label_2`` …, ``confidence`` where the file has them.

    It is a CSV, or by its suffix Parquet or a line of JSON an image, as batch classify writes them.
    Raises InputError for another header, a label that is no class, an image that stands there
    twice, a confidence outside 0 to 1.
    """
    rows = _rows(path)
    header = next(rows, [])
    if header[:2] != ["image_id", "label"]:
        raise InputError(
            f"{path}: expected a header that begins with image_id,label, as hw1 batch classify "
            f"writes it; found {','.join(header[:4])!r}"
        )
    ranks = [1]
    while (name := f"label_{len(ranks) + 1}") in header:
        ranks.append(header.index(name))
    sure = header.index("confidence") if "confidence" in header else None
    labels: dict[str, tuple[int, ...]] = {}
    confidence: dict[str, float] = {}
    for number, row in enumerate(rows, 2):
        place = f"{path}, row {number}"
        if len(row) != len(header):
            raise InputError(f"{place}: expected {len(header)} fields, found {len(row)}")
        if row[0] in labels:
            raise InputError(f"{place}: {shown(row[0])} has a label already")
        labels[row[0]] = tuple(parse_label(row[rank], place, classes) for rank in ranks)
        if sure is not None:
            confidence[row[0]] = _parse_confidence(row[sure], place)
    return Predictions(labels, None if sure is None else confidence)


def _rows(path: Path) -> Iterator[list[str]]:
    """The header and the rows, as text."""
    kind = path.suffix.lower()
    if kind not in (".jsonl", ".parquet"):
        yield from read_table(path)
        return
    header: list[str] = []
    try:
        for fields in _of_json(path) if kind == ".jsonl" else _of_parquet(path):
            if not header:
                header = list(fields)
                yield header
            yield [str(fields.get(name, "")) for name in header]
    except (OSError, ValueError, TypeError, AttributeError) as error:  # pyarrow's are ValueErrors
        raise InputError(f"{path}: can't be read as predictions: {error}") from error


def _of_json(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _of_parquet(path: Path) -> Iterator[dict[str, Any]]:
    require_pyarrow()
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield from batch.to_pylist()


def _read_score_table(path: Path, columns: list[str]) -> tuple[list[str], NDArray[np.float32]]:
    """The images and the scores (n, classes) of a CSV."""
    rows = read_table(path)
    header = next(rows, [])
    if lacking := sorted(set(columns) - set(header)):
        raise InputError(f"{path}: {_expected(columns)}; lacks {some(lacking)}")
    places = [header.index(name) for name in columns]
    ids, scores = [], []
    for number, row in enumerate(rows, 2):
        try:
            ids.append(row[places[0]])
            scores.append([float(row[place]) for place in places[1:]])
        except (IndexError, ValueError) as error:
            raise InputError(f"{path}, row {number}: expected {len(header)} numbers") from error
    return ids, np.array(scores, np.float32).reshape(len(ids), len(columns) - 1)


def _read_score_columns(path: Path, classes: Classes) -> tuple[list[str], NDArray[np.float32]]:
    """The same of a Parquet file."""
    require_pyarrow()
    import pyarrow
    from pyarrow import parquet

    expected = schema(classes)
    try:
        with parquet.ParquetFile(path) as file:
            lacking = sorted(set(expected.names) - set(file.schema_arrow.names))
            if lacking:
                raise InputError(f"{path}: {_expected(expected.names)}; lacks {some(lacking)}")
            table = file.read(expected.names).select(expected.names).cast(expected)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: can't be read as a Parquet file of scores: {error}") from error
    ids = table.column("image_id").fill_null("").to_pylist()
    return ids, np.stack([column.to_numpy() for column in table.columns[1:]], axis=1)


def _expected(columns: Sequence[str]) -> str:
    return f"expected columns image_id, p0 … {columns[-1]}"


def read_scores(
    path: Path,
    names: list[str],
    classes: Classes = REFERENCE_CLASSIFIER,
    *,
    others: bool = False,
) -> NDArray[np.float32]:
    """The class probabilities (n, classes) of the images in ``names``, paired by image_id.

    With ``others`` the file may hold more images. Raises InputError where columns, images or
    pyarrow are missing, or a score is no probability.
    """
    columns = ["image_id", *(f"p{index}" for index in range(len(classes)))]
    if path.suffix.lower() == ".csv":
        ids, table = _read_score_table(path, columns)
    else:
        ids, table = _read_score_columns(path, classes)
        names = [in_parquet(name) for name in names]
    rows = {name: row for row, name in enumerate(ids)}
    missing = [name for name in names if name not in rows]
    extra = [] if others else sorted(rows.keys() - set(names))
    if missing or extra or len(rows) != len(ids):
        raise InputError(
            f"{path}: expected a row for each of the {len(names)} images, found {len(ids)}: "
            f"missing {some(missing) or 'none'}; extra {some(extra) or 'none'}; "
            f"twice {len(ids) - len(rows)}"
        )
    order = [rows[name] for name in names]
    scores = table[order]
    wrong = np.flatnonzero(~((scores >= 0) & (scores <= _HIGHEST)).all(axis=1))
    if wrong.size:
        raise InputError(
            f"{path}: scores are probabilities, 0 to 1; {wrong.size} images have others: "
            f"{some([names[index] for index in wrong])}"
        )
    return scores


def _parse_confidence(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise InputError(f"{place}: a confidence is a number 0 to 1, found {text!r}")
    return value
