"""How often a whole comparison is wrong, behaviour included, and how often it finds what is there.

Counted over comparisons of made-up records that go through `compare_records`. `make bench-errors` does the
same with more of them and prints the rates that docs/comparing.md quotes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from floodmark.compare import effects
from floodmark.compare.family import ALPHA
from floodmark.compare.model import Sameness, Verdict
from tests.floodmark.compare.simulated import (
    CASES,
    CHANGES,
    NOISY_CHANGES,
    OTHER,
    SPREADS,
    alarms,
    compare_values,
    simulate,
    slow_boots,
)

# Intervals are drawn with fewer samples than usual, which takes a tenth of the time. Alarms rest on p, not on them.
DRAWS = 200
# Together 2,000 comparisons. With fewer than four boots in each arm nothing can be significant.
COMPARISONS = {1: 25, 3: 25, 5: 150, 7: 150, 10: 150}


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "DRAWS", DRAWS)


def at_most(rate: float, count: int) -> float:
    """Return what a rate may seem to be among so many, three standard errors up."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / count)


def test_runs_of_real_cases_vary_as_they_should() -> None:
    """Some have ties, a structural zero, a split that varies: a simulation without them would prove little."""
    assert [len(runs) for runs in SPREADS.values()] == [8] * 4
    assert {run["drain_s"] for run in SPREADS["1"]} == {0.0}
    assert len({str(run["status"]) for run in SPREADS["10"]}) == 8
    assert len({str(run["states"]) for run in SPREADS["6"]}) == 2


@pytest.mark.parametrize("boots", COMPARISONS)
def test_a_comparison_of_equal_arms_seldom_says_that_anything_differs(boots: int) -> None:
    count = COMPARISONS[boots]
    found = []
    for case in CASES:
        random = np.random.default_rng([boots, int(case)])
        found += [bool(alarms(simulate(random, case, boots))) for _ in range(count)]
    assert np.mean(found) <= at_most(ALPHA, len(found))
    # With enough boots some alarms are due: a rule that never says anything would pass as well.
    assert any(found) is (boots >= 5)


@pytest.mark.parametrize("boots", [1, 3, 5])
def test_a_count_that_varies_is_not_called_different(boots: int) -> None:
    """A count with a standard deviation of 10, which was called different in 98, 77 and 50 %."""

    def change(run: dict[str, Any]) -> None:
        refused = round(40 + 10 * random.standard_normal())
        run["status"] = {"200": 128 - refused, "502": refused}

    random = np.random.default_rng(boots)
    found = [
        {one.name: one.compared[OTHER].sameness for one in simulate(random, "2", boots, change, both=True).behaviours}
        for _ in range(150)
    ]
    split = [one["status split"] for one in found]
    assert split.count(Sameness.DIFFERENT) / len(split) <= at_most(ALPHA, len(split))
    usual = Sameness.ONE_RUN_EACH if boots == 1 else Sameness.VARIES
    assert set(split) <= {usual, Sameness.SAME, Sameness.DIFFERENT}
    assert split.count(usual) > 100


@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_in_every_run_is_found_with_five_boots(name: str) -> None:
    case, behaviours, change = CHANGES[name]
    random = np.random.default_rng(1)
    for _ in range(20):
        comparison = simulate(random, case, 5, change)
        compared = {one.name: one.compared[OTHER] for one in comparison.behaviours}
        for behaviour in behaviours:
            assert compared[behaviour].sameness is Sameness.DIFFERENT
        assert all(compared[behaviour].differs for behaviour in behaviours)


@pytest.mark.parametrize(("name", "boots"), [(name, 10) for name in NOISY_CHANGES])
def test_a_large_change_of_what_varies_by_itself_is_mostly_found(name: str, boots: int) -> None:
    case, what, change = NOISY_CHANGES[name]
    random = np.random.default_rng(1)
    found = [what in alarms(simulate(random, case, boots, change)) for _ in range(40)]
    assert np.mean(found) >= 0.8


@pytest.mark.parametrize("boots", [7, 10, 35])
def test_too_few_boots_never_show_that_the_tail_is_the_same(boots: int) -> None:
    random = np.random.default_rng(boots)
    verdicts = [compare_values(random.normal(1, 0.01, boots), slow_boots(random, boots)) for _ in range(60)]
    assert Verdict.EQUIVALENT not in verdicts
    assert verdicts.count(Verdict.MEDIANS_EQUIVALENT) > 20


@pytest.mark.parametrize("boots", [36, 60])
def test_one_boot_in_ten_that_is_slow_is_rarely_called_equivalent(boots: int) -> None:
    random = np.random.default_rng(boots)
    verdicts = [compare_values(random.normal(1, 0.01, boots), slow_boots(random, boots)) for _ in range(200)]
    assert verdicts.count(Verdict.EQUIVALENT) / len(verdicts) <= at_most(0.05, len(verdicts))


def test_equal_arms_of_36_boots_are_called_equivalent() -> None:
    random = np.random.default_rng(1)
    verdicts = [compare_values(random.normal(1, 0.02, 36), random.normal(1, 0.02, 36)) for _ in range(60)]
    assert verdicts.count(Verdict.EQUIVALENT) / len(verdicts) >= 0.8


def test_a_timeout_and_a_zero_are_set_by_the_case() -> None:
    random = np.random.default_rng(1)
    of_case_2 = {one.metric.name: one.effects[OTHER] for one in simulate(random, "2", 5).metrics}
    assert of_case_2["request_max_s"].verdict is Verdict.SET_BY_THE_CASE
    assert of_case_2["request_max_s"].set_by == "nginx's timeout of 1 s"
    of_case_1 = {one.metric.name: one.effects[OTHER] for one in simulate(random, "1", 5).metrics}
    assert of_case_1["drain_s"].verdict is Verdict.SET_BY_THE_CASE
    assert of_case_1["drain_s"].set_by == "0 in every boot"
