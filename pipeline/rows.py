"""CSV rows that Python's csv module reads back to the same fields, whatever the names hold."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ENCODING = "utf-8"
ERRORS = "surrogateescape"  # names that are not UTF-8 come back as the bytes they were


def format_row(fields: Sequence[str]) -> str:
    """One CSV row without its line end.

    csv.writer quotes a carriage return only where its own line end holds one: so it is given
    CR LF, which is cut off again.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(fields)
    return buffer.getvalue()[:-2]


def parse_row(row: str) -> list[str]:
    """The fields of a row that ``format_row`` made."""
    return next(csv.reader(io.StringIO(row, newline="")))


def join_rows(rows: Iterable[str]) -> bytes:
    """Rows as a file's bytes, each ended by a line feed."""
    return "".join(f"{row}\n" for row in rows).encode(ENCODING, ERRORS)


def read_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file, blank lines skipped."""
    with path.open(newline="", encoding=ENCODING, errors=ERRORS) as file:
        yield from (row for row in csv.reader(file) if row)
