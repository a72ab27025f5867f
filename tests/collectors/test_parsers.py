"""Parsers on captured text, and on text that is not what they read."""

from __future__ import annotations

import os

import pytest

from collectors.errors import Unreadable
from collectors.proc_net_unix import StateCounts, find_listener, whole_rows
from collectors.process import parent_and_cpu_s
from collectors.stub_status import parse_stub_status
from collectors.tcp_ext import COUNTERS, TcpExt

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
NETSTAT = b"""\
TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 0 46 47
IpExt: InNoRoutes InTruncatedPkts
IpExt: 0 0
"""
STATUS = b"Active connections: 10 \nserver accepts handled requests\n 114 113 120 \nReading: 1 Writing: 7 Waiting: 2 \n"


def counted(text: bytes, path: bytes) -> tuple[list[int], list[int]]:
    counts = StateCounts(path)
    counts.add(text)
    return counts.on_path, counts.everywhere


def test_rows_are_counted_by_state_on_the_path_and_altogether() -> None:
    assert counted(PROC_NET_UNIX, PATH) == ([0, 1, 2, 1, 0], [0, 4, 2, 2, 0])


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_rows_are_counted_alike_wherever_a_reading_ends(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.proc_net_unix.FAST_TO_SEARCH", size)
    parts = [PROC_NET_UNIX[start : start + size] for start in range(0, len(PROC_NET_UNIX), size)]
    assert b"".join(rows.removeprefix(b"\n") for rows in whole_rows(parts)) == PROC_NET_UNIX
    counts = StateCounts(PATH)
    for rows in whole_rows(parts):
        counts.add(rows)
    assert (counts.on_path, counts.everywhere) == counted(PROC_NET_UNIX, PATH)


@pytest.mark.parametrize(("path", "count"), [(b"/run/my socket", 1), (b"@abstract", 1), (b"/run/nothing", 0)])
def test_rows_of_a_path_with_a_space_or_an_abstract_address_are_counted(path: bytes, count: int) -> None:
    assert counted(PROC_NET_UNIX, path)[0] == [0, count, 0, 0, 0]


def test_a_newline_in_a_path_hides_no_other_row() -> None:
    odd = b"0000000000000000: 00000002 00000000 00010000 0001 01 20080 @two\nlines\n"
    header, newline, rows = PROC_NET_UNIX.partition(b"\n")
    assert counted(header + newline + odd + rows, PATH) == ([0, 1, 2, 1, 0], [0, 5, 2, 2, 0])


def test_a_table_of_a_32_bit_kernel_has_narrower_pointers() -> None:
    narrow = PROC_NET_UNIX.replace(b"0000000000000000:", b"00000000:")
    assert counted(narrow, PATH) == counted(PROC_NET_UNIX, PATH)


def test_a_table_without_rows_has_no_states() -> None:
    header = PROC_NET_UNIX.partition(b"\n")[0] + b"\n"
    assert counted(header, PATH) == ([0] * 5, [0] * 5)


@pytest.mark.parametrize(("path", "inode"), [(PATH, 31213), (b"/run/my socket", 20077), (b"@abstract", 20078)])
def test_a_listener_is_found_by_its_path(path: bytes, inode: int) -> None:
    assert find_listener(PROC_NET_UNIX, path) == inode


def test_a_path_without_listener_is_a_reason() -> None:
    with pytest.raises(Unreadable, match="nobody listens on /run/nothing"):
        find_listener(PROC_NET_UNIX, b"/run/nothing")


def test_tcp_ext_counters_come_by_name_and_a_missing_one_is_not_0() -> None:
    row = TcpExt().counters(NETSTAT)
    assert row[:3] == (46, 47, None)
    assert row[-1] == f"no {', '.join(COUNTERS[2:])}"


@pytest.mark.parametrize("text", [b"", b"TcpExt: A B\n", b"TcpExt: A B\nTcpExt: 1\n"])
def test_tcp_ext_without_a_matching_pair_of_lines_is_a_reason(text: bytes) -> None:
    with pytest.raises(Unreadable, match="matching pair"):
        TcpExt().counters(text)


def test_a_status_page_has_active_with_and_without_our_own_poll() -> None:
    assert parse_stub_status(STATUS) == (10, 9, 1, 7, 2, 114, 113, 120, None)


def test_another_page_is_not_taken_for_a_status_page() -> None:
    with pytest.raises(Unreadable, match="not a status page"):
        parse_stub_status(b"<html>404</html>")


def test_a_process_name_may_hold_brackets_and_blanks() -> None:
    stat = "813 (nginx: ) wor(ker) S 811 811 811 0 -1 4194624 30 0 0 0 250 50 0 0 20 0 1 0 12345 11964416 987"
    assert parent_and_cpu_s(stat) == (811, 300 / os.sysconf("SC_CLK_TCK"))
