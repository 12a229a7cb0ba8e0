"""The files that a classification leaves: its CSV of labels and its Parquet file of scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


def read_predictions(path: Path) -> Predictions:
    """Read ``image_id,label``, and ``label_2`` …, ``confidence`` where the CSV has them.

    Raises InputError for another header, a label outside 0 to 49, an image that stands there
    twice, a confidence outside 0 to 1.
    """
    rows = read_table(path)
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
        labels[row[0]] = tuple(parse_label(row[rank], place) for rank in ranks)
        if sure is not None:
            confidence[row[0]] = _parse_confidence(row[sure], place)
    return Predictions(labels, None if sure is None else confidence)


def read_scores(path: Path, names: list[str]) -> NDArray[np.float32]:
    """The class probabilities (n, 50) of the images in ``names``, paired by image_id.

    Raises InputError where columns, images or pyarrow are missing, or a score is no probability.
    """
    require_pyarrow()
    import pyarrow
    from pyarrow import parquet

    expected = schema()
    try:
        with parquet.ParquetFile(path) as file:
            lacking = sorted(set(expected.names) - set(file.schema_arrow.names))
            if lacking:
                raise InputError(
                    f"{path}: expected columns image_id, p0 … p49; lacks {some(lacking)}"
                )
            table = file.read(expected.names).select(expected.names).cast(expected)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: can't be read as a Parquet file of scores: {error}") from error
    ids = table.column("image_id").fill_null("").to_pylist()
    rows = {name: row for row, name in enumerate(ids)}
    names = [in_parquet(name) for name in names]
    missing = [name for name in names if name not in rows]
    if missing or len(rows) != len(ids) or len(ids) != len(names):
        extra = sorted(rows.keys() - set(names))
        raise InputError(
            f"{path}: expected a row for each of the {len(names)} predictions, found {len(ids)}: "
            f"missing {some(missing) or 'none'}; extra {some(extra) or 'none'}; "
            f"twice {len(ids) - len(rows)}"
        )
    order = [rows[name] for name in names]
    scores = np.stack([column.to_numpy() for column in table.columns[1:]], axis=1)[order]
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
