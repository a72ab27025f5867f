"""Faults put into real runs: each run says what happened to it, and blames nobody else for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import queue
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from floodmark.runs.folders import RunFolder
from floodmark.verdict.judge import judge_run
from tests.conftest import environment
from tests.testbed.conftest import ROOT, SHORT, evidence, folder_of, play, shown_verdicts

pytestmark = pytest.mark.usefixtures("testbed")

Fault = Callable[[subprocess.Popen[str]], object]
# The flood has reached nginx when more than five clients are active. It ends by itself when there is no flood.
AWAIT_FLOOD = (
    "timeout 150 sh -c 'until tail -qn1 /var/lib/floodmark/runs/*/stub_status.csv 2>/dev/null "
    '| awk -F, "\\$3 > 5 { seen = 1 } END { exit !seen }"; do sleep 0.02; done\''
)


def in_the_flood(act: str) -> str:
    """Return a shell line that acts when the flood is there, and fails where none comes."""
    return f"{AWAIT_FLOOD} && {{ {act}; }}"


def play_with(fault: Fault, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a case, and put a fault into it meanwhile."""
    command = ("ansible-playbook", "run-case.yml", *SHORT, *arguments)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        failed: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

        def put() -> None:
            try:
                fault(process)
            except BaseException as error:  # noqa: BLE001 - the test that waits for the run has to hear of it
                failed.put(error)

        thread = threading.Thread(target=put)
        thread.start()
        said, errors = process.communicate(timeout=280)
        thread.join(timeout=60)
        if not failed.empty():
            raise failed.get()
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


def judged(done: subprocess.CompletedProcess[str]) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """Return the verdict of a run, and id and severity of the checks that it does not keep."""
    (verdict,) = shown_verdicts(folder_of(done))
    return verdict, {(one["id"], one["severity"]) for one in verdict["checks"] if not one["ok"]}


CASE_3 = ("-e", "case=3", "-e", "proxy_read_timeout_s=4")


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("systemctl stop floodmark-agent.service", {"source_read", "source_gap", "phase_length", "unit_active"}),
        (
            "systemctl kill -s STOP floodmark-agent.service; sleep 1; systemctl kill -s CONT floodmark-agent.service",
            {"source_gap"},
        ),
    ],
    ids=["stopped", "frozen for a second"],
)
def test_an_agent_that_does_not_look_all_the_time(
    testbed: Callable[[str], str], snapshot: Callable[[], str], act: str, expected: set[str]
) -> None:
    before = snapshot()
    done = play_with(lambda _: testbed(in_the_flood(f"sleep 1; {act}")), *CASE_3)
    verdict, broken = judged(done)
    assert not verdict["valid"], evidence(done)
    assert {(one, "invalid") for one in expected} <= broken, verdict["reasons"]
    assert done.returncode != 0
    assert verdict["metrics"]["accept_queue_max"] is None
    assert any("in the flood" in one for one in verdict["reasons"])
    assert snapshot() == before, "the host was not left as it was found"


def test_an_agent_that_is_killed(testbed: Callable[[str], str]) -> None:
    """Its unit has failed, so nothing is made of what it has left."""
    verdict, broken = judged(
        play_with(lambda _: testbed(in_the_flood("systemctl kill -s KILL floodmark-agent.service")), *CASE_3)
    )
    assert not verdict["valid"]
    assert ("results_readable", "invalid") in broken
    assert "floodmark-agent.service failed" in verdict["reasons"][0]


def test_an_upstream_that_is_killed_and_comes_back(testbed: Callable[[str], str]) -> None:
    act = "systemctl kill -s KILL floodmark-upstream@3.service; systemctl start floodmark-upstream@3.service"
    verdict, broken = judged(play_with(lambda _: testbed(in_the_flood(act)), *CASE_3))
    assert not verdict["valid"]
    assert ("unit_active", "invalid") in broken
    assert any(one.startswith("floodmark-upstream@3.service was not active all the time") for one in verdict["reasons"])


def test_a_worker_of_nginx_that_is_killed(testbed: Callable[[str], str]) -> None:
    act = "kill -KILL $(pgrep -P $(systemctl show -P MainPID floodmark-nginx.service) | head -n 1)"
    verdict, broken = judged(play_with(lambda _: testbed(in_the_flood(act)), *CASE_3))
    assert not verdict["valid"]
    assert ("workers_alive", "invalid") in broken, verdict["reasons"]


def test_a_log_of_nginx_that_reaches_its_limit(testbed: Callable[[str], str]) -> None:
    """nginx goes on without it: it was started so that the signal does not end it."""
    act = """
        set -e
        log=$(echo /var/lib/floodmark/runs/*/nginx-access.log)
        # Max file size             200015360            200015360            bytes
        limit=$(awk '/Max file size/ { print $4 }' /proc/$(systemctl show -P MainPID floodmark-nginx.service)/limits)
        whole=$(stat --format %s $log)
        truncate --size $limit $log
        sleep 5
        truncate --size $whole $log
        echo $limit
    """
    limits: list[str] = []
    done = play_with(
        lambda _: limits.append(testbed(in_the_flood(f"sh -c {shlex.quote(act)}"))), *CASE_3, "-e", "drain_s=3"
    )
    verdict, broken = judged(done)
    assert 200_000_000 < int(limits[0]) < 201_000_000
    assert not verdict["valid"], evidence(done)
    assert {("log_whole", "invalid"), ("rows_counted", "invalid")} <= broken, verdict["reasons"]
    assert "nginx-access.log lacks lines: File too large, says nginx" in verdict["reasons"]
    assert ("workers_alive", "invalid") not in broken


def test_a_load_generator_that_stands_still_for_two_seconds(testbed: Callable[[str], str]) -> None:
    def stop(playing: subprocess.Popen[str]) -> None:
        testbed(in_the_flood("true"))
        generators = [one for one in psutil.Process(playing.pid).children(recursive=True) if is_flood(one)]
        assert generators
        for one in generators:
            one.send_signal(signal.SIGSTOP)
        time.sleep(2)
        for one in generators:
            one.send_signal(signal.SIGCONT)

    verdict, broken = judged(play_with(stop, *CASE_3))
    assert not verdict["valid"]
    assert ("generator_stalled", "invalid") in broken, verdict["reasons"]


def is_flood(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(part.endswith("locustfiles/flood.py") for part in process.cmdline())
    return False


def test_a_host_whose_processors_are_taken_by_others_says_so(testbed: Callable[[str], str]) -> None:
    """As many busy loops as take 60 % of the machine at least; they end by themselves."""
    loops = math.ceil(0.6 * (psutil.cpu_count() or 1))
    hog = "timeout 10 sh -c 'while :; do :; done' >/dev/null 2>&1 & "
    done = play_with(lambda _: testbed(in_the_flood(f"{hog * loops} true")), *CASE_3)
    verdict, broken = judged(done)
    assert ("cpu_taken", "note") in broken, (verdict["valid"], verdict["doubts"])
    (check,) = (one for one in verdict["checks"] if one["id"] == "cpu_taken" and one["subject"] == "the host")
    assert check["value"] >= 0.4
    assert all(one["holds"] for one in verdict["expectations"]) or not verdict["valid"], "a busy host is no finding"


# --- a network that takes its time ------------------------------------------------------------------

DELAY_S = 0.02
RELAY = "127.0.0.9"
# What an inventory says of a host behind it: the host sees the control node as it is, and not who comes to the relay.
FAR = f"proxy_address: {RELAY}\n          floodmark_flood_from: [198.18.0.0/15]"


@contextlib.contextmanager
def relay_to(address: str, port: int) -> Iterator[None]:
    """Pass connections on, each byte DELAY_S late either way."""

    async def serve() -> None:
        async with await asyncio.start_server(pass_on, RELAY, port, backlog=1024):
            ready.set()
            await asyncio.to_thread(stop.wait)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        away_reader, away_writer = await asyncio.open_connection(address, port)
        await asyncio.gather(carry(reader, away_writer), carry(away_reader, writer))
        for one in (writer, away_writer):
            one.close()
            with contextlib.suppress(OSError):
                await one.wait_closed()

    ready, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until there is no more, each part DELAY_S after it came."""
    pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        data = b"begin"
        while data:
            due, data = await pending.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                if data:
                    writer.write(data)
                    await writer.drain()
                else:
                    writer.write_eof()

    writing = asyncio.create_task(write())
    data = b"begin"
    while data:
        try:
            data = await reader.read(65536)
        except OSError:
            data = b""
        await pending.put((time.monotonic() + DELAY_S, data))
    await writing


def test_twenty_milliseconds_each_way_shift_no_clock(testbed: Callable[[str], str], tmp_path: Path) -> None:
    """Judged as if the two were machines of their own: their one clock is then the truth that is to be found."""
    testbed("true")
    address = (ROOT / ".testbed/hosts/proxy1/address").read_text(encoding="ascii").strip()
    with relay_to(address, 8080):
        # With -e it has the last word over what the inventory says.
        inventory = tmp_path / "far.yml"
        shutil.copy(ROOT / "inventory/testbed.yml", inventory)
        text = inventory.read_text(encoding="utf-8").replace("proxy1:", f"proxy1:\n          {FAR}", 1)
        inventory.write_text(text, encoding="utf-8")
        (tmp_path / "group_vars").symlink_to(ROOT / "inventory/group_vars")
        done = play(
            "-e", "case=1", "-e", "load_shape=sustained", "-e", "users=8", "-e", "duration_s=2", "-i", str(inventory)
        )
    verdict, _ = judged(done)
    assert verdict["valid"], (verdict["reasons"], evidence(done))
    # A request and its answer each cross twice: the handshake with nginx is the relay's.
    assert verdict["metrics"]["request_median_s"] >= 2 * DELAY_S
    run = RunFolder(shutil.copytree(folder_of(done), tmp_path / folder_of(done).name))
    load = run.load("proxy1") / "load.0.json"
    load.write_text(json.dumps({**json.loads(load.read_text()), "kernel_boot_id": "another"}))
    judge_run(run)
    (again,) = shown_verdicts_of(run)
    offset_ms, error_ms = again["metrics"]["clock_offset_ms"], again["metrics"]["clock_error_ms"]
    assert abs(offset_ms) <= error_ms <= 1000 * 2 * DELAY_S + 3, (offset_ms, error_ms)
    assert not [one for one in again["checks"] if one["id"] == "clocks_agree" and not one["ok"]]


def shown_verdicts_of(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads((run.host("proxy1").verdict).read_text(encoding="utf-8"))]
