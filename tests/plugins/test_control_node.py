"""Tasks on the control node, whatever an inventory says of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import evidence, run

# A task that is delegated, as most of those of a run on the control node are. `far` is never connected to.
PLAYBOOK = """
- hosts: far
  gather_facts: false
  tasks:
    - ansible.builtin.setup: {gather_subset: ['!all', '!min', env]}
      delegate_to: localhost
      register: delegated
    - ansible.builtin.copy:
        content: "{{ delegated.ansible_facts.ansible_env }}"
        dest: "{{ playbook_dir }}/environment.json"
      delegate_to: localhost
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.setup: {gather_subset: ['!all', '!min', python]}
      register: own
    - ansible.builtin.copy:
        content: "{{ own.ansible_facts.ansible_python }}"
        dest: "{{ playbook_dir }}/python.json"
"""

INVENTORIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "its connection": {"hosts": {"localhost": {"ansible_connection": "local"}}},
    "its name": {"hosts": {"localhost": {}}},
    "its address": {"hosts": {"127.0.0.1": {}}},
    "another Python": {"hosts": {"localhost": {"ansible_python_interpreter": "/nowhere/python3"}}},
    "ssh": {"hosts": {"localhost": {"ansible_connection": "ssh", "ansible_host": "192.0.2.9"}}},
    "what holds for the hosts": {
        "vars": {
            "ansible_connection": "ssh",
            "ansible_python_interpreter": "/nowhere/python3",
            "ansible_become": True,
            "ansible_become_user": "nobody",
            "ansible_become_exe": "/nowhere/sudo",
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("said", INVENTORIES)
def test_it_runs_its_own_tasks_with_its_own_python_and_as_its_user(said: str, tmp_path: Path) -> None:
    inventory: dict[str, Any] = {"all": {"children": {"proxies": {"hosts": {"far": {}}}}, **INVENTORIES[said]}}
    (tmp_path / "hosts.yml").write_text(json.dumps(inventory), encoding="utf-8")
    (tmp_path / "play.yml").write_text(PLAYBOOK, encoding="utf-8")
    done = run("ansible-playbook", str(tmp_path / "play.yml"), "-i", str(tmp_path / "hosts.yml"))
    assert done.returncode == 0, evidence(done)
    assert json.loads((tmp_path / "python.json").read_text(encoding="utf-8"))["executable"] == sys.executable
    assert "SUDO_USER" not in json.loads((tmp_path / "environment.json").read_text(encoding="utf-8"))


def test_it_does_so_whatever_stands_in_its_file_of_variables(tmp_path: Path) -> None:
    variables = tmp_path / "host_vars/localhost.yml"
    variables.parent.mkdir()
    variables.write_text("ansible_python_interpreter: /nowhere/python3\n", encoding="utf-8")
    (tmp_path / "hosts.yml").write_text("all: {hosts: {localhost: {}}}\n", encoding="utf-8")
    shown = run("ansible", "localhost", "-i", str(tmp_path / "hosts.yml"), "-m", "ansible.builtin.ping")
    assert shown.returncode == 0, evidence(shown)
