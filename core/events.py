"""What happens in a job, for its log and for whoever watches: events of the logger ``hw1.job``.

Nothing is printed where no handler listens. ``jobs.log`` writes them into the job folder.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

LOGGER = logging.getLogger("hw1.job")
LOGGER.addHandler(logging.NullHandler())

START = "start"
"""The kind of event that says how far a start is, and what files begin with that say it."""

Kind = Literal[
    "begin",
    "resume",
    "start",
    "cache",
    "flow",
    "profile",
    "int8",
    "shard",
    "rejected",
    "retry",
    "suspect",
    "verdict",
    "worker",
    "machine",
    "damage",
    "folder",
    "update",
    "waiting",
    "notice",
    "refused",
    "interrupted",
    "failed",
    "done",
]


@contextmanager
def listening(handler: logging.Handler) -> Iterator[None]:
    """Give a handler all events, whatever level was asked for before."""
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)


def report(
    level: int,
    kind: Kind,
    text: str,
    *,
    shard: int | None = None,
    image: str | None = None,
    node: str | None = None,
    reason: str | None = None,
) -> None:
    """Log an event; ``level`` is one of logging's, what isn't known is left out.

    ``image`` is an image_id, ``node`` a machine's name, ``reason`` a word to search for.
    """
    known = {"shard": shard, "image": image, "node": node, "reason": reason}
    fields = {name: value for name, value in known.items() if value is not None}
    LOGGER.log(level, "%s", text, extra={"event": kind, "fields": fields})
