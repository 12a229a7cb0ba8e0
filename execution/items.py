"""What the scheduler keeps account of: shards begun, pieces on their way, calls in flight."""

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import TypedDict

from ..core.records import Shard, Written
from .actor_pool import Actor
from .backend import LATE, TIMES, Stage

PIECE_BYTES = 4 << 20
"""Bytes of files that take much longer to decode than a task takes to start."""

LIKE, FEW = 20, 5
"""Calls of a stage, the latest, that others are compared with, and at least so many."""


def pieces_of(shard: Shard) -> list[Shard]:
    """What a shard is begun as: one piece, or where its files are large, several.

    Each is decoded by a task of its own, so that a few shards of photographs keep many processors
    busy. They are whole batches, since a batch of which two pieces have a part is computed twice.
    """
    if not shard.together:
        return [shard]
    pieces, begin, held = [], shard.first, 0
    for position, image in enumerate(shard.images, shard.first):
        if held >= PIECE_BYTES and position % shard.together == 0:
            pieces.append(shard.piece(begin, position))
            begin, held = position, 0
        held += max(0, image.size)
    return [*pieces, shard.piece(begin, shard.stop)]


@dataclass(slots=True, eq=False)
class OpenShard:
    """A shard that was begun and is not committed."""

    shard: Shard
    since: float
    written: list[Written] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class WorkItem:
    """A piece on its way, or a shard's commit: the stage that is next, and its record.

    ``suspect`` is the stage in which a process died that had the piece; ``deaths`` counts the
    processes that it ended alone there, ``tries`` what the machine failed, ``moves`` the machines
    that it lost. ``calls`` are in flight for it: two where it was ``late`` and is ``doubled``;
    ``said``: it is late, and nothing else can do it.
    """

    open: OpenShard
    piece: Shard
    stage: Stage = "decode"
    data: object = None
    size: int = 0
    suspect: Stage | None = None
    deaths: int = 0
    tries: int = 0
    moves: int = 0
    after: float = 0.0
    calls: int = 0
    late: bool = False
    doubled: bool = False
    said: bool = False

    @property
    def alone(self) -> bool:
        """Whether the next stage is the one under suspicion."""
        return self.suspect == self.stage

    @property
    def last_chance(self) -> bool:
        """Whether the next death there makes an image guilty."""
        return self.deaths > 0 and len(self.piece.images) == 1

    def restart(self) -> None:
        """Begin again with decode."""
        self.stage, self.data, self.size = "decode", None, 0


@dataclass(slots=True, eq=False)
class Call:
    """What is in flight: an item's stage, or an actor's load where there is no item.

    ``overtaken``: another call for the item has ended, and counts; the item may be at another
    stage since.
    """

    stage: Stage
    item: WorkItem | None
    actor: Actor | None
    since: float
    alone: bool = False
    overtaken: bool = False


class Pace:
    """How long the calls of each stage take, by the latest, and which takes several times that."""

    def __init__(self) -> None:
        self._latest: dict[Stage, deque[float]] = {}

    def ended(self, stage: Stage, seconds: float) -> None:
        """A call took so long, and succeeded."""
        self._latest.setdefault(stage, deque(maxlen=LIKE)).append(seconds)

    def usual(self, stage: Stage) -> float:
        """The median of the latest, infinite where they are too few to tell."""
        latest = self._latest.get(stage, ())
        return median(latest) if len(latest) >= FEW else math.inf

    def is_late(self, stage: Stage, seconds: float) -> bool:
        """Whether a call that has taken so long takes several times what its like take."""
        return seconds > max(LATE, TIMES * self.usual(stage))


def describe(item: WorkItem) -> str:
    """What a message calls an item: its stage and its images."""
    first, last = item.piece.images[0].image_id, item.piece.images[-1].image_id
    return f"{item.stage} of {first!r}" + (f" to {last!r}" if last != first else "")


class Where(TypedDict):
    """What an event says of an item."""

    shard: int
    image: str


def where(item: WorkItem) -> Where:
    """An item's shard and first image, for ``events.report``."""
    return {"shard": item.open.shard.id, "image": item.piece.images[0].image_id}
