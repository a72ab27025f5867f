"""How numbers and texts are written, for the terminal and for pages."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.markup import escape
from rich.text import Text

from floodmark.show.tables import table_of
from floodmark.show.terminal import Console
from floodmark.text import many, number, percent, visible


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (9, "9"), (9.0, "9"), (120.0314, "120.031"), (0.9998, "0.9998"), (0.0004, "0.0004"),
        (15.0000001, "15"),
    ],
)  # fmt: skip
def test_what_is_not_a_whole_number_does_not_read_like_one(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (1, "100.0%"), (0, "0.0%"), (0.9997, "99.97%"), (0.00002, "0.002%"), (0.5, "50.0%")],
)
def test_a_share_that_is_not_all_does_not_read_like_all(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_one_is_not_many() -> None:
    assert (many(1, "reading"), many(1024, "reading")) == ("1 reading", "1,024 readings")


def test_what_would_tell_a_terminal_what_to_do_is_seen_instead() -> None:
    text = "a\x1b]0;title\x07b\x9b2J\x7f\r\n\tc — ✓"
    assert visible(text) == "a␛]0;title␇b�2J␡␍\n\tc — ✓"
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=60)
    table = table_of("Why")
    table.add_row(escape(text))
    console.print(table, Text(text), f"[bold]{escape(text)}[/]")
    said = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert not [one for one in said if not one.isprintable() and one not in "\n\t"]
    assert said.count("a␛]0;title") == 3
    assert "\x1b[1m" in out.getvalue(), "what is ours is drawn"
