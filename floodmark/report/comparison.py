"""A comparison as a page: what it says in words, how far the arms are apart, and what the runs looked like.

It has no script: all of it is tables and SVG.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import duckdb
import numpy as np
from markupsafe import Markup

from floodmark.compare.formats import (
    behaviour_words,
    contrast_text,
    heading,
    legend,
    p_text,
    remarks,
    seen_text,
    shift_text,
    summary_text,
    verdict_text,
)
from floodmark.compare.model import Arm, Behaviour, Comparison, Contrast, Metric, MetricResult, Sameness, Verdict
from floodmark.compare.run_facts import parameters_of, phases_of
from floodmark.compare.suite import SuiteComparison, lines_of
from floodmark.report import figures
from floodmark.report.figures import Figure
from floodmark.report.multiples import Multiples, Phases, side_by_side
from floodmark.report.pages import render
from floodmark.report.series import Line, find_span, open_tables
from floodmark.report.svg import Scale, draw_effect, draw_values
from floodmark.runs.records import Record
from floodmark.verdict.tables import FAULTY_SQL

# Runs of an arm whose courses are drawn one over the other: more of them are a blur.
MOST_RUNS = 5
# Where the axis of all shifts ends at the most, in per cent of the baseline; what lies outside is an arrow.
WIDEST_PERCENT = 100
QUEUES = "Accept queue"
MULTIPLES = ((QUEUES, "connections"), ("How long requests took", "% of requests"))
TABLES = ("accept_queue", "requests")


def to_html(comparison: Comparison) -> str:
    """Return a comparison as a page."""
    return _page(f"Comparison by {comparison.axis}", heading(comparison), [("", comparison)], {}, comparison)


def suite_to_html(done: SuiteComparison) -> str:
    """Return the comparisons of a suite as a page, each with a section of its own."""
    first = next(iter(done.groups.values()))
    title = f"Suite {done.suite.name}, compared by {first.axis}"
    return _page(title, list(lines_of(done)), list(done.groups.items()), done.refused, first)


def _page(
    title: str,
    lines: Sequence[str],
    groups: Sequence[tuple[str, Comparison]],
    refused: Mapping[str, str],
    first: Comparison,
) -> str:
    return render(
        "comparison.html",
        title=title,
        lines=lines,
        groups=[_group(name, one) for name, one in groups],
        refused=refused,
        legend=legend(first),
    )


# --- what the template is given -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Shift:
    """A row for one shift; picture is None where the baseline is 0 and there are no per cent of it."""

    metric: str
    arm: str
    picture: Markup | None
    shift: str
    verdict: str
    colour: str
    p: str


@dataclass(frozen=True)
class _SeenInArm:
    """What was seen of a behaviour in one arm, and the words of its verdict, each after its colour."""

    arm: str
    seen: str
    words: list[tuple[str, str]]


@dataclass(frozen=True)
class _BehaviourTable:
    name: str
    rows: list[_SeenInArm]


@dataclass(frozen=True)
class _MeasuredInArm:
    """One metric of one arm, every boot a dot; picture is None where it was not measured."""

    arm: str
    n: int
    picture: Markup | None
    median: str


@dataclass(frozen=True)
class _MetricTable:
    metric: Metric
    rows: list[_MeasuredInArm]
    axis: Markup


@dataclass(frozen=True)
class _Group:
    """One comparison: the words of its verdict with what each is said of, and its tables and figures."""

    name: str
    words: list[tuple[str, str]]
    remarks: list[str]
    forest: list[_Shift]
    axis: Markup
    multiples: list[Multiples]
    behaviours: list[_BehaviourTable]
    metrics: list[_MetricTable]


def _group(name: str, comparison: Comparison) -> _Group:
    scale = _scale_of_shifts(comparison)
    return _Group(
        name=name,
        words=list(_words(comparison)),
        remarks=list(remarks(comparison)),
        forest=list(_forest(comparison, scale)),
        axis=draw_effect(scale, comparison.margin * 100),
        multiples=list(_multiples(comparison)),
        behaviours=[_behaviour(one) for one in comparison.behaviours],
        metrics=[_metric(one, comparison) for one in comparison.metrics],
    )


# --- in words ---------------------------------------------------------------------------------------


def _words(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield the verdict: a word, which has a colour, and what it is said of."""
    several = len(comparison.arms) > 2
    for sameness in (Sameness.DIFFERENT, Sameness.ONE_RUN_EACH, Sameness.VARIES, Sameness.SAME):
        found = [
            one.name + (f" of {value}" if several else "") + _what_differs(one, how)
            for one in comparison.behaviours
            for value, how in one.compared.items()
            if how.sameness is sameness
        ]
        if found:
            yield sameness.value, f"behaviour: {', '.join(found)}"
    for verdict in Verdict:
        found = [
            one.metric.name + (f" of {value}" if several else "") + _how_much(one, comparison, value)
            for one in comparison.metrics
            for value, effect in one.effects.items()
            if effect.verdict is verdict
        ]
        if found:
            yield verdict.value, ", ".join(found)


def _what_differs(behaviour: Behaviour, contrast: Contrast) -> str:
    if contrast.sameness is Sameness.SAME:
        return ""
    text = contrast_text(contrast, behaviour).removeprefix(contrast.sameness.value).removeprefix(":").strip()
    return f" ({text.strip('()')})" if text.startswith("(") else f" ({text})"


def _how_much(result: MetricResult, comparison: Comparison, value: str) -> str:
    effect = result.effects[value]
    if effect.verdict in (Verdict.NOT_ENOUGH, Verdict.MEDIANS_EQUIVALENT, Verdict.SET_BY_THE_CASE):
        return f" ({verdict_text(effect, comparison.margin).removeprefix(effect.verdict.value).lstrip(': ')})"
    return f" {shift_text(effect, result.summaries[comparison.baseline].median)}"


# --- differences --------------------------------------------------------------------------------------


def _percent(number: float | None, baseline: float) -> float | None:
    return None if number is None else number / baseline * 100


def _scale_of_shifts(comparison: Comparison) -> Scale:
    """Return an axis in per cent for all shifts, with 0 in its middle."""
    ends = [comparison.margin * 200]
    for result in comparison.metrics:
        baseline = result.summaries.get(comparison.baseline)
        for effect in result.effects.values() if baseline and baseline.median else ():
            assert baseline
            ends += [
                abs(one / baseline.median * 100) for one in (effect.shift, effect.low, effect.high) if one is not None
            ]
    wide = min(max(ends) * 1.1, WIDEST_PERCENT)
    return Scale(-wide, wide)


def _forest(comparison: Comparison, scale: Scale) -> Iterator[_Shift]:
    """Yield a row for each shift."""
    for result in comparison.metrics:
        baseline = result.summaries.get(comparison.baseline)
        for value, effect in result.effects.items():
            assert baseline
            shift, low, high = (
                _percent(one, baseline.median) if baseline.median else None
                for one in (effect.shift, effect.low, effect.high)
            )
            yield _Shift(
                metric=result.metric.name,
                arm=value,
                picture=None if shift is None else draw_effect(scale, comparison.margin * 100, shift, low, high),
                shift=shift_text(effect, baseline.median),
                verdict=verdict_text(effect, comparison.margin),
                colour=effect.verdict.value.replace(" ", "-"),
                p=p_text(effect.p_holm),
            )


# --- tables -------------------------------------------------------------------------------------------


def _behaviour(behaviour: Behaviour) -> _BehaviourTable:
    rows = [
        _SeenInArm(
            value,
            seen_text(behaviour, value),
            [
                ({"pass": "good", "fail": "bad"}.get(word, word.replace(" ", "-")), text)
                for word, text in behaviour_words(behaviour, value).items()
            ],
        )
        for value in behaviour.seen
    ]
    return _BehaviourTable(behaviour.name, rows)


def _metric(result: MetricResult, comparison: Comparison) -> _MetricTable:
    """Return one metric of each arm, on an axis that the arms share."""
    values = [value for summary in result.summaries.values() for value in summary.values]
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.05 or 1
    scale = Scale(low - room, high + room)
    rows = []
    for value in comparison.arms:
        summary = result.summaries.get(value)
        rows.append(
            _MeasuredInArm(
                value,
                summary.n if summary else 0,
                draw_values(scale, summary) if summary else None,
                summary_text(summary) if summary else "not measured",
            )
        )
    return _MetricTable(result.metric, rows, draw_values(scale))


# --- how the runs went ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Course:
    """What is drawn of one run: its queue over time with its phases, and how long its requests took."""

    queue: Sequence[Line]
    latency: Sequence[Line]
    phases: Phases


def _multiples(comparison: Comparison) -> Iterator[Multiples]:
    """Yield small figures of each arm, all with the same axes: the accept queue, and how long requests took."""
    drawn = {value: _arm_figures(arm) for value, arm in comparison.arms.items()}
    phases = {value: shaded for value, (*_, shaded) in drawn.items()}
    for number, (title, unit) in enumerate(MULTIPLES):
        row_of_arms = {value: pair[number] for value, (*pair, _) in drawn.items()}
        row = side_by_side(
            title,
            unit,
            row_of_arms,
            remarks={comparison.baseline: "the baseline"},
            phases=phases if title == QUEUES else None,
            legend=title == QUEUES,
        )
        if row:
            yield row


def _arm_figures(arm: Arm) -> tuple[Figure, Figure, Phases]:
    """Return the figures of an arm, and the phases of its first run, which are like those of the others."""
    courses, notes = [], []
    # One run of each boot first: they differ more than the runs of one boot do.
    records = [boot[0] for boot in arm.boots] + [one for boot in arm.boots for one in boot[1:]]
    for record in records[:MOST_RUNS]:
        course, problems = _course(record)
        notes += problems
        courses += [course] if course else []
    shown = f"{len(courses)} of {len(arm.records)} runs are drawn." if len(courses) < len(arm.records) else ""
    notes = [*([shown] if shown and courses else []), *dict.fromkeys(notes)]
    queues = [line for one in courses for line in one.queue]
    latencies = [line for one in courses for line in one.latency]
    return (
        Figure("queue", f"Accept queue, {arm.value}", "connections", queues, notes),
        Figure("latency", f"How long requests took, {arm.value}", "% of requests", latencies, notes, kind="latency"),
        courses[0].phases if courses else (),
    )


def _course(record: Record) -> tuple[_Course | None, list[str]]:
    """Return what there is to draw of one run, and why there is nothing."""
    if record.fields.get("clock") == "virtual":
        return None, ["Runs in virtual time have no course: they are counts."]
    parameters = parameters_of(record)
    try:
        database, losses = open_tables(record.run.host(record.host), TABLES)
        with closing(database):
            found = find_span(database, TABLES[:1])
            if found is None:
                return None, [f"{record.name}: {'; '.join(losses) or 'nothing was sampled'}."]
            span, _ = found
            queue, limit = figures.accept_queue(figures.reader(database, span, parameters, MOST_RUNS)).lines
            took = figures.latency(database)
            latency = [replace(one, colour="queue", dashed=False) for one in took.lines[-1:]]
            phases = [
                (name, *span.seconds(np.array([start_ns, end_ns])).tolist())
                for name, start_ns, end_ns in phases_of(record)
            ]
    except FAULTY_SQL:
        raise  # it is ours, and no damage
    except duckdb.Error as error:
        return None, [f"{record.name}: {str(error).splitlines()[0]}."]
    # The first note is how many requests there were, which each of so many runs would repeat.
    said = [*(f"{one}." for one in losses), *took.notes[1:]]
    return _Course([queue, limit], latency, phases), [f"{record.name}: {one}" for one in said]
