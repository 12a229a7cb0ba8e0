import errno
import io
import os
import sys
import time

import pytest
from rich.console import Console

from hw1.jobs import progress
from hw1.jobs.progress import Progress, console, say


def test_lines_come_while_nothing_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    text = io.StringIO()
    with Progress(Console(file=text)).meter(100, 20) as meter:
        _wait_for(text, "20/100 images, 0.0 images/s, 0 rejected\n")
        meter.advance(30, 2)
        _wait_for(text, "50/100 images, ")
        _wait_for(text, " s left, 2 rejected\n")
    lines = text.getvalue()
    time.sleep(0.1)
    assert text.getvalue() == lines  # the end of the job is the end of its lines


def test_nothing_is_said_where_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    text = io.StringIO()
    with Progress(Console(file=text), quiet=True).meter(10, 0) as meter:
        meter.advance(10, 0)
        time.sleep(0.1)
    assert text.getvalue() == ""


def _wait_for(text: io.StringIO, line: str) -> None:
    end = time.monotonic() + 30
    while line not in text.getvalue():
        assert time.monotonic() < end, text.getvalue()
        time.sleep(0.01)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_stream_that_cannot_be_written_to_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(number, os.strerror(number))

        def flush(self) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sys, "stderr", Gone())
    say("a worker did not start")
    with Progress(console()).meter(4, 0) as meter:
        meter.advance(2, 0)
    console().print("a line")
