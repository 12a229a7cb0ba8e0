"""What a start is at, on a terminal and in logs, from here and from a worker's process."""

import io
import logging
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from hw1.core.events import report
from hw1.core.records import Decoded, Predicted
from hw1.execution.worker import ActorProcess
from hw1.jobs import starting
from hw1.jobs.progress import Progress


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "SECONDS", 0.01)


def wait_for(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not there():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("terminal", [False, True])
def test_it_is_said_until_the_first_shard_is_there(tmp_path: Path, terminal: bool) -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, force_terminal=terminal, width=80))
    with progress.starting(tmp_path):
        report(logging.DEBUG, "start", "reading members, 3 of 8 are ready")
        wait_for(lambda: "reading members, 3 of 8 are ready" in out.getvalue())
        with progress.meter(10, 0) as meter:
            meter.advance(5, 0)
            before = out.getvalue().count("reading")
            report(logging.DEBUG, "start", "reading again")
            time.sleep(0.05)
            progress.notice("hw1: [red] is no colour")
    assert out.getvalue().count("reading") == before
    assert "[red] is no colour" in out.getvalue()


def test_a_log_gets_a_line_where_it_changes_and_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=80)).starting(tmp_path):
        for text in ("reading members", "starting Ray"):
            report(logging.DEBUG, "start", text)
            wait_for(lambda text=text: text in out.getvalue())  # type: ignore[misc]
            time.sleep(0.05)
        assert [line.split(" (")[0] for line in out.getvalue().splitlines()][-2:] == [
            "reading members",
            "starting Ray",
        ]
        monkeypatch.setattr(starting, "LINE_SECONDS", 0.0)
        wait_for(lambda: out.getvalue().count("starting Ray") > 1)


def test_quiet_says_nothing(tmp_path: Path) -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out), quiet=True)
    with progress.starting(tmp_path):
        report(logging.DEBUG, "start", "reading members")
        time.sleep(0.05)
    progress.notice("this")
    assert out.getvalue() == ""


@dataclass(frozen=True)
class SlowWork:
    folder: Path

    def load(self) -> Callable[[Decoded], Predicted]:
        report(logging.DEBUG, "start", "reading members, 1 of 2 are ready")
        shown = starting.Starting(Console(quiet=True), self.folder / "parts")
        assert shown.text() == "reading members, 1 of 2 are ready"
        return print  # type: ignore[return-value]


def test_a_workers_start_is_seen_in_the_driver(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    ActorProcess(1).load(pickle.dumps(SlowWork(tmp_path)), compare=False)
    assert list((tmp_path / "parts").iterdir()) == []
    ActorProcess(1).load(pickle.dumps(Elsewhere(tmp_path / "gone")), compare=False)


@dataclass(frozen=True)
class Elsewhere(SlowWork):
    def load(self) -> Callable[[Decoded], Predicted]:
        report(logging.DEBUG, "start", "where the job's folder isn't in sight")
        return print  # type: ignore[return-value]
