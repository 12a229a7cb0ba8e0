"""The labels as a file: CSV, a line of JSON an image, or Parquet, by the output's suffix."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from ..core.classes import Classes
from ..core.durable import replacing, sync_folders, write_bytes
from ..core.errors import InputError
from ..pipeline.rows import format_row, join_rows, read_rows
from .scores import ROWS, in_parquet, require_pyarrow

SUFFIXES: Final = (".csv", ".parquet", ".jsonl")


def check_suffix(path: Path, name: str, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Raise InputError where a file's suffix is none of ``suffixes``, or can't be written here."""
    if path.suffix.lower() not in suffixes:
        listed = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise InputError(f"{name} {path}: expected a name that ends in {listed}")
    if path.suffix.lower() == ".parquet":
        require_pyarrow()


def write_result(
    path: Path,
    job: Path,
    parts: Iterable[Path],
    header: Sequence[str],
    classes: Classes,
    *,
    safe: bool = False,
) -> None:
    """Write the shards' rows as one file, whole or not at all. ``parts`` are CSV without a header.
    With ``safe`` no name in a CSV begins as a formula does.

    In JSON and Parquet labels and voters are integers, confidence and agreement floats.
    """
    kind = path.suffix.lower()
    if kind == ".parquet":
        _write_parquet(path, job, parts, header, classes)
        return
    write_bytes(path, _chunks(kind, parts, header, safe), scratch=job / "parts")


@contextmanager
def opened(
    path: Path, header: Sequence[str], *, safe: bool = False
) -> "Iterator[_Lines | _Groups]":
    """A result that was written, to compare it with the parts, in their order."""
    if path.suffix.lower() == ".parquet":
        yield _Groups(path, header)
        return
    with path.open("rb") as file:
        yield _Lines(file, path.suffix.lower(), header, safe)


class _Lines:
    """A CSV, or lines of JSON, read along with its parts."""

    def __init__(self, file: BinaryIO, kind: str, header: Sequence[str], safe: bool) -> None:
        self._file, self._kind, self._header, self._safe = file, kind, header, safe
        title = _title(kind, header)
        same = file.read(len(title)) == title if kind == ".jsonl" else file.readline() == title
        self.title_fault = None if same else f"the header is not {title.decode().rstrip()!r}"

    def continues(self, part: Path) -> bool:
        """Whether the part's rows come next."""
        content = _content(self._kind, self._header, part, self._safe)
        return self._file.read(len(content)) == content

    def ends(self) -> bool:
        """Whether nothing is left."""
        return not self._file.read(1)


class _Groups:
    """A Parquet file, whose rows are compared as the parts' fields."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        require_pyarrow()
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._convert = [_converter(name) for name in header]
        self.title_fault: str | None = None
        self._rows: Iterator[list[Any]] = iter(())
        try:
            file = pq.ParquetFile(path)
            names = file.schema_arrow.names
        except pa.ArrowException as error:
            self.title_fault = f"it is no whole Parquet file ({error})"
            return
        if names != list(header):
            self.title_fault = f"the columns are not {', '.join(header)}"
        self._rows = (
            list(row.values()) for batch in file.iter_batches() for row in batch.to_pylist()
        )

    def continues(self, part: Path) -> bool:
        """Whether the part's rows come next."""
        expected = (
            [make(value) for make, value in zip(self._convert, row, strict=True)]
            for row in read_rows(part)
        )
        return all(next(self._rows, None) == [in_parquet(row[0]), *row[1:]] for row in expected)

    def ends(self) -> bool:
        """Whether nothing is left."""
        return next(self._rows, None) is None


def _chunks(kind: str, parts: Iterable[Path], header: Sequence[str], safe: bool) -> Iterator[bytes]:
    yield _title(kind, header)
    for part in parts:
        yield _content(kind, header, part, safe)


def _title(kind: str, header: Sequence[str]) -> bytes:
    return b"" if kind == ".jsonl" else join_rows([format_row(header)])


def _content(kind: str, header: Sequence[str], part: Path, safe: bool) -> bytes:
    """A part's rows in a file of this kind."""
    if kind == ".csv" and safe:
        return join_rows(format_row([_inert(name), *rest]) for name, *rest in read_rows(part))
    if kind == ".csv":
        return part.read_bytes()
    convert = [_converter(name) for name in header]
    lines = (
        json.dumps({n: make(v) for n, make, v in zip(header, convert, row, strict=True)})
        for row in read_rows(part)
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _inert(name: str) -> str:
    """A name that no spreadsheet takes for a formula: with an apostrophe before what begins one."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def _write_parquet(
    path: Path, job: Path, parts: Iterable[Path], header: Sequence[str], classes: Classes
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[Callable[[str], Any], Any] = {
        int: pa.int32(),
        float: pa.float64(),
        str: pa.string(),
    }
    convert = [_converter(name) for name in header]
    schema = pa.schema(
        [(name, kinds[make]) for name, make in zip(header, convert, strict=True)],
        metadata={"classes": classes.to_json()},
    )

    def table(rows: list[list[str]]) -> Any:
        columns = [[make(row[at]) for row in rows] for at, make in enumerate(convert)]
        columns[0] = [in_parquet(str(name)) for name in columns[0]]
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)

    with replacing(path, job / "parts") as temporary:
        with pq.ParquetWriter(temporary, schema) as writer:
            rows: list[list[str]] = []
            for part in parts:
                rows += read_rows(part)
                while len(rows) >= ROWS:
                    writer.write_table(table(rows[:ROWS]))
                    rows = rows[ROWS:]
            if rows:
                writer.write_table(table(rows))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    sync_folders([path.parent])


def _converter(column: str) -> Callable[[str], Any]:
    if column.startswith("label"):
        return int
    if column == "voters":
        return int
    return float if column in ("confidence", "agreement") else str
