"""What kept what waiting."""

from pathlib import Path

import pytest
from fake_work import FakeWork, shards

from hw1.execution.flow import Flow
from hw1.execution.inline import run_inline


def flow_of(decode: float, predict: float, pieces: int = 20, **changes: int) -> Flow:
    """A run of 100 s, each piece 50 images, whose steps were busy for so many seconds in all."""
    flow = Flow(began=0.0, **changes)
    for number in range(1, pieces + 1):
        flow.decoded(50, decode / pieces)
        flow.predicted(50, predict / pieces, 100 * number / pieces)
    return flow


@pytest.mark.parametrize(
    ("decode", "predict", "said"),
    [
        (380.0, 30.0, "decode-bound: 4 cores decode 11 images a second, the models waited"),
        (100.0, 95.0, "model-bound: the models score 10.5 images a second, decoding waited"),
        (390.0, 95.0, "model-bound: the models score 10.5 images a second, decoding waited"),
        (200.0, 50.0, ""),
    ],
)
def test_the_limit_is_the_step_that_was_busy(decode: float, predict: float, said: str) -> None:
    assert flow_of(decode, predict, decoders=4).text == said


def test_several_predictors_share_the_work() -> None:
    assert flow_of(10.0, 150.0, predictors=2).bound == ""
    found = flow_of(10.0, 190.0, predictors=2)
    assert (found.bound, found.text[:34]) == ("model", "model-bound: the models score 10.5")


def test_of_a_few_pieces_it_cannot_be_told() -> None:
    assert flow_of(10.0, 99.0, pieces=9).bound == ""
    assert Flow().text == ""


def test_the_start_is_not_counted() -> None:
    flow = Flow()
    flow.decoded(50, 30.0)  # while the models were loaded
    flow.predicted(50, 3.0, 33.0)
    assert flow == Flow(began=33.0)


def test_inline_is_timed(tmp_path: Path) -> None:
    found = run_inline(FakeWork(tmp_path), shards(12, 8), lambda _: None)
    assert (found.pieces, found.decoded_images, found.predicted_images) == (11, 87, 87)
    assert found.decode_seconds >= 0 < found.predict_seconds
