"""Runs tasks of the control node here, with Floodmark's Python and as its user, whatever an inventory says."""

from __future__ import annotations

import sys

from ansible.constants import LOCALHOST
from ansible.inventory.host import Host
from ansible.plugins.vars import BaseVarsPlugin

# What an inventory says of all its hosts is meant for those that are measured.
HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}


class VarsModule(BaseVarsPlugin):
    """Has variables of the control node; Ansible gives them precedence over those of an inventory."""

    def get_vars(self, loader: object, path: object, entities: object) -> dict[str, object]:
        """Return them if they are asked for."""
        super().get_vars(loader, path, entities)
        asked = entities if isinstance(entities, list) else [entities]
        here = [one for one in asked if isinstance(one, Host) and one.name in LOCALHOST]
        if any(group.name == "proxies" for host in here for group in host.get_groups()):
            return {**HERE, "ansible_become": True}
        return HERE if here else {}
