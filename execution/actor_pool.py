"""The processes that the scheduler calls by name: predictors, and decoders for suspects."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from ..core.errors import EnvironmentFault
from .backend import Backend, Fault, Policy, Stage

QUEUE = 2
"""Calls that a predictor has at a time: one that runs, and one that waits for it."""

PATIENCE = 120.0
"""Seconds that a suspect waits for a process that starts before another one is made fresh."""

SLOW = 60.0
"""Seconds after which a process that does not get ready is worth a message."""

REST = 60.0
"""Seconds between the tries of a place where no process could be made ready."""


@dataclass(slots=True, eq=False)
class Worker:
    """A process, and what it has."""

    key: Hashable
    stage: Stage
    since: float
    told: float = 0.0
    ready: bool = False
    used: bool = False
    calls: int = 0
    alone: bool = False
    gone: bool = False


@dataclass(slots=True, eq=False)
class Slot:
    """A place for a process: the one that is there, or when the next one starts."""

    worker: Worker | None = None
    failures: int = 0
    after: float = 0.0
    fault: BaseException | None = None


class ActorPool:
    """Starts, chooses and replaces processes. One that fails to get ready is tried again, later."""

    def __init__(self, backend: Backend, policy: Policy, status: Callable[[str], None]):
        self._backend = backend
        self._policy = policy
        self._status = status
        self._slots: dict[Stage, list[Slot]] = {"predict": [], "decode": []}

    def tend(self, decoders: int) -> Iterator[tuple[Hashable, Worker]]:
        """Bring the numbers to what is wanted; the calls of the processes that were started.

        Raises EnvironmentFault where no place can have a process.
        """
        now = self._backend.clock()
        wanted: dict[Stage, int] = {"predict": self._backend.room().predictors, "decode": decoders}
        for stage, slots in self._slots.items():
            self._resize(slots, wanted[stage])
            if slots and all(slot.failures >= self._policy.tries for slot in slots):
                fault = slots[-1].fault
                assert fault is not None
                raise fault
            for slot in slots:
                if slot.worker is None and now >= slot.after:
                    key, call = self._backend.spawn(stage)
                    slot.worker = Worker(key, stage, now)
                    yield call, slot.worker
                elif slot.worker is not None and not slot.worker.ready:
                    self._remark(slot.worker, now)

    def ready(self, worker: Worker) -> None:
        """Its load succeeded."""
        worker.ready = True
        self._slot(worker).failures = 0

    def failed(self, worker: Worker, fault: Fault) -> None:
        """Its load did not succeed. Raises what is neither the machine's fault nor a death."""
        if fault.kind == "raised" and not isinstance(fault.error, EnvironmentFault):
            assert fault.error is not None
            raise fault.error
        slot = self._slot(worker)
        slot.failures += 1
        slot.fault = fault.error or EnvironmentFault(
            f"a worker that was starting to {worker.stage} ended {slot.failures} times, the last "
            f"time because: {fault.detail}. Free memory or devices, then give the same command."
        )
        more = slot.failures < self._policy.tries
        self._status(f"a worker did not start: {slot.fault if fault.error else fault.detail}")
        self.dismiss(worker, self._policy.backoff(slot.failures) if more else REST)

    def dismiss(self, worker: Worker, pause: float = 0.0) -> None:
        """End the process, where it still lives, and start another in its place."""
        slot = self._slot(worker)
        slot.worker = None
        slot.after = self._backend.clock() + pause
        worker.gone = True
        self._backend.stop(worker.key)

    def alone(self, stage: Stage, fresh: bool) -> Worker | None:
        """A process that has nothing else to do; fresh: and has not done anything before.

        Where a fresh one is wanted and none is coming, one that is used is replaced.
        """
        idle = [w for w in self._workers(stage) if w.ready and not w.calls]
        unused = [w for w in idle if not w.used]
        if unused:
            return unused[0]
        if not fresh:
            return idle[0] if idle else None
        if idle and not any(self._hopeful(slot) for slot in self._slots[stage]):
            self.dismiss(idle[0])
        return None

    def free(self, held: int) -> Worker | None:
        """The predictor to give a piece to, with so many of the least busy kept for suspects."""
        ready = [w for w in self._workers("predict") if w.ready and not w.alone]
        ready.sort(key=lambda w: (w.calls, w.used))
        return next((w for w in ready[held:] if w.calls < QUEUE), None)

    def wakes(self) -> Iterator[float]:
        """When the places without a process are due for one."""
        return (s.after for slots in self._slots.values() for s in slots if s.worker is None)

    def _hopeful(self, slot: Slot) -> bool:
        """Whether a process will be ready there soon."""
        if slot.failures or slot.worker is None:
            return not slot.failures
        return not slot.worker.ready and self._backend.clock() - slot.worker.since < PATIENCE

    def _remark(self, worker: Worker, now: float) -> None:
        """Say, once in a while, that a process does not get ready."""
        if now - max(worker.since, worker.told) > SLOW:
            worker.told = now
            self._status(
                f"a worker to {worker.stage} is not ready after {now - worker.since:.0f} s: "
                "it waits for a free device or processor, or still loads"
            )

    def _workers(self, stage: Stage) -> list[Worker]:
        return [slot.worker for slot in self._slots[stage] if slot.worker is not None]

    def _slot(self, worker: Worker) -> Slot:
        return next(s for s in self._slots[worker.stage] if s.worker is worker)

    def _resize(self, slots: list[Slot], want: int) -> None:
        """Add places; take away those without a ready process, then those with an idle one."""
        slots.extend(Slot() for _ in range(want - len(slots)))
        spare = [s for s in slots if s.worker is None or not s.worker.calls]
        spare.sort(key=lambda s: s.worker is not None and s.worker.ready)
        for slot in spare[: max(0, len(slots) - want)]:
            if slot.worker is not None:
                self.dismiss(slot.worker)
            slots.remove(slot)
