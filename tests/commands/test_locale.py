"""Names are bytes: a locale that isn't UTF-8 changes none of a result's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import write_grey

NAMES = [b"M\xc3\xbcller.png", b"\xe9.png", b"plain.png"]


def environment(locale: str, folder: Path) -> dict[str, str]:
    changes = {"LC_ALL": locale, "PYTHONUTF8": "0"}
    if locale != "C":
        command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / locale)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no locales can be made here")
        changes["LOCPATH"] = str(folder)
    return {**os.environ, **changes}


@pytest.mark.parametrize("locale", ["C", "en_US.iso88591"])
def test_a_result_holds_the_bytes_of_the_names(tmp_path: Path, weights: Path, locale: str) -> None:
    images = tmp_path / "M\xfcll"
    for name in NAMES:
        write_grey(images / os.fsdecode(name), 100)
    command = [sys.executable, "-m", "hw1", "batch", "classify", str(images)]
    command += [str(tmp_path / "o.csv"), "--members", "vgg16", "--weights", str(weights)]
    command += ["--engine", "inline", "--device", "cpu"]
    done = subprocess.run(
        command, env=environment(locale, tmp_path), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "o.csv").read_bytes().splitlines()[1:]
    assert [row.rpartition(b",")[0] for row in rows] == sorted(NAMES)


def test_where_python_may_not_take_names_as_utf_8_the_command_says_so() -> None:
    command = [sys.executable, "-X", "utf8=0", "-m", "hw1", "--version"]
    done = subprocess.run(
        command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("hw1: ")
    assert "UTF-8" in done.stderr
    assert done.stderr.count("\n") == 1
