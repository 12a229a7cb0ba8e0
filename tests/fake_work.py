"""A Work without images or models, for the engines' tests: numbers for pixels, and calamities."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hw1.core.errors import EnvironmentFault, InputError
from hw1.core.records import (
    Committed,
    Decoded,
    Planned,
    Predicted,
    Predictor,
    Rejection,
    Shard,
    Written,
)

NODE = "HW1_TEST_NODE"
"""The variable that tells the processes of a cluster's nodes apart."""


def shards(count: int, size: int) -> list[Shard]:
    """Shards of images 0.png, 1.png, …; the last is one image shorter."""
    images = [Planned(f"{k}.png", 1, 1) for k in range(count * size - 1)]
    pieces = (tuple(images[k : k + size]) for k in range(0, len(images), size))
    return [Shard(k, k * size, piece) for k, piece in enumerate(pieces)]


@dataclass(frozen=True)
class FakeWork:
    """``acts`` says what befalls an image: a stage to one of the methods of Calamity.

    A piece ends after ``longest`` images; parts are files of ``folder``, one a shard.
    """

    folder: Path
    acts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    longest: int = 1 << 30
    load_error: str = ""

    @property
    def root(self) -> Path:
        return self.folder

    def sample(self) -> Decoded:
        pixels = np.arange(4, dtype=np.uint8).reshape(1, 4)
        piece = Shard(0, 0, (Planned("sample", 1, 1),))
        return Decoded(piece, (0,), ("sample",), (pixels,), ())

    def decode(self, piece: Shard) -> Decoded:
        piece = piece.piece(piece.first, min(piece.stop, piece.first + self.longest))
        self.befall("decode", [image.image_id for image in piece.images])
        good = [k for k in range(piece.first, piece.stop) if k % 10 != 7]
        pixels = np.array(good, np.int64).repeat(4).reshape(-1, 4).astype(np.uint8)
        bad = tuple(
            Rejection(f"{k}.png", "truncated", "a seven")
            for k in range(piece.first, piece.stop)
            if k not in good
        )
        return Decoded(piece, tuple(good), tuple(f"{k}.png" for k in good), (pixels,), bad)

    def finish(self) -> None:
        (self.folder / "finished").touch()

    def load(self) -> Predictor:
        if self.load_error == "input":
            raise InputError("vgg16.safetensors holds no vgg16")
        if self.load_error == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        return FakePredictor(self)

    def write(self, predicted: Predicted) -> Written:
        self.befall("write", predicted.image_ids)
        sums = predicted.arrays[0]
        rows = tuple(f"{name},{s}" for name, s in zip(predicted.image_ids, sums, strict=True))
        return Written(predicted.piece, rows, predicted.rejections)

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Committed:
        rows = [row for written in pieces for row in written.rows]
        bad = [r for written in pieces for r in written.rejections]
        lines = rows + [f"{r.image_id}:{r.reason}" for r in bad]
        (self.folder / f"{shard.id}.txt").write_text("\n".join(lines))
        return Committed(shard.id, shard.first, len(shard.images), len(rows), len(bad), "", seconds)

    def befall(self, stage: str, images: Sequence[str]) -> None:
        for image in images:
            when, act = self.acts.get(image, ("", ""))
            if when == stage:
                Calamity(self.folder, image).__getattribute__(act)()


@dataclass(frozen=True)
class FakePredictor:
    work: FakeWork

    def __call__(self, decoded: Decoded) -> Predicted:
        self.work.befall("predict", decoded.image_ids)
        sums = decoded.arrays[0].sum(1, dtype=np.int64)
        return Predicted(decoded.piece, decoded.image_ids, (sums,), decoded.rejections)


@dataclass(frozen=True)
class Calamity:
    """What can happen in a process."""

    folder: Path
    image: str

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def crash_once(self) -> None:
        if self.first_time():
            os._exit(9)

    def hang(self) -> None:
        time.sleep(600)

    def hang_once(self) -> None:
        if self.first_time():
            self.hang()

    def dawdle(self) -> None:
        time.sleep(0.1)

    def sign(self) -> None:
        (self.folder / f"{self.image}.sign").write_text(os.environ.get(NODE, ""))

    def fault(self) -> None:
        raise EnvironmentFault("the disk is full")

    def fault_once(self) -> None:
        if self.first_time():
            self.fault()

    def memory_once(self) -> None:
        if self.first_time():
            raise MemoryError

    def bug(self) -> None:
        raise ZeroDivisionError("a bug of ours")

    def first_time(self) -> bool:
        mark = self.folder / f"{self.image}.mark"
        seen = mark.exists()
        mark.touch()
        return not seen
