"""How numbers are written, for the terminal and for pages."""

from __future__ import annotations

import pytest

from floodmark.text import many, number, percent


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
