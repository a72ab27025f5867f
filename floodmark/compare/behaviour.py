"""What a queue holds and what clients get, run by run: the same, different, or varying."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from floodmark.compare.model import Arm, Behaviour, Sameness
from floodmark.compare.run_facts import (
    all_expectations_hold,
    counts_of,
    failed_expectations,
    number_of,
    parameters_of,
)
from floodmark.runs.records import Record


def _expectations(record: Record) -> str:
    failed = [name.replace("_", " ") for name in failed_expectations(record)]
    return f"fails: {', '.join(failed)}" if failed else "all hold"


def _capacity(record: Record) -> str:
    deepest, limit = number_of(record, "accept_queue_max"), number_of(record, "queue_limit")
    if deepest is None or limit is None:
        return "not seen"
    # A queue that was never full does not show what it holds.
    return f"{deepest:.0f} with limit {limit:.0f}" if deepest > limit else f"not reached, limit {limit:.0f}"


def _states(record: Record) -> str:
    if parameters_of(record)["transport"] != "unix":
        return "none, TCP"
    states = counts_of(record, "states")
    return ", ".join(f"{count} × {state}" for state, count in states.items() if count) or "none"


def _split(counts: Mapping[str, int | None], record: Record) -> str:
    # A sustained flood, and a window in virtual time, sends as much as it can: which answers there were is behaviour.
    burst = parameters_of(record)["load_shape"] == "burst" and record.fields.get("clock") != "virtual"
    return ", ".join(f"{count} × {name}" if burst else name for name, count in counts.items()) or "none"


# What is looked at -> how it reads in one run.
BEHAVIOURS: dict[str, Callable[[Record], str]] = {
    "expectations": _expectations,
    "queue capacity": _capacity,
    "states on the path": _states,
    "status split": lambda one: _split(counts_of(one, "status"), one),
    "client errors": lambda one: _split(counts_of(one, "errors"), one),
    "nginx error classes": lambda one: ", ".join(sorted(counts_of(one, "nginx_errors"))) or "none",
}


def compare_behaviours(arms: Mapping[str, Arm], baseline: str) -> list[Behaviour]:
    """Return what was seen of each behaviour in each arm, and whether it is what the baseline has."""
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
            judged = {value: all(all_expectations_hold(one) for one in arm.records) for value, arm in arms.items()}
        behaviours.append(Behaviour(name, seen, compared, judged))
    return behaviours


def _sameness(one: Mapping[str, int], other: Mapping[str, int]) -> Sameness:
    """Compare what was seen: what varies from run to run is neither the same nor different."""
    if one.keys() == other.keys():
        return Sameness.SAME if len(one) == 1 else Sameness.VARIES
    return Sameness.VARIES if one.keys() & other.keys() else Sameness.DIFFERENT
