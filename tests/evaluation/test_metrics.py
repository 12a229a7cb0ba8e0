import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import jaccard_score, top_k_accuracy_score

from hw1.evaluation import metrics
from hw1.pipeline.masks import FOREIGN, UNKNOWN

MASKS = st.lists(
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=5).flatmap(
        lambda shape: st.tuples(
            *[arrays.arrays(np.uint8, shape, elements=st.integers(0, 5)) for _ in range(2)]
        )
    ),
    min_size=1,
    max_size=4,
)


def classes(*rows):
    return np.array(rows, np.uint8)


def test_iou_of_a_known_confusion():
    # class 0: 2 right, 1 true pixel missed; class 1: 1 right, 1 false positive.
    counts = metrics.count_pixels(classes([0, 0], [0, 1]), classes([0, 0], [1, 1]))
    scores = metrics.land_scores(counts)
    assert [score.iou for score in scores] == [2 / 3, 1 / 2, None, None, None, None]
    assert (scores[1].true, scores[1].predicted, scores[1].correct) == (1, 2, 1)
    assert metrics.mean([score.iou for score in scores]) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics.pixel_accuracy(counts) == 3 / 4


def test_unknown_truth_counts_against_what_is_predicted_there_and_is_not_averaged():
    counts = metrics.count_pixels(classes([0, UNKNOWN, UNKNOWN]), classes([0, 0, UNKNOWN]))
    scores = metrics.land_scores(counts)
    assert [score.iou for score in scores] == [1 / 2, None, None, None, None, None]
    assert metrics.pixel_accuracy(counts) == 1.0


def test_unknown_predicted_on_a_class_counts_against_the_class():
    scores = metrics.land_scores(metrics.count_pixels(classes([2, 2]), classes([2, UNKNOWN])))
    assert scores[2].iou == 1 / 2


def test_foreign_pixels_of_either_side_are_left_out():
    counts = metrics.count_pixels(classes([0, FOREIGN, 1]), classes([0, 1, FOREIGN]))
    assert counts.sum() == 1
    assert counts[0, 0] == 1


def test_nothing_to_score_is_no_score():
    counts = metrics.count_pixels(classes([UNKNOWN]), classes([UNKNOWN]))
    assert metrics.mean([score.iou for score in metrics.land_scores(counts)]) is None
    assert metrics.pixel_accuracy(counts) is None


@settings(deadline=None, max_examples=50)
@given(MASKS)
def test_streamed_iou_is_that_of_all_pixels_at_once(masks):
    counts = sum(metrics.count_pixels(true, predicted) for true, predicted in masks)
    true, predicted = (np.concatenate([pair[side].ravel() for pair in masks]) for side in (0, 1))
    present = np.union1d(true, predicted)
    expected = jaccard_score(true, predicted, labels=present, average=None)
    found = [metrics.land_scores(counts)[index].iou for index in present]
    assert found == pytest.approx(expected.tolist())


def test_pixels_are_counted_in_bands(monkeypatch):
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 7, (2, 30, 41), np.uint8)
    whole = metrics.count_pixels(true, predicted)
    monkeypatch.setattr(metrics, "_BAND", 100)
    np.testing.assert_array_equal(metrics.count_pixels(true, predicted), whole)
    assert whole.sum() == true.size


def test_scores_of_each_class():
    scores = metrics.per_class(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 3]), [""] * 50)
    by_label = {score.label: score for score in scores}
    assert len(scores) == 50
    assert (by_label[0].precision, by_label[0].recall, by_label[0].support) == (1.0, 0.5, 2)
    assert by_label[0].f1 == pytest.approx(2 / 3)
    assert (by_label[1].precision, by_label[1].recall) == (0.5, 1.0)
    assert (by_label[2].precision, by_label[2].recall, by_label[2].f1) == (None, 0.0, 0.0)
    assert (by_label[3].precision, by_label[3].recall, by_label[3].predicted) == (0.0, None, 1)
    assert (by_label[4].precision, by_label[4].recall, by_label[4].f1) == (None, None, None)


def test_top_k_is_scikit_learns():
    rng = np.random.default_rng(1)
    scores = rng.random((40, 50), np.float32)
    true = rng.integers(0, 50, 40)
    found = metrics.top_k(true, metrics.rank(scores))
    classes = np.arange(50)
    for k in (1, 2, 5, 49):
        assert found[k] == top_k_accuracy_score(true, scores, k=k, labels=classes)


def test_of_equal_scores_the_lower_class_comes_first():
    scores = np.zeros((1, 50), np.float32)
    scores[0, [7, 3, 9]] = 0.3
    assert metrics.rank(scores)[0, :5].tolist() == [3, 7, 9, 0, 1]


def test_calibration_of_a_known_case():
    # Two bins: 0.9 sure and half right; 0.1 sure and never right.
    calibration = metrics.calibration(
        np.array([True, False, False, False]), np.array([0.9, 0.9, 0.1, 0.1])
    )
    assert calibration.ece == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert [each.images for each in calibration.bins] == [2, 2]
    assert [each.accuracy for each in calibration.bins] == [0.0, 0.5]


def test_a_confidence_that_was_rounded_beyond_1_is_1():
    calibration = metrics.calibration(np.array([True]), np.array([np.nextafter(np.float32(1), 2)]))
    assert [each.confidence for each in calibration.bins] == [1.0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_every_image_is_in_a_bin(pairs):
    correct, confidence = (np.array(column) for column in zip(*pairs, strict=True))
    calibration = metrics.calibration(correct, confidence)
    assert sum(each.images for each in calibration.bins) == len(pairs)
    right = sum(each.images * each.accuracy for each in calibration.bins)
    assert right == pytest.approx(correct.sum())
    assert 0 <= calibration.ece <= 1
    assert not math.isnan(calibration.ece)


def test_a_bin_counts_by_its_images():
    found = metrics.calibration(np.array([True] * 4 + [False]), np.array([0.95] * 4 + [0.55]))
    assert found.ece == pytest.approx((4 * 0.05 + 0.55) / 5)
