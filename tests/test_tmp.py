"""Nobody can be waiting in /tmp: no file of Floodmark's has a name there that can be known beforehand."""

from __future__ import annotations

import configparser
import re

from tests.conftest import ROOT

# mktemp -d /tmp/floodmark-XXXXXX, and where people choose a name for themselves: floodmark report … -o /tmp/report.html
_DRAWN = re.compile(r"mktemp -d /tmp/\S*XXXXXX|-o /tmp/report\.html")


_FOLDERS = ("floodmark", "collectors", "locustfiles", "plugins", "playbooks", "roles", "scripts")


def test_what_runs_on_hosts_or_here_uses_no_fixed_name_in_tmp() -> None:
    files = [ROOT / "ansible.cfg", ROOT / "Makefile", *ROOT.glob("*.yml")]
    for folder in _FOLDERS:
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yml", ".j2")]
    assert len(files) > 100
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if "/tmp/" in _DRAWN.sub("", line)
    ]
    assert found == []


def test_ansible_keeps_its_files_in_the_home_of_the_user_it_is() -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "ansible.cfg")
    assert "remote_tmp" not in settings["defaults"], "Ansible's own default is ~/.ansible/tmp"
