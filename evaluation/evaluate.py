"""How good a result is: a CSV of labels or a folder of masks against the truth."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.classes import REFERENCE_SEGMENTER, Classes
from ..core.errors import InputError
from ..core.records import UInt8
from ..core.text import some
from ..pipeline.mask_files import By, Mask, MaskReader, require_reference
from . import metrics
from .intervals import Interval, bootstrap, wilson
from .predictions import Predictions, read_predictions, read_scores
from .truth import Pairs, classes_of_result, find_masks, mask_key, pair, read_labels, read_rejected

Row = Mapping[str, Any]


_LEAST = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Cascade:
    """What ``--cascade`` with a confidence of ``least`` would give.

    ``early`` is the share of the images that the first member would decide alone.
    """

    least: float
    early: float
    accuracy: float


@dataclass(frozen=True)
class ClassifyReport:
    """The scores of a classification.

    ``top_k`` is the share of images whose truth is among the first k labels, by k, as far as
    known. ``confusion`` counts images (classes, classes), rows the truth. ``rejected`` images had
    no label. ``accuracy_interval`` is Wilson's of 95 %. ``notes`` are sentences on how files were
    read, ``per_image`` a row an image. ``cascade`` is what several values of ``--cascade`` would
    give, where the first member's result is there.
    """

    images: int
    rejected: int
    correct: int
    accuracy: float
    accuracy_interval: Interval | None
    balanced_accuracy: float
    macro_f1: float
    top_k: Mapping[int, float]
    classes: Classes
    per_class: tuple[metrics.ClassScore, ...]
    confusion: metrics.Int64
    calibration: metrics.Calibration | None
    notes: tuple[str, ...]
    per_image: tuple[Row, ...]
    cascade: tuple["Cascade", ...] = ()

    def most_confused(self, count: int = 10) -> list[tuple[int, int, int]]:
        """The pairs that are confused most: true class, label, images."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
        return [(int(t), int(p), int(wrong[t, p])) for t, p in pairs if wrong[t, p]]

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``; scores without a denominator are null."""
        pairs = self.most_confused()
        return {
            "task": "classify",
            **_plain(self),
            "most_confused": [
                dict(zip(("true", "label", "images"), p, strict=True)) for p in pairs
            ],
        }


@dataclass(frozen=True)
class SegmentReport:
    """The scores of masks, over all pixels of all of them.

    ``confusion`` counts pixels (classes, classes), rows the truth. ``foreign_…`` say how many
    pixels of which masks, by name, had a colour that is no class's, and so were left out.
    Intervals are of 95 %, by bootstrap over the images. ``notes`` and ``per_image``: see
    ClassifyReport.
    """

    images: int
    rejected: int
    miou: float | None
    miou_interval: Interval | None
    pixel_accuracy: float | None
    classes: Classes
    per_class: tuple[metrics.LandScore, ...]
    confusion: metrics.Int64
    foreign_predicted: Mapping[str, int]
    foreign_true: Mapping[str, int]
    notes: tuple[str, ...]
    per_image: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``; scores without a denominator are null."""
        return {"task": "segment", **_plain(self)}


def evaluate_classify(
    predictions: Path,
    truth: Path,
    *,
    scores: Path | None = None,
    allow_rejected: bool = False,
    classes: Path | None = None,
    first: Path | None = None,
) -> ClassifyReport:
    """Score the labels of a result against a CSV or a folder of true ones, paired by image_id.

    ``scores`` is the file of class probabilities of the same run. With ``allow_rejected``, images
    that the job beside ``predictions`` rejected are left out. The classes are those of the file
    ``classes``, else those that the job lists, else the reference's. ``first`` is the result, with
    confidences, of the member that a cascade would ask first. Raises InputError for files
    that can't be read, and names that don't pair.
    """
    job = predictions.with_name(f"{predictions.name}.job")
    known = classes_of_result(job, "classify", classes)
    given = read_predictions(predictions, known)
    labels = read_labels(truth, known)
    rejected = read_rejected(job)
    pairs = pair(given.labels, labels, rejected, allow_rejected=allow_rejected)
    true = np.array([labels[pairs.true(name)] for name in pairs.names], np.int64)
    ranked = np.array([given.labels[name] for name in pairs.names], np.int64)
    chosen = ranked[:, 0]
    correct = chosen == true
    top_k = metrics.top_k(true, ranked)
    confidence = _confidence(given, pairs.names)
    if scores is not None:
        probabilities = read_scores(scores, pairs.names, known)
        confidence = _confidence_of_scores(probabilities, chosen, pairs.names, scores)
        by_scores = metrics.top_k(true, metrics.rank(probabilities))
        top_k = {k: by_scores[k] for k in (2, 3, 5, 10) if k in by_scores} | top_k
    per_class = metrics.per_class(true, chosen, known.names)
    present = [score for score in per_class if score.support]
    return ClassifyReport(
        images=len(true),
        rejected=pairs.rejected,
        correct=int(correct.sum()),
        accuracy=float(correct.mean()),
        accuracy_interval=wilson(int(correct.sum()), len(true)),
        balanced_accuracy=metrics.mean([score.recall for score in present]) or 0.0,
        macro_f1=metrics.mean([score.f1 for score in per_class]) or 0.0,
        top_k=dict(sorted(top_k.items())),
        classes=known,
        per_class=per_class,
        confusion=metrics.confusion(true, chosen, len(known)),
        calibration=None if confidence is None else metrics.calibration(correct, confidence),
        notes=pairs.notes,
        per_image=_label_rows(pairs.names, true, chosen, confidence, known),
        cascade=_cascades(first, pairs.names, true, chosen, known) if first else (),
    )


def _cascades(
    first: Path, names: list[str], true: metrics.Int64, voted: metrics.Int64, classes: Classes
) -> tuple[Cascade, ...]:
    """What cascades would give: the first member's labels where it is sure, else the vote's."""
    alone = read_predictions(first, classes)
    if alone.confidence is None:
        raise InputError(f"{first} has no confidences: score again with --columns confidence")
    if missing := [name for name in names if name not in alone.labels]:
        raise InputError(f"{first}: no label of {some(missing)}: give the result of the same IN")
    labels = np.array([alone.labels[name][0] for name in names], np.int64)
    sure = np.array([alone.confidence[name] for name in names])
    return tuple(
        Cascade(
            least=least,
            early=float((sure >= least).mean()),
            accuracy=float((np.where(sure >= least, labels, voted) == true).mean()),
        )
        for least in _LEAST
    )


def evaluate_segment(
    masks: Path,
    truth: Path,
    *,
    allow_rejected: bool = False,
    watch: Callable[[int, int], None] = lambda done, total: None,
    classes: Path | None = None,
) -> SegmentReport:
    """Score a folder of PNG masks against true ones, paired by name, one image at a time.

    ``watch`` gets how many are done, of how many; ``classes``: see evaluate_classify. Raises
    InputError for files that are no masks, or of other classes than the reference's where no others
    are listed, for sizes that differ, and names that don't pair.
    """
    known = classes_of_result(masks / ".job", "segment", classes)
    predicted, true = find_masks(masks, predicted=True), find_masks(truth)
    rejected = {mask_key(name): why for name, why in read_rejected(masks / ".job").items()}
    pairs = pair(predicted, true, rejected, allow_rejected=allow_rejected)
    totals = _Totals(known)
    readers = MaskReader(known), MaskReader(known)
    unsure = []
    for done, name in enumerate(pairs.names, 1):
        paths = predicted[name], true[pairs.true(name)]
        read = tuple(reader.try_read(p) for reader, p in zip(readers, paths, strict=True))
        if read[0] is None or read[1] is None:
            unsure.append((name, paths))
        else:
            if not totals.rows and known is REFERENCE_SEGMENTER:
                for reader, path in zip(readers, paths, strict=True):
                    if reader.by == "colour":
                        require_reference(path)
            totals.add(name, paths, read[0], read[1])
        watch(done, len(pairs.names))
    for name, paths in unsure:
        totals.add(name, paths, *(r.read(p) for r, p in zip(readers, paths, strict=True)))
    return totals.report(pairs, (readers[0].by, readers[1].by))


class _Totals:
    """Pixels counted image by image."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.counts = np.zeros((len(classes), len(classes)), np.int64)
        self.foreign: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self.rows: list[dict[str, Any]] = []
        self.sums: list[metrics.Int64] = []

    def add(self, name: str, paths: tuple[Path, Path], ours: Mask, theirs: Mask) -> None:
        """Count an image's masks. Raises InputError where their sizes differ."""
        if ours.classes.shape != theirs.classes.shape:
            raise InputError(
                f"{paths[0]} has {_size(ours.classes)} pixels, its truth {paths[1].name} has "
                f"{_size(theirs.classes)}: a mask is as large as its image"
            )
        counts = metrics.count_pixels(theirs.classes, ours.classes, len(self.classes))
        self.counts += counts
        for side, mask in zip(self.foreign, (ours, theirs), strict=True):
            if mask.foreign:
                side[name] = mask.foreign
        scores = metrics.land_scores(counts, self.classes)
        self.rows.append(
            {
                "name": name,
                "miou": metrics.mean([score.iou for score in scores]),
                "pixel_accuracy": metrics.pixel_accuracy(counts, self.classes.unlabelled),
                **{f"iou_{score.name}": score.iou for score in scores},
            }
        )
        hits = counts.diagonal()
        self.sums.append(np.stack([hits, counts.sum(axis=0) + counts.sum(axis=1) - hits]))

    def report(self, pairs: Pairs, read_by: tuple[By | None, By | None]) -> SegmentReport:
        """The scores of all."""
        scores = metrics.land_scores(self.counts, self.classes)
        kept = [score.index for score in scores]
        sums = np.stack(self.sums)[:, :, kept].reshape(len(self.sums), -1).astype(np.float64)
        intervals = bootstrap(sums, _ious_and_mean)
        sides = zip(("predictions", "truth"), read_by, strict=True)
        how = [f"masks of the {side} were read by {by}" for side, by in sides if by]
        return SegmentReport(
            images=len(pairs.names),
            rejected=pairs.rejected,
            miou=metrics.mean([score.iou for score in scores]),
            miou_interval=intervals[-1],
            pixel_accuracy=metrics.pixel_accuracy(self.counts, self.classes.unlabelled),
            classes=self.classes,
            per_class=tuple(
                dataclasses.replace(score, iou_interval=None if score.iou is None else interval)
                for score, interval in zip(scores, intervals, strict=False)
            ),
            confusion=self.counts,
            foreign_predicted=self.foreign[0],
            foreign_true=self.foreign[1],
            notes=(*pairs.notes, *how),
            per_image=tuple(sorted(self.rows, key=lambda row: row["name"])),
        )


def _ious_and_mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The IoU of each class, and their mean, (n, classes + 1), of hits and unions side by side."""
    hits, unions = np.split(sums, 2, axis=1)
    ious = np.divide(hits, unions, out=np.full(hits.shape, np.nan), where=unions > 0)
    known = ~np.isnan(ious)
    count = known.sum(axis=1)
    total = np.where(known, ious, 0).sum(axis=1)
    means = np.divide(total, count, out=np.full(len(ious), np.nan), where=count > 0)
    return np.column_stack([ious, means])


def _label_rows(
    names: list[str],
    true: metrics.Int64,
    chosen: metrics.Int64,
    confidence: metrics.Float64 | None,
    classes: Classes,
) -> tuple[Row, ...]:
    return tuple(
        {
            "image_id": name,
            "true": int(true[row]),
            "label": int(chosen[row]),
            "true_name": classes.names[true[row]],
            "name": classes.names[chosen[row]],
            "correct": int(true[row] == chosen[row]),
            **({} if confidence is None else {"confidence": float(confidence[row])}),
        }
        for row, name in enumerate(names)
    )


def _confidence(given: Predictions, names: list[str]) -> metrics.Float64 | None:
    if given.confidence is None:
        return None
    return np.array([given.confidence[name] for name in names], np.float64)


def _confidence_of_scores(
    probabilities: NDArray[np.float32], labels: metrics.Int64, names: list[str], path: Path
) -> metrics.Float64:
    """The probability (n,) of each label, which has to be the image's largest."""
    chosen = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    lower = np.flatnonzero(chosen < probabilities.max(axis=1))
    if lower.size:
        raise InputError(
            f"{path}: these scores give {lower.size} images another label than the predictions "
            f"do: {some([names[index] for index in lower])}. Give the scores of the same run"
        )
    return chosen.astype(np.float64)


def _size(classes: UInt8) -> str:
    return f"{classes.shape[1]} × {classes.shape[0]}"


def _plain(report: ClassifyReport | SegmentReport) -> dict[str, Any]:
    """A report as plain data: lists for arrays, and no rows of images."""
    fields = dataclasses.asdict(report)
    del fields["per_image"]
    if not fields.get("cascade"):
        fields.pop("cascade", None)
    plain = {"classes": list(report.classes.names), "confusion": report.confusion.tolist()}
    return fields | plain
