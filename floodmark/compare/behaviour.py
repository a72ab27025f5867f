"""What a queue holds and what clients get: the same, different, or varying from run to run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from floodmark.compare import stats
from floodmark.compare.family import ALPHA, Corrected, Kind, Test
from floodmark.compare.model import Arm, Behaviour, ClassShift, Comparison, Contrast, Sameness
from floodmark.compare.run_facts import (
    all_expectations_hold,
    counts_of,
    failed_expectations,
    number_of,
    parameters_of,
)
from floodmark.runs.records import Record

# --- one run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """One behaviour in one run.

    Attributes:
        text: as people read it.
        classes: class -> how often it was there; a class that is not named was not there, None is not known.
    """

    text: str
    classes: Mapping[str, float | None]


def _expectations(record: Record) -> Look:
    failed = [name.replace("_", " ") for name in failed_expectations(record)]
    return _names(failed, f"fails: {', '.join(failed)}" if failed else "all hold")


def _capacity(record: Record) -> Look:
    deepest, limit = number_of(record, "accept_queue_max"), number_of(record, "queue_limit")
    if deepest is None or limit is None:
        return Look("not seen", {"connections": None, "limit": limit})
    if deepest > limit:
        return Look(f"{deepest:.0f} with limit {limit:.0f}", {"connections": deepest, "limit": limit})
    # A queue that was never full does not show how many it holds.
    return Look(f"not reached, limit {limit:.0f}", {"connections": None, "limit": limit})


def _states(record: Record) -> Look:
    if parameters_of(record)["transport"] != "unix":
        return Look("none, TCP", {})
    states = counts_of(record, "states")
    if states and all(count is None for count in states.values()):
        return Look("not seen", states)
    return Look(", ".join(f"{count} × {state}" for state, count in states.items() if count) or "none", states)


def _counts(counts: Mapping[str, int | None]) -> Look:
    return Look(", ".join(f"{count} × {name}" for name, count in counts.items()) or "none", counts)


def _names(names: Sequence[str], text: str | None = None) -> Look:
    return Look(text or ", ".join(sorted(names)) or "none", dict.fromkeys(names, 1.0))


def _is_counted(record: Record) -> bool:
    """Tell whether the number of answers is behaviour.

    A sustained flood, and a window in virtual time, sends as much as it can: only which answers there were is.
    """
    return parameters_of(record)["load_shape"] == "burst" and record.fields.get("clock") != "virtual"


def _looks(records: Sequence[Record]) -> dict[str, tuple[bool, Callable[[Record], Look]]]:
    """Return behaviour -> whether its classes are counts, and how to look at one run."""
    counted = all(map(_is_counted, records))

    def answers(name: str) -> Callable[[Record], Look]:
        return lambda one: _counts(counts_of(one, name)) if counted else _names(list(counts_of(one, name)))

    return {
        "expectations": (False, _expectations),
        "queue capacity": (True, _capacity),
        "states on the path": (True, _states),
        "status split": (counted, answers("status")),
        "client errors": (counted, answers("errors")),
        "nginx error classes": (False, lambda one: _names(list(counts_of(one, "nginx_errors")))),
    }


# --- two arms -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BehaviourTest:
    """One behaviour of one arm and the baseline, on its way to a contrast."""

    behaviour: Behaviour
    baseline: Arm
    arm: Arm
    classes: tuple[str, ...]
    values: stats.Numbers
    result: Test

    def contrast(self, corrected: Corrected) -> Contrast:
        """Return what follows, once p is corrected for all tests."""
        n_a, n_b = len(self.baseline.boots), len(self.arm.boots)
        both = (self.behaviour.seen[self.baseline.value], self.behaviour.seen[self.arm.value])
        if len({text for seen in both for text in seen}) == 1:
            return Contrast(Sameness.SAME)
        more = 0
        if corrected.p_holm <= ALPHA:
            sameness = Sameness.DIFFERENT
        elif len(self.baseline.records) == len(self.arm.records) == 1:
            sameness = Sameness.ONE_RUN_EACH
        else:
            sameness = Sameness.VARIES
        if sameness is not Sameness.DIFFERENT and all(len(seen) == 1 for seen in both):
            more = max(1, stats.units_for_p(corrected.level) - min(n_a, n_b))
        return Contrast(sameness, self.result.p, corrected.p_holm, tuple(self._shifts()), more)

    def _shifts(self) -> Iterator[ClassShift]:
        n_a = len(self.baseline.boots)
        found = []
        for name, values in zip(self.classes, self.values, strict=True):
            arms = [known[~np.isnan(known)] for known in (values[:n_a], values[n_a:])]
            if all(known.size for known in arms):
                shift = ClassShift(name, *(float(known.mean()) for known in arms))
                if shift.baseline != shift.arm:
                    found.append((-abs(stats.tendency(*arms)), shift))
        return (shift for _, shift in sorted(found, key=lambda pair: pair[0]))


def behaviour_tests(comparison: Comparison) -> list[BehaviourTest]:
    """Return what was seen of each behaviour, with a test of each arm against the baseline."""
    arms, baseline = comparison.arms, comparison.arms[comparison.baseline]
    tests = []
    for name, (counted, look) in _looks([one for arm in arms.values() for one in arm.records]).items():
        looks = {value: [[look(one) for one in boot] for boot in arm.boots] for value, arm in arms.items()}
        passed = None
        if look is _expectations:
            passed = {value: all(map(all_expectations_hold, arm.records)) for value, arm in arms.items()}
        behaviour = Behaviour(name, counted, {value: _seen(boots) for value, boots in looks.items()}, {}, passed)
        for value, arm in arms.items():
            if value != comparison.baseline:
                classes, values = _class_means([*looks[comparison.baseline], *looks[value]])
                scores = stats.rank_scores(values)
                p, least = stats.permutation_test(scores, len(baseline.boots))
                key: Hashable = (Kind.BEHAVIOUR, id(comparison), value, scores.tobytes())
                result = Test(Kind.BEHAVIOUR, key, p, least, scores.size > 0)
                tests.append(BehaviourTest(behaviour, baseline, arm, classes, values, result))
    return tests


def _seen(boots: Sequence[Sequence[Look]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in (look for boot in boots for look in boot):
        counts[one.text] = counts.get(one.text, 0) + 1
    return counts


def _class_means(boots: Sequence[Sequence[Look]]) -> tuple[tuple[str, ...], stats.Numbers]:
    """Return the classes, and of each boot the mean of its runs that say it: a row for each class."""
    classes = tuple(dict.fromkeys(name for boot in boots for one in boot for name in one.classes))

    def mean(boot: Sequence[Look], name: str) -> float:
        known = [value for one in boot if (value := one.classes.get(name, 0.0)) is not None]
        return float(np.mean(known)) if known else np.nan

    return classes, np.array([[mean(boot, name) for boot in boots] for name in classes]).reshape(
        len(classes), len(boots)
    )
