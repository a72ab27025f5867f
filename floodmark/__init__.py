"""Floodmark: what an nginx reverse proxy does when the server behind it misbehaves.

This package runs on the control node. It reads files and never opens a connection to a host:
only Ansible touches a host. The one exception in place is `floodmark.loadgen`, which runs on
the load generator inside Locust.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from floodmark.export.frames import Run

__version__ = "0.1.0"


def load(name: str | Path = "latest") -> Run:
    """Return a run with its tables as data frames, for notebooks; `floodmark.export.frames.load` says more."""
    from floodmark.export import frames

    return frames.load(name)
