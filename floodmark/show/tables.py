"""Tables in the terminal."""

from __future__ import annotations

import textwrap

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
