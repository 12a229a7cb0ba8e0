"""The bench's costless job goes through plan, ledger and merge as a real one does."""

from dataclasses import replace
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


def test_a_job_with_an_imitated_gpu_decodes_and_writes_as_a_real_one(
    bench: Path, tmp_path: Path
) -> None:
    import flow
    import inputs

    crops = inputs.crops(tmp_path, inputs.EXAMPLES / "photos", 5, 40, ".png")
    photos = inputs.repeated(tmp_path, crops, 12)
    spec = ClassifySpec(
        source=str(photos), output=tmp_path / "out.csv", engine="inline", device="cpu"
    )
    times = flow.Times()
    summary = run_job(flow.ImitatedJob.of(replace(spec, batch_size=4)), times)
    assert [images for _, images in times.commits] == [8, 4]
    assert (summary.scored, verify(summary.job)) == (12, [])
    assert times.steady() > 0


@pytest.mark.timeout(240)
def test_real_models_are_measured_alone_and_in_the_flow(
    bench: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import alone
    import inputs

    def in_this_process(work: alone.Work, pieces: list[alone.Shard]) -> int:
        return sum(alone.decoded(piece, work) for piece in pieces)

    monkeypatch.setattr(alone, "decode_alone", in_this_process)
    photos = inputs.crops(tmp_path, inputs.EXAMPLES / "photos", 5, 40, ".png")
    spec = ClassifySpec(
        source=str(photos),
        output=tmp_path / "out.csv",
        weights=weights,
        members=("vgg16",),
        batch_size=2,
        engine="inline",
        device="cpu",
    )
    found = alone.measure(alone.ClassifyJob.open(spec), seconds=0.0)
    assert found["decode"] == 5
    assert min(found["model"], found["flow"], found["whole"]) > 0
