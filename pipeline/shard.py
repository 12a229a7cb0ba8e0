"""Cuts the plan into shards: the units of work, of retry and of commit."""

from collections.abc import Iterator, Sequence

from .records import Planned, Shard


def shards(images: Sequence[Planned], shard_size: int, batch_size: int) -> Iterator[Shard]:
    """Yield the plan's shards, in order, each made when it is asked for.

    A shard is whole batches: ``shard_size`` images, rounded up to a multiple of ``batch_size``
    (the last shard: what is left). So batch k is the planned images [kB, (k+1)B) whatever the
    shard size, and no result depends on it.
    """
    if shard_size < 1 or batch_size < 1:
        raise ValueError(f"sizes must be at least 1: shard {shard_size}, batch {batch_size}")
    step = -(-shard_size // batch_size) * batch_size
    for number, first in enumerate(range(0, len(images), step)):
        yield Shard(number, first, tuple(images[first : first + step]))
