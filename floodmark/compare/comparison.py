"""Comparison of runs by one thing that differs between them, the axis.

The results of runs become arms, one for each value of the axis. Nothing else may differ, or it has to be allowed by
name. Behaviour, what a queue holds and what clients get, is compared run by run and is the same or not. Metrics are
compared over boots: runs of one boot share its memory layout and its luck, so their mean counts once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np

from floodmark.compare import stats
from floodmark.compare.diff import config_differences, shortened, text_of, texts_of
from floodmark.errors import CompareError, RunError, did_you_mean
from floodmark.runs.folders import RESULTS, find_run
from floodmark.runs.records import Record, group_of, is_part, read_kernel_config, read_records
from floodmark.verdict.judge import passed
from floodmark.verdict.virtual import CAVEAT, WORKLOADS

ALPHA = 0.05
CONFIDENCE = 0.95
POWER = 0.8
DRAWS = 10_000
SEED = 1
DEFAULT_MARGIN = 0.05
# A kernel keeps some of the memory for itself, and not every kernel the same.
SAME_MEMORY = 0.05

# Fields of one group that a message names: a kernel has thousands of options.
MOST_OF_A_GROUP = 5

# What follows from an axis: it cannot stay the same when that one changes.
FOLLOWS = {
    "kernel": ("kernel_version",),
    "kernel_version": ("kernel",),
    "host": ("machine",),
    "case": ("upstream", "others"),
    "somaxconn": ("sysctls.net.core.somaxconn", "queue_limit"),
    "upstream_backlog": ("queue_limit",),
    "queue_limit": ("somaxconn", "sysctls.net.core.somaxconn", "upstream_backlog"),
}


# --- what is compared ---------------------------------------------------------------------------


class Verdict(StrEnum):
    """What a comparison of one metric says."""

    FASTER = "faster"
    SLOWER = "slower"
    LESS = "less"
    MORE = "more"
    EQUIVALENT = "equivalent"
    NOT_ENOUGH = "not enough runs"


# One boot has no spread, so what it differs in may be a matter of that boot.
LEAST_BOOTS = 2
# Of these a shift is a matter of speed; of another unit, instructions say, it is only less or more.
UNITS_OF_SPEED = ("s", "ms", "1/s")


@dataclass(frozen=True)
class Metric:
    """One number of a run that is compared.

    Attributes:
        name: its name in verdict.json.
        unit: of the number.
        meaning: what it is, for the reader of a table.
        better: which direction is better.
    """

    name: str
    unit: str
    meaning: str
    better: Literal["lower", "higher"] = "lower"

    @property
    def words(self) -> tuple[Verdict, Verdict]:
        """What the better and the worse of two values are called."""
        return (Verdict.FASTER, Verdict.SLOWER) if self.unit in UNITS_OF_SPEED else (Verdict.LESS, Verdict.MORE)


# Declared before anything is measured: every one of them that was measured is tested, and p is corrected for all.
METRICS = (
    Metric("time_to_full_s", "s", "first request until the queue is full"),
    Metric("drain_s", "s", "end of the flood until the queue is empty"),
    Metric("recovery_s", "s", "end of the flood until upstream and nginx are idle"),
    Metric("queue_area_conn_s", "conn·s", "waiting in the queue, all connections together"),
    Metric("wait_median_ms", "ms", "wait of a connection for accept(), median"),
    Metric("wait_p99_ms", "ms", "wait of a connection for accept(), p99"),
    Metric("request_median_s", "s", "a request, median"),
    Metric("request_max_s", "s", "a request, longest"),
    *(Metric(one.metric, one.unit, one.meaning) for one in WORKLOADS.values()),
    Metric("requests_per_s", "1/s", "requests of a sustained flood", "higher"),
)


class Sameness(StrEnum):
    """What a comparison of one behaviour says."""

    SAME = "same"
    DIFFERENT = "different"
    VARIES = "varies"


@dataclass(frozen=True)
class Arm:
    """All results with one value of the axis."""

    value: str
    records: tuple[Record, ...]
    boots: tuple[tuple[Record, ...], ...]


@dataclass(frozen=True)
class Summary:
    """One metric over the boots of one arm, in the unit of the metric.

    Attributes:
        values: of each boot that has one, the mean of its runs.
        runs: how many runs each of them rests on.
        median: of the values.
        low_quartile: of the values.
        high_quartile: of the values.
        missing: boots of which a run has no value.
    """

    values: tuple[float, ...]
    runs: tuple[int, ...]
    median: float
    low_quartile: float
    high_quartile: float
    missing: int = 0

    @property
    def n(self) -> int:
        """Boots."""
        return len(self.values)


@dataclass(frozen=True)
class Effect:
    """One metric of one arm in comparison with the baseline.

    Attributes:
        shift: Hodges-Lehmann shift, in the unit of the metric; positive when this arm has more.
        low: lower end of its interval, None when there are too few boots for one.
        high: upper end.
        margin: shifts up to this do not matter, in the unit of the metric.
        p: of the Mann-Whitney test.
        p_holm: the same, corrected for all tests of this comparison.
        verdict: what follows.
        more_boots: with `not enough runs`, how many more this arm needs.
        more_baseline_boots: and the baseline.
    """

    shift: float
    low: float | None
    high: float | None
    margin: float
    p: float
    p_holm: float
    verdict: Verdict
    more_boots: int = 0
    more_baseline_boots: int = 0


@dataclass(frozen=True)
class MetricResult:
    """One metric in all arms that have it: arm -> numbers."""

    metric: Metric
    summaries: dict[str, Summary]
    effects: dict[str, Effect]


@dataclass(frozen=True)
class Behaviour:
    """One behaviour in all arms.

    Attributes:
        name: what is looked at.
        seen: arm -> what was seen -> number of runs.
        compared: arm -> how it compares with the baseline.
        passed: arm -> whether every run met its expectations; None where there is none to meet.
    """

    name: str
    seen: dict[str, dict[str, int]]
    compared: dict[str, Sameness]
    passed: dict[str, bool] | None = None


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        axis: what the arms differ in.
        baseline: value of the axis that the others are compared with.
        arms: value -> results, in order.
        margin: equivalence margin, as a share of the baseline's median.
        allowed: field -> the values that it has, where the user allowed it to differ.
        unchecked: settings that no run has recorded, so that nobody knows whether they differ.
        left_out: result -> why it says nothing.
        notes: what else a reader should know.
        behaviours: pass or fail, same or different.
        metrics: numbers.
        tests: how many tests p was corrected for.
    """

    axis: str
    baseline: str
    arms: dict[str, Arm]
    margin: float
    allowed: dict[str, list[str]]
    unchecked: list[str]
    left_out: dict[str, str]
    notes: list[str]
    behaviours: list[Behaviour]
    metrics: list[MetricResult] = field(default_factory=list)
    tests: int = 0


@dataclass(frozen=True)
class Question:
    """What the user asks.

    Attributes:
        axis: name of a field.
        baseline: value of the axis to compare with, None for the first one.
        allow: fields, or groups of fields, that may differ.
        metrics: names of the metrics to compare, none for all.
        margin: equivalence margin, as a share.
    """

    axis: str
    baseline: str | None = None
    allow: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    margin: float = DEFAULT_MARGIN


def compare_runs(names: Iterable[str], question: Question, results: Path = RESULTS) -> Comparison:
    """Compare runs.

    Args:
        names: runs, or single hosts of runs as `RUN:HOST`.
        question: how.
        results: where runs are kept.

    Returns:
        The comparison; runs that are not complete are left out of it, as invalid ones are.

    Raises:
        RunError: one of them does not exist or is damaged.
        CompareError: they cannot be compared in this way.
    """
    # A run that was named twice is still one witness.
    records: dict[tuple[Path, str], Record] = {}
    incomplete = {}
    for name in names:
        run = find_run(name.partition(":")[0], results)
        if run.run.exists():
            records |= {(one.run.path, one.host): one for one in read_records(name, results)}
        elif run.plan.exists():
            incomplete[run.run_id] = "the run is not complete, it has no run.json"
        else:
            raise RunError(f"there is no run '{name}': {run.path} holds nothing of one.")
    return compare_records(list(records.values()), question, incomplete)


def compare_records(
    records: Sequence[Record], question: Question, incomplete: Mapping[str, str] | None = None
) -> Comparison:
    """Compare results that have been read.

    Args:
        records: the results.
        question: how.
        incomplete: run -> why there is no result of it.

    Raises:
        CompareError: they cannot be compared in this way.
    """
    return measure({"": line_up(records, question, incomplete)}, question)[""]


def line_up(records: Sequence[Record], question: Question, incomplete: Mapping[str, str] | None = None) -> Comparison:
    """Return a comparison still without metrics: arms, what else differs, behaviour. The rest is as above."""
    left_out = {one.name: "; ".join(one.verdict["reasons"]) for one in records if not one.verdict["valid"]}
    left_out = {**(incomplete or {}), **left_out}
    valid = [one for one in records if one.verdict["valid"]]
    if not valid:
        raise CompareError(
            f"none of the {len(left_out)} results is valid, so there is nothing to compare: {_first(left_out)}. "
            "'floodmark show RUN' says more; run the case again."
        )
    _check_axis(question.axis, valid)
    left_out |= {
        one.name: f"{question.axis} was not recorded" for one in valid if one.fields.get(question.axis) is None
    }
    valid = [one for one in valid if one.name not in left_out]
    arms = _arms(valid, question.axis, left_out)
    baseline = _baseline(arms, question)
    allowed, unchecked = _confounds(valid, question)
    return Comparison(
        axis=question.axis,
        baseline=baseline,
        arms=arms,
        margin=question.margin,
        allowed=allowed,
        unchecked=unchecked,
        left_out=left_out,
        notes=list(_notes(arms)),
        behaviours=_compare_behaviours(arms, baseline),
    )


# --- arms ---------------------------------------------------------------------------------------


def _check_axis(axis: str, records: Sequence[Record]) -> None:
    known = dict.fromkeys(name for one in records for name in one.fields if name != "boot_id")
    if axis not in known:
        hint = did_you_mean(axis, known)
        raise CompareError(f"--by: there is no axis '{axis}': {hint}Allowed are {', '.join(known)}.")


def _arms(records: Sequence[Record], axis: str, left_out: Mapping[str, str]) -> dict[str, Arm]:
    """Return the arms in the order of their values.

    Raises:
        CompareError: there is only one.
    """
    by_value: dict[str, list[Record]] = {}
    for one in records:
        by_value.setdefault(text_of(one.fields[axis]), []).append(one)
    if len(by_value) < 2:
        others = [name for name in _varying(records) if not is_part(name, ("boot_id", "git"))]
        hint = f"These results differ in {', '.join(others)}" if others else "These results differ in nothing"
        out = f" ({len(left_out)} others were left out, {_first(left_out)})" if left_out else ""
        value = next(iter(by_value), "not recorded")
        raise CompareError(
            f"--by {axis}: all {len(records)} results have the same value, {value}{out}, and a comparison needs two. "
            f"{hint}; name runs of another {axis} as well."
        )
    return {
        value: Arm(value, tuple(by_value[value]), tuple(_boots(by_value[value])))
        for value in sorted(by_value, key=natural_key)
    }


def natural_key(text: str) -> list[tuple[int, float, str]]:
    """Return a key that sorts 6.12 after 6.1 and 16 after 8."""
    parts = re.split(r"(\d+)", text)
    return [(0, float(part), "") if part.isdigit() else (1, 0.0, part) for part in parts if part]


def _boots(records: Sequence[Record]) -> Iterable[tuple[Record, ...]]:
    boots: dict[str, list[Record]] = {}
    for one in records:
        boot_id = one.fields.get("boot_id")
        boots.setdefault(f"{one.host} {boot_id}" if boot_id else one.name, []).append(one)
    return (tuple(boot) for boot in boots.values())


def _baseline(arms: Mapping[str, Arm], question: Question) -> str:
    baseline = next(iter(arms)) if question.baseline is None else question.baseline
    if baseline not in arms:
        hint = did_you_mean(baseline, arms)
        raise CompareError(
            f"--baseline: no result has {question.axis}={baseline}: {hint}The values are {', '.join(arms)}."
        )
    return baseline


def _differ(name: str, one: Any, other: Any) -> bool:
    """Tell whether two values of a field are different settings."""
    if name == "memory_bytes" and one and other:
        return bool(abs(one - other) > SAME_MEMORY * max(one, other))
    return bool(one != other)


def _varying(records: Sequence[Record]) -> dict[str, list[tuple[Any, Record]]]:
    """Return field -> its values, each with the first result that has it, for the fields with more than one."""
    found: dict[str, list[tuple[Any, Record]]] = {}
    for one in records:
        for name in {**records[0].fields, **one.fields}:
            values = found.setdefault(name, [(records[0].fields.get(name), records[0])])
            if all(_differ(name, one.fields.get(name), value) for value, _ in values):
                values.append((one.fields.get(name), one))
    return {name: values for name, values in found.items() if len(values) > 1}


def _confounds(records: Sequence[Record], question: Question) -> tuple[dict[str, list[str]], list[str]]:
    """Return what differs and may, and what nobody has recorded.

    Raises:
        CompareError: something else than the axis differs.
    """
    settings = dict.fromkeys(name for one in records for name in one.settings)
    _check_allowed(question.allow, settings)
    expected = _with_what_follows((question.axis,))
    permitted = _with_what_follows(question.allow)
    differing = {
        name: values for name, values in _varying(records).items() if name in settings and not is_part(name, expected)
    }
    differing = _with_config_options(differing)
    refused = {name: values for name, values in differing.items() if not is_part(name, permitted)}
    if refused:
        causes = {name: values for name, values in refused.items() if not _follows_from(name, refused)}
        lines = "".join(f"\n  {line}" for line in _lines_of(causes))
        permits = " ".join(f"--allow {name}" for name in dict.fromkeys(group_of(name) for name in causes))
        raise CompareError(
            f"--by {question.axis}: these results also differ in something else, so the {question.axis} would not be "
            f"what was compared:{lines}\nCompare runs that differ in nothing else, or allow it: {permits}"
        )
    allowed = {name: [text_of(value) for value, _ in values] for name, values in differing.items()}
    unchecked = [name for name in settings if all(one.settings.get(name) is None for one in records)]
    return allowed, unchecked


def _with_config_options(differing: dict[str, list[tuple[Any, Record]]]) -> dict[str, list[tuple[Any, Record]]]:
    """Put in the place of a configuration's hash the options that differ, where they were recorded.

    None may be left: options that one kernel does not know are no setting of the other one.
    """
    values = differing.get("kernel_config", [])
    if not values or not all(read_kernel_config(record) for _, record in values):
        return differing
    (_, first), *others = values
    options: dict[str, list[tuple[Any, Record]]] = {}
    for _, other in others:
        for name, (value, other_value) in config_differences(first, other).items():
            options.setdefault(name, [(value, first)]).append((other_value, other))
    return {name: values for name, values in differing.items() if name != "kernel_config"} | options


def _with_what_follows(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(part for name in names for part in (name, *FOLLOWS.get(name, ())))


def _follows_from(name: str, others: Iterable[str]) -> bool:
    """Tell whether a field follows from one of the others that is a cause itself: a parameter, not a reading."""
    return any(is_part(name, FOLLOWS.get(other, ())) and name not in FOLLOWS for other in others)


def _check_allowed(allow: Sequence[str], settings: Iterable[str]) -> None:
    groups = {part for name in settings for part in (name, group_of(name))}
    for name in allow:
        if not any(is_part(one, (name,)) for one in settings):
            raise CompareError(
                f"--allow: there is no field '{name}': {did_you_mean(name, groups)}Allowed are "
                f"{', '.join(sorted(groups))}."
            )


def _lines_of(causes: Mapping[str, Sequence[tuple[Any, Record]]]) -> Iterator[str]:
    """Yield a line for each field with its values, but few for a group of many."""
    shown: Counter[str] = Counter()
    for name, values in causes.items():
        group = group_of(name)
        shown[group] += 1
        if shown[group] <= MOST_OF_A_GROUP:
            yield f"{name}: {_both(name, values)}"
    for group, count in shown.items():
        if count > MOST_OF_A_GROUP:
            yield f"and {count - MOST_OF_A_GROUP} more of {group}, which 'floodmark diff' shows"


def _both(name: str, values: Sequence[tuple[Any, Record]]) -> str:
    """Return the first two values of a field and who has them."""
    (one, first), (other, second) = values[:2]
    texts = (shortened(text) for text in texts_of(name, one, other))
    more = f", and {len(values) - 2} more" if len(values) > 2 else ""
    return " and ".join(f"{text} ({who.name})" for text, who in zip(texts, (first, second), strict=True)) + more


def _first(left_out: Mapping[str, str]) -> str:
    name, reason = next(iter(left_out.items()))
    return f"{name}: {reason}"


def _notes(arms: Mapping[str, Arm]) -> Iterable[str]:
    """Yield what a reader should know about the units."""
    everything = [one for arm in arms.values() for one in arm.records]
    unknown = sum(one.fields.get("boot_id") is None for one in everything)
    if unknown:
        yield (
            f"{unknown} of {len(everything)} results do not say which boot they are of; each of them counts as one "
            "boot, which makes n too large if they share one"
        )
    single = [arm.value for arm in arms.values() if len(arm.boots) == 1]
    if single:
        yield f"only one boot (n = 1) of {', '.join(single)}: it has no spread, so nothing can be said of its metrics"
    if any(one.fields.get("clock") == "virtual" for one in everything):
        yield f"instructions are {CAVEAT}"
    for arm in arms.values():
        failed = sum(not passed(one.verdict) for one in arm.records)
        if failed:
            yield f"in {failed} of {len(arm.records)} runs of {arm.value} an expectation of our model does not hold"


# --- behaviour ----------------------------------------------------------------------------------


def _expectations(record: Record) -> str:
    failed = [one["name"].replace("_", " ") for one in record.verdict["expectations"] if not one["holds"]]
    return f"fails: {', '.join(failed)}" if failed else "all hold"


def _capacity(record: Record) -> str:
    metrics = record.verdict["metrics"]
    deepest, limit = metrics["accept_queue_max"], metrics["queue_limit"]
    if deepest is None or limit is None:
        return "not seen"
    # A queue that was never full does not show what it holds.
    return f"{deepest} with limit {limit}" if deepest > limit else f"not reached, limit {limit}"


def _states(record: Record) -> str:
    if record.verdict["params"]["transport"] != "unix":
        return "none, TCP"
    states = record.verdict["metrics"]["states"]
    return ", ".join(f"{count} × {state}" for state, count in states.items() if count) or "none"


def _split(counts: Mapping[str, int], record: Record) -> str:
    # A sustained flood, and a window in virtual time, sends as much as it can: which answers there were is behaviour.
    burst = record.verdict["params"]["load_shape"] == "burst" and record.fields.get("clock") != "virtual"
    return ", ".join(f"{count} × {name}" if burst else name for name, count in counts.items()) or "none"


# What is looked at -> how it reads in one run.
BEHAVIOURS: dict[str, Callable[[Record], str]] = {
    "expectations": _expectations,
    "queue capacity": _capacity,
    "states on the path": _states,
    "status split": lambda one: _split(one.verdict["metrics"]["status"], one),
    "client errors": lambda one: _split(one.verdict["metrics"]["errors"], one),
    "nginx error classes": lambda one: ", ".join(sorted(one.verdict["metrics"]["nginx_errors"])) or "none",
}


def _compare_behaviours(arms: Mapping[str, Arm], baseline: str) -> list[Behaviour]:
    behaviours = []
    for name, look in BEHAVIOURS.items():
        seen: dict[str, dict[str, int]] = {}
        for value, arm in arms.items():
            counts: dict[str, int] = {}
            for record in arm.records:
                text = look(record)
                counts[text] = counts.get(text, 0) + 1
            seen[value] = counts
        compared = {value: _sameness(seen[baseline], seen[value]) for value in arms if value != baseline}
        judged = None
        if look is _expectations:
            judged = {value: all(passed(one.verdict) for one in arm.records) for value, arm in arms.items()}
        behaviours.append(Behaviour(name, seen, compared, judged))
    return behaviours


def _sameness(one: Mapping[str, int], other: Mapping[str, int]) -> Sameness:
    """Compare what was seen: what varies from run to run is neither the same nor different."""
    if one.keys() == other.keys():
        return Sameness.SAME if len(one) == 1 else Sameness.VARIES
    return Sameness.VARIES if one.keys() & other.keys() else Sameness.DIFFERENT


# --- metrics ------------------------------------------------------------------------------------


def _declared(names: Sequence[str]) -> tuple[Metric, ...]:
    known = {one.name: one for one in METRICS}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise CompareError(f"--metric: there is no metric '{name}': {hint}Allowed are {', '.join(known)}.")
    return tuple(known[name] for name in dict.fromkeys(names)) or METRICS


def value_of(metric: Metric, record: Record) -> float | None:
    """Return a metric of one result, None where it was not measured."""
    verdict = record.verdict
    if metric.name == "requests_per_s":
        sustained = verdict["params"]["load_shape"] == "sustained" and verdict["metrics"]["flood_s"]
        return verdict["metrics"]["sent"] / verdict["metrics"]["flood_s"] if sustained else None
    value = verdict["metrics"].get(metric.name)
    return None if value is None else float(value)


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
