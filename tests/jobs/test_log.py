"""The job's log: what happened, bounded, and never a reason to fail."""

import errno
import json
import logging
import resource
from pathlib import Path
from typing import Any

import pytest

from fakes import write_grey
from hw1.core.errors import EnvironmentFault, Refused
from hw1.core.events import report
from hw1.jobs import log
from hw1.jobs.inspect import verify
from hw1.jobs.log import logged, messages
from tiny_jobs import COUNT, at_position, expected, interrupt, rows_of, run, spec_of


def events_of(images: Path) -> list[dict[str, Any]]:
    text = (images.parent / "out.csv.job" / "log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events if event["event"] not in ("shard", "start")]


def test_a_log_reports_retries_interrupts_and_resumes(images: Path) -> None:
    (images / "05.png").write_bytes(b"")
    faults = [EnvironmentFault("no memory")]

    def act() -> None:
        if faults:
            raise faults.pop()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, act))
    run(spec_of(images))
    events = events_of(images)
    assert kinds(events) == [
        *("begin", "profile", "rejected", "retry", "interrupted"),
        *("resume", "profile", "done"),
    ]
    assert all(event["time"].endswith("+00:00") for event in events)
    found = {event["event"]: event for event in events}
    assert found["begin"]["text"].endswith(f"{COUNT} images planned")
    assert found["rejected"].items() >= {
        ("level", "info"),
        ("image", "05.png"),
        ("reason", "empty"),
        ("shard", 1),
    }
    retry = found["retry"]
    assert (retry["level"], retry["text"]) == ("warning", "tried again: no memory")
    assert f"8 of {COUNT} images are done" in found["resume"]["text"]
    assert [event["shard"] for event in events if event["event"] == "shard"] == [0, 1, 2, 3, 4, 5]


def test_a_failure_and_a_refusal_are_logged_and_change_nothing_else(images: Path) -> None:
    def fault() -> None:
        raise EnvironmentFault("no memory")

    with pytest.raises(EnvironmentFault):
        run(spec_of(images), at_position(0, fault))
    with pytest.raises(Refused):
        run(spec_of(images, top_k=2))
    with pytest.raises(ZeroDivisionError):
        run(spec_of(images), at_position(0, lambda: 1 // 0))
    failed, refused, bug = (e for e in events_of(images) if e["event"] in ("failed", "refused"))
    assert (failed["level"], failed["text"]) == ("error", "no memory")
    assert "top_k 1, now 2" in refused["text"]
    assert "1 // 0" in bug["traceback"]
    assert verify(run(spec_of(images)).job) == []


def test_overwrite_begins_another_log(images: Path) -> None:
    run(spec_of(images))
    run(spec_of(images, overwrite=True))
    assert kinds(events_of(images)) == ["begin", "profile", "done"]


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 2000)
    with logged(tmp_path):
        for number in range(200):
            report(logging.INFO, "shard", f"shard {number}", shard=number, image="\udcff\n")
    report(logging.INFO, "shard", "not this job's")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "log.jsonl.1"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1]).items() >= {("shard", 199), ("image", "\udcff\n")}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
def test_a_log_that_cannot_be_written_fails_no_job(
    images: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    whole = Path.open

    def full(path: Path, *words: Any, **options: Any) -> Any:
        if path.name == "log.jsonl":
            raise OSError(error, "no")
        return whole(path, *words, **options)

    monkeypatch.setattr(Path, "open", full)
    assert verify(run(spec_of(images)).job) == []
    assert rows_of(images.parent / "out.csv") == expected()
    assert not (images.parent / "out.csv.job" / "log.jsonl").exists()


def test_a_log_holds_no_half_line_of_a_full_disk(tmp_path: Path) -> None:
    """A file may not become longer than a limit, as on a disk with room for half a line."""
    path = tmp_path / "log.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with logged(tmp_path):
        report(logging.INFO, "begin", "a line")
        before = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
        try:
            report(logging.INFO, "done", "lost")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        report(logging.INFO, "done", "there is room again")
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(("verbose", "said"), [(0, "w"), (1, "iw"), (2, "diw")])
def test_messages_are_as_many_as_asked_for(
    capsys: pytest.CaptureFixture[str], verbose: int, said: str
) -> None:
    with messages(verbose):
        report(logging.DEBUG, "shard", "d")
        report(logging.INFO, "begin", "i")
        report(logging.WARNING, "retry", "w")
        report(logging.ERROR, "failed", "the command says this")
    assert capsys.readouterr().err == "".join(f"hw1: {letter}\n" for letter in said)


def test_nothing_is_said_of_a_job_that_a_program_runs(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_grey(images / "05.png", 50)
    run(spec_of(images))
    assert capsys.readouterr().err == ""
