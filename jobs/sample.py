"""Scores some images of a finished job again, and says what that proves of all of them."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.numerics import Profile
from ..core.records import Planned, Predicted, Predictor, Shard, Work
from ..core.spec import ClassifySpec, SegmentSpec
from ..models.checkpoints import Checkpoint, Store, read_checkpoint
from ..models.ensemble import Ensemble
from ..pipeline.classification import ClassifyWork
from ..pipeline.rows import parse_row
from ..pipeline.segmentation import SegmentWork, encode_mask
from .account import account
from .changes import compare
from .folder import JobFolder
from .generations import Plans, read_plans
from .identity import of_checkpoint
from .int8 import kept
from .profile import recorded_profile
from .record import JobRecord

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
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
    """An image of the sample, its place in its generation's plan, and its row."""

    image: Planned
    position: int
    row: list[str]


def sample(job: Path, count: int, seed: int = 0, weights: Path | None = None) -> Sampled:
    """Score ``count`` random images of a job that is done again, in this process.

    The files must be as planned (size and time), the checkpoints those whose digests are recorded,
    and this machine able to meet the job's numerics profile. ``weights`` is the folder that they
    lie in, or the one file; None: what hw1 ships. Each image takes the place in a batch that it
    had, on which its bytes may depend; the batch's other places are blank.

    Raises InputError for other checkpoints, EnvironmentFault where the profile isn't met.
    """
    folder = JobFolder(job)
    record = folder.read()
    plans = read_plans(job, record)
    drawn = list(_draw(folder, plans, count, seed))
    found, times = _as_planned(Path(record.root), drawn, plans)
    if not found:
        raise InputError(
            f"{record.root}: none of {len(drawn)} images drawn is there as it was planned, so none "
            "can be scored again: bring the folder back, or draw more"
        )
    work = _work(record, folder, weights)
    predict = work.load()
    sampled = Sampled(len(plans.current) - _rejected(record), len(found))
    sampled.lost.extend(d.image.image_id for d in drawn if d not in found)
    for each in found:
        now = times.get(each.image.image_id, each.image.mtime_ns)
        piece = Shard(0, each.position, (replace(each.image, mtime_ns=now),))
        if _row(work, predict, piece) != each.row:
            sampled.differ.append(each.image.image_id)
    return sampled


def _rejected(record: JobRecord) -> int:
    return record.counts.rejected if isinstance(record.counts.rejected, int) else 0


def _draw(folder: JobFolder, plans: Plans, count: int, seed: int) -> Iterator[_Drawn]:
    """Rows of the result at random, in the order of the plans."""
    ledger = folder.committed()

    def rows() -> Iterator[_Drawn]:
        for number, plan in enumerate(plans.plans):
            for shard in account(folder.path, plans.entries(ledger, number), plan):
                first = shard.entry.first
                images = plan[first : first + shard.entry.images]
                places = {image.image_id: at for at, image in enumerate(images, first)}
                for row in shard.rows:
                    if row[0] not in plans.stale[number]:
                        at = places[row[0]]
                        yield _Drawn(plan[at], at, row)

    total = sum(1 for _ in rows())
    chosen = set(random.Random(seed).sample(range(total), min(count, total)))
    yield from (row for at, row in enumerate(rows()) if at in chosen)


def _as_planned(
    root: Path, drawn: list[_Drawn], plans: Plans
) -> tuple[list[_Drawn], Mapping[str, int]]:
    """Those whose files are as they were planned, and times where all have shifted alike."""
    there: list[Planned] = []
    for each in drawn:
        try:
            status = (root / each.image.image_id).stat()
        except OSError:
            continue
        there.append(Planned(each.image.image_id, status.st_size, status.st_mtime_ns))
    changes = compare(plans, there)
    same = {image.image_id for image in there} - {image.image_id for image in changes.changed}
    return [each for each in drawn if each.image.image_id in same], changes.times


def _row(work: Work, predict: Predictor, piece: Shard) -> list[str]:
    """The row of one image, without anything written; what it is rejected for instead."""
    predicted = predict(work.decode(piece))
    if predicted.rejections:
        return [predicted.rejections[0].reason]
    if isinstance(work, SegmentWork):
        return [piece.images[0].image_id, _digest(work, predicted)]
    [row] = work.write(predicted).rows
    return parse_row(row)


def _digest(work: SegmentWork, predicted: Predicted) -> str:
    png = encode_mask(predicted.arrays[0], work.spec.mask_format, work.checkpoint.classes)
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
    )
    ensemble = Ensemble(members, shares, identity["vote"])
    return ClassifyWork(spec, root, job, checkpoints, ensemble, profile)


def _checkpoint(member: str, about: Mapping[str, Any], weights: Path | None) -> Checkpoint:
    """A member's checkpoint. Raises InputError where it isn't the one that scored."""
    if weights is not None and not weights.is_dir():
        found = read_checkpoint(weights.absolute())
    else:
        found = Store.at(weights).checkpoint(member)
    now = of_checkpoint(found)
    if any(about[name] != value for name, value in now.items()):
        raise InputError(
            f"{found.path}: expected the checkpoint of {member} that scored (SHA-256 "
            f"{str(about['digest'])[:12]}…), found another ({found.digest[:12]}…): give its folder "
            "or file with --weights"
        )
    return found
