"""The verdicts of a run as they were written down, by this version or an older one."""

from __future__ import annotations

import json
from typing import Any

from floodmark.errors import RunError
from floodmark.runs.folders import HostFolder, RunFolder

# Parts of a verdict that an older one does not have.
NOTHING_SAID: dict[str, Any] = {
    **{name: [] for name in ("reasons", "doubts", "faults", "expectations", "unstated", "claims", "phases")},
    "figures": {},
    "metrics": {},
    "params": {},
    "kernel": None,
}
# Parts that each has.
ALWAYS_SAID = ("host", "valid")


def read_verdict(folder: HostFolder) -> dict[str, Any]:
    """Return the verdict on one host; what an older version did not say is empty.

    Raises:
        RunError: it is missing, or damaged.
    """
    path = folder.verdict
    again = f"'floodmark judge {path.parent.parent.name}' makes it again."
    try:
        verdict = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is missing or damaged: {error}. {again}") from None
    missing = [name for name in ALWAYS_SAID if not isinstance(verdict, dict) or name not in verdict]
    if missing:
        raise RunError(f"{path} is damaged: it has no {', '.join(missing)}. {again}")
    if wrong := [name for name, empty in NOTHING_SAID.items() if not _is_like(verdict.get(name, empty), empty)]:
        raise RunError(f"{path} is damaged: {wrong[0]} is {verdict[wrong[0]]!r}. {again}")
    return {**NOTHING_SAID, **verdict}


def _is_like(value: Any, empty: Any) -> bool:
    """Tell whether a part has the shape of what it is when nothing was said: of lists, that of their first part."""
    if isinstance(empty, list):
        return isinstance(value, list) and all(type(one) is type(value[0]) in (str, dict) for one in value)
    return isinstance(value, dict) if isinstance(empty, dict) else value is None or isinstance(value, str)


def read_verdicts(run: RunFolder) -> list[dict[str, Any]]:
    """Return the verdict on each host of a complete run.

    Raises:
        RunError: the run is not complete or is damaged.
    """
    return [read_verdict(run.host(name)) for name in run.read_run()["hosts"]["proxies"]]
