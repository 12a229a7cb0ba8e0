"""The order in which a job makes its files durable, by a spy on what the system is asked for."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hw1.core.errors import Refused
from hw1.execution.engines import Engine, EngineOptions, start
from hw1.jobs.job import Summary
from tiny_jobs import COUNT, expected, masks_of, rows_of, run, segment, spec_of


@dataclass(frozen=True)
class Event:
    """``what`` is synced or moved. ``size`` in bytes is that on the disk, then."""

    what: str
    path: Path
    size: int = -1
    source: Path = Path()
    lines: int = 0


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What is fsynced and renamed, in order."""
    seen: list[Event] = []
    fsync, replace_ = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        fsync(descriptor)
        lines = path.read_bytes().count(b"\n") if path.name == "ledger.jsonl" else 0
        seen.append(Event("synced", path, os.fstat(descriptor).st_size, lines=lines))

    def moved(source: Path, target: Path) -> None:
        size = source.stat().st_size
        replace_(source, target)
        seen.append(Event("moved", Path(target), size, source=Path(source)))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    return seen


def position(events: list[Event], found: Callable[[Event], bool], after: int = -1) -> int:
    """Where the first such event after a position is."""
    return next(i for i, event in enumerate(events) if i > after and found(event))


def is_folder(path: Path) -> Callable[[Event], bool]:
    return lambda event: event.what == "synced" and event.path == path


@pytest.mark.parametrize("task", [run, segment])
def test_each_file_is_durable_before_what_relies_on_it(
    images: Path, events: list[Event], task: Callable[..., Summary]
) -> None:
    (images / "05.png").write_bytes(b"")
    parent = images.parent
    if task is run:
        pytest.importorskip("pyarrow.parquet")
        summary = run(spec_of(images, scores=parent / "s.parquet"))
    else:
        summary = segment(masks_of(images, overlay=parent / "blends"))
    job = summary.job
    moves = {i: event for i, event in enumerate(events) if event.what == "moved"}
    for at, move in moves.items():
        assert move.source != move.path
        # All of its bytes were on the disk, under another name.
        assert any(
            event.what == "synced" and event.path == move.source and event.size == move.size
            for event in events[:at]
        ), move
    ledger = [i for i, e in enumerate(events) if e.path.name == "ledger.jsonl" and e.lines]
    assert [events[at].lines for at in ledger] == list(range(1, 7))  # each when it was entered
    plan = position(events, lambda e: e.what == "moved" and e.path.name == "plan.jsonl")
    begun = position(events, lambda e: e.what == "moved" and e.path.name == "job.json")
    assert plan < position(events, is_folder(job), plan) < begun
    for shard, at in enumerate(ledger):
        files = {job / "parts" / f"{shard:07}.csv"}
        if task is segment:
            scored = [k for k in range(4 * shard, min(4 * shard + 4, COUNT)) if k != 5]
            for folder in ("masks", "blends"):
                files |= {parent / folder / f"{k:02}.png" for k in scored}
        for file in files:
            written = position(events, lambda e, f=file: e.path == f)  # type: ignore[misc]
            assert written < position(events, is_folder(file.parent), written) < at, file
    results = {job / "rejected.csv"}
    results |= {parent / "out.csv", parent / "s.parquet"} if task is run else set()
    descriptions = [i for i, move in moves.items() if move.path == job / "job.json"]
    for file in results:
        written = position(events, lambda e, f=file: e.path == f, ledger[-1])  # type: ignore[misc]
        durable = position(events, is_folder(file.parent), written)
        assert ledger[-1] < written < durable < descriptions[-1], file
    assert [i for i in descriptions if i > ledger[-1]] == [descriptions[-1]]
    assert json.loads((job / "job.json").read_bytes())["state"] == "done"


def test_new_folders_are_durable(images: Path, events: list[Event]) -> None:
    summary = run(spec_of(images))
    for folder in (summary.job, summary.job / "parts"):
        made = position(events, is_folder(folder.parent))
        assert made < position(events, lambda e, f=folder: e.path.parent == f)  # type: ignore[misc]


def test_a_job_that_was_begun_meanwhile_is_not_discarded(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands for one output, the second begun while the first one's engine starts."""
    other: list[Summary] = []

    @contextmanager
    def slowly(options: EngineOptions) -> Iterator[Engine]:
        monkeypatch.setattr("hw1.jobs.run.start", start)
        other.append(run(spec_of(images)))
        with start(options) as engine:
            yield engine

    monkeypatch.setattr("hw1.jobs.run.start", slowly)
    with pytest.raises(Refused, match="another process has just begun"):
        run(spec_of(images, top_k=2))
    assert other[0].scored == COUNT
    assert rows_of(images.parent / "out.csv") == expected()
    assert run(spec_of(images)).resumed == COUNT
