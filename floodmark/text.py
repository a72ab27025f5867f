"""How numbers and texts are written, in the terminal and on pages."""

from __future__ import annotations

from typing import Any


def number(value: Any) -> str:
    """Return a number as people read it; `-` where there is none.

    It has three decimals, and as many as six where with fewer it would read like a whole number, which it is not.
    """
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    for decimals in range(3, 7):
        text = f"{value:.{decimals}f}".rstrip("0").rstrip(".")
        if "." in text:
            break
    return text


def percent(value: float | None) -> str:
    """Return a share in per cent; `-` where there is none. What is not all and not nothing does not read like it."""
    if value is None:
        return "-"
    for decimals in range(1, 5):
        text = f"{value:.{decimals}%}"
        if value in (0, 1) or float(text[:-1]) not in (0, 100):
            break
    return text


# Those that only tell a terminal what to do, but for the line break and the tabulator: each has a picture in Unicode.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """Return a text in which what would tell a terminal what to do can be seen instead."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())


def many(n: int, noun: str) -> str:
    """Return a count with its noun: `1 reading`, `1,024 readings`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
