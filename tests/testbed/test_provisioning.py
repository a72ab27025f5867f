"""Hosts that are not as the testbed's are: without nginx, with one of their own, interrupted in an installation."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tarfile import TarInfo
from tarfile import open as open_tar

import pytest
import yaml
from ansible.module_utils.testbed_sources import ReleaseSources

from tests.conftest import environment
from tests.testbed.conftest import ROOT, SHORT, evidence, play, run

NAME = "bare"
PACKAGES = ("nginx", "nginx-common", "python3-psutil")
# A folder of the host with these packages, as its only package source.
SOURCE = "/var/tmp/packages"
PURGE = f"dpkg --purge {' '.join(PACKAGES)} && systemctl unmask nginx.service && systemctl reset-failed"
# What an installation has come to when it is killed, in the words of /var/log/dpkg.log. At the first one dpkg leaves a
# package that it does not configure.
MOMENTS = (
    "status unpacked nginx-common:all",
    *(
        pytest.param(moment, marks=pytest.mark.slow)
        for moment in (
            "status half-installed nginx-common:all",
            "status half-installed nginx:amd64",
            "status unpacked nginx:amd64",
            "status half-configured nginx-common:all",
            "status half-configured nginx:amd64",
        )
    ),
)
# Kills what installs, from the module of Ansible on.
KILL = """
until grep -qF '{moment}' /var/log/dpkg.log; do :; done
kill -KILL $(ps --no-headers -o ppid -C apt-get) $(pgrep --exact apt-get) $(pgrep --exact dpkg)
"""


@dataclass(frozen=True)
class Bare:
    """A host that only these tests have.

    Attributes:
        inventory: options of Ansible with which it is the measured host.
    """

    inventory: tuple[str, ...]

    def command(self, line: str) -> list[str]:
        """Return a command that runs a shell line on it."""
        address = (ROOT / f".testbed/hosts/{NAME}/address").read_text()
        return [
            "ssh", "-i", ".testbed/ssh/id_ed25519", "-o", "UserKnownHostsFile=.testbed/ssh/known_hosts",
            "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", f"root@{address}", line,
        ]  # fmt: skip

    def __call__(self, line: str, data: bytes = b"") -> str:
        """Run a shell line on it and return what it prints."""
        done = subprocess.run(self.command(line), cwd=ROOT, input=data, capture_output=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr.decode()}"
        return done.stdout.decode()

    def play(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run case 1 on it."""
        return play("-e", "case=1", *self.inventory, *arguments)

    def provision(self) -> subprocess.CompletedProcess[str]:
        """Only provision it for case 1."""
        playbooks = ("playbooks/check.yml", "playbooks/provision.yml")
        return run("ansible-playbook", *playbooks, *SHORT, "-e", "case=1", *self.inventory)

    def remove(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Remove Floodmark from it."""
        return run("ansible-playbook", "playbooks/remove.yml", *self.inventory, *arguments)

    def leftovers(self) -> list[str]:
        """Return all that is called after Floodmark on it."""
        # /run/host and Ansible's folder for temporary files are not of a run.
        found = self("find / -xdev -name '*floodmark*' -print; find /run -name '*floodmark*' -print; "
                     "systemctl list-units --all --plain --no-legend 'floodmark-*'")  # fmt: skip
        return [line for line in found.splitlines() if ".ansible" not in line and not line.startswith("/run/host/")]


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Bare]:
    """Boot a host of the testbed that is as it was made."""
    (tmp_path / "group_vars").symlink_to(ROOT / "inventory/group_vars")
    control_node = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    groups = {"proxies": {NAME: None}, "testbed": {NAME: None}, "load_generators": {"localhost": control_node}}
    children = {name: {"hosts": hosts} for name, hosts in groups.items()}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": children}}))
    host = Bare(("-i", str(tmp_path / "hosts.yml")))
    up = run("ansible-playbook", "playbooks/testbed-up.yml", *host.inventory, "-e", "testbed_boot=fresh")
    assert up.returncode == 0, evidence(up)
    yield host
    run(*host.command("systemctl --no-block poweroff"))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return an archive of a package source that has nginx and psutil (deb-src: sources.list(5), a flat repository)."""
    folder = tmp_path_factory.mktemp("packages")
    ReleaseSources("bookworm", Path("/var/cache/floodmark")).apt("apt-get", "download", *PACKAGES, folder=folder)
    stanzas = []
    for package in sorted(folder.glob("*.deb")):
        described = run("dpkg-deb", "--field", str(package)).stdout
        digest = sha256(package.read_bytes()).hexdigest()
        stanzas.append(f"{described}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n")
    (folder / "Packages").write_text("\n".join(stanzas))
    archive = BytesIO()
    with open_tar(fileobj=archive, mode="w") as tar:
        for file in sorted(folder.iterdir()):
            entry = TarInfo(file.name)
            entry.size, entry.mode = file.stat().st_size, 0o644
            tar.addfile(entry, BytesIO(file.read_bytes()))
    return archive.getvalue()


@pytest.fixture
def without_nginx(bare: Bare, packages: bytes) -> Bare:
    """Return a host that has never had nginx or psutil, and can get them."""
    bare(f"mkdir {SOURCE} && tar --extract --directory {SOURCE}", packages)
    bare(f"echo 'deb [trusted=yes] file:{SOURCE} ./' > /etc/apt/sources.list && {PURGE}")
    return bare


def nginx_has_never_run(host: Bare) -> bool:
    """Tell whether the packaged nginx was never started since the host was booted, and nothing has port 80."""
    shown = host("systemctl show --property=ActiveEnterTimestampMonotonic nginx.service; ss -Hltn 'sport = :80'")
    return shown.strip() == "ActiveEnterTimestampMonotonic=0"


def test_where_nginx_comes_with_floodmark_its_server_never_starts(without_nginx: Bare) -> None:
    host = without_nginx
    # apt's policy_rc_d would move it away for the time of the installation.
    host("printf '#!/bin/sh\\nexit 0\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d")
    policy = host("stat --format '%i %y %z' /usr/sbin/policy-rc.d")
    done = host.play()
    assert done.returncode == 0, evidence(done)
    assert nginx_has_never_run(host)
    assert host("systemctl is-enabled nginx.service || true").strip() == "masked"
    assert host("stat --format '%i %y %z' /usr/sbin/policy-rc.d") == policy
    host("test -x /usr/sbin/nginx && ! test -e /var/lib/floodmark/installing")

    done = host.remove()
    assert done.returncode == 0, evidence(done)
    assert host.leftovers() == []
    assert nginx_has_never_run(host)
    assert host("systemctl is-enabled nginx.service || true").strip() == "disabled"
    host("systemctl start nginx.service")
    done = host.remove()  # where nothing is any more
    assert done.returncode == 0, evidence(done)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_installation_that_was_killed_is_finished_by_the_next_run(without_nginx: Bare, moment: str) -> None:
    host = without_nginx
    host(": > /var/log/dpkg.log")
    with subprocess.Popen(host.command(KILL.format(moment=moment)), cwd=ROOT) as killer:
        interrupted = host.provision()
        killer.kill()
    assert interrupted.returncode != 0, evidence(interrupted)
    state = host("dpkg-query --show --showformat='${Package} ${db:Status-Status}\\n' 'nginx*' || true")
    assert "nginx installed" not in state, state
    assert nginx_has_never_run(host)

    done = host.provision()
    assert done.returncode == 0, evidence(done)
    assert nginx_has_never_run(host)
    assert host("dpkg --audit") == ""
    host("! test -e /var/lib/floodmark/installing")


def test_units_that_systemd_was_not_told_of_are_loaded_by_the_next_run(bare: Bare) -> None:
    """As when a playbook dies after it has written the units: the next one writes nothing and tells systemd."""
    done = bare.provision()
    assert done.returncode == 0, evidence(done)
    bare("cat > /etc/systemd/system/probe.service", b"[Service]\nExecStart=/bin/sleep 600\n")
    bare("systemctl daemon-reload && systemctl start probe.service && echo >> /etc/systemd/system/probe.service && "
         "rm /usr/lib/floodmark/provisioned")  # fmt: skip
    stale = "systemctl show --value --property=NeedDaemonReload probe.service"
    assert bare(stale).strip() == "yes"
    done = bare.provision()
    assert done.returncode == 0, evidence(done)
    assert bare(stale).strip() == "no"


# --- an nginx of the host's own -------------------------------------------------------------------

PROPERTIES = "MainPID,ActiveState,ActiveEnterTimestampMonotonic,NRestarts,UnitFileState,FragmentPath,DropInPaths"
FILES = "/etc/nginx /opt/nginx /etc/systemd/system/nginx.service* /etc/logrotate.d /etc/default"
SITE = "server { listen 80 default_server; location / { return 200 'their page'; } }"
ASK = "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1/').read().decode())\""


def everything_about(host: Bare) -> Callable[[], str]:
    """Return a function that says all that its owner would notice of the host's own nginx."""
    lines = [
        f"systemctl show --property={PROPERTIES} nginx.service",
        'ps --no-headers -o pid,lstart,args --ppid "$(systemctl show --value --property=MainPID nginx.service)" | sort',
        f"find {FILES} -type f -exec sha256sum {{}} + 2>/dev/null | sort; true",
        # What is in the error log was written by this nginx, the access log grows by our own questions.
        "find /var/log/nginx /opt/nginx -name '*error.log' -printf '%p %i %s %m %u\\n' | sort",
        "ss -Hltn 'sport = :80'",
        ASK,
    ]
    return lambda: host("; ".join(lines))


def test_an_nginx_of_the_hosts_own_goes_on_untouched(bare: Bare) -> None:
    bare("cat > /etc/nginx/sites-available/default", SITE.encode())
    bare("systemctl unmask nginx.service && systemctl enable --now nginx.service")
    asked = everything_about(bare)
    before = asked()
    assert "their page" in before
    done = bare.play("-e", "provision=always")
    assert done.returncode == 0, evidence(done)
    assert asked() == before
    bare("! test -e /var/lib/floodmark/masked")
    done = bare.remove()
    assert done.returncode == 0, evidence(done)
    assert asked() == before
    assert bare.leftovers() == []


OWN_UNIT = """\
[Service]
Type=forking
PIDFile=/run/theirs.pid
ExecStart=/opt/nginx/nginx -c /opt/nginx/nginx.conf
[Install]
WantedBy=multi-user.target
"""
OWN_CONF = f"pid /run/theirs.pid; error_log /opt/nginx/error.log; events {{}} http {{ access_log off; {SITE} }}"


def test_an_nginx_that_is_of_no_package_goes_on_untouched(without_nginx: Bare) -> None:
    """Its unit is called as the package's: the package would restart it."""
    host = without_nginx
    program = f"dpkg-deb --fsys-tarfile {SOURCE}/nginx_*.deb | tar --extract --strip-components=3 ./usr/sbin/nginx"
    host(f"mkdir -p /opt/nginx /var/log/nginx /var/lib/nginx && cd /opt/nginx && {program}")
    host("cat > /opt/nginx/nginx.conf", OWN_CONF.encode())
    host("cat > /etc/systemd/system/nginx.service", OWN_UNIT.encode())
    host("systemctl daemon-reload && systemctl enable --now nginx.service")
    asked = everything_about(host)
    before = asked()
    assert "their page" in before
    done = host.play()
    assert done.returncode != 0
    assert "link /usr/sbin/nginx to the program that the service runs" in done.stderr, evidence(done)
    assert asked() == before

    host("ln -s /opt/nginx/nginx /usr/sbin/nginx")
    done = host.play()
    assert done.returncode == 0, evidence(done)
    assert asked() == before
    assert "nginx " not in host("dpkg-query --show nginx 2>/dev/null || true")


# --- remove.yml -----------------------------------------------------------------------------------


def begin_case_3(host: Bare) -> subprocess.Popen[str]:
    """Begin a run that takes a while, and return it when its case is applied."""
    given = ["-e", "case=3", "-e", "proxy_read_timeout_s=15", *host.inventory]
    process = subprocess.Popen(
        ["ansible-playbook", "run-case.yml", *SHORT, *given], cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    host("timeout 120 sh -c 'until [ \"$(cat /proc/sys/net/core/somaxconn)\" = 8 ]; do sleep 0.1; done'")
    return process


def test_a_host_that_a_run_holds_keeps_everything(bare: Bare) -> None:
    with begin_case_3(bare) as process:
        removed = bare.remove()
        said, _ = process.communicate(timeout=120)
    assert removed.returncode != 0
    assert "is held by run" in removed.stderr, evidence(removed)
    assert process.returncode == 0, said


def test_what_is_needed_to_put_a_host_back_stays_until_it_is_back(bare: Bare) -> None:
    before = "/run/floodmark-sysctl.json"
    with begin_case_3(bare) as process:
        # A value that the kernel does not take.
        bare(f"sed -i s/4096/-1/ {before}")
        process.kill()
    bare("timeout 60 sh -c 'while systemctl --quiet is-active floodmark-run.service; do sleep 0.2; done'")
    removed = bare.remove("-e", "unfetched=remove")
    assert removed.returncode != 0
    assert "sysctl -w net.core.somaxconn=-1" in removed.stderr, evidence(removed)
    bare("test -x /usr/lib/floodmark/sysctl.py && test -e /etc/systemd/system/floodmark-sysctl.service")
    bare(f"sed -i s/-1/4096/ {before} && python3 -B /usr/lib/floodmark/sysctl.py restore")
    removed = bare.remove()
    assert removed.returncode != 0
    assert "files of runs that were not fetched, such as /var/lib/floodmark/runs/" in removed.stderr, evidence(removed)
    assert bare("cat /proc/sys/net/core/somaxconn").strip() == "4096"
    removed = bare.remove("-e", "unfetched=remove")
    assert removed.returncode == 0, evidence(removed)
    assert bare.leftovers() == []
