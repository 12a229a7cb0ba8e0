"""The scores file: every image's class probabilities, as Parquet."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core.durable import replacing, sync_folders
from ..core.errors import EnvironmentFault, InputError
from ..core.records import Committed, Float32
from ..pipeline.parts import CLASSES, part_path, read_scores
from ..pipeline.rows import read_rows

ROWS = 2**16
"""Rows of a group in the file, all but the last: many small groups make it slow to open."""


def require_pyarrow() -> None:
    """Raise InputError, with what to do, where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise InputError('--scores needs pyarrow: pip install "hw1[scores]"') from None


def in_parquet(image_id: str) -> str:
    """The name under which an image stands in a scores file.

    Parquet's strings are UTF-8: the bytes of another name are escaped (``backslashreplace``).
    """
    return image_id.encode("utf-8", "backslashreplace").decode()


def schema() -> Any:
    """The columns of a scores file, pyarrow's: image_id, p0 to p49 (float32)."""
    import pyarrow as pa

    names = [f"p{index}" for index in range(CLASSES)]
    return pa.schema([("image_id", pa.string()), *((name, pa.float32()) for name in names)])


def write_scores(path: Path, job: Path, shards: Iterable[Committed]) -> None:
    """Write a row for each row of OUT.csv, in its order.

    Raises EnvironmentFault where a shard's scores do not fit its rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path, job / "parts") as temporary:
        with pq.ParquetWriter(temporary, schema()) as writer:
            for columns in _columns(job, shards):
                writer.write_table(pa.table(columns, schema=schema()))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    sync_folders([path.parent])


def _columns(job: Path, shards: Iterable[Committed]) -> Iterator[list[Any]]:
    """The columns of ROWS rows at a time, wherever shards end: names, then float32 arrays."""
    ids: list[str] = []
    scores: list[Float32] = []
    for entry in shards:
        more = read_scores(job, entry.shard)
        names = [in_parquet(row[0]) for row in read_rows(part_path(job, entry.shard))]
        if len(more) != len(names):
            raise EnvironmentFault(
                f"{job}: shard {entry.shard} has {len(names)} rows but {len(more)} rows of "
                "scores; begin again with --overwrite"
            )
        ids += names
        scores.append(more)
        while len(ids) >= ROWS:
            whole = np.concatenate(scores)
            yield _group(ids[:ROWS], whole[:ROWS])
            ids, scores = ids[ROWS:], [whole[ROWS:]]
    if ids:
        yield _group(ids, np.concatenate(scores))


def _group(ids: list[str], scores: Float32) -> list[Any]:
    import pyarrow as pa

    return [pa.array(ids, pa.string()), *(np.ascontiguousarray(column) for column in scores.T)]
