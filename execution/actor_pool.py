"""The processes that the scheduler calls by name: predictors, and decoders for suspects."""

import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from ..core.errors import EnvironmentFault
from ..core.events import report
from .backend import LATE, TIMES, Backend, Fault, Policy, Stage

QUEUE = 2
"""Calls that a predictor has at a time: one that runs, and one that waits for it."""

PATIENCE = 120.0
"""Seconds that a suspect waits for a process that starts before an idle one is replaced."""

SLOW = 60.0
"""Seconds after which a process that does not get ready is worth a message."""

REST = 60.0
"""Seconds between the tries of a place where no process could be made ready."""


@dataclass(slots=True, eq=False)
class Actor:
    """A process that has a name, and what it does."""

    key: Hashable
    stage: Stage
    since: float
    reported: float = 0.0
    ready: bool = False
    used: bool = False
    calls: int = 0
    alone: bool = False
    gone: bool = False


@dataclass(slots=True, eq=False)
class Slot:
    """A place for an actor: the one that is there, or when the next one starts.

    ``hurried``: one that took too long to start was replaced, since the last that did start.
    """

    actor: Actor | None = None
    failures: int = 0
    hurried: bool = False
    after: float = 0.0
    fault: BaseException | None = None


class ActorPool:
    """Starts, chooses and replaces actors. One that fails to get ready is tried again, later."""

    def __init__(self, backend: Backend, policy: Policy):
        self._backend = backend
        self._policy = policy
        self._slots: dict[Stage, list[Slot]] = {"predict": [], "decode": []}
        self._slowest: dict[Stage, float] = {}

    def reconcile(self, decoders: int) -> Iterator[tuple[Hashable, Actor]]:
        """Start and stop actors so that there are as many as wanted; yields the calls of new ones.

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
                if slot.actor is None and now >= slot.after:
                    key, call = self._backend.spawn(stage)
                    slot.actor = Actor(key, stage, now)
                    yield call, slot.actor
                elif slot.actor is not None and not slot.actor.ready:
                    self._report_slow(slot.actor, now)
                    self._replace_late(slot, slot.actor, now)

    def ready(self, actor: Actor) -> None:
        """Its load succeeded."""
        actor.ready = True
        slot = self._slot(actor)
        slot.failures, slot.hurried = 0, False
        seconds = self._backend.clock() - actor.since
        self._slowest[actor.stage] = max(self._slowest.get(actor.stage, 0.0), seconds)

    def failed(self, actor: Actor, fault: Fault) -> None:
        """Its load did not succeed. Raises what is neither the machine's fault nor a death."""
        if fault.final:
            assert fault.error is not None
            raise fault.error
        if fault.kind == "unfit":
            self.replace(actor)
            return
        slot = self._slot(actor)
        slot.failures += 1
        slot.fault = fault.error or EnvironmentFault(
            f"a worker that was starting to {actor.stage} ended {slot.failures} times, the last "
            f"time because: {fault.detail}. Free memory or devices, then give the same command."
        )
        more = slot.failures < self._policy.tries
        text = f"a worker did not start: {slot.fault if fault.error else fault.detail}"
        report(logging.WARNING, "worker", text, reason=fault.kind)
        self.replace(actor, self._policy.backoff(slot.failures) if more else REST)

    def replace(self, actor: Actor, pause: float = 0.0) -> None:
        """End the process, where it still lives, and start another in its place."""
        slot = self._slot(actor)
        slot.actor = None
        slot.after = self._backend.clock() + pause
        actor.gone = True
        self._backend.stop(actor.key)

    def idle(self, stage: Stage, fresh: bool) -> Actor | None:
        """A process that has nothing else to do; fresh: and has not done anything before.

        Where a fresh one is wanted and none is coming, one that is used is replaced.
        """
        idle = [w for w in self._actors(stage) if w.ready and not w.calls]
        unused = [w for w in idle if not w.used]
        if unused:
            return unused[0]
        if not fresh:
            return idle[0] if idle else None
        if idle and not any(self._promising(slot) for slot in self._slots[stage]):
            self.replace(idle[0])
        return None

    def free(self, held: int = 0, but: Sequence[Actor | None] = ()) -> Actor | None:
        """The predictor to give a piece to, with so many of the least busy kept for suspects."""
        ready = [w for w in self._actors("predict") if w.ready and not w.alone and w not in but]
        ready.sort(key=lambda w: (w.calls, w.used))
        return next((w for w in ready[held:] if w.calls < QUEUE), None)

    def due(self) -> Iterator[float]:
        """When the places without a process are due for one."""
        return (s.after for slots in self._slots.values() for s in slots if s.actor is None)

    def _promising(self, slot: Slot) -> bool:
        """Whether a process will be ready there soon."""
        if slot.failures or slot.actor is None:
            return not slot.failures
        return not slot.actor.ready and self._backend.clock() - slot.actor.since < PATIENCE

    def _report_slow(self, actor: Actor, now: float) -> None:
        """Say, once in a while, that a process does not get ready."""
        if now - max(actor.since, actor.reported) > SLOW:
            actor.reported = now
            text = (
                f"a worker to {actor.stage} is not ready after {now - actor.since:.0f} s: "
                "it waits for a free device or processor, or still loads"
            )
            report(logging.WARNING, "waiting", text)

    def _replace_late(self, slot: Slot, actor: Actor, now: float) -> None:
        """Replace, once, what takes several times as long to start as others did.

        Where a process is killed as it starts, Ray waits a minute for it.
        """
        slowest = self._slowest.get(actor.stage, 0.0)
        patience = max(LATE, TIMES * slowest)
        if slowest and now - actor.since > patience and not slot.hurried:
            slot.hurried = True
            text = (
                f"a worker to {actor.stage} is not ready after {now - actor.since:.0f} s, the "
                f"slowest was after {slowest:.1f} s: another one is started"
            )
            report(logging.WARNING, "waiting", text)
            self.replace(actor)

    def _actors(self, stage: Stage) -> list[Actor]:
        return [slot.actor for slot in self._slots[stage] if slot.actor is not None]

    def _slot(self, actor: Actor) -> Slot:
        return next(s for s in self._slots[actor.stage] if s.actor is actor)

    def _resize(self, slots: list[Slot], want: int) -> None:
        """Add places; take away those without a ready process, then those with an idle one."""
        slots.extend(Slot() for _ in range(want - len(slots)))
        spare = [s for s in slots if s.actor is None or not s.actor.calls]
        spare.sort(key=lambda s: s.actor is not None and s.actor.ready)
        for slot in spare[: max(0, len(slots) - want)]:
            if slot.actor is not None:
                self.replace(slot.actor)
            slots.remove(slot)
