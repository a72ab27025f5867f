"""The terminal, which does nothing that a text from somewhere else tells it to."""

from __future__ import annotations

from collections.abc import Iterable

from rich import console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from floodmark.text import visible


class Console(console.Console):
    """A console on which control characters of a text are seen; a results folder may come from anybody."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is written. Rich's own control codes are segments of their own kind."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
