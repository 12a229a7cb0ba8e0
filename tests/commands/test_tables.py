"""Tables are whole lines, however narrow the terminal, and in a pipe."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hw1.pipeline.masks import COLOURS


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Masks of more than a million pixels of one class."""
    folder = tmp_path / "masks"
    folder.mkdir()
    classes = np.full((1200, 1000), 1)
    classes[:2] = 3
    Image.fromarray(COLOURS[classes]).save(folder / "0001.png")
    return folder


def evaluate(masks: Path, columns: int, stdout: int = subprocess.PIPE) -> str:
    words = [sys.executable, "-m", "hw1", "evaluate", "segment", str(masks), str(masks)]
    done = subprocess.run(
        words,
        env={**os.environ, "COLUMNS": str(columns)},
        stdout=stdout,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize("columns", [20, 60, 80])
def test_a_table_in_a_pipe_is_neither_folded_nor_cut(masks: Path, columns: int) -> None:
    lines = evaluate(masks, columns).splitlines()
    assert lines[0] == "Segmentation"
    assert "…" not in "".join(lines)
    row = next(line for line in lines if line.startswith("1 agriculture"))
    cells = ["1", "agriculture", "1.0000", "–", "1.0000", "1.0000"]
    assert row.split() == cells + ["1,198,000"] * 2
    assert next(line for line in lines if line.startswith("class ")).endswith("predicted px")


def test_a_narrow_terminal_gets_whole_numbers(masks: Path) -> None:
    reader, terminal = pty.openpty()
    evaluate(masks, 40, terminal)
    os.close(terminal)
    text = b""
    while chunk := _read(reader):
        text += chunk
    assert text.decode().count("1,198,000") == 2
    assert "…" not in text.decode()


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except OSError:  # Linux's way to say that the terminal was closed
        return b""
