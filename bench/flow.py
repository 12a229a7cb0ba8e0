"""Measures how busy a GPU is kept: a whole job through Ray, with a model that imitates one.

python bench/flow.py IMAGES OUT.csv     prints JSON; run by run.py, in a process of its own

The images are read, decoded, written and committed as in any job. The model computes nothing: it
takes SECONDS for BATCH images, as eight classifiers at 40 × 40 pixels would on a fast GPU, one
batch after the other, while the process that launched it goes on. So the flow is measured where
there is no GPU.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hw1.core.classes import REFERENCE_CLASSIFIER
from hw1.core.preprocessing import Framing, Preprocessing
from hw1.core.records import Committed, Decoded, Planned, Predicted, Shard, Written
from hw1.core.spec import ClassifySpec
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.plan import shards
from hw1.jobs.progress import Meter, Progress
from hw1.jobs.run import run_job
from hw1.jobs.table import Table
from hw1.models.checkpoints import Checkpoint
from hw1.models.ensemble import Ensemble
from hw1.pipeline.classification import ClassifyWork
from hw1.pipeline.decode_pieces import decode_crops
from hw1.pipeline.find import find

BATCH, SECONDS, SIDE = 1024, 0.06, 40


class ImitatedGpu:
    """Answers after as long as a GPU would take that works off one batch after the other."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._free_at = 0.0

    def __call__(self, decoded: Decoded) -> Predicted:
        count = len(decoded.positions)
        batches = -(-count // BATCH)
        self._free_at = max(self._free_at, time.monotonic()) + batches * SECONDS
        scores = np.full((count, self._classes), 1 / self._classes, np.float32)
        time.sleep(max(0.0, self._free_at - time.monotonic()))
        arrays = (scores, np.ones(count, np.float32))
        return Predicted(decoded.piece, decoded.image_ids, arrays, decoded.rejections)


@dataclass(frozen=True)
class ImitatedWork:
    """The classifiers' work, but for the models."""

    real: ClassifyWork

    @property
    def root(self) -> Path:
        return self.real.root

    @property
    def folder(self) -> Path:
        return self.real.folder

    def sample(self) -> Decoded:
        return self.real.sample()

    def decode(self, piece: Shard) -> Decoded:
        return self.real.decode(piece)

    def load(self) -> ImitatedGpu:
        return ImitatedGpu(len(self.real.classes))

    def write(self, predicted: Predicted) -> Written:
        return self.real.write(predicted)

    def finish(self) -> None:
        self.real.finish()

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Committed:
        return self.real.commit(shard, pieces, seconds)


class ImitatedJob(ClassifyJob):
    """A classification without checkpoints."""

    @classmethod
    def of(cls, spec: ClassifySpec) -> "ImitatedJob":
        checkpoint = Checkpoint(
            *("vgg16", Path("none"), "0" * 64, Preprocessing(size=SIDE), {}, 0),
            *("vgg16", "classify", REFERENCE_CLASSIFIER),
        )
        ensemble = Ensemble(("vgg16",), (1.0,), "logits")
        return cls(spec, Table.open(spec), ensemble, (checkpoint,))

    def work(self, root: Path, folder: Path, profile: Any) -> Any:
        return ImitatedWork(super().work(root, folder, profile))


class Times(Progress):
    """When each shard was committed, and how many images it has."""

    def __init__(self) -> None:
        super().__init__(Console(stderr=True), quiet=True)
        self.commits: list[tuple[float, int]] = []

    @contextmanager
    def meter(self, planned: int, done: int) -> Iterator[Meter]:
        yield self

    def advance(self, images: int, rejected: int) -> None:
        self.commits.append((time.monotonic(), images))

    def steady(self) -> float:
        """Images a second from the first commit, which waits for Ray and the models, on."""
        (first, _), *rest = self.commits
        return sum(images for _, images in rest) / (rest[-1][0] - first)


def decode_alone(root: Path, images: Sequence[Planned], shard_size: int) -> float:
    """Images that all cores decode in a second, when that is all they do."""
    cores = len(os.sched_getaffinity(0))
    pieces = list(shards(images, shard_size, BATCH))
    decode = partial(_decoded, root=root)
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(decode, pieces[:cores]))  # each process has its imports
        began = time.monotonic()
        count = sum(pool.map(decode, pieces))
        return count / (time.monotonic() - began)


def _decoded(piece: Shard, root: Path) -> int:
    return len(decode_crops(piece, root, [Framing((SIDE, SIDE))]).positions)


def main(images: Path, output: Path) -> None:
    spec = ClassifySpec(source=str(images), output=output, device="cpu", precision="fp32")
    spec = replace(spec, batch_size=BATCH)
    found = find(str(images))
    shard_size = ImitatedJob.of(spec).shard_size(BATCH)
    before = decode_alone(found.root, found.images, shard_size)
    began = time.monotonic()
    times = Times()
    run_job(ImitatedJob.of(spec), times)
    whole = time.monotonic() - began
    after = decode_alone(found.root, found.images, shard_size)
    rates = {"flow": times.steady(), "model": BATCH / SECONDS, "decode": (before + after) / 2}
    print(json.dumps({**rates, "images": len(found.images), "whole": whole}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
