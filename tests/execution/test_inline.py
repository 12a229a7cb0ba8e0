from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_work import FakeWork, shards

from hw1.core.errors import EnvironmentFault, InputError
from hw1.core.records import Committed, Decoded, Shard
from hw1.execution import inline
from hw1.execution.inline import run_inline


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "PAUSES", (0.0, 0.0))


def test_every_shard_is_committed_in_order(tmp_path: Path) -> None:
    done: list[Committed] = []
    run_inline(FakeWork(tmp_path), shards(3, 8), done.append)
    assert [(c.shard, c.first, c.images, c.rejected) for c in done] == [
        (0, 0, 8, 1),
        (1, 8, 8, 0),
        (2, 16, 7, 1),
    ]
    assert (tmp_path / "2.txt").read_text().splitlines() == [
        *(f"{k}.png,{4 * k}" for k in (16, 18, 19, 20, 21, 22)),
        "17.png:truncated",
    ]


def test_what_decoding_notices_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Dark(FakeWork):
        def decode(self, piece: Shard) -> Decoded:
            return replace(super().decode(piece), notice=f"{piece.first} is dark")

    run_inline(Dark(tmp_path), shards(3, 8), lambda _: None)
    assert caplog.messages == ["0 is dark"]


def test_pieces_make_the_same_parts(tmp_path: Path) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    whole.mkdir()
    pieces.mkdir()
    run_inline(FakeWork(whole), shards(3, 8), lambda _: None)
    run_inline(FakeWork(pieces, longest=3), shards(3, 8), lambda _: None)
    for k in range(3):
        parts = [set((f / f"{k}.txt").read_text().splitlines()) for f in (whole, pieces)]
        assert parts[0] == parts[1]


@pytest.mark.parametrize("stage", ["decode", "predict", "write"])
def test_a_fault_of_the_environment_is_tried_again(tmp_path: Path, stage: str) -> None:
    done: list[Committed] = []
    work = FakeWork(tmp_path, {"9.png": (stage, "fault_once")})
    run_inline(work, shards(3, 8), done.append)
    assert len(done) == 3


def test_a_fault_that_stays_is_raised(tmp_path: Path) -> None:
    done: list[Committed] = []
    work = FakeWork(tmp_path, {"9.png": ("predict", "fault")})
    with pytest.raises(EnvironmentFault, match="the disk is full"):
        run_inline(work, shards(3, 8), done.append)
    assert [c.shard for c in done] == [0]


def test_a_bug_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run_inline(FakeWork(tmp_path, {"9.png": ("write", "bug")}), shards(3, 8), print)


def test_the_models_are_loaded_before_a_shard_is_asked_for(tmp_path: Path) -> None:
    asked = False

    def source() -> Iterator[Shard]:
        nonlocal asked
        asked = True
        yield from shards(1, 8)

    with pytest.raises(InputError):
        run_inline(FakeWork(tmp_path, load_error="input"), source(), print)
    assert not asked
