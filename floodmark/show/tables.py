"""Tables in the terminal, and how numbers are written, there and on pages."""

from __future__ import annotations

import textwrap
from typing import Any

from rich import box
from rich.table import Table

GOOD, BAD, UNCLEAR = "green", "bold red", "yellow"


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


def number(value: Any) -> str:
    """Return a number as people read it, with at most three decimals; `-` where there is none."""
    if value is None:
        return "-"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def percent(value: float | None) -> str:
    """Return a share in per cent; `-` where there is none."""
    return "-" if value is None else f"{value:.1%}"


def one_line(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())


def many(n: int, noun: str) -> str:
    """Return a count with its noun: `1 reading`, `1,024 readings`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
