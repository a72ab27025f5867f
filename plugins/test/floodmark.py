"""Jinja tests of the playbooks."""

from __future__ import annotations

from collections.abc import Callable

from floodmark import owner
from floodmark.runner.plan import owner_is_gone


def is_to_end(_plan: object) -> bool:
    """Tell whether a signal has asked for the end of the run that this playbook makes."""
    return owner.is_to_end()


class TestModule:
    def tests(self) -> dict[str, Callable[..., bool]]:
        return {"owner_gone": owner_is_gone, "to_end": is_to_end}
