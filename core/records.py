"""The plain data that flows through the pipeline: find → shard → decode → predict → write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

Reason = Literal[
    "not_image",
    "empty",
    "truncated",
    "too_large",
    "unreadable",
    "gone",
    "changed",
    "crashed",
    "timeout",
    "unsupported",
]

TaskKind = Literal["classify", "segment"]
"""What is made of each image: a label, or a mask."""

Count = Annotated[int, Meta(ge=0)]
"""A number of things; records that are read back are checked for it."""

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Planned:
    """An image of the plan: its name, and what it was when the plan was frozen.

    ``size`` is in bytes. Both are -1 for a line of a list whose file was not there.
    """

    image_id: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """An image that gets no prediction, for its own fault, and why."""

    image_id: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Shard:
    """A contiguous run of the plan: the unit of work, of retry and of commit.

    ``first`` is the position in the plan of ``images[0]``. A piece of a shard is a Shard with
    the same id and fewer images. ``together`` images are predicted at once, 0 where it isn't known.
    """

    id: int
    first: int
    images: tuple[Planned, ...]
    together: int = 0

    @property
    def stop(self) -> int:
        """The position in the plan after the last image."""
        return self.first + len(self.images)

    def piece(self, first: int, stop: int) -> "Shard":
        """The part of the shard at positions first to stop - 1 of the plan."""
        images = self.images[first - self.first : stop - self.first]
        return Shard(self.id, first, images, self.together)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The images of a piece as pixels.

    ``piece`` is what was looked at: its beginning where memory ended it early, never empty.
    ``positions`` are the positions in the plan of the images that could be decoded, and
    ``image_ids`` their names. ``arrays`` holds, for classification, one uint8 (n, H, W, 3) array
    a distinct framing; for segmentation, one uint8 (H, W, 3) RGB array an image. ``notice`` is
    what a person should know of one of them, in words.
    """

    piece: Shard
    positions: tuple[int, ...]
    image_ids: tuple[str, ...]
    arrays: tuple[UInt8, ...]
    rejections: tuple[Rejection, ...]
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the models say of the images of a piece.

    ``arrays`` holds, for classification, one float32 (n, classes) array of probabilities, one
    float32 (n,) of agreement and, of a cascade, one bool (n,) of whether the first member decided
    alone; for segmentation, one uint8 (H, W) array of classes an image, and
    after these the images themselves where an overlay is asked for.
    """

    piece: Shard
    image_ids: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A piece's outcome, small enough to travel through the driver.

    ``rows`` are lines of the shard's part without the line end: of the CSV for classification,
    ``image_id,sha256`` for masks. ``scores`` is float32 (n, classes) where a
    scores file is asked for.
    ``files`` are lines that say what each mask's file was when it was written: see
    ``parts.FileStamps``. ``early`` counts the rows that a cascade's first member decided alone.
    """

    piece: Shard
    rows: tuple[str, ...]
    rejections: tuple[Rejection, ...]
    scores: Float32 | None = None
    files: tuple[str, ...] = ()
    early: Count = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """A shard whose part lies on the disk, fsynced: what its line of the ledger says.

    ``digest`` is the SHA-256, in hexadecimal, of the part's bytes. ``early``: see Written.
    """

    shard: Count
    first: Count
    images: Count
    rows: Count
    rejected: Count
    digest: str
    seconds: Annotated[float, Meta(ge=0)]
    early: Count = 0


class Predictor(Protocol):
    """The models, loaded: what an actor holds."""

    def __call__(self, decoded: Decoded) -> Predicted:
        """Predict the images of a piece."""


class Work(Protocol):
    """What is done to each shard, the same under every engine. Picklable and small.

    The engine calls these in order, each perhaps in another process, on another machine.
    """

    @property
    def root(self) -> Path:
        """The folder that the images' names are relative to."""

    @property
    def folder(self) -> Path:
        """The job's folder, where the parts are written."""

    def sample(self) -> Decoded:
        """A made-up piece, always the same, that shows whether two predictors are alike."""

    def decode(self, piece: Shard) -> Decoded:
        """Read and decode the piece's images, or its beginning where memory bounds it.

        Raises EnvironmentFault where the machine, not an image, is at fault.
        """

    def load(self) -> Predictor:
        """Load the models; called once in each actor.

        Raises InputError for a bad checkpoint, EnvironmentFault where this machine does not
        meet the job's numerics profile.
        """

    def finish(self) -> None:
        """Leave what lets later jobs start faster; once, where the models are, after the shards."""

    def write(self, predicted: Predicted) -> Written:
        """Write what a piece's images give each for themselves (masks); make the part's rows."""

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Committed:
        """Write the shard's part, durably, from the outcomes of pieces that cover it."""
