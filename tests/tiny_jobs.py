"""Jobs on tiny grey images, with fake models, in this process."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fakes import FakeClassifyJob, FakeSegmentJob, Hook, label_of, nothing
from hw1.core.records import Decoded
from hw1.core.spec import ClassifySpec, SegmentSpec
from hw1.jobs.job import Summary
from hw1.jobs.progress import Progress
from hw1.jobs.run import run_job

COUNT = 23


def spec_of(images: Path, **changes: object) -> ClassifySpec:
    made = ClassifySpec(
        source=str(images),
        output=images.parent / "out.csv",
        engine="inline",
        device="cpu",
        batch_size=2,
        shard_size=4,
    )
    return replace(made, **changes)


def run(spec: ClassifySpec, hook: Hook = nothing) -> Summary:
    return run_job(FakeClassifyJob.of(spec, hook), Progress(Console(stderr=True), quiet=True))


def segment(spec: SegmentSpec, hook: Hook = nothing) -> Summary:
    return run_job(FakeSegmentJob.of(spec, hook), Progress(Console(stderr=True), quiet=True))


def at_position(position: int, act: Callable[[], None]) -> Hook:
    def hook(decoded: Decoded) -> None:
        if decoded.piece.first <= position < decoded.piece.stop:
            act()

    return hook


def change_record(job: Path, **changes: object) -> None:
    """Change job.json by hand; None takes a key away."""
    path = job / "job.json"
    (job / "begun.json").unlink(missing_ok=True)
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


def interrupt() -> None:
    raise KeyboardInterrupt


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


def expected() -> list[list[str]]:
    rows = [[f"{index:02d}.png", str(label_of(index * 10))] for index in range(COUNT)]
    return [["image_id", "label"], *rows]


def masks_of(images: Path, **changes: object) -> SegmentSpec:
    made = SegmentSpec(
        source=str(images),
        output=images.parent / "masks",
        engine="inline",
        device="cpu",
        shard_size=4,
    )
    return replace(made, **changes)
