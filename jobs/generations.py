"""A job's generations: the images that it was begun with, and those that updates added to it.

Each has a plan of its own, ``plan.jsonl``, ``plan-1.jsonl``, …, and, where it drops images that
are gone, their names in ``gone-1.jsonl``. The newest generation that plans an image has its row.
What an earlier one says of it is stale: it stays in the parts, and out of the result. Shards are
numbered on from one generation to the next, their batches begin again in each.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from ..core.durable import storage, write_bytes
from ..core.errors import InputError
from ..core.records import Committed, Planned, Rejection, Shard
from .plan import read_plan, shards, write_plan
from .record import Generation, JobRecord

NOT_AGAIN: Final = -1
"""The size of a stale image in a shard that is done again: its file doesn't fit, it is rejected."""


@dataclass(frozen=True)
class Plans:
    """The plans of all generations, and the images that stand in the result.

    ``stale`` holds, a generation, the planned images that a later one plans or drops. ``current``
    are the others, sorted by the bytes of image_id. ``step`` is the number of images in a shard,
    ``together`` of those that are predicted at once, which none of its pieces should part.
    """

    plans: tuple[Sequence[Planned], ...]
    stale: tuple[frozenset[str], ...]
    current: Sequence[Planned]
    step: int
    together: int

    @classmethod
    def first(cls, plan: Sequence[Planned], shard_size: int, together: int) -> Self:
        """The plan that a job is begun with."""
        step = -(-shard_size // together) * together
        return cls((plan,), (frozenset(),), plan, step, together)

    def add(self, plan: Sequence[Planned], gone: frozenset[str]) -> "Plans":
        """These plans and another generation's, which drops what is gone."""
        taken = gone | {image.image_id for image in plan}
        stale = tuple(
            old | {image.image_id for image in earlier if image.image_id in taken}
            for old, earlier in zip(self.stale, self.plans, strict=True)
        )
        current = [image for image in self.current if image.image_id not in taken]
        current.extend(plan)
        current.sort(key=lambda image: os.fsencode(image.image_id))
        return Plans((*self.plans, plan), (*stale, frozenset()), current, self.step, self.together)

    def _bases(self) -> Iterator[int]:
        """The number of each generation's first shard."""
        base = 0
        for plan in self.plans:
            yield base
            base += -(-len(plan) // self.step)

    def generation(self, shard: int) -> int:
        """The generation that a shard belongs to."""
        bases = list(self._bases())
        return max(number for number, base in enumerate(bases) if base <= shard)

    def holds(self, entry: Committed) -> bool:
        """Whether an entry of the ledger is of one of the plans' shards."""
        number = self.generation(entry.shard)
        plan, base = self.plans[number], list(self._bases())[number]
        first = (entry.shard - base) * self.step
        images = min(self.step, len(plan) - first)
        counts = entry.rows + entry.rejected
        return images > 0 and (entry.first, entry.images, counts) == (first, images, images)

    def stale_of(self, entry: Committed) -> frozenset[str]:
        """What is stale of a shard's generation."""
        return self.stale[self.generation(entry.shard)]

    def entries(self, ledger: Mapping[int, Committed], number: int) -> dict[int, Committed]:
        """The ledger's shards of one generation."""
        return {shard: entry for shard, entry in ledger.items() if self.generation(shard) == number}

    def images(self, entry: Committed) -> Sequence[Planned]:
        """The images of a shard; stale ones have no size."""
        number = self.generation(entry.shard)
        stale = self.stale[number]
        return [
            Planned(image.image_id, NOT_AGAIN, NOT_AGAIN) if image.image_id in stale else image
            for image in self.plans[number][entry.first : entry.first + entry.images]
        ]

    def shards(self, times: Mapping[str, int]) -> Iterator[Shard]:
        """All shards. ``times`` are those (ns) that images have now, where it's no change."""
        for plan, stale, base in zip(self.plans, self.stale, self._bases(), strict=True):
            for shard in shards(plan, self.step, self.together):
                images = tuple(
                    Planned(image.image_id, NOT_AGAIN, NOT_AGAIN)
                    if image.image_id in stale
                    else Planned(
                        image.image_id, image.size, times.get(image.image_id, image.mtime_ns)
                    )
                    for image in shard.images
                )
                yield replace(shard, id=base + shard.id, images=images)

    def scored(self, rejections: Sequence[Rejection]) -> Iterator[str]:
        """The images that have a row, where those of ``rejections`` have none."""
        rejected = {rejection.image_id for rejection in rejections}
        return (p.image_id for p in self.current if p.image_id not in rejected)

    def left(self, done: Mapping[int, Committed]) -> int:
        """The images of the result whose shards are not done."""
        left = 0
        for shard in self.shards({}):
            if shard.id not in done:
                stale = self.stale[self.generation(shard.id)]
                left += sum(image.image_id not in stale for image in shard.images)
        return left


def read_plans(folder: Path, record: JobRecord) -> Plans:
    """The plans of a job. Raises InputError where one is not what was written."""
    profile = record.identity["profile"]
    together = profile.get("unit") or profile["batch_size"]
    plan = read_plan(folder, record.identity["plan"])
    plans = Plans.first(plan, record.shard_size, together)
    for number, generation in enumerate(record.generations, 1):
        plan = read_plan(folder, generation.plan, f"plan-{number}.jsonl")
        plans = plans.add(plan, _read_gone(folder / f"gone-{number}.jsonl", generation.gone))
    return plans


def add_generation(
    folder: Path, plans: Plans, images: Sequence[Planned], gone: Sequence[str]
) -> tuple[Generation, Plans]:
    """Freeze what an update scores and drops; it counts when the record names it."""
    number = len(plans.plans)
    digest = write_plan(images, folder / f"plan-{number}.jsonl")
    content = "".join(f"{json.dumps(name)}\n" for name in gone).encode()
    if gone:
        write_bytes(folder / f"gone-{number}.jsonl", [content])
    generation = Generation(
        plan=digest,
        images=len(images),
        before=sum(map(len, plans.plans)),
        gone=hashlib.sha256(content).hexdigest() if gone else "",
    )
    # From the files, so that what runs now is what a resume reads.
    dropped = _read_gone(folder / f"gone-{number}.jsonl", generation.gone)
    new = read_plan(folder, digest, f"plan-{number}.jsonl")
    return generation, plans.add(new, dropped)


def _read_gone(path: Path, digest: str) -> frozenset[str]:
    if not digest:
        return frozenset()
    with storage(path):
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{path} is damaged: begin again with --overwrite")
    return frozenset(map(json.loads, content.splitlines()))
