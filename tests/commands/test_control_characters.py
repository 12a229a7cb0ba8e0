"""What a stranger's files are called doesn't reach the terminal as commands to it."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from hw1.cli import main

EVIL = "\x1b]0;title\x07\x1b[31mred\x9b\u202e"  # sets the title, the colour, the direction


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "list", "EVIL"),
        ("jobs", "show", "EVIL"),
        ("jobs", "verify", "EVIL/EVIL.csv.job"),
        ("jobs", "show", "EVIL/EVIL.csv.job"),
        ("jobs", "list", "."),
        ("batch", "classify", "EVIL/none", "out.csv"),
        ("batch", "plan", "segment", "EVIL/two", "masks", "--engine", "inline"),
        ("evaluate", "classify", "EVIL/none.csv", "truth.csv"),
    ],
)
def test_control_characters_are_printed_as_text(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = tmp_path / EVIL / f"{EVIL}.csv.job"
    job.mkdir(parents=True)
    (job / "job.json").write_text(json.dumps({"state": EVIL, "task": EVIL}))
    two = tmp_path / EVIL / "two"
    two.mkdir()
    for suffix in ("jpg", "png"):
        (two / f"{EVIL}.{suffix}").write_bytes(b"x")
    result = CliRunner().invoke(main, [word.replace("EVIL", EVIL) for word in arguments])
    assert not set(result.output) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert "\\x1b" in result.output


def test_other_names_stay_as_they_are(tmp_path: Path) -> None:
    name = "für\u00a0Ω 😀.csv"
    result = CliRunner().invoke(main, ["jobs", "show", os.fspath(tmp_path / name)])
    assert name in result.output
