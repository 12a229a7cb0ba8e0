"""Chooses the engine that a job runs on: Ray, or this process."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from ..core.errors import InputError
from ..core.numerics import cores, resolve_device
from ..core.records import Committed, Shard, Work
from .flow import Flow
from .inline import Inline
from .worker import share_cores

if TYPE_CHECKING:
    from .ray_engine import RayEngine

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Where shards are moved: on Ray, or in this process. None: the engine chooses.

    The last four are Ray's (see ``placement.RayOptions``); ``timeout`` is in seconds an image.
    Raises InputError where they are given without Ray: they would do nothing.
    """

    engine: Literal["ray", "inline"] = "ray"
    device: str = "auto"
    threads: int | None = None
    actors: int | None = None
    address: str | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("actors", "address", "timeout"):
            if self.engine == "inline" and getattr(self, name) is not None:
                raise InputError(f"--{name} needs --engine ray: inline has no workers")


class Engine(Protocol):
    """Moves shards through a Work."""

    def run(self, work: Work, shards: Iterable[Shard], commit: Callable[[Committed], None]) -> Flow:
        """Take each shard through the work's steps; ``commit`` is called once for each.

        Returns what the steps took.
        """

    def prefer(self, device: str) -> str:
        """The device where ``auto`` is asked for, as far as the engine knows it."""

    def threads(self) -> int:
        """The threads of an actor on a CPU, where none are asked for."""

    def probe(self, function: Callable[..., T], *arguments: object) -> T:
        """The function's result in a place like those where the models will run."""


class OnRay:
    """Ray: processes on this machine, or on a cluster's."""

    def __init__(self, engine: "RayEngine") -> None:
        self._engine = engine

    def run(self, work: Work, shards: Iterable[Shard], commit: Callable[[Committed], None]) -> Flow:
        """See Engine."""
        return self._engine.run(work, shards, commit)

    def prefer(self, device: str) -> str:
        """See Engine: what was decided when Ray had started."""
        return self._engine.options.device

    def threads(self) -> int:
        """The cores of a machine, divided by its actors."""
        return self._engine.threads

    def probe(self, function: Callable[..., T], *arguments: object) -> T:
        """See Engine: on this machine that's here, in a cluster a process beside the models'."""
        if self._engine.options.address is None:
            return function(*arguments)
        return self._engine.probe(function, *arguments)


@contextmanager
def start(options: EngineOptions) -> Iterator[Engine]:
    """The engine that is asked for, started; stopped when the context ends."""
    if options.engine == "inline":
        share_cores()
        yield Inline()
        return
    from .ray_engine import HERE, RayEngine, RayOptions, runs_here

    # A notebook's own is used, as a cluster is: it may be one.
    address = HERE if options.address is None and runs_here() else options.address
    here = address is None
    ray = RayOptions(
        address=address,
        actors=options.actors,
        device=resolve_device(options.device) if here else options.device,
        threads=options.threads,
        timeout=options.timeout or RayOptions.timeout,
        # Ray would count the machine's, whatever part of it this process may use.
        processors=cores(),
        modules=("torch", "hw1.models.registry"),
    )
    with RayEngine(ray) as engine:
        yield OnRay(engine)
