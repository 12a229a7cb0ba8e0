"""What has changed in a folder since it was planned: images that are new, gone, or others now."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ..core.records import Planned
from ..core.text import some
from .generations import Plans

QUARTER: Final = 900 * 10**9
"""A quarter of an hour, in ns: clocks of other time zones, or in summer, differ by these."""

_GRAINS: Final = (2 * 10**9, 10**9, 10**6, 10**3, 10**2)
"""Storage cuts times to one of these, in ns; FAT to 2 s."""

_COARSE: Final = 10**9
_MANY: Final = 10


@dataclass(frozen=True)
class Changes:
    """Images that are new or changed, as they are now, and the names of those that are gone.

    ``times`` are those (ns) of images that are the same, but whose times have all shifted alike.
    """

    new: list[Planned] = field(default_factory=list)
    changed: list[Planned] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """What is new, changed and gone, with the first names: "" where nothing is."""
        groups = {
            "new": [image.image_id for image in self.new],
            "changed": [image.image_id for image in self.changed],
            "gone": self.gone,
        }
        parts = [f"{len(names)} {word} ({some(names)})" for word, names in groups.items() if names]
        return ", ".join(parts)


def compare(plans: Plans, found: Sequence[Planned]) -> Changes:
    """Compare what the job planned with what is there now."""
    now = {image.image_id: image for image in found}
    planned = {image.image_id for image in plans.current}
    changes = Changes(
        new=[image for image in found if image.image_id not in planned],
        gone=[image.image_id for image in plans.current if image.image_id not in now],
    )
    for plan, stale in zip(plans.plans, plans.stale, strict=True):
        pairs = [
            (image, now[image.image_id])
            for image in plan
            if image.image_id in now and image.image_id not in stale
        ]
        _compare(pairs, changes)
    changes.changed.sort(key=lambda image: image.image_id)
    return changes


def _compare(pairs: list[tuple[Planned, Planned]], changes: Changes) -> None:
    """Sort images of one generation, as planned and as found, into changed and the same."""
    alike = [(before, after) for before, after in pairs if before.size == after.size]
    grain = next((g for g in _GRAINS if all(after.mtime_ns % g == 0 for _, after in alike)), 1)
    shift = _shift(alike, grain)
    for before, after in pairs:
        delta = after.mtime_ns - before.mtime_ns
        if before.size != after.size or (delta and not _is_near(delta, shift, grain)):
            changes.changed.append(after)
        elif delta:
            changes.times[after.image_id] = after.mtime_ns


def _shift(alike: list[tuple[Planned, Planned]], grain: int) -> int | None:
    """What most of the times have shifted by, in ns, where that can't be chance.

    Quarters of an hour are a clock's. Any other shift must be that of several files whose times
    differ, or they may have been written again in one go.
    """
    deltas = Counter(after.mtime_ns - before.mtime_ns for before, after in alike)
    quarters: Counter[int] = Counter()
    for delta, count in deltas.items():
        quarter = round(delta / QUARTER) * QUARTER
        if _is_near(delta, quarter, grain):
            quarters[quarter] += count
    for candidates in (quarters, deltas):
        for shift, count in candidates.most_common(1):
            times = {b.mtime_ns for b, a in alike if a.mtime_ns - b.mtime_ns == shift}
            enough = _MANY if grain >= _COARSE else 2
            if 2 * count > len(alike) and (candidates is quarters or len(times) >= enough):
                return shift
    return None


def _is_near(delta: int, shift: int | None, grain: int) -> bool:
    return shift is not None and abs(delta - shift) < grain
