"""Runs written here, and what a reader finds in their pages."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from floodmark.runs.folders import RunFolder
from floodmark.verdict.judge import judge_run
from tests.floodmark.verdict.test_judge import NoAccept


class Page(HTMLParser):
    """A page as a browser without scripts understands it: its text, its elements, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.scripts: list[str] = []
        self._pieces: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            self.scripts += [""] if tag == "script" else []

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self._pieces.append(data)

    @property
    def text(self) -> str:
        """What is read, with single blanks."""
        return " ".join(" ".join(self._pieces).split())

    def count(self, tag: str, **attributes: str) -> int:
        """Count elements that have these attributes."""
        return sum(
            name == tag and all(found.get(key) == value for key, value in attributes.items())
            for name, found in self.elements
        )


@pytest.fixture
def fake(tmp_path: Path) -> NoAccept:
    """Return a run of case 2 that a test can change before it is judged."""
    folder = tmp_path / "20260101T000000Z-case2-unix"
    folder.mkdir()
    return NoAccept(folder)


def judged(fake: NoAccept) -> RunFolder:
    """Write a run and judge it."""
    fake.write()
    fake.write_plan("proxy1")
    judge_run(fake.run)
    return fake.run
