"""How many processes a run has on a cluster, and where each goes."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .backend import Room

BYTES = 1 << 30
"""Decoded images in flight for each predictor, in bytes, where the object store is large."""

LOOK = 5.0
"""Seconds between two looks at what the cluster has."""

AVOIDED = 60.0
"""Seconds for which a machine that failed comes last."""

HERE = "here"
"""The address of the Ray that runs in this process already."""

Node = Mapping[str, Any]
"""A machine of the cluster that lives, as ray.nodes() describes it: NodeID, Resources."""


@dataclass(frozen=True)
class RayOptions:
    """How the work is spread.

    ``address``: a running Ray cluster, or HERE; None starts Ray on this machine for the run.
    ``actors``: processes that hold the models; None is one for each GPU on cuda, one for each
    machine on cpu, as many as there are at the time. ``device``: cpu, cuda, or auto, which is
    settled when Ray has started. ``threads``: of an actor on cpu; None divides a machine's
    processors by its actors. ``timeout``: seconds that one image may take to decode, or to
    predict. ``processors``: of the Ray that is started here; None is what Ray finds. ``tries`` and
    ``pause`` (seconds, doubled each time): for what the machine fails. ``modules``: imported by
    the actors while the job is still being planned.
    """

    address: str | None = None
    actors: int | None = None
    device: str = "cpu"
    threads: int | None = None
    timeout: float | None = 600.0
    processors: int | None = None
    tries: int = 7
    pause: float = 0.5
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resources:
    """What a cluster has: ``smallest`` is the fewest processors of a machine, ``store`` bytes."""

    machines: int
    processors: int
    gpus: int
    smallest: int
    store: int


class Placement:
    """The numbers, renewed as machines come and go. Where ``nodes`` knows none they stay."""

    def __init__(self, options: RayOptions, nodes: Callable[[], Sequence[Node]]):
        self._options = options
        self._nodes = nodes
        self._looked = -math.inf
        self._found: list[Node] = []
        self._avoided: dict[str, float] = {}

    def resources(self) -> Resources:
        """What the cluster has, as of a few seconds ago. A machine counts if it has processors."""
        machines = [node["Resources"] for node in self._machines()]
        return Resources(
            machines=len(machines),
            processors=sum(int(m["CPU"]) for m in machines),
            gpus=sum(int(node["Resources"].get("GPU", 0)) for node in self._found),
            smallest=min((int(m["CPU"]) for m in machines), default=1),
            store=sum(int(m.get("object_store_memory", 0)) for m in machines),
        )

    def room(self) -> Room:
        """What there is room for."""
        found = self.resources()
        places = found.gpus if self._options.device == "cuda" else found.machines
        predictors = max(1, self._options.actors or places)
        decoders = max(1, found.processors)
        return Room(
            predictors=predictors,
            decoders=decoders,
            shards=3 * predictors + decoders,
            bytes=max(1, min(found.store // 2, BYTES * predictors)),
        )

    def threads(self) -> int:
        """Threads of an actor, the same for all."""
        found = self.resources()
        share = math.ceil(self.room().predictors / max(1, found.machines))
        return self._options.threads or max(1, found.smallest // share)

    def gpus(self) -> float:
        """GPUs that a predictor holds: a part of one where there are more predictors than GPUs.

        So many fit on each of the GPUs; none lies on two. Ray counts in ten thousandths.
        """
        if self._options.device != "cuda":
            return 0.0
        predictors = math.ceil(self.room().predictors / max(1, self.resources().gpus))
        return math.floor(1e4 / predictors) / 1e4

    def home(self, taken: Iterable[str | None]) -> str | None:
        """The machine for the next process: where the fewest of these are, and none just failed."""
        there = Counter(taken)
        machines: list[str] = [node["NodeID"] for node in self._machines()]
        return min(machines, key=lambda name: (self._failed(name), there[name]), default=None)

    def spread(self, taken: Iterable[str | None]) -> str | None:
        """The machine for the next task: with the fewest a processor, and it didn't just fail."""
        there = Counter(taken)
        rates = {n["NodeID"]: there[n["NodeID"]] / n["Resources"]["CPU"] for n in self._machines()}
        return min(rates, key=lambda name: (self._failed(name), rates[name], name), default=None)

    def names(self) -> list[str]:
        """The machines that there are, those without processors too."""
        self._machines()
        return [node["NodeID"] for node in self._found]

    def look_again(self) -> None:
        """Forget what was found: it has changed."""
        self._found, self._looked = list(self._nodes()), time.monotonic()

    def avoid(self, machine: str) -> None:
        """Prefer others for a while: this one is about to leave, or has gone unnoticed so far."""
        self._avoided[machine] = time.monotonic()

    def _failed(self, machine: str) -> bool:
        """Whether it is avoided."""
        return self._avoided.get(machine, -math.inf) > time.monotonic() - AVOIDED

    def _machines(self) -> list[Node]:
        if time.monotonic() - self._looked > LOOK:
            self._found = list(self._nodes()) or self._found
            self._looked = time.monotonic()
        return [node for node in self._found if node["Resources"].get("CPU", 0) >= 1]
