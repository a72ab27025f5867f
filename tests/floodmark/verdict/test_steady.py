"""The warm-up is found in series that were made up, so it is known where it ends."""

from __future__ import annotations

import random

import numpy as np
import pytest

from floodmark.verdict.steady import find_steady


def noisy(values: list[float], share: float = 0.0005) -> list[float]:
    chance = random.Random(1)
    return [value * (1 + chance.gauss(0, share)) for value in values]


def steady_from(values: list[float]) -> int | None:
    """Return the index of the first steady value."""
    found = find_steady(values)
    return None if found is None else found.first


def test_what_never_changes_is_steady_from_the_first_window() -> None:
    assert steady_from([1000.0] * 24) == 0


def test_noise_alone_leaves_most_windows() -> None:
    first = steady_from(noisy([1000.0] * 24))
    assert first is not None
    assert first <= 6


@pytest.mark.parametrize("length", [1, 3, 9])
def test_a_step_is_left_out_whole_and_little_besides(length: int) -> None:
    first = steady_from(noisy([1100.0] * length + [1000.0] * (24 - length)))
    assert first is not None
    assert length <= first <= length + 3


def test_a_warm_up_that_fades_is_left_out_as_far_as_it_shows() -> None:
    first = steady_from(noisy([1000 * (1 + 0.4 * 0.5**window) for window in range(24)]))
    assert first is not None
    assert 6 <= first <= 12


def test_one_disturbed_window_is_no_warm_up() -> None:
    values = noisy([1000.0] * 24)
    values[15] = 1050.0
    first = steady_from(values)
    assert first is not None
    assert first <= 8


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([1000.0 + 2 * window for window in range(24)], id="it drifts"),
        pytest.param([1100.0] * 16 + [1000.0] * 8, id="the step comes too late"),
        pytest.param([1000.0] * 18 + [1020.0] * 6 + [1000.0] * 0, id="it leaves its level again"),
    ],
)
def test_a_series_without_a_steady_part_has_none(values: list[float]) -> None:
    first = steady_from(noisy(values))
    # A change in the last quarter alone is no drift of the medians; then the spread shows it.
    assert first is None or max(values[first:]) / min(values[first:]) == pytest.approx(1.02)


# --- the drift that it does not see -----------------------------------------------------------------


def test_what_never_changes_does_not_drift() -> None:
    found = find_steady([1000.0] * 24)
    assert found is not None
    assert found.undetected_drift == 0


def test_a_drift_by_hand() -> None:
    """0.2 % in all, without noise: the interval of the slope has no width."""
    found = find_steady([1000.0 + 2 * place / 23 for place in range(24)])
    assert found is not None
    of_the_rest = 2 * (23 - found.first) / 23
    assert found.undetected_drift == pytest.approx(of_the_rest / (1002 - of_the_rest / 2))


@pytest.mark.parametrize("noise", [0.0002, 0.002])
@pytest.mark.parametrize("drift", [0.0, 0.0005, 0.002, 0.01, 0.03])
@pytest.mark.parametrize("windows", [8, 24, 40])
def test_a_drift_beyond_the_bound_is_rejected(windows: int, drift: float, noise: float) -> None:
    """In at least 95 % of series a drift is no larger than the bound, or there is no steady part."""
    chance = np.random.default_rng([windows, round(drift * 1e5), round(noise * 1e5)])
    count, missed = 1000, 0
    line = np.arange(windows) / (windows - 1)
    for _ in range(count):
        found = find_steady(list(1000 * (1 + drift * line + noise * chance.standard_normal(windows))))
        if found is not None:
            steady = line[found.first :]
            missed += drift * (steady[-1] - steady[0]) > found.undetected_drift * (1 + drift * steady.mean())
    assert missed / count <= 0.05 + 3 * (0.05 * 0.95 / count) ** 0.5


@pytest.mark.parametrize("drift", [0.0, 0.01])
def test_the_bound_is_no_larger_than_it_takes(drift: float) -> None:
    """With noise of 0.05 % and forty windows the bound is within 0.3 % of the drift."""
    chance = np.random.default_rng(1)
    line = np.arange(40) / 39
    bounds = []
    for _ in range(200):
        found = find_steady(list(1000 * (1 + drift * line + 0.0005 * chance.standard_normal(40))))
        bounds += [found.undetected_drift] if found else []
    assert np.median(bounds) < drift + 0.003
