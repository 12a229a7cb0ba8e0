"""What a job's start is at, until the first shard is committed.

On a terminal it is shown every two seconds; elsewhere a line is printed where it has changed, and
every 30 seconds.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Thread

from rich.console import Console
from rich.markup import escape

from ..core.durable import TEMPORARY
from ..core.events import LOGGER, START

SECONDS = 2.0
LINE_SECONDS = 30.0


class Starting(logging.Handler):
    """Listens to the events of a start, here and in the workers, whose files lie in ``parts``."""

    def __init__(self, console: Console, parts: Path) -> None:
        super().__init__()
        self._console = console
        self._parts = parts
        self._began = time.monotonic()
        self._text = "starting"
        self._ended = Event()
        self._showing = Lock()
        self._status = console.status("starting") if console.is_terminal else None

    def emit(self, record: logging.LogRecord) -> None:
        """Note what the start is at."""
        if getattr(record, "event", None) == START:
            self._text = record.getMessage()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it, while the context lasts, or until ``end``."""
        level = LOGGER.level
        LOGGER.addHandler(self)
        LOGGER.setLevel(logging.DEBUG)
        Thread(target=self._report, daemon=True).start()
        try:
            yield
        finally:
            self.end()
            LOGGER.removeHandler(self)
            LOGGER.setLevel(level)

    def end(self) -> None:
        """Show nothing more: the first shard is there."""
        with self._showing:
            self._ended.set()
            if self._status is not None:
                self._status.stop()

    def text(self) -> str:
        """What the start is at: the newest that a worker says, else what was heard here."""
        said: list[tuple[int, str]] = []
        with suppress(OSError):
            for path in self._parts.glob(f".{START}-*{TEMPORARY}"):
                said.append((path.stat().st_mtime_ns, path.read_text(errors="replace")))
        if said and max(said)[1]:
            self._text = max(said)[1]  # also when the worker is ready, and its file gone
        return self._text

    def _report(self) -> None:
        printed, last = "", 0.0  # on no terminal
        while not self._ended.wait(SECONDS):
            now, said = time.monotonic(), self.text()
            text = f"{said} ({now - self._began:.0f} s)"
            with self._showing:
                if self._ended.is_set():
                    return
                if self._status is not None:
                    self._status.update(escape(text))
                    self._status.start()
                elif said != printed or now - last >= LINE_SECONDS:
                    self._console.print(text, highlight=False, markup=False)
                    printed, last = said, now
