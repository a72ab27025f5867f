"""The tab "Access log": GoAccess at work on what nginx logs while cases are held up.

GoAccess's own WebSocket has no login. So it listens on a unix socket that no other user of this machine can open, and
the page hands browsers on to it: those that have logged in, and only from this page.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from flask import Blueprint, Response, request
from gevent.socket import AF_UNIX, SHUT_RDWR
from gevent.socket import socket as gevent_socket

from floodmark.web.goaccess import LOG, command, missing

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Stands in GoAccess's page where the address of its WebSocket goes; a browser may know this page by several names.
ANY_ADDRESS = "floodmark:0"
# What a browser says to open a WebSocket, and GoAccess listens to.
HANDSHAKE = ("Host", "Upgrade", "Connection", "Origin", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
CHUNK_BYTES = 65536
STARTING_S = 0.05


def is_from_this_page() -> bool:
    """Tell whether a page of this server asks, and not one that a browser has from somewhere else.

    A cookie does not tell it: to a browser all ports of a machine are one site, and another one may be somebody else's.
    """
    return request.headers.get("Origin") == f"http://{request.host}"


def with_us(arguments: Sequence[str], signal: str) -> list[str]:
    """Return a command that is ended when this process is, however that ends."""
    return ["setpriv", "--pdeathsig", signal, *arguments]


class AccessLog:
    """GoAccess, from the first case of a session to its end.

    Args:
        room: folder for its files that nobody else can look into.
    """

    def __init__(self, room: str) -> None:
        self._page = Path(room) / "goaccess.html"
        self._socket = f"{room}/goaccess"
        self._tail: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if missing():
            return
        reader, self._log = os.pipe()
        # GoAccess takes what it reads at once for whole lines. grep writes each by itself, and a pipe takes it whole.
        lines = subprocess.Popen(
            with_us(["grep", "--text", "--line-buffered", ""], "KILL"), stdin=reader, stdout=subprocess.PIPE
        )
        self._process = subprocess.Popen(
            with_us(command(
                "-", "nginx's access log", f"--output={self._page}", "--real-time-html", f"--ws-url={ANY_ADDRESS}",
                f"--unix-socket={self._socket}", f"--fifo-in={self._socket}.in", f"--fifo-out={self._socket}.out",
            ), "KILL"),  # asked to end, GoAccess 1.7 crashes
            cwd=room, stdin=lines.stdout,
        )  # fmt: skip
        os.close(reader)
        assert lines.stdout
        lines.stdout.close()

    def follow(self, way: Sequence[str], folder: str) -> None:
        """Let it see what nginx logs, from the first line.

        Args:
            way: the command that runs a shell line on the host.
            folder: where nginx writes on the host.
        """
        if self._process:
            line = f"exec tail --lines=+1 --follow {shlex.quote(f'{folder}/{LOG}')}"
            self._tail = subprocess.Popen(with_us([*way, line], "TERM"), stdin=subprocess.DEVNULL, stdout=self._log)

    def leave(self) -> None:
        """Let it see no more of that."""
        if self._tail:
            self._tail.terminate()

    def why_not(self) -> str:
        """Return why there is nothing to see, or nothing."""
        if self._process is None:
            return f"{missing() or 'GoAccess was not installed when this session began'}."
        status = self._process.poll()
        return "" if status is None else f"GoAccess has ended with status {status}; web-ui.log of this run may say why."

    def page(self) -> str:
        """Return GoAccess's page for the browser that asks, waiting until there is one."""
        while not (why := self.why_not()):
            with suppress(FileNotFoundError):
                page = self._page.read_text(encoding="utf-8")
                if page.rstrip().endswith("</html>"):
                    return page.replace(ANY_ADDRESS, f"{request.host}{request.path}live")
            gevent.sleep(STARTING_S)
        return f"<!doctype html><title>Access log</title><p>{escape(why)}</p>\n"

    def live(self) -> Response:
        """Hand the browser that asks on to GoAccess's WebSocket."""
        if not is_from_this_page():
            return Response("This is for the page at /access-log/ alone.\n", 403, mimetype="text/plain")
        server = gevent_socket(AF_UNIX)
        try:
            server.connect(self._socket)
        except OSError:
            server.close()
            return Response(f"{self.why_not() or 'GoAccess does not listen.'}\n", 503, mimetype="text/plain")
        said = "".join(f"{name}: {request.headers[name]}\r\n" for name in HANDSHAKE if name in request.headers)
        server.sendall(f"GET / HTTP/1.1\r\n{said}\r\n".encode())
        return HandedOn(server)


class HandedOn(Response):
    """What a browser and another server say to each other from now on.

    Args:
        server: a connection to the other one, which has been told what the browser asked for.
    """

    def __init__(self, server: Any) -> None:
        super().__init__(status=101)
        self._server = server

    def __call__(self, environ: WSGIEnvironment, _start_response: StartResponse) -> Iterable[bytes]:
        """Carry bytes both ways until one of them ends; nothing is left to answer then."""
        browser = environ["wsgi.input"].raw._sock  # noqa: SLF001 - gevent gives it away in no other way
        with self._server as server:
            there = gevent.spawn(_carry, browser, server)
            _carry(server, browser)
            there.join()
        return []


def _carry(source: Any, target: Any) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(SHUT_RDWR)


def pages(access_log: AccessLog) -> Blueprint:
    """Return the pages of the tab."""
    blueprint = Blueprint("access_log", __name__)
    blueprint.add_url_rule("/", "page", access_log.page)
    blueprint.add_url_rule("/live", "live", access_log.live, websocket=True)
    return blueprint
