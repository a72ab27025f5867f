#!/usr/bin/python3
"""The server behind nginx that misbehaves, in plain blocking calls.

    upstream.py upstream.json

Which of accept(), read, write and close it calls is all that tells the cases apart:

    case 1  accept         read  write  close    always 200
    case 2  -                                    never accepts
    case 3  accept                               accepts, never reads
    case 4  accept         read                  reads, never writes
    case 5  accept         read  write           writes, never closes
    case 6  accept slowly  read  write  close    accepts some connections a second
    case 7  accept                      close    closes at once
    case 8  accept                      reset    resets when the request has come
    case 9  accept         read  half            writes half of its answer
    case 12 accept         read  write  close    stops accepting for a while, and writes down when
            with a pause

A process may hold several servers, each with a behaviour and a thread of its own.
SIGTERM ends it at once, however many connections hang: the kernel closes them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BODY = b"floodmark\n"
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
RESPONSES = {
    # HTTP/1.0 without Content-Length: the end of the connection is the end of the body.
    True: HEAD + b"\r\n" + BODY,
    "half": HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[: len(BODY) // 2],
}
# SO_LINGER with a time of 0: close() throws away what was not sent, and TCP says RST.
NO_LINGER = struct.pack("ii", 1, 0)
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def listen(where: dict[str, Any], backlog: int) -> socket.socket:
    """Return the listening socket; the kernel clamps its backlog to somaxconn in this very call."""
    if where["transport"] == "unix":
        path = Path(where["path"])
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(0o666)  # nginx's workers connect as another user
    else:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", where["port"]))
    listener.listen(backlog)
    return listener


def read_request(connection: socket.socket) -> None:
    """Read one whole request, head and body; a client that leaves early ends it."""
    request = b""
    while b"\r\n\r\n" not in request:
        data = connection.recv(65536)
        if not data:
            return
        request += data
    head, _, body = request.partition(b"\r\n\r\n")
    missing = _content_length(head) - len(body)
    while missing > 0:
        data = connection.recv(min(missing, 1 << 20))
        if not data:
            return
        missing -= len(data)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def accept(listener: socket.socket) -> socket.socket:
    """Accept one connection; without free descriptors wait a while instead of spinning."""
    told = False
    while True:
        try:
            return listener.accept()[0]
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS:
                raise
            if not told:
                print(f"accept(): {error.strerror}; connections stay in the accept queue", file=sys.stderr)
                told = True
            time.sleep(1)


def reset(connection: socket.socket) -> None:
    """Close a connection so that its client gets ECONNRESET, as soon as some of the request is there.

    A unix socket knows no RST and no lingering: what makes the end of one a reset is that something lies unread in it.

    Source: net/unix/af_unix.c unix_release_sock, net/ipv4/tcp.c __tcp_close
    """
    connection.recv(1, socket.MSG_PEEK)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    connection.close()


def connections(listener: socket.socket, server: dict[str, Any], config: dict[str, Any]) -> Iterator[socket.socket]:
    """Yield one connection after the other, when the case accepts it, for ever."""
    how = server["behaviour"]["accept"]
    if not how:
        signal.pause()
    elif how == "slowly":
        yield from one_in(listener, 1 / config["accepts_per_s"])
    elif how == "with_a_pause":
        yield from until_the_pause(listener, config["pause_after_s"])
        record(config, server, "paused")
        time.sleep(config["pause_s"])
        record(config, server, "resumed")
    while True:
        yield accept(listener)


def one_in(listener: socket.socket, interval_s: float) -> Iterator[socket.socket]:
    """Yield connections for ever, with this time between two accept() at least."""
    while True:
        connection = accept(listener)
        next_s = time.monotonic() + interval_s
        yield connection
        time.sleep(max(0.0, next_s - time.monotonic()))


def until_the_pause(listener: socket.socket, after_s: float) -> Iterator[socket.socket]:
    """Yield connections for a time that begins with the first one, so that it does not matter when a flood begins."""
    connection = accept(listener)
    pause_s = time.monotonic() + after_s
    yield connection
    while (left_s := pause_s - time.monotonic()) > 0:
        if select.select([listener], [], [], left_s)[0]:
            yield accept(listener)


def record(config: dict[str, Any], server: dict[str, Any], event: str) -> None:
    """Write down what happens now."""
    line = f"{time.monotonic_ns()},{server['listener']['name']},{event}\n"
    with Path(config["events"]).open("a", encoding="ascii") as file:
        file.write(line)


def serve(listener: socket.socket, server: dict[str, Any], config: dict[str, Any]) -> None:
    """Treat every connection as the case says, for ever."""
    behaviour = server["behaviour"]
    held = []
    for connection in connections(listener, server, config):
        with contextlib.suppress(ConnectionError):  # the client may have given up by now
            if behaviour["read"]:
                read_request(connection)
            if behaviour["write"]:
                connection.sendall(RESPONSES[behaviour["write"]])
            if behaviour["close"] == "reset":
                reset(connection)
        if behaviour["close"]:
            connection.close()
        else:
            held.append(connection)


def raise_descriptor_limit() -> None:
    """Allow as many open connections as the system lets this process have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def notify_ready() -> None:
    """Tell systemd that the socket listens, as sd_notify(3) does."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.sendall(b"READY=1")


def main() -> None:
    """Serve as the configuration says."""
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    raise_descriptor_limit()
    servers = [(listen(one["listener"], config["backlog"]), one, config) for one in config["servers"]]
    # What systemd does to this process when it is ready, it does to all threads that are there.
    for other in servers[1:]:
        threading.Thread(target=serve, args=other, daemon=True).start()
    notify_ready()
    serve(*servers[0])


if __name__ == "__main__":
    main()
