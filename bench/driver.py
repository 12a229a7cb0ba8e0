"""Measures a driver's memory: a whole job through Ray, with models that cost nothing.

python bench/driver.py IMAGES OUT.csv     prints JSON; run by run.py, in a process of its own
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from rich.console import Console

from hw1.core.records import Committed, Decoded, Planned, Predicted, Shard, Written
from hw1.core.spec import ClassifySpec
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.progress import Progress
from hw1.jobs.run import run_job
from hw1.jobs.table import Table
from hw1.models.ensemble import Ensemble
from hw1.pipeline.parts import commit_part

PAGE = 4096
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class CostlessWork:
    """Reads no image, holds no model, labels everything 0."""

    root: Path
    folder: Path

    def sample(self) -> Decoded:
        return self.decode(Shard(0, 0, (Planned("sample", 0, 0),)))

    def decode(self, piece: Shard) -> Decoded:
        names = tuple(planned.image_id for planned in piece.images)
        blank = np.zeros((len(names), 1, 1, 3), np.uint8)
        return Decoded(piece, tuple(range(piece.first, piece.stop)), names, (blank,), ())

    def load(self) -> "CostlessWork":
        return self

    def __call__(self, decoded: Decoded) -> Predicted:
        return Predicted(decoded.piece, decoded.image_ids, (), ())

    def write(self, predicted: Predicted) -> Written:
        rows = tuple(f"{image_id},0" for image_id in predicted.image_ids)
        return Written(predicted.piece, rows, ())

    def finish(self) -> None:
        pass

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Committed:
        return commit_part(self.folder, shard, pieces, seconds)


class CostlessJob(ClassifyJob):
    """A classification without checkpoints; plan, engine, ledger and merge are the real ones."""

    @classmethod
    def of(cls, spec: ClassifySpec) -> "CostlessJob":
        return cls(spec, Table.open(spec), Ensemble(("costless",), (1.0,), "logits"), ())

    def identity(self) -> dict[str, Any]:
        return {
            "members": {"costless": {}},
            "top_k": self.spec.top_k,
            "columns": list(self.spec.columns),
        }

    def work(self, root: Path, folder: Path, profile: object) -> Any:
        return CostlessWork(root, folder.absolute())


def resident() -> int:
    """This process's resident memory now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Sampler:
    """The peak of resident memory while the context lasts, in bytes."""

    def __enter__(self) -> "Sampler":
        self.peak = resident()
        self._stop = Event()
        self._thread = Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, resident())


def main(images: Path, output: Path) -> None:
    spec = ClassifySpec(source=str(images), output=output, device="cpu", precision="fp32")
    with Sampler() as sampler:
        summary = run_job(CostlessJob.of(spec), Progress(Console(stderr=True), quiet=True))
    print(json.dumps({"peak": sampler.peak, "scored": summary.scored}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
