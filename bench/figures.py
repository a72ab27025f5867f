"""The result of a benchmark: figures with a unit and, where there is one, a target."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from floodmark.runner.plan import control_node
from floodmark.runs.folders import RESULTS

# A ratio below this is written 1/156.
FRACTION_BELOW = 0.1


@dataclass(frozen=True)
class Figure:
    """One number of a benchmark.

    Attributes:
        name: what was measured.
        value: None when it could not be, with the reason in `note`.
        unit: of the value and of the target.
        n: measurements that the value is the median of.
        low: lower quartile of these, or None.
        high: upper quartile.
        target: what it should be at most, or at least.
        better: which direction is better.
        note: a reason or an explanation.
    """

    name: str
    value: float | None
    unit: str
    n: int = 1
    low: float | None = None
    high: float | None = None
    target: float | None = None
    better: Literal["lower", "higher"] = "lower"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None without a target or a value."""
        if self.target is None or self.value is None:
            return None
        return self.value <= self.target if self.better == "lower" else self.value >= self.target


def quartiles(name: str, values: list[float], unit: str, **more: Any) -> Figure:
    """Return the median of some measurements with its quartiles."""
    low, middle, high = statistics.quantiles(values * 2 if len(values) == 1 else values, n=4, method="inclusive")
    return Figure(name, _short(middle), unit, len(values), _short(low), _short(high), **more)


def publish(part: str, figures: list[Figure], console: Console) -> None:
    """Print the figures and write them to `results/bench/<part>.json`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("figure")
    for name in ("median", "quartiles", "n", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for one in figures:
        if one.value is None and one.target is None:
            continue  # its note says all
        bound = {"lower": "≤", "higher": "≥"}[one.better]
        table.add_row(
            one.name,
            _text(one.value, one.unit),
            "" if one.low is None or one.high is None else f"{_bare(one.low, one.unit)} … {_bare(one.high, one.unit)}",
            str(one.n),
            "" if one.target is None else f"{bound} {_bare(one.target, one.unit)}",
            {True: "[green]✓[/]", False: "[bold red]✗[/]", None: ""}[one.met],
        )
    console.print(table)
    for one in figures:
        if one.note:
            console.print(f"[dim]{one.name}: {one.note}[/]", highlight=False)
    path = RESULTS / "bench" / f"{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **control_node().model_dump(),
        "machine": {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "processors": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
        },
        "figures": [asdict(one) for one in figures],
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"[dim]written to results/bench/{path.name}[/]")


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{_bare(value, unit)} {unit}" if value >= FRACTION_BELOW or unit != "×" else _bare(value, unit)


def _bare(value: float, unit: str) -> str:
    """Return a value as people read it, without its unit; a small ratio as a fraction."""
    if unit == "×" and value < FRACTION_BELOW:
        return f"1/{1 / value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
