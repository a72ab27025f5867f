"""What hosts with a kernel of their own cost, how far virtual time repeats itself, and the long suite.

    make bench-kernels                         all of it: hours; given again, suites go on where they were ended
    make bench-kernels ARGS='--only hosts'     some minutes

Hosts are started by turns, without a disk and with one, until they are provisioned for a case.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import time
from collections.abc import Iterator

import psutil
from rich.console import Console

from bench.figures import Figure, publish, quartiles
from floodmark.paths import ROOT

HOSTS = ("linux61", "linux612")
INVENTORY = "inventory/kernels.yml"
SUITE = "suites/kernels.yml"
VIRTUAL_SUITE = "suites/virtual.yml"
# ✓ provision    24.5 s  nothing to do
STEP = re.compile(r"^[✓✗] (\S+) +([0-9.]+) s", re.MULTILINE)
MIB = 1 << 20


def run(*command: str) -> str:
    """Return what a command prints; it must succeed."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def provisioned_s(host: str, *options: str) -> float:
    """Make a run on one host, and return how long it took until the host was ready for its case (s)."""
    limit = f"{host},load_generators,localhost"
    said = run("ansible-playbook", "run-case.yml", "-i", INVENTORY, "--limit", limit, "-e", "case=1", *options)
    steps = dict(STEP.findall(said))
    return float(steps["testbed"]) + float(steps["provision"])


def memory_mb(host: str) -> float:
    """Return how much memory of this machine a host holds, its pages shared with nobody (MiB)."""
    (machine,) = (
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"].startswith("qemu-system") and f"-{host}" in " ".join(process.info["cmdline"])
    )
    return float(machine.memory_info().rss / MIB)


def measure_hosts(rounds: int, console: Console) -> list[Figure]:
    """Start each host without a disk and with one, by turns."""
    times: dict[str, list[float]] = {"without its disk": [], "with its disk": []}
    memory: list[float] = []
    for number in range(rounds):
        for host in HOSTS:
            console.print(f"round {number + 1} of {rounds}: {host}", highlight=False)
            run("ansible-playbook", "playbooks/testbed-down.yml", "-i", INVENTORY)
            times["without its disk"].append(provisioned_s(host))
            times["with its disk"].append(provisioned_s(host, "-e", "testbed_boot=fresh"))
            memory.append(memory_mb(host))
    run("ansible-playbook", "playbooks/testbed-down.yml", "-i", INVENTORY)
    name = "one host, from a ready tree until provisioned for a case"
    return [
        quartiles(f"{name}, without its disk", times["without its disk"], "s", target=90),
        quartiles(f"{name}, with its disk", times["with its disk"], "s", target=40),
        quartiles("memory of one host", memory, "MiB", target=700),
    ]


def make_suite(file: str, console: Console) -> None:
    """Make the runs of a suite, or go on with it; a run that is not valid is in what is compared afterwards."""
    console.print(f"[bold]floodmark suite {file}[/]", highlight=False)
    begun = time.monotonic()
    status = subprocess.run(["floodmark", "suite", file], cwd=ROOT, check=False).returncode
    if status not in (0, 1):
        raise SystemExit(status)  # it has said why
    console.print(f"[dim]{time.monotonic() - begun:,.0f} s[/]", highlight=False)


def measure_virtual_time(console: Console) -> Iterator[Figure]:
    """Yield how far the boots of one kernel are apart, for each kernel and metric."""
    make_suite(VIRTUAL_SUITE, console)
    compared = run(
        "floodmark", "compare", "--suite", VIRTUAL_SUITE, "--by", "kernel", "--allow", "kernel_config", "--json"
    )
    for group, comparison in json.loads(compared)["groups"].items():
        for metric in comparison["metrics"]:
            for kernel, summary in metric["summaries"].items():
                values = summary["values"]
                spread = (max(values) - min(values)) / statistics.median(values) * 100
                yield Figure(
                    f"{group}, {metric['name']}, {kernel}: largest less smallest of its boots",
                    float(f"{spread:.2g}"),
                    "%",
                    n=len(values),
                    target=0.1,
                )


def main() -> None:
    """Measure everything and publish it."""
    parser = argparse.ArgumentParser(prog="make bench-kernels", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=["hosts", "virtual", "suite"], help="only this part")
    parser.add_argument("--rounds", type=int, default=3, help="how often each host is started")
    options = parser.parse_args()
    console = Console()
    figures: list[Figure] = []
    if options.only in (None, "hosts"):
        figures += measure_hosts(options.rounds, console)
    if options.only in (None, "virtual"):
        figures += measure_virtual_time(console)
    if figures:
        publish("kernels", figures, console)
    if options.only in (None, "suite"):
        make_suite(SUITE, console)
        subprocess.run(
            ["floodmark", "compare", "--suite", SUITE, "--by", "kernel", "--allow", "kernel_config"],
            cwd=ROOT,
            check=True,
        )


if __name__ == "__main__":
    main()
