"""Scores of predictions against the truth, from arrays: no files, no names.

A score that has no denominator (the recall of a class that is never true) is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.classes import REFERENCE_SEGMENTER, Classes
from ..core.records import Float32, UInt8
from ..pipeline.masks import FOREIGN
from .intervals import Interval, wilson

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

BINS = 15
"""Equal bins of confidence in which calibration is measured, as in Guo et al. 2017."""

_FITS_BYTE = 15  # classes whose pairs a byte tells apart
_BAND = 2**20  # pixels counted at a time: np.bincount makes eight bytes of each


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class of the classifiers does; ``support`` is the number of its true images.

    The intervals, of 95 %, are Wilson's.
    """

    label: int
    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int
    precision_interval: Interval | None
    recall_interval: Interval | None


@dataclass(frozen=True, slots=True)
class Bin:
    """The images of a bin of confidence: mean confidence and accuracy, both 0 to 1."""

    confidence: float
    accuracy: float
    images: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether confidence is the chance of being right; ``ece`` is its mean distance, 0 to 1."""

    ece: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class LandScore:
    """How one class of masks does; true, predicted and correct count pixels."""

    index: int
    name: str
    iou: float | None
    precision: float | None
    recall: float | None
    true: int
    predicted: int
    correct: int
    iou_interval: Interval | None = None


def confusion(true: Int64, labels: Int64, classes: int) -> Int64:
    """Images (classes, classes) by true class (rows) and label (columns)."""
    from sklearn.metrics import confusion_matrix

    counts: Int64 = confusion_matrix(true, labels, labels=np.arange(classes))
    return counts


def per_class(true: Int64, labels: Int64, names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each class."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        true, labels, labels=np.arange(len(names)), zero_division=np.nan
    )
    predicted = np.bincount(labels, minlength=len(names))
    correct = np.bincount(true[true == labels], minlength=len(names))
    return tuple(
        ClassScore(
            label=index,
            name=names[index],
            precision=_number(precision),
            recall=_number(recall),
            f1=_number(f1),
            support=int(support),
            predicted=int(predicted[index]),
            precision_interval=wilson(int(correct[index]), int(predicted[index])),
            recall_interval=wilson(int(correct[index]), int(support)),
        )
        for index, (precision, recall, f1, support) in enumerate(zip(*columns, strict=True))
    )


def top_k(true: Int64, ranked: Int64) -> dict[int, float]:
    """The share of images whose true class is among the first k of ``ranked`` (n, K), by k."""
    hits = np.cumsum(ranked == true[:, None], axis=1) > 0
    return {k: float(share) for k, share in enumerate(hits.mean(axis=0), 1)}


def rank(scores: Float32) -> Int64:
    """All classes of each image, best first, by its ``scores`` (n, classes).

    Of equal ones the lower class comes first, as in the labels of batch classify.
    """
    order: Int64 = np.argsort(-scores, axis=1, kind="stable")
    return order


def calibration(correct: NDArray[np.bool_], confidence: Float64) -> Calibration:
    """The expected calibration error and the reliability curve (Guo et al. 2017).

    ``confidence`` (n,) is 0 to 1, ``correct`` (n,) says whether the label is the true one.
    """
    from sklearn.calibration import calibration_curve

    confidence = np.clip(confidence, 0, 1)  # a sum of float32 shares may be a little more than 1
    accuracy, mean = calibration_curve(correct, confidence, n_bins=BINS, pos_label=True)
    # calibration_curve leaves out the empty bins and their counts: count as it does.
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    counts = np.bincount(np.searchsorted(edges, confidence), minlength=BINS)
    counts = counts[counts > 0]
    ece = float(np.sum(counts * np.abs(accuracy - mean)) / counts.sum())
    columns = zip(mean.tolist(), accuracy.tolist(), counts.tolist(), strict=True)
    return Calibration(ece, tuple(Bin(*column) for column in columns))


def count_pixels(true: UInt8, predicted: UInt8, size: int = len(REFERENCE_SEGMENTER)) -> Int64:
    """Pixels (size, size) by true class (rows) and predicted class (columns) of one mask.

    Both are (H, W) classes; a pixel that is FOREIGN on either side is left out.
    """
    counts = np.zeros(size * size, np.int64)
    wide = np.uint8 if size <= _FITS_BYTE else np.uint16
    flat_true, flat_predicted = true.reshape(-1), predicted.reshape(-1)
    for start in range(0, flat_true.size, _BAND):
        rows, columns = (flat[start : start + _BAND] for flat in (flat_true, flat_predicted))
        kept = (rows != FOREIGN) & (columns != FOREIGN)
        pairs = rows[kept].astype(wide) * wide(size) + columns[kept]
        counts += np.bincount(pairs, minlength=size * size)
    return counts.reshape(size, size)


def land_scores(counts: Int64, classes: Classes = REFERENCE_SEGMENTER) -> tuple[LandScore, ...]:
    """IoU, precision and recall of each class but the unlabelled one, from ``count_pixels``.

    IoU is TP / (predicted + true - TP): a class predicted on an unknown pixel counts against it.
    """
    true, predicted, hits = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    return tuple(
        LandScore(
            index=index,
            name=name,
            iou=_ratio(hits[index], true[index] + predicted[index] - hits[index]),
            precision=_ratio(hits[index], predicted[index]),
            recall=_ratio(hits[index], true[index]),
            true=int(true[index]),
            predicted=int(predicted[index]),
            correct=int(hits[index]),
        )
        for index, name in enumerate(classes.names)
        if index != classes.unlabelled
    )


def pixel_accuracy(
    counts: Int64, unlabelled: int | None = REFERENCE_SEGMENTER.unlabelled
) -> float | None:
    """The share of pixels with a true class, unlabelled ones aside, that are predicted right."""
    known = np.ones(len(counts), bool)
    if unlabelled is not None:
        known[unlabelled] = False
    return _ratio(counts.diagonal()[known].sum(), counts[known].sum())


def mean(values: list[float | None]) -> float | None:
    """The mean of the numbers among ``values``; None where there are none."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _ratio(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
