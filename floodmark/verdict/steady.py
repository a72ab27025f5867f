"""Where a warm-up ends: the windows of a series that are its steady part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# More is never left out: what is steady has to be as long as the warm-up was.
LONGEST_WARM_UP = 0.5
# What the two halves of a steady part may differ by, or it still drifts.
DRIFT = 0.005
# A long series is taken in about so many batches, so that noise from one window to the next is not seen as a warm-up.
BATCHES = 16


def steady_from(values: Sequence[float]) -> int | None:
    """Return the index of the first steady value of a series, None when it does not become steady.

    The marginal standard error rule on the means of batches (MSER-5, with batches that follow from the length): leave
    out as many of the first batches as make the standard error of the mean of the rest smallest. One more warm-up
    batch widens the rest, one steady batch less makes it smaller. What is then left must not drift: the medians of its
    two halves differ by at most 0.5 %, or by no more than half the distance of the quartiles, which a drift exceeds.

    Args:
        values: one for each window, in their order; at least four.

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
    return first * size if abs(late - early) <= max(DRIFT * abs(median), (high - low) / 2) else None
