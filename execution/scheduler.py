"""What is done next, and who is to blame: shards, pieces and suspects, without Ray.

A shard is decoded as one piece, or as several where memory ends a piece early. Each piece is
decoded, predicted and written by processes that may die; the backend says how it went, and the
scheduler decides what follows (the kinds of Fault):

- *died*: the process crashed, or was stopped at its time limit. The pieces that it had are
  suspects. A suspect is done again alone, in a process that has nothing else to do; where that
  one dies too, the suspect is split in halves, down to one image. An image that twice ended a
  process alone, the second time a fresh one, is rejected.
- *lost*, *missing*: the machine is at fault (memory, a lost node, preemption). Nobody is a
  suspect; the piece is done again after a pause, with fewer in flight.
- *raised*: an EnvironmentFault is tried again after a pause; anything else is raised as it is.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import EnvironmentFault
from ..core.records import Committed, Reason, Rejection, Shard, Written
from .actor_pool import SLOW, ActorPool, Worker
from .backend import Backend, DecodedData, Fault, Policy, Stage

VERDICTS = 10
"""Images rejected one after the other, without a success between, that accuse the machine."""

UNBOUNDED = 1 << 30
"""Shards begun at a time where memory was never short."""

TICK = 1.0
"""Seconds between two looks at the cluster while nothing happens."""


@dataclass(slots=True, eq=False)
class Open:
    """A shard that was begun and is not committed."""

    shard: Shard
    since: float
    written: list[Written] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class WorkItem:
    """A piece on its way, or a shard's commit: the stage that is next, and its record.

    ``suspect`` is the stage in which a process died that had the piece; ``deaths`` counts the
    processes that it ended alone there, ``tries`` what the machine failed.
    """

    open: Open
    piece: Shard
    stage: Stage = "decode"
    data: Any = None
    size: int = 0
    suspect: Stage | None = None
    deaths: int = 0
    tries: int = 0
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
    """What is in flight: a item's stage, or a worker's load where there is no item."""

    item: WorkItem | None
    worker: Worker | None
    since: float
    alone: bool = False


class Scheduler:
    """Moves shards through a backend until all are committed."""

    def __init__(
        self,
        backend: Backend,
        policy: Policy,
        commit: Callable[[Committed], None],
        status: Callable[[str], None],
    ):
        self._backend = backend
        self._policy = policy
        self._commit = commit
        self._status = status
        self._pool = ActorPool(backend, policy, status)
        self._items: list[WorkItem] = []
        self._calls: dict[Hashable, Call] = {}
        self._open = 0
        self._width = UNBOUNDED
        self._largest = 0
        self._moved = 0.0
        self._streak: dict[Stage, int] = {"decode": 0, "predict": 0}

    def run(self, shards: Iterable[Shard]) -> None:
        """Take every shard through; returns when the last is committed.

        A shard is taken from the iterator when there is room for it, not before.

        Raises EnvironmentFault where the machine keeps failing, and whatever else the work raises.
        """
        source = iter(shards)
        self._moved = self._backend.clock()
        while True:
            self._start_items()
            while self._room() and (shard := next(source, None)) is not None:
                self._open += 1
                self._items.append(WorkItem(Open(shard, self._backend.clock()), shard))
                self._start_items()
            if not self._open:
                return
            for key, worker in self._pool.tend(self._suspects()):
                self._calls[key] = Call(None, worker, self._backend.clock())
            outcomes = self._backend.wait(list(self._calls), self._nap())
            for key, outcome in outcomes:
                self._settle(self._calls.pop(key), outcome)
            self._remark(moved=bool(outcomes))

    def _start_items(self) -> None:
        """Start every item whose time and place has come, suspects first, then in plan order."""
        now = self._backend.clock()
        self._items.sort(key=lambda t: (not t.alone, t.stage == "decode", t.piece.first))
        held = 0
        for item in [t for t in self._items if now >= t.after]:
            if self._start(item, held):
                self._items.remove(item)
            else:
                held += item.alone and item.stage == "predict"

    def _start(self, item: WorkItem, held: int) -> bool:
        """Start a item's next stage, if there is a place for it."""
        worker: Worker | None = None
        limit = self._policy.limit(len(item.piece.images))
        seconds = self._backend.clock() - item.open.since
        if item.stage == "decode" and not self._decodable():
            return False
        if item.alone:
            worker = self._pool.alone(item.stage, item.last_chance)
        elif item.stage == "predict":
            worker = self._pool.free(held)
        if worker is None and (item.alone or item.stage == "predict"):
            return False
        if item.stage == "decode":
            key = self._backend.decode(item.piece, limit, worker and worker.key)
        elif item.stage == "predict":
            assert worker is not None
            key = self._backend.predict(item.data, limit, worker.key)
        elif item.stage == "write":
            whole = item.open.shard if item.piece == item.open.shard else None
            key = self._backend.write(item.data, whole, seconds)
        else:
            written = sorted(item.open.written, key=lambda w: w.piece.first)
            key = self._backend.commit(item.open.shard, written, seconds)
        if worker is not None:
            worker.calls += 1
            worker.used = True
            worker.alone = item.alone
        self._calls[key] = Call(item, worker, self._backend.clock(), item.alone)
        return True

    def _room(self) -> bool:
        """Whether another shard may be begun."""
        return self._open < min(self._width, self._backend.room().shards) and self._decodable()

    def _decodable(self) -> bool:
        """Whether another piece may be decoded: its bytes, guessed by the largest, must fit."""
        room = self._backend.room()
        going = [c.item for c in self._calls.values() if c.item is not None]
        decoding = sum(item.stage == "decode" for item in going)
        held = sum(item.size for item in going) + sum(item.size for item in self._items)
        expected = held + (decoding + 1) * self._largest
        fits = expected <= room.bytes or (not held and not decoding)
        return decoding < min(self._width, room.decoders) and fits

    def _suspects(self) -> int:
        """How many decoders the suspects need for themselves."""
        going = sum(c.alone and c.item.stage == "decode" for c in self._calls.values() if c.item)
        waiting = sum(item.alone and item.stage == "decode" for item in self._items)
        return min(self._backend.room().decoders, going + waiting)

    def _nap(self) -> float:
        """Seconds until something is due."""
        now = self._backend.clock()
        due = [t.after for t in self._items if t.after > now]
        due += [after for after in self._pool.wakes() if after > now]
        return min([TICK, *(after - now for after in due)])

    def _remark(self, *, moved: bool) -> None:
        """Say, once in a while, that all waits for decode: a cluster may have no processor."""
        going = [call.item for call in self._calls.values() if call.item is not None]
        idle = self._backend.clock() - self._moved
        if moved:
            self._moved = self._backend.clock()
        elif idle > SLOW and going and all(item.stage == "decode" for item in going):
            self._moved = self._backend.clock()
            self._status(
                f"nothing has ended for {idle:.0f} s: {_name(going[0])} waits for a free "
                "processor, or still runs"
            )

    def _settle(self, call: Call, outcome: Any) -> None:
        worker, item = call.worker, call.item
        if item is None:
            assert worker is not None
            if worker.gone:
                return
            if isinstance(outcome, Fault):
                self._pool.failed(worker, outcome)
            else:
                self._pool.ready(worker)
            return
        if worker is not None:
            worker.calls -= 1
            worker.alone = False
        if isinstance(outcome, Fault):
            self._failed(item, call, outcome)
        elif item.stage == "decode":
            self._decoded(item, outcome)
        elif item.stage == "predict":
            self._advance(item, "write", outcome)
        elif isinstance(outcome, Committed):
            self._open -= 1
            self._width = min(self._width + 1, UNBOUNDED)
            self._commit(outcome)
        else:
            self._written(item.open, outcome)

    def _decoded(self, item: WorkItem, outcome: DecodedData) -> None:
        if outcome.stop < item.piece.stop:
            rest = item.piece.piece(outcome.stop, item.piece.stop)
            self._items.append(WorkItem(item.open, rest, suspect=item.suspect))
            item.piece = item.piece.piece(item.piece.first, outcome.stop)
        item.size = outcome.size
        self._largest = max(self._largest, outcome.size)
        self._advance(item, "predict", outcome.data)

    def _advance(self, item: WorkItem, stage: Stage, data: Any) -> None:
        """A stage succeeded: it is above suspicion, and so is the machine."""
        self._streak[item.stage] = 0
        if item.alone:
            item.suspect, item.deaths = None, 0
        item.stage, item.data = stage, data
        self._items.append(item)

    def _written(self, shard: Open, written: Written) -> None:
        shard.written.append(written)
        if sum(len(w.piece.images) for w in shard.written) == len(shard.shard.images):
            self._items.append(WorkItem(shard, shard.shard, "commit"))

    def _failed(self, item: WorkItem, call: Call, fault: Fault) -> None:
        if call.worker is not None and fault.kind in ("died", "lost") and not call.worker.gone:
            self._pool.dismiss(call.worker)
        if fault.kind == "raised" and not isinstance(fault.error, EnvironmentFault):
            assert fault.error is not None
            raise fault.error
        if fault.kind == "died" and item.stage in ("decode", "predict"):
            self._suspected(item, call)
            return
        self._pause(item, fault)
        if fault.kind != "raised":
            self._width = max(1, min(self._width, self._open) // 2)
            if item.stage != "commit":
                item.restart()
        self._items.append(item)

    def _pause(self, item: WorkItem, fault: Fault) -> None:
        """Let the machine recover. Raises EnvironmentFault where it had its chances."""
        item.tries += 1
        self._status(f"{_name(item)} failed and is tried again: {fault.error or fault.detail}")
        if item.tries >= self._policy.tries:
            raise fault.error or EnvironmentFault(
                f"{_name(item)} failed {item.tries} times, the last time because: {fault.detail}. "
                "Free memory, or take fewer actors, then give the same command to go on."
            )
        item.after = self._backend.clock() + self._policy.backoff(item.tries)

    def _suspected(self, item: WorkItem, call: Call) -> None:
        """A process died that had this piece: try it alone, then its halves, then judge it."""
        stage, images = item.stage, item.piece.images
        if call.alone:
            item.deaths += 1
        if item.deaths and len(images) > 1:
            middle = item.piece.first + len(images) // 2
            bounds = ((item.piece.first, middle), (middle, item.piece.stop))
            self._status(f"{_name(item)} ended its worker: looking for the image in its halves")
            self._items += [
                WorkItem(item.open, item.piece.piece(*b), suspect=stage) for b in bounds
            ]
        elif item.deaths > 1:
            self._reject(item, call)
        else:
            self._status(f"{_name(item)} ended its worker: tried again alone")
            item.suspect = stage
            item.restart()
            self._items.append(item)

    def _reject(self, item: WorkItem, call: Call) -> None:
        limit = self._policy.limit(1)
        late = limit is not None and self._backend.clock() - call.since >= limit
        reason: Reason = "timeout" if late else "crashed"
        if late:
            detail = f"took more than {limit:g} s, twice, alone, to {item.stage}"
        else:
            detail = f"ended its process, twice, alone, in {item.stage}"
        self._streak[item.stage] += 1
        if self._streak[item.stage] >= VERDICTS:
            raise EnvironmentFault(
                f"the last {VERDICTS} images, one after the other, each {detail}: that is this "
                "machine's fault rather than theirs. Check it, then give the same command; if it "
                "is theirs after all, move them away first: they are then rejected as gone."
            )
        image = item.piece.images[0].image_id
        self._status(f"{image}: {reason}, {detail}")
        self._written(item.open, Written(item.piece, (), (Rejection(image, reason, detail),)))


def _name(item: WorkItem) -> str:
    """What a message calls a item: its stage and its images."""
    first, last = item.piece.images[0].image_id, item.piece.images[-1].image_id
    return f"{item.stage} of {first!r}" + (f" to {last!r}" if last != first else "")
