"""The scores file: every image's class probabilities, as Parquet or CSV."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.classes import REFERENCE_CLASSIFIER, Classes
from ..core.durable import replacing, sync_folders, write_bytes
from ..core.errors import EnvironmentFault, InputError
from ..core.records import Committed, Float32
from ..pipeline.parts import part_path, read_scores
from ..pipeline.rows import format_row, join_rows, read_rows

ROWS = 2**16
"""Rows of a group in the file, all but the last: many small groups make it slow to open."""


def require_pyarrow() -> None:
    """Raise InputError, with what to do, where pyarrow, for Parquet files, is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise InputError('a .parquet file needs pyarrow: pip install "hw1[scores]"') from None


def in_parquet(image_id: str) -> str:
    """The name under which an image stands in a scores file.

    Parquet's strings are UTF-8: the bytes of another name are escaped (``backslashreplace``).
    """
    return image_id.encode("utf-8", "backslashreplace").decode()


def schema(classes: Classes = REFERENCE_CLASSIFIER) -> Any:
    """The columns of a scores file, pyarrow's: image_id, p0, p1, … (float32).

    Each p has its class's name in its metadata, under ``class``.
    """
    import pyarrow as pa

    scores = [
        pa.field(f"p{index}", pa.float32(), metadata={"class": name})
        for index, name in enumerate(classes.names)
    ]
    return pa.schema([pa.field("image_id", pa.string()), *scores])


def write_scores(path: Path, job: Path, shards: Iterable[Committed], classes: Classes) -> None:
    """Write a row for each row of the result, in its order; as CSV where ``path`` ends in that.

    Raises EnvironmentFault where a shard's scores do not fit its rows.
    """
    if path.suffix.lower() == ".csv":
        write_bytes(path, _csv(job, shards, len(classes)), scratch=job / "parts")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = schema(classes)
    with replacing(path, job / "parts") as temporary:
        with pq.ParquetWriter(temporary, columns) as writer:
            for group in _columns(job, shards, len(classes)):
                writer.write_table(pa.table(group, schema=columns))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    sync_folders([path.parent])


def scores_fault(path: Path, job: Path, shards: Sequence[Committed]) -> str:
    """What is wrong with a scores file that was written from these shards; "" for nothing."""
    if not path.is_file():
        return f"{path}: expected the classes' probabilities, found nothing"
    rows = next((entry for entry in shards if entry.rows), None)
    if rows is None:
        return ""
    count = read_scores(job, rows.shard, 1).size // rows.rows
    try:
        if path.suffix.lower() == ".csv":
            same = _is_csv(path, _csv(job, shards, count))
        else:
            same = _is_parquet(path, _columns(job, shards, count))
    except (OSError, ValueError):  # pyarrow's errors are of these kinds
        same = False
    return "" if same else f"{path}: the probabilities are not what was scored"


def _is_csv(path: Path, blocks: Iterable[bytes]) -> bool:
    with path.open("rb") as file:
        same = all(file.read(len(block)) == block for block in blocks)
        return same and not file.read(1)


def _is_parquet(path: Path, groups: Iterable[list[Any]]) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        number = 0
        for group in groups:
            if number == file.num_row_groups:
                return False
            found = file.read_row_group(number)
            if len(group) != found.num_columns:
                return False
            if not pa.table(group, names=found.column_names).equals(found):
                return False
            number += 1
        return bool(number == file.num_row_groups)


def _csv(job: Path, shards: Iterable[Committed], classes: int) -> Iterator[bytes]:
    """The file's bytes: ``image_id,p0,p1,…``, nine digits, which a float32 needs."""
    yield join_rows([format_row(["image_id", *(f"p{index}" for index in range(classes))])])
    for entry in shards:
        scores = _scores_of(job, entry, classes)
        names = (row[0] for row in read_rows(part_path(job, entry.shard)))
        yield join_rows(
            format_row([name, *(f"{score:.9g}" for score in row)])
            for name, row in zip(names, scores.tolist(), strict=True)
        )


def _scores_of(job: Path, entry: Committed, classes: int) -> Float32:
    scores = read_scores(job, entry.shard, classes)
    if len(scores) != entry.rows:
        raise EnvironmentFault(
            f"{job}: shard {entry.shard} has {entry.rows} rows but {len(scores)} rows of "
            "scores; begin again with --overwrite"
        )
    return scores


def _columns(job: Path, shards: Iterable[Committed], classes: int) -> Iterator[list[Any]]:
    """The columns of ROWS rows at a time, wherever shards end: names, then float32 arrays."""
    ids: list[str] = []
    scores: list[Float32] = []
    for entry in shards:
        scores.append(_scores_of(job, entry, classes))
        ids += [in_parquet(row[0]) for row in read_rows(part_path(job, entry.shard))]
        while len(ids) >= ROWS:
            whole = np.concatenate(scores)
            yield _group(ids[:ROWS], whole[:ROWS])
            ids, scores = ids[ROWS:], [whole[ROWS:]]
    if ids:
        yield _group(ids, np.concatenate(scores))


def _group(ids: list[str], scores: Float32) -> list[Any]:
    import pyarrow as pa

    return [pa.array(ids, pa.string()), *(np.ascontiguousarray(column) for column in scores.T)]
