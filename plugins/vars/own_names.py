"""Lets a parameter of a run be called `order`, which Ansible warns of: it is a keyword of plays as well."""

from __future__ import annotations

from ansible.plugins.vars import BaseVarsPlugin
from ansible.vars import reserved

# No variable changes the keyword of a play. Plugins of this kind are loaded before the variables are looked through.
reserved._RESERVED_NAMES -= {"order"}  # noqa: SLF001


class VarsModule(BaseVarsPlugin):
    """Has no variables of its own."""

    def get_vars(self, loader: object, path: object, entities: object) -> dict[str, object]:
        """Return nothing."""
        super().get_vars(loader, path, entities)
        return {}
