"""How far arms are apart in metrics and behaviour, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from floodmark.compare import stats
from floodmark.compare.behaviour import behaviour_tests
from floodmark.compare.family import ALPHA, Corrected, Kind, Test, correct
from floodmark.compare.model import (
    LEAST_BOOTS,
    METRICS,
    Arm,
    Comparison,
    Effect,
    Metric,
    MetricResult,
    Question,
    Summary,
    Verdict,
)
from floodmark.compare.run_facts import missing_because, number_of, parameters_of
from floodmark.errors import CompareError, did_you_mean
from floodmark.runs.records import Record

CONFIDENCE = 0.95
POWER = 0.8
DRAWS = 10_000
SEED = 1
# Tails may be so many margins apart. A decile is known less well than a median.
TAIL_MARGINS = 2
# A time within the margin of one of these was set by it.
TIMEOUTS = ("proxy_read_timeout_s", "proxy_connect_timeout_s")


def measure(comparisons: Mapping[str, Comparison], question: Question) -> dict[str, Comparison]:
    """Return comparisons with behaviour and metrics; p is corrected for the tests of all of them together.

    Args:
        comparisons: name -> comparison that was lined up.
        question: how; the same for all.

    Raises:
        CompareError: the question names a metric that does not exist.
    """
    metrics = _declared(question.metrics)
    results = {name: list(_summaries(one, metrics)) for name, one in comparisons.items()}
    metric_tests = [test for name, one in comparisons.items() for test in _tests(one, results[name])]
    behaviours = {name: behaviour_tests(one) for name, one in comparisons.items()}
    of_behaviour = [test for found in behaviours.values() for test in found]
    corrected, count = correct([*(one.result for one in metric_tests), *(one.result for one in of_behaviour)])
    for test, becomes in zip(metric_tests, corrected[: len(metric_tests)], strict=True):
        test.effects[test.arm] = effect_of(
            test.a, test.b, test.result.p, becomes, test.metric, test.margin, test.timeouts
        )
    for behaviour_test, becomes in zip(of_behaviour, corrected[len(metric_tests) :], strict=True):
        behaviour_test.behaviour.compared[behaviour_test.arm.value] = behaviour_test.contrast(becomes)
    return {
        name: replace(
            one,
            behaviours=list({test.behaviour.name: test.behaviour for test in behaviours[name]}.values()),
            metrics=results[name],
            tests=count,
            notes=[*one.notes, *_not_compared(one, results[name])],
        )
        for name, one in comparisons.items()
    }


def _declared(names: Sequence[str]) -> tuple[Metric, ...]:
    known = {one.name: one for one in METRICS}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise CompareError(f"--metric: there is no metric '{name}': {hint}Allowed are {', '.join(known)}.")
    return tuple(known[name] for name in dict.fromkeys(names)) or METRICS


def value_of(metric: Metric, record: Record) -> float | None:
    """Return a metric of one result, None where it was not measured."""
    if metric.name == "requests_per_s":
        sent, flood_s = number_of(record, "sent"), number_of(record, "flood_s")
        sustained = parameters_of(record)["load_shape"] == "sustained"
        return sent / flood_s if sustained and sent is not None and flood_s else None
    return number_of(record, metric.name)


def summarise(metric: Metric, arm: Arm) -> Summary | None:
    """Return a metric over the boots of an arm, the mean of each; None where no run has it."""
    means, runs, missing = [], [], 0
    for boot in arm.boots:
        values = [value_of(metric, one) for one in boot]
        there = [value for value in values if value is not None]
        missing += len(there) < len(values)
        if there:
            means.append(math.fsum(there) / len(there))
            runs.append(len(there))
    if not means:
        return None
    low, median, high = np.quantile(means, [0.25, 0.5, 0.75])
    return Summary(tuple(means), tuple(runs), float(median), float(low), float(high), missing)


@dataclass(frozen=True)
class _MetricTest:
    """One metric of one arm and the baseline, on its way to an effect."""

    metric: Metric
    margin: float
    a: stats.Numbers
    b: stats.Numbers
    effects: dict[str, Effect]
    arm: str
    timeouts: tuple[float, ...]
    result: Test


def _not_compared(comparison: Comparison, results: Sequence[MetricResult]) -> Iterator[str]:
    """Yield which metrics were not compared, because boots that lack a value are not like the others."""
    for result in results:
        boots = {value: len(arm.boots) for value, arm in comparison.arms.items()}
        # An arm of which no boot has a value has no summary either.
        missing = {
            value: result.summaries[value].missing if value in result.summaries else n for value, n in boots.items()
        }
        if any(missing.values()):
            said = " and ".join(f"{n} of {boots[value]} boots of {value}" for value, n in missing.items() if n)
            yield f"{result.metric.name} is not compared: {said} have no value{_why_missing(comparison, result.metric)}"


def _why_missing(comparison: Comparison, metric: Metric) -> str:
    """Return why boots lack a value, as their verdicts say it."""
    records = (record for arm in comparison.arms.values() for record in arm.records)
    reasons = list(dict.fromkeys(why for record in records if (why := missing_because(record, metric.name))))
    if reasons:
        return f": {reasons[0]}" + (", and alike" if len(reasons) > 1 else "")
    return (
        ", mostly because what it waits for had not come when the run ended, and the others alone would be the fast "
        "ones"
    )


def _summaries(comparison: Comparison, metrics: Sequence[Metric]) -> Iterator[MetricResult]:
    """Yield the metrics that a run of the comparison has measured, still without effects."""
    for metric in metrics:
        summaries = {value: summary for value, arm in comparison.arms.items() if (summary := summarise(metric, arm))}
        if summaries:
            yield MetricResult(metric, summaries, {})


def _tests(comparison: Comparison, results: Sequence[MetricResult]) -> Iterator[_MetricTest]:
    for result in results:
        baseline = result.summaries.get(comparison.baseline)
        for value, summary in result.summaries.items():
            if baseline and value != comparison.baseline and not baseline.missing and not summary.missing:
                a, b = np.array(baseline.values), np.array(summary.values)
                scores = stats.rank_scores(np.array([[*a, *b]]))
                yield _MetricTest(
                    result.metric,
                    comparison.margin,
                    a,
                    b,
                    result.effects,
                    value,
                    _timeouts(comparison.arms[comparison.baseline], comparison.arms[value]),
                    Test(
                        Kind.METRIC,
                        (Kind.METRIC, id(comparison), value, scores.tobytes()),
                        stats.mann_whitney_p(a, b),
                        stats.least_mann_whitney_p(a, b),
                        scores.size > 0,
                    ),
                )


def _timeouts(one: Arm, other: Arm) -> tuple[float, ...]:
    """Return the timeouts of nginx that all runs of two arms have in common, in seconds."""
    runs = [parameters_of(run) for run in (*one.records, *other.records)]
    values = [{parameters.get(name) for parameters in runs} for name in TIMEOUTS]
    return tuple(float(value) for found in values if len(found) == 1 for value in found if value is not None)


def effect_of(
    a: stats.Numbers,
    b: stats.Numbers,
    p: float,
    corrected: Corrected,
    metric: Metric,
    margin_share: float,
    timeouts: Sequence[float] = (),
) -> Effect:
    """Return what one comparison of two samples says.

    Args:
        a: boots of the baseline.
        b: boots of the other arm.
        p: of the Mann-Whitney test.
        corrected: what becomes of it among all tests.
        metric: what the numbers are.
        margin_share: equivalence margin, as a share of the baseline's median.
        timeouts: times of the case that may have set the numbers, in seconds.
    """
    low, high = stats.shift_interval(a, b, CONFIDENCE, DRAWS, SEED)
    margin = margin_share * abs(float(np.median(a)))
    # The tail that matters is the worse one: of what should be high, the lowest tenth.
    sign = 1 if metric.better == "lower" else -1
    tail_low, tail_high = sorted(sign * end for end in stats.tail_shift_bounds(sign * a, sign * b, CONFIDENCE))
    tail_margin = TAIL_MARGINS * margin
    set_by = _set_by(a, b, margin, timeouts if metric.unit == "s" else ())
    if min(a.size, b.size) < LEAST_BOOTS or stats.smallest_p(a.size, b.size) > ALPHA:
        verdict = Verdict.NOT_ENOUGH  # whatever was measured, it could not have been significant
    elif -margin <= low and high <= margin:
        tails = -tail_margin <= tail_low and tail_high <= tail_margin
        verdict = Verdict.SET_BY_THE_CASE if set_by else Verdict.EQUIVALENT if tails else Verdict.MEDIANS_EQUIVALENT
    elif corrected.p_holm > ALPHA:
        verdict = Verdict.NOT_ENOUGH
    else:
        better, worse = metric.words
        verdict = better if (stats.tendency(a, b) < 0) == (metric.better == "lower") else worse
    needed = 0
    if verdict is Verdict.NOT_ENOUGH:
        needed = stats.units_needed(_pooled_spread(a, b), margin, corrected.level, CONFIDENCE, POWER)
    elif verdict is Verdict.MEDIANS_EQUIVALENT:
        needed = stats.units_needed_for_tails(_pooled_spread(a, b), tail_margin, CONFIDENCE)
    more, more_baseline = max(0, needed - b.size), max(0, needed - a.size)
    if needed and not more and not more_baseline:
        more = more_baseline = 1  # what was measured is about as large as the margin: that takes luck, or many
    return Effect(
        shift=stats.hodges_lehmann(a, b),
        low=_finite(low),
        high=_finite(high),
        margin=margin,
        tail_low=_finite(tail_low),
        tail_high=_finite(tail_high),
        tail_margin=tail_margin,
        p=p,
        p_holm=corrected.p_holm,
        verdict=verdict,
        more_boots=more,
        more_baseline_boots=more_baseline,
        set_by=set_by if verdict is Verdict.SET_BY_THE_CASE else "",
    )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _set_by(a: stats.Numbers, b: stats.Numbers, margin: float, timeouts: Sequence[float]) -> str:
    """Say what all values are where the case leaves no room for others; empty where it does."""
    values = np.concatenate([a, b])
    if np.unique(values).size == 1:
        return f"{values[0]:g} in every boot"
    for timeout_s in timeouts:
        if np.all(np.abs(values - timeout_s) <= margin):
            return f"nginx's timeout of {timeout_s:g} s"
    return ""


def _pooled_spread(a: stats.Numbers, b: stats.Numbers) -> float:
    """Return the standard deviation within the arms; 0 where there is but one unit in each."""
    freedom = a.size + b.size - 2
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    return math.sqrt(squares / freedom) if freedom else 0.0
