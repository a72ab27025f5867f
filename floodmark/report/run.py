"""The report of a run: what is known of it, for a reader who has neither the tools nor the network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import duckdb
import numpy as np
from markupsafe import Markup

from floodmark.errors import RunError
from floodmark.inputs.labs import Picture
from floodmark.inputs.parameters import Parameters, as_yaml, range_of
from floodmark.model.check import Check
from floodmark.model.metrics import PHASES, Metrics, VirtualMetrics
from floodmark.model.run import Plan
from floodmark.model.verdict import ClaimVerdict, Prediction, Verdict
from floodmark.report.diagram import Diagram, draw_diagram
from floodmark.report.figures import Figure, columns_for, draw_host
from floodmark.report.pages import render, uplot, write_page
from floodmark.report.series import TICK_S, Numbers, Span, find_span, in_ticks, open_tables
from floodmark.report.svg import MOST_TICKS, Scale, draw, scale_of_latency
from floodmark.runs.folders import REPORT, HostFolder, RunFolder
from floodmark.runs.records import flat
from floodmark.runs.verdicts import read_description, read_verdict
from floodmark.show import run as show
from floodmark.text import many, one_line
from floodmark.values import ParameterValue, ParameterValues, Value
from floodmark.verdict.metrics import MESSAGE_CLASS
from floodmark.verdict.rules import RULES, Rule
from floodmark.verdict.tables import FAULTY_SQL
from floodmark.verdict.virtual import CAVEAT, WORKLOADS

# Things that a rule was applied to, up to which each is named in the row of the rule.
MOST_SUBJECTS = 4
# Kinds of lines of nginx's error log that are listed.
MOST_LOGGED = 20


@dataclass
class HostReport:
    """What a report has of one host.

    Attributes:
        name: of the host.
        verdict: on the host; None where there is none that can be read.
        description: what host.json says, flat.
        problems: sentences about what could not be read.
        figures: what is drawn.
        logged: level, message and number of lines of nginx's error log.
        diagram: where connections are, at any moment; None where nothing was read of it, or where it was not wanted.
        span: what is drawn of time; None where nothing was sampled.
        phases: name, start and end in seconds on the axis.
    """

    name: str
    verdict: Verdict | None = None
    description: Mapping[str, Value] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    logged: list[tuple[str, str, str]] = field(default_factory=list)
    diagram: Diagram | None = None
    span: Span | None = None
    phases: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def virtual(self) -> bool:
        """Whether it was measured in virtual time."""
        return self.verdict is not None and self.verdict.clock == "virtual"


def write_report(run: RunFolder, output: Path | None = None) -> Path:
    """Write the report of a run, and return where it is.

    Args:
        run: the run; what is missing of it is said in the report.
        output: where; report.html in its folder otherwise.

    Raises:
        RunError: there is nothing of a run in the folder, or the report cannot be written.
    """
    path = output or run.path / REPORT
    write_page(path, report_of(run))
    return path


def report_of(run: RunFolder) -> str:
    """Return the report of a run.

    Raises:
        RunError: there is nothing of a run in the folder.
    """
    record, problems = read_content(run)
    names = record.hosts.proxies if record else _hosts_by_their_files(run)
    if record is None and not names:
        raise RunError(f"{run.path} holds nothing of a run: no run.json, no plan.json, and no host's verdict.json.")
    hosts = [read_host(run.host(name), record, len(names)) for name in names]
    parameters = record.parameters if record else next((one.verdict.params for one in hosts if one.verdict), {})
    across = _time_axis(hosts)
    highest = _highest(hosts)
    scripts, styles = uplot() if across else ([], [])
    return render(
        "run.html",
        scripts=scripts,
        styles=styles,
        title=f"Case {record.case.number}: {record.case.title}" if record else run.run_id,
        run_id=run.run_id,
        lab=f"lab {record.lab}, {record.point}" if record and record.point else "",
        created=record.created if record else None,
        settings=show.settings_line(parameters),
        reading=record.case.reading if record else [],
        problems=problems,
        hosts=[_section(one, across, highest) for one in hosts],
        parameters=[_parameter(name, value) for name, value in parameters.items()],
        control={name: _fact(value) for name, value in flat(record.control_node.model_dump())} if record else {},
        data=_data(hosts, across, highest) if across else None,
        caveat=CAVEAT,
        columns=columns_for(max(len(hosts), 1)),
    )


# --- what is there --------------------------------------------------------------------------------


def read_content(run: RunFolder) -> tuple[Plan | None, list[str]]:
    """Return run.json, or the plan of a run that did not come to its end, and what is wrong with it."""
    problems: list[str] = []
    readers: tuple[tuple[Path, Callable[[], Plan], str], ...] = (
        (run.record, run.read_run, ""),
        (run.plan, run.read_plan, "The run is not complete, it has no run.json: this is what it was to be."),
    )
    for path, read, note in readers:
        if path.exists():
            try:
                return read(), [*problems, *([note] if note else [])]
            except RunError as error:
                problems.append(str(error))
    return None, [*problems, "Neither run.json nor plan.json can be read, so case and parameters are as the hosts say."]


def _hosts_by_their_files(run: RunFolder) -> list[str]:
    return sorted(path.parent.name for path in run.path.glob("*/verdict.json"))


def read_host(folder: HostFolder, record: Plan | None, share: int, only: Collection[Picture] = ()) -> HostReport:
    """Read all that there is of one host; what cannot be read becomes a problem.

    Args:
        folder: its results.
        record: what is known of the run.
        share: among how many the columns of a page are shared.
        only: figures to be drawn, if not all of them.
    """
    report = HostReport(folder.name)
    try:
        report.verdict = read_verdict(folder)
    except RunError as error:
        report.problems.append(str(error).rstrip("."))
    try:
        report.description = dict(flat(read_description(folder).facts()))
    except RunError as error:
        report.problems.append(str(error).rstrip("."))
    if report.virtual:
        return report
    parameters = report.verdict.params if report.verdict else {}
    try:
        _draw(report, folder, parameters or (record.parameters if record else {}), share, only)
    except FAULTY_SQL:
        raise
    except duckdb.Error as error:
        report.problems.append(f"the figures cannot be drawn: {str(error).splitlines()[0]}")
    return report


def _draw(
    report: HostReport, folder: HostFolder, parameters: ParameterValues, share: int, only: Collection[Picture]
) -> None:
    database, losses = open_tables(folder)
    with closing(database):
        report.problems += losses
        found = find_span(database)
        if found is None:
            report.problems.append("nothing was sampled, so there is nothing to draw")
            return
        report.span, ended = found
        span = report.span
        phases = report.verdict.phases if report.verdict else []
        edges = [(one.name, one.start_ns, one.end_ns) for one in phases]
        if not edges and ended is not None:
            times = (span.start_ns, span.zero_ns, ended, span.end_ns)
            edges = list(zip(PHASES, times[:-1], times[1:], strict=True))
        for name, start_ns, end_ns in edges:
            start, end = span.seconds(np.array([start_ns, end_ns])).tolist()
            report.phases.append((name, start, end))
        report.figures = list(draw_host(database, span, parameters, share, only))
        try:
            report.diagram = None if only else draw_diagram(database, span, parameters, share, report.figures)
        except FAULTY_SQL:
            raise
        except duckdb.Error as error:
            report.problems.append(f"where connections were cannot be drawn: {str(error).splitlines()[0]}")
        try:
            report.logged = list(_logged(database))
        except FAULTY_SQL:
            raise
        except duckdb.Error as error:
            report.problems.append(f"what nginx logged cannot be read: {str(error).splitlines()[0]}")


def _logged(database: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, str]]:
    """Yield the kinds of lines of nginx's error log, the most frequent first."""
    rows = database.execute(
        f"SELECT level, {MESSAGE_CLASS} AS kind, count(*) AS n FROM nginx_errors GROUP BY 1, 2 ORDER BY n DESC, kind"
    ).fetchall()
    for level, kind, n in rows[:MOST_LOGGED]:
        yield str(level), str(kind), f"{n:,}"
    if rarer := rows[MOST_LOGGED:]:
        yield "", many(len(rarer), "rarer kind"), f"{sum(n for *_, n in rarer):,}"


# --- on one axis ----------------------------------------------------------------------------------


def _time_axis(hosts: Sequence[HostReport]) -> Scale | None:
    """Return the axis of time of all hosts; each has its 0 at its own first request."""
    spans = [one.span for one in hosts if one.span]
    return Scale(min(one.low_s for one in spans), max(one.high_s for one in spans)) if spans else None


def _highest(hosts: Sequence[HostReport]) -> dict[str, float]:
    """Return figure -> the value that its axis has to reach on every host, so that they can be compared."""
    highest: dict[str, float] = {}
    for figure in (figure for host in hosts for figure in host.figures):
        highest[figure.name] = max(highest.get(figure.name, 0), figure.highest)
    return highest


# --- for the template -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _FigureShown:
    """A figure as the template shows it; svg is None where there is nothing to see."""

    name: str
    kind: str
    title: str
    unit: str
    notes: Sequence[str]
    legend: list[tuple[str, str, bool]]
    svg: Markup | None


@dataclass(frozen=True)
class _Section:
    """What the page has of one host; tables are rows of texts.

    Attributes:
        word: of the verdict, and the rest of its sentence.
        reasons: why the run is not valid.
        notes: what a reader should know although it is.
        problems: what could not be read.
    """

    name: str
    kernel: Value
    word: str
    rest: str
    good: bool
    reasons: list[str]
    notes: list[str]
    problems: list[str]
    expectations: list[Prediction]
    claims: list[ClaimVerdict]
    key_figures: list[tuple[str, str, str]]
    path_lengths: list[tuple[str, str, str, str, str]]
    logged: list[tuple[str, str, str]]
    checks: list[tuple[str, str, str, str, str]]
    description: dict[str, str]
    diagram: Diagram | None
    figures: list[_FigureShown]


def _section(host: HostReport, across: Scale | None, highest: Mapping[str, float]) -> _Section:
    verdict = host.verdict
    word, rest = show.verdict_sentence(verdict) if verdict else ("NO VERDICT", ": this host has no verdict.json")
    return _Section(
        name=host.name,
        kernel=verdict.kernel if verdict and verdict.kernel else host.description.get("kernel.release"),
        word=word,
        rest=rest,
        good=verdict is not None and verdict.passed,
        reasons=verdict.reasons if verdict else [],
        notes=verdict.doubts if verdict else [],
        problems=host.problems,
        expectations=verdict.expectations if verdict else [],
        claims=show.worth_showing(verdict.claims) if verdict else [],
        key_figures=list(show.key_figure_rows(verdict)) if verdict else [],
        path_lengths=list(_path_lengths(verdict.metrics)) if verdict and host.virtual else [],
        logged=host.logged,
        checks=list(_rules(verdict.checks)) if verdict else [],
        description={name: _fact(value) for name, value in host.description.items()},
        diagram=host.diagram,
        figures=[
            _FigureShown(
                one.name, one.kind, one.title, one.unit, one.notes, one.legend, _picture(one, host, across, highest)
            )
            for one in host.figures
        ],
    )


def _rules(checks: Sequence[Check]) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield a row for each rule: whether it was kept, what it asks, its limit, what was seen, and what else follows.

    Of a rule that was applied to many things the row has how many kept it, and those that did not.
    """
    by_rule: dict[str, list[Check]] = {}
    for one in checks:
        by_rule.setdefault(one.id, []).append(one)
    for rule_id, applied in by_rule.items():
        rule = RULES.get(rule_id)
        if rule is None:
            yield from (("✗", one.sentence, "", "", one.severity) for one in applied)
            continue
        broken = [one for one in applied if not one.ok]
        limits = {_limit(rule, one) for one in applied}
        seen = [
            f"{one.subject.replace('_', ' ')}: {rule.shown(one.value)}" if one.subject else rule.shown(one.value)
            for one in broken or applied
        ]
        if len(applied) > MOST_SUBJECTS:
            kept = f"{len(applied) - len(broken)} of {len(applied)}"
            seen = [kept, *seen] if broken else [kept]
        yield (
            "✗" if broken else "✓", rule.asks, limits.pop() if len(limits) == 1 else "", "; ".join(seen),
            next((one.severity for one in broken), rule.severity),
        )  # fmt: skip


def _limit(rule: Rule, check: Check) -> str:
    if check.limit is None:
        return ""
    shown = rule.shown(check.limit)
    return f"{rule.bound} {shown}" if isinstance(check.limit, (int, float)) else one_line(shown)


def _picture(figure: Figure, host: HostReport, across: Scale | None, highest: Mapping[str, float]) -> Markup | None:
    if not figure.drawn or across is None:
        return None
    if figure.kind == "latency":
        return draw(figure, scale_of_latency(figure), 100)
    return draw(figure, across, highest[figure.name], host.phases)


def _path_lengths(metrics: Metrics | VirtualMetrics | None) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the rows of a run in virtual time: what, how much, unit, spread, windows."""
    for name, one in metrics.workloads.items() if isinstance(metrics, VirtualMetrics) else ():
        work = WORKLOADS[name]
        if one.median is None:
            yield work.meaning, "-", work.unit, "-", f"n = {one.operations}"
            continue
        value = f"{one.median:.6f}" if work.unit == "s" else f"{one.median:,.0f}"
        spread = "-" if one.half_spread is None else f"±{one.half_spread:.2%}"
        if one.undetected_drift is not None:
            spread += f", drift ≤ {one.undetected_drift:.2%}"
        yield work.meaning, value, work.unit, spread, f"{one.steady} steady windows, n = {one.operations}"


def _fact(value: Value) -> str:
    """Return what was read back from a host as text; what it has several of in a list."""
    if value is None:
        return "not recorded"
    if isinstance(value, list):
        parts = (
            ", ".join(f"{name} {one[name]}" for name in one) if isinstance(one, dict) else str(one) for one in value
        )
        return "; ".join(parts)
    return one_line(str(value))


def _parameter(name: str, value: ParameterValue) -> tuple[str, str, str, str]:
    known = Parameters.model_fields.get(name)
    return name, as_yaml(value), range_of(name) if known else "", (known.description or "") if known else ""


# --- for the script -------------------------------------------------------------------------------


class _LineData(TypedDict):
    """One line; x is distances in ticks, or the values of a latency's axis."""

    label: str
    colour: str
    dashed: bool
    x: list[int] | list[float]
    y: list[float | int | None]


class _BarsData(TypedDict):
    """Requests that ended in one way; times in ticks."""

    label: str
    colour: str
    start: list[int]
    length: list[int]
    number: list[int]


class _Across(TypedDict):
    """The horizontal axis of a latency."""

    low: float
    high: float
    logarithmic: bool
    ticks: list[float]


class _FigureData(TypedDict):
    """One figure; across is None where its horizontal axis is time."""

    name: str
    kind: str
    unit: str
    tall: bool
    highest: float
    across: _Across | None
    lines: list[_LineData]
    bars: list[_BarsData]


class _NumberData(TypedDict):
    """A number of the diagram over time; x is distances in ticks."""

    x: list[int]
    y: list[float | int | None]


class _DiagramData(TypedDict):
    """The diagram: the moment that it shows first, in ticks, and its numbers.

    A number that a figure draws too is the place of that figure, and of its line in it.
    """

    at: int
    settled_s: float
    numbers: dict[str, _NumberData | tuple[int, int]]


class _HostData(TypedDict):
    """One host: name, start and end of its phases, its figures, and its diagram."""

    phases: list[tuple[str, float, float]]
    figures: list[_FigureData]
    diagram: _DiagramData | None


class _Data(TypedDict):
    """What report.js reads: the ends of the axis of time, the length of a tick, and the hosts."""

    across: tuple[float, float]
    tick_s: float
    hosts: list[_HostData]


def _data(hosts: Sequence[HostReport], across: Scale, highest: Mapping[str, float]) -> _Data:
    """Return what the script draws from: the same lines as the SVG has, before they were made thinner."""
    return {
        "across": (across.low, across.high),
        "tick_s": TICK_S,
        "hosts": [
            {
                "phases": host.phases,
                "figures": [_figure_data(one, highest[one.name]) for one in host.figures],
                "diagram": _diagram_data(host.diagram, host.figures) if host.diagram else None,
            }
            for host in hosts
        ],
    }


def _figure_data(figure: Figure, highest: float) -> _FigureData:
    latency = scale_of_latency(figure) if figure.kind == "latency" and figure.drawn else None
    across: _Across | None = None
    if latency:
        across = {
            "low": latency.low,
            "high": latency.high,
            "logarithmic": latency.logarithmic,
            "ticks": latency.ticks(MOST_TICKS),
        }
    return {
        "name": figure.name,
        "kind": figure.kind,
        "unit": figure.unit,
        "tall": figure.tall or bool(figure.bars),
        "highest": highest,
        "across": across,
        "lines": [
            {
                "label": one.label,
                "colour": one.colour,
                "dashed": one.dashed,
                "x": one.x.tolist() if latency else _distances(one.x),
                "y": _compact(one.y),
            }
            for one in figure.lines
        ],
        "bars": [
            {
                "label": one.label,
                "colour": one.colour,
                "start": _distances(one.start),
                "length": in_ticks(one.end - one.start).tolist(),
                "number": one.number.astype(np.int64).tolist(),
            }
            for one in figure.bars
        ],
    }


def _diagram_data(diagram: Diagram, figures: Sequence[Figure]) -> _DiagramData:
    drawn = {id(line): (i, j) for i, figure in enumerate(figures) for j, line in enumerate(figure.lines)}
    return {
        "at": diagram.at,
        "settled_s": diagram.settled_s,
        "numbers": {
            name: drawn.get(id(line), {"x": _distances(line.x), "y": _compact(line.y)})
            for name, line in diagram.lines.items()
        },
    }


def _distances(x: Numbers) -> list[int]:
    """Return times in ticks, each as its distance from the one before."""
    distances: list[int] = np.diff(in_ticks(x), prepend=0).tolist()
    return distances


def _compact(y: Numbers) -> list[float | int | None]:
    """Return values without the digits that nobody sees; None where the line breaks."""
    return [
        None if np.isnan(value) else int(value) if value == int(value) else float(f"{value:.5g}")
        for value in y.tolist()
    ]
