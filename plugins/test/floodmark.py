"""Jinja tests of the playbooks."""

from __future__ import annotations

from floodmark.runner.plan import owner_is_gone


class TestModule:
    def tests(self):
        return {"owner_gone": owner_is_gone}
