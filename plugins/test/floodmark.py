"""Jinja tests of the playbooks."""

from __future__ import annotations

from collections.abc import Callable

from floodmark.runner.plan import owner_is_gone


class TestModule:
    def tests(self) -> dict[str, Callable[[str], bool]]:
        return {"owner_gone": owner_is_gone}
