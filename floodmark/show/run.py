"""What people see of cases and runs in the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from floodmark.inputs.cases import Case
from floodmark.inputs.parameters import Parameters, as_yaml, range_of
from floodmark.runs.folders import REPORT, RunFolder
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.tables import BAD, GOOD, UNCLEAR, number, one_line, percent, table_of
from floodmark.verdict.judge import passed
from floodmark.verdict.virtual import CAVEAT, WORKLOADS

STATE_NAMES = {"01": "SS_UNCONNECTED", "02": "SS_CONNECTING", "03": "SS_CONNECTED"}


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
    content = run.read_run()
    case = content["case"]
    verdicts = read_verdicts(run)
    for verdict in verdicts:
        console.print()
        console.print(f"[bold]Case {case['number']}[/bold]  {case['title']}", highlight=False)
        console.print(
            f"[dim]{settings_line(verdict['params'])}\n"
            f"host {verdict['host']}, Linux {verdict['kernel'] or 'unknown'}, run {run.run_id}[/dim]",
            highlight=False,
        )
        _print_verdict(console, verdict)
        if not verdict["metrics"]:
            continue  # nothing came from this host
        if verdict.get("clock") == "virtual":
            _print_path_lengths(console, verdict)
            continue
        print_expectations(console, verdict["expectations"])
        print_claims(console, verdict["claims"])
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


def settings_line(params: dict[str, Any]) -> str:
    """Return the parameters that a reader wants to know first, in one line."""
    flood = {
        "burst": f"a burst of {params['users']} users",
        "sustained": f"{params['users']} users for {params['duration_s']} s",
        "open": f"{params.get('rate')} requests a second, at most {params['users']} at once",
    }[params["load_shape"]]
    return (
        f"{params['transport']}, somaxconn {params['somaxconn']}, backlog {params['upstream_backlog']}, "
        f"{flood}, "
        f"nginx with {params['nginx_workers']} × {params['worker_connections']} worker_connections"
    )


def _print_hosts(console: Console, verdicts: list[dict[str, Any]]) -> None:
    table = table_of("host", "Linux", "verdict")
    for verdict in verdicts:
        word, rest = in_short(verdict)
        colour = GOOD if passed(verdict) else BAD
        table.add_row(verdict["host"], verdict["kernel"] or "unknown", Text.assemble((word, colour), rest))
    console.print()
    console.print(table)


def in_short(verdict: dict[str, Any]) -> tuple[str, str]:
    """Return the verdict on one host in a word, which is coloured, and in a line what it rests on."""
    if not verdict["valid"]:
        return "INVALID", f": {one_line(verdict['reasons'][0])}"
    if not verdict["expectations"]:
        return "VALID", ""
    failed = [one["name"].replace("_", " ") for one in verdict["expectations"] if not one["holds"]]
    return "VALID", f", but not: {', '.join(failed)}" if failed else ", all expectations hold"


def verdict_sentence(verdict: dict[str, Any]) -> tuple[str, str]:
    """Return the verdict on one host: its first word or words, which are coloured, and the rest of the sentence."""
    held = sum(one["holds"] for one in verdict["expectations"])
    total = len(verdict["expectations"])
    if not verdict["valid"]:
        return "INVALID", ": this run says nothing about the case, because"
    if not total:
        return "VALID", ": nothing is predicted of it, it was measured"
    if held == total:
        return "VALID", f", and all {total} expectations of our model hold"
    return f"VALID, but only {held} of {total} expectations hold", ""


def notes(verdict: dict[str, Any]) -> Iterator[str]:
    """Yield what a reader should know besides the verdict."""
    if verdict["unstated"]:
        names = ", ".join(one["name"].replace("_", " ") for one in verdict["unstated"])
        conditions = " or ".join(sorted({f"'{one['applies']}'" for one in verdict["unstated"]}))
        yield (
            f"{len(verdict['unstated'])} expectations are not stated for these parameters, because they need "
            f"{conditions}: {names}"
        )
    yield from verdict["doubts"]


def _print_verdict(console: Console, verdict: dict[str, Any]) -> None:
    word, rest = verdict_sentence(verdict)
    console.print(Text.assemble((word, GOOD if passed(verdict) else BAD), rest))
    for reason in verdict["reasons"]:
        console.print(f"  [{BAD}]·[/] {escape(reason)}", highlight=False)
    for note in notes(verdict):
        console.print(f"  [{UNCLEAR}]note[/]: {escape(note)}", highlight=False)


def _print_path_lengths(console: Console, verdict: dict[str, Any]) -> None:
    """Print the figures of a run in virtual time, each with its n, its spread and what it cannot say."""
    console.print(f"[dim]{verdict['fixed']}[/dim]", highlight=False)
    table = table_of("", "what was seen", ("value", "right"), "it takes")
    for one in (*verdict["faults"], *verdict["expectations"]):
        mark = Text("✓", GOOD) if one["holds"] else Text("✗", BAD)
        table.add_row(mark, one["name"].replace("_", " "), number(one["value"]), escape(one["condition"]))
    console.print(table)
    table = table_of("path length", ("instructions", "right"), "middle half", "windows", "counted")
    for name, one in verdict["metrics"]["workloads"].items():
        work = WORKLOADS[name]
        if work.unit == "s":
            continue
        table.add_row(
            work.meaning,
            "-" if one["median"] is None else f"{one['median']:,.0f}",
            "-" if one["median"] is None else f"±{one['half_spread']:.2%}",
            f"{one['steady']} steady, {one['warm_up']} warm-up; n = {one['operations']}",
            work.counted,
        )
    console.print(table)
    timeout_s = verdict["metrics"].get("request_timeout_s")
    if timeout_s is not None:
        console.print(f"A request that nobody answers ends after {timeout_s:.6f} s of virtual time.", highlight=False)
    console.print(f"[{UNCLEAR}]note[/]: these are {CAVEAT}.", highlight=False)


def print_expectations(console: Console, expectations: list[dict[str, Any]]) -> None:
    """Print what our model has predicted, and what came of it."""
    table = table_of("", "expectation", ("value", "right"), "predicted")
    for one in expectations:
        mark = Text("✓", GOOD) if one["holds"] else Text("✗", BAD)
        table.add_row(mark, one["name"].replace("_", " "), number(one["value"]), escape(one_line(one["condition"])))
    console.print(table)


def print_claims(console: Console, claims: list[dict[str, Any]]) -> None:
    """Print what the study says, and what becomes of it."""
    table = table_of("the study says", ("value", "right"), "verdict")
    colours = {"confirmed": GOOD, "refuted": "red", "not observed": "dim"}
    for one in claims:
        said = f"{escape(one['study'])}" + (f" [dim]({escape(one['measured'])})[/]" if one.get("measured") else "")
        table.add_row(said, number(one["value"]), Text(one["verdict"], colours[one["verdict"]]))
    console.print(table)


def key_figure_rows(verdict: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the key figures as people read them: name, value, and where it comes from with its n."""
    metrics = verdict["metrics"]
    limit = metrics["queue_limit"]
    yield (
        "accept queue",
        (
            f"max {number(metrics['accept_queue_max'])}, median in the flood {number(metrics['accept_queue_median'])}, "
            f"at the end {number(metrics['accept_queue_last'])}; limit {number(limit)}"
        ),
        f"sock_diag, n = {metrics['accept_queue_n']} in the flood",
    )
    yield (
        "the queue was full",
        (
            f"{_after(metrics['time_to_full_s'], 'never')}; plateau median {number(metrics['plateau_median'])}, "
            f"p99 {number(metrics['plateau_p99'])}; overshoot {number(metrics['overshoot'])}"
        ),
        f"sock_diag, n = {metrics['plateau_n']} on the plateau",
    )
    yield (
        "and empty again, after the flood",
        (
            f"{_after(metrics['drain_s'], 'not before the end')}; "
            f"upstream and nginx idle {_after(metrics['recovery_s'], 'not before the end')}"
        ),
        "sock_diag, stub_status",
    )
    yield (
        "waited in the queue",
        (
            f"{number(metrics['queue_area_conn_s'])} connection-seconds; "
            f"{number(metrics['dead_in_queue_last'])} at the end without a client"
        ),
        "sock_diag",
    )
    if metrics.get("pause_s") is not None:
        yield (
            "the upstream paused",
            (
                f"for {number(metrics['pause_s'])} s, in the end with {number(metrics['pause_dead_conns'])} in its "
                "queue whose client had gone; "
                f"the queue was empty {_after(metrics['pause_queue_recovery_s'], 'never')}, "
                f"the last who had waited was answered {_after(metrics['pause_clients_recovery_s'], 'never')}"
            ),
            "the upstream's clock, sock_diag, Locust",
        )
    if verdict["params"].get("trace"):  # runs before format 3 have no such parameter
        yield (
            "waited for accept()",
            (
                f"median {number(metrics['wait_median_ms'])} ms, p99 {number(metrics['wait_p99_ms'])} ms, "
                f"max {number(metrics['wait_max_ms'])} ms; "
                if metrics["waits_n"]
                else ""
            )
            + f"{number(metrics['waits_unaccepted'])} were never accepted; "
            f"together {number(metrics['waits_area_conn_s'])} connection-seconds",
            f"bpftrace, n = {metrics['waits_n']}; sock_diag agrees in {percent(metrics['trace_agreement_share'])}",
        )
    yield ("accepted, not closed", f"max {number(metrics['accepted_max'])}", "sock_diag")
    yield (
        "Active, without our poll",
        f"max {number(metrics['active_max'])}, median in the flood {number(metrics['active_median'])}",
        f"stub_status, n = {metrics['active_n']} in the flood",
    )
    yield (
        "Active = Q + A + 1",
        f"in {percent(metrics['identity_share'])} of the moments that had connections",
        f"all three, n = {metrics['identity_n']}",
    )
    if verdict["params"]["transport"] == "unix":
        states = ", ".join(
            f"{count} × {state} {STATE_NAMES[state]}" for state, count in metrics["states"].items() if count
        )
        yield ("rows on the path", states or "-", "/proc/net/unix, median")
    else:
        yield (
            "ListenOverflows, ListenDrops",
            f"{number(metrics['listen_overflows'])}, {number(metrics['listen_drops'])}",
            "/proc/net/netstat, growth since the baseline",
        )
    answers = [f"{count} × {status}" for status, count in metrics["status"].items()]
    answers += [f"{count} × {error}" for error, count in metrics["errors"].items()]
    yield ("clients got", ", ".join(answers) or "-", f"Locust, n = {metrics['sent']}")
    yield (
        "a request took",
        f"median {number(metrics['request_median_s'])} s, p99 {number(metrics.get('request_p99_s'))} s, "
        f"max {number(metrics['request_max_s'])} s"
        + (f"; {metrics['given_up']} given up" if metrics.get("given_up") else ""),
        f"from its intended start, n = {metrics['sent']}",
    )
    if metrics.get("requested_per_s") is not None:
        yield (
            "the flood",
            (
                f"{number(metrics['requested_per_s'])} requests a second asked for, "
                f"{number(metrics['achieved_per_s'])} sent, {metrics['dropped']} dropped; "
                f"late p99 {number(metrics['generator_late_p99_ms'])} ms"
            ),
            "the load generator",
        )
    phases = ", ".join(f"{phase['name']} {phase['duration_s']:.3f} s" for phase in verdict["phases"])
    yield ("phases", phases or "-", "first and last request")
    yield (
        "the agent",
        (
            f"{percent(metrics['agent_cpu_share'])} of a core, "
            f"{percent(metrics['agent_lost_share'])} of its readings lost; "
            f"late p99 {number(metrics['agent_lateness_p99_ms'])} ms, "
            f"at most {number(metrics['agent_lateness_max_ms'])} ms"
        ),
        "itself",
    )


def _print_figures(console: Console, verdict: dict[str, Any]) -> None:
    table = table_of("key figure", "value", "from")
    for row in key_figure_rows(verdict):
        table.add_row(*map(escape, row))
    console.print(table)


def _after(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"after {number(seconds)} s"
