"""The one error of the collectors."""

from __future__ import annotations


class Unreadable(Exception):  # noqa: N818 - reads as what it says: the source is unreadable now
    """A source could not be read; the text is the reason that goes into the row."""
