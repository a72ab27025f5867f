"""The program that holds a host for a run: the lease through its socket, and what is done when it has ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, load_file

PROGRAM = ROOT / "roles/guard/files/lease.py"
lease = load_file("roles/guard/files/lease.py")

# As systemctl of systemd 252 prints it: the agent has ended after SIGTERM, the upstream has failed, the trace was not
# asked for, and the service of the lease is none of them.
SHOWN = """\
MainPID=0
Result=success
NRestarts=0
ExecMainCode=1
ExecMainStatus=0
Id=floodmark-agent.service
ActiveState=inactive
SubState=dead
InactiveExitTimestampMonotonic=2002324639
ActiveEnterTimestampMonotonic=2002326930
InactiveEnterTimestampMonotonic=2002832729

MainPID=0
Result=exit-code
NRestarts=2
ExecMainCode=1
ExecMainStatus=3
Id=floodmark-upstream@2.service
ActiveState=failed
SubState=failed
InactiveExitTimestampMonotonic=1915414014
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=1915420265

MainPID=216
Result=success
NRestarts=0
ExecMainCode=0
ExecMainStatus=0
Id=floodmark-nginx.service
ActiveState=active
SubState=running
InactiveExitTimestampMonotonic=1915396540
ActiveEnterTimestampMonotonic=1915396541
InactiveEnterTimestampMonotonic=0

MainPID=0
Result=success
NRestarts=0
ExecMainCode=0
ExecMainStatus=0
Id=floodmark-trace.service
ActiveState=inactive
SubState=dead
InactiveExitTimestampMonotonic=0
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=0

MainPID=0
Result=success
NRestarts=0
ExecMainCode=0
ExecMainStatus=0
Id=floodmark-run.service
ActiveState=active
SubState=running
InactiveExitTimestampMonotonic=1
ActiveEnterTimestampMonotonic=0
InactiveEnterTimestampMonotonic=0
"""
NGINX = {
    "name": "floodmark-nginx.service",
    "active_state": "active",
    "sub_state": "running",
    "result": "success",
    "restarts": 0,
    "main_pid": 216,
    "active_since_ns": 1915396541000,
    "inactive_since_ns": None,
    "exit_status": None,
    "read_ns": 7,
}


# What stands for systemctl and journalctl: it notes what it is asked, and answers from files.
SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$HOST/asked"
case "$1" in
show) cat "$HOST/shown";;
list-units) cat "$HOST/units";;
stop) sed -i 's/ active running / inactive dead /' "$HOST/units";;
is-active) test -e "$HOST/lease";;
esac
"""


# The program with the paths of a folder.
ON_A_FOLDER = f"""
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("lease", {str(PROGRAM)!r})
lease = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lease)
folder = pathlib.Path(sys.argv.pop(1))
lease.RECORD, lease.SOCKET, lease.RUNS = (folder / name for name in ("run.json", "lease", "runs"))
lease.SYSCTLS_BEFORE = (folder / "before.json", folder / "earlier.json")
lease.SYSCTLS_SET, lease.SYSCTL_PROGRAM = folder / "60-floodmark.conf", folder / "sysctl.py"
sys.exit(lease.main())
"""


class Host:
    """A folder that stands for a host, and the service on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record, self.socket = folder / "run.json", folder / "lease"
        self.run = folder / "run1"
        self.run.mkdir()
        for name in ("systemctl", "journalctl"):
            program = folder / name
            program.write_text(SYSTEMCTL)
            program.chmod(0o755)
        (folder / "shown").write_text(SHOWN)
        (folder / "units").write_text("floodmark-nginx.service loaded active running Floodmark nginx\n")
        self.process: subprocess.Popen[str] | None = None
        self.started: list[subprocess.Popen[str]] = []

    def hold(self, lease_s: float = 30, **changes: object) -> None:
        """Start the service, as systemd does, and wait until it is ready."""
        record = {"run_id": "run1", "owner": "me", "lease_s": lease_s, "keeper": os.getuid(), "folder": str(self.run)}
        self.record.write_text(json.dumps({**record, **changes}))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(self.folder / "systemd"))
            systemd.settimeout(20)
            self.process = self.start("hold", NOTIFY_SOCKET=str(self.folder / "systemd"))
            assert systemd.recv(100) == b"READY=1"

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        path = f"{self.folder}:{os.environ['PATH']}"
        process = subprocess.Popen(
            [sys.executable, "-c", ON_A_FOLDER, str(self.folder), *arguments],
            env={**os.environ, **variables, "PATH": path, "HOST": str(self.folder)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run_to_the_end(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        said, errors = process.communicate(timeout=20)
        return process.returncode, said.strip(), errors.strip()

    def wait(self) -> int:
        assert self.process
        self.process.communicate(timeout=20)
        return self.process.returncode

    def end(self) -> dict[str, object]:
        """Return what the service has written about its end."""
        return dict(json.loads((self.run / "end.json").read_text()))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


# --- the lease ------------------------------------------------------------------------------------


def test_a_lease_that_is_renewed_goes_on_and_one_that_is_ended_is_undone(host: Host) -> None:
    host.hold()
    assert host.run_to_the_end("renew", "run1")[:2] == (0, ""), "nothing was sent"
    keeper = host.start("renew", "run1")
    assert keeper.stdin
    assert keeper.stdout
    for _ in range(3):
        keeper.stdin.write("renew\n")
        keeper.stdin.flush()
        assert keeper.stdout.readline() == "held\n"
    assert host.record.exists()
    keeper.stdin.write("end Ctrl-C\n")
    keeper.stdin.flush()
    assert keeper.stdout.readline() == "undone []\n"
    keeper.communicate(timeout=20)
    assert host.wait() == 0
    assert not host.record.exists()
    assert host.end() == {"why": "Ctrl-C", "failures": []}
    assert "stop floodmark-nginx.service" in (host.folder / "asked").read_text()


def test_a_lease_that_nobody_renews_expires(host: Host) -> None:
    host.hold(lease_s=1)
    assert host.wait() == 0
    assert host.end()["why"] == "expired"
    assert not host.record.exists()


def test_another_run_neither_renews_nor_ends_it(host: Host) -> None:
    host.hold()
    assert host.run_to_the_end("end", "run2", "over")[:2] == (0, "gone")
    assert host.record.exists()


def test_where_no_run_holds_the_host_it_says_so(host: Host) -> None:
    assert host.run_to_the_end("end", "run1", "over")[:2] == (0, "gone")


def test_a_service_that_is_stopped_undoes_the_run(host: Host) -> None:
    host.hold()
    assert host.process
    host.process.send_signal(signal.SIGTERM)
    assert host.wait() == 0
    assert host.end()["why"] == "stopped"
    assert not host.record.exists()


def test_what_a_service_leaves_that_was_killed_is_undone_afterwards(host: Host) -> None:
    host.hold()
    assert host.process
    host.process.kill()
    host.wait()
    assert host.record.exists()
    assert host.run_to_the_end("undo") == (0, "[]", "")
    assert host.end()["why"] == "killed"
    assert not host.record.exists()
    assert host.run_to_the_end("undo") == (0, "[]", ""), "there is nothing left"


def test_only_the_user_that_logs_in_may_renew_it(host: Host) -> None:
    host.hold()
    assert host.socket.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"run_id": "run1"}'])
def test_without_a_record_of_a_run_nothing_is_held(host: Host, text: str) -> None:
    host.record.write_text(text)
    status, _, errors = host.run_to_the_end("hold")
    assert status == 1
    assert "there is no run to hold the host for" in errors
    assert host.run_to_the_end("undo")[0] == 0
    assert not host.record.exists()


# --- what is left ---------------------------------------------------------------------------------


def test_a_host_that_is_not_as_it_was_stays_on_record_and_is_said(host: Host) -> None:
    (host.folder / "before.json").write_text('{"net.core.somaxconn": "4096"}')
    host.hold()
    status, said, _ = host.run_to_the_end("end", "run1", "over")
    assert (status, host.wait()) == (0, 1)
    assert said.startswith("left kernel parameters were not put back (net.core.somaxconn is ")
    assert "and was 4096)" in said
    assert "sysctl -w net.core.somaxconn=4096" in said
    assert host.record.exists()
    # What was in the way is gone: the program that puts them back does it now.
    (host.folder / "sysctl.py").write_text(
        f"import os, sys; sys.argv[1] == 'restore' and os.unlink('{host.folder}/before.json')"
    )
    assert host.run_to_the_end("undo")[0] == 0
    assert not host.record.exists()


def test_a_unit_that_does_not_stop_stays_on_record_and_is_said(host: Host) -> None:
    (host.folder / "units").write_text("floodmark-nginx.service loaded deactivating stop-sigterm Floodmark nginx\n")
    host.hold()
    assert host.run_to_the_end("end", "run1", "over")[1] == "left floodmark-nginx.service is still deactivating"
    assert host.wait() == 1
    assert host.record.exists()


# --- what is written about units ------------------------------------------------------------------


def test_a_unit_that_was_started_is_described_and_no_other() -> None:
    agent, nginx, upstream = lease.units_that_started(SHOWN, 7)
    assert nginx == NGINX
    assert (agent["name"], agent["active_state"], agent["exit_status"]) == ("floodmark-agent.service", "inactive", 0)
    assert (agent["active_since_ns"], agent["inactive_since_ns"]) == (2002326930000, 2002832729000)
    assert (upstream["result"], upstream["exit_status"], upstream["restarts"]) == ("exit-code", 3, 2)
    assert (upstream["active_since_ns"], upstream["main_pid"]) == (None, None)


def test_without_units_there_is_an_empty_list() -> None:
    assert lease.units_that_started("", 7) == []


def test_units_are_described_before_they_are_stopped(host: Host) -> None:
    host.hold()
    host.run_to_the_end("end", "run1", "over")
    asked = [line.split()[0] for line in (host.folder / "asked").read_text().splitlines()]
    assert asked.index("show") < asked.index("stop")
    assert [unit["name"] for unit in json.loads((host.run / "units.json").read_text())] == [
        "floodmark-agent.service", "floodmark-nginx.service", "floodmark-upstream@2.service",
    ]  # fmt: skip


def test_a_unit_that_had_failed_is_said(host: Host) -> None:
    (host.folder / "units").write_text("floodmark-upstream@2.service loaded failed failed Floodmark upstream\n")
    host.hold()
    failed = ["floodmark-upstream@2.service failed: it said nothing"]
    assert host.run_to_the_end("end", "run1", "over")[1] == f"undone {json.dumps(failed)}"
    assert host.end()["failures"] == failed


def test_what_cannot_be_written_does_not_keep_the_host_from_being_restored(host: Host) -> None:
    host.hold(folder=str(host.folder / "missing"))
    said = host.run_to_the_end("end", "run1", "over")[1]
    assert said == f'undone ["{host.folder}/missing/units.json was not written: No such file or directory"]'
    assert not host.record.exists()


def test_a_lease_for_provisioning_has_nothing_to_write(host: Host) -> None:
    host.hold(folder=None)
    assert host.run_to_the_end("end", "run1", "over")[1] == "undone []"
    assert list(host.run.iterdir()) == []


def test_many_may_ask_at_once(host: Host) -> None:
    """Sessions that race each other because one of them is slow."""
    host.hold()
    answers: list[str] = []
    asking = [
        threading.Thread(target=lambda: answers.append(host.run_to_the_end("end", "run1", "over")[1])) for _ in range(4)
    ]
    for one in asking:
        one.start()
    for one in asking:
        one.join(40)
    assert set(answers) <= {"undone []", "gone"}
    assert "undone []" in answers


# --- without a run --------------------------------------------------------------------------------


def test_a_host_says_that_it_is_as_it_was(host: Host) -> None:
    (host.folder / "units").write_text("floodmark-nginx.service loaded inactive dead Floodmark nginx\n")
    status, said, _ = host.run_to_the_end("status")
    assert (status, json.loads(said)) == (0, {"run": None, "floods": [], "left": [], "unfetched": []})


def test_a_host_says_who_holds_it(host: Host) -> None:
    host.hold()
    assert json.loads(host.run_to_the_end("status")[1])["run"] == {"run_id": "run1", "owner": "me", "holds": True}
    assert host.record.exists()


def test_a_host_says_what_deviates_and_which_runs_were_not_fetched(host: Host) -> None:
    (host.folder / "units").write_text(
        "floodmark-nginx.service loaded active running Floodmark nginx\n"
        "floodmark-locust-run1.service loaded active running A flood\n"
    )
    (host.folder / "earlier.json").write_text('{"net.core.somaxconn": "77"}')
    (host.folder / "runs/run1").mkdir(parents=True)
    (host.folder / "runs/run2").mkdir()
    (host.folder / "runs/run1/units.json").write_text("[]")
    said = json.loads(host.run_to_the_end("status")[1])
    assert said["floods"] == ["floodmark-locust-run1.service"]
    assert said["unfetched"] == ["run1"]
    unit, flood, parameters = said["left"]
    assert (unit, flood) == ("floodmark-nginx.service is still active", "floodmark-locust-run1.service is still active")
    present = Path("/proc/sys/net/core/somaxconn").read_text().strip()
    assert parameters.startswith(f"kernel parameters were not put back (net.core.somaxconn is {present} and was 77)")


def test_parameters_of_which_nobody_knows_what_they_were_are_said(host: Host) -> None:
    (host.folder / "units").write_text("")
    (host.folder / "60-floodmark.conf").write_text("net.core.somaxconn = 8\n")
    (sentence,) = json.loads(host.run_to_the_end("status")[1])["left"]
    assert sentence.startswith(f"{host.folder}/60-floodmark.conf sets kernel parameters, and what they were")


def test_what_a_run_has_left_without_a_record_is_put_back(host: Host) -> None:
    (host.folder / "earlier.json").write_text("{}")
    (host.folder / "sysctl.py").write_text(f"import os; os.unlink('{host.folder}/earlier.json')")
    assert host.run_to_the_end("restore") == (0, "", "")
    asked = (host.folder / "asked").read_text()
    assert asked.index("stop floodmark-run.service") < asked.index("stop floodmark-nginx.service")
    assert not (host.folder / "earlier.json").exists()


def test_what_cannot_be_put_back_is_said(host: Host) -> None:
    (host.folder / "units").write_text("floodmark-nginx.service loaded deactivating stop-sigterm Floodmark nginx\n")
    assert host.run_to_the_end("restore") == (1, "", "lease: floodmark-nginx.service is still deactivating")
