"""The statistics of a comparison: right by the book, by scipy, and by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as reference

from floodmark.compare import stats

# Hollander & Wolfe, table 4.1: permeability of the human chorioamnion at term and at 12 to 26 weeks.
AT_TERM = np.array([0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46])
EARLY = np.array([1.15, 0.88, 0.90, 0.74, 1.21])


def normal(*shape: int, seed: int = 0) -> stats.Numbers:
    return np.random.default_rng(seed).normal(size=shape)


def all_two_sided_p(a: stats.Numbers, b: stats.Numbers) -> stats.Numbers:
    """Return p for each row of two tables without ties: the rank sum, looked up in its exact distribution."""
    sums, share = stats.rank_sums(range(1, a.shape[1] + b.shape[1] + 1), b.shape[1])
    ranks = np.argsort(np.argsort(np.concatenate([a, b], axis=1), axis=1), axis=1) + 1
    distance = np.abs(np.arange(sums.size) - sums[share > 0].mean())
    p_of_sum = np.array([share[distance >= one - 1e-9].sum() for one in distance])
    p: stats.Numbers = p_of_sum[ranks[:, a.shape[1] :].sum(axis=1)]
    return p


# --- by the book, and by scipy --------------------------------------------------------------------


def test_the_worked_example_of_hollander_and_wolfe() -> None:
    """The book: W = 30 for the early ones, P(W ≤ 30) = 0.127, and an estimate of -0.305."""
    sums, share = stats.rank_sums(range(1, 16), EARLY.size)
    assert share[sums <= 30].sum() == pytest.approx(0.1272, abs=5e-5)
    assert stats.mann_whitney_p(AT_TERM, EARLY) == pytest.approx(2 * 0.1272, abs=1e-4)
    assert stats.hodges_lehmann(AT_TERM, EARLY) == pytest.approx(-0.305)


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 3), (5, 5), (7, 12), (100, 100)])
def test_p_without_ties_is_scipys(n_a: int, n_b: int) -> None:
    a, b = normal(n_a), normal(n_b, seed=1) + 0.5
    assert stats.mann_whitney_p(a, b) == pytest.approx(reference.mannwhitneyu(a, b, method="exact").pvalue, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n_a", "n_b"), [(3, 4), (5, 5), (6, 3)])
def test_p_with_ties_is_that_of_all_permutations(seed: int, n_a: int, n_b: int) -> None:
    values = np.random.default_rng(seed).integers(0, 4, n_a + n_b).astype(float)
    ranks = reference.rankdata(values)
    centre = ranks.sum() * n_a / ranks.size
    all_sums = np.array([ranks[list(chosen)].sum() for chosen in itertools.combinations(range(n_a + n_b), n_a)])
    expected = np.mean(np.abs(all_sums - centre) >= abs(ranks[:n_a].sum() - centre) - 1e-9)
    assert stats.mann_whitney_p(values[:n_a], values[n_a:]) == pytest.approx(expected)


def test_p_with_many_ties_nears_the_normal_approximation() -> None:
    values = np.random.default_rng(3).integers(0, 8, 60).astype(float)
    a, b = values[:30], values[30:] + 1
    approximate = reference.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert stats.mann_whitney_p(a, b) == pytest.approx(approximate, abs=0.003)
    assert (
        stats.mann_whitney_p(np.tile(a, 2), b) == reference.mannwhitneyu(np.tile(a, 2), b, method="asymptotic").pvalue
    )


@pytest.mark.parametrize("n", [3, 5, 40])
def test_equal_values_are_no_difference(n: int) -> None:
    assert stats.mann_whitney_p(np.ones(n), np.ones(n)) == 1
    assert stats.shift_interval(np.ones(n), np.ones(n), 0.95, 100, 1) == (0, 0)


@pytest.mark.parametrize(("n", "p"), [(3, 0.1), (4, 0.0286), (5, 0.0079)])
def test_the_smallest_p_of_few_units(n: int, p: float) -> None:
    assert stats.smallest_p(n, n) == pytest.approx(p, abs=5e-5)
    assert stats.mann_whitney_p(np.arange(n, dtype=float), np.arange(n, dtype=float) + 9) == pytest.approx(
        stats.smallest_p(n, n)
    )


def test_holms_correction_is_that_of_scipys_stepwise_rule_by_hand() -> None:
    """By hand: 0.01 × 4, then max(0.04, 0.02 × 3), then max(0.06, 0.03 × 2), then max(0.06, 0.5 × 1)."""
    assert stats.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert stats.holm([]) == []


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (2, 3), (4, 4), (5, 8), (9, 9)])
def test_a_bootstrap_draw_is_the_shift_of_a_drawn_sample(n_a: int, n_b: int) -> None:
    """Draw the same weights, write the samples down, and ask the definition."""
    a, b = np.sort(normal(n_a)), np.sort(normal(n_b, seed=1).round(1))
    weights_a, weights_b = (stats._times_drawn(n, 50, seed) for n, seed in ((n_a, 14), (n_b, 15)))
    assert {*weights_a.sum(axis=1)} == {n_a}
    expected = [
        stats.hodges_lehmann(np.repeat(a, one), np.repeat(b, other))
        for one, other in zip(weights_a, weights_b, strict=True)
    ]
    assert stats.bootstrap_shifts(a[::-1], b, 50, 7) == pytest.approx(np.array(expected))


def test_an_interval_is_scipys_percentile_interval_at_the_expanded_level() -> None:
    a, b = normal(10), normal(12, seed=1) + 1
    confidence = 1 - 2 * stats.expanded_tail(10, 12, 0.95)

    def shift(a: stats.Numbers, b: stats.Numbers, axis: int) -> stats.Numbers:
        pairs = np.moveaxis(b, axis, -1)[..., :, None] - np.moveaxis(a, axis, -1)[..., None, :]
        return np.median(pairs.reshape(*pairs.shape[:-2], -1), axis=-1)

    expected = reference.bootstrap(
        (a, b), shift, n_resamples=100_000, batch=10_000, confidence_level=confidence, method="percentile",
        vectorized=True, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    low, high = stats.shift_interval(a, b, 0.95, 100_000, 1)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_the_expanded_level_is_that_of_students_interval() -> None:
    """Hesterberg's rule: the normal tail beyond sqrt(n / (n - 1)) times Student's quantile."""
    assert stats.expanded_tail(10, 10, 0.95) == pytest.approx(reference.norm.sf((10 / 9) ** 0.5 * 2.1009), abs=1e-5)
    assert stats.expanded_tail(10_000, 10_000, 0.95) == pytest.approx(0.025, abs=1e-4)


def test_one_unit_has_no_interval() -> None:
    assert stats.shift_interval(np.ones(1), np.ones(5), 0.95, 100, 1) == (-np.inf, np.inf)


# --- by simulation --------------------------------------------------------------------------------

NOISES = {
    "normal": lambda random, shape: random.normal(size=shape),
    "exponential": lambda random, shape: random.exponential(size=shape),
    "heavy tails": lambda random, shape: random.standard_t(3, size=shape),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("n_a", "n_b"), [(4, 4), (5, 5), (6, 9), (10, 10)])
def test_false_alarms_stay_below_the_level(noise: str, n_a: int, n_b: int) -> None:
    """20,000 A/A comparisons; the level is exceeded by no more than three standard errors."""
    random = np.random.default_rng(1)
    count = 20_000
    p = all_two_sided_p(NOISES[noise](random, (count, n_a)), NOISES[noise](random, (count, n_b)))
    assert np.mean(p <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / count) ** 0.5


def test_false_alarms_of_a_whole_report_stay_below_the_level() -> None:
    """4,000 A/A reports of 8 metrics that go together, as the metrics of one flood do: any alarm counts."""
    random = np.random.default_rng(6)
    count, metrics = 4000, 8
    common = random.normal(size=(count, 1, 14))
    values = (common + random.normal(size=(count, metrics, 14))).reshape(-1, 14)
    p = all_two_sided_p(values[:, :7], values[:, 7:]).reshape(count, metrics)
    alarms = np.mean([min(stats.holm(list(one))) <= 0.05 for one in p])
    assert 0 < alarms <= 0.05 + 3 * (0.05 * 0.95 / count) ** 0.5


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("n_a", "n_b"), [(5, 5), (5, 10), (10, 10), (20, 3), (30, 4)])
def test_intervals_cover_at_their_nominal_rate(noise: str, n_a: int, n_b: int) -> None:
    """The true shift of two equal distributions that are one unit apart is 1."""
    random = np.random.default_rng(2)
    count = 1000
    a, b = NOISES[noise](random, (count, n_a)), NOISES[noise](random, (count, n_b)) + 1
    intervals = [stats.shift_interval(a[i], b[i], 0.95, 1000, i % 20) for i in range(count)]
    covered = np.mean([low <= 1 <= high for low, high in intervals])
    assert 0.95 - 3 * (0.95 * 0.05 / count) ** 0.5 <= covered


@pytest.mark.parametrize(
    ("margin", "alpha"), [(2.5, 0.05), (2, 0.05), (1.5, 0.05), (1, 0.05), (0.7, 0.05), (1.5, 0.05 / 8)]
)
def test_a_known_shift_is_found_with_the_power_that_was_promised(margin: float, alpha: float) -> None:
    """Spread 1: `units_needed` promises that a shift of the margin is found in 80 % of the comparisons."""
    count = 4000
    units = stats.units_needed(1, margin, alpha, 0.95, 0.8)
    random = np.random.default_rng(3)
    p = all_two_sided_p(random.normal(size=(count, units)), random.normal(size=(count, units)) + margin)
    power = np.mean(p <= alpha)
    assert power >= 0.8 - 3 * (0.8 * 0.2 / count) ** 0.5
    # And fewer would not do for both promises, so the number is not just large.
    fewer = units - 1
    assert (
        stats.power_to_find(fewer, margin, alpha) < 0.8
        or stats.power_to_show_equivalence(fewer, margin, 0.95) < 0.8
        or stats.smallest_p(fewer, fewer) > alpha
    )


@pytest.mark.parametrize(("units", "shift"), [(5, 2.0), (6, 1.8), (8, 1.5), (15, 1.0), (40, 0.6)])
def test_the_power_to_find_is_that_of_the_simulation(units: int, shift: float) -> None:
    count = 10_000
    random = np.random.default_rng(4)
    p = all_two_sided_p(random.normal(size=(count, units)), random.normal(size=(count, units)) + shift)
    assert stats.power_to_find(units, shift, 0.05) == pytest.approx(np.mean(p <= 0.05), abs=0.03)


@pytest.mark.parametrize("margin", [2.5, 1.8, 1.3])
def test_no_shift_is_shown_to_be_equivalent_with_the_power_that_was_promised(margin: float) -> None:
    count = 400
    units = stats.units_needed(1, margin, 0.05, 0.95, 0.8)
    a, b = normal(count, units), normal(count, units, seed=5)
    intervals = [stats.shift_interval(a[i], b[i], 0.95, 1000, i % 20) for i in range(count)]
    shown = np.mean([-margin <= low and high <= margin for low, high in intervals])
    assert shown >= 0.8 - 3 * (0.8 * 0.2 / count) ** 0.5


@pytest.mark.parametrize("n", [5, 10])
def test_a_shift_of_the_margin_is_rarely_called_equivalent(n: int) -> None:
    """Half of what the interval misses is on the one side that matters: 2.5 %."""
    count, margin = 600, 1.5
    a, b = normal(count, n, seed=8), normal(count, n, seed=9) + margin
    intervals = [stats.shift_interval(a[i], b[i], 0.95, 1000, i % 20) for i in range(count)]
    shown = np.mean([-margin <= low and high <= margin for low, high in intervals])
    assert shown <= 0.025 + 3 * (0.025 * 0.975 / count) ** 0.5


def test_units_needed_at_its_edges() -> None:
    assert stats.units_needed(0, 1, 0.05, 0.95, 0.8) == 4  # no spread: only p has to be able to fall far enough
    assert stats.units_needed(0, 1, 0.05 / 8, 0.95, 0.8) == 6
    assert stats.units_needed(1, 0, 0.05, 0.95, 0.8) == stats.MOST_UNITS
    # By hand, with normal quantiles: 2 × ((1.960 + 1.282) / 0.04)² × π / 3, for equivalence.
    assert stats.units_needed(1, 0.04, 0.05, 0.95, 0.8) == pytest.approx(13_758, rel=0.001)


@pytest.mark.parametrize(("units", "level"), [(3, 0.0), (4, 0.0286), (5, 0.0317)])
def test_the_level_that_few_units_can_have(units: int, level: float) -> None:
    assert stats.attainable_level(units, 0.05) == pytest.approx(level, abs=5e-5)


# --- several classes ------------------------------------------------------------------------------


def p_of(a: list[list[float]], b: list[list[float]]) -> stats.PermutationP:
    """Return the p of boots that each have a number for each class."""
    return stats.permutation_test(stats.rank_scores(np.array([*a, *b], dtype=float).T), len(a))


@pytest.mark.parametrize(("n_a", "n_b"), [(4, 4), (5, 7), (8, 8)])
def test_for_one_class_the_permutation_test_is_the_mann_whitney_test(n_a: int, n_b: int) -> None:
    random = np.random.default_rng(n_a)
    for _ in range(20):
        a, b = random.integers(0, 6, n_a).astype(float), random.integers(0, 6, n_b).astype(float)
        found = p_of([[one] for one in a], [[one] for one in b])
        assert found.p == pytest.approx(stats.mann_whitney_p(a, b))
        assert found.least == pytest.approx(stats.least_mann_whitney_p(a, b))


def test_drawn_regroupings_give_nearly_the_p_of_all() -> None:
    a, b = normal(12), normal(12, seed=3) + 0.8
    assert p_of(a[:, None].tolist(), b[:, None].tolist()).p == pytest.approx(stats.mann_whitney_p(a, b), abs=0.01)


def test_drawn_regroupings_never_give_a_p_of_zero() -> None:
    assert p_of([[1.0]] * 30, [[2.0]] * 30).p == pytest.approx(1 / 10_000)


def test_two_status_splits_that_never_mix_have_the_smallest_p() -> None:
    assert p_of([[23, 9]] * 5, [[22, 10]] * 5) == pytest.approx((2 / 252, 2 / 252))


def test_one_boot_that_is_different_could_never_be_significant() -> None:
    """Whichever of ten boots it is: one of 5 in an arm is as likely as not."""
    assert p_of([[0.0]] * 4 + [[1.0]], [[0.0]] * 5).least == 1


def test_classes_that_say_the_same_count_once() -> None:
    split, capacity = np.array([[23, 23, 22], [9, 9, 10]]), np.array([[9, 9, 10]])
    assert stats.rank_scores(split).tolist() == stats.rank_scores(capacity).tolist()
    assert stats.rank_scores(np.array([[5, 5, 5]])).size == 0


def test_what_a_boot_does_not_say_is_neither_0_nor_left_out() -> None:
    """Three full queues hold 9; of the other three nobody knows. Only whether they were full parts the boots."""
    unknown = np.array([[9, 9, 9, np.nan, np.nan, np.nan]])
    (row,) = stats.rank_scores(unknown)
    assert row.tolist() == pytest.approx([6**-0.5] * 3 + [-(6**-0.5)] * 3)
    # Where the known ones vary too, the unknown are in their middle.
    both = stats.rank_scores(np.array([[9, 10, np.nan, np.nan]]))
    assert [0.0, 0.0] in [row[2:].tolist() for row in both]


@pytest.mark.parametrize("n", [5, 10])
def test_the_permutation_test_keeps_its_level_for_counts_that_go_together(n: int) -> None:
    """2,000 A/A comparisons of three classes of 100 requests, tied and correlated."""
    random = np.random.default_rng(n)
    p = []
    for _ in range(2000):
        counts = random.multinomial(100, [0.95, 0.04, 0.01], size=2 * n).astype(float)
        p.append(p_of(counts[:n].tolist(), counts[n:].tolist()).p)
    assert 0.02 < np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


def test_a_shift_in_one_of_three_classes_is_found() -> None:
    random = np.random.default_rng(1)
    found = []
    for _ in range(300):
        counts = random.normal([50, 30, 20], [3, 3, 3], size=(14, 3))
        counts[7:, 0] += 9
        found.append(p_of(counts[:7].tolist(), counts[7:].tolist()).p <= 0.05)
    assert np.mean(found) > 0.8


# --- weights of Holm's correction -----------------------------------------------------------------


def test_holm_with_equal_weights_is_holm() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert stats.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm(p, [2, 2, 2, 2]) == pytest.approx(stats.holm(p))


def test_holm_with_weights_by_hand() -> None:
    """One of weight 3 beside three of weight 1: it is compared with half of the level, and then they have all of it."""
    assert stats.holm([0.02, 0.01, 0.5, 0.5], [3, 1, 1, 1]) == pytest.approx([0.04, 0.04, 1.0, 1.0])
    assert stats.holm([0.02, 0.005, 0.5, 0.5], [3, 1, 1, 1]) == pytest.approx([5 * 0.02 / 3, 0.03, 1.0, 1.0])


def test_weighted_holm_keeps_the_level_of_the_family() -> None:
    random = np.random.default_rng(4)
    p = random.uniform(size=(4000, 6))
    alarms = np.mean([min(stats.holm(list(one), [3, 3, 1.5, 1.5, 1.5, 1.5])) <= 0.05 for one in p])
    assert 0.03 < alarms <= 0.05 + 3 * (0.05 * 0.95 / 4000) ** 0.5


# --- tails ----------------------------------------------------------------------------------------


def test_the_maximum_bounds_the_upper_decile_from_36_units_on() -> None:
    """0.9 ** 36 = 0.0225 is the first that is at most 2.5 %."""
    values = np.arange(1, 37, dtype=float)
    assert stats.quantile_bounds(values, 0.9, 0.95).high == 36
    assert stats.quantile_bounds(values[:35], 0.9, 0.95).high == np.inf


@pytest.mark.parametrize("n", [36, 50, 100])
def test_each_bound_of_a_decile_misses_it_as_rarely_as_it_says(n: int) -> None:
    random = np.random.default_rng(n)
    bounds = np.array([stats.quantile_bounds(random.exponential(size=n), 0.9, 0.95) for _ in range(4000)])
    missed = 0.025 + 3 * (0.025 * 0.975 / 4000) ** 0.5
    assert np.mean(bounds[:, 0] > np.log(10)) <= missed
    assert np.mean(bounds[:, 1] < np.log(10)) <= missed


@pytest.mark.parametrize(("n", "shift"), [(36, 0.7), (60, 0.7)])
def test_tails_that_are_farther_apart_than_the_margin_are_rarely_shown_to_be_within(n: int, shift: float) -> None:
    """The tail of b is just beyond the margin, whose two bounds each miss 2.5 %."""
    random = np.random.default_rng(n)
    shown = [
        stats.tail_shift_bounds(random.normal(size=n) * 0.1, random.normal(size=n) * 0.1 + shift, 0.95).high <= shift
        for _ in range(4000)
    ]
    assert np.mean(shown) <= 0.05 + 3 * (0.05 * 0.95 / 4000) ** 0.5


@pytest.mark.parametrize(("spread", "margin"), [(1, 10), (1, 0.7), (1, 1), (1, 1.5)])
def test_equal_tails_are_shown_with_the_units_that_were_said(spread: float, margin: float) -> None:
    units = stats.units_needed_for_tails(spread, margin, 0.95)
    random = np.random.default_rng(units)
    shown = []
    for _ in range(500):
        low, high = stats.tail_shift_bounds(random.normal(0, spread, units), random.normal(0, spread, units), 0.95)
        shown.append(-margin <= low and high <= margin)
    assert np.mean(shown) >= 0.75
