"""How sure a score is: intervals that cover its true value in 95 of 100 such samples."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

_Z = 1.959963984540054  # standard deviations, on either side, that hold 95 % of a normal
RESAMPLES = 1000
_SEED = 0
_CELLS = 2**22  # of a block of resamples' weights


def wilson(right: int, total: int) -> Interval | None:
    """Wilson's score interval of 95 % for a share ``right / total``; None of nothing.

    Wilson 1927: unlike right ± z·s it's true near 0 and 1 and for few images too.
    """
    if not total:
        return None
    share, shrink = right / total, 1 + _Z**2 / total
    centre = (share + _Z**2 / (2 * total)) / shrink
    half = _Z / shrink * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(
    counts: NDArray[np.float64], score: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> list[Interval | None]:
    """Percentile intervals of 95 % by bootstrap over images (Efron 1979), always the same.

    ``counts`` (images, k) add up to what ``score`` is of: it makes (n, m) scores of (n, k) sums,
    nan where there are none. An interval for each of the m scores; None where fewer than two
    images, or too few resamples, have one.
    """
    images = len(counts)
    if images < 2:
        return [None] * score(counts.sum(axis=0, keepdims=True)).shape[1]
    random = np.random.default_rng(_SEED)
    block = max(1, _CELLS // images)
    found = []
    for start in range(0, RESAMPLES, block):
        shape = min(block, RESAMPLES - start)
        weights = [
            np.bincount(random.integers(images, size=images), minlength=images)
            for _ in range(shape)
        ]
        found.append(score(np.array(weights, np.float64) @ counts))
    return [_percentiles(column) for column in np.concatenate(found).T]


def _percentiles(values: NDArray[np.float64]) -> Interval | None:
    known = values[~np.isnan(values)]
    if len(known) < RESAMPLES // 2:
        return None
    low, high = np.percentile(known, [2.5, 97.5]).tolist()
    return low, high
