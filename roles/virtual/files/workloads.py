#!/usr/bin/python3
"""Counts what one operation costs in instructions, in a virtual machine whose clock counts them.

    workloads.py virtual.json FOLDER

Under `-icount shift=0` QEMU's clock advances by one nanosecond for each instruction, so a time is a count. An
operation is done over and over in windows, which begin and end at a timer tick: the kernel frees what was closed in the
tick (RCU), and a window that held one tick more would count another share of that work. The folder gets
windows.csv, and workloads.json with all that was seen besides.

What is counted is all that the only processor did meanwhile: this client, nginx and the upstream where they
take part, and the kernel.
"""

from __future__ import annotations

import _socket  # the class around it would cost as many instructions as the call to the kernel
import csv
import ctypes
import errno
import gc
import json
import mmap
import os
import resource
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Callable

UNIX, TCP, STREAM = _socket.AF_UNIX, _socket.AF_INET, _socket.SOCK_STREAM
COLUMNS = ("workload", "window", "operations", "elapsed_ns", "idle_ns")
# The clock of the last tick; Python's time has no name for it (include/uapi/linux/time.h).
CLOCK_MONOTONIC_COARSE = 6
# Closing then resets the connection. nginx has closed its end by now, and a reset spares it TIME_WAIT: with some
# thousands of those each further connection would cost more than the one before.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# Pairs of sockets that are opened before anything is measured, and every how many of them stay open.
CROWD = {UNIX: 2000, TCP: 500}
KEPT = 8
# mov ecx, edi; dec ecx; jnz -2; ret: two instructions for each turn.
COUNTED_LOOP = bytes.fromhex("89f9ffc975fcc3")
TURNS = 200_000
# What takes the time of a timeout, and next to no instruction.
WAITING = ("request_timed_out",)


class WorkloadError(Exception):
    """An operation did not do what it is measured for; the sentence says what it did instead."""


def now_ns() -> int:
    """Return the time, which is a number of instructions."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


def idle_ns() -> int:
    """Return how long the processor had nothing to do since boot, in steps of the kernel's 10 ms.

    Source: fs/proc/stat.c show_stat
    """
    # cpu  120 0 340 5200 7 0 3 0 0 0
    fields = Path("/proc/stat").read_text(encoding="ascii").split(None, 6)
    return (int(fields[4]) + int(fields[5])) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


# --- operations -----------------------------------------------------------------------------------


class Workloads:
    """What can be measured; each workload is a method that returns its operation.

    Attributes:
        config: where nginx and the upstream are, and how long an extra loop after accept() is.
        seen: what the operations gave, and how often: HTTP statuses and names of errors.
        queue_held: connections that fitted into the upstream's queue, when it was filled.
    """

    def __init__(self, config: dict[str, object]) -> None:
        self.config = config
        self.seen: Counter[str] = Counter()
        self.queue_held: int | None = None
        self._nginx = ("127.0.0.1", int(str(config["port"])))
        self._open: list[_socket.socket] = []
        # Connections that nginx gave up stay in the queue of an upstream that does not accept.
        self._given_up = 0

    def request_proxied(self) -> Callable[[], None]:
        """Measure a GET on a new TCP connection that nginx proxies to the upstream, answered with 200."""
        return lambda: self._request("200")

    def request_refused(self) -> Callable[[], None]:
        """Measure a GET that nginx answers with 502, because connect() to the upstream said EAGAIN."""
        self._fill_queue()
        return lambda: self._request("502")

    def request_timed_out(self) -> Callable[[], None]:
        """Measure a GET that nginx answers with 504, because the upstream says nothing until the timeout."""
        return lambda: self._request("504")

    def connection_accepted(self) -> Callable[[], None]:
        """Measure connect(), accept() and both close() of a unix socket, all by this process."""
        path = str(self.config["folder"]) + "/accepted.sock"
        listener = _socket.socket(UNIX, STREAM)
        listener.bind(path)
        listener.listen(8)
        self._open.append(listener)
        turns, seen = int(str(self.config["extra_loop"])), self.seen

        def operation() -> None:
            client = _socket.socket(UNIX, STREAM)
            client.connect(path)
            descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - typeshed leaves it out
            for _ in range(turns):
                pass
            client.close()
            os.close(descriptor)
            seen["accepted"] += 1

        return operation

    def connection_refused(self) -> Callable[[], None]:
        """Measure connect() to the upstream's full queue, which the kernel refuses with EAGAIN."""
        self._fill_queue()
        path, seen = str(self.config["upstream"]), self.seen

        def operation() -> None:
            client = _socket.socket(UNIX, STREAM | _socket.SOCK_NONBLOCK)
            error = client.connect_ex(path)
            client.close()
            if error != errno.EAGAIN:
                raise WorkloadError(f"connect() to a full queue gave {errno.errorcode.get(error, error)}, not EAGAIN")
            seen["EAGAIN"] += 1

        return operation

    def status_read(self) -> Callable[[], None]:
        """Measure a GET of nginx's status page on a connection that is kept: epoll, and no upstream."""
        connection = _socket.socket(TCP, STREAM)
        connection.connect(self._nginx)
        self._open.append(connection)
        request = f"GET {self.config['status_path']} HTTP/1.1\r\nHost: floodmark\r\n\r\n".encode()
        seen = self.seen

        def operation() -> None:
            connection.sendall(request)
            answer = connection.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200 ") or b"\nReading:" not in answer:
                raise WorkloadError(f"the status page gave {answer[:80]!r}, not 200 and its counters")
            seen["200"] += 1

        return operation

    def _request(self, wanted: str) -> None:
        """Send one GET on a new connection and read all of the answer."""
        client = _socket.socket(TCP, STREAM)
        client.connect(self._nginx)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = client.recv(65536)
        status = answer[9:12].decode("ascii", "replace")
        while client.recv(65536):
            pass
        client.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, RESET_ON_CLOSE)
        client.close()
        if status != wanted:
            raise WorkloadError(f"a request got {answer[:40]!r}, not {wanted}")
        self.seen[status] += 1
        self._given_up += status == "504"

    def _fill_queue(self) -> None:
        """Connect to the upstream until its queue is full, and keep the connections."""
        held = self._given_up
        while self.queue_held is None:
            client = _socket.socket(UNIX, STREAM | _socket.SOCK_NONBLOCK)
            error = client.connect_ex(str(self.config["upstream"]))
            if error == errno.EAGAIN:
                client.close()
                self.queue_held = held
            elif error:
                client.close()
                raise WorkloadError(f"connect() to the upstream gave {errno.errorcode.get(error, error)}")
            else:
                self._open.append(client)
                held += 1

    def close(self) -> None:
        """Close what the operations kept open."""
        for one in self._open:
            one.close()


def crowd() -> list[_socket.socket]:
    """Open many pairs of connected sockets, close most of them again, and return those that stay.

    What a free costs depends on how full the slab is that the object lies in, and after a boot this is a matter of
    chance: two boots differed by 1 %. After a crowd of which some stay, slabs have room everywhere.
    """
    listener = _socket.socket(TCP, STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    pairs = [_socket.socketpair(UNIX, STREAM) for _ in range(CROWD[UNIX])]
    for _ in range(CROWD[TCP]):
        client = _socket.socket(TCP, STREAM)
        client.connect(listener.getsockname())
        descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - typeshed leaves it out
        client.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, RESET_ON_CLOSE)
        pairs.append((client, _socket.socket(TCP, STREAM, fileno=descriptor)))
    listener.close()
    stay = [one for pair in pairs[::KEPT] for one in pair]
    del pairs[::KEPT]
    for pair in pairs:
        for one in pair:
            one.close()
    return stay


# --- counting -------------------------------------------------------------------------------------


def measure_window(operation: Callable[[], object], length_ns: int) -> tuple[int, int, int]:
    """Do an operation from one tick until another; the length of 0 is a single operation, whenever it ends.

    Args:
        operation: what is done.
        length_ns: how far apart the ticks are, 0 for one operation.

    Returns:
        Number of operations; instructions; and how many of the instructions' nanoseconds were idle waiting.
    """
    idle = idle_ns()
    if not length_ns:
        begun = now_ns()
        operation()
        return 1, now_ns() - begun, idle_ns() - idle
    # Names of its own: each look for one costs instructions.
    read, clock = time.clock_gettime_ns, CLOCK_MONOTONIC_COARSE
    # The kernel rounds the time of a tick, by less than half of one.
    half = int(time.clock_getres(clock) * 1e9) // 2
    tick = read(clock)
    while read(clock) == tick:
        operation()
    end = read(clock) + length_ns - half
    operations, begun = 0, now_ns()
    while read(clock) < end:
        operation()
        operations += 1
    return operations, now_ns() - begun, idle_ns() - idle


def count_loop(turns: int) -> int:
    """Return what the clock says of a loop of machine code, the least of many times: a tick may fall into one."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(COUNTED_LOOP)
    run = ctypes.CFUNCTYPE(None, ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    least = sys.maxsize
    for _ in range(30):
        begun = now_ns()
        run(turns)
        least = min(least, now_ns() - begun)
    return least


def check_clock() -> dict[str, float]:
    """Return how many nanoseconds pass with an instruction, by a loop whose instructions are known."""
    # What calling it costs is in both.
    passed = count_loop(2 * TURNS) - count_loop(TURNS)
    return {"counted_instructions": 2 * TURNS, "passed_ns": passed}


def status_counts(log: Path) -> Counter[str]:
    """Return status -> how often nginx says that it sent it: a second witness."""
    counts: Counter[str] = Counter()
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            counts[json.loads(line)["status"]] += 1
    return counts


def main() -> None:
    """Measure what the configuration names and write what was found, also when it ends early."""
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[2])
    config["folder"] = str(folder)
    workloads = Workloads(config)
    gc.disable()  # what it collects when depends on everything before
    found: dict[str, object] = {"clock": check_clock(), "failure": ""}
    empty = measure_window(lambda: None, config["window_ns"])
    found["loop_instructions"] = empty[1] / empty[0]
    rows: list[tuple[object, ...]] = []
    seen: dict[str, Counter[str]] = {}
    stay = crowd()
    try:
        for name, windows in config["workloads"].items():
            waits = name in WAITING
            operation = getattr(workloads, name)()
            workloads.seen.clear()
            for window in range(windows):
                # One by one: what was counted before a failure is kept.
                rows.append((name, window, *measure_window(operation, 0 if waits else config["window_ns"])))  # noqa: PERF401
            seen[name] = Counter(workloads.seen)
    except (WorkloadError, OSError) as error:
        found["failure"] = f"{name}: {error}"
    for one in stay:
        one.close()
    found |= {"seen": seen, "queue_held": workloads.queue_held, "nginx_sent": status_counts(Path(config["access_log"]))}
    with (folder / "windows.csv").open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    (folder / "workloads.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
