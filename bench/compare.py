"""What a comparison of 200 runs takes, and its bootstrap beside the straightforward ones.

    make bench-compare

The runs are made up, each of a boot of its own, which is the most work that 200 runs can be. All metrics are measured
in each. The time is that of the whole command, from its start to the table.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.stats import bootstrap

from bench.figures import Figure, publish, quartiles
from floodmark.compare import stats
from floodmark.compare.effects import DRAWS
from floodmark.compare.model import METRICS
from tests.floodmark.made_up_runs import MadeUpRuns

RUNS = 200
# The target is 5 s for ten metrics.
TARGET_S = 5 * len(METRICS) / 10
# Differences that a straightforward way holds in memory at once.
CHUNK = 5_000_000


def make_runs(results: Path) -> list[str]:
    """Write the runs: two kernels, all metrics with noise of 5 %, and return their paths."""
    made = MadeUpRuns(results)
    random = np.random.default_rng(1)
    return [
        made.add(
            {"kernel.release": ("6.1.0", "6.12.0")[number % 2]},
            {"load_shape": "sustained"},
            {one.name: float(random.normal(1, 0.05)) for one in METRICS} | {"flood_s": float(random.normal(10, 0.5))},
        )
        for number in range(RUNS)
    ]


def time_command(runs: list[str]) -> float:
    """Return how long `floodmark compare` takes, in seconds."""
    start = time.perf_counter()
    subprocess.run(["floodmark", "compare", *runs, "--by", "kernel"], check=True, capture_output=True)
    return time.perf_counter() - start


def ways(a: stats.Numbers, b: stats.Numbers) -> dict[str, Callable[[], object]]:
    """Return name -> a way to draw the shifts of two arms."""
    rows = min(DRAWS, CHUNK // (a.size * b.size))

    def all_pairs() -> object:
        random = np.random.default_rng(1)
        medians = []
        for _ in range(DRAWS // rows):
            drawn_a = a[random.integers(a.size, size=(rows, 1, a.size))]
            drawn_b = b[random.integers(b.size, size=(rows, b.size, 1))]
            medians.append(np.median((drawn_b - drawn_a).reshape(rows, -1), axis=1))
        return np.concatenate(medians)

    def shift(a: stats.Numbers, b: stats.Numbers, axis: int) -> stats.Numbers:
        pairs = np.moveaxis(b, axis, -1)[..., :, None] - np.moveaxis(a, axis, -1)[..., None, :]
        return np.asarray(np.median(pairs.reshape(*pairs.shape[:-2], -1), axis=-1))

    return {
        "floodmark.compare.stats": lambda: stats.bootstrap_shifts(a, b, DRAWS, 1),
        "numpy, median of all pairs": all_pairs,
        "scipy.stats.bootstrap": lambda: bootstrap(
            (a, b), shift, n_resamples=DRAWS, batch=rows, vectorized=True, method="percentile"
        ),
    }


def time_ways(units: int, rounds: int, console: Console) -> list[Figure]:
    """Time the ways by turns, and return them with the ratios."""
    random = np.random.default_rng(1)
    contenders = ways(random.normal(size=units), random.normal(size=units))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        console.print(f"{units} boots in each arm: round {number + 1} of {rounds}", end="\r")
        for name, way in contenders.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    console.print(" " * 60, end="\r")
    ours, *others = times
    what = f"{DRAWS:,} draws, {units} boots in each arm"
    return [
        *(quartiles(f"{what}: {name}", values, "s") for name, values in times.items()),
        *(
            quartiles(f"{what}: {ours} / {name}", [x / y for x, y in zip(times[ours], times[name], strict=True)], "")
            for name in others
        ),
    ]


def main() -> None:
    """Measure everything and publish it."""
    parser = argparse.ArgumentParser(prog="make bench-compare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="floodmark-") as folder:
        runs = make_runs(Path(folder))
        times = [time_command(runs) for _ in range(options.rounds)]
    whole = quartiles(
        f"floodmark compare: {RUNS} runs × {len(METRICS)} metrics, {DRAWS:,} draws", times, "s", target=TARGET_S
    )
    publish(
        "compare", [whole, *time_ways(10, options.rounds, console), *time_ways(100, options.rounds, console)], console
    )


if __name__ == "__main__":
    main()
