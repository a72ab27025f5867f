"""How far metrics are apart, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from floodmark.compare import stats
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
from floodmark.compare.run_facts import number_of, parameters_of
from floodmark.errors import CompareError, did_you_mean
from floodmark.runs.records import Record

ALPHA = 0.05
CONFIDENCE = 0.95
POWER = 0.8
DRAWS = 10_000
SEED = 1


def measure(comparisons: Mapping[str, Comparison], question: Question) -> dict[str, Comparison]:
    """Return comparisons with their metrics; p is corrected for the tests of all of them together.

    Args:
        comparisons: name -> comparison that was lined up.
        question: how; the same for all.

    Raises:
        CompareError: the question names a metric that does not exist.
    """
    metrics = _declared(question.metrics)
    results = {name: list(_summaries(one, metrics)) for name, one in comparisons.items()}
    tests = [test for name, one in comparisons.items() for test in _tests(one, results[name])]
    corrected = stats.holm([test.p for test in tests])
    for test, p_holm in zip(tests, corrected, strict=True):
        test.effects[test.arm] = effect_of(test.a, test.b, test.p, p_holm, len(tests), test.metric, test.margin)
    return {
        name: replace(
            one, metrics=results[name], tests=len(tests), notes=[*one.notes, *_not_compared(one, results[name])]
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


@dataclass
class _Test:
    """One metric of one arm and the baseline, on its way to an effect."""

    metric: Metric
    margin: float
    a: stats.Numbers
    b: stats.Numbers
    effects: dict[str, Effect]
    arm: str
    p: float = field(init=False)

    def __post_init__(self) -> None:
        self.p = stats.mann_whitney_p(self.a, self.b)


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
            yield (
                f"{result.metric.name} is not compared: {said} have no value, mostly because what it waits for had not "
                "come when the run ended, and the others alone would be the fast ones"
            )


def _summaries(comparison: Comparison, metrics: Sequence[Metric]) -> Iterator[MetricResult]:
    """Yield the metrics that a run of the comparison has measured, still without effects."""
    for metric in metrics:
        summaries = {value: summary for value, arm in comparison.arms.items() if (summary := summarise(metric, arm))}
        if summaries:
            yield MetricResult(metric, summaries, {})


def _tests(comparison: Comparison, results: Sequence[MetricResult]) -> Iterator[_Test]:
    for result in results:
        baseline = result.summaries.get(comparison.baseline)
        for value, summary in result.summaries.items():
            if baseline and value != comparison.baseline and not baseline.missing and not summary.missing:
                a, b = np.array(baseline.values), np.array(summary.values)
                yield _Test(result.metric, comparison.margin, a, b, result.effects, value)


def effect_of(
    a: stats.Numbers, b: stats.Numbers, p: float, p_holm: float, tests: int, metric: Metric, margin_share: float
) -> Effect:
    """Return what one comparison of two samples says.

    Args:
        a: boots of the baseline.
        b: boots of the other arm.
        p: of the Mann-Whitney test.
        p_holm: the same, corrected.
        tests: how many tests it was corrected for.
        metric: what the numbers are.
        margin_share: equivalence margin, as a share of the baseline's median.
    """
    shift = stats.hodges_lehmann(a, b)
    low, high = stats.shift_interval(a, b, CONFIDENCE, DRAWS, SEED)
    margin = margin_share * abs(float(np.median(a)))
    verdict = _verdict(a, b, (low, high), margin, p_holm, metric)
    more = more_baseline = 0
    if verdict is Verdict.NOT_ENOUGH:
        needed = stats.units_needed(_pooled_spread(a, b), margin, ALPHA / tests, CONFIDENCE, POWER)
        more, more_baseline = max(0, needed - b.size), max(0, needed - a.size)
        if not more and not more_baseline:
            more = more_baseline = 1  # the shift is about as large as the margin: that takes luck, or many
    bounded = math.isfinite(low)
    return Effect(
        shift, low if bounded else None, high if bounded else None, margin, p, p_holm, verdict, more, more_baseline
    )


def _verdict(
    a: stats.Numbers, b: stats.Numbers, interval: tuple[float, float], margin: float, p_holm: float, metric: Metric
) -> Verdict:
    if min(a.size, b.size) < LEAST_BOOTS or stats.smallest_p(a.size, b.size) > ALPHA:
        return Verdict.NOT_ENOUGH  # whatever was measured, it could not have been significant
    if -margin <= interval[0] and interval[1] <= margin:
        return Verdict.EQUIVALENT
    if p_holm > ALPHA:
        return Verdict.NOT_ENOUGH
    better, worse = metric.words
    return better if (stats.tendency(a, b) < 0) == (metric.better == "lower") else worse


def _pooled_spread(a: stats.Numbers, b: stats.Numbers) -> float:
    """Return the standard deviation within the arms; 0 where there is but one unit in each."""
    freedom = a.size + b.size - 2
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    return math.sqrt(squares / freedom) if freedom else 0.0
