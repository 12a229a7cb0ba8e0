"""Scores some images of a finished job again, and says what that proves of all of them."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.numerics import Profile
from ..core.records import Planned, Predicted, Predictor, Shard, TaskKind, UInt8, Work
from ..core.spec import ClassifySpec, SegmentSpec
from ..models.checkpoints import Checkpoint, read_checkpoint
from ..models.ensemble import Ensemble
from ..models.store import Store
from ..pipeline.classification import ClassifyWork
from ..pipeline.rows import parse_row
from ..pipeline.segmentation import SegmentWork, encode_mask
from .account import ShardAccount, account
from .changes import compare
from .folder import JobFolder
from .generations import Plans, read_plans
from .identity import of_checkpoint
from .int8 import kept
from .profile import recorded_profile
from .record import JobRecord

CONFIDENCE = 0.95


@dataclass(slots=True)
class Sampled:
    """What scoring again gave: of ``scored`` rows of the result so many were ``compared``.

    ``differ`` are the images whose row (or mask) is another now, ``lost`` those of the sample that
    can't be scored again: they are gone, or others than when they were planned.
    """

    scored: int
    compared: int
    differ: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def at_most(self) -> float | None:
        """The share of all rows that may differ, 0 to 1, at CONFIDENCE; None where some do.

        That of Clopper and Pearson (1934), one-sided, for none of n: 1 - 0.05^(1/n), about 3/n (the
        rule of three). Where all rows were scored again, 0.
        """
        if self.differ or not self.compared:
            return None
        if self.compared == self.scored:
            return 0.0
        return float(1 - (1 - CONFIDENCE) ** (1 / self.compared))

    def text(self) -> str:
        """What was found, in words."""
        same = self.compared - len(self.differ)
        text = f"{same} of {self.compared} equal"
        if self.at_most is not None and self.compared < self.scored:
            share = f"{100 * self.at_most:.2g} %"
            text += f": at most {share} of rows differ, {100 * CONFIDENCE:g} %"
        if self.lost:
            text += f"; {len(self.lost)} more are gone or changed since, and were not compared"
        return text


@dataclass(frozen=True, slots=True)
class _Drawn:
    """An image of the sample: its row, and the piece that it's scored in, often itself alone.

    ``scored`` are the images of the piece that had a row.
    """

    row: list[str]
    piece: Shard
    scored: frozenset[str]


def sample(job: Path, count: int, seed: int = 0, weights: Path | None = None) -> Sampled:
    """Score ``count`` random images of a job that is done again, in this process.

    The files must be as planned (size and time), the checkpoints those whose digests are recorded,
    and this machine able to meet the job's numerics profile. ``weights`` is the folder that they
    lie in, or the one file; None: what hw1 ships. Each image takes the place in a batch that it
    had, on which its bytes may depend; the batch's other places are blank. Where its place depends
    on other images, as in a cascade, these are scored too: all must be as planned.

    Raises InputError for other checkpoints, EnvironmentFault where the profile isn't met.
    """
    folder = JobFolder(job)
    record = folder.read()
    plans = read_plans(job, record)
    profile = recorded_profile(record.identity)
    drawn = list(_draw(folder, plans, count, seed, together(record.task, profile)))
    found, times = _as_planned(Path(record.root), drawn, plans)
    work = _work(record, folder, weights) if found else None
    predict = work.load() if work else None
    sampled = Sampled(len(plans.current) - _rejected(record), 0)
    for each in drawn:
        row = None
        if each in found and work and predict:
            row = _row(work, predict, each, times)
        if row is None:
            sampled.lost.append(each.row[0])
            continue
        sampled.compared += 1
        if row != each.row:
            sampled.differ.append(each.row[0])
    if not sampled.compared:
        raise InputError(
            f"{record.root}: none of {len(drawn)} images drawn is there as it was planned, so none "
            "can be scored again: bring the folder back, or draw more"
        )
    return sampled


def together(task: TaskKind, profile: Profile) -> int:
    """Of how many images, from a multiple on, the bytes of one may depend on the others: often 1.

    A cascade packs the undecided; masks of images of one size come of one forward pass.
    """
    return profile.unit or (profile.batch_size if task == "segment" else 1)


def _rejected(record: JobRecord) -> int:
    return record.counts.rejected if isinstance(record.counts.rejected, int) else 0


def _draw(
    folder: JobFolder, plans: Plans, count: int, seed: int, together: int = 1
) -> Iterator[_Drawn]:
    """Rows of the result at random, in the order of the plans."""
    ledger = folder.committed()

    def rows() -> Iterator[tuple[int, ShardAccount, list[str]]]:
        for number, plan in enumerate(plans.plans):
            for shard in account(folder.path, plans.entries(ledger, number), plan):
                for row in shard.rows:
                    if row[0] not in plans.stale[number]:
                        yield number, shard, row

    total = sum(1 for _ in rows())
    chosen = set(random.Random(seed).sample(range(total), min(count, total)))
    for place, (number, shard, row) in enumerate(rows()):
        if place not in chosen:
            continue
        plan, entry = plans.plans[number], shard.entry
        images = plan[entry.first : entry.first + entry.images]
        at = entry.first + [image.image_id for image in images].index(row[0])
        first = at // together * together
        piece = Shard(0, first, tuple(plan[first : first + together]))
        names = {image.image_id for image in piece.images}
        yield _Drawn(row, piece, frozenset(r[0] for r in shard.rows if r[0] in names))


def _as_planned(
    root: Path, drawn: list[_Drawn], plans: Plans
) -> tuple[list[_Drawn], Mapping[str, int]]:
    """Those whose files are as they were planned, and times where all have shifted alike."""
    there: dict[str, Planned] = {}
    for name in dict.fromkeys(name for each in drawn for name in sorted(each.scored)):
        try:
            status = (root / name).stat()
        except OSError:
            continue
        there[name] = Planned(name, status.st_size, status.st_mtime_ns)
    changes = compare(plans, list(there.values()))
    current = {image.image_id for image in plans.current}
    same = (there.keys() & current) - {image.image_id for image in changes.changed}
    return [each for each in drawn if each.scored <= same], changes.times


def _row(
    work: Work, predict: Predictor, drawn: _Drawn, times: Mapping[str, int]
) -> list[str] | None:
    """The image's row, without anything written; what it is rejected for instead.

    None where other images of its piece are read now than were then.
    """
    name = drawn.row[0]
    images = (replace(i, mtime_ns=times.get(i.image_id, i.mtime_ns)) for i in drawn.piece.images)
    whole = replace(drawn.piece, images=tuple(images))
    row: list[str] | None = None
    read: set[str] = set()
    at = whole.first
    while at < whole.stop:  # large images come in several pieces
        decoded = work.decode(whole.piece(at, whole.stop))
        at = decoded.piece.stop
        read.update(decoded.image_ids)
        if name in {image.image_id for image in decoded.piece.images}:
            row = _row_of(work, predict(decoded), name)
    return row if len(row or ()) == 1 or read == drawn.scored else None


def _row_of(work: Work, predicted: Predicted, name: str) -> list[str]:
    """An image's row; its reason alone where it is rejected."""
    if rejected := [each for each in predicted.rejections if each.image_id == name]:
        return [rejected[0].reason]
    at = predicted.image_ids.index(name)
    if isinstance(work, SegmentWork):
        return [name, _digest(work, predicted.arrays[at])]
    return parse_row(work.write(predicted).rows[at])


def _digest(work: SegmentWork, mask: UInt8) -> str:
    png = encode_mask(mask, work.spec.mask_format, work.checkpoint.classes)
    return hashlib.sha256(png).hexdigest()


def _work(record: JobRecord, folder: JobFolder, weights: Path | None) -> Work:
    """What was done to each shard, as it is recorded."""
    identity = record.identity
    profile = recorded_profile(identity)
    root, job = Path(record.root), folder.path.absolute()
    checkpoints = tuple(
        _checkpoint(name, about, weights) for name, about in identity["members"].items()
    )
    checkpoints = kept(checkpoints, folder.path, record)
    words: dict[str, Any] = {
        "source": identity["input"],
        "output": folder.output,
        "tta": bool(identity.get("tta")),
    }
    words |= {name: tuple(identity[name]) for name in ("bands", "scale_from") if name in identity}
    if record.task == "classify":
        return _classify_work(identity, words, checkpoints, root, job, profile)
    spec = SegmentSpec(**words, mask_format=identity["mask_format"])
    return SegmentWork(spec, root, job, folder.output, None, checkpoints[0], profile)


def _classify_work(
    identity: Mapping[str, Any],
    words: dict[str, Any],
    checkpoints: tuple[Checkpoint, ...],
    root: Path,
    job: Path,
    profile: Profile,
) -> ClassifyWork:
    shares = tuple(float(about["share"]) for about in identity["members"].values())
    members = tuple(checkpoint.member for checkpoint in checkpoints)
    spec = ClassifySpec(
        **words,
        top_k=identity["top_k"],
        columns=tuple(identity["columns"]),
        draft=bool(identity.get("draft")),
        cascade=identity["cascade"]["from"] if "cascade" in identity else None,
        cascade_first=identity["cascade"]["first"] if "cascade" in identity else None,
    )
    ensemble = Ensemble(members, shares, identity["vote"])
    return ClassifyWork(spec, root, job, checkpoints, ensemble, profile)


def _checkpoint(member: str, about: Mapping[str, Any], weights: Path | None) -> Checkpoint:
    """A member's checkpoint. Raises InputError where it isn't the one that scored."""
    if weights is not None and not weights.is_dir():
        found = read_checkpoint(weights.absolute())
    else:
        try:
            found = Store.at(weights).checkpoint(member)
        except InputError as error:
            raise InputError(
                f"{error}. Give the folder or the file that scored with --weights"
            ) from error
    now = of_checkpoint(found)
    if any(about.get(name) != value for name, value in now.items()):
        raise InputError(
            f"{found.path}: expected the checkpoint of {member} that scored (SHA-256 "
            f"{str(about['digest'])[:12]}…), found another ({found.digest[:12]}…): give its folder "
            "or file with --weights"
        )
    return found
