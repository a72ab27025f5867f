"""What people see of cases and runs in the terminal."""

from __future__ import annotations

import io
import json
import re
import textwrap
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from floodmark.cases import Case
from floodmark.errors import RunError
from floodmark.parameters import Parameters, range_of
from floodmark.runs import RunFolder
from floodmark.virtual import CAVEAT, WORKLOADS

GOOD, BAD, UNCLEAR = "green", "bold red", "yellow"
STATE_NAMES = {"01": "SS_UNCONNECTED", "02": "SS_CONNECTING", "03": "SS_CONNECTED"}


def read_verdicts(run: RunFolder) -> list[dict[str, Any]]:
    """Return the verdict of each host of a complete run.

    Raises:
        RunError: the run is not complete or is damaged.
    """
    verdicts = []
    for name in run.read_run()["hosts"]["proxies"]:
        path = run.host(name).verdict
        try:
            verdicts.append(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError) as error:
            raise RunError(
                f"{path} is missing or damaged: {error}. 'floodmark judge {run.run_id}' makes it again."
            ) from None
    return verdicts


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
        text = str(value).lower() if isinstance(value, bool) else str(value)
        table.add_row(name, text, range_of(name), Parameters.model_fields[name].description or "")
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
            f"[dim]{_settings(verdict['params'])}\n"
            f"host {verdict['host']}, Linux {verdict['kernel'] or 'unknown'}, run {run.run_id}[/dim]",
            highlight=False,
        )
        _print_verdict(console, verdict)
        if not verdict["metrics"]:
            continue  # nothing came from this host
        if verdict.get("clock") == "virtual":
            _print_path_lengths(console, verdict)
            continue
        _print_expectations(console, verdict["expectations"])
        _print_claims(console, verdict["claims"])
        _print_figures(console, verdict)
    if len(verdicts) > 1:
        _print_hosts(console, verdicts)
    # Short where it can be: people stand in the checkout.
    place = run.path.relative_to(Path.cwd()) if run.path.is_relative_to(Path.cwd()) else run.path
    console.print(f"[dim]Everything is in {place}[/dim]", soft_wrap=True, highlight=False)


def draw_run(run: RunFolder) -> str:
    """Return what `print_run` prints as an SVG picture, which needs nothing from elsewhere."""
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    print_run(console, run)
    picture = console.export_svg(title="floodmark show", theme=SVG_EXPORT_THEME)
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


def _settings(params: dict[str, Any]) -> str:
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
        table.add_row(verdict["host"], verdict["kernel"] or "unknown", _in_short(verdict))
    console.print()
    console.print(table)


def _in_short(verdict: dict[str, Any]) -> str:
    if not verdict["valid"]:
        return f"[{BAD}]INVALID[/]: {escape(_one_line(verdict['reasons'][0]))}"
    failed = [one["name"].replace("_", " ") for one in verdict["expectations"] if not one["holds"]]
    return f"[{BAD}]VALID[/], but not: {', '.join(failed)}" if failed else f"[{GOOD}]VALID[/], all expectations hold"


def _print_verdict(console: Console, verdict: dict[str, Any]) -> None:
    held = sum(one["holds"] for one in verdict["expectations"])
    total = len(verdict["expectations"])
    if not verdict["valid"]:
        console.print(f"[{BAD}]INVALID[/]: this run says nothing about the case, because")
        for reason in verdict["reasons"]:
            console.print(f"  [{BAD}]·[/] {escape(reason)}", highlight=False)
    elif held == total:
        console.print(f"[{GOOD}]VALID[/], and all {total} expectations of our model hold", highlight=False)
    else:
        console.print(f"[{BAD}]VALID, but only {held} of {total} expectations hold[/]")
    if verdict["unstated"]:
        names = ", ".join(one["name"].replace("_", " ") for one in verdict["unstated"])
        conditions = " or ".join(sorted({f"'{one['applies']}'" for one in verdict["unstated"]}))
        console.print(
            f"  [{UNCLEAR}]note[/]: {len(verdict['unstated'])} expectations are not stated for these parameters, "
            f"because they need {escape(conditions)}: {names}",
            highlight=False,
        )
    for doubt in verdict["doubts"]:
        console.print(f"  [{UNCLEAR}]note[/]: {escape(doubt)}", highlight=False)


def _print_path_lengths(console: Console, verdict: dict[str, Any]) -> None:
    """Print the figures of a run in virtual time, each with its n, its spread and what it cannot say."""
    console.print(f"[dim]{verdict['fixed']}[/dim]", highlight=False)
    table = table_of("", "what was seen", ("value", "right"), "it takes")
    for one in (*verdict["faults"], *verdict["expectations"]):
        mark = Text("✓", GOOD) if one["holds"] else Text("✗", BAD)
        table.add_row(mark, one["name"].replace("_", " "), _number(one["value"]), escape(one["condition"]))
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


def _print_expectations(console: Console, expectations: list[dict[str, Any]]) -> None:
    table = table_of("", "expectation", ("value", "right"), "predicted")
    for one in expectations:
        mark = Text("✓", GOOD) if one["holds"] else Text("✗", BAD)
        table.add_row(mark, one["name"].replace("_", " "), _number(one["value"]), escape(_one_line(one["condition"])))
    console.print(table)


def _print_claims(console: Console, claims: list[dict[str, Any]]) -> None:
    table = table_of("the study says", ("value", "right"), "verdict")
    colours = {"confirmed": GOOD, "refuted": "red", "not observed": "dim"}
    for one in claims:
        table.add_row(escape(one["study"]), _number(one["value"]), Text(one["verdict"], colours[one["verdict"]]))
    console.print(table)


def _print_figures(console: Console, verdict: dict[str, Any]) -> None:
    metrics = verdict["metrics"]
    table = table_of("key figure", "value", "from")
    limit = metrics["queue_limit"]
    table.add_row(
        "accept queue",
        f"max {_number(metrics['accept_queue_max'])}, median in the flood {_number(metrics['accept_queue_median'])}, "
        f"at the end {_number(metrics['accept_queue_last'])}; limit {_number(limit)}",
        f"sock_diag, n = {metrics['accept_queue_n']} in the flood",
    )
    table.add_row(
        "the queue was full",
        f"{_after(metrics['time_to_full_s'], 'never')}; plateau median {_number(metrics['plateau_median'])}, "
        f"p99 {_number(metrics['plateau_p99'])}; overshoot {_number(metrics['overshoot'])}",
        f"sock_diag, n = {metrics['plateau_n']} on the plateau",
    )
    table.add_row(
        "and empty again, after the flood",
        f"{_after(metrics['drain_s'], 'not before the end')}; "
        f"upstream and nginx idle {_after(metrics['recovery_s'], 'not before the end')}",
        "sock_diag, stub_status",
    )
    table.add_row(
        "waited in the queue",
        f"{_number(metrics['queue_area_conn_s'])} connection-seconds; "
        f"{_number(metrics['dead_in_queue_last'])} at the end without a client",
        "sock_diag",
    )
    if verdict["params"].get("trace"):  # runs before format 3 have no such parameter
        table.add_row(
            "waited for accept()",
            (
                f"median {_number(metrics['wait_median_ms'])} ms, p99 {_number(metrics['wait_p99_ms'])} ms, "
                f"max {_number(metrics['wait_max_ms'])} ms; "
                if metrics["waits_n"]
                else ""
            )
            + f"{_number(metrics['waits_unaccepted'])} were never accepted; "
            f"together {_number(metrics['waits_area_conn_s'])} connection-seconds",
            f"bpftrace, n = {metrics['waits_n']}; sock_diag agrees in {_percent(metrics['trace_agreement_share'])}",
        )
    table.add_row("accepted, not closed", f"max {_number(metrics['accepted_max'])}", "sock_diag")
    table.add_row(
        "Active, without our poll",
        f"max {_number(metrics['active_max'])}, median in the flood {_number(metrics['active_median'])}",
        f"stub_status, n = {metrics['active_n']} in the flood",
    )
    table.add_row(
        "Active = Q + A + 1",
        f"in {_percent(metrics['identity_share'])} of the moments that had connections",
        f"all three, n = {metrics['identity_n']}",
    )
    if verdict["params"]["transport"] == "unix":
        states = ", ".join(
            f"{count} × {state} {STATE_NAMES[state]}" for state, count in metrics["states"].items() if count
        )
        table.add_row("rows on the path", states or "-", "/proc/net/unix, median")
    else:
        table.add_row(
            "ListenOverflows, ListenDrops",
            f"{_number(metrics['listen_overflows'])}, {_number(metrics['listen_drops'])}",
            "/proc/net/netstat, growth since the baseline",
        )
    answers = [f"{count} × {status}" for status, count in metrics["status"].items()]
    answers += [f"{count} × {error}" for error, count in metrics["errors"].items()]
    table.add_row("clients got", ", ".join(answers) or "-", f"Locust, n = {metrics['sent']}")
    table.add_row(
        "a request took",
        f"median {_number(metrics['request_median_s'])} s, p99 {_number(metrics.get('request_p99_s'))} s, "
        f"max {_number(metrics['request_max_s'])} s"
        + (f"; {metrics['given_up']} given up" if metrics.get("given_up") else ""),
        f"from its intended start, n = {metrics['sent']}",
    )
    if metrics.get("requested_per_s") is not None:
        table.add_row(
            "the flood",
            f"{_number(metrics['requested_per_s'])} requests a second asked for, {_number(metrics['achieved_per_s'])} "
            f"sent, {metrics['dropped']} dropped; late p99 {_number(metrics['generator_late_p99_ms'])} ms",
            "the load generator",
        )
    phases = ", ".join(f"{phase['name']} {phase['duration_s']:.3f} s" for phase in verdict["phases"])
    table.add_row("phases", phases or "-", "first and last request")
    table.add_row(
        "the agent",
        f"{_percent(metrics['agent_cpu_share'])} of a core, "
        f"{_percent(metrics['agent_lost_share'])} of its readings lost; "
        f"late p99 {_number(metrics['agent_lateness_p99_ms'])} ms, "
        f"at most {_number(metrics['agent_lateness_max_ms'])} ms",
        "itself",
    )
    console.print(table)


def table_of(*columns: str | tuple[str, str]) -> Table:
    """Return an empty table; a column is its name, or its name and `right`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1))
    for column in columns:
        name, justify = column if isinstance(column, tuple) else (column, "left")
        table.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    return table


def at_underscores(name: str, width: int) -> str:
    """Break a long name into lines; a table would break it anywhere."""
    return "\n".join(line.replace("_ ", "_") for line in textwrap.wrap(name.replace("_", "_ "), width))


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _after(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"after {_number(seconds)} s"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
