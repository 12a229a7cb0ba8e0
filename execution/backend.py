"""What the scheduler asks of the processes that do the work, and how they answer."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..core.errors import DeviceFull, EnvironmentFault
from ..core.records import Committed, Shard, Written

Stage = Literal["load", "decode", "predict", "write", "commit"]

TIMES = 4
"""How many times longer than its like a call takes that is late."""

LATE = 15.0
"""Seconds that a call, or a process's start, may take in any case."""


@dataclass(frozen=True, slots=True)
class Fault:
    """How a call failed.

    ``died``: its process died, perhaps of its input. ``lost``: its process is gone by the
    machine's fault. ``gone``: the machine itself is, another one may do it. ``missing``: its input
    is gone, its process is well. ``raised``: the work raised ``error``. ``unfit``: of an actor that
    starts, its machine may not work for this run.
    """

    kind: Literal["died", "lost", "gone", "missing", "raised", "unfit"]
    detail: str
    error: BaseException | None = None

    @property
    def final(self) -> bool:
        """Whether the same would be raised again: anything but what the machine may get over."""
        passing = isinstance(self.error, EnvironmentFault)
        return self.error is not None and (not passing or isinstance(self.error, DeviceFull))


@dataclass(frozen=True, slots=True)
class Ready:
    """An actor is ready for its stage: one that predicts has loaded the models."""


@dataclass(frozen=True, slots=True)
class DecodedData:
    """A decoded piece: ``stop`` is how far it got, ``size`` in bytes, ``seconds`` what it took.

    ``data`` is what the backend knows it by; nobody else reads it. ``notice``: see Decoded.
    """

    stop: int
    size: int
    data: object
    seconds: float = 0.0
    notice: str = ""


@dataclass(frozen=True, slots=True)
class PredictedData:
    """A predicted piece: ``data`` is what the backend knows it by, ``seconds`` what it took."""

    data: object
    seconds: float = 0.0


Outcome = Ready | DecodedData | PredictedData | Written | Committed | Fault
"""How a call ended."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the cluster, as it is now, has room for: each at least 1.

    ``predictors`` are processes that hold the models; ``decoders`` pieces decoded at a time;
    ``shards`` begun and not committed; ``bytes`` of decoded images that wait or are predicted.
    """

    predictors: int
    decoders: int
    shards: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How long to wait for what fails, and how often to try it.

    ``timeout`` is in seconds, for one image; None is no limit. ``tries`` bounds the tries of what
    the machine fails, ``pause`` (seconds) is the first wait between them, doubled each time.
    """

    timeout: float | None = None
    tries: int = 7
    pause: float = 0.5

    def limit(self, images: int) -> float | None:
        """Seconds after which a piece of so many images is stopped.

        A piece whose limit was too strict is split, not rejected: only the limit of one image
        has to be generous.
        """
        return None if self.timeout is None else self.timeout * (1 + (images - 1) / 60)

    def backoff(self, tries: int) -> float:
        """Seconds to wait after so many failed tries."""
        return float(min(30.0, self.pause * 2 ** (tries - 1)))


class Backend(Protocol):
    """The processes. A call is a key, which ``wait`` gives back with its outcome.

    Outcomes: of spawn, Ready; of decode, DecodedData; of predict, PredictedData; of write, Written,
    or Committed where a shard was given; of commit, Committed; of any, a Fault.
    """

    def spawn(self, stage: Stage) -> tuple[Hashable, Hashable]:
        """Start an actor for decode or predict: its key, and the call that gets it ready."""

    def stop(self, actor: Hashable) -> None:
        """End an actor, whatever it does."""

    def decode(self, piece: Shard, limit: float | None, actor: Hashable | None) -> Hashable:
        """Decode a piece, in any process or in the actor given, stopped after limit seconds."""

    def predict(self, data: object, limit: float | None, actor: Hashable) -> Hashable:
        """Predict a decoded piece, stopped after limit seconds."""

    def write(self, data: object, shard: Shard | None, seconds: float) -> Hashable:
        """Write a predicted piece, and where it is a whole shard, commit that."""

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Hashable:
        """Commit a shard of several pieces."""

    def wait(self, calls: Sequence[Hashable], timeout: float) -> list[tuple[Hashable, Outcome]]:
        """The outcomes that are there, after at most timeout seconds' waiting for the first."""

    def room(self) -> Room:
        """What there is room for now."""

    def clock(self) -> float:
        """Seconds, from any origin."""
