"""What counts as a change: sizes and times, but not times that have all shifted alike."""

import pytest

from hw1.core.records import Planned
from hw1.jobs.changes import compare
from hw1.jobs.generations import Plans

SECOND = 10**9
HOUR = 3600 * SECOND
TIMES = [1_700_000_000_123_456_789 + k * 7_777_777_777 for k in range(12)]


def images(times: list[int], size: int = 5) -> list[Planned]:
    return [Planned(f"{k:02d}.png", size, time) for k, time in enumerate(times)]


def changed(before: list[int], after: list[int]) -> int:
    return len(compare(Plans.first(images(before), 4, 2), images(after)).changed)


@pytest.mark.parametrize("shift", [0, HOUR, -HOUR, 9 * HOUR, 37 * SECOND])
def test_times_that_all_shifted_alike_are_no_change(shift: int) -> None:
    assert changed(TIMES, [time + shift for time in TIMES]) == 0


@pytest.mark.parametrize("shift", [0, HOUR, -HOUR])
@pytest.mark.parametrize("grain", [2, 1])
@pytest.mark.parametrize("up", [0, 1])
def test_times_may_be_cut_as_fat_does(shift: int, grain: int, up: int) -> None:
    grain *= SECOND
    after = [((time + shift) // grain + up) * grain for time in TIMES]
    assert changed(TIMES, after) == 0


def test_one_that_was_written_to_is_found_among_those_that_shifted() -> None:
    after = [time + HOUR for time in TIMES]
    after[3] += SECOND
    assert changed(TIMES, after) == 1
    after[4] = TIMES[4] - SECOND
    assert changed(TIMES, after) == 2


def test_files_that_were_written_again_in_one_go_are_changed() -> None:
    start = 1_800_000_000_000_000_001
    assert changed([start + k for k in range(5)], [start + 61 * SECOND + 2 * k for k in range(5)])
    assert changed([SECOND] * 5, [77 * SECOND] * 5) == 5
    assert changed([SECOND], [77 * SECOND]) == 1


def test_another_size_is_a_change_whatever_the_time() -> None:
    found = compare(Plans.first(images(TIMES), 4, 2), images(TIMES, size=6))
    assert len(found.changed) == len(TIMES)
