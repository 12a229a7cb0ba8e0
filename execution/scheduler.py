"""What is done next, and what a failure is put down to: shards, pieces and suspects, without Ray.

A shard is decoded as one piece, or as several where its files are large or memory ends a piece
early. Each piece is decoded, predicted and written by processes that may die; the backend says how
it went, and the scheduler decides what follows (the kinds of Fault):

- *died*: the process crashed, or was stopped at its time limit. The pieces that it had are
  suspects. A suspect is done again alone, in a process that has nothing else to do; where that
  one dies too, the suspect is split in halves, down to one image. An image that twice ended a
  process alone, the second time a fresh one, is rejected. That holds when another piece got through
  the stage, or none is left: until then the machine may be to blame.
- *lost*, *missing*: the machine is at fault (memory). Nobody is a suspect; the piece is done again
  after a pause, with fewer in flight.
- *gone*: the machine left (it failed, or was preempted), and did not fail the piece, which is done
  again on another. Several of its processes may find that out one after the other.
- *raised*: an EnvironmentFault is tried again after a pause; anything else, and a device too
  small for the work, is raised as it is.
"""

import logging
from collections.abc import Callable, Hashable, Iterable

from ..core.errors import EnvironmentFault
from ..core.events import report
from ..core.records import Committed, Reason, Rejection, Shard, Written
from .actor_pool import SLOW, Actor, ActorPool
from .backend import (
    Backend,
    DecodedData,
    Fault,
    Outcome,
    Policy,
    PredictedData,
    Stage,
)
from .flow import Flow
from .items import Call, OpenShard, Pace, WorkItem, describe, pieces_of, where

VERDICTS = 10
"""Images rejected one after the other, without a success between, that accuse the machine."""

UNBOUNDED = 1 << 30
"""Shards begun at a time where memory was never short."""

MOVES = 100
"""Machines, and processes of theirs, that a piece may lose before the cluster is to blame."""

TICK = 1.0
"""Seconds between two looks at the cluster while nothing happens."""


class Scheduler:
    """Moves shards through a backend until all are committed."""

    def __init__(
        self,
        backend: Backend,
        policy: Policy,
        commit: Callable[[Committed], None],
        flow: Flow | None = None,
    ):
        self._backend = backend
        self._flow = flow or Flow()
        self._policy = policy
        self._commit = commit
        self._pool = ActorPool(backend, policy)
        self._items: list[WorkItem] = []
        self._calls: dict[Hashable, Call] = {}
        self._open = 0
        self._at_most = UNBOUNDED
        self._largest = 0
        self._moved = 0.0
        self._noticed = False
        self._pace = Pace()
        # Without a success since: where they are many, none of them counts.
        self._verdicts: dict[Stage, list[tuple[OpenShard, Written]]] = {"decode": [], "predict": []}

    def run(self, shards: Iterable[Shard]) -> None:
        """Take every shard through; returns when the last is committed.

        A shard is taken from the iterator when there is room for it, not before.

        Raises EnvironmentFault where the machine keeps failing, and whatever else the work raises.
        """
        source = iter(shards)
        self._moved = self._backend.clock()
        while True:
            self._hurry()
            self._start_items()
            while self._room() and (shard := next(source, None)) is not None:
                self._open += 1
                begun = OpenShard(shard, self._backend.clock())
                self._items += [WorkItem(begun, piece) for piece in pieces_of(shard)]
                self._start_items()
            if not self._items and not self._going():
                for stage in self._verdicts:
                    self._confirm(stage)
                self._start_items()
            if not self._open:
                return
            for key, actor in self._pool.reconcile(self._suspects()):
                self._calls[key] = Call("load", None, actor, self._backend.clock())
            outcomes = self._backend.wait(list(self._calls), self._until_due())
            for key, outcome in outcomes:
                self._settle(self._calls.pop(key), outcome)
            self._report_waiting(moved=bool(outcomes))

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
        """Start an item's next stage, if there is a place for it."""
        actor: Actor | None = None
        if item.stage == "decode" and not self._decodable():
            return False
        if item.alone:
            actor = self._pool.idle(item.stage, item.last_chance)
        elif item.stage == "predict":
            actor = self._pool.free(held, self._overtaken())
        if actor is None and (item.alone or item.stage == "predict"):
            return False
        self._launch(item, actor)
        return True

    def _launch(self, item: WorkItem, actor: Actor | None) -> None:
        """Call for an item's stage, in an actor or anywhere."""
        limit = self._policy.limit(len(item.piece.images))
        seconds = self._backend.clock() - item.open.since
        if item.stage == "decode":
            key = self._backend.decode(item.piece, limit, actor and actor.key)
        elif item.stage == "predict":
            assert actor is not None
            key = self._backend.predict(item.data, limit, actor.key)
        elif item.stage == "write":
            whole = item.open.shard if item.piece == item.open.shard else None
            key = self._backend.write(item.data, whole, seconds)
        else:
            written = sorted(item.open.written, key=lambda w: w.piece.first)
            key = self._backend.commit(item.open.shard, written, seconds)
        if actor is not None:
            actor.calls += 1
            actor.used = True
            actor.alone = item.alone
        item.calls += 1
        self._calls[key] = Call(item.stage, item, actor, self._backend.clock(), item.alone)

    def _going(self) -> list[WorkItem]:
        """The items that are in flight."""
        calls = (c for c in self._calls.values() if not c.overtaken)
        return list({id(c.item): c.item for c in calls if c.item is not None}.values())

    def _hurry(self) -> None:
        """Give what takes several times what its like take to another process too, if one is free.

        The first result counts. Not what is written, and not suspects, which are told apart by the
        processes that they end.
        """
        now = self._backend.clock()
        for call in list(self._calls.values()):
            item, taken = call.item, now - call.since
            if item is None or call.overtaken or call.alone or item.doubled:
                continue
            if not self._pace.is_late(item.stage, taken):
                continue
            item.late = True
            also = item.doubled = self._launch_also(item)
            if also or (self._pace.is_late(item.stage, taken / 2) and not item.said):
                item.said = True
                usual = self._pace.usual(item.stage)
                text = f"{describe(item)} has taken {taken:.0f} s, its like about {usual:.1f} s: "
                text += "given to another process too" if also else "it is waited for"
                report(logging.WARNING, "waiting", text, **where(item))

    def _launch_also(self, item: WorkItem) -> bool:
        """Call for an item's stage once more, where there is a process for it."""
        if item.stage == "decode":
            if free := self._decodable(also=True):
                self._launch(item, None)
            return free
        late = [c.actor for c in self._calls.values() if c.item is not None and c.item.late]
        late += self._overtaken()
        if item.stage != "predict" or (actor := self._pool.free(but=late)) is None:
            return False
        self._launch(item, actor)
        return True

    def _overtaken(self) -> list[Actor | None]:
        """The actors that are still busy with what another one has done since."""
        return [call.actor for call in self._calls.values() if call.overtaken]

    def _room(self) -> bool:
        """Whether another shard may be begun."""
        waiting = {id(shard) for verdicts in self._verdicts.values() for shard, _ in verdicts}
        begun = self._open - len(waiting)
        return begun < min(self._at_most, self._backend.room().shards) and self._decodable()

    def _decodable(self, also: bool = False) -> bool:
        """Whether another piece may be decoded: its bytes, guessed by the largest, must fit.

        ``also``: one that is being decoded, a second time. Every call holds a place then, overtaken
        or not. For a piece that nobody decodes they don't: calls that never end would stop the run.
        """
        room = self._backend.room()
        going = self._going()
        decoding = sum(item.stage == "decode" for item in going)
        calls = sum(item.calls for item in going if item.stage == "decode")
        if also:
            decoding = calls = sum(call.stage == "decode" for call in self._calls.values())
        held = sum(item.size for item in going) + sum(item.size for item in self._items)
        expected = held + (calls + 1) * self._largest
        fits = expected <= room.bytes or (not held and not decoding)
        return decoding < min(self._at_most, room.decoders) and fits

    def _suspects(self) -> int:
        """How many decoders the suspects need for themselves."""
        going = sum(c.alone and c.item.stage == "decode" for c in self._calls.values() if c.item)
        waiting = sum(item.alone and item.stage == "decode" for item in self._items)
        return min(self._backend.room().decoders, going + waiting)

    def _until_due(self) -> float:
        """Seconds until something is due."""
        now = self._backend.clock()
        due = [t.after for t in self._items if t.after > now]
        due += [after for after in self._pool.due() if after > now]
        return min([TICK, *(after - now for after in due)])

    def _report_waiting(self, *, moved: bool) -> None:
        """Say, once in a while, that all waits for decode: a cluster may have no processor."""
        going = self._going()
        idle = self._backend.clock() - self._moved
        if moved:
            self._moved = self._backend.clock()
        elif idle > SLOW and going and all(item.stage == "decode" for item in going):
            self._moved = self._backend.clock()
            report(
                logging.WARNING,
                "waiting",
                f"nothing has ended for {idle:.0f} s: {describe(going[0])} waits for a free "
                "processor, or still runs",
                **where(going[0]),
            )

    def _settle(self, call: Call, outcome: Outcome) -> None:
        actor, item = call.actor, call.item
        if item is None:
            assert actor is not None
            self._started(actor, outcome)
            return
        if actor is not None:
            actor.calls -= 1
            actor.alone = False
        item.calls -= not call.overtaken
        if call.overtaken or (isinstance(outcome, Fault) and item.calls):
            if isinstance(outcome, Fault):
                self._replace(call, outcome)
            return
        self._overtake(item)
        if not isinstance(outcome, Fault) and not call.alone:
            self._pace.ended(item.stage, self._backend.clock() - call.since)
        if isinstance(outcome, Fault):
            self._failed(item, call, outcome)
        elif isinstance(outcome, DecodedData):
            room = self._backend.room()
            self._flow.decoders, self._flow.predictors = room.decoders, room.predictors
            self._flow.decoded(outcome.stop - item.piece.first, outcome.seconds)
            self._decoded(item, outcome)
        elif isinstance(outcome, PredictedData):
            images, now = len(item.piece.images), self._backend.clock()
            self._flow.predicted(images, outcome.seconds, now)
            self._advance(item, "write", outcome.data)
        elif isinstance(outcome, Committed):
            self._open -= 1
            self._at_most = min(self._at_most + 1, UNBOUNDED)
            self._commit(outcome)
        elif isinstance(outcome, Written):
            self._written(item.open, outcome)

    def _started(self, actor: Actor, outcome: Outcome) -> None:
        if actor.gone:
            return
        if isinstance(outcome, Fault):
            self._pool.failed(actor, outcome)
        else:
            self._pool.ready(actor)

    def _overtake(self, item: WorkItem) -> None:
        """The item's other calls don't count any more."""
        for other in self._calls.values():
            if other.item is item:
                other.overtaken = True
        item.calls, item.late, item.doubled, item.said = 0, False, False, False

    def _decoded(self, item: WorkItem, outcome: DecodedData) -> None:
        if outcome.stop < item.piece.stop:
            rest = item.piece.piece(outcome.stop, item.piece.stop)
            self._items.append(WorkItem(item.open, rest, suspect=item.suspect))
            item.piece = item.piece.piece(item.piece.first, outcome.stop)
        if outcome.notice and not self._noticed:  # of one image, for all that are like it
            self._noticed = True
            report(logging.WARNING, "notice", outcome.notice, **where(item))
        item.size = outcome.size
        self._largest = max(self._largest, outcome.size)
        self._advance(item, "predict", outcome.data)

    def _advance(self, item: WorkItem, stage: Stage, data: object) -> None:
        """A stage succeeded: it is above suspicion, and so is the machine."""
        self._confirm(item.stage)
        if item.alone:
            item.suspect, item.deaths = None, 0
        item.stage, item.data = stage, data
        self._items.append(item)

    def _confirm(self, stage: Stage) -> None:
        """Enter the images that were rejected in a stage: the machine is not to blame."""
        if verdicts := self._verdicts.get(stage):
            self._verdicts[stage] = []
            for shard, written in verdicts:
                self._written(shard, written)

    def _written(self, shard: OpenShard, written: Written) -> None:
        shard.written.append(written)
        if sum(len(w.piece.images) for w in shard.written) == len(shard.shard.images):
            self._items.append(WorkItem(shard, shard.shard, "commit"))

    def _replace(self, call: Call, fault: Fault) -> None:
        """Start another actor for one that a call has ended."""
        ended = fault.kind in ("died", "lost", "gone")
        if call.item is not None and call.actor is not None and ended and not call.actor.gone:
            self._pool.replace(call.actor)
            text = f"a worker ended with {describe(call.item)}, and is replaced: {fault.detail}"
            report(logging.INFO, "worker", text, reason=fault.kind, **where(call.item))

    def _failed(self, item: WorkItem, call: Call, fault: Fault) -> None:
        self._replace(call, fault)
        if fault.final:
            assert fault.error is not None
            raise fault.error
        if fault.kind == "died" and item.stage in ("decode", "predict"):
            self._suspected(item, call)
            return
        self._pause(item, fault)
        if fault.kind in ("lost", "missing"):
            self._at_most = max(1, min(self._at_most, self._open) // 2)
        if fault.kind != "raised" and item.stage != "commit":
            item.restart()
        self._items.append(item)

    def _pause(self, item: WorkItem, fault: Fault) -> None:
        """Let the machine recover. Raises EnvironmentFault where it had its chances."""
        if fault.kind == "gone":
            item.moves += 1
        else:
            item.tries += 1
        text = f"{describe(item)} failed and is tried again: {fault.error or fault.detail}"
        report(logging.WARNING, "retry", text, reason=fault.kind, **where(item))
        if item.tries >= self._policy.tries or item.moves >= MOVES:
            repair = "Free memory, or take fewer actors"
            if fault.kind == "gone":
                repair = "See why the cluster loses its machines"
            raise fault.error or EnvironmentFault(
                f"{describe(item)} failed {item.tries + item.moves} times, the last time because: "
                f"{fault.detail}. {repair}, then give the same command to go on."
            )
        item.after = self._backend.clock() + self._policy.backoff(max(1, item.tries))

    def _suspected(self, item: WorkItem, call: Call) -> None:
        """A process died that had this piece: try it alone, then its halves, then judge it."""
        stage, images = item.stage, item.piece.images
        if call.alone:
            item.deaths += 1
        if item.deaths and len(images) > 1:
            middle = item.piece.first + len(images) // 2
            bounds = ((item.piece.first, middle), (middle, item.piece.stop))
            text = f"{describe(item)} ended its worker: looking for the image in its halves"
            report(logging.WARNING, "suspect", text, **where(item))
            self._items += [
                WorkItem(item.open, item.piece.piece(*b), suspect=stage) for b in bounds
            ]
        elif item.deaths > 1:
            self._reject(item, call)
        else:
            text = f"{describe(item)} ended its worker: tried again alone"
            report(logging.WARNING, "suspect", text, **where(item))
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
        image = item.piece.images[0].image_id
        written = Written(item.piece, (), (Rejection(image, reason, detail),))
        self._verdicts[item.stage].append((item.open, written))
        if len(self._verdicts[item.stage]) >= VERDICTS:
            raise EnvironmentFault(
                f"the last {VERDICTS} images, one after the other, each {detail}: that is this "
                "machine's fault rather than theirs. Check it, then give the same command; if it "
                "is theirs after all, move them away first: they are then rejected as gone."
            )
        text = f"{image}: {reason}, {detail}"
        report(logging.WARNING, "verdict", text, reason=reason, **where(item))
