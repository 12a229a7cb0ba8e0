"""The bench's scripts, importable as they import each other."""

from pathlib import Path

import pytest


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bench's folder, among those that Python imports from."""
    folder = Path(__file__).parents[2] / "bench"
    monkeypatch.syspath_prepend(folder)
    return folder
