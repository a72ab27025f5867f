"""What people see of cases and runs in the terminal."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from floodmark.inputs.cases import Case
from floodmark.inputs.parameters import Parameters, as_yaml, range_of
from floodmark.inputs.sql import bare_condition
from floodmark.model.check import Severity
from floodmark.model.metrics import Metrics, VirtualMetrics, WorkloadFigure
from floodmark.model.verdict import ClaimVerdict, Prediction, Verdict
from floodmark.runs.folders import REPORT, RunFolder
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.tables import BAD, GOOD, UNCLEAR, table_of
from floodmark.text import number, one_line, percent
from floodmark.values import ParameterValues
from floodmark.verdict.virtual import CAVEAT, WORKLOADS

# Of /proc/net/unix: include/uapi/linux/net.h of the kernel, socket_state.
STATE_NAMES = {
    "00": "SS_FREE", "01": "SS_UNCONNECTED", "02": "SS_CONNECTING", "03": "SS_CONNECTED", "04": "SS_DISCONNECTING",
}  # fmt: skip


# --- cases ----------------------------------------------------------------------------------------


def print_cases(console: Console, cases: dict[int, Case]) -> None:
    """Print all cases, and all parameters with their values and ranges."""
    table = table_of("case", "name", "title", "differs from base.yml")
    base = next(iter(cases.values())).parameters.model_dump()
    for case in cases.values():
        own = case.parameters.model_dump()
        differs = ", ".join(f"{name}={own[name]}" for name in own if own[name] != base[name])
        table.add_row(str(case.number), case.name, case.title, differs or "-")
    console.print(table)
    table = table_of("parameter", "default", "allowed", "meaning")
    for name, value in base.items():
        table.add_row(name, as_yaml(value), range_of(name), Parameters.model_fields[name].description or "")
    console.print(table)
    console.print("Run one with [bold]make case CASE=2 ARGS='-e transport=tcp -e somaxconn=16'[/bold]")


# --- runs -----------------------------------------------------------------------------------------


def print_run(console: Console, run: RunFolder) -> None:
    """Print the verdict of a run, host by host, and of several hosts a line for each in the end."""
    case = run.read_run().case
    verdicts = read_verdicts(run)
    for verdict in verdicts:
        console.print()
        console.print(f"[bold]Case {case.number}[/bold]  {case.title}", highlight=False)
        console.print(
            f"[dim]{settings_line(verdict.params)}\n"
            f"host {verdict.host}, Linux {verdict.kernel or 'unknown'}, run {run.run_id}[/dim]",
            highlight=False,
        )
        _print_verdict(console, verdict)
        if isinstance(verdict.metrics, VirtualMetrics):
            _print_path_lengths(console, verdict, verdict.metrics)
        elif verdict.metrics:
            print_expectations(console, verdict.expectations)
            if verdict.claims:
                print_claims(console, verdict.claims)
            _print_figures(console, verdict)
    if len(verdicts) > 1:
        _print_hosts(console, verdicts)
    # Short where it can be: people stand in the checkout.
    place = run.path.relative_to(Path.cwd()) if run.path.is_relative_to(Path.cwd()) else run.path
    drawn = f", drawn in {REPORT}" if (run.path / REPORT).exists() else ""
    console.print(f"[dim]Everything is in {place}{drawn}[/dim]", soft_wrap=True, highlight=False)


def draw_run(run: RunFolder) -> str:
    """Return what `print_run` prints as an SVG picture, which needs nothing from elsewhere."""
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    print_run(console, run)
    picture = console.export_svg(title="floodmark show", theme=SVG_EXPORT_THEME)
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


# The parameters that a reader wants to know first.
_SETTINGS = (
    "{transport}", "somaxconn {somaxconn}", "backlog {upstream_backlog}", "{flood}",
    "nginx with {nginx_workers} × {worker_connections} worker_connections",
)  # fmt: skip
_FLOODS = {
    "burst": "a burst of {users} users",
    "bursts": "{bursts} bursts of {users} users, one every {burst_every_s} s",
    "sustained": "{users} users for {duration_s} s",
    "open": "{rate} requests a second, at most {users} at once",
}


def settings_line(params: ParameterValues) -> str:
    """Return the parameters that a reader wants to know first, in one line; `-` where a run has not recorded one."""
    known = defaultdict(lambda: "-", {name: str(value) for name, value in params.items()})
    shape = "bursts" if known["load_shape"] == "burst" and known["bursts"] not in ("-", "1") else known["load_shape"]
    known["flood"] = _FLOODS[shape].format_map(known) if shape in _FLOODS else shape
    return ", ".join(_SETTINGS).format_map(known) if params else ""


def _print_hosts(console: Console, verdicts: Sequence[Verdict]) -> None:
    table = table_of("host", "Linux", "verdict")
    for verdict in verdicts:
        word, rest = in_short(verdict)
        colour = GOOD if verdict.passed else BAD
        table.add_row(verdict.host, verdict.kernel or "unknown", Text.assemble((word, colour), rest))
    console.print()
    console.print(table)


def in_short(verdict: Verdict) -> tuple[str, str]:
    """Return the verdict on one host in a word, which is coloured, and in a line what it rests on."""
    if not verdict.valid:
        return "INVALID", f": {one_line(verdict.reasons[0])}"
    if not verdict.expectations:
        return "VALID", ""
    failed = [one.name.replace("_", " ") for one in verdict.expectations if not one.holds]
    return "VALID", f", but not: {', '.join(failed)}" if failed else ", all expectations hold"


def verdict_sentence(verdict: Verdict) -> tuple[str, str]:
    """Return the verdict on one host: its first word or words, which are coloured, and the rest of the sentence."""
    held = sum(one.holds for one in verdict.expectations)
    total = len(verdict.expectations)
    if not verdict.valid:
        return "INVALID", ": this run says nothing about the case, because"
    if not total:
        return "VALID", ": nothing is predicted of it, it was measured"
    if held == total:
        return "VALID", f", and all {total} expectations of our model hold"
    return f"VALID, but only {held} of {total} expectations hold", ""


def _print_verdict(console: Console, verdict: Verdict) -> None:
    word, rest = verdict_sentence(verdict)
    console.print(Text.assemble((word, GOOD if verdict.passed else BAD), rest))
    for check in verdict.failed(Severity.INVALID):
        console.print(f"  [{BAD}]·[/] {escape(check.sentence)}", highlight=False)
    for check in verdict.failed(Severity.NOTE):
        console.print(f"  [{UNCLEAR}]note[/]: {escape(check.sentence)}", highlight=False)


def _print_path_lengths(console: Console, verdict: Verdict, metrics: VirtualMetrics) -> None:
    """Print the figures of a run in virtual time, each with its n, its spread and what it cannot say."""
    console.print(f"[dim]{verdict.fixed}[/dim]", highlight=False)
    print_expectations(console, [*verdict.faults, *verdict.expectations])
    table = table_of("path length", ("instructions", "right"), "middle half", "windows", "counted")
    for name, one in metrics.workloads.items():
        work = WORKLOADS[name]
        if work.unit == "s":
            continue
        table.add_row(
            work.meaning,
            "-" if one.median is None else f"{one.median:,.0f}",
            "-" if one.half_spread is None else f"±{one.half_spread:.2%}{_drift(one)}",
            f"{one.steady} steady, {number(one.warm_up)} warm-up; n = {one.operations}",
            work.counted,
        )
    console.print(table)
    if metrics.request_timeout_s is not None:
        console.print(
            f"A request that nobody answers ends after {metrics.request_timeout_s:.6f} s of virtual time.",
            highlight=False,
        )
    console.print(f"[{UNCLEAR}]note[/]: these are {CAVEAT}.", highlight=False)


def _drift(figure: WorkloadFigure) -> str:
    """Return how far a path length may have drifted unseen, which verdicts of older versions do not say."""
    return "" if figure.undetected_drift is None else f"\ndrift ≤ {figure.undetected_drift:.2%}"


def prediction_text(prediction: Prediction) -> str:
    """Return what was predicted: `9 (queue_limit + 1)`, or the condition where it compares with no number."""
    if not prediction.predicted:
        return one_line(prediction.condition)
    return f"{prediction.predicted} ({bare_condition(prediction.condition)})"


def print_expectations(console: Console, expectations: Sequence[Prediction]) -> None:
    """Print what our model has predicted, and what came of it."""
    table = table_of("", "expectation", ("value", "right"), "predicted")
    for one in expectations:
        mark = Text("✓", GOOD) if one.holds else Text("✗", BAD)
        table.add_row(mark, one.name.replace("_", " "), number(one.value), escape(prediction_text(one)))
    console.print(table)


def worth_showing(claims: Sequence[ClaimVerdict]) -> list[ClaimVerdict]:
    """Return answers without limits that a run did not see."""
    return [one for one in claims if one.role == "sentence" or one.verdict != "not observed"]


def print_claims(console: Console, claims: Sequence[ClaimVerdict]) -> None:
    """Print what the study says, and what a run answers."""
    table = table_of("the study says", ("value", "right"), "verdict")
    colours = {"confirmed": GOOD, "refuted": "red", "not observed": "dim"}
    quoted = ""
    for one in worth_showing(claims):
        said = f"[dim]{escape(one.measured)}[/]" if one.study == quoted else escape(one.study)
        if one.measured and one.study != quoted:
            said += f" [dim]({escape(one.measured)})[/]"
        quoted = one.study
        colour = colours[one.verdict] if one.role == "sentence" else "dim"
        table.add_row(said, number(one.value), Text(one.in_words, colour))
    console.print(table)


def key_figure_rows(verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    """Yield the key figures as people read them: name, value, and where it comes from with its n."""
    seen = verdict.seen
    if seen is None:
        return
    yield from _queue_rows(verdict, seen)
    if seen.pause_s is not None:
        yield (
            "the upstream paused",
            (
                f"for {number(seen.pause_s)} s, in the end with {number(seen.pause_dead_conns)} in its "
                "queue whose client had gone; "
                f"the queue was empty {_after(verdict, 'pause_queue_recovery_s', 'never')}, "
                f"the last who had waited was answered {_after(verdict, 'pause_clients_recovery_s', 'never')}"
            ),
            "the upstream's clock, sock_diag, Locust",
        )
    if verdict.params.get("trace"):
        yield _trace_row(seen)
    yield from _nginx_rows(verdict, seen)
    yield from _client_rows(verdict, seen)
    phases = ", ".join(f"{phase.name} {phase.duration_s:.3f} s" for phase in verdict.phases)
    yield ("phases", phases or "-", "first and last request")
    yield (
        "the agent",
        (
            f"{percent(seen.agent_cpu_share)} of a core, "
            f"{percent(seen.agent_lost_share)} of its readings lost; "
            f"late p99 {number(seen.agent_lateness_p99_ms)} ms, "
            f"at most {number(seen.agent_lateness_max_ms)} ms"
        ),
        f"itself, n = {number(sum(one.n for one in seen.agent_sources.values()) or None)}",
    )
    for why in dict.fromkeys(verdict.missing.values()):
        names = [name for name, other in verdict.missing.items() if other == why]
        yield ("missing", ", ".join(names), why)


def _queue_rows(verdict: Verdict, seen: Metrics) -> Iterator[tuple[str, str, str]]:
    in_flood = f"sock_diag, n = {number(seen.accept_queue_n)} in the flood"
    yield (
        "accept queue",
        (
            f"max {number(seen.accept_queue_max)}, median in the flood {number(seen.accept_queue_median)}, "
            f"at the end {number(seen.accept_queue_last)}; limit {number(seen.queue_limit)}"
        ),
        in_flood,
    )
    yield (
        "the queue was full",
        (
            f"{_after(verdict, 'time_to_full_s', 'never')}; plateau median {number(seen.plateau_median)}, "
            f"p99 {number(seen.plateau_p99)}; overshoot {number(seen.overshoot)}"
        ),
        f"sock_diag, n = {number(seen.plateau_n)} on the plateau",
    )
    yield (
        "and empty again, after the flood",
        (
            f"{_after(verdict, 'drain_s', 'not before the end')}; "
            f"upstream and nginx idle {_after(verdict, 'recovery_s', 'not before the end')}"
        ),
        "sock_diag, stub_status",
    )
    yield (
        "waited in the queue",
        (
            f"{number(seen.queue_area_conn_s)} connection-seconds in the flood, "
            f"{number(seen.queue_area_drain_conn_s)} in the drain; "
            f"{number(seen.dead_in_queue_last)} at the end without a client"
        ),
        in_flood,
    )


def _trace_row(seen: Metrics) -> tuple[str, str, str]:
    waits = (
        f"median {number(seen.wait_median_ms)} ms, p99 {number(seen.wait_p99_ms)} ms, "
        f"max {number(seen.wait_max_ms)} ms; "
    )
    return (
        "waited for accept()",
        (waits if seen.waits_n else "") + f"{number(seen.waits_unaccepted)} were never accepted; "
        f"together {number(seen.waits_area_conn_s)} connection-seconds",
        f"bpftrace, n = {number(seen.waits_n)}; sock_diag agrees in {percent(seen.trace_agreement_share)}",
    )


def _nginx_rows(verdict: Verdict, seen: Metrics) -> Iterator[tuple[str, str, str]]:
    yield ("accepted, not closed", f"max {number(seen.accepted_max)}", "sock_diag")
    yield (
        "Active, without our poll",
        f"max {number(seen.active_max)}, median in the flood {number(seen.active_median)}",
        f"stub_status, n = {number(seen.active_n)} in the flood",
    )
    yield (
        "Active = Q + A + 1, in front of nginx",
        f"in {percent(seen.identity_front_share)} of the moments of the flood that had clients",
        f"stub_status, sock_diag, Locust, n = {number(seen.identity_front_n)}",
    )
    yield (
        "Active = Q + A + 1, at the upstream",
        (
            f"in {percent(seen.identity_share)} of the moments of the flood that had connections, "
            f"in {percent(seen.identity_drain_share)} of those of the drain"
        ),
        f"stub_status, sock_diag, n = {number(seen.identity_n)} and {number(seen.identity_drain_n)}",
    )
    if verdict.params.get("transport") == "unix":
        rows = (f"{count} × {state} {STATE_NAMES.get(state, '')}" for state, count in seen.states.items() if count)
        yield ("rows on the path", ", ".join(map(str.rstrip, rows)) or "-", "/proc/net/unix, median")
    else:
        yield (
            "ListenOverflows, ListenDrops",
            f"{number(seen.listen_overflows)}, {number(seen.listen_drops)}",
            "/proc/net/netstat, growth since the baseline",
        )


def _client_rows(verdict: Verdict, seen: Metrics) -> Iterator[tuple[str, str, str]]:
    answers = [f"{count} × {status}" for status, count in seen.status.items()]
    answers += [f"{count} × {error}" for error, count in seen.errors.items()]
    yield ("clients got", ", ".join(answers) or "-", f"Locust, n = {number(seen.sent)}")
    for name, latency in seen.latency.items():
        yield (
            f"a request that ended with {name} took",
            f"median {number(latency.median_s)} s, p99 {number(latency.p99_s)} s, max {number(latency.max_s)} s",
            f"from its intended start, n = {latency.n}",
        )
    yield (
        "a good answer took, of all that were due",
        ", ".join(
            f"{name} {_seconds_or(verdict, f'request_{name}_s', 'beyond any number' if seen.request_n else '-')}"
            for name in ("median", "p99", "max")
        ),
        f"{number(seen.good_n)} good of n = {number(seen.request_n)}",
    )  # fmt: skip
    if seen.requests_per_s is not None:
        yield (
            "rate over the flood",
            f"{number(seen.requests_per_s)} requests and {number(seen.goodput_per_s)} good answers a second",
            f"Locust, n = {number(seen.sent)}",
        )
    if seen.requested_per_s is not None:
        yield (
            "the flood",
            (
                f"{number(seen.requested_per_s)} requests a second asked for, "
                f"{number(seen.achieved_per_s)} sent, {seen.dropped} dropped; "
                f"late p99 {number(seen.generator_late_p99_ms)} ms"
            ),
            f"the load generator, n = {number(seen.sent)}",
        )


def _print_figures(console: Console, verdict: Verdict) -> None:
    table = table_of("key figure", "value", "from")
    for row in key_figure_rows(verdict):
        table.add_row(*map(escape, row))
    console.print(table)


def _after(verdict: Verdict, name: str, never: str) -> str:
    """Return when something happened: `after 0.016 s`."""
    return _seconds_or(verdict, name, never, "after ")


def _seconds_or(verdict: Verdict, name: str, never: str, before: str = "") -> str:
    """Return a key figure in seconds. Without a number it never came, unless the verdict says why it is missing."""
    seconds = getattr(verdict.metrics, name)
    if seconds is None:
        return "-" if name in verdict.missing else never
    return f"{before}{number(seconds)} s"
