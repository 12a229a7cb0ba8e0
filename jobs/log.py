"""The job's log: ``log.jsonl`` in its folder, a JSON object a line; and its messages on stderr."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..core.errors import Hw1Error, Refused
from ..core.events import LOGGER, listening, report
from .progress import say

LOG: Final = "log.jsonl"

MOST_BYTES = 4 * 2**20
"""Of the log. A longer one becomes ``log.jsonl.1``, in the place of the one before."""

_ENDS = frozenset({"refused", "interrupted", "failed"})
"""What the command itself says in the end: it isn't printed twice."""


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Write the events, and how the block fails, into the log of the job whose lock is held.

    A log that can't be written fails no job: what it lacks is lost.
    """
    with listening(_LogFile(folder / LOG)):
        try:
            yield
        except KeyboardInterrupt:
            report(logging.WARNING, "interrupted", "interrupted: the same command resumes")
            raise
        except Refused as error:
            report(logging.WARNING, "refused", str(error))
            raise
        except Hw1Error as error:
            report(logging.ERROR, "failed", str(error), reason=type(error).__name__)
            raise
        except BaseException as error:
            fields = {"reason": type(error).__name__}
            extra = {"event": "failed", "fields": fields}
            LOGGER.error("%s", str(error) or "failed", exc_info=True, extra=extra)
            raise


@contextmanager
def messages(verbose: int) -> Iterator[None]:
    """Print warnings on stderr; where ``verbose`` is 1 what is done too, where 2 each shard."""
    handler = _Messages((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    handler.addFilter(lambda record: getattr(record, "event", None) not in _ENDS)
    with listening(handler):
        yield


class _LogFile(logging.Handler):
    """Appends a line for each event. Opened for each, so that --overwrite may remove the file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        line = self._line(record)
        with suppress(OSError):
            self._rotate(len(line))
            with self._path.open("ab", buffering=0) as file:
                before = file.tell()
                if file.write(line) < len(line):  # the disk is full: no half lines
                    file.truncate(before)

    def _rotate(self, more: int) -> None:
        with suppress(FileNotFoundError):
            if self._path.stat().st_size + more > MOST_BYTES:
                self._path.replace(self._path.with_name(LOG + ".1"))

    def _line(self, record: logging.LogRecord) -> bytes:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
            **getattr(record, "fields", {}),
            "text": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        return json.dumps(fields).encode() + b"\n"


class _Messages(logging.Handler):
    """A line on stderr for each event; a terminal that is closed ends no job."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # ValueError: of a closed file
            say(record.getMessage())
