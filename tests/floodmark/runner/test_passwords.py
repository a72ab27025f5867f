from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from floodmark.errors import FloodmarkError
from floodmark.runner.passwords import BECOME, VAULTS, handed_on
from floodmark.runner.suite import list_inventory
from tests.conftest import ROOT, environment, evidence, run

# A user who becomes root with a password, which stands in a vault.
INVENTORY = """
all:
  vars: {ansible_connection: local, ansible_become: true, ansible_become_user: nobody, ansible_become_exe: EXE}
  children: {proxies: {hosts: {far: {floodmark_i_own_these_hosts: true}}}, load_generators: {hosts: {localhost: {}}}}
"""


def encrypted(folder: Path, password: str, text: str) -> str:
    secret = folder / "secret"
    secret.write_text(password, encoding="utf-8")
    done = subprocess.run(
        ["ansible-vault", "encrypt", "--vault-password-file", str(secret), "--output", "-"],
        cwd=ROOT, env=environment(), input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip
    secret.unlink()
    return done.stdout


def test_a_vault_is_read_by_all_that_is_started_meanwhile_and_by_nobody_later(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(INVENTORY, encoding="utf-8")
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text(encrypted(tmp_path, "of the vault", "floodmark_caps: {users: 5}\n"))
    with pytest.raises(FloodmarkError, match="no vault secrets found"):
        list_inventory(tmp_path / "hosts.yml")
    with handed_on(vaults=[("default", b"of the vault")]):
        assert list_inventory(tmp_path / "hosts.yml").variables["floodmark_caps"] == {"users": 5}
        path = Path(os.environ[VAULTS].partition("@")[2])
        assert path.stat().st_mode & 0o777 == 0o600
    assert VAULTS not in os.environ
    assert not path.exists()


def test_a_password_for_root_is_read_and_what_the_environment_had_is_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sudo = tmp_path / "sudo"
    # -H -S -p "[sudo via ansible, key=…] password:" -u nobody /bin/sh -c 'echo BECOME-SUCCESS-…; …'
    sudo.write_text(
        '#!/bin/bash\nwhile [ "$1" != -p ]; do shift; done\necho -n "$2" >&2\nread -r given\n'
        '[ "$given" = "for root" ] || { echo "Sorry, try again." >&2; exit 1; }\nshift 4\nexec "$@"\n'
    )
    sudo.chmod(0o755)
    (tmp_path / "hosts.yml").write_text(INVENTORY.replace("EXE", str(sudo)), encoding="utf-8")
    ping = ["ansible", "far", "-i", str(tmp_path / "hosts.yml"), "-m", "ansible.builtin.raw", "-a", "echo it is $0"]
    monkeypatch.setenv(BECOME, "/nowhere")
    with handed_on("for root"):
        done = run(*ping)
    assert "it is" in done.stdout, evidence(done)
    assert os.environ[BECOME] == "/nowhere"
    with handed_on("another"):
        assert "Sorry, try again" in run(*ping).stdout
