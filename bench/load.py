"""How many requests one process can send, and how well it keeps to a plan: our flood beside what one would use instead.

    make bench-load

The target is a page that nginx answers by itself, on loopback, with a processor of its own; the load generator has
the other one. The contenders take turns, and the rate is what nginx has counted in the middle of each turn, the same
for all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import http.client
import itertools
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
from rich.console import Console

from bench.figures import Figure, publish, quartiles
from floodmark.errors import FloodmarkError
from floodmark.paths import ROOT

NGINX_CONF = """
worker_processes 1; worker_cpu_affinity {mask:b}; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000;
    server {{ listen 127.0.0.1:{port} backlog=4096; location = / {{ stub_status; }} }}
}}
"""
GENERATOR_CPU, NGINX_CPU = 0, 1
USERS = 50
TURN_S = 5.0
# At the beginning and at the end of a turn nothing is measured.
SETTLE_S = 1.0
SAMPLE_S = 0.05
OURS = "ours, every request logged"
MOST_IN_FLIGHT = 1000
HANGING = 10_000
HANG_S = 12
# Accepts whoever comes, and says nothing to anyone.
SILENT = """
import os, selectors, socket, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(listener.getsockname()[1], flush=True)
held = []
while True:
    held.append(listener.accept()[0])
"""


class Nginx:
    """An nginx that answers one page by itself, on a processor of its own, and counts what it is asked.

    Args:
        folder: for its configuration.
    """

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._asked = 0
        conf = folder / "nginx.conf"
        conf.write_text(NGINX_CONF.format(mask=1 << NGINX_CPU, folder=folder, port=self.port), encoding="ascii")
        self._process = subprocess.Popen(["nginx", "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(conf)])
        self._client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        _until(self._answers, 10, lambda: f"nginx did not start: {(folder / 'error.log').read_text()}")

    @property
    def url(self) -> str:
        """The page."""
        return f"http://127.0.0.1:{self.port}/"

    def requests(self) -> int:
        """Return how many requests it has had, without our own questions."""
        self._client.request("GET", "/")
        # Active connections: 1 \nserver accepts handled requests\n 3 3 3 \nReading: 0 Writing: 1 Waiting: 0
        said = self._client.getresponse().read().split()
        self._asked += 1
        return int(said[9]) - self._asked

    def stop(self) -> None:
        """End it."""
        self._client.close()
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.requests()
            return True
        self._client.close()
        return False


def rate_of(command: Sequence[str], nginx: Nginx, **variables: str) -> float:
    """Run one contender and return its requests per second, as nginx has counted them in the middle of its time.

    Raises:
        FloodmarkError: it failed, or sent too little for a figure.
    """
    counts = []
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(GENERATOR_CPU), *command],
            cwd=ROOT, env={**os.environ, **variables}, stdout=output, stderr=output,
        )  # fmt: skip
        while process.poll() is None:
            counts.append((time.monotonic(), nginx.requests()))
            time.sleep(SAMPLE_S)
        output.seek(0)
        if process.returncode != 0:
            said = output.read().decode(errors="replace")[-2000:]
            raise FloodmarkError(f"{command[0]} ended with status {process.returncode}: {said}")
    return middle_rate(counts)


def middle_rate(counts: Sequence[tuple[float, int]]) -> float:
    """Return the growth per second of a count between its first growth and its last, without both edges.

    Raises:
        FloodmarkError: it grew for too short a time.
    """
    growing = [earlier for earlier, later in itertools.pairwise(counts) if later[1] > earlier[1]]
    inside = [one for one in growing if growing[0][0] + SETTLE_S <= one[0] <= growing[-1][0] - SETTLE_S]
    if len(inside) < 2:
        raise FloodmarkError(f"too short for a figure: the count grew in {len(growing)} of {len(counts)} looks")
    (start, first), (end, last) = inside[0], inside[-1]
    return (last - first) / (end - start)


# --- the contenders -----------------------------------------------------------------------------


def flood_command(url: str, output: Path, *options: str) -> list[str]:
    """Return how our flood is started."""
    return [
        *(sys.executable, "-m", "locust", "-f", "locustfiles/flood.py", "--headless", "--only-summary"),
        *("--exit-code-on-error=0", f"--host={url}", f"--output={output}", f"--duration-s={TURN_S:.0f}", *options),
    ]


def closed_loop(url: str, output: Path, *, close: bool) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return name -> command and environment of everybody who waits for answers, with a connection kept or not."""
    users = f"--users={USERS}", f"--spawn-rate={USERS}"
    locust = [sys.executable, "-m", "locust", "-f", "bench/locustfiles.py", "--headless", "--only-summary",
              *users, f"--run-time={TURN_S:.0f}s", f"--host={url.rstrip('/')}"]  # fmt: skip
    variables = {"BENCH_CLOSE": "1"} if close else {}
    ours = flood_command(url, output, *users, "--load-shape=sustained", "--think-time-ms=0", f"--keepalive={not close}")
    found = {
        "Locust HttpUser": ([*locust, "PlainUser"], variables),
        "Locust FastHttpUser": ([*locust, "FastUser"], variables),
        OURS: (ours, {}),
    }
    header = ["-H", "Connection: close"] if close else []
    if shutil.which("wrk"):
        found["wrk, one thread"] = (["wrk", "-t1", f"-c{USERS}", f"-d{TURN_S:.0f}s", *header, url], {})
    if shutil.which("hey"):
        kept = ["-disable-keepalive"] if close else []
        found["hey, one processor"] = (["hey", "-cpus", "1", "-c", str(USERS), "-z", f"{TURN_S:.0f}s", *kept, url], {})
    return found


def time_closed_loops(nginx: Nginx, folder: Path, rounds: int, console: Console) -> Iterator[Figure]:
    """Yield the rate of each contender and the ratios that have a target."""
    for close, kind, targets in (
        (False, "connections kept", {"Locust FastHttpUser": 4.0, "wrk, one thread": 0.45}),
        (True, "a connection for each request", {"Locust FastHttpUser": 1.7}),
    ):
        rates: dict[str, list[float]] = {}
        for round_ in range(rounds):
            for name, (command, variables) in closed_loop(nginx.url, folder, close=close).items():
                console.print(f"{kind}, round {round_ + 1} of {rounds}: {name}" + " " * 20, end="\r")
                rates.setdefault(name, []).append(rate_of(command, nginx, **variables))
        for name, values in rates.items():
            yield quartiles(f"{name}, {kind}", values, "requests/s", better="higher")
        for name, target in targets.items():
            if name in rates:
                ratios = [ours / theirs for ours, theirs in zip(rates[OURS], rates[name], strict=True)]
                yield quartiles(f"ours / {name}, {kind}", ratios, "×", better="higher", target=target)
    for name, package in (("wrk", "wrk"), ("hey", "hey")):
        if not shutil.which(name):
            yield Figure(name, None, "requests/s", n=0, note=f"not installed: apt-get install {package}")


# --- the open loop ------------------------------------------------------------------------------


def time_open_loop(nginx: Nginx, folder: Path, most_per_s: float, rounds: int, console: Console) -> Iterator[Figure]:
    """Yield how well an open loop keeps to its plan at half of what the process can do, and near all of it."""
    for share in (0.5, 0.9):
        rate = round(most_per_s * share)
        achieved, late_ms = [], []
        for round_ in range(rounds):
            console.print(f"open loop at {share:.0%}, round {round_ + 1} of {rounds}" + " " * 20, end="\r")
            rate_of(
                flood_command(
                    nginx.url,
                    folder,
                    f"--users={MOST_IN_FLIGHT}",
                    "--spawn-rate=1000",
                    "--load-shape=open",
                    f"--rate={rate}",
                    "--keepalive=true",
                ),
                nginx,
            )
            planned_s, sent, late = read_log(folder)
            achieved.append(sent / planned_s / rate)
            late_ms.append(late)
        aim = share == 0.5
        name = f"open loop at {share:.0%} of its maximum, {rate:,} a second"
        yield quartiles(f"{name}: achieved / requested", achieved, "×", better="higher", target=0.99 if aim else None)
        yield quartiles(f"{name}: lateness p99", late_ms, "ms", target=2.0 if aim else None)


def read_log(folder: Path) -> tuple[float, int, float]:
    """Return over how many seconds a flood was sent, how many requests, and how late the latest hundredth was (ms)."""
    with (folder / "requests.0.csv").open(encoding="utf-8", newline="") as opened:
        times = [(int(row["intended_ns"]), int(row["start_ns"])) for row in csv.DictReader(opened)]
    late = sorted(start - intended for intended, start in times)
    begin, end = min(intended for intended, _ in times), max(start for _, start in times)
    return max(TURN_S, (end - begin) / 1e9), len(times), late[int(len(late) * 0.99)] / 1e6


# --- two processes --------------------------------------------------------------------------------


def time_two_processes(folder: Path, rounds: int, console: Console) -> Iterator[Figure]:
    """Yield by how much two processes send more than one.

    Nobody listens where they send to: a target would need one of the two processors, and a refusal needs none of it.
    """
    rates: dict[int, list[float]] = {1: [], 2: []}
    for round_ in range(rounds):
        for processes, values in rates.items():
            console.print(f"{processes} processes, round {round_ + 1} of {rounds}" + " " * 30, end="\r")
            values.append(refused_per_s(folder, processes))
    for processes, values in rates.items():
        yield quartiles(f"refused connections, {processes} processes", values, "requests/s", better="higher")
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    yield quartiles("two processes / one", ratios, "×", better="higher", target=1.7)


def refused_per_s(folder: Path, processes: int) -> float:
    """Return how many refused connections a second so many processes make together."""
    for log in folder.glob("requests.*.csv"):
        log.unlink()
    port = _free_port()
    shared = [f"--processes={processes}", "--master-bind-host=127.0.0.1", f"--master-bind-port={port}",
              f"--master-port={port}"] if processes > 1 else []  # fmt: skip
    subprocess.run(
        flood_command(
            f"http://127.0.0.1:{_free_port()}", folder, f"--users={USERS}", f"--spawn-rate={USERS}",
            "--load-shape=sustained", "--think-time-ms=0", *shared,
        ),
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    per_s = 0.0
    for log in folder.glob("requests.*.csv"):
        with log.open(encoding="utf-8", newline="") as opened:
            ends = [int(row["end_ns"]) for row in csv.DictReader(opened)]
        per_s += (len(ends) - 1) / (max(ends) - min(ends)) * 1e9
    return per_s


# --- connections that hang ------------------------------------------------------------------------


def time_hanging(folder: Path, console: Console) -> Iterator[Figure]:
    """Yield what ten thousand open connections take: time to open them, and memory of the process that has them."""
    console.print(f"{HANGING:,} connections that hang" + " " * 30, end="\r")
    with subprocess.Popen([sys.executable, "-c", SILENT, str(NGINX_CPU)], stdout=subprocess.PIPE, text=True) as silent:
        assert silent.stdout
        url = f"http://127.0.0.1:{silent.stdout.readline().strip()}/"
        few_bytes, _ = hang(url, folder, 10)
        many_bytes, opened_s = hang(url, folder, HANGING)
        silent.kill()
    kilobytes = (many_bytes - few_bytes) / (HANGING - 10) / 1000
    yield Figure("memory of one hanging connection, with its user", round(kilobytes, 2), "kB", target=15)
    yield Figure(f"{HANGING:,} hanging connections opened in", round(opened_s, 2), "s", target=10)


def hang(url: str, folder: Path, users: int) -> tuple[int, float]:
    """Hold so many connections open at once; return the memory meanwhile (bytes), and the time to open them.

    Raises:
        FloodmarkError: not all of them were open at once.
    """
    process = psutil.Popen(
        ["taskset", "--cpu-list", str(GENERATOR_CPU), *flood_command(
            url, folder, f"--users={users}", f"--spawn-rate={users}", "--start-spread-ms=1000",
            f"--answer-timeout-s={HANG_S}",
        )],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    memory: list[tuple[int, int]] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.poll() is None:
            memory.append((time.monotonic_ns(), process.memory_info().rss))
            time.sleep(SAMPLE_S)
    with (folder / "requests.0.csv").open(encoding="utf-8", newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row["error"] == "timeout" and row["connected_ns"]]
    if len(rows) != users:
        raise FloodmarkError(f"of {users} connections {len(rows)} were open until the end")
    all_open_ns, first_end_ns = max(int(row["connected_ns"]) for row in rows), min(int(row["end_ns"]) for row in rows)
    held = [rss for t_ns, rss in memory if all_open_ns < t_ns < first_end_ns]
    return max(held), (all_open_ns - min(int(row["start_ns"]) for row in rows)) / 1e9


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _until(condition: Callable[[], bool], timeout_s: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise FloodmarkError(otherwise())
        time.sleep(0.05)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench-load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    console = Console()
    if not shutil.which("nginx"):
        raise SystemExit("floodmark: nginx is what is asked, and it is not installed here: apt-get install nginx-light")
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("floodmark: the generator and nginx need a processor each, and there is one")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # whoever accepts inherits it
    with tempfile.TemporaryDirectory(prefix="floodmark-") as name:
        folder = Path(name)
        nginx = Nginx(folder)
        try:
            figures = list(time_closed_loops(nginx, folder, rounds, console))
            (most,) = (one.value for one in figures if one.name == f"{OURS}, connections kept")
            figures += time_open_loop(nginx, folder, most or 0, rounds, console)
        finally:
            nginx.stop()
        figures += time_two_processes(folder, rounds, console)
        figures += time_hanging(folder, console)
    publish("load", figures, console)


if __name__ == "__main__":
    try:
        main()
    except FloodmarkError as error:
        raise SystemExit(f"floodmark: {error}") from None
