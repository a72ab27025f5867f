"""Facts that are written twice because Ansible asks for it are the same in both places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/defaults/main.yml"))
# What a role hands to the playbook, and its modules.
NOT_VARIABLES = {"guard_armed", "guard_checked", "guard_restored", "testbed_host", "testbed_needed", "testbed_tree"}

EXPRESSION = r"{{.*?}}|{%.*?%}|(?m:^\s+(?:when|that|loop):[^\n]*)"


def defaults(role: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((role / "defaults/main.yml").read_text()))


def specs(role: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"])


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_equal_argument_specs_by_key_and_value(role: Path) -> None:
    for entry in specs(role).values():
        assert {name: option["default"] for name, option in entry["options"].items()} == defaults(role)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_inputs_carry_the_name_of_their_role(role: Path) -> None:
    assert [name for name in defaults(role) if not name.startswith(f"{role.name}_")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_has_the_shape_of_all_roles(role: Path) -> None:
    assert (role / "README.md").exists()
    assert (role / "tasks/main.yml").exists()


def test_every_role_variable_that_is_used_is_defined() -> None:
    prefixes = "|".join(role.name for role in ROLES)
    defined = {name for role in ROLES for name in defaults(role)} | NOT_VARIABLES
    used: dict[str, str] = {}
    texts = [
        path
        for folder in ("roles", "playbooks", "inventory")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".yml", ".j2")
    ]
    for path in texts:
        for expression in re.findall(EXPRESSION, path.read_text(), re.DOTALL):
            for name in re.findall(rf"(?<![\w.'/-])((?:{prefixes})_[a-z_]+)(?![\w(])", expression):
                used[name] = str(path)
    assert {name: path for name, path in used.items() if name not in defined} == {}


def test_the_playbook_sets_only_variables_that_roles_read() -> None:
    roles = [role.name for role in ROLES]
    known = {name for role in ROLES for name in defaults(role)}
    given = yaml.safe_load((ROOT / "playbooks/vars/case.yml").read_text())
    assert [name for name in given if name.split("_")[0] in roles and name not in known] == []
