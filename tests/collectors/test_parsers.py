"""Parsers on captured text, and on text that is not what they read."""

from __future__ import annotations

import pytest

from collectors.errors import Unreadable
from collectors.proc_net_unix import find_listener, parse_sockets
from collectors.process import parse_smaps_rollup
from collectors.stub_status import parse_stub_status
from collectors.tcp_ext import parse_tcp_ext

# Captured on Linux 6.18 while case 2 was up, shortened.
PROC_NET_UNIX = b"""\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 31213 /run/floodmark-upstream/upstream.sock
0000000000000000: 00000003 00000000 00000000 0001 02     0 /run/floodmark-upstream/upstream.sock
0000000000000000: 00000002 00000000 00000000 0001 02     0 /run/floodmark-upstream/upstream.sock
0000000000000000: 00000003 00000000 00000000 0001 03 31260 /run/floodmark-upstream/upstream.sock
0000000000000000: 00000003 00000000 00000000 0001 03 31298
0000000000000000: 00000002 00000000 00010000 0001 01 20077 /run/my socket
0000000000000000: 00000002 00000000 00010000 0001 01 20078 @abstract
0000000000000000: 00000002 00000000 00000000 0002 01 20079 /other/run/floodmark-upstream/upstream.sock
"""
PATH = b"/run/floodmark-upstream/upstream.sock"
NETSTAT = """\
TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 0 46 47
IpExt: InNoRoutes InTruncatedPkts
IpExt: 0 0
"""
STATUS = b"Active connections: 10 \nserver accepts handled requests\n 114 113 120 \nReading: 1 Writing: 7 Waiting: 2 \n"
SMAPS_ROLLUP = """\
55c3f3a00000-7ffd4b5d9000 ---p 00000000 00:00 0                          [rollup]
Rss:                3952 kB
Pss:                1402 kB
Private_Dirty:       872 kB
"""


def test_sockets_on_a_path_are_found_with_their_states() -> None:
    assert [(one.state, one.inode) for one in parse_sockets(PROC_NET_UNIX, PATH)] == [
        (1, 31213), (2, 0), (2, 0), (3, 31260),
    ]  # fmt: skip


@pytest.mark.parametrize(("path", "inode"), [(PATH, 31213), (b"/run/my socket", 20077), (b"@abstract", 20078)])
def test_a_listener_is_found_by_its_path(path: bytes, inode: int) -> None:
    assert find_listener(PROC_NET_UNIX, path) == inode


def test_a_path_without_listener_is_a_reason() -> None:
    with pytest.raises(Unreadable, match="nobody listens on /run/nothing"):
        find_listener(PROC_NET_UNIX, b"/run/nothing")


def test_tcp_ext_counters_come_by_name() -> None:
    assert parse_tcp_ext(NETSTAT) == {"SyncookiesSent": 0, "ListenOverflows": 46, "ListenDrops": 47}


@pytest.mark.parametrize("text", ["", "TcpExt: A B\n", "TcpExt: A B\nTcpExt: 1\n"])
def test_tcp_ext_without_a_matching_pair_of_lines_is_a_reason(text: str) -> None:
    with pytest.raises(Unreadable, match="matching pair"):
        parse_tcp_ext(text)


def test_a_status_page_has_active_with_and_without_our_own_poll() -> None:
    assert parse_stub_status(STATUS) == (10, 9, 1, 7, 2, 114, 113, 120, None)


def test_another_page_is_not_taken_for_a_status_page() -> None:
    with pytest.raises(Unreadable, match="not a status page"):
        parse_stub_status(b"<html>404</html>")


def test_smaps_rollup_is_in_bytes() -> None:
    assert parse_smaps_rollup(SMAPS_ROLLUP) == {"Rss": 3952 * 1024, "Pss": 1402 * 1024, "Private_Dirty": 872 * 1024}
