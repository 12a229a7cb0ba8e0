"""Cascades, lanes and int8 give equal bytes inline, on Ray, and when worker and job are killed."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import random_network, save_network
from PIL import Image
from rich.console import Console

from hw1.core.classes import Classes
from hw1.core.preprocessing import Preprocessing
from hw1.core.spec import ClassifySpec, JobSpec, Precision, SegmentSpec
from hw1.execution import items
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.job import Job
from hw1.jobs.progress import Meter, Progress
from hw1.jobs.run import Summary, run_job
from hw1.jobs.segment import SegmentJob
from hw1.models.checkpoints import save

WORD, FIVE = "timm:test_efficientnet", Classes(("a", "b", "c", "d", "e"))
LAND = Classes(("no", "roof", "road"), ((0, 0, 0), (200, 10, 10), (9, 9, 99)), unlabelled=0)
PRECISION: Precision = "int8" if find_spec("nncf") else "fp32"
QUIET = Progress(Console(stderr=True), quiet=True)
pytestmark = [pytest.mark.ray, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 small images of noise."""
    folder = tmp_path_factory.mktemp("in")
    random = np.random.default_rng(0)
    for index in range(70):
        pixels = random.integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


def classifiers(folder: Path, sizes: tuple[int, ...]) -> Path:
    """A folder of small networks, one for each size of input."""
    for size in sizes:
        network = random_network(WORD, len(FIVE))
        with torch.inference_mode():
            network.classifier.weight /= network(torch.rand(9, 3, 32, 32)).std()
        seen = Preprocessing(size=size)
        save(network, folder / f"{size}.safetensors", WORD, seen, {}, classes=FIVE)
    return folder


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    """One Ray for all jobs."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture(autouse=True)
def _large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin shards as pieces of a batch, or of a cascade's unit, as those of large files are."""
    monkeypatch.setattr(items, "PIECE_BYTES", 1)


def below(process: int) -> Iterator[int]:
    """The processes that descend from one, less those that end meanwhile."""
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from below(child)


class Kills(Progress):
    """Kills the worker that holds the models at the first commit, the job at the second."""

    def __init__(self) -> None:
        super().__init__(Console(stderr=True), quiet=True)
        self.commits = 0

    @contextmanager
    def meter(self, planned: int, done: int) -> Iterator[Meter]:
        yield self

    def advance(self, images: int, rejected: int) -> None:
        self.commits += 1
        if self.commits == 2:
            raise KeyboardInterrupt
        for process in below(os.getpid()):
            with suppress(OSError):  # it has ended meanwhile
                if b"_Process" in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(process, signal.SIGKILL)


def killed_and_resumed(open_job: Callable[[Any], Job], spec: JobSpec) -> tuple[Summary, Summary]:
    """The same job in one process, in larger shards, and on Ray: a worker killed, then the job."""
    inline = replace(
        spec, engine="inline", output=spec.output.with_name(f"inline-{spec.output.name}")
    )
    expected = run_job(open_job(replace(inline, shard_size=48)), QUIET)
    with pytest.raises(KeyboardInterrupt):
        run_job(open_job(spec), Kills())
    found = run_job(open_job(spec), QUIET)
    assert 0 < found.resumed < found.planned
    assert written(spec.output) == written(inline.output)
    return found, expected


def written(output: Path) -> dict[str, bytes]:
    """A table's bytes, or a folder's masks."""
    paths = output.glob("*.png") if output.is_dir() else [output]
    return {path.name if output.is_dir() else "": path.read_bytes() for path in paths}


def classify_spec(images: Path, folder: Path, **more: Any) -> ClassifySpec:
    return ClassifySpec(
        source=str(images),
        output=folder / "out.csv",
        weights=folder,
        device="cpu",
        batch_size=2,
        shard_size=16,
        columns=("confidence", "agreement"),
        **more,
    )


@pytest.mark.usefixtures("_ray")
def test_bytes_of_a_cascade_are_equal(images: Path, tmp_path: Path) -> None:
    folder = classifiers(tmp_path, (24, 32))
    spec = classify_spec(images, folder, threads=1, precision=PRECISION, cascade=0.5)
    found, expected = killed_and_resumed(ClassifyJob.open, spec)
    assert found.early == expected.early


@pytest.mark.usefixtures("_ray")
def test_bytes_of_members_that_are_computed_side_by_side_are_equal(
    images: Path, tmp_path: Path
) -> None:
    folder = classifiers(tmp_path, (24, 32, 40, 48))
    spec = classify_spec(images, folder, threads=2, precision="fp32")
    killed_and_resumed(ClassifyJob.open, spec)
    record = json.loads((folder / "out.csv.job" / "job.json").read_text())
    assert record["decides"]["profile"]["lanes"] == 2


@pytest.mark.usefixtures("_ray")
def test_bytes_of_masks_are_equal(images: Path, tmp_path: Path) -> None:
    word = "torchvision:lraspp_mobilenet_v3_large"
    model = save_network(tmp_path / "a.safetensors", word, Preprocessing(size=None), LAND)
    spec = SegmentSpec(
        source=str(images),
        output=tmp_path / "masks",
        model=str(model),
        device="cpu",
        precision=PRECISION,
        threads=1,
        shard_size=16,
    )
    killed_and_resumed(SegmentJob.open, spec)
    assert len(set(written(spec.output).values())) > 60
