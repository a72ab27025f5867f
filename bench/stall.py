"""Draws what a stall of two seconds looks like to a closed loop and to an open one: docs/stall.svg.

    python -m bench.stall

Two runs of case 1 on the testbed, in each of which the upstream is stopped for two seconds (SIGSTOP, SIGCONT).
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import duckdb
from rich.console import Console

from floodmark.errors import FloodmarkError
from floodmark.paths import ROOT
from floodmark.runs.folders import RESULTS

PICTURE = ROOT / "docs/stall.svg"
DURATION_S = 12
STALL_AFTER_S, STALL_S = 5.0, 2.0
# Both send about 200 a second while nothing is wrong. Queue and slots are large enough to hold who waits.
COMMON = ("case=1", f"duration_s={DURATION_S}", "somaxconn=2048", "worker_connections=8192")
FLOODS = {
    "closed loop: 4 users who send again 20 ms after their answer": (
        "load_shape=sustained", "users=4", "think_time_ms=20",
    ),
    "open loop: 200 requests a second, answered or not": (
        "load_shape=open", "rate=200", "arrivals=constant", "users=2000",
    ),
}  # fmt: skip
WIDTH, PANEL, LEFT, TOP, GAP = 900, 190, 60, 46, 62
GREY, RED, BLUE = "#555", "#c0392b", "#1f77b4"
SLOW_S = 0.5
QUANTILES = {"median": 0.5, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True)
class Panel:
    """What one flood saw: start (s since its first request) and length (s) of each request."""

    title: str
    points: list[tuple[float, float]]

    def quantile(self, share: float) -> float:
        """Return a quantile of the lengths."""
        lengths = sorted(length for _, length in self.points)
        return lengths[int(len(lengths) * share)]


def measure(title: str, parameters: tuple[str, ...]) -> Panel:
    """Make a run, stop its upstream in the middle, and return what its clients saw.

    Raises:
        FloodmarkError: the run failed.
    """
    known = request_logs()
    options = [word for parameter in (*COMMON, *parameters) for word in ("-e", parameter)]
    process = subprocess.Popen(
        [Path(sys.executable).parent / "ansible-playbook", "run-case.yml", *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    stall = threading.Thread(target=stop_the_upstream, args=(known, process))
    stall.start()
    said, _ = process.communicate()
    stall.join()
    logs = request_logs() - known
    if process.returncode != 0 or not logs:
        raise FloodmarkError(f"the run failed:\n{said}")
    (run,) = (log.parents[2] for log in logs)
    requests = run / "proxy1/requests.parquet"
    rows = duckdb.execute(
        f"SELECT (intended_ns - min(intended_ns) OVER ()) / 1e9, (end_ns - intended_ns) / 1e9 FROM '{requests}'"
    ).fetchall()
    return Panel(title, rows)


def request_logs() -> set[Path]:
    """Return the logs of all floods."""
    return set(RESULTS.glob("*/load/proxy1/requests.0.csv"))


def stop_the_upstream(known: set[Path], process: subprocess.Popen[str]) -> None:
    """Wait for the flood, and stop the upstream for a while in its middle."""
    while not any(log.read_bytes().count(b"\n") > 1 for log in request_logs() - known):
        if process.poll() is not None:
            return
        time.sleep(0.05)
    time.sleep(STALL_AFTER_S)
    address = (ROOT / ".testbed/hosts/proxy1/address").read_text(encoding="ascii").strip()
    line = f"systemctl kill -s STOP floodmark-upstream@1; sleep {STALL_S}; systemctl kill -s CONT floodmark-upstream@1"
    subprocess.run(
        ["ssh", "-i", ".testbed/ssh/id_ed25519", "-o", "UserKnownHostsFile=.testbed/ssh/known_hosts",
         f"root@{address}", line],
        cwd=ROOT, check=True,
    )  # fmt: skip


# --- the picture ----------------------------------------------------------------------------------


def draw(panels: list[Panel]) -> str:
    """Return the picture: length of each request over its intended start, on one time axis."""
    most_s = max(length for panel in panels for _, length in panel.points) * 1.1
    height = TOP + len(panels) * (PANEL + GAP)
    title = f"The upstream is stopped for {STALL_S:g} s"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"',
            f' font-size="13" fill="{GREY}"><rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            f'<text x="{LEFT}" y="22" font-size="16" fill="#111">{title}</text>',
            *(_panel(panel, TOP + index * (PANEL + GAP) + 18, most_s) for index, panel in enumerate(panels)),
            "</svg>",
            "",
        ]
    )


def _panel(panel: Panel, top: int, most_s: float) -> str:
    right, bottom, middle = WIDTH - 20, top + PANEL, top + PANEL // 2

    def x(start_s: float) -> int:
        return LEFT + round(start_s / (DURATION_S + 0.5) * (right - LEFT))

    def y(length_s: float) -> int:
        return bottom - round(length_s / most_s * PANEL)

    slow = sum(length > SLOW_S for _, length in panel.points)
    quantiles = ", ".join(f"{name} {_in_words(panel.quantile(share))}" for name, share in QUANTILES.items())
    note = f"n = {len(panel.points)}; {slow} took more than {SLOW_S} s; {quantiles}"
    # Many requests are one dot.
    dots = sorted({(x(start), y(length), length > SLOW_S) for start, length in panel.points})
    parts = [
        f'<text x="{LEFT}" y="{top - 8}"><tspan font-weight="bold" fill="#111">{escape(panel.title)}</tspan>',
        f'<tspan dx="10">{note}</tspan></text>',
        f'<path d="M{LEFT} {top}V{bottom}H{right}" fill="none" stroke="#888"/>',
        f'<text x="14" y="{middle}" transform="rotate(-90 14 {middle})" text-anchor="middle">took (s)</text>',
        f'<text x="{right}" y="{bottom + 34}" text-anchor="end">intended start (s)</text>',
    ]
    for second in range(int(most_s) + 1):
        parts.append(f'<text x="{LEFT - 8}" y="{y(second) + 4}" text-anchor="end">{second}</text>')
        parts.append(f'<path d="M{LEFT} {y(second)}H{right}" stroke="#ddd"/>')
    parts += [
        f'<text x="{x(second)}" y="{bottom + 18}" text-anchor="middle">{second}</text>'
        for second in range(0, DURATION_S + 1, 2)
    ]
    parts += [f'<circle cx="{at}" cy="{high}" r="2" fill="{RED if late else BLUE}"/>' for at, high, late in dots]
    return "\n".join(parts)


def _in_words(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"


def main() -> None:
    """Make the runs and draw them."""
    console = Console()
    panels = []
    for title, parameters in FLOODS.items():
        console.print(title)
        panels.append(measure(title, parameters))
    PICTURE.write_text(draw(panels), encoding="utf-8")
    figures = {panel.title: {"n": len(panel.points), "p99_s": round(panel.quantile(0.99), 3)} for panel in panels}
    console.print_json(json.dumps(figures))
    console.print(f"written to {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
