"""A comparison for the terminal, for Markdown, and for programs: JSON, CSV, Go's benchmark format."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from floodmark.compare import stats
from floodmark.compare.confounds import MOST_OF_A_GROUP
from floodmark.compare.diff import shortened, texts_of
from floodmark.compare.effects import CONFIDENCE, DRAWS, POWER, SEED, TAIL_MARGINS
from floodmark.compare.family import ALPHA
from floodmark.compare.model import (
    Behaviour,
    ClassShift,
    Comparison,
    Contrast,
    Effect,
    MetricResult,
    Sameness,
    Summary,
    Verdict,
)
from floodmark.runs.records import group_of
from floodmark.show.tables import BAD, GOOD, UNCLEAR, table_of
from floodmark.values import Content

COLOURS = {
    Verdict.FASTER: GOOD,
    Verdict.SLOWER: BAD,
    Verdict.LESS: GOOD,
    Verdict.MORE: BAD,
    Verdict.EQUIVALENT: "cyan",
    Verdict.MEDIANS_EQUIVALENT: "cyan",
    Verdict.SET_BY_THE_CASE: "dim",
    Verdict.NOT_ENOUGH: UNCLEAR,
    Sameness.SAME: GOOD,
    Sameness.DIFFERENT: BAD,
    Sameness.VARIES: UNCLEAR,
    Sameness.ONE_RUN_EACH: UNCLEAR,
}
MOST_DECIMALS = 3
# Classes of a behaviour that are named where they differ.
MOST_CLASSES = 4
# A table row: its cells as text, and the colour of the last one.
Row = tuple[list[str], str]


# --- words and numbers --------------------------------------------------------------------------


def verdict_text(effect: Effect, margin: float) -> str:
    """Say what a comparison of one metric says: `not enough runs: need 4 more of each`."""
    if effect.verdict is Verdict.EQUIVALENT:
        return f"equivalent within ±{_percent_of(margin)}"
    if effect.verdict is Verdict.MEDIANS_EQUIVALENT:
        return f"{effect.verdict.value} within ±{_percent_of(margin)}, the tail is not known: {_need(effect)}"
    if effect.verdict is Verdict.SET_BY_THE_CASE:
        return f"{effect.verdict.value}: {effect.set_by}"
    if effect.verdict is not Verdict.NOT_ENOUGH:
        return effect.verdict.value
    return f"{effect.verdict.value}: {_need(effect)}"


def _need(effect: Effect) -> str:
    """Say how many boots more it takes."""
    here, there = effect.more_boots, effect.more_baseline_boots
    # One boot has no spread, and what a power calculation makes of none is the least that can do.
    need = "need at least" if effect.low is None else "need"
    if max(here, there) >= stats.MOST_UNITS // 2:
        return "no number of boots would do, the margin is too small for this spread"
    if here == there:
        return f"{need} {here:,} more of each"
    return f"{need} {here:,} more, baseline {there:,} more"


def contrast_text(contrast: Contrast, behaviour: Behaviour) -> str:
    """Say what a comparison of one behaviour says: `different: 502 from 23 to 22 (p=0.016)`."""
    said = []
    if contrast.sameness in (Sameness.DIFFERENT, Sameness.ONE_RUN_EACH) and contrast.differs:
        said.append(shifts_text(contrast.differs, counted=behaviour.counted))
    if contrast.more_boots:
        said.append(f"need {contrast.more_boots} more of each to tell")
    text = f"{contrast.sameness.value}: {'; '.join(said)}" if said else contrast.sameness.value
    # With so few boots p says nothing.
    return text if contrast.p_holm is None or contrast.more_boots else f"{text} (p={p_text(contrast.p_holm)})"


def shifts_text(shifts: Sequence[ClassShift], *, counted: bool) -> str:
    """Say how classes differ in the mean over boots."""

    def one(shift: ClassShift) -> str:
        if counted:
            return f"{shift.name} from {_number(shift.baseline)} to {_number(shift.arm)}"
        return f"{shift.name} from {_percent_of(shift.baseline)} to {_percent_of(shift.arm)} of the runs"

    more = f", and {len(shifts) - MOST_CLASSES} more" if len(shifts) > MOST_CLASSES else ""
    return ", ".join(map(one, shifts[:MOST_CLASSES])) + more


def _percent_of(share: float) -> str:
    return f"{share * 100:.3g} %"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"


def summary_text(summary: Summary) -> str:
    """Return a median with its quartiles."""
    quartiles = f"({_number(summary.low_quartile)}…{_number(summary.high_quartile)})"
    return f"{_number(summary.median)} {quartiles}" if summary.n > 1 else _number(summary.median)


def shift_text(effect: Effect, baseline_median: float) -> str:
    """Return the shift with its interval: in per cent of the baseline, or in the metric's unit where that is 0."""
    bounds = [] if effect.low is None or effect.high is None else [effect.low, effect.high]
    # So many decimals that the interval is seen to have a width.
    width = (bounds[1] - bounds[0]) / abs(baseline_median) * 100 if bounds and baseline_median else 0
    decimals = min(max(1, -math.floor(math.log10(width))), MOST_DECIMALS) if width else 1

    def relative(value: float) -> str:
        return f"{value / baseline_median * 100:+z.{decimals}f}" if baseline_median else f"{value:+.4g}"

    unit = " %" if baseline_median else ""
    interval = f" ({'…'.join(map(relative, bounds))})" if bounds else ""
    return f"{relative(effect.shift)}{unit}{interval}"


def p_text(p: float) -> str:
    """Return a p as people write it."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1g}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def heading(comparison: Comparison) -> list[str]:
    """Return who is compared: one line for each arm."""
    return [
        f"{comparison.axis} {value}: {_plural(len(arm.records), 'run')} in {_plural(len(arm.boots), 'boot')}"
        + (", the baseline" if value == comparison.baseline else "")
        for value, arm in comparison.arms.items()
    ]


def remarks(comparison: Comparison) -> Iterator[str]:
    """Yield what a reader has to know before the tables."""
    groups = Counter(map(group_of, comparison.allowed))
    for name, values in comparison.allowed.items():
        texts = texts_of(name, *values) if len(values) == 2 else values
        if groups[group_of(name)] <= MOST_OF_A_GROUP:
            yield f"allowed to differ: {name} ({' / '.join(map(shortened, texts))})"
    for group, count in groups.items():
        if count > MOST_OF_A_GROUP:
            yield f"allowed to differ: {count} fields of {group}, which 'floodmark diff' shows"
    for name, reason in comparison.left_out.items():
        yield f"left out: {name}, {reason}"
    if comparison.unchecked:
        yield f"nobody knows whether these differ, no run has recorded them: {', '.join(comparison.unchecked)}"
    yield from comparison.notes


def legend(comparison: Comparison) -> str:
    """Say what the columns of the metrics are."""
    interval, power, margin = (_percent_of(share) for share in (CONFIDENCE, POWER, comparison.margin))
    tail_margin = _percent_of(TAIL_MARGINS * comparison.margin)
    corrected = f"after Holm's correction for {_plural(comparison.tests, 'test')}"
    if not comparison.tests:
        corrected = "but with so few boots, or so little that varies, no test could be significant"
    return (
        f"n counts boots. Median with quartiles. Shift: Hodges-Lehmann, with its {interval} interval, in % of the "
        f"baseline's median. p: Mann-Whitney (exact, but for ties among more than {stats.COUNTED_UP_TO} boots), for "
        f"behaviour a permutation test over boots, {corrected}. "
        f"Equivalent: the interval is within ±{margin}, and the worst tenth of boots begins within ±{tail_margin}. "
        f"'need k more' is for {power} power to tell a shift of ±{margin} from none."
    )


# --- rows, the same in the terminal and in Markdown ---------------------------------------------

BEHAVIOUR_COLUMNS = ("behaviour", "seen, in how many runs", "")
METRIC_COLUMNS = ("metric", "n", "median", "shift", "verdict")


def behaviour_rows(behaviour: Behaviour, baseline: str) -> Iterator[Row]:
    """Yield a title and a row for each arm."""
    yield [f"**{behaviour.name}**", "", ""], ""
    for value in behaviour.seen:
        words = behaviour_words(behaviour, value)
        colour = BAD if "fail" in words else COLOURS[behaviour.compared[value].sameness] if value != baseline else GOOD
        yield [value, seen_text(behaviour, value), ", ".join(words.values())], colour


def seen_text(behaviour: Behaviour, value: str) -> str:
    """Return what was seen of a behaviour in an arm, and in how many runs."""
    counts = behaviour.seen[value]
    total = sum(counts.values())
    seen = "; ".join(text if count == total else f"{text} ({count} of {total})" for text, count in counts.items())
    return seen if len(counts) > 1 else f"{seen} (n = {total})"


def behaviour_words(behaviour: Behaviour, value: str) -> dict[str, str]:
    """Return the words of the verdict on one arm, each with its text: `different` -> `different: 502 from 23 to 22`."""
    words = {}
    if behaviour.passed is not None:
        word = "pass" if behaviour.passed[value] else "fail"
        words[word] = word
    contrast = behaviour.compared.get(value)
    if contrast is not None:
        words[contrast.sameness.value] = contrast_text(contrast, behaviour)
    return words


def metric_rows(result: MetricResult, comparison: Comparison) -> Iterator[Row]:
    """Yield a title and a row for each arm."""
    metric = result.metric
    yield [f"**{metric.name}**", "", f"in {metric.unit}", "", f"{metric.better} is better"], "dim"
    for value in comparison.arms:
        summary = result.summaries.get(value)
        if summary is None:
            yield [value, "0", "not measured", "", ""], ""
            continue
        effect = result.effects.get(value)
        cells = [value, str(summary.n), summary_text(summary)]
        if effect is None:
            yield [*cells, "", "the baseline" if value == comparison.baseline else "-"], "dim"
        else:
            shift = shift_text(effect, result.summaries[comparison.baseline].median)
            verdict = f"{verdict_text(effect, comparison.margin)} (p={p_text(effect.p_holm)})"
            yield [*cells, shift, verdict], COLOURS[effect.verdict]


# --- for people ---------------------------------------------------------------------------------


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print a comparison."""
    for line in heading(comparison):
        console.print(f"[bold]{escape(line)}[/]", highlight=False)
    for line in remarks(comparison):
        console.print(f"  [{UNCLEAR}]note[/]: {escape(line)}", highlight=False)
    rows = (row for one in comparison.behaviours for row in behaviour_rows(one, comparison.baseline))
    _print_table(console, BEHAVIOUR_COLUMNS, rows)
    if not comparison.metrics:
        console.print("No run has measured one of the metrics.")
        return
    _print_table(console, METRIC_COLUMNS, (row for one in comparison.metrics for row in metric_rows(one, comparison)))
    console.print(f"[dim]{escape(legend(comparison))}[/]", highlight=False)


def _print_table(console: Console, columns: tuple[str, ...], rows: Iterable[Row]) -> None:
    table = table_of(*((name, "right") if name == "n" else name for name in columns))
    # Names have no blanks to break at, so they get their width first.
    rows = list(rows)
    table.columns[0].width = min(max(len(cells[0]) + 2 for cells, _ in rows), console.width // 4)
    for cells, colour in rows:
        title = cells[0].strip("*") if cells[0].startswith("**") else ""
        first = Text(title, "bold") if title else Text(f"  {cells[0]}")
        table.add_row(first, *(escape(cell) for cell in cells[1:-1]), Text(cells[-1], colour))
    console.print(table)


def to_markdown(comparison: Comparison) -> str:
    """Return a comparison as Markdown."""
    lines = [f"# Comparison by {comparison.axis}", ""]
    lines += [f"- {line}" for line in heading(comparison)]
    lines += [f"- note: {line}" for line in remarks(comparison)]
    lines += ["", *markdown_table(BEHAVIOUR_COLUMNS, (
        row for one in comparison.behaviours for row in behaviour_rows(one, comparison.baseline)
    ))]  # fmt: skip
    lines += ["", *markdown_table(METRIC_COLUMNS, (
        row for one in comparison.metrics for row in metric_rows(one, comparison)
    ))]  # fmt: skip
    return "\n".join([*lines, "", legend(comparison), ""])


def markdown_table(columns: tuple[str, ...], rows: Iterator[Row]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'|'.join('---' for _ in columns)}|"
    for cells, _colour in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# --- for programs -------------------------------------------------------------------------------


def to_json(comparison: Comparison) -> str:
    """Return a comparison as JSON, with every number that it rests on."""
    return json.dumps(content_of(comparison), indent=2, ensure_ascii=False) + "\n"


def content_of(comparison: Comparison) -> Content:
    """Return what the JSON of a comparison has."""
    return {
        "axis": comparison.axis,
        "baseline": comparison.baseline,
        "arms": [
            {"value": value, "boots": [[one.name for one in boot] for boot in arm.boots]}
            for value, arm in comparison.arms.items()
        ],
        "alpha": ALPHA,
        "confidence": CONFIDENCE,
        "power": POWER,
        "margin": comparison.margin,
        "tests": comparison.tests,
        "bootstrap": {"draws": DRAWS, "seed": SEED},
        "allowed": {name: [*values] for name, values in comparison.allowed.items()},
        "unchecked": [*comparison.unchecked],
        "left_out": {**comparison.left_out},
        "notes": [*comparison.notes],
        "behaviours": [asdict(one) for one in comparison.behaviours],
        "metrics": [
            {
                **asdict(one.metric),
                "summaries": {value: {"n": summary.n, **asdict(summary)} for value, summary in one.summaries.items()},
                "effects": {value: asdict(effect) for value, effect in one.effects.items()},
            }
            for one in comparison.metrics
        ],
    }


def to_csv(comparison: Comparison) -> str:
    """Return the metrics of a comparison as CSV: a row for each metric and arm, numbers in the metric's unit."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    numbers = ("median", "low_quartile", "high_quartile")
    effects = ("shift", "low", "high", "margin", "p", "p_holm", "verdict", "more_boots", "more_baseline_boots",
               "tail_low", "tail_high", "tail_margin", "set_by")  # fmt: skip
    head = ("metric", "unit", "better", comparison.axis, "baseline", "n", "runs")
    writer.writerow((*head, *numbers, *effects))
    for result in comparison.metrics:
        metric = result.metric
        for value, summary in result.summaries.items():
            effect = asdict(result.effects[value]) if value in result.effects else {}
            writer.writerow(
                (
                    *(
                        metric.name,
                        metric.unit,
                        metric.better,
                        value,
                        comparison.baseline,
                        summary.n,
                        sum(summary.runs),
                    ),
                    *(getattr(summary, name) for name in numbers),
                    *(effect.get(name) for name in effects),
                )
            )
    return out.getvalue()


def to_go_benchmark(comparison: Comparison) -> str:
    """Return every boot as a line of Go's benchmark format; `benchstat -col AXIS FILE` compares them.

    The axis is file configuration and not part of the name, where benchstat takes a number at the end for GOMAXPROCS.
    Its keys have no capitals. Source: golang.org/design/14313-benchmark-format, golang.org/x/perf/benchfmt.
    """
    lines = [f"Unit {one.metric.name} better={one.metric.better}" for one in comparison.metrics]
    key = re.sub(r"\s", "-", comparison.axis.lower())
    # The baseline comes first: benchstat compares with the first value that it meets.
    for value in sorted(comparison.arms, key=lambda value: value != comparison.baseline):
        lines += ["", f"{key}: {value}"]
        for one in comparison.metrics:
            summary = one.summaries.get(value)
            if summary is not None:
                lines += [
                    f"BenchmarkFloodmark {runs} {number!r} {one.metric.name}"
                    for number, runs in zip(summary.values, summary.runs, strict=True)
                ]
    return "\n".join([*lines, ""])


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "json": to_json,
    "csv": to_csv,
    "markdown": to_markdown,
    "go": to_go_benchmark,
}
