"""Where a warm-up ends: the windows of a series that are its steady part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# More is never left out: what is steady has to be as long as the warm-up was.
LONGEST_WARM_UP = 0.5
# What the two halves of a steady part may differ by, or it still drifts.
DRIFT = 0.005
# A long series is taken in about so many batches, so that noise from one window to the next is not seen as a warm-up.
BATCHES = 16
# Of the interval of the drift. The rule prefers parts that seem to drift less than they do, so that an interval of 95 %
# covers 92 %, and this one 98 %.
CONFIDENCE = 0.99


class Steady(NamedTuple):
    """The steady part of a series.

    Attributes:
        first: index of its first value.
        undetected_drift: a steady drift from its first to its last value may be so large, up or down, as a share of
            the median: the rule has not seen it, and these values do not rule it out.
    """

    first: int
    undetected_drift: float


def find_steady(values: Sequence[float]) -> Steady | None:
    """Return the steady part of a series, None when it does not become steady.

    The marginal standard error rule on the means of batches (MSER-5, with batches that follow from the length): leave
    out as many of the first batches as make the standard error of the mean of the rest smallest. One more warm-up
    batch widens the rest, one steady batch less makes it smaller. What is then left must not drift: the medians of its
    two halves differ by at most 0.5 %, or by no more than half the distance of the quartiles, which a drift exceeds.

    The rule misses most drifts below 1 %. How large a drift it may have missed is told by the least-squares slope and
    its 99 % interval, which takes the noise of the values as independent.

    Args:
        values: one for each window, in their order; at least eight.

    Source: K. P. White, M. J. Cobb, S. C. Spratt, "A comparison of five steady-state truncation heuristics for
        simulation", Winter Simulation Conference 2000
    """
    series = np.asarray(values, dtype=float)
    size = max(1, series.size // BATCHES)
    whole = series[: series.size // size * size]
    batches = whole.reshape(-1, size).mean(axis=1)
    longest = int(batches.size * LONGEST_WARM_UP)
    errors = [batches[first:].var() / (batches.size - first) for first in range(longest + 1)]
    first = int(np.argmin(errors))
    steady = series[first * size :]
    early, late = (float(np.median(half)) for half in np.array_split(steady, 2))
    low, median, high = np.quantile(steady, [0.25, 0.5, 0.75])
    if abs(late - early) > max(DRIFT * abs(median), (high - low) / 2):
        return None
    return Steady(first * size, _largest_drift(steady) / abs(float(median)))


def _largest_drift(values: npt.NDArray[np.float64]) -> float:
    """Return the far end of the interval of how much a line through the values rises or falls, in their unit."""
    from scipy import special  # it takes a third of a second to import, which a verdict on real time need not wait for

    place = np.arange(values.size) - (values.size - 1) / 2
    squares = float((place**2).sum())
    slope = float((place * values).sum()) / squares
    rest = values - values.mean() - slope * place
    freedom = values.size - 2
    error = math.sqrt(float((rest**2).sum()) / freedom / squares)
    return (abs(slope) + float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error) * (values.size - 1)
