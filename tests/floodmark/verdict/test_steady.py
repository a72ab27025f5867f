"""The warm-up is found in series that were made up, so it is known where it ends."""

from __future__ import annotations

import random

import pytest

from floodmark.verdict.steady import steady_from


def noisy(values: list[float], share: float = 0.0005) -> list[float]:
    chance = random.Random(1)
    return [value * (1 + chance.gauss(0, share)) for value in values]


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
