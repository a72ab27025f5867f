"""One request of a flood on a socket of its own, with its end told exactly.

The usual clients send a request again behind one's back when its connection breaks, and call a reset
and an orderly end the same. Here a request is sent once, and every way in which it may end has a
name. The response is parsed by llhttp, which geventhttpclient wraps.
"""

from __future__ import annotations

import errno

import gevent.socket
from gevent import Timeout
from geventhttpclient.response import HTTPParseError, HTTPResponse

from floodmark.loadgen.request_log import Answer

_BY_ERRNO = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "no free port",
    errno.EMFILE: "no free descriptor",
}
_BLOCK_BYTES = 65536


class Client:
    """Sends requests to one address, one at a time.

    Args:
        address: numeric address and port.
        timeout_s: for a whole request, from connecting to the last byte.
        reuse: keep the connection for the next request.
    """

    def __init__(self, address: tuple[str, int], timeout_s: float, *, reuse: bool) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._reuse = reuse
        self._socket: gevent.socket.socket | None = None

    def exchange(self, request: bytes) -> Answer:
        """Send a request and read its answer to the end."""
        response = _Response()
        try:
            with Timeout(self._timeout_s):
                self._send(request)
                self._read(response)
        except Timeout:
            return self._broken(response, "timeout", f"no end within {self._timeout_s:g} s")
        except HTTPParseError as error:
            return self._broken(response, "malformed", str(error))
        except OSError as error:
            return self._broken(response, _BY_ERRNO.get(error.errno or 0, "other"), str(error))
        if not response.message_complete:
            return self._broken(response, "closed", "the server closed the connection")
        if not self._reuse or response.should_close():
            self.close()
        return Answer(response.status_code, "", "", response.body_bytes)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket:
            self._socket.close()
        self._socket = None

    def _send(self, request: bytes) -> None:
        if self._socket is None:
            self._socket = gevent.socket.create_connection(self._address)
            # The request is one segment, and it goes at once.
            self._socket.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        self._socket.sendall(request)

    def _read(self, response: _Response) -> None:
        """Feed the parser until the message or the connection has ended."""
        assert self._socket is not None
        while not response.message_complete:
            data = self._socket.recv(_BLOCK_BYTES)
            if not data and not response.headers_complete:
                return
            try:
                response.feed(data)  # no data means the end, which completes a message without a length
            except HTTPParseError:
                if not data:
                    return
                raise
            if not data:
                return

    def _broken(self, response: _Response, error: str, detail: str) -> Answer:
        """Return the answer of a request that did not end as it should."""
        self.close()
        if not response.headers_complete:
            return Answer(None, error, detail, None)
        if error in ("closed", "reset"):
            error = "truncated"
        return Answer(response.status_code, error, detail, response.body_bytes)


class _Response(HTTPResponse):
    """A response that counts its body instead of keeping it."""

    def __init__(self) -> None:
        super().__init__()
        self.body_bytes = 0

    def _on_body(self, buf: bytearray) -> None:
        self.body_bytes += len(buf)
