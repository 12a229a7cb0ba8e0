"""What the scheduler keeps account of: shards begun, pieces on their way, calls in flight."""

from dataclasses import dataclass, field
from typing import TypedDict

from ..core.records import Shard, Written
from .actor_pool import Actor
from .backend import Stage


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
    that it lost.
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
    """What is in flight: an item's stage, or a actor's load where there is no item."""

    item: WorkItem | None
    actor: Actor | None
    since: float
    alone: bool = False


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
