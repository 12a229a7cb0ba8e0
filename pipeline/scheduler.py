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

from ..errors import EnvironmentFault
from .backend import Backend, DecodedData, Fault, Policy, Stage
from .records import Committed, Reason, Rejection, Shard, Written
from .staff import SLOW, Staff, Worker

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
class Task:
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
    """What is in flight: a task's stage, or a worker's load where there is no task."""

    task: Task | None
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
        self._staff = Staff(backend, policy, status)
        self._tasks: list[Task] = []
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
            self._start_tasks()
            while self._room() and (shard := next(source, None)) is not None:
                self._open += 1
                self._tasks.append(Task(Open(shard, self._backend.clock()), shard))
                self._start_tasks()
            if not self._open:
                return
            for key, worker in self._staff.tend(self._suspects()):
                self._calls[key] = Call(None, worker, self._backend.clock())
            outcomes = self._backend.wait(list(self._calls), self._nap())
            for key, outcome in outcomes:
                self._settle(self._calls.pop(key), outcome)
            self._remark(moved=bool(outcomes))

    def _start_tasks(self) -> None:
        """Start every task whose time and place has come, suspects first, then in plan order."""
        now = self._backend.clock()
        self._tasks.sort(key=lambda t: (not t.alone, t.stage == "decode", t.piece.first))
        held = 0
        for task in [t for t in self._tasks if now >= t.after]:
            if self._start(task, held):
                self._tasks.remove(task)
            else:
                held += task.alone and task.stage == "predict"

    def _start(self, task: Task, held: int) -> bool:
        """Start a task's next stage, if there is a place for it."""
        worker: Worker | None = None
        limit = self._policy.limit(len(task.piece.images))
        seconds = self._backend.clock() - task.open.since
        if task.stage == "decode" and not self._decodable():
            return False
        if task.alone:
            worker = self._staff.alone(task.stage, task.last_chance)
        elif task.stage == "predict":
            worker = self._staff.free(held)
        if worker is None and (task.alone or task.stage == "predict"):
            return False
        if task.stage == "decode":
            key = self._backend.decode(task.piece, limit, worker and worker.key)
        elif task.stage == "predict":
            assert worker is not None
            key = self._backend.predict(task.data, limit, worker.key)
        elif task.stage == "write":
            whole = task.open.shard if task.piece == task.open.shard else None
            key = self._backend.write(task.data, whole, seconds)
        else:
            written = sorted(task.open.written, key=lambda w: w.piece.first)
            key = self._backend.commit(task.open.shard, written, seconds)
        if worker is not None:
            worker.calls += 1
            worker.used = True
            worker.alone = task.alone
        self._calls[key] = Call(task, worker, self._backend.clock(), task.alone)
        return True

    def _room(self) -> bool:
        """Whether another shard may be begun."""
        return self._open < min(self._width, self._backend.room().shards) and self._decodable()

    def _decodable(self) -> bool:
        """Whether another piece may be decoded: its bytes, guessed by the largest, must fit."""
        room = self._backend.room()
        going = [c.task for c in self._calls.values() if c.task is not None]
        decoding = sum(task.stage == "decode" for task in going)
        held = sum(task.size for task in going) + sum(task.size for task in self._tasks)
        expected = held + (decoding + 1) * self._largest
        fits = expected <= room.bytes or (not held and not decoding)
        return decoding < min(self._width, room.decoders) and fits

    def _suspects(self) -> int:
        """How many decoders the suspects need for themselves."""
        going = sum(c.alone and c.task.stage == "decode" for c in self._calls.values() if c.task)
        waiting = sum(task.alone and task.stage == "decode" for task in self._tasks)
        return min(self._backend.room().decoders, going + waiting)

    def _nap(self) -> float:
        """Seconds until something is due."""
        now = self._backend.clock()
        due = [t.after for t in self._tasks if t.after > now]
        due += [after for after in self._staff.wakes() if after > now]
        return min([TICK, *(after - now for after in due)])

    def _remark(self, *, moved: bool) -> None:
        """Say, once in a while, that all waits for decode: a cluster may have no processor."""
        going = [call.task for call in self._calls.values() if call.task is not None]
        idle = self._backend.clock() - self._moved
        if moved:
            self._moved = self._backend.clock()
        elif idle > SLOW and going and all(task.stage == "decode" for task in going):
            self._moved = self._backend.clock()
            self._status(
                f"nothing has ended for {idle:.0f} s: {_name(going[0])} waits for a free "
                "processor, or still runs"
            )

    def _settle(self, call: Call, outcome: Any) -> None:
        worker, task = call.worker, call.task
        if task is None:
            assert worker is not None
            if worker.gone:
                return
            if isinstance(outcome, Fault):
                self._staff.failed(worker, outcome)
            else:
                self._staff.ready(worker)
            return
        if worker is not None:
            worker.calls -= 1
            worker.alone = False
        if isinstance(outcome, Fault):
            self._failed(task, call, outcome)
        elif task.stage == "decode":
            self._decoded(task, outcome)
        elif task.stage == "predict":
            self._advance(task, "write", outcome)
        elif isinstance(outcome, Committed):
            self._open -= 1
            self._width = min(self._width + 1, UNBOUNDED)
            self._commit(outcome)
        else:
            self._written(task.open, outcome)

    def _decoded(self, task: Task, outcome: DecodedData) -> None:
        if outcome.stop < task.piece.stop:
            rest = task.piece.piece(outcome.stop, task.piece.stop)
            self._tasks.append(Task(task.open, rest, suspect=task.suspect))
            task.piece = task.piece.piece(task.piece.first, outcome.stop)
        task.size = outcome.size
        self._largest = max(self._largest, outcome.size)
        self._advance(task, "predict", outcome.data)

    def _advance(self, task: Task, stage: Stage, data: Any) -> None:
        """A stage succeeded: it is above suspicion, and so is the machine."""
        self._streak[task.stage] = 0
        if task.alone:
            task.suspect, task.deaths = None, 0
        task.stage, task.data = stage, data
        self._tasks.append(task)

    def _written(self, shard: Open, written: Written) -> None:
        shard.written.append(written)
        if sum(len(w.piece.images) for w in shard.written) == len(shard.shard.images):
            self._tasks.append(Task(shard, shard.shard, "commit"))

    def _failed(self, task: Task, call: Call, fault: Fault) -> None:
        if call.worker is not None and fault.kind in ("died", "lost") and not call.worker.gone:
            self._staff.dismiss(call.worker)
        if fault.kind == "raised" and not isinstance(fault.error, EnvironmentFault):
            assert fault.error is not None
            raise fault.error
        if fault.kind == "died" and task.stage in ("decode", "predict"):
            self._suspected(task, call)
            return
        self._pause(task, fault)
        if fault.kind != "raised":
            self._width = max(1, min(self._width, self._open) // 2)
            if task.stage != "commit":
                task.restart()
        self._tasks.append(task)

    def _pause(self, task: Task, fault: Fault) -> None:
        """Let the machine recover. Raises EnvironmentFault where it had its chances."""
        task.tries += 1
        self._status(f"{_name(task)} failed and is tried again: {fault.error or fault.detail}")
        if task.tries >= self._policy.tries:
            raise fault.error or EnvironmentFault(
                f"{_name(task)} failed {task.tries} times, the last time because: {fault.detail}. "
                "Free memory, or take fewer actors, then give the same command to go on."
            )
        task.after = self._backend.clock() + self._policy.backoff(task.tries)

    def _suspected(self, task: Task, call: Call) -> None:
        """A process died that had this piece: try it alone, then its halves, then judge it."""
        stage, images = task.stage, task.piece.images
        if call.alone:
            task.deaths += 1
        if task.deaths and len(images) > 1:
            middle = task.piece.first + len(images) // 2
            bounds = ((task.piece.first, middle), (middle, task.piece.stop))
            self._status(f"{_name(task)} ended its worker: looking for the image in its halves")
            self._tasks += [Task(task.open, task.piece.piece(*b), suspect=stage) for b in bounds]
        elif task.deaths > 1:
            self._reject(task, call)
        else:
            self._status(f"{_name(task)} ended its worker: tried again alone")
            task.suspect = stage
            task.restart()
            self._tasks.append(task)

    def _reject(self, task: Task, call: Call) -> None:
        limit = self._policy.limit(1)
        late = limit is not None and self._backend.clock() - call.since >= limit
        reason: Reason = "timeout" if late else "crashed"
        if late:
            detail = f"took more than {limit:g} s, twice, alone, to {task.stage}"
        else:
            detail = f"ended its process, twice, alone, in {task.stage}"
        self._streak[task.stage] += 1
        if self._streak[task.stage] >= VERDICTS:
            raise EnvironmentFault(
                f"the last {VERDICTS} images, one after the other, each {detail}: that is this "
                "machine's fault rather than theirs. Check it, then give the same command; if it "
                "is theirs after all, move them away first: they are then rejected as gone."
            )
        image = task.piece.images[0].image_id
        self._status(f"{image}: {reason}, {detail}")
        self._written(task.open, Written(task.piece, (), (Rejection(image, reason, detail),)))


def _name(task: Task) -> str:
    """What a message calls a task: its stage and its images."""
    first, last = task.piece.images[0].image_id, task.piece.images[-1].image_id
    return f"{task.stage} of {first!r}" + (f" to {last!r}" if last != first else "")
