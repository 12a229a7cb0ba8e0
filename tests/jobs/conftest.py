"""What the jobs' tests share."""

from pathlib import Path

import pytest

from fakes import write_grey
from hw1.execution import inline
from tiny_jobs import COUNT


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "PAUSES", (0.0, 0.0))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for index in range(COUNT):
        write_grey(folder / f"{index:02d}.png", index * 10)
    return folder
