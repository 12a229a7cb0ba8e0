"""Chooses the engine that a job runs on: Ray, or this process."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from ..errors import InputError
from ..pipeline.numerics import cores, resolve_device
from ..pipeline.records import Committed, Shard, Work
from .spec import JobSpec

if TYPE_CHECKING:
    from ..pipeline.engine import RayEngine

T = TypeVar("T")


class Engine(Protocol):
    """Moves shards through a Work."""

    def run(self, work: Work, shards: Iterable[Shard], commit: Callable[[Committed], None]) -> None:
        """Take each shard through the work's steps; ``commit`` is called once for each."""

    def prefer(self, device: str) -> str:
        """The device where ``auto`` is asked for, as far as the engine knows it."""

    def threads(self) -> int:
        """The threads of an actor on a CPU, where none are asked for."""

    def probe(self, function: Callable[..., T], *arguments: object) -> T:
        """The function's result in a place like those where the models will run."""


class Inline:
    """This process, one shard after the other; ``actors`` share the cores, as Ray's would."""

    def __init__(self, actors: int = 1) -> None:
        self._actors = actors

    def run(self, work: Work, shards: Iterable[Shard], commit: Callable[[Committed], None]) -> None:
        """See Engine."""
        from ..pipeline.inline import run_inline

        run_inline(work, shards, commit)

    def prefer(self, device: str) -> str:
        """See Engine: torch is loaded here in any case, and knows."""
        return device

    def threads(self) -> int:
        """The cores, divided by the actors."""
        return max(1, cores() // self._actors)

    def probe(self, function: Callable[..., T], *arguments: object) -> T:
        """See Engine: the place is here."""
        return function(*arguments)


class OnRay:
    """Ray: processes on this machine, or on a cluster's."""

    def __init__(self, engine: "RayEngine") -> None:
        self._engine = engine

    def run(self, work: Work, shards: Iterable[Shard], commit: Callable[[Committed], None]) -> None:
        """See Engine."""
        self._engine.run(work, shards, commit)

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
def start(spec: JobSpec) -> Iterator[Engine]:
    """The engine that the job asks for, started; stopped when the context ends."""
    refuse_ray_options(spec)
    if spec.engine == "inline":
        yield Inline()
        return
    from ..pipeline.engine import RayEngine, RayOptions

    options = RayOptions(
        address=spec.address,
        actors=spec.actors,
        device=resolve_device(spec.device) if spec.address is None else spec.device,
        threads=spec.threads,
        # Ray would count the machine's, whatever part of it this process may use.
        processors=cores(),
        modules=("torch", "hw1.pipeline.models.registry"),
    )
    if spec.timeout is not None:
        options = replace(options, timeout=spec.timeout)
    with RayEngine(options, _say) as engine:
        yield OnRay(engine)


def _say(text: str) -> None:
    """Tell the person what went wrong and is being tried again, or takes long."""
    click.echo(f"hw1: {text}", err=True)  # print would take stdout where stderr is closed


def refuse_ray_options(spec: JobSpec) -> None:
    """Raise InputError for options of Ray's without Ray: they would do nothing."""
    for name in ("actors", "address", "timeout"):
        if spec.engine == "inline" and getattr(spec, name) is not None:
            raise InputError(f"--{name} needs --engine ray: inline has no workers")
