"""Conservation: each planned image stands once among the rows or the rejections."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EnvironmentFault
from ..core.records import Committed, Planned, Rejection
from ..pipeline.parts import part_digest, part_path, read_rejections
from ..pipeline.rows import format_row, join_rows, read_rows


@dataclass(frozen=True, slots=True)
class ShardAccount:
    """A committed shard, checked: the images that have a row, and those that were rejected."""

    entry: Committed
    rows: list[list[str]]
    rejections: list[Rejection]


def rejected_csv(rejections: Iterable[Rejection]) -> bytes:
    """The content of rejected.csv."""
    rows = [format_row(("image_id", "reason", "detail"))]
    rows.extend(format_row((r.image_id, r.reason, r.detail)) for r in rejections)
    return join_rows(rows)


def account_shard(job: Path, entry: Committed, plan: Sequence[Planned]) -> ShardAccount:
    """Check a shard's part against the ledger and the plan.

    Raises EnvironmentFault where the part is not what was committed, or does not account for
    each planned image once.
    """
    path = part_path(job, entry.shard)
    if part_digest(job, entry.shard) != entry.digest:
        raise EnvironmentFault(
            f"{path}: its content is not what the ledger says was written. "
            "Give the same command again: the shard will be done again"
        )
    rows = list(read_rows(path))
    rejections = list(read_rejections(job, entry.shard))
    rejected = {rejection.image_id for rejection in rejections}
    images = plan[entry.first : entry.first + entry.images]
    scored = [image.image_id for image in images if image.image_id not in rejected]
    if [row[0] for row in rows] != scored or len(rows) + len(rejections) != entry.images:
        raise EnvironmentFault(
            f"{path}: expected a row or a rejection for each of the {entry.images} planned "
            f"images from number {entry.first}, found {len(rows)} rows and {len(rejections)} "
            "rejections that do not match. Begin again with --overwrite"
        )
    return ShardAccount(entry, rows, rejections)


def account(
    job: Path, ledger: Mapping[int, Committed], plan: Sequence[Planned]
) -> Iterator[ShardAccount]:
    """All shards in the plan's order, checked, without a gap.

    Raises EnvironmentFault where planned = scored + rejected does not hold.
    """
    position = 0
    for entry in sorted(ledger.values(), key=lambda entry: entry.first):
        if entry.first != position:
            break
        yield account_shard(job, entry, plan)
        position += entry.images
    if position != len(plan):
        raise EnvironmentFault(
            f"{job}: {len(plan)} images are planned, but the ledger accounts for the first "
            f"{position} only. Give the same command again: it does the rest"
        )
