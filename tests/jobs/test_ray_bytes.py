"""Cascades and int8 give equal bytes inline, through Ray, and when worker and job are killed."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_network
from PIL import Image
from rich.console import Console

from hw1.core.classes import Classes
from hw1.core.preprocessing import Preprocessing
from hw1.core.spec import ClassifySpec, Precision
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.progress import Meter, Progress
from hw1.jobs.run import run_job
from hw1.models.checkpoints import save

WORD, FIVE = "timm:test_efficientnet", Classes(("a", "b", "c", "d", "e"))
pytestmark = [pytest.mark.ray, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ClassifySpec:
    """A job of 70 images and two networks."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "in").mkdir()
    random = np.random.default_rng(0)
    for index in range(70):
        pixels = random.integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "in" / f"{index:02}.png")
    for size in (24, 32):
        network = random_network(WORD, len(FIVE))
        with torch.inference_mode():
            network.classifier.weight /= network(torch.rand(9, 3, 32, 32)).std()
        seen = Preprocessing(size=size)
        save(network, folder / f"{size}.safetensors", WORD, seen, {}, classes=FIVE)
    return ClassifySpec(
        source=str(folder / "in"),
        output=folder / "expected.csv",
        weights=folder,
        device="cpu",
        threads=1,
        batch_size=2,
        shard_size=16,
        columns=("confidence", "agreement"),
        engine="inline",
    )


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    """One Ray for all jobs."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


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


@pytest.mark.usefixtures("_ray")
def test_bytes_of_a_cascade_are_equal_in_int8_where_that_is_there(spec: ClassifySpec) -> None:
    precision: Precision = "int8" if find_spec("nncf") else "fp32"
    spec = replace(spec, precision=precision, cascade=0.5)
    folder = spec.output.parent
    quiet = Progress(Console(stderr=True), quiet=True)
    expected = run_job(
        ClassifyJob.open(replace(spec, output=folder / "inline.csv", shard_size=48)), quiet
    )
    on_ray = replace(spec, engine="ray", output=folder / "ray.csv")
    with pytest.raises(KeyboardInterrupt):
        run_job(ClassifyJob.open(on_ray), Kills())
    found = run_job(ClassifyJob.open(on_ray), quiet)
    assert 0 < found.resumed < found.planned
    assert found.early == expected.early
    assert on_ray.output.read_bytes() == (folder / "inline.csv").read_bytes()
