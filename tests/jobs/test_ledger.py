"""The ledger, torn and damaged."""

import json
from pathlib import Path

import pytest

from hw1.core.errors import EnvironmentFault
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


def test_a_damaged_ledger_line_is_an_error_that_names_it(images: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    ledger = images.parent / "out.csv.job" / "ledger.jsonl"
    ledger.write_bytes(b"rubbish\n" + ledger.read_bytes())
    with pytest.raises(EnvironmentFault, match="line 1"):
        run(spec_of(images))


@pytest.mark.parametrize(("key", "value"), [("images", -4), ("first", "0"), ("digest", 5)])
def test_a_ledger_entry_of_another_type_is_an_error_that_names_it(
    images: Path, key: str, value: object
) -> None:
    ledger = run(spec_of(images)).job / "ledger.jsonl"
    first, *others = ledger.read_text().splitlines(keepends=True)
    ledger.write_text(json.dumps({**json.loads(first), key: value}) + "\n" + "".join(others))
    with pytest.raises(EnvironmentFault, match="line 1"):
        run(spec_of(images))
