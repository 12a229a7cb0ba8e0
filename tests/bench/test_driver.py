"""The bench's costless job goes through plan, ledger and merge as a real one does."""

from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from hw1.core.spec import ClassifySpec
from hw1.jobs.inspect import verify
from hw1.jobs.progress import Progress
from hw1.jobs.run import run_job


@pytest.fixture
def driver(bench: Path) -> ModuleType:
    import driver

    return driver


def test_a_job_that_costs_nothing_is_whole(driver: ModuleType, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"never read")
    output = tmp_path / "out.csv"
    spec = ClassifySpec(source=str(tmp_path), output=output, engine="inline", device="cpu")
    summary = run_job(driver.CostlessJob.of(spec), Progress(Console(stderr=True), quiet=True))
    assert summary.scored == 2
    assert output.read_text() == "image_id,label\na.png,0\nb.png,0\n"
    assert verify(summary.job) == []
