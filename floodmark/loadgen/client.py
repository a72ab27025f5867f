"""A client for floods: thousands of connections in one loop, and the end of each request told exactly.

The usual clients send a request again behind one's back when its connection breaks, and call a reset and an orderly
end the same. Here a request is sent once, and every way in which it may end has a name. A connection is an object and
no greenlet, which alone would take more memory than ten of them. Responses are parsed by llhttp, which httptools
wraps.
"""

from __future__ import annotations

import _socket
import errno
import resource
import select
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

import httptools
from gevent.monkey import get_original

BLOCK_BYTES = 65536
# After so many events, some 0.4 ms, others have their turn: requests that are due, Locust's own greenlets.
MOST_EVENTS = 32
# Locust has gevent take these away, as they could wait; here nothing waits.
_epoll = get_original("select", "epoll")
# Edge-triggered: a connection is registered once, however often it is written to.
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_BY_ERRNO = {
    errno.ECONNREFUSED: "refused",
    # A unix socket whose queue is full says so (net/unix/af_unix.c, unix_stream_connect), a TCP socket says nothing.
    errno.EAGAIN: "queue full",
    errno.ENOENT: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "no free port",
    errno.EMFILE: "no free descriptor",
}


def raise_descriptor_limit() -> None:
    """Let this process have as many connections as the system allows; Locust itself is content with 10,000."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Target(NamedTuple):
    """Where requests go.

    Attributes:
        family: `socket.AF_INET`, `AF_INET6` or `AF_UNIX`.
        address: numeric address and port, or the path of a unix socket.
    """

    family: socket.AddressFamily
    address: tuple[str, int] | str


class Exchange(NamedTuple):
    """One request that has ended: a row of requests.csv, with times on the generator's monotonic clock.

    Attributes:
        id: its number, by which nginx logs it.
        intended_ns: when the load shape wanted it to start.
        start_ns: when it did start, just before the client connects.
        connected_ns: when the connection stood; None when it never did or was there from an earlier request.
        first_byte_ns: when the first byte of the answer was read, or None.
        end_ns: when the last byte was read, or the error came.
        status: HTTP status, or None when no status line came.
        error: class of the error, or an empty text for a complete answer.
        detail: the client's own words for the error.
        body_bytes: bytes of the body that came, or None when no status line came.
    """

    id: str
    intended_ns: int
    start_ns: int
    connected_ns: int | None
    first_byte_ns: int | None
    end_ns: int
    status: int | None
    error: str
    detail: str
    body_bytes: int | None


class Client:
    """Sends requests to one target, each on a connection that no other one uses meanwhile.

    Nothing in it waits: whoever runs it calls `handle` when `fileno` is readable and `expire` from time to time.

    Args:
        target: where to.
        timeout_s: for a whole request, from connecting to the last byte.
        reuse: keep connections for later requests.
        on_end: is given each request that has ended.
    """

    def __init__(self, target: Target, timeout_s: float, *, reuse: bool, on_end: Callable[[Exchange], None]) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.reuse = reuse
        self.on_end = on_end
        self.poll: select.epoll = _epoll()
        self.block = bytearray(BLOCK_BYTES)
        self.view = memoryview(self.block)
        self._timeout_ns = int(timeout_s * 1e9)
        self._by_descriptor: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        # In the order in which they began, which is that in which they time out.
        self._pending: dict[Connection, None] = {}

    @property
    def in_flight(self) -> int:
        """Requests that were sent and have not ended."""
        return len(self._pending)

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to handle."""
        return self.poll.fileno()

    def watch(self, descriptor: int) -> None:
        """Let `fileno` be readable also when another descriptor is."""
        self.poll.register(descriptor, select.EPOLLIN)

    def send(self, request_id: str, request: bytes, intended_ns: int) -> None:
        """Begin a request.

        Args:
            request_id: its number.
            request: all of it, as it goes over the wire.
            intended_ns: when it should have begun.
        """
        connection = self._idle.pop() if self._idle else Connection(self)
        self._pending[connection] = None
        connection.begin(request_id, request, intended_ns)

    def handle(self) -> None:
        """Go on with every connection that something has happened to."""
        known = self._by_descriptor
        for descriptor, events in self.poll.poll(0, MOST_EVENTS):
            connection = known.get(descriptor)
            if connection is not None:
                connection.go_on(events)

    def expire(self, now_ns: int) -> None:
        """End every request that has taken too long."""
        while self._pending:
            oldest = next(iter(self._pending))
            if now_ns - oldest.start_ns < self._timeout_ns:
                return
            oldest.fail("timeout", f"no end within {self.timeout_s:g} s")

    def close(self) -> None:
        """Close every connection; what is in flight never ends."""
        for connection in list(self._by_descriptor.values()):
            connection.close()
        self._pending.clear()
        self._idle.clear()
        self.poll.close()

    # --- called by connections ----------------------------------------------------------------

    def opened(self, connection: Connection, descriptor: int) -> None:
        """Watch a connection that has a socket now."""
        self._by_descriptor[descriptor] = connection
        self.poll.register(descriptor, _EVENTS)

    def closed(self, connection: Connection, descriptor: int) -> None:
        """Forget a connection; closing the socket takes it from the poll."""
        del self._by_descriptor[descriptor]
        if connection.is_idle:
            self._idle.remove(connection)

    def ended(self, connection: Connection, exchange: Exchange) -> None:
        """Take the end of a request, and its connection if that can be used again."""
        del self._pending[connection]
        if connection.is_idle:
            self._idle.append(connection)
        self.on_end(exchange)


class Connection:
    """One connection and the request that is on it. It is what httptools calls back."""

    __slots__ = (
        "body_bytes", "client", "complete", "connected_ns", "connecting", "first_byte_ns", "has_length", "intended_ns",
        "is_idle", "parser", "request_id", "socket", "start_ns", "status", "stays", "unsent",
    )  # fmt: skip

    def __init__(self, client: Client) -> None:
        self.client = client
        self.socket: _socket.socket | None = None
        self.parser: httptools.HttpResponseParser | None = None
        self.is_idle = False
        self.connecting = False

    # --- the way of a request -----------------------------------------------------------------

    def begin(self, request_id: str, request: bytes, intended_ns: int) -> None:
        """Send a request, on this connection if it stands."""
        self.request_id, self.intended_ns = request_id, intended_ns
        self.connected_ns: int | None = None
        self.first_byte_ns: int | None = None
        self.status: int | None = None
        self.body_bytes = 0
        self.complete = self.has_length = self.is_idle = self.stays = False
        self.unsent: bytes | memoryview | None = request
        self.start_ns = time.monotonic_ns()
        if self.socket is None:
            self._connect()
        else:
            self._write()

    def go_on(self, events: int) -> None:
        """Do what the socket is ready for."""
        if self.is_idle:
            self.close()  # nothing was asked, so this is its end
            return
        if self.connecting:
            assert self.socket
            if failure := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._fail_with(OSError(failure, errno.errorcode.get(failure, "")))
                return
            self.connecting = False
            self.connected_ns = time.monotonic_ns()
        if self.unsent is not None:
            self._write()
        if events & _READABLE and not self.is_idle and self.socket is not None:
            self._read(may_have_ended=bool(events & ~(select.EPOLLIN | select.EPOLLOUT)))

    def fail(self, error: str, detail: str) -> None:
        """End the request badly."""
        self.close()
        if self.status is None:
            self._end(error, detail, None)
        else:
            self._end("truncated" if error in ("closed", "reset") else error, detail, self.body_bytes)

    def close(self) -> None:
        """Close the connection, if it stands."""
        if self.socket is not None:
            self.client.closed(self, self.socket.fileno())
            self.socket.close()
            self.socket = None
        self.parser = None  # it knows us, and we know it
        self.is_idle = False

    def _connect(self) -> None:
        target = self.client.target
        try:
            self.socket = _socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._fail_with(error)
            return
        self.client.opened(self, self.socket.fileno())
        try:
            if target.family != socket.AF_UNIX:
                # The request is one segment, and it goes at once.
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.connect(target.address)
        except BlockingIOError as error:
            if error.errno == errno.EINPROGRESS:
                self.connecting = True
            else:
                self._fail_with(error)
            return
        except OSError as error:
            self._fail_with(error)
            return
        self.connected_ns = time.monotonic_ns()
        self._write()

    def _write(self) -> None:
        """Send what is left of the request; the rest goes when the socket takes it."""
        assert self.socket is not None
        assert self.unsent is not None
        try:
            while True:
                sent = self.socket.send(self.unsent)
                if sent == len(self.unsent):
                    self.unsent = None
                    return
                self.unsent = memoryview(self.unsent)[sent:]
        except BlockingIOError:
            return
        except OSError as error:
            # The server may have answered before it broke off.
            self.unsent = None
            self._read(may_have_ended=True)
            if self.socket is not None and not self.is_idle:
                self._fail_with(error)

    def _read(self, *, may_have_ended: bool) -> None:
        """Feed the parser until there is no more to read, or the request has ended."""
        assert self.socket is not None
        client = self.client
        while True:
            try:
                length = self.socket.recv_into(client.block)
            except BlockingIOError:
                return
            except OSError as error:
                self._fail_with(error)
                return
            if not length:
                self._closed_by_server()
                return
            if self.first_byte_ns is None:
                self.first_byte_ns = time.monotonic_ns()
            if self.parser is None:
                self.parser = httptools.HttpResponseParser(self)
            try:
                self.parser.feed_data(client.view[:length])
            except httptools.HttpParserError as error:
                self.fail("malformed", str(error))
                return
            if self.complete:
                self._answered(stays=self.stays and not may_have_ended)
                return
            # Less than was asked for is all there is, and what comes later makes an event of its own.
            if length < BLOCK_BYTES and not may_have_ended:
                return

    def _answered(self, *, stays: bool) -> None:
        """End a request that has its whole answer."""
        if stays and self.client.reuse and self.unsent is None:
            self.is_idle = True
        else:
            self.close()
        self._end("", "", self.body_bytes)

    def _closed_by_server(self) -> None:
        if self.status is not None and not self.has_length:
            # The end of the connection is the end of the message (RFC 9112, section 6.3).
            self.close()
            self._end("", "", self.body_bytes)
        else:
            self.fail("closed", "the server closed the connection")

    def _fail_with(self, error: OSError) -> None:
        self.fail(_BY_ERRNO.get(error.errno or 0, "other"), str(error))

    def _end(self, error: str, detail: str, body_bytes: int | None) -> None:
        self.client.ended(
            self,
            Exchange(
                self.request_id, self.intended_ns, self.start_ns, self.connected_ns, self.first_byte_ns,
                time.monotonic_ns(), self.status, error, detail, body_bytes,
            ),
        )  # fmt: skip

    # --- called by the parser -----------------------------------------------------------------

    def on_header(self, name: bytes, _value: bytes) -> None:
        """Note whether the message says itself where it ends."""
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self.has_length = True

    def on_headers_complete(self) -> None:
        """Take the status."""
        assert self.parser is not None
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Count the body instead of keeping it."""
        self.body_bytes += len(body)

    def on_message_complete(self) -> None:
        """Note the end; an interim response (1xx) is not yet the answer."""
        assert self.parser is not None
        assert self.status is not None
        if self.status < 200:
            self.status, self.has_length = None, False
        else:
            self.complete = True
            self.stays = self.parser.should_keep_alive()  # only now: the parser then forgets the message
