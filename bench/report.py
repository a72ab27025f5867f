"""What it takes from what the hosts wrote to a report, and until a browser has drawn it.

    make bench-report

Two runs are made up as a host and a load generator write them: a minute of 1 kHz with 100,000 requests, and ten million
samples, which 1 kHz gives in 53 minutes, with a million requests. The time is that of the whole command
`floodmark judge`: unpack, ingest, judge, draw. Samples are rows of all sampled tables. Processor time is what tells
something on a machine that has other work too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb
from playwright.sync_api import sync_playwright
from rich.console import Console

from bench.figures import Figure, publish, quartiles
from collectors.fields import REQUESTS, SOURCES
from floodmark.inputs.cases import load_cases
from floodmark.inputs.parameters import resolve_parameters
from floodmark.model.stored import write_json
from floodmark.runs.archive import write_checksum
from floodmark.runs.folders import REPORT, RunFolder
from floodmark.values import ParameterValues

S = 1_000_000_000
WALL_NS = 1_795_000_000 * S
BASELINE_S = DRAIN_S = 2
WORKERS = 2
# A queue that rises and falls all the time is the most that there can be to draw.
DEPTH = "CAST(3 + 3 * sin(i / 97.0) + 3 * random() AS INTEGER)"

# When the frame after the next one begins, the next one has been drawn.
AFTER_A_FRAME = """
    new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))
"""


@dataclass(frozen=True)
class Size:
    """One made-up run, and what it may take at most."""

    name: str
    length_s: int
    requests: int
    judge_s: float
    peak_gb: float
    drawn_s: float | None

    @property
    def sending_s(self) -> int:
        """From the first request to the last; it ends within the second after that."""
        return self.length_s - BASELINE_S - DRAIN_S - 1


SIZES = (
    Size("60 s, 100,000 requests", 60, 100_000, 6, 2, 1.5),
    Size("10 million samples, 1 million requests", 3210, 1_000_000, 30, 2, None),
)


# --- made-up runs -------------------------------------------------------------------------------------


def make_run(results: Path, size: Size) -> RunFolder:
    """Write a run of case 1 up to the point where it would be judged, and return it."""
    case = load_cases()[1]
    given: ParameterValues = {"load_shape": "sustained", "users": 100, "duration_s": min(size.sending_s, 3600)}
    parameters = resolve_parameters(case.parameters.model_dump(), given, origin="bench")
    run = RunFolder(results / f"20260101T{size.length_s:06}Z-case1-unix")
    host, load = run.host("proxy1"), run.load("proxy1")
    host.archive.parent.mkdir(parents=True)
    load.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=results) as name:
        raw = Path(name)
        _write_samples(raw, size, parameters.rates_hz)
        _write_logs(raw, size, run.run_id)
        _write_host(raw)
        with tarfile.open(host.archive, "w:gz", compresslevel=1) as archive:
            for path in sorted(raw.iterdir()):
                archive.add(path, path.name)
        write_checksum(host.archive, hashlib.sha256(host.archive.read_bytes()).hexdigest())
    _write_requests(load, size, run.run_id)
    write_json(run.plan, {
        "run_id": run.run_id,
        "case": case.model_dump(mode="json", by_alias=True, exclude={"parameters"}),
        "parameters": parameters.model_dump(),
        "hosts": {"proxies": ["proxy1"], "load_generators": ["localhost"], "testbed": ["proxy1"]},
    })  # fmt: skip
    return run


def _write_samples(raw: Path, size: Size, rates_hz: dict[str, int]) -> None:
    values = {
        "accept_queue": f"l, CASE l WHEN 'upstream' THEN {DEPTH} ELSE 0 END, CASE l WHEN 'front' THEN 4096 ELSE 8 END, "
        "'unix_diag'",
        "unix_states": "0, 1, i % 9, i % 5, 0, 0, 1, i % 9, i % 5, 0",
        "upstream_conns": "i % 5, 0, i % 9, 0",
        "stub_status": "1 + i % 14, i % 14, 0, 1, 0, i, i, i",
        "process": "CASE l WHEN 1 THEN 'nginx-master' WHEN 4 THEN 'upstream' ELSE 'nginx-worker' END, 100 + l, 12e6, "
        "3500000 + i % 999, 1200000 + i % 999, 800000, 20, 15, 0, 0, 1, i / 100.0, i, i",
        "tcp_ext": "0, 0, 0, 0, 0, 0",
        "socket_memory": "40 + i % 9, 0, 3, 0, 0",
        "machine": "i / 100.0, 0, i / 100.0, i / 5.0, 0, 0, 0, 0, i * 100, 0.5, i, 0, 0, 0, 0, i * 1000, NULL, NULL, "
        f"{WALL_NS}, 0",
    }  # fmt: skip
    rows_of_one = {"accept_queue": "(VALUES ('upstream'), ('front')) x(l)", "process": "range(1, 5) x(l)"}
    beats = []
    for table in (one for one in SOURCES if one.name != "agent"):
        hz = rates_hz[table.name]
        ticks = f"range({size.length_s * hz}) t(i)"
        source = f"{ticks} CROSS JOIN {rows_of_one.get(table.name, '(SELECT 0) x(l)')}"
        at = f"{S} + CAST(i * {S / hz} + random() * 20000 AS BIGINT)"
        query = f"SELECT {at} AS t, {values[table.name]}, NULL FROM {source} ORDER BY t"
        _copy(raw / f"{table.name}.csv", table.columns, query)
        late = "CAST(random() * 50000 AS BIGINT)"
        beats.append(f"SELECT {at} AS t, '{table.name}', {late}, 30000, 0, NULL::DOUBLE, NULL FROM {ticks}")
    cost = f"SELECT {S} + i * {S // 10}, 'agent', NULL, NULL, NULL, 0.005, NULL FROM range({size.length_s * 10}) t(i)"
    beats.append(cost)
    agent = next(table for table in SOURCES if table.name == "agent")
    _copy(raw / "agent.csv", agent.columns, f"SELECT * FROM ({' UNION ALL '.join(beats)}) ORDER BY 1")


def _copy(path: Path, columns: tuple[str, ...], query: str) -> None:
    names = ", ".join(columns)
    duckdb.execute(f"COPY (SELECT * FROM ({query}) made({names})) TO '{path}' (FORMAT csv, HEADER)")


def _times(size: Size) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, start and end of each request in ns of the monotonic clock, and its status."""
    for number in range(size.requests):
        start_ns = (1 + BASELINE_S) * S + int(number / size.requests * size.sending_s * S)
        # From half a millisecond to half a second, most of them short.
        took_ns = 500_000 + (number * 7919 % 1000) ** 3 // 2
        yield number, start_ns, start_ns + took_ns, 502 if number % 97 == 0 else 200


def _write_logs(raw: Path, size: Size, run_id: str) -> None:
    with (raw / "nginx-access.log").open("w") as access, (raw / "nginx-error.log").open("w") as errors:
        for number, start_ns, end_ns, status in _times(size):
            logged_s, took_s = (WALL_NS + end_ns) / S, max((end_ns - start_ns) / S - 0.0005, 0)
            access.write(
                f'{{"id":"{run_id}/{number}","msec":"{logged_s:.3f}","pid":"{102 + number % WORKERS}",'
                f'"status":"{status}","bytes_sent":"316","request_time":"{took_s:.3f}","upstream_connect_time":"0.000",'
                f'"upstream_header_time":"{took_s:.3f}","upstream_response_time":"{took_s:.3f}",'
                f'"upstream_status":"{status}"}}\n'
            )
            if status == 502:
                second = time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime((WALL_NS + end_ns) // S))
                errors.write(
                    f"{second} [error] 102#102: *{number} connect() to unix:/u.sock failed (11: Resource temporarily "
                    "unavailable) while connecting to upstream, client: 198.18.7.1\n"
                )


def _write_host(raw: Path) -> None:
    listeners = [
        {"name": "upstream", "transport": "unix", "address": "/u.sock", "limit_conns": 8, "owner": "python3"},
        {"name": "front", "transport": "tcp", "address": "port 8080", "limit_conns": 4096, "owner": "nginx"},
    ]
    clocks = {"wall_minus_monotonic_ns": WALL_NS, "utc_offset_s": 0}
    host = {"kernel": {"release": "made up"}, "clocks": clocks, "listeners": listeners}
    (raw / "host.json").write_text(json.dumps(host))


def _write_requests(load: Path, size: Size, run_id: str) -> None:
    with (load / "requests.0.csv").open("w") as file:
        file.write(",".join(REQUESTS.columns) + "\n")
        for number, start_ns, end_ns, status in _times(size):
            times = (start_ns - 20_000, start_ns, start_ns + 90_000, end_ns - 10_000, end_ns)
            file.write(f"0,{run_id}/{number},{','.join(map(str, times))},{status},,,16\n")
    wrote = {"wall_minus_monotonic_ns": WALL_NS, "unfinished": 0, "dropped": 0, "generator": 0, "generators": 1,
             "cpu_s": 1.0, "cpu_warning": False}  # fmt: skip
    write_json(load / "load.0.json", wrote)


# --- measurements -------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What a command took."""

    wall_s: float
    cpu_s: float
    peak_gb: float


def time_command(*arguments: str) -> Cost:
    """Return what a floodmark command takes."""
    start = time.perf_counter()
    process = subprocess.Popen(["floodmark", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, used = os.wait4(process.pid, 0)
    took_s = time.perf_counter() - start
    assert process.stderr
    complaint = process.stderr.read().decode()
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode > 1 or complaint:  # 1: the made-up run has not passed
        sys.exit(complaint or f"floodmark ended with {process.returncode}")
    return Cost(took_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9)


def drawn_after_s(page: Path, rounds: int) -> list[float]:
    """Return how long a browser takes from opening a page until a frame with all charts is there, in seconds."""
    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(rounds):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.as_uri())
            frame = (
                "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
            )
            times.append(tab.evaluate(frame) / 1000)
            assert tab.locator("canvas").count() > 0
            tab.close()
        browser.close()
    return times


@contextmanager
def made_up(size: Size, console: Console) -> Iterator[RunFolder]:
    """Give a run, and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="floodmark-") as folder:
        console.print(f"making a run: {size.name}", end="\r")
        yield make_run(Path(folder), size)


def measure(size: Size, rounds: int, console: Console) -> list[Figure]:
    """Measure one size."""
    with made_up(size, console) as run:
        judged = [time_command("judge", "--quiet", f"{run.path}/") for _ in range(rounds)]
        drawn = [time_command("report", f"{run.path}/") for _ in range(rounds)]
        page = run.path / REPORT
        shown = drawn_after_s(page, rounds)
        megabytes = page.stat().st_size / 1e6
        samples = duckdb.execute(
            " UNION ALL ".join(f"SELECT count(*) AS n FROM '{run.host('proxy1').table(one.name)}'" for one in SOURCES)
        ).fetchall()
    name = f"{size.name}:"
    return [
        Figure(f"{name} samples", sum(row[0] for row in samples), ""),
        quartiles(f"{name} ingest, judge, report", [one.wall_s for one in judged], "s", target=size.judge_s),
        quartiles(f"{name} processor time of that", [one.cpu_s for one in judged], "s"),
        quartiles(f"{name} peak memory of that", [one.peak_gb for one in judged], "GB", target=size.peak_gb),
        quartiles(f"{name} report alone", [one.wall_s for one in drawn], "s"),
        quartiles(f"{name} processor time of that alone", [one.cpu_s for one in drawn], "s"),
        quartiles(f"{name} peak memory of that alone", [one.peak_gb for one in drawn], "GB"),
        Figure(f"{name} report.html", round(megabytes, 3), "MB", target=3),
        quartiles(f"{name} drawn by Chromium", shown, "s", target=size.drawn_s),
    ]


def main() -> None:
    """Measure everything and publish it."""
    parser = argparse.ArgumentParser(prog="make bench-report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--small", action="store_true", help="the minute alone")
    options = parser.parse_args()
    console = Console()
    sizes = SIZES[:1] if options.small else SIZES
    publish("report", [one for size in sizes for one in measure(size, options.rounds, console)], console)


if __name__ == "__main__":
    main()
