"""The result's rows in their order, from the parts of one generation or of several."""

import heapq
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from ..core.durable import storage
from ..core.errors import EnvironmentFault
from ..core.records import Committed, Planned, Rejection
from ..pipeline.parts import part_path
from ..pipeline.rows import format_row, join_rows
from .account import ShardAccount, account
from .folder import JobFolder
from .generations import Plans

MERGED: Final = "merged"
"""The folder, in the job's, of the parts that are being merged."""

_BLOCK: Final = 10_000  # images


@dataclass(frozen=True, slots=True)
class Whole:
    """A job as if it had been scored at once: its parts, in the order of the result."""

    folder: JobFolder
    shards: Iterator[ShardAccount]
    plan: Sequence[Planned]


@contextmanager
def whole(
    folder: JobFolder, plans: Plans, ledger: Mapping[int, Committed], scratch: Path
) -> Iterator[Whole]:
    """Check the parts, and merge them where there are several generations, below ``scratch``.

    Raises EnvironmentFault, as the shards are asked for, where planned = scored + rejected
    doesn't hold.
    """
    if len(plans.plans) == 1:
        yield Whole(folder, account(folder.path, ledger, plans.current), plans.current)
        return
    place = scratch / MERGED
    shutil.rmtree(place, ignore_errors=True)
    with storage(place):
        (place / "parts").mkdir(parents=True)
    try:
        yield Whole(JobFolder(place), _blocks(folder.path, plans, ledger, place), plans.current)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """An image's row, with its scores' bytes, or its rejection."""

    image_id: str
    row: list[str] | None
    scores: bytes
    rejection: Rejection | None

    @property
    def key(self) -> bytes:
        return os.fsencode(self.image_id)


def stale_rows(job: Path, plans: Plans, ledger: Mapping[int, Committed]) -> Iterator[list[str]]:
    """The rows that earlier generations had, and that the result has no more."""
    for number, plan in enumerate(plans.plans):
        if stale := plans.stale[number]:
            for shard in account(job, plans.entries(ledger, number), plan):
                yield from (row for row in shard.rows if row[0] in stale)


def _blocks(
    job: Path, plans: Plans, ledger: Mapping[int, Committed], place: Path
) -> Iterator[ShardAccount]:
    generations = [_outcomes(job, plans, number, ledger) for number in range(len(plans.plans))]
    first = 0
    merged = heapq.merge(*generations, key=lambda outcome: outcome.key)
    for number, block in enumerate(iter(lambda: list(islice(merged, _BLOCK)), [])):
        names = [image.image_id for image in plans.current[first : first + len(block)]]
        if names != [outcome.image_id for outcome in block]:
            raise EnvironmentFault(f"{job}: the plans and the parts differ: begin again")
        yield _write_block(place, number, first, block)
        first += len(block)
    if first != len(plans.current):
        raise EnvironmentFault(f"{job}: {len(plans.current)} images are planned, {first} accounted")


def _write_block(place: Path, number: int, first: int, block: Sequence[_Outcome]) -> ShardAccount:
    rows = [outcome.row for outcome in block if outcome.row is not None]
    rejections = [outcome.rejection for outcome in block if outcome.rejection is not None]
    scores = b"".join(outcome.scores for outcome in block)
    with storage(place):
        part_path(place, number).write_bytes(join_rows(map(format_row, rows)))
        if scores:
            part_path(place, number, ".scores").write_bytes(scores)
    entry = Committed(number, first, len(block), len(rows), len(rejections), "", 0.0)
    return ShardAccount(entry, rows, rejections)


def _outcomes(
    job: Path, plans: Plans, number: int, ledger: Mapping[int, Committed]
) -> Iterator[_Outcome]:
    """What became of a generation's images that are in the result, sorted."""
    plan, stale = plans.plans[number], plans.stale[number]
    for shard in account(job, plans.entries(ledger, number), plan):
        path = part_path(job, shard.entry.shard, ".scores")
        scores = path.read_bytes() if path.exists() else b""
        each = len(scores) // max(1, len(shard.rows))
        rejected = {rejection.image_id: rejection for rejection in shard.rejections}
        rows = iter(enumerate(shard.rows))
        for image in plan[shard.entry.first : shard.entry.first + shard.entry.images]:
            rejection = rejected.get(image.image_id)
            at, row = (0, None) if rejection else next(rows)
            if image.image_id not in stale:
                part = b"" if rejection else scores[at * each : (at + 1) * each]
                yield _Outcome(image.image_id, row, part, rejection)
