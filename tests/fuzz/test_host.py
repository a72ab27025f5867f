"""What the agent takes: its configuration, the kernel's answers over netlink, nginx's status page."""

from __future__ import annotations

import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from collectors import agent, sock_diag
from collectors.config import Config, read_config
from collectors.errors import Unreadable
from collectors.sock_diag import DepthProbe, SockDiag, ask_tcp_listener, ask_unix_listener
from collectors.stub_status import parse_stub_status
from tests.fuzz.made_up import fuzz, garbled, json_files, nothing_outside, refuses_or_returns

# --- agent.json -----------------------------------------------------------------------------------

CONFIGURATION = {
    "output": "/var/lib/floodmark/runs/1",
    "listeners": [
        {"name": "upstream", "transport": "unix", "path": "/run/floodmark-upstream/upstream.sock", "port": 0},
        {"name": "front", "transport": "tcp", "path": "", "port": 8080},
    ],
    "status_path": "/floodmark-status",
    "nginx_unit": "floodmark-nginx.service",
    "upstream_unit": "floodmark-upstream@2.service",
    "rates_hz": {"accept_queue": 1000, "unix_states": 20.5},
    "metrics": "",
    "most_bytes": {"agent": 100_000_000, "nginx": 0},
}


def check(config: Config) -> None:
    """What the agent makes a path, an address or an interval of can be made one of."""
    for text in (config.status_path, config.nginx_unit, config.upstream_unit, config.metrics):
        assert isinstance(text, str)
    for one in (config.upstream, config.front):
        assert one.transport in ("unix", "tcp")
        assert one.path.encode() is not None
        one.port.to_bytes(2, "big")
    for rate in config.rates_hz.values():
        assert 1 <= int(1e9 / rate) <= 1e12


@fuzz(150, json_files(CONFIGURATION))
def test_agent_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "agent.json"
    path.write_bytes(content)
    with nothing_outside(tmp_path):
        config = refuses_or_returns(lambda: read_config(path), SystemExit)
    if config:
        check(config)


def test_the_agent_says_in_one_line_what_is_wrong_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.json").write_text(json.dumps({**CONFIGURATION, "output": 1}), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["agent", str(tmp_path / "agent.json")])
    with pytest.raises(SystemExit, match=r"agent.json: output is 1, and a text was expected"):
        agent.main()
    assert capsys.readouterr().out == ""


# --- netlink --------------------------------------------------------------------------------------

PATH = b"/run/floodmark-upstream/upstream.sock"


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def message(body: bytes, kind: int = sock_diag.SOCK_DIAG_BY_FAMILY) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body + bytes(-len(body) % 4)


UNIX = struct.pack("=BBBBIII", socket.AF_UNIX, 1, sock_diag.TCP_LISTEN, 0, 4711, 1, 2)
INET = struct.pack(
    "=BBBB2s2s16s16sIIIIIIII",
    socket.AF_INET,
    1,
    0,
    0,
    b"\x23\x28",
    b"\0\0",
    bytes(16),
    bytes(16),
    0,
    1,
    2,
    0,
    3,
    4,
    0,
    9,
)
LISTENER = (
    UNIX + attribute(sock_diag.UNIX_DIAG_NAME, PATH) + attribute(sock_diag.UNIX_DIAG_ICONS, struct.pack("=3I", 7, 0, 9))
)
ACCEPTED = (
    UNIX + attribute(sock_diag.UNIX_DIAG_NAME, PATH) + attribute(sock_diag.UNIX_DIAG_RQLEN, struct.pack("=II", 5, 0))
)
MEMORY = UNIX + attribute(sock_diag.UNIX_DIAG_MEMINFO, struct.pack("=9I", *range(9)))
TCP_MEMORY = INET + attribute(sock_diag.INET_DIAG_SKMEMINFO, struct.pack("=9I", *range(9)))
DONE = message(bytes(4), sock_diag.NLMSG_DONE)
REFUSED = message(struct.pack("=i", -2), sock_diag.NLMSG_ERROR)
ANSWERS = [message(one) + DONE for one in (LISTENER, ACCEPTED, MEMORY, TCP_MEMORY, INET, b"")] + [REFUSED]


class Kernel:
    """A netlink socket that answers what it is told to, and then no more."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)

    def send(self, question: bytes) -> int:
        return len(question)

    def recvmsg(self, room: int) -> tuple[bytes, list[Any], int, None]:
        return self._next()[:room], [], 0, None

    def recv_into(self, buffer: bytearray) -> int:
        answer = self._next()[: len(buffer)]
        buffer[: len(answer)] = answer
        return len(answer)

    def recv(self, room: int) -> bytes:
        return b""[:room]

    def _next(self) -> bytes:
        if not self.answers:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return self.answers.pop(0)

    def close(self) -> None:
        pass


@fuzz(200, st.lists(st.sampled_from(ANSWERS).flatmap(garbled), min_size=1, max_size=3))
def test_dumps_of_the_kernel(answers: list[bytes]) -> None:
    opened = sock_diag.open_socket
    sock_diag.open_socket = lambda: Kernel(*answers)  # type: ignore[assignment,return-value]
    try:
        for read in (
            lambda diag: diag.unix_listener_clients(PATH),
            lambda diag: [sock_diag.parse_accepted_unix_connections(part, PATH) for part in diag.dump(b"")],
            lambda diag: [sock_diag.parse_tcp_connections(part, 9000) for part in diag.dump(b"")],
            lambda diag: [list(sock_diag.parse_unix_memory(part)) for part in diag.dump(b"")],
            lambda diag: [list(sock_diag.parse_tcp_memory(part)) for part in diag.dump(b"")],
        ):
            refuses_or_returns(lambda: read(SockDiag()), Unreadable, BlockingIOError)  # noqa: B023 - called at once
    finally:
        sock_diag.open_socket = opened


@pytest.mark.timeout(10)
@pytest.mark.parametrize("length", [0, 3, 15, 17, 2**32 - 1])
def test_a_message_that_says_it_is_shorter_than_its_header_or_longer_than_the_answer(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = struct.pack("=I", length) + message(b"")[4:]
    monkeypatch.setattr(sock_diag, "open_socket", lambda: Kernel(answer, DONE))
    with pytest.raises(Unreadable, match="not put together"):
        SockDiag().unix_listener_clients(PATH)


@fuzz(80, st.sampled_from([message(LISTENER), message(INET), REFUSED]).flatmap(garbled))
def test_depths_of_the_kernel(answer: bytes) -> None:
    opened = sock_diag.open_socket
    sock_diag.open_socket = lambda: Kernel(answer, answer)  # type: ignore[assignment,return-value]
    try:
        for one in DepthProbe([ask_unix_listener(4711), ask_tcp_listener(9000)]).ask():
            assert isinstance(one, str) or (len(one) == 2 and min(one) >= 0)
    finally:
        sock_diag.open_socket = opened


# --- the status page ------------------------------------------------------------------------------

PAGE = b"Active connections: 10 \nserver accepts handled requests\n 114 114 120 \nReading: 0 Writing: 10 Waiting: 0 \n"


@fuzz(80, garbled(PAGE))
def test_status_pages(page: bytes) -> None:
    row = refuses_or_returns(lambda: parse_stub_status(page), Unreadable)
    assert all(one is None or (isinstance(one, int) and abs(one) < 2**63) for one in row or ())
