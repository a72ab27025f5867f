"""Source stub_status: nginx's own counters, over one keep-alive connection.

    Active connections: 10
    server accepts handled requests
     114 114 120
    Reading: 0 Writing: 10 Waiting: 0

The question is sent at one tick and the answer taken when it comes, so that a nginx that does not
answer delays no other source.

Source: nginx src/http/modules/ngx_http_stub_status_module.c
"""

from __future__ import annotations

import os
import re
import socket
from typing import Callable, Union

from collectors.errors import Unreadable
from collectors.loop import READABLE, WRITABLE, Loop

Row = tuple[Union[int, float, str, None], ...]
Reading = Callable[[], "list[Row]"]

TIMEOUT_NS = 1_000_000_000
_PAGE = re.compile(
    rb"Active connections: (\d+) \n"
    rb"server accepts handled requests\n"
    rb" (\d+) (\d+) (\d+) \n"
    rb"Reading: (\d+) Writing: (\d+) Waiting: (\d+) \n"
)


def parse_stub_status(page: bytes) -> Row:
    """Return the values of one page in the order of the table's columns.

    Raises:
        Unreadable: this is not a status page.
    """
    match = _PAGE.search(page)
    if not match:
        raise Unreadable(f"not a status page: {page[:60]!r}")
    active, accepts, handled, requests, reading, writing, waiting = map(int, match.groups())
    return (active, active - 1, reading, writing, waiting, accepts, handled, requests, None)


class StubStatus:
    """Polls the status page of nginx on loopback.

    Args:
        port: TCP port on 127.0.0.1.
        path: location of the page.
        loop: tells when nginx accepts, and when it answers.

    Attributes:
        deliver: takes the reading that belongs to a question, once the answer is there.
    """

    deliver: Callable[[Reading], None]

    def __init__(self, port: int, path: str, loop: Loop) -> None:
        self._address = ("127.0.0.1", port)
        self._question = f"GET {path} HTTP/1.1\r\nHost: floodmark\r\n\r\n".encode()
        self._loop = loop
        self._socket: socket.socket | None = None
        self._asked_ns = 0
        self._answer = b""

    def read(self, now_ns: int) -> list[Row]:
        """Ask for the page; the row is delivered when nginx answers.

        Raises:
            Unreadable: the question before this one has no answer yet.
        """
        if self._asked_ns:
            waited_ns = now_ns - self._asked_ns
            if waited_ns > TIMEOUT_NS:
                self._close()
            raise Unreadable(f"nginx has not answered the status page for {waited_ns // 1_000_000} ms")
        self._asked_ns = now_ns
        if self._socket is None:
            self._connect()
        else:
            self._ask()
        return []

    def _connect(self) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        # Even on loopback this may take its time: nginx's own queue may be full.
        self._socket.connect_ex(self._address)
        self._loop.watch(self._socket.fileno(), WRITABLE, self._connected)

    def _connected(self) -> None:
        assert self._socket is not None
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._close()
            self.deliver(lambda: _refuse(os.strerror(error)))
        else:
            self._ask()

    def _ask(self) -> None:
        assert self._socket is not None
        try:
            self._socket.send(self._question)
        except OSError as why:
            reason = str(why.strerror)
            self._close()
            self.deliver(lambda: _refuse(reason))
        else:
            self._loop.watch(self._socket.fileno(), READABLE, lambda: self.deliver(self._receive))

    def _receive(self) -> list[Row]:
        """Take what has arrived; return the row once the page is complete.

        Raises:
            Unreadable: nginx closed the connection or sent something else.
        """
        assert self._socket is not None
        try:
            data = self._socket.recv(4096)
        except OSError as error:
            self._close()
            raise Unreadable(f"status page: {error.strerror}") from error
        if not data:
            self._close()
            raise Unreadable("nginx closed the connection of the status page")
        self._answer += data
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not separator or (length and len(body) < int(length.group(1))):
            return []
        self._answer, self._asked_ns = b"", 0
        if not head.startswith(b"HTTP/1.1 200"):
            self._close()
            raise Unreadable(f"status page: {head.splitlines()[0].decode(errors='replace')}")
        if b"connection: close" in head.lower():
            self._close()
        return [parse_stub_status(body)]

    def _close(self) -> None:
        if self._socket:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
        self._socket, self._answer, self._asked_ns = None, b"", 0


def _refuse(reason: str) -> list[Row]:
    raise Unreadable(f"status page: {reason}")
