"""The engine without Ray: every step in this process, one shard after the other."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from ..core.errors import DeviceFull, EnvironmentFault
from ..core.events import report
from ..core.numerics import cores
from ..core.records import Committed, Shard, Work, Written
from .flow import Flow

P = ParamSpec("P")
T = TypeVar("T")

PAUSES = (0.5, 2.0, 5.0)
"""Seconds between the tries of a call that met a fault of the environment."""


class Inline:
    """This process, one shard after the other; ``actors`` share the cores, as Ray's would."""

    def __init__(self, actors: int = 1) -> None:
        self._actors = actors

    def run(self, work: Work, shards: Iterable[Shard], commit: Callable[[Committed], None]) -> Flow:
        """See Engine."""
        return run_inline(work, shards, commit)

    def prefer(self, device: str) -> str:
        """See Engine: torch is loaded here in any case, and knows."""
        return device

    def threads(self) -> int:
        """The cores, divided by the actors."""
        return max(1, cores() // self._actors)

    def probe(self, function: Callable[..., T], *arguments: object) -> T:
        """See Engine: the place is here."""
        return function(*arguments)


def run_inline(work: Work, shards: Iterable[Shard], commit: Callable[[Committed], None]) -> Flow:
    """Take each shard through decode, predict, write and commit, in order.

    ``commit`` is called once a shard, when its part is durable. The models are loaded once, before
    the first shard is asked for. Nothing isolates this process from an image that crashes it.

    Raises EnvironmentFault where the machine still fails after a few tries, and whatever else
    the work raises.
    """
    predictor = _retrying(work.load)
    flow = Flow()
    noticed = False
    for shard in shards:
        start = time.monotonic()
        pieces: list[Written] = []
        at = shard.first
        while at < shard.stop:
            began = time.monotonic()
            decoded = _retrying(work.decode, shard.piece(at, shard.stop))
            seen = time.monotonic()
            images = decoded.piece.stop - at
            flow.decoded(images, seen - began)
            at = decoded.piece.stop
            if decoded.notice and not noticed:  # of one image, for all that are like it
                noticed = True
                report(logging.WARNING, "notice", decoded.notice, shard=shard.id)
            predicted = _retrying(predictor, decoded)
            flow.predicted(images, time.monotonic() - seen, time.monotonic())
            pieces.append(_retrying(work.write, predicted))
        commit(_retrying(work.commit, shard, pieces, time.monotonic() - start))
    work.finish()
    return flow


def _retrying(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The call's result, after a pause for each time that it met a fault of the environment."""
    for pause in PAUSES:
        try:
            return call(*args, **kwargs)
        except DeviceFull:
            raise
        except EnvironmentFault as error:
            report(logging.WARNING, "retry", f"tried again: {error}", reason="raised")
            time.sleep(pause)
    return call(*args, **kwargs)
