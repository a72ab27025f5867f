"""Where this checkout is, and how its files are called."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def relative(path: Path) -> str:
    """Return how a file is called in messages: by its path in this checkout, if it is there."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
