"""Follows every connection through the upstream's accept queue, by bpftrace: when it came and when it was accepted.

    python3 -m collectors.trace /etc/floodmark/agent.json

A service of its own, because tracing the kernel takes rights that the agent does not have. bpftrace keeps the
moment at which a connection came in a map of the kernel and reports it with the moment of accept(), so that nothing
depends on the order in which events of several processors arrive. Where the kernel cannot be traced the table
queue_waits has one row that says why.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from collectors import fields
from collectors.config import Listener, read_config
from collectors.errors import Unreadable
from collectors.loop import READABLE, Loop
from collectors.output import Output, OutputError, TableWriter
from collectors.systemd import notify
from collectors.timer import Timer

HAND_OVER_INTERVAL_NS = 100_000_000
INSIST_AFTER_NS = 1_000_000_000
# Connections that may wait at the same time, and the longest path of a unix socket; bpftrace renamed its settings.
ENVIRONMENT = {
    **dict.fromkeys(("BPFTRACE_MAP_KEYS_MAX", "BPFTRACE_MAX_MAP_KEYS"), "65536"),
    **dict.fromkeys(("BPFTRACE_STRLEN", "BPFTRACE_MAX_STRLEN"), "108"),
}
# struct unix_address { refcount_t refcnt; int len; struct sockaddr_un name[]; }, include/net/af_unix.h;
# struct sockaddr_un { sa_family_t family; char path[108]; }
PATH_OFFSET = 4 + 4 + 2

# Both functions are called for every connection, with plain arguments, and have been for many years:
# security_unix_stream_connect(client, listener, new) just before unix_stream_connect() puts the new socket into the
# queue, after the last check that can refuse it (net/unix/af_unix.c); security_sock_graft(sock, socket) when accept()
# has taken a socket from the queue of either family (sock_graft, include/net/sock.h).
# kprobes, because with fentry one connection of 247 went unseen, and with these none of 8,000: a BPF program of fentry
# can be preempted, and is then left out for the next caller (prog->active in kernel/bpf/trampoline.c).
UNIX_PROBES = """
kprobe:security_unix_stream_connect
/ str(kptr((uint64)((struct unix_sock *)arg1)->addr + {offset})) == "{path}" /
{{ @came[arg2] = nsecs; }}
kprobe:security_sock_graft
/ ((struct sock *)arg0)->__sk_common.skc_family == {family} &&
  str(kptr((uint64)((struct unix_sock *)arg0)->addr + {offset})) == "{path}" /
{{ printf("%llu %llu\\n", @came[arg0], nsecs); delete(@came[arg0]); }}
"""
# inet_csk_complete_hashdance(listener, child, request, own) puts the child into the queue when the last ACK of its
# handshake has come; without own another processor has done so (net/ipv4/inet_connection_sock.c).
TCP_PROBES = """
kprobe:inet_csk_complete_hashdance
/ (uint8)arg3 && ((struct sock *)arg0)->__sk_common.skc_num == {port} &&
  ((struct sock *)arg0)->__sk_common.skc_net.net->ns.inum == {namespace} /
{{ @came[arg1] = nsecs; }}
kprobe:security_sock_graft
/ ((struct sock *)arg0)->__sk_common.skc_family == {family} &&
  ((struct sock *)arg0)->__sk_common.skc_num == {port} &&
  ((struct sock *)arg0)->__sk_common.skc_net.net->ns.inum == {namespace} /
{{ printf("%llu %llu\\n", @came[arg0], nsecs); delete(@came[arg0]); }}
"""
READY = "ready"
BEGIN = f'BEGIN {{ printf("{READY}\\n"); }}'

# 53151689273 53205616576
_ACCEPTED = re.compile(r"(\d+) (\d+)")
# @came[0xff30dc7f821e6c00]: 53153539364
_WAITING = re.compile(r"@came\[.*\]: (\d+)")
# Lost 12 events
_LOST = re.compile(r"Lost (\d+) events")
STILL_WAITING = "not accepted before the trace ended"
ARRIVAL_UNSEEN = "accepted, but it was not seen when it came"


def program(listener: Listener, namespace: int) -> str:
    """Return the text of the bpftrace program for a listener.

    Args:
        listener: the upstream's; the path of an abstract one begins with @.
        namespace: inode of the network namespace that a TCP port belongs to.
    """
    if listener.transport == "tcp":
        return BEGIN + TCP_PROBES.format(family=int(socket.AF_INET), port=listener.port, namespace=namespace)
    abstract = listener.path.startswith("@")
    path = listener.path[abstract:].replace("\\", "\\\\").replace('"', '\\"')
    return BEGIN + UNIX_PROBES.format(family=int(socket.AF_UNIX), path=path, offset=PATH_OFFSET + abstract)


class Trace:
    """One bpftrace and the table that its lines go to.

    Args:
        text: the program.
        table: queue_waits.
    """

    def __init__(self, text: str, table: TableWriter) -> None:
        self._table = table
        self._rest = b""
        self._said: list[str] = []
        self._asked_ns = 0
        try:
            self._process = subprocess.Popen(
                ["bpftrace", "-e", text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env={**os.environ, **ENVIRONMENT},
            )  # fmt: skip
        except FileNotFoundError:
            raise Unreadable("bpftrace is not installed on this host") from None

    @property
    def fd(self) -> int:
        """What bpftrace prints."""
        assert self._process.stdout
        return self._process.stdout.fileno()

    def wait_until_ready(self) -> None:
        """Wait until every probe is attached.

        Raises:
            Unreadable: this kernel cannot be traced, or not by us; with what bpftrace says.
        """
        while READY not in self._said:
            if not self.read():
                raise Unreadable(f"bpftrace: {self._complaint()}")

    def read(self) -> bool:
        """Take what bpftrace has printed; tell whether more may come."""
        data = os.read(self.fd, 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace").strip())
        return bool(data)

    def _take(self, line: str) -> None:
        if found := _ACCEPTED.fullmatch(line):
            came_ns, accepted_ns = map(int, found.groups())
            if came_ns:
                self._table.add((came_ns, accepted_ns, accepted_ns - came_ns, None))
            else:
                self._table.add((None, accepted_ns, None, ARRIVAL_UNSEEN))
        elif found := _WAITING.fullmatch(line):
            self._table.add_failure(int(found.group(1)), STILL_WAITING)
        elif found := _LOST.search(line):
            self._table.add_failure(time.monotonic_ns(), f"{found.group(1)} events were lost: bpftrace was too slow")
        elif line:
            self._said.append(line)

    def _complaint(self) -> str:
        """Return the first error that bpftrace has printed."""
        # stdin:1:1-26: ERROR: kfunc/kretfunc not available for your kernel version.
        errors = [line.partition("ERROR: ")[2] for line in self._said if "ERROR: " in line]
        return (errors or self._said or ["it ended and said nothing"])[0]

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Let bpftrace print what still waits, and end."""
        self._asked_ns = time.monotonic_ns()
        self._process.send_signal(signal.SIGINT)

    def insist(self) -> None:
        """Ask again when it was asked a while ago.

        bpftrace notices a signal only when that interrupts its epoll_wait(), and overlooks one that comes while it
        handles events (BPFtrace::poll_perf_events of version 0.17).
        """
        if self._asked_ns and time.monotonic_ns() - self._asked_ns > INSIST_AFTER_NS:
            self.stop(signal.SIGTERM, None)

    def close(self) -> None:
        """Wait until bpftrace has ended; note it if that was by itself, or before it had printed all."""
        with self._process:
            pass
        if not self._asked_ns or self._process.returncode:
            why = f"bpftrace ended with status {self._process.returncode}: {self._complaint()}"
            self._table.add_failure(time.monotonic_ns(), why)


def follow(trace: Trace, output: Output) -> None:
    """Write what is traced until bpftrace ends."""
    loop = Loop()
    timer = Timer(HAND_OVER_INTERVAL_NS)
    timer.start(time.monotonic_ns() + HAND_OVER_INTERVAL_NS)

    def hand_over() -> None:
        timer.last_due()
        output.hand_over()
        trace.insist()

    def read() -> None:
        if not trace.read():
            loop.stop()

    loop.watch(timer.fd, READABLE, hand_over)
    loop.watch(trace.fd, READABLE, read)
    loop.run()
    trace.close()


def main() -> int:
    """Trace until SIGTERM; the status is 1 when the table could not be written."""
    parser = argparse.ArgumentParser(prog="collectors.trace", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path, help="agent.json")
    config = read_config(parser.parse_args().config)
    try:
        output = Output(config.output, record="written-trace.json", most_bytes=config.most_bytes.get("trace", 0))
        table = output.table(fields.QUEUE_WAITS)
        try:
            trace = Trace(program(config.upstream, Path("/proc/self/ns/net").stat().st_ino), table)
            signal.signal(signal.SIGTERM, trace.stop)
            signal.signal(signal.SIGINT, trace.stop)
            trace.wait_until_ready()
        except Unreadable as why:
            table.add_failure(time.monotonic_ns(), str(why))
            notify("READY=1")
        else:
            notify("READY=1")
            follow(trace, output)
        output.close()
    except (OutputError, OSError) as error:
        print(f"floodmark trace: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
