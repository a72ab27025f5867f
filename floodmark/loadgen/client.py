"""One request of a flood through Locust's FastHttpUser, with its end told exactly.

What the client can see is told apart: a status line that came, a body that was cut off, and the
ways in which nothing came at all.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from gevent import Timeout
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError

from floodmark.loadgen.request_log import Answer

_BY_ERRNO = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
}


def error_class(error: BaseException) -> str:
    """Return the class of an error: refused, reset, timeout, closed, malformed or other."""
    if isinstance(error, HTTPConnectionClosed):
        return "closed"
    if isinstance(error, HTTPParseError):
        return "malformed"
    if isinstance(error, Timeout | socket.timeout):
        return "timeout"
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno]
    return "other"


def answer_of(response: Any) -> Answer:
    """Return how a request ended.

    Args:
        response: what a FastHttpUser returned with `stream=True`: its body has not been read yet.
    """
    status = response.status_code or None  # Locust's word for "no status line" is 0
    if status is None:
        return Answer(None, error_class(response.error), str(response.error)[:200], None)
    try:
        body = response.content or b""
    except (OSError, Timeout, HTTPConnectionClosed, HTTPParseError) as error:
        # A status came and the body did not end: the server, or nginx, gave up in the middle of it.
        why = error_class(error)
        return Answer(status, why if why == "timeout" else "truncated", str(error)[:200], None)
    return Answer(status, "", "", len(body))
