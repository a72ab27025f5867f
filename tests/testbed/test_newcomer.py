"""Hosts of somebody who works there as an ordinary user, and becomes root with a password."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pexpect
import pytest
import yaml

from tests.conftest import environment
from tests.testbed.conftest import ROOT, SHORT, evidence, folder_of, play, run, verdict_of

PASSWORD = "correct; horse $battery"
# As somebody writes it for the first time. The hosts are not those of other tests, because they have sudo.
INVENTORY = """
all:
  children:
    proxies: {hosts: {asks: }}
    load_generators: {hosts: {GENERATOR}}
    testbed: {hosts: {asks: , asks-too: }, vars: {testbed_packages: PACKAGES}}
"""
HERE, ELSEWHERE = "localhost: {ansible_connection: local}", "asks-too: "
HOSTS = ("asks", "asks-too")
PREPARE = f"""
set -e
id newcomer >/dev/null 2>&1 || useradd --create-home --shell /bin/bash newcomer
echo 'newcomer:{PASSWORD}' | chpasswd
echo 'newcomer ALL=(ALL) ALL' >/etc/sudoers.d/newcomer
install -d -m 700 -o newcomer /home/newcomer/.ssh
install -m 600 -o newcomer /root/.ssh/authorized_keys /home/newcomer/.ssh/
! sudo -n -u newcomer sudo -n true 2>/dev/null
"""


def inventory(folder: Path, generator: str) -> Path:
    """Write an inventory for hosts of the testbed on which one is no root."""
    (folder / "group_vars").symlink_to(ROOT / "inventory/group_vars")
    (folder / "host_vars").mkdir()
    for host in HOSTS:
        (folder / f"host_vars/{host}.yml").write_text(
            "ansible_user: newcomer\nansible_become: true\n", encoding="utf-8"
        )
    packages = yaml.safe_load((ROOT / "roles/testbed/defaults/main.yml").read_text(encoding="utf-8"))[
        "testbed_packages"
    ]
    text = INVENTORY.replace("GENERATOR", generator).replace("PACKAGES", json.dumps([*packages, "sudo"]))
    (folder / "hosts.yml").write_text(text, encoding="utf-8")
    return folder / "hosts.yml"


def on_host(host: str, line: str) -> str:
    address = (ROOT / f".testbed/hosts/{host}/address").read_text()
    done = run(
        "ssh", "-i", ".testbed/ssh/id_ed25519", "-o", "UserKnownHostsFile=.testbed/ssh/known_hosts",
        "-o", "BatchMode=yes", f"root@{address}", line,
    )  # fmt: skip
    assert done.returncode == 0, evidence(done)
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Start hosts with a user who becomes root with a password."""
    hosts = str(inventory(tmp_path_factory.mktemp("inventory"), HERE))
    up = run("ansible-playbook", "playbooks/testbed-up.yml", "-i", hosts)
    assert up.returncode == 0, evidence(up)
    for host in HOSTS:
        on_host(host, PREPARE)


def nothing_tells_it(folder: Path) -> None:
    """Make sure that no file of a run has the password."""
    for path in folder.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("generator", [HERE, ELSEWHERE], ids=["flood from here", "flood from elsewhere"])
def test_a_password_in_a_vault(tmp_path: Path, generator: str) -> None:
    hosts = inventory(tmp_path, generator)
    secret = tmp_path / "secret"
    secret.write_text("of the vault\n", encoding="utf-8")
    made = run("ansible-vault", "encrypt_string", "--vault-password-file", str(secret), "--name",
               "ansible_become_password", PASSWORD)  # fmt: skip
    for file in (tmp_path / "host_vars").iterdir():
        file.write_text(file.read_text(encoding="utf-8") + made.stdout + "\n", encoding="utf-8")
    done = play("-e", "case=2", "-i", str(hosts), "--vault-password-file", str(secret))
    assert done.returncode == 0, evidence(done)
    assert verdict_of(done)["valid"]
    nothing_tells_it(folder_of(done))


def test_a_password_that_is_typed(tmp_path: Path) -> None:
    hosts = inventory(tmp_path, ELSEWHERE)
    command = ["run-case.yml", *SHORT, "-e", "case=2", "-i", str(hosts), "--ask-become-pass"]
    with pexpect.spawn(
        str(Path(sys.executable).parent / "ansible-playbook"), command, cwd=str(ROOT), timeout=200, encoding="utf-8",
        env={**environment(), "COLUMNS": "200"},
    ) as typed:  # fmt: skip
        typed.expect("BECOME password: ")
        typed.sendline(PASSWORD)
        typed.expect(pexpect.EOF)
        said = typed.before
    assert typed.wait() == 0, said
    assert "VALID" in said
    assert PASSWORD not in said


def test_a_password_for_a_lab(tmp_path: Path) -> None:
    hosts = inventory(tmp_path, HERE)
    command = ["run-lab.yml", "-e", '{"lab": "study", "point": "case 1"}', "-i", str(hosts), "-K"]
    with pexpect.spawn(
        str(Path(sys.executable).parent / "ansible-playbook"), command, cwd=str(ROOT), timeout=200, encoding="utf-8",
        env={**environment(), "COLUMNS": "200"},
    ) as typed:  # fmt: skip
        typed.expect("BECOME password: ")
        typed.sendline(PASSWORD)
        typed.expect(pexpect.EOF)
        said = typed.before
    assert typed.wait() == 0, said
    assert PASSWORD not in said
