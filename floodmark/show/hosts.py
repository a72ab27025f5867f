"""Shows who holds hosts, and what deviates there."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from floodmark.model.host_status import Answers, HostStatus
from floodmark.show.tables import BAD, GOOD, UNCLEAR, table_of
from floodmark.text import many


def print_hosts(console: Console, answers: Answers) -> None:
    """Print a row for each host: what it is, and why."""
    table = table_of("Host", "State", "Why")
    for name in sorted({*answers.statuses, *answers.failures}):
        if name in answers.failures:
            state, why = f"[{BAD}]failed[/]", answers.failures[name]
        else:
            state, why = _state(answers.statuses[name])
        table.add_row(escape(name), state, escape(why))
    console.print(table)


def _state(status: HostStatus) -> tuple[str, str]:
    """Return what a host is, with its colour, and why."""
    note = (
        f"{many(len(status.unfetched), 'run')} not fetched: {', '.join(status.unfetched)}" if status.unfetched else ""
    )
    run = f"run {status.run.run_id} of {status.run.owner}" if status.run else ""
    if status.is_held:
        return f"[{UNCLEAR}]in use[/]", run or f"it floods: {', '.join(status.floods)}"
    if status.is_as_it_was:
        return f"[{GOOD}]as it was[/]", note
    return f"[{BAD}]not as it was[/]", "; ".join(filter(None, [run and f"left by {run}", *status.left, note]))
