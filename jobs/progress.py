"""How far a job is: a bar on a terminal, a line every 30 seconds elsewhere. On stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol, TextIO, cast

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from ..core.text import printable
from .starting import LINE_SECONDS, Starting


def say(text: str) -> None:
    """Say what went wrong and is being tried again, or takes long.

    Where nobody listens any more (a closed terminal, a full disk), that is no reason to fail.
    """
    with suppress(OSError):  # print would take stdout where stderr is closed
        click.echo(printable(f"hw1: {text}"), err=True)


def console() -> Console:
    """Where progress is shown: stderr, or nowhere when that can't be written to any more."""
    return Console(file=cast(TextIO, _Lenient(sys.stderr))) if sys.stderr else Console(quiet=True)


class _Lenient:
    """A stream that loses what it can't write. rich would end the program."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Meter(Protocol):
    """Counts each committed shard."""

    def advance(self, images: int, rejected: int) -> None:
        """Count a shard's images, of which some were rejected."""


class Progress:
    """Makes the meter that fits where stderr goes; silent where ``quiet``."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._starting: Starting | None = None

    @contextmanager
    def starting(self, parts: Path) -> Iterator[None]:
        """Show what the start is at, until a shard is committed. ``parts``: see `Starting`."""
        if self._quiet:
            yield
            return
        self._starting = Starting(self._console, parts)
        with self._starting.shown():
            yield

    def started(self) -> None:
        """The first shard is there."""
        if self._starting is not None:
            self._starting.end()

    def notice(self, text: str) -> None:
        """Say something in a line."""
        if not self._quiet:
            self._console.print(printable(text), highlight=False, markup=False)

    @contextmanager
    def meter(self, planned: int, done: int) -> Iterator[Meter]:
        """Show progress from ``done`` of ``planned`` images while the context lasts."""
        if self._quiet:
            yield _Silent()
        elif self._console.is_terminal:
            bar = _bar(self._console)
            try:
                yield _BarMeter(bar, planned, done, self.started)
            finally:
                bar.stop()
        else:
            lines = _LineMeter(self._console, planned, done, self.started)
            with lines.reporting():
                yield lines


class _Silent:
    def advance(self, images: int, rejected: int) -> None:
        pass


def _bar(console: Console) -> Bar:
    return Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rejected]} rejected"),
        console=console,
        transient=True,
    )


class _BarMeter:
    def __init__(self, bar: Bar, planned: int, done: int, started: Callable[[], None]) -> None:
        self._bar = bar
        self._started = started
        self._rate = _Rate()
        self._rejected = 0
        self._task = bar.add_task("scoring", total=planned, completed=done, rate="", rejected=0)

    def advance(self, images: int, rejected: int) -> None:
        self._started()
        self._bar.start()  # once
        self._rejected += rejected
        rate = f"{self._rate.after(images):.1f} images/s"
        self._bar.update(self._task, advance=images, rate=rate, rejected=self._rejected)


class _LineMeter:
    def __init__(
        self, console: Console, planned: int, done: int, started: Callable[[], None]
    ) -> None:
        self._console = console
        self._started = started
        self._planned = planned
        self._done = done
        self._rejected = 0
        self._rate = _Rate()

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Print the lines from a thread: also while a shard takes longer than that."""
        ended = Event()
        printer = Thread(target=self._report, args=(ended,), daemon=True)
        printer.start()
        try:
            yield
        finally:
            ended.set()
            printer.join()

    def advance(self, images: int, rejected: int) -> None:
        self._started()
        self._done += images
        self._rejected += rejected
        self._rate.after(images)

    def _report(self, ended: Event) -> None:
        while not ended.wait(LINE_SECONDS):
            rate = self._rate.after(0)
            left = f"{(self._planned - self._done) / rate:.0f} s left, " if rate else ""
            self._console.print(
                f"{self._done}/{self._planned} images, {rate:.1f} images/s, {left}"
                f"{self._rejected} rejected",
                highlight=False,
            )


class _Rate:
    """Images a second since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._images = 0

    def after(self, images: int) -> float:
        self._images += images
        elapsed = time.monotonic() - self._start
        return self._images / elapsed if elapsed > 0 else 0.0
