"""How good a result is: a CSV of labels or a folder of masks against the truth."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InputError
from ..core.records import UInt8
from ..core.text import some
from ..pipeline.masks import NAMES, read_mask
from . import metrics
from .predictions import Predictions, read_predictions, read_scores
from .truth import find_masks, mask_key, pair, read_labels, read_rejected


@dataclass(frozen=True)
class ClassifyReport:
    """The scores of a classification.

    ``top_k`` is the share of images whose truth is among the first k labels, by k, as far as
    known. ``confusion`` counts images (50, 50), rows the truth. ``rejected`` images had no label.
    """

    images: int
    rejected: int
    correct: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    top_k: Mapping[int, float]
    per_class: tuple[metrics.ClassScore, ...]
    confusion: metrics.Int64
    calibration: metrics.Calibration | None

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

    ``confusion`` counts pixels (7, 7), rows the truth. The last two say how many pixels of which
    masks, by name, had a colour that is no class's, and so were left out.
    """

    images: int
    rejected: int
    miou: float | None
    pixel_accuracy: float | None
    per_class: tuple[metrics.LandScore, ...]
    confusion: metrics.Int64
    foreign_predicted: Mapping[str, int]
    foreign_true: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``; scores without a denominator are null."""
        return {"task": "segment", "classes": list(NAMES), **_plain(self)}


def evaluate_classify(
    predictions: Path,
    truth: Path,
    *,
    scores: Path | None = None,
    allow_rejected: bool = False,
) -> ClassifyReport:
    """Score the labels of a CSV against a CSV or a folder of true ones, paired by image_id.

    ``scores`` is the Parquet file of class probabilities of the same run. With
    ``allow_rejected``, images that the job beside ``predictions`` rejected are left out. Raises
    InputError for files that can't be read, and names that don't pair.
    """
    given = read_predictions(predictions)
    labels = read_labels(truth)
    rejected = read_rejected(predictions.with_name(f"{predictions.name}.job"))
    pairs = pair(given.labels, labels, rejected, allow_rejected=allow_rejected)
    true = np.array([labels[name] for name in pairs.names], np.int64)
    ranked = np.array([given.labels[name] for name in pairs.names], np.int64)
    chosen = ranked[:, 0]
    correct = chosen == true
    top_k = metrics.top_k(true, ranked)
    confidence = _confidence(given, pairs.names)
    if scores is not None:
        probabilities = read_scores(scores, pairs.names)
        confidence = _confidence_of_scores(probabilities, chosen, pairs.names, scores)
        by_scores = metrics.top_k(true, metrics.rank(probabilities))
        top_k = {k: by_scores[k] for k in (2, 3, 5, 10)} | top_k
    per_class = metrics.per_class(true, chosen)
    present = [score for score in per_class if score.support]
    return ClassifyReport(
        images=len(true),
        rejected=pairs.rejected,
        correct=int(correct.sum()),
        accuracy=float(correct.mean()),
        balanced_accuracy=metrics.mean([score.recall for score in present]) or 0.0,
        macro_f1=metrics.mean([score.f1 for score in per_class]) or 0.0,
        top_k=dict(sorted(top_k.items())),
        per_class=per_class,
        confusion=metrics.confusion(true, chosen),
        calibration=None if confidence is None else metrics.calibration(correct, confidence),
    )


def evaluate_segment(
    masks: Path,
    truth: Path,
    *,
    allow_rejected: bool = False,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> SegmentReport:
    """Score a folder of PNG masks against true ones, paired by name, one image at a time.

    ``watch`` gets how many are done, of how many. Raises InputError for files that are no
    masks, sizes that differ, and names that don't pair.
    """
    predicted, true = find_masks(masks), find_masks(truth)
    rejected = {mask_key(name): why for name, why in read_rejected(masks / ".job").items()}
    pairs = pair(predicted, true, rejected, allow_rejected=allow_rejected)
    counts = np.zeros((len(NAMES), len(NAMES)), np.int64)
    foreign_predicted: dict[str, int] = {}
    foreign_true: dict[str, int] = {}
    for done, name in enumerate(pairs.names, 1):
        ours, foreign_ours = read_mask(predicted[name])
        theirs, foreign_theirs = read_mask(true[name])
        if ours.shape != theirs.shape:
            raise InputError(
                f"{predicted[name]} has {_size(ours)} pixels, its truth {true[name].name} has "
                f"{_size(theirs)}: a mask is as large as its image"
            )
        counts += metrics.count_pixels(theirs, ours)
        if foreign_ours:
            foreign_predicted[name] = foreign_ours
        if foreign_theirs:
            foreign_true[name] = foreign_theirs
        watch(done, len(pairs.names))
    per_class = metrics.land_scores(counts)
    return SegmentReport(
        images=len(pairs.names),
        rejected=pairs.rejected,
        miou=metrics.mean([score.iou for score in per_class]),
        pixel_accuracy=metrics.pixel_accuracy(counts),
        per_class=per_class,
        confusion=counts,
        foreign_predicted=foreign_predicted,
        foreign_true=foreign_true,
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
    """A report as plain data: lists for arrays."""
    fields = dataclasses.asdict(report)
    return fields | {"confusion": report.confusion.tolist()}
