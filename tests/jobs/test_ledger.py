"""The ledger, torn and damaged."""

import json
from pathlib import Path

import pytest

from hw1.jobs.inspect import verify, view
from tiny_jobs import at_position, expected, interrupt, rows_of, run, spec_of


def test_a_torn_ledger_line_is_cut_and_its_shard_done_again(images: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    ledger = images.parent / "out.csv.job" / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-20])
    seen: list[int] = []
    run(spec_of(images), lambda decoded: seen.append(decoded.piece.first))
    assert seen == [4, 8, 12, 16, 20]
    assert rows_of(images.parent / "out.csv") == expected()
    assert all(json.loads(line) for line in ledger.read_text().splitlines())


LINE = json.dumps(
    {"shard": 1, "first": 4, "images": 4, "rows": 4, "rejected": 0, "digest": "0", "seconds": 0}
)


@pytest.mark.parametrize(
    "damage",
    [
        b"\n",
        b"rubbish\n",
        b"\0" * 300 + b"\n",
        b"[" * 5000 + b"\n",
        LINE.replace(": 4", ": -4").encode() + b"\n",
        LINE.replace(": 4", ': "4"').encode() + b"\n",
        LINE.replace('"0"', "5").encode() + b"\n",
        LINE.replace('"shard": 1', '"shard": 77').encode() + b"\n",
        LINE.replace('"shard": 1', '"shard": -1').encode() + b"\n",
        LINE.replace('"first": 4', '"first": 3').encode() + b"\n",
        LINE.replace('"images": 4', '"images": 5').encode() + b"\n",
    ],
)
@pytest.mark.parametrize("instead", [True, False])
def test_a_damaged_line_is_taken_out_and_its_shard_done_again(
    images: Path, damage: bytes, instead: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = run(spec_of(images)).job / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join([lines[0], damage, *lines[1 + instead :]]))
    view(ledger.parent)
    seen: list[int] = []
    summary = run(spec_of(images), lambda decoded: seen.append(decoded.piece.first))
    assert seen == ([4] if instead else [])
    assert rows_of(summary.output) == expected()
    assert verify(summary.job) == []
    assert "a line of the ledger was damaged: taken out" in caplog.text
    assert all(json.loads(line) for line in ledger.read_text().splitlines())


def test_a_ledger_that_lost_entries_is_said(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    summary = run(spec_of(images))
    ledger = summary.job / "ledger.jsonl"
    result, whole = summary.output.read_bytes(), ledger.read_bytes()
    for left in (whole[: whole.index(b"\n") + 1], b""):
        ledger.write_bytes(left)
        lost = summary.planned - run(spec_of(images)).resumed
        assert f"the ledger lost the entries of {lost} images: these are done again" in caplog.text
        assert summary.output.read_bytes() == result
