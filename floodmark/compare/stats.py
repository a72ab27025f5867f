"""Statistics of a comparison: arrays of numbers in, numbers out; nothing here knows of runs or kernels.

Everywhere `a` is the baseline and `b` is what is compared with it, each one number for each independent unit; a shift
is b - a, in their unit. Sources:

    [HW]   Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, chapter 4
    [SR]   Streitberg, Röhmel: Exact distributions for permutation and rank tests, Stat. Software Newsletter 12, 1986
    [Holm] Holm: A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 1979
    [Hes]  Hesterberg: What teachers should know about the bootstrap, Am. Stat. 69, 2015, "expanded percentile"
    [Leh]  Lehmann: Nonparametrics, chapter 2: the test needs π/3 of the t test's units where noise is normal
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

# Up to so many units in both arms p is counted out even where values are tied; above, the normal approximation with
# its correction for ties differs from it in the third digit.
COUNTED_UP_TO = 60
# Efficiency of the Mann-Whitney test in comparison with the t test, for normal noise [Leh].
EFFICIENCY = 3 / math.pi
# Samples drawn from two units are too few to tell a spread from.
LEAST_FOR_AN_INTERVAL = 3
# A power calculation stops here: nobody boots a million times.
MOST_UNITS = 1_000_000


# --- shift --------------------------------------------------------------------------------------


def hodges_lehmann(a: Numbers, b: Numbers) -> float:
    """Return the median of all differences between a value of b and one of a. Source: [HW] 4.2."""
    return float(np.median(np.subtract.outer(b, a)))


def bootstrap_shifts(a: Numbers, b: Numbers, draws: int, seed: int) -> Numbers:
    """Return the Hodges-Lehmann shift of samples drawn with replacement from each arm.

    A drawn sample has the values of the original, some of them several times, so its differences are those of the
    original with weights, and its shift is their weighted median. That is found by bisection over the
    sorted differences, for all draws at once, without ever writing down the differences of a draw.

    Args:
        a: values of the baseline, of any order.
        b: values of the other arm.
        draws: how many samples are drawn.
        seed: of the random numbers; the same seed gives the same draws.

    Returns:
        One shift for each draw, in the unit of the values.
    """
    a, b = np.sort(a), np.sort(b)
    differences, rank = np.unique(np.subtract.outer(b, a).T, return_inverse=True)
    # For each difference and value of a: how many values of b are not farther away than the difference.
    within = np.stack(
        [np.searchsorted(row, np.arange(differences.size), side="right") for row in rank.reshape(a.size, b.size)],
        axis=1,
    )
    weights = _times_drawn(a.size, draws, 2 * seed)
    cumulated = np.zeros((draws, b.size + 1), dtype=weights.dtype)
    np.cumsum(_times_drawn(b.size, draws, 2 * seed + 1), axis=1, out=cumulated[:, 1:])
    rows = np.arange(0, cumulated.size, b.size + 1)[:, None]

    def up_to(places: Counts) -> Counts:
        """Return for each draw how many of its differences are not greater than the one at a place."""
        taken = cumulated.ravel().take(rows + within[places])
        counts: Counts = np.einsum("ij,ij->i", weights, taken)
        return counts

    pairs = a.size * b.size
    lower = _first_place(up_to, (pairs + 1) // 2, np.zeros(draws, dtype=np.int64), differences.size - 1)
    upper = lower
    if pairs % 2 == 0:
        upper = _first_place(up_to, pairs // 2 + 1, lower, differences.size - 1)
    shifts: Numbers = (differences[lower] + differences[upper]) / 2
    return shifts


@cache
def _times_drawn(units: int, draws: int, seed: int) -> npt.NDArray[np.int32]:
    """Return how many times each unit is in each sample; the same for all metrics, whose units are the same boots."""
    return np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=draws).astype(np.int32)


def _first_place(up_to: Callable[[Counts], Counts], wanted: int, low: Counts, last: int) -> Counts:
    """Return for each draw the first place at which the count has reached what is wanted."""
    high = np.full_like(low, last)
    low = low.copy()
    while np.any(low < high):
        middle = (low + high) // 2
        reached = up_to(middle) >= wanted
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle + 1)
    return low


def shift_interval(a: Numbers, b: Numbers, confidence: float, draws: int, seed: int) -> tuple[float, float]:
    """Return the interval of the shift by the expanded percentile bootstrap.

    The plain percentile interval is too narrow for few units: resampling sees the spread n - 1 / n times, and the
    normal quantile instead of Student's. The percentiles are moved outwards for both. Source: [Hes].

    Args:
        a: values of the baseline.
        b: values of the other arm.
        confidence: share of such intervals that contain the true shift, such as 0.95.
        draws: samples drawn.
        seed: of the random numbers.
    """
    if min(a.size, b.size) < LEAST_FOR_AN_INTERVAL:
        return -math.inf, math.inf
    shifts = bootstrap_shifts(a, b, draws, seed)
    tail = expanded_tail(a.size, b.size, confidence)
    low, high = np.quantile(shifts, [tail, 1 - tail])
    return float(low), float(high)


def expanded_tail(n_a: int, n_b: int, confidence: float) -> float:
    """Return the share of draws left out on each side. Source: [Hes].

    Of unequal arms the smaller one decides, as if the other were as small: with the freedom of both together 95 %
    intervals held 90 % of the time for 30 units beside 4.
    """
    smaller = min(n_a, n_b)
    student = special.stdtrit(2 * (smaller - 1), (1 + confidence) / 2)
    return float(special.ndtr(-math.sqrt(smaller / (smaller - 1)) * student))


def tendency(a: Numbers, b: Numbers) -> float:
    """Return how much more often a value of b is above one of a than below it: -1 to 1, 0 when they do not differ.

    It is what the Mann-Whitney test asks about; with many ties a median shift may be 0 while this is not.
    """
    return float(np.sign(np.subtract.outer(b, a)).mean())


# --- test ---------------------------------------------------------------------------------------


def mann_whitney_p(a: Numbers, b: Numbers) -> float:
    """Return the two-sided p of the Mann-Whitney test: exact, by permutation where values are tied.

    Source: [HW] 4.1; for ties [SR].
    """
    if a.size + b.size > COUNTED_UP_TO:
        return _mann_whitney_p_of_many(a, b)
    # Twice the ranks, because tied ranks are halves.
    _, place, count = np.unique(np.concatenate([a, b]), return_inverse=True, return_counts=True)
    ranks = (2 * np.cumsum(count) - count + 1)[place]
    sums, share = rank_sums(tuple(int(rank) for rank in ranks), a.size)
    centre = a.size * ranks.sum() / ranks.size
    distance = abs(ranks[: a.size].sum() - centre)
    return min(1.0, float(share[np.abs(sums - centre) >= distance - 1e-9].sum()))


def _mann_whitney_p_of_many(a: Numbers, b: Numbers) -> float:
    """Return p as scipy has it: exact without ties, else by the normal approximation."""
    from scipy.stats import mannwhitneyu  # it takes longer to import than a usual comparison takes

    ties = np.unique(np.concatenate([a, b])).size < a.size + b.size
    p = float(mannwhitneyu(a, b, method="asymptotic" if ties else "exact").pvalue)
    return 1.0 if math.isnan(p) else p  # all values are the same


def rank_sums(ranks: Sequence[int], taken: int) -> tuple[Counts, Numbers]:
    """Return all sums of some of the ranks, with the share of the choices that has each.

    Args:
        ranks: whole numbers.
        taken: how many are chosen.

    Returns:
        The sums, and their probabilities when every choice is equally likely. Source: [SR], the shift algorithm.
    """
    most = sum(sorted(ranks)[-taken:])
    ways = np.zeros((taken + 1, most + 1))
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, : most + 1 - rank].copy()
    counts = ways[taken]
    return np.arange(most + 1), counts / counts.sum()


def smallest_p(n_a: int, n_b: int) -> float:
    """Return the smallest two-sided p that so many units can give, however far apart they are."""
    log_choices = math.lgamma(n_a + n_b + 1) - math.lgamma(n_a + 1) - math.lgamma(n_b + 1)
    return min(1.0, 2 * math.exp(-log_choices))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number, in their order. Source: [Holm]."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(p_values) else steps
    return [float(one) for one in adjusted]


# --- power --------------------------------------------------------------------------------------


def units_needed(spread: float, margin: float, alpha: float, confidence: float, power: float) -> int:
    """Return the units that each arm needs so that a comparison decides.

    With so many a shift as large as the margin is found with the given power, and no shift at all is shown to be
    equivalent with the same. Noise is taken as normal.

    Args:
        spread: standard deviation of the units, in the unit of the margin.
        margin: the smallest shift that matters.
        alpha: what p has to stay below, after the correction for the number of tests.
        confidence: of the interval that has to lie within the margin.
        power: such as 0.8.

    Returns:
        Units of each arm, at most MOST_UNITS.
    """

    def enough(units: int) -> bool:
        return smallest_p(units, units) <= alpha and (
            spread <= 0
            or (
                power_to_find(units, margin / spread, alpha) >= power
                and power_to_show_equivalence(units, margin / spread, confidence) >= power
            )
        )

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if low >= MOST_UNITS:
            return MOST_UNITS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def power_to_find(units: int, shift: float, alpha: float) -> float:
    """Return how often the exact test finds a shift.

    Args:
        units: of each arm.
        shift: in standard deviations.
        alpha: what p has to stay below.

    Returns:
        The power of a t test with fewer units [Leh], at the level that the exact test can really have.
    """
    level = attainable_level(units, alpha) if 2 * units <= COUNTED_UP_TO else alpha
    if level == 0:
        return 0.0
    effective = units * EFFICIENCY
    freedom = 2 * effective - 2
    noncentral = shift * math.sqrt(effective / 2)
    critical = special.stdtrit(freedom, 1 - level / 2)
    # Far out scipy's noncentral distribution is not a number; there nothing is left to miss.
    return float(1 - special.nctdtr(freedom, noncentral, critical)) if noncentral < 30 else 1.0


def power_to_show_equivalence(units: int, margin: float, confidence: float) -> float:
    """Return how often the interval of arms that do not differ lies within the margin.

    Args:
        units: of each arm.
        margin: in standard deviations.
        confidence: of the interval.
    """
    # The width of the interval varies as well. By simulation, a quantile for one arm instead of both accounts for that.
    room = margin * math.sqrt(units * EFFICIENCY / 2) - special.stdtrit(units - 1, (1 + confidence) / 2)
    return max(0.0, float(2 * special.stdtr(2 * units - 2, room) - 1))


@cache
def attainable_level(units: int, alpha: float) -> float:
    """Return the greatest two-sided p, not above alpha, that the exact test without ties can give."""
    sums, share = rank_sums(range(1, 2 * units + 1), units)
    tails = 2 * np.cumsum(share[sums >= units * (units + 1) // 2])
    allowed = tails[tails <= alpha * (1 + 1e-9)]
    return float(allowed[-1]) if allowed.size else 0.0
