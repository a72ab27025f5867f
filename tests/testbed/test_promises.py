"""What is promised about a host: provisioned once, left as it was found, whatever happens to the control node."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from collectors.clocks import kernel_boot_id
from collectors.fields import MACHINE, SOURCES
from floodmark.runs.archive import checksum_file, open_archive, unpack
from floodmark.runs.folders import HostFolder, RunFolder
from tests.conftest import environment
from tests.roles.test_templates import render
from tests.testbed.conftest import ROOT, evidence, folder_of, play, run, shown_verdicts, verdict_of


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.2)


def test_nothing_on_the_host_may_be_written_by_everybody(testbed: Callable[[str], str]) -> None:
    process, _ = start_case_3()
    found = testbed(
        "find /var/lib/floodmark /var/cache/floodmark-nginx /etc/floodmark /usr/lib/floodmark /run/floodmark* "
        "-perm -o+w ! -type l ! -type s; cd /var/lib/floodmark/runs/*; "
        "stat --dereference --format %u /run/floodmark-upstream upstream_events.csv"
    )
    assert process.wait(timeout=120) == 0
    user, owner = found.split()
    assert user == owner != "0", "the user that systemd has made for the upstream"


FETCHED_MB = 200


@pytest.mark.parametrize("become", [False, True], ids=["as root", "with become"])
def test_what_a_host_wrote_is_fetched_in_little_memory(
    testbed: Callable[[str], str], tmp_path: Path, become: bool
) -> None:
    """Nothing that could be packed smaller."""
    folder = "/var/lib/floodmark/runs/large"
    # su to the same user is the become that every host has.
    flags = ["-e", "ansible_become=true", "-e", "ansible_become_method=su"] if become else []

    def fetch(size_bytes: int) -> int:
        testbed(f"mkdir -p {folder} && head -c {size_bytes} /dev/urandom >{folder}/accept_queue.csv")
        archive = tmp_path / "raw/host.tar.gz"
        arguments = json.dumps({"folder": folder, "archive": str(archive)})
        command = ["ansible", "proxy1", *flags, "-m", "floodmark_fetch", "-a", arguments]
        # ru_maxrss is of the largest of all processes that were waited for.
        program = (
            "import json, resource, subprocess, sys; done = subprocess.run(json.loads(sys.argv[1])); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
        )
        done = run(sys.executable, "-c", program, json.dumps(command), ANSIBLE_BECOME_ALLOW_SAME_USER="true")
        assert done.returncode == 0, evidence(done)
        assert '"problem": ""' in done.stdout, evidence(done)
        with open_archive(archive) as opened:
            assert opened.getmember("./accept_queue.csv").size == size_bytes
        return int(done.stdout.splitlines()[-1]) * 1024

    try:
        small_bytes, large_bytes = fetch(1000), fetch(FETCHED_MB * 1_000_000)
        assert large_bytes - small_bytes < 50_000_000
        assert testbed("ls /var/lib/floodmark/runs").split() == [], "it was removed"
    finally:
        testbed(f"rm -rf {folder} {folder}.tar.gz")


@pytest.mark.usefixtures("testbed")
def test_provisioning_twice_changes_nothing() -> None:
    first = play("-e", "case=1")  # provisioned, by now or already
    assert first.returncode == 0, evidence(first)
    second = play("-v", "-e", "case=1", "-e", "provision=always")
    provisioning = second.stdout.partition("PLAY [Provision the proxy hosts]")[2].partition("PLAY [")[0]
    assert "Install the agent" in provisioning, evidence(second)
    assert re.findall(r"^changed: .*", provisioning, re.MULTILINE) == [], provisioning


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["killed", "left by its terminal"])
def test_a_run_that_is_gone_is_undone_at_once(
    number: signal.Signals, testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    before = snapshot()
    process, _ = start_case_3()
    assert testbed("cat /proc/sys/net/core/somaxconn").strip() == "8"
    process.send_signal(number)
    wait_until(
        lambda: without_raw_files(snapshot()) == without_raw_files(before), 20, f"{snapshot()}\ninstead of\n{before}"
    )
    assert not generators(), "somebody still floods"
    assert process.wait(timeout=60) in (-number, 128 + number)
    testbed("rm -rf /var/lib/floodmark/runs/*")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_ended_restores_the_host_and_keeps_what_it_has(
    number: signal.Signals, status: int, snapshot: Callable[[], str]
) -> None:
    before = snapshot()
    process, folder = start_case_3()
    process.send_signal(number)
    wait_until(lambda: without_raw_files(snapshot()) == without_raw_files(before), 5, "the host is as it was")
    wait_until(lambda: not generators(), 5, "nobody floods")
    assert process.wait(timeout=60) == status
    assert snapshot() == before, "what was written was fetched"
    (verdict,) = shown_verdicts(folder)
    assert not verdict["valid"]
    name = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[number]
    assert verdict["reasons"][0] == f"the run was ended by {name} before it was over"
    assert RunFolder(folder).host("proxy1").table("accept_queue").exists()


def test_a_second_signal_leaves_at_once(testbed: Callable[[str], str], snapshot: Callable[[], str]) -> None:
    before = snapshot()
    process, folder = start_case_3()
    process.send_signal(signal.SIGINT)
    wait_until(RunFolder(folder).end.exists, 5, "the first one is heard")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130
    wait_until(
        lambda: without_raw_files(snapshot()) == without_raw_files(before), 20, f"{snapshot()}\ninstead of\n{before}"
    )
    testbed("rm -rf /var/lib/floodmark/runs/*")


def test_a_host_whose_playbook_stands_still_restores_itself(snapshot: Callable[[], str]) -> None:
    before = snapshot()
    process, folder = start_case_3()
    process.send_signal(signal.SIGSTOP)
    wait_until(
        lambda: without_raw_files(snapshot()) == without_raw_files(before), 20, f"{snapshot()}\ninstead of\n{before}"
    )
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 2
    (verdict,) = shown_verdicts(folder)
    why = "it heard nothing from the control node for the time of its lease, 15 s"
    assert verdict["reasons"][0] == f"the host was restored before the run was over: {why}"
    assert snapshot() == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_lease_that_dies_undoes_the_run(
    number: signal.Signals, testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    before = snapshot()
    process, folder = start_case_3()
    testbed(f"systemctl kill --kill-who=main --signal={number.name} floodmark-run.service")
    wait_until(
        lambda: without_raw_files(snapshot()) == without_raw_files(before), 20, f"{snapshot()}\ninstead of\n{before}"
    )
    assert process.wait(timeout=60) == 2
    (verdict,) = shown_verdicts(folder)
    assert "the program that holds it was killed" in verdict["reasons"][0]


def test_a_host_whose_keeper_is_killed_restores_itself(snapshot: Callable[[], str]) -> None:
    before = snapshot()
    process, folder = start_case_3()
    keeper_of(folder).kill()
    wait_until(
        lambda: without_raw_files(snapshot()) == without_raw_files(before), 20, f"{snapshot()}\ninstead of\n{before}"
    )
    assert process.wait(timeout=60) == 2
    (verdict,) = shown_verdicts(folder)
    assert "the host was restored before the run was over: it heard nothing" in verdict["reasons"][0]


def keeper_of(folder: Path) -> psutil.Process:
    """Return the process that keeps the lease of a run: what it says goes into the run's folder."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "floodmark.runner.keeper" in process.cmdline() and any(
                folder.name in file.path for file in process.open_files()
            ):
                return process
    pytest.fail(f"nobody keeps the lease of {folder.name}")


def test_no_unit_of_a_run_starts_when_no_run_holds_the_host(testbed: Callable[[str], str]) -> None:
    for unit in ("nginx", "sysctl", "upstream@2", "agent"):
        said = testbed(f"systemctl start floodmark-{unit}.service 2>&1; echo $?")
        assert said.strip().splitlines()[-1] != "0", said
    assert testbed("cat /proc/sys/net/core/somaxconn").strip() == "4096"
    testbed("systemctl reset-failed 'floodmark-*'")


def generators() -> list[psutil.Process]:
    """Return the processes of this checkout that flood."""
    flood = f"--locustfile={ROOT}/locustfiles/flood.py"
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if flood in process.cmdline():
                found.append(process)
    return found


def test_the_next_run_takes_over_from_one_that_was_killed(testbed: Callable[[str], str]) -> None:
    process, _ = start_case_3()
    kill_tree_of(process)
    done = play("-e", "case=2")
    assert done.returncode == 0, evidence(done)
    assert verdict_of(done)["metrics"]["status"] == {"502": 23, "504": 9}
    testbed("rm -rf /var/lib/floodmark/runs/*")


def test_a_host_that_another_run_holds_is_left_alone(testbed: Callable[[str], str]) -> None:
    testbed(
        'echo \'{"run_id": "theirs", "owner": "somebody@elsewhere pid 1 since 2"}\' > /run/floodmark-run.json; '
        "systemd-run --quiet --unit=floodmark-run.service sleep 600"
    )
    try:
        done = play("-e", "case=1")
        assert done.returncode != 0
        assert "held by run theirs of somebody@elsewhere" in done.stderr, evidence(done)
        assert "theirs" in testbed("cat /run/floodmark-run.json")
    finally:
        testbed("systemctl stop floodmark-run.service")
    # The record alone, which a service leaves that was killed, holds nothing.
    done = play("-e", "case=1")
    assert done.returncode == 0, evidence(done)


def test_a_host_that_is_in_use_is_left_alone_unless_one_insists(
    testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    before = snapshot()
    process, folder = start_case_3()
    status = asked("status", expected=0)
    assert (status["run"]["run_id"], status["run"]["holds"]) == (folder.name, True)
    asked("restore", expected=1)
    assert testbed("systemctl is-active floodmark-nginx.service").strip() == "active"
    assert asked("restore", "--force", expected=0)["as_it_was"]
    assert without_raw_files(snapshot()) == without_raw_files(before)
    assert process.wait(timeout=60) == 2
    (verdict,) = shown_verdicts(folder)
    assert "the host was restored before the run was over" in verdict["reasons"][0]


def test_what_another_version_has_left_is_said_and_put_back(
    testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    before = snapshot()
    assert asked("status", expected=0)["as_it_was"]
    testbed(
        "mkdir -p /run/floodmark-sysctl /run/sysctl.d; "
        """echo '{"net.core.somaxconn": "'$(sysctl -n net.core.somaxconn)'"}' >/run/floodmark-sysctl/before.json; """
        "echo net.core.somaxconn = 8 >/run/sysctl.d/60-floodmark.conf; sysctl -q -w net.core.somaxconn=8; "
        "systemd-run --quiet --unit=floodmark-nginx-of-before.service sleep 600"
    )
    unit, parameters = asked("status", expected=1)["left"]
    assert unit == "floodmark-nginx-of-before.service is still active"
    assert "net.core.somaxconn is 8 and was 4096" in parameters
    assert asked("restore", expected=0)["as_it_was"]
    assert snapshot() == before


def asked(*arguments: str, expected: int) -> dict[str, Any]:
    """Return what the one host of the testbed says, and make sure of the command's exit status."""
    done = run("floodmark", "host", *arguments, "--json")
    assert done.returncode == expected, evidence(done)
    (status,) = json.loads(done.stdout).values()
    return dict(status)


def test_a_run_leaves_what_tells_whether_it_was_whole(tmp_path: Path) -> None:
    done = play("-e", "case=2")
    assert done.returncode == 0, evidence(done)
    host = raw_files(folder_of(done), tmp_path)
    assert checksum_file(host.archive).exists()
    rows = {path.stem: len(path.read_text().splitlines()) - 1 for path in tmp_path.glob("*.csv")}
    assert json.loads((tmp_path / "written.json").read_text()) == {table.name: rows[table.name] for table in SOURCES}
    units = {unit["name"]: unit for unit in json.loads((tmp_path / "units.json").read_text())}
    names = ("agent", "nginx", "sysctl", "upstream@2")
    assert list(units) == [f"floodmark-{name}.service" for name in names]
    assert {unit["active_state"] for unit in units.values()} == {"active"}
    described = json.loads(host.description.read_text())
    # Containers are on the kernel of the control node.
    assert described["clocks"]["kernel_boot_id"] == kernel_boot_id() != described["boot_id"]
    times = " + ".join(name for name in MACHINE.columns if re.fullmatch(r"cpu_\w+_s", name))
    ((processors, failed, moved_ns),) = duckdb.execute(
        f"SELECT (max({times}) - min({times})) / (max(t_ns) - min(t_ns)) * 1e9, count(reason), "
        f"max(wall_minus_monotonic_ns) - min(wall_minus_monotonic_ns) FROM '{host.table(MACHINE.name)}'"
    ).fetchall()
    assert processors == pytest.approx(described["cpu"]["count"], rel=0.1)
    assert (failed, moved_ns < 1_000_000) == (0, True)


def test_an_agent_that_ends_without_an_error_is_noticed(testbed: Callable[[str], str], tmp_path: Path) -> None:
    process, folder = start_case_3()
    testbed("systemctl kill --signal=TERM floodmark-agent")
    process.wait(timeout=120)
    raw_files(folder, tmp_path)
    units = {unit["name"]: unit for unit in json.loads((tmp_path / "units.json").read_text())}
    agent, nginx = units["floodmark-agent.service"], units["floodmark-nginx.service"]
    assert (agent["active_state"], agent["result"], agent["exit_status"]) == ("inactive", "success", 0)
    assert agent["active_since_ns"] < agent["inactive_since_ns"] < agent["read_ns"]
    assert (nginx["active_state"], nginx["inactive_since_ns"]) == ("active", None)


def raw_files(folder: Path, target: Path) -> HostFolder:
    """Unpack what the container wrote in a run, and return its folder of results."""
    host = RunFolder(folder).host("proxy1")
    with open_archive(host.archive) as archive:
        unpack(archive, target)
    return host


def test_a_run_can_be_looked_at_from_another_terminal_and_does_not_notice() -> None:
    process, folder = start_case_3()
    watch = f"timeout -s INT 6 floodmark watch {folder.name}"
    done = run("script", "--quiet", "--return", "--command", watch, "/dev/null")
    for said in ("Case 3", "limit 8", "Q + A + 1"):
        assert said in done.stdout, evidence(done)
    assert process.wait(90) == 0


def start_case_3() -> tuple[subprocess.Popen[bytes], Path]:
    """Start a long run and wait until its flood is on; return it and its folder."""
    process = subprocess.Popen(
        ["env", "--default-signal=INT,HUP", "ansible-playbook", "run-case.yml", "-e", "case=3", "-e", "baseline_s=1",
         "-e", "drain_s=1", "-e", "proxy_read_timeout_s=30", "-e", "proxy_connect_timeout_s=1"],
        cwd=ROOT, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    known = floods()
    wait_until(lambda: bool(floods() - known) or process.poll() is not None, 60, "a flood")
    wait_until(lambda: process.poll() is not None or accepted_some(), 20, "connections")
    assert process.poll() is None, "the run ended before it could be killed"
    (log,) = floods() - known
    return process, log.parents[2]


def floods() -> set[Path]:
    """Return the logs of all floods that the container has seen; virtual machines may have theirs meanwhile."""
    return set(ROOT.glob("results/*/load/proxy1/requests.0.csv"))


def accepted_some() -> bool:
    address = (ROOT / ".testbed/hosts/proxy1/address").read_text()
    done = run(
        "ssh", "-i", ".testbed/ssh/id_ed25519", "-o", "UserKnownHostsFile=.testbed/ssh/known_hosts", f"root@{address}",
        "ss -Hx src /run/floodmark-upstream/upstream.sock | wc -l",
    )  # fmt: skip
    return int(done.stdout or 0) > 10


def kill_tree_of(process: subprocess.Popen[bytes]) -> None:
    """Kill ansible-playbook without a chance to clean up; what it started ends by itself."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def without_raw_files(listing: str) -> str:
    """Leave out what a run wrote and nobody has fetched: data are not thrown away."""
    return "\n".join(line for line in listing.splitlines() if not re.match(r"\d{8}T\d{6}Z-", line))


@pytest.mark.usefixtures("testbed")
def test_stopping_the_testbed_leaves_nothing_on_this_machine() -> None:
    interfaces = run("ip", "-brief", "link").stdout
    (bridge,) = re.findall(rf"^(fm-{id_of_this_checkout()})", interfaces, re.MULTILINE)
    down = run("ansible-playbook", "playbooks/testbed-down.yml")
    assert down.returncode == 0, evidence(down)
    assert bridge not in run("ip", "-brief", "link").stdout
    assert id_of_this_checkout() not in run("ip", "netns", "list").stdout
    assert f"fm-{id_of_this_checkout()}" not in run("ps", "axww", "-o", "args").stdout
    assert f"{ROOT}/.testbed/" not in Path("/proc/self/mounts").read_text()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/fm-{id_of_this_checkout()}*"))
    assert not (ROOT / ".testbed").exists()
    again = run("ansible-playbook", "playbooks/testbed-down.yml")
    assert again.returncode == 0, evidence(again)
    for _ in range(2):  # starting twice is harmless
        up = run("ansible-playbook", "playbooks/testbed-up.yml")
        assert up.returncode == 0, evidence(up)


def test_a_host_that_died_is_replaced(testbed: Callable[[str], str]) -> None:
    pid = pid_of_the_container()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the container ends")
    up = run("ansible-playbook", "playbooks/testbed-up.yml")
    assert up.returncode == 0, evidence(up)
    assert testbed("systemctl is-system-running").strip() == "running"


def test_a_host_of_a_checkout_that_was_removed_is_replaced(testbed: Callable[[str], str]) -> None:
    pid = pid_of_the_container()
    shutil.rmtree(ROOT / ".testbed")
    up = run("ansible-playbook", "playbooks/testbed-up.yml")
    assert up.returncode == 0, evidence(up)
    assert testbed("systemctl is-system-running").strip() == "running"
    assert pid_of_the_container() != pid
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the container of before ends")


def pid_of_the_container() -> int:
    found = run("pgrep", "--full", "--", f"--machine=fm-{id_of_this_checkout()}-proxy1")
    return int(found.stdout)


def id_of_this_checkout() -> str:
    return sha256(str((ROOT / ".testbed").resolve()).encode()).hexdigest()[:6]


def test_nginx_finds_its_configuration_good(testbed: Callable[[str], str]) -> None:
    text = render(ROOT / "roles/nginx/templates/nginx.conf.j2", nginx_log_dir="/tmp")
    testbed(
        f"mkdir -p /var/cache/floodmark-nginx; cat > /tmp/test.conf <<'END'\n{text}\nEND\n"
        "nginx -t -q -c /tmp/test.conf -g 'pid /dev/null;'"
    )


def test_a_run_whose_service_somebody_stops_says_so(testbed: Callable[[str], str], snapshot: Callable[[], str]) -> None:
    before = snapshot()
    process, folder = start_case_3()
    testbed("systemctl stop floodmark-run.service")
    assert without_raw_files(snapshot()) == without_raw_files(before)
    assert process.wait(timeout=60) == 2
    (verdict,) = shown_verdicts(folder)
    why = "somebody stopped floodmark-run.service on it"
    assert verdict["reasons"][0] == f"the host was restored before the run was over: {why}"
