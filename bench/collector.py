"""What a look at the accept queue costs: ours, its floor, and what one would use instead.

    make bench-collector

The readings are timed in a network namespace of their own with 0, 10, 1,000 and 10,000 connections in the queue
of one unix listener. Then whole runs on the testbed say what the agent costs beside a flood, and how late it is.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from bench.contenders import Look, note_on, other_looks, without_time
from bench.figures import Figure, publish, quartiles
from collectors.accept_queue import AcceptQueue
from collectors.config import Listener
from collectors.errors import Unreadable
from collectors.proc_net_unix import find_listener, read_proc_net_unix
from collectors.sock_diag import ask_unix_listener, open_socket
from collectors.unix_states import UnixStates
from floodmark.inputs.cases import load_cases

QUEUES = (0, 10, 1_000, 10_000)
ROUNDS = 15
# A contender is called until this much time has passed, at least once in each round.
SLICE_S = 0.02
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")

Timings = dict[str, list[tuple[float, float]]]  # contender -> (µs, µs of processor time) of one look, for each round

# name in the figures, contender, what it is divided by, target at 1,000 connections
RATIOS = (
    ("accept_queue / its floor", "accept_queue", "netlink floor", 1.5),
    ("accept_queue / straightforward /proc parser", "accept_queue", "straightforward parser", 1 / 40),
    ("accept_queue / ss -xl", "accept_queue", "ss -xl", 1 / 60),
    ("accept_queue / psutil", "accept_queue", "psutil", 1 / 300),
    ("unix_states / its floor", "unix_states", "file floor", 1.3),
)


# --- the contenders -----------------------------------------------------------------------------


def contenders(path: str) -> dict[str, Look]:
    """Return name -> what looks once; it returns the depth of the queue where it sees one."""
    ours = AcceptQueue([Listener("upstream", "unix", path, 0)])
    states = UnixStates(Listener("upstream", "unix", path, 0))
    question = ask_unix_listener(find_listener(read_proc_net_unix(), path.encode()))
    netlink = open_socket()
    buffer = bytearray(4096)

    def accept_queue() -> int:
        return int(str(ours.read(time.monotonic_ns())[0][1]))

    def netlink_floor() -> None:
        netlink.send(question.message)
        netlink.recv_into(buffer)

    def unix_states() -> int:
        (row,) = (row for row in states.read(0) if row)
        return int(str(row[2]))

    return {
        "accept_queue": accept_queue,
        "netlink floor": netlink_floor,
        "unix_states": unix_states,
        "file floor": read_file,
        **other_looks(path),
    }


def read_file() -> None:
    """Read /proc/net/unix and do nothing with it."""
    with open("/proc/net/unix", "rb", buffering=0) as file:  # noqa: PTH123 - a floor has nothing on top
        while file.read(1 << 16):
            pass


# --- timing -------------------------------------------------------------------------------------


@contextmanager
def queue_of(length: int) -> Iterator[str]:
    """Give the path of a unix listener that has so many connections in its queue."""
    with tempfile.TemporaryDirectory(prefix="floodmark-") as folder:
        path = f"{folder}/s"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(max(QUEUES))
        clients = [socket.socket(socket.AF_UNIX) for _ in range(length)]
        for client in clients:
            client.setblocking(False)
            client.connect(path)
        yield path
        for one in (listener, *clients):
            one.close()


def time_looks(length: int, console: Console) -> Timings:
    """Time all contenders by turns, and make sure that those that see the queue see the same."""
    with queue_of(length) as path:
        looks = contenders(path)
        for name, look in looks.items():
            seen = look()
            if seen not in (None, length):
                raise Unreadable(f"{name} sees {seen} connections in a queue of {length}")
        timings: Timings = {name: [] for name in looks}
        for round_ in range(ROUNDS):
            console.print(f"{length:>6} connections, round {round_ + 1} of {ROUNDS}", end="\r")
            for name, look in looks.items():
                timings[name].append(_time(look))
    console.print(" " * 60, end="\r")
    return timings


def _time(look: Look) -> tuple[float, float]:
    cpu_s = processor_time_s()
    start = time.perf_counter()
    count = 0
    while (now := time.perf_counter()) - start < SLICE_S or not count:
        look()
        count += 1
    return (now - start) / count * 1e6, (processor_time_s() - cpu_s) / count * 1e6


def processor_time_s() -> float:
    """Return the processor time of this process and of the ones that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def compare(all_timings: dict[int, Timings]) -> list[Figure]:
    """Return the time of each contender and queue, who has none and why, and the ratios that have a target."""
    figures = [
        quartiles(f"{name}, {length:,} connections", [wall for wall, _cpu in rounds], "µs")
        for length, timings in all_timings.items()
        for name, rounds in timings.items()
    ]
    busy = all_timings[1_000]
    for name, rounds in busy.items():
        of_processor = [cpu for _wall, cpu in rounds]
        figures.append(quartiles(f"{name}, processor time at 1,000", of_processor, "µs", note=note_on(name)))
    figures += without_time()
    for name, ours, other, target in RATIOS:
        if other not in busy:
            figures.append(Figure(name, None, "×", n=0, target=target, note=f"{other} is not installed"))
            continue
        ratios = [mine[0] / theirs[0] for mine, theirs in zip(busy[ours], busy[other], strict=True)]
        figures.append(quartiles(name, ratios, "×", target=target))
    for name, most in (("accept_queue", 2), ("netlink floor", None)):
        few, many = (all_timings[length][name] for length in (10, 10_000))
        growth = [big[0] / small[0] for big, small in zip(many, few, strict=True)]
        figures.append(quartiles(f"{name}, 10,000 / 10 connections", growth, "×", target=most))
    return figures


# --- the agent beside nothing -------------------------------------------------------------------

DEFAULT_RATES = load_cases()[1].parameters.rates_hz
SLOW_SOURCES = [name for name in DEFAULT_RATES if name != "accept_queue"]
BEAT_NS = 1_000_000
BEATS_S = 5
BEAT_ROUNDS = 5
TIMER_ABSTIME = 1


def share_of_empty_beats() -> float:
    """Return the share of a core that a thousand wake-ups a second take when nothing is done in them."""
    libc = ctypes.CDLL(None)
    due_ns = time.monotonic_ns()
    cpu_s = time.process_time()
    for _ in range(BEATS_S * 1_000_000_000 // BEAT_NS):
        due_ns += BEAT_NS
        due = (ctypes.c_long * 2)(*divmod(due_ns, 1_000_000_000))
        libc.clock_nanosleep(time.CLOCK_MONOTONIC, TIMER_ABSTIME, due, None)
    return (time.process_time() - cpu_s) / BEATS_S


def share_of_agent(path: str) -> float:
    """Return the share of a core of an agent that reads accept_queue a thousand times a second and nothing else."""
    with running_agent(path, {**DEFAULT_RATES, **dict.fromkeys(SLOW_SOURCES, 1)}) as agent:
        time.sleep(1)  # its start is not meant
        before = sum(agent.cpu_times()[:2])
        time.sleep(BEATS_S)
        return (sum(agent.cpu_times()[:2]) - before) / BEATS_S


def measure_beats(console: Console) -> list[Figure]:
    """Return what a thousand beats a second cost without a flood, empty and with the agent's readings, by turns."""
    empty, ours = [], []
    with queue_of(1_000) as path:
        for number in range(BEAT_ROUNDS):
            console.print(f"beats without a flood: round {number + 1} of {BEAT_ROUNDS}", end="\r")
            empty.append(share_of_empty_beats() * 100)
            ours.append(share_of_agent(path) * 100)
    console.print(" " * 60, end="\r")
    return [
        quartiles("no flood: 1,000 empty wake-ups a second", empty, "% of a core"),
        quartiles("no flood: agent, accept_queue at 1 kHz, the others at 1 Hz", ours, "% of a core"),
    ]


# --- the agent beside a flood -------------------------------------------------------------------

# 1,001 connections stay in the queue for 30 s, while nginx waits for them.
FLOOD = {"case": 2, "somaxconn": 1000, "users": 1001, "worker_connections": 4096, "proxy_read_timeout_s": 30}
ALONE = {f"{name}_hz": 1 for name in SLOW_SOURCES}


def run_beside_a_flood(rates: dict[str, int]) -> dict[str, Any]:
    """Run a case on the testbed and return its key figures."""
    extra = [part for name, value in {**FLOOD, **rates}.items() for part in ("-e", f"{name}={value}")]
    done = subprocess.run(["ansible-playbook", "run-case.yml", *extra], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unreadable(f"the run failed:\n{done.stdout}{done.stderr}")
    shown = subprocess.run(["floodmark", "show", "--json"], capture_output=True, text=True, check=True)
    return dict(json.loads(shown.stdout)[0]["metrics"])


def measure_agent(repeats: int, console: Console) -> list[Figure]:
    """Return what the agent cost and how late it was, over some runs with all sources and with one."""
    everything, alone = [], []
    for number in range(repeats):
        console.print(f"runs beside a flood: pair {number + 1} of {repeats}", end="\r")
        everything.append(run_beside_a_flood({}))
        alone.append(run_beside_a_flood(ALONE))
    console.print(" " * 60, end="\r")

    def over(runs: list[dict[str, Any]], name: str, metric: str, unit: str, scale: float, target: float) -> Figure:
        return quartiles(name, [one[metric] * scale for one in runs], unit, target=target)

    return [
        over(alone, "agent, accept_queue at 1 kHz, the others at 1 Hz", "agent_cpu_share", "% of a core", 100, 5),
        over(everything, "agent, all sources at their default rates", "agent_cpu_share", "% of a core", 100, 10),
        over(everything, "lateness of accept_queue, p99", "agent_lateness_p99_ms", "ms", 1, 1),
        over(everything, "readings lost", "agent_lost_share", "%", 100, 0.1),
    ]


@contextmanager
def running_agent(path: str, rates_hz: dict[str, int]) -> Iterator[psutil.Process]:
    """Run an agent on a unix listener, with nothing else to look at."""
    with tempfile.TemporaryDirectory(prefix="floodmark-") as folder:
        config = {
            "output": folder,
            "listeners": [
                {"name": "upstream", "transport": "unix", "path": path, "port": 0},
                {"name": "front", "transport": "tcp", "path": "", "port": 1},
            ],
            "status_path": "/",
            "nginx_unit": "none.service",
            "upstream_unit": "none.service",
            "rates_hz": rates_hz,
        }
        Path(folder, "agent.json").write_text(json.dumps(config), encoding="utf-8")
        with subprocess.Popen([sys.executable, "-m", "collectors.agent", f"{folder}/agent.json"]) as agent:
            yield psutil.Process(agent.pid)
            agent.terminate()


def measure_memory(seconds: int, console: Console) -> Figure:
    """Return the resident memory of an agent that has read at its default rates for a time."""
    with queue_of(1_000) as path, running_agent(path, DEFAULT_RATES) as agent:
        console.print(f"memory: {seconds} s", end="\r")
        time.sleep(seconds)
        rss = agent.memory_info().rss
    return Figure(f"memory of the agent after {seconds} s", rss / 1e6, "MB", target=40)


def looks_in_own_namespace() -> dict[int, Timings]:
    """Time the contenders in a new network namespace, which has no sockets but those made there."""
    if not shutil.which("unshare") or os.geteuid() != 0:
        raise Unreadable("a network namespace needs root and unshare(1) of util-linux")
    with tempfile.NamedTemporaryFile(prefix="floodmark-") as result:
        command = ["unshare", "--net", sys.executable, "-m", "bench.collector", "--inside", result.name]
        subprocess.run(command, check=True)
        read = json.loads(Path(result.name).read_text(encoding="utf-8"))
    return {int(length): timings for length, timings in read.items()}


# --- the whole ----------------------------------------------------------------------------------


def main() -> None:
    """Measure everything and publish it."""
    parser = argparse.ArgumentParser(prog="make bench-collector", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="pairs of runs beside a flood; 0 leaves them out")
    parser.add_argument("--memory-s", type=int, default=600, help="how long the agent runs before its memory is read")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    console = Console()
    if options.inside:
        SOMAXCONN.write_text(str(max(QUEUES)), encoding="ascii")
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        all_timings = {length: time_looks(length, console) for length in QUEUES}
        options.inside.write_text(json.dumps(all_timings), encoding="utf-8")
        return
    figures = compare(looks_in_own_namespace())
    if options.runs:
        figures += measure_agent(options.runs, console)
    figures += measure_beats(console)
    publish("collector", [*figures, measure_memory(options.memory_s, console)], console)


if __name__ == "__main__":
    main()
