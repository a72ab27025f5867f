"""Other ways to look at the accept queue of a unix listener: what a user would pick, and what it sees.

What the blind ones show was found out on Debian 12, with 23 connections in the queue of a unix listener and 23 in
that of a TCP listener. Nothing is installed here: a program that is missing is named with its package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from bench.figures import Figure

Look = Callable[[], "int | None"]

PCP_AGENT = Path("/var/lib/pcp/pmdas/sockets/pmda_sockets.so")
PCP_NAMES = "root { network }\nnetwork { persocket }\nnetwork.persocket { recvq 154:1:2 }\n"


@dataclass(frozen=True)
class Program:
    """A program that Debian packages.

    Attributes:
        name: in the figures.
        command: what is started.
        package: that it comes with.
        prepare: path of a listener -> what looks once; None when it cannot see the depth.
        note: what else is to be known, or what it shows instead.
    """

    name: str
    command: str
    package: str
    prepare: Callable[[str], Look] | None
    note: str = ""


def other_looks(path: str) -> dict[str, Look]:
    """Return name -> what looks once, for all that is there; it returns the depth of the queue where it sees one."""
    looks: dict[str, Look] = {
        "straightforward parser": partial(parse_plainly, path),
        "psutil": partial(ask_psutil, path),
    }
    for program in PROGRAMS:
        if program.prepare and shutil.which(program.command):
            looks[program.name] = program.prepare(path)
    return looks


def note_on(name: str) -> str:
    """Return what is to be known of a contender beside its time."""
    return NOTES.get(name, "")


def without_time() -> list[Figure]:
    """Return a figure without a value for each program that is missing or cannot see the depth."""
    figures = []
    for program in PROGRAMS:
        if program.prepare is None:
            figures.append(Figure(program.name, None, "µs", n=0, note=f"cannot see it; shows {program.note}"))
        elif not shutil.which(program.command):
            note = f"not installed: apt-get install {program.package}"
            figures.append(Figure(program.name, None, "µs", n=0, note=note))
    return figures


def parse_plainly(path: str) -> int:
    """Count as one would at first."""
    depth = 0
    with Path("/proc/net/unix").open(encoding="utf-8") as file:
        next(file)
        for line in file:
            fields = line.split()
            if len(fields) == 8 and fields[7] == path and fields[5] == "02":
                depth += 1
    return depth


def ask_psutil(path: str) -> None:
    """Let psutil list all unix sockets."""
    sum(str(connection.laddr) == path for connection in psutil.net_connections("unix"))


def ask_ss(path: str) -> int:
    """Start ss(8) and take its Recv-Q."""
    # u_str LISTEN 23     64     /tmp/…/s 31213            * 0
    return int(_output(["ss", "-Hxl", "src", path]).split()[2])


def ask_netstat(path: str) -> int:
    """Start netstat(8) and count what it calls connecting; it shows no queue, but the connections in it."""
    # unix  3      [ ]         STREAM     CONNECTING    0        /tmp/…/s
    rows = _output(["netstat", "-xa"]).splitlines()
    return sum(row.rstrip().endswith(f" {path}") and " CONNECTING " in row for row in rows)


def prepare_pcp(path: str) -> Look:
    """Return what lets pminfo(1) load PCP's agent for sockets and print their receive queues.

    No daemon is needed for that, only a folder with the agent's filter and the name of the metric.
    """
    folder = Path(path).parent
    names = folder / "names"
    names.write_text(PCP_NAMES, encoding="ascii")
    # The agent passes its filter on to ss, which takes options there too: without -x it shows no unix socket.
    (folder / "sockets").mkdir()
    (folder / "sockets" / "filter.conf").write_text("-x -l\n", encoding="ascii")
    agent = f"add,154,{PCP_AGENT},sockets_init"
    command = ["pminfo", "-L", "-K", "clear", "-K", agent, "-n", str(names), "-f", "network.persocket.recvq"]
    #     inst [3 or "u_str//tmp/…/s"] value 23
    row = re.compile(rf'"u_str/{re.escape(path)}"\] value (\d+)')

    def ask_pcp() -> int | None:
        # The agent calls ss with -e, for which the kernel lists the queue in one message, or leaves the listener out.
        found = row.search(_output(command, PCP_SYSCONF_DIR=str(folder)))
        return int(found[1]) if found else None

    return ask_pcp


def _output(command: list[str], **variables: str) -> str:
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


PROGRAMS = (
    Program("ss -xl", "ss", "iproute2", lambda path: partial(ask_ss, path)),
    Program(
        "netstat -xa", "netstat", "net-tools", lambda path: partial(ask_netstat, path), "counts rows, has no limit"
    ),
    Program(
        "PCP", "pminfo", "pcp", prepare_pcp, "starts ss itself; sees TCP alone unless told -x -l, then queues up to 919"
    ),
    Program("lsof -U", "lsof", "lsof", None, "descriptors, and what waits in the queue has none yet"),
    Program(
        "node_exporter",
        "prometheus-node-exporter",
        "prometheus-node-exporter",
        None,
        "numbers of sockets, none of unix ones; overflows of all TCP listeners together",
    ),
    Program(
        "netdata",
        "netdata",
        "netdata-core",
        None,
        "numbers of sockets, by program too; overflows of all TCP listeners together",
    ),
    Program("collectd", "collectd", "collectd-core", None, "TCP by port and state, where what waits is ESTABLISHED"),
    Program("sar -n SOCK", "sar", "sysstat", None, "numbers of sockets, of unix ones only within the total"),
    Program("atop", "atop", "atop", None, "TCP and UDP packets and connections, nothing of unix sockets"),
)
NOTES = {
    "psutil": "lists unix sockets without state and queue",
    **{program.name: program.note for program in PROGRAMS if program.prepare},
}
