"""Statistics of a comparison: arrays of numbers in, numbers out; nothing here knows of runs or kernels.

Everywhere `a` is the baseline and `b` is what is compared with it, each one number for each independent unit; a shift
is b - a, in their unit. Sources:

    [HW]   Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, chapter 4
    [SR]   Streitberg, Röhmel: Exact distributions for permutation and rank tests, Stat. Software Newsletter 12, 1986
    [Holm] Holm: A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 1979
    [Hes]  Hesterberg: What teachers should know about the bootstrap, Am. Stat. 69, 2015, "expanded percentile"
    [Leh]  Lehmann: Nonparametrics, chapter 2: the test needs π/3 of the t test's units where noise is normal
    [PS]   Phipson, Smyth: Permutation p-values should never be zero, Stat. Appl. Genet. Mol. Biol. 9, 2010
    [Pes]  Pesarin, Salmaso: Permutation Tests for Complex Data, 2010, chapter 4, combination over several variables
    [Tar]  Tarone: A modified Bonferroni method for discrete data, Biometrics 46, 1990
    [DN]   David, Nagaraja: Order Statistics, section 7.1, distribution-free intervals of quantiles
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import combinations
from typing import NamedTuple

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
# Up to so many regroupings of the units a permutation test counts all; above, it draws this many.
MOST_REGROUPINGS = 20_000
DRAWN_REGROUPINGS = 9_999
# The share of units that are not in the tail.
TAIL_BEGINS_AT = 0.9
# Density of the normal distribution there.
DENSITY_AT_THE_TAIL = math.exp(-(special.ndtri(TAIL_BEGINS_AT) ** 2) / 2) / math.sqrt(2 * math.pi)
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


def least_mann_whitney_p(a: Numbers, b: Numbers) -> float:
    """Return the smallest p that these values could give, however they are grouped. Source: [Tar]."""
    values = np.sort(np.concatenate([a, b]))
    if np.unique(values).size == values.size:
        return smallest_p(a.size, b.size)
    return min(
        mann_whitney_p(values[: a.size], values[a.size :]),
        mann_whitney_p(values[b.size :], values[: b.size]),
    )


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


class PermutationP(NamedTuple):
    """What a permutation test says.

    Attributes:
        p: share of the regroupings of the units in which the arms are at least as far apart as they are.
        least: the smallest p that the same values could give, however they are grouped.
    """

    p: float
    least: float


def rank_scores(classes: Numbers) -> Numbers:
    """Return what a permutation test of several classes compares.

    Args:
        classes: a row for each class, a column for each unit; not a number where the unit does not say.

    Returns:
        A row of scores for each class that varies: ranks with mean 0 and length 1, midranks where values are tied. A
        value that is not known has the score 0, the middle, and whether it is known is a row by itself. Rows that part
        the units in the same way, such as 502 and 504 of a flood that gets nothing else, are one row. Equal
        results mean that two tests are the same test.
    """
    known = ~np.isnan(classes)
    rows = [*(_centred_ranks(row, there) for row, there in zip(classes, known, strict=True)), *known.astype(float)]
    scores = []
    for centred in (row - row.mean() for row in rows):
        length = np.linalg.norm(centred)
        if length > 1e-9:
            score = np.round(centred / length, 9)
            scores.append(score * np.sign(score[np.flatnonzero(score)[0]]))
    units = classes.shape[1]
    return np.unique(np.array(scores), axis=0) + 0.0 if scores else np.empty((0, units))


def _centred_ranks(values: Numbers, known: npt.NDArray[np.bool_]) -> Numbers:
    ranks = np.zeros(values.size)
    if known.any():
        _, place, count = np.unique(values[known], return_inverse=True, return_counts=True)
        there = (np.cumsum(count) - (count - 1) / 2)[place]
        ranks[known] = there - there.mean()
    return ranks


def permutation_test(scores: Numbers, n_a: int) -> PermutationP:
    """Return the p of the permutation test for arms that differ in any of some classes.

    The distance of the arms is that of their vectors of mean scores, squared; for one class this is the Mann-Whitney
    test. Sums of absolute differences find a change of one class in three less often: 65 % instead of 97 %.

    All regroupings are counted while they are few. Otherwise some are drawn, always the same ones, and p is
    (b + 1) / (m + 1). Source: [Pes], for drawn regroupings [PS].

    Args:
        scores: what `rank_scores` gives, the units of the baseline first.
        n_a: units of the baseline.
    """
    if not scores.size:
        return PermutationP(1.0, 1.0)
    groups, complete = _regroupings(scores.shape[1], n_a)
    # Scores have mean 0, so the difference of means is proportional to the sum over the baseline.
    distances = ((groups @ scores.T) ** 2).sum(axis=1)
    observed = (scores[:, :n_a].sum(axis=1) ** 2).sum()

    def share_of(distance: float) -> float:
        count = np.count_nonzero(distances >= distance - 1e-6)
        return float(count / len(groups) if complete else (count + 1) / (len(groups) + 1))

    return PermutationP(share_of(observed), share_of(float(distances.max())))


@lru_cache(maxsize=8)
def _regroupings(units: int, n_a: int) -> tuple[Numbers, bool]:
    """Return ways to choose the baseline's units, a row of 0 and 1 each, and whether these are all ways."""
    if math.comb(units, n_a) > MOST_REGROUPINGS:
        order = np.random.default_rng(units).random((DRAWN_REGROUPINGS, units)).argsort(axis=1)
        return (order < n_a).astype(float), False
    chosen = np.array(list(combinations(range(units), n_a)))
    groups = np.zeros((len(chosen), units))
    np.put_along_axis(groups, chosen, 1, axis=1)
    return groups, True


def smallest_p(n_a: int, n_b: int) -> float:
    """Return the smallest two-sided p that so many units can give, however far apart they are."""
    log_choices = math.lgamma(n_a + n_b + 1) - math.lgamma(n_a + 1) - math.lgamma(n_b + 1)
    return min(1.0, 2 * math.exp(-log_choices))


def units_for_p(p: float) -> int:
    """Return the units that each arm needs so that arms that do not overlap have at most this p."""
    return _first_enough(lambda units: smallest_p(units, units) <= p)


def holm(p_values: Sequence[float], weights: Sequence[float] | None = None) -> list[float]:
    """Return the p values adjusted for all of them together, in their order. Source: [Holm], section 3 for weights.

    Args:
        p_values: of the tests.
        weights: how much of the level each has in proportion to the others, above 0; the same for all unless given.
    """
    if not len(p_values):
        return []
    p = np.asarray(p_values, dtype=float)
    shares = np.ones(p.size) if weights is None else np.asarray(weights, dtype=float)
    order = np.argsort(p / shares, kind="stable")
    still_open = np.cumsum(shares[order][::-1])[::-1]
    adjusted = np.empty(p.size)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate((p / shares)[order] * still_open))
    return [float(one) for one in adjusted]


# --- tails --------------------------------------------------------------------------------------


class Bounds(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


def quantile_bounds(values: Numbers, share: float, confidence: float) -> Bounds:
    """Return the interval of a quantile between two order statistics, whatever the distribution is. Source: [DN].

    Args:
        values: the sample.
        share: of the distribution below the quantile.
        confidence: that the quantile is in the interval; each end misses it with half of the rest at most.

    Returns:
        The interval; an end is infinite where the sample is too small for it. At a confidence of 0.95 the maximum
        bounds the upper decile from 36 values on.
    """
    low, high = _ranks_of_bounds(values.size, share, confidence)
    ordered = np.sort(values)
    return Bounds(
        float(ordered[low]) if low >= 0 else -math.inf,
        float(ordered[high]) if high < values.size else math.inf,
    )


@cache
def _ranks_of_bounds(units: int, share: float, confidence: float) -> tuple[int, int]:
    """Return the places, from 0, of the ends of `quantile_bounds`; -1 and the number of units where there is no end."""
    miss = (1 - confidence) / 2

    def at_most(count: int) -> float:
        """Return the probability that so many units, or fewer, are below the quantile."""
        return float(special.bdtr(count, units, share)) if count >= 0 else 0.0

    low, high = (math.floor(special.bdtrik(one, units, share)) for one in (miss, 1 - miss))
    # The inverse is only nearly exact.
    low = next(count for count in (low + 1, low, low - 1) if at_most(count) <= miss)
    high = next(count for count in (high - 1, high, high + 1, units) if at_most(count) >= 1 - miss)
    return low, high


def tail_shift_bounds(a: Numbers, b: Numbers, confidence: float) -> Bounds:
    """Return the interval of how much the upper decile of b is above that of a.

    Args:
        a: values of the baseline.
        b: values of the other arm.
        confidence: of the interval of the decile of each arm. An end of the result is wrong only if an end of one of
            the two intervals is, so each end holds with this confidence.
    """
    of_a, of_b = (quantile_bounds(values, TAIL_BEGINS_AT, confidence) for values in (a, b))
    return Bounds(of_b.low - of_a.high, of_b.high - of_a.low)


def units_needed_for_tails(spread: float, margin: float, confidence: float) -> int:
    """Return the units that each arm needs so that equal tails are shown to be within a margin in about 80 %.

    Noise is taken as normal.

    Args:
        spread: standard deviation of the units, in the unit of the margin.
        margin: what the upper deciles may be apart.
        confidence: of the interval.

    Returns:
        Units of each arm, at most MOST_UNITS.
    """

    def enough(units: int) -> bool:
        low, high = _ranks_of_bounds(units, TAIL_BEGINS_AT, confidence)
        if low < 0 or high >= units:
            return False
        # Expected values of these order statistics, which is Blom's approximation.
        width = special.ndtri((high + 0.625) / (units + 0.25)) - special.ndtri((low + 0.625) / (units + 0.25))
        # An end varies about as the decile itself does, so both directions succeed in about 80 % with this much room.
        room = special.ndtri(0.9) * math.sqrt(2 * TAIL_BEGINS_AT * (1 - TAIL_BEGINS_AT) / units) / DENSITY_AT_THE_TAIL
        return bool(spread * (width + room) <= margin)

    return _first_enough(enough)


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

    return _first_enough(enough)


def _first_enough(enough: Callable[[int], bool]) -> int:
    """Return the first number of units that is enough, MOST_UNITS when none below is."""
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
