"""What the finished runs of a suite say: each of its combinations compared by one thing, and p corrected for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from textwrap import indent

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from floodmark.compare.arms import natural_key
from floodmark.compare.comparison import line_up
from floodmark.compare.effects import measure
from floodmark.compare.formats import (
    BEHAVIOUR_COLUMNS,
    COLOURS,
    Row,
    content_of,
    contrast_text,
    heading,
    legend,
    markdown_table,
    p_text,
    remarks,
    shift_text,
    summary_text,
    verdict_text,
)
from floodmark.compare.model import Comparison, Question, Sameness
from floodmark.errors import CompareError
from floodmark.inputs.suites import Suite, SuiteRun
from floodmark.runs.journal import Journal
from floodmark.runs.records import NOT_SETTINGS, Record, read_records
from floodmark.show.tables import BAD, GOOD, at_underscores, table_of
from floodmark.values import Content

# The axis of an A/A comparison, which no host records: the suite has drawn it.
HALF = "half"


@dataclass(frozen=True)
class SuiteComparison:
    """The comparisons of one suite.

    Attributes:
        suite: the suite.
        finished: how many of its runs are.
        groups: what all results of a group have in common -> their comparison.
        refused: the same -> why there is none.
    """

    suite: Suite
    finished: int
    groups: dict[str, Comparison]
    refused: dict[str, str]


def compare_suite(suite: Suite, journal: Journal, question: Question) -> SuiteComparison:
    """Compare the finished runs of a suite by one thing, and leave apart what else the suite varies.

    Args:
        suite: the suite.
        journal: which of its runs are finished.
        question: how; the axis `half` compares each host with itself.

    Raises:
        CompareError: no run is finished, or no group can be compared.
        RunError: a run is damaged.
    """
    runs = [run for run in suite.runs() if run.name in journal.finished]
    if not runs:
        raise CompareError(f"no run of suite {suite.name} is finished: 'floodmark suite' makes them.")
    groups: dict[str, list[Record]] = {}
    for run in runs:
        for record in read_records(str(journal.finished[run.name].run.path)):
            of_suite = replace(record, fields={**record.fields, HALF: run.half}) if question.axis == HALF else record
            groups.setdefault(_group(suite, run, record.host, question.axis), []).append(of_suite)
    comparisons, refused = {}, {}
    for name in sorted(groups, key=natural_key):
        try:
            comparisons[name] = line_up(groups[name], question)
        except CompareError as error:
            refused[name] = str(error)
    if not comparisons:
        name, why = next(iter(refused.items()))
        raise CompareError(f"none of {len(refused)} combinations can be compared; {name}: {why}")
    return SuiteComparison(suite, len(runs), measure(comparisons, question), refused)


def _group(suite: Suite, run: SuiteRun, host: str, axis: str) -> str:
    """Name what all results have in common that are compared with each other."""
    # What is no setting, a seed, makes boots of one combination.
    varied = {name: value for name, value in run.combination.varied.items() if name not in (axis, *NOT_SETTINGS)}
    by_suite = axis in (HALF, "case", *suite.file.vary)
    return " ".join(
        [
            *([f"case {run.combination.case.number}"] if axis != "case" else []),
            *(f"{name}={value}" for name, value in varied.items()),
            # What the suite varies, or has drawn, differs on each host alone; all else differs between hosts.
            *([host] if by_suite else []),
        ]
    )


# --- tables ---------------------------------------------------------------------------------------

METRIC_COLUMNS = ("metric", "n", "baseline", "median", "shift", "verdict")


def _behaviour_rows(comparison: Comparison) -> Iterator[Row]:
    """Yield a row for each behaviour that is the same in all arms, else one for each arm."""
    for one in comparison.behaviours:
        total = sum(len(arm.records) for arm in comparison.arms.values())
        failed = one.passed is not None and not all(one.passed.values())
        if {how.sameness for how in one.compared.values()} == {Sameness.SAME}:
            (seen,) = one.seen[comparison.baseline]
            words = "same" if one.passed is None else f"{'fail' if failed else 'pass'}, same"
            yield [one.name, f"{seen} (n = {total})", words], BAD if failed else GOOD
            continue
        for value, counts in one.seen.items():
            seen = "; ".join(f"{text} ({count})" for text, count in counts.items())
            how = one.compared.get(value)
            words = "the baseline" if how is None else contrast_text(how, one)
            yield [one.name, f"{value}: {seen}", words], COLOURS[how.sameness] if how else "dim"


def _metric_rows(comparison: Comparison) -> Iterator[Row]:
    for one in comparison.metrics:
        baseline = one.summaries.get(comparison.baseline)
        for value, effect in one.effects.items():
            if baseline is None:
                continue
            summary = one.summaries[value]
            arm = f" of {value}" if len(comparison.arms) > 2 else ""
            yield (
                [
                    f"{one.metric.name}{arm}",
                    f"{baseline.n}, {summary.n}",
                    summary_text(baseline),
                    summary_text(summary),
                    shift_text(effect, baseline.median),
                    f"{verdict_text(effect, comparison.margin)} (p={p_text(effect.p_holm)})",
                ],
                COLOURS[effect.verdict],
            )


def _all_rows(done: SuiteComparison, rows: Callable[[Comparison], Iterator[Row]], columns: int) -> Iterator[Row]:
    for name, comparison in done.groups.items():
        yield [f"**{name}**", *[""] * (columns - 1)], ""
        yield from rows(comparison)


def lines_of(done: SuiteComparison) -> Iterator[str]:
    """Yield what stands above the tables; what is the same in all groups is said once."""
    total = len(list(done.suite.runs()))
    yield f"{done.suite.file.title} {done.finished} of {total} runs are finished."
    arms: dict[tuple[str, ...], list[str]] = {}
    notes: dict[str, list[str]] = {}
    for name, comparison in done.groups.items():
        arms.setdefault(tuple(heading(comparison)), []).append(name)
        for note in remarks(comparison):
            notes.setdefault(note, []).append(name)
    for lines, names in arms.items():
        yield f"{_whose(done, names)}{'; '.join(lines)}"
    for note, names in notes.items():
        yield f"note: {_whose(done, names)}{note}"
    for name, why in done.refused.items():
        yield f"not compared: {name}: {why}"


def _whose(done: SuiteComparison, names: list[str]) -> str:
    return "" if len(names) == len(done.groups) else f"{', '.join(names)}: "


def print_suite_comparison(console: Console, done: SuiteComparison) -> None:
    """Print all comparisons of a suite in two tables."""
    for line in lines_of(done):
        console.print(escape(line), highlight=False)
    for columns, rows in ((BEHAVIOUR_COLUMNS, _behaviour_rows), (METRIC_COLUMNS, _metric_rows)):
        table = table_of(*columns)
        for cells, colour in _all_rows(done, rows, len(columns)):
            title = cells[0].startswith("**")
            name = at_underscores(cells[0].strip("*"), console.width // 4)
            first = Text(name, "bold") if title else Text(indent(name, "  "))
            table.add_row(first, *map(escape, cells[1:-1]), Text(cells[-1], colour))
        # Names have no blanks to break at, so they get their width first.
        table.columns[0].width = max(
            cell_len(line) for cell in table.columns[0].cells for line in str(cell).splitlines()
        )
        console.print(table)
    console.print(f"[dim]{escape(legend(next(iter(done.groups.values()))))}[/]", highlight=False)


def suite_to_markdown(done: SuiteComparison) -> str:
    """Return the same as Markdown, without a title."""
    lines = [f"- {line}" for line in lines_of(done)]
    lines += ["", *markdown_table(BEHAVIOUR_COLUMNS, _all_rows(done, _behaviour_rows, len(BEHAVIOUR_COLUMNS)))]
    lines += ["", *markdown_table(METRIC_COLUMNS, _all_rows(done, _metric_rows, len(METRIC_COLUMNS)))]
    return "\n".join([*lines, "", legend(next(iter(done.groups.values()))), ""])


def suite_to_json(done: SuiteComparison) -> str:
    """Return the same as JSON, with every number that it rests on."""
    content: Content = {
        "suite": done.suite.name,
        "finished": done.finished,
        "groups": {name: content_of(one) for name, one in done.groups.items()},
        "refused": {**done.refused},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


SUITE_FORMATS: dict[str, Callable[[SuiteComparison], str]] = {"json": suite_to_json, "markdown": suite_to_markdown}
