"""What GoAccess makes of lines as our nginx writes them."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from floodmark.errors import FloodmarkError
from floodmark.runs.folders import HostFolder, RunFolder
from floodmark.web.goaccess import LOG, LOG_FORMAT, Counts, make_report, make_reports, missing
from tests.conftest import ROOT, read_access_report

NAMED = "20261126T191150Z-case2-unix"
SECOND = 1795720337


def entry(**changes: str) -> dict[str, str]:
    return {
        "id": f"{NAMED}/10", "msec": f"{SECOND}.876", "pid": "136", "client": "198.18.79.1",
        "request": "POST / HTTP/1.1", "status": "502", "bytes_sent": "309", "request_time": "0.001",
        "upstream_connect_time": "-", "upstream_header_time": "-", "upstream_response_time": "0.000",
        "upstream_status": "502", **changes,
    }  # fmt: skip


def lines(*entries: dict[str, str]) -> bytes:
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in entries)


@pytest.fixture(autouse=True)
def goaccess_is_there() -> None:
    if why := missing():
        pytest.fail(why)


@pytest.fixture
def host(tmp_path: Path) -> HostFolder:
    return HostFolder(tmp_path / "proxy1")


def archive(host: HostFolder, log: bytes, name: str = f"./{LOG}") -> None:
    host.archive.parent.mkdir(parents=True)
    with tarfile.open(host.archive, "w:gz") as opened:
        member = tarfile.TarInfo(name)
        member.size = len(log)
        opened.addfile(member, io.BytesIO(log))


def shown(host: HostFolder, panel: str) -> dict[str, Any]:
    """Return the rows of a panel, with what stands below them, by what they are about."""
    rows = read_access_report(host.access_report)[panel]["data"]
    return {row["data"]: row for outer in rows for row in (outer, *outer.get("items", []))}


def test_goaccess_is_told_of_fields_that_nginx_logs() -> None:
    template = (ROOT / "roles/nginx/templates/nginx.conf.j2").read_text()
    logged = set(re.findall(r'"(\w+)":"\$', template))
    assert json.loads(LOG_FORMAT).keys() <= logged
    assert entry().keys() == logged


def test_what_is_shown_is_what_a_hand_counts(host: HostFolder) -> None:
    log = [
        *(entry() for _ in range(23)),
        *(entry(status="504", bytes_sent="316", request_time="5.004", msec=f"{SECOND + 120}.1") for _ in range(9)),
        entry(id="", client="198.18.79.9", request="GET /favicon.ico HTTP/1.1", status="200"),
    ]
    archive(host, lines(*log))
    assert make_report(host, "a title") == Counts(33, 0)
    general = read_access_report(host.access_report)["general"]
    assert (general["total_requests"], general["valid_requests"], general["failed_requests"]) == (33, 33, 0)
    assert general["bandwidth"] == sum(int(one["bytes_sent"]) for one in log)
    codes = shown(host, "status_codes")
    by_hand = Counter(one["status"] for one in log)
    assert {name[:3]: row["hits"]["count"] for name, row in codes.items() if name[:3].isdigit()} == by_hand
    gateway_timeout = next(row for name, row in codes.items() if name.startswith("504"))
    assert gateway_timeout["avgts"] == 5_004_000  # µs
    assert {name: row["hits"]["count"] for name, row in shown(host, "hosts").items()} == {
        "198.18.79.1": 32, "198.18.79.9": 1,
    }  # fmt: skip
    assert {name: row["hits"]["count"] for name, row in shown(host, "visitors").items()} == {
        "202611261912": 24, "202611261914": 9,
    }  # fmt: skip
    assert {name: row["hits"]["count"] for name, row in shown(host, "vhosts").items()} == {NAMED: 32}


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "000"},
        {"status": "499", "bytes_sent": "0"},
        {"status": "400", "request": "-"},
        {"status": "400", "request": "\x16\x03\x01"},
        {"client": "::1", "request": "PURGE /x HTTP/1.1"},
        {"id": "somebody's own/id/1", "request": "GET /y"},
    ],
)
def test_what_nginx_logs_of_odd_clients_is_counted(host: HostFolder, odd: dict[str, str]) -> None:
    archive(host, lines(entry(**odd)))
    assert make_report(host, "") == Counts(1, 0)


def test_a_last_line_that_was_cut_off_is_none_and_a_damaged_one_is_told(host: HostFolder) -> None:
    archive(host, lines(entry()) + b'{"id":"9","ms\n' + lines(entry()) + b'{"id":"', name=LOG)
    assert make_report(host, "") == Counts(3, 1)
    assert read_access_report(host.access_report)["general"]["valid_requests"] == 2


def test_a_log_that_was_written_before_clients_were_logged_is_told(host: HostFolder) -> None:
    archive(host, lines(*({name: text for name, text in entry().items() if name != "client"} for _ in range(20))))
    assert make_report(host, "") == Counts(20, 20)


def test_an_empty_log_has_an_empty_report(host: HostFolder) -> None:
    archive(host, b"")
    assert make_report(host, "") == Counts(0, 0)
    assert read_access_report(host.access_report)["general"]["total_requests"] == 0


def test_a_path_with_html_in_it_is_text(host: HostFolder) -> None:
    archive(host, lines(entry(request="GET /</script><img/src=x/onerror=alert(1)> HTTP/1.1")))
    assert make_report(host, "") == Counts(1, 0)
    assert "<img/src" not in host.access_report.read_text()


def test_what_stands_in_the_way_is_one_sentence(host: HostFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FloodmarkError, match=r"host\.tar\.gz is missing: nothing was fetched"):
        make_report(host, "")
    archive(host, b"", name="./host.json")
    with pytest.raises(FloodmarkError, match=r"has no nginx-access.log: nginx was not started"):
        make_report(host, "")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FloodmarkError, match="GoAccess is not installed on this machine"):
        make_report(host, "")
    assert not host.access_report.exists()


def test_a_run_goes_on_without_reports_and_says_so(host: HostFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(host.path.parent)
    assert make_reports(run, ["proxy1"]) == []  # nothing was fetched, and the verdict says that
    archive(host, lines(entry()))
    assert make_reports(run, ["proxy1", "proxy2"]) == []
    assert host.access_report.exists()
    whole = host.archive.read_bytes()
    block = whole.index(b"\0", 10) + 1  # behind the name (RFC 1952)
    # The second has a kind of block that does not exist (RFC 1951 section 3.2.3).
    for damaged in (b"not an archive", whole[:block] + b"\xff" + whole[block + 1 :]):
        host.archive.write_bytes(damaged)
        (said,) = make_reports(run, ["proxy1"])
        assert re.fullmatch(r"host proxy1 has no goaccess\.html: \S+host\.tar\.gz is damaged: .*\w\.", said)
    monkeypatch.setenv("PATH", "/nowhere")
    (said,) = make_reports(run, ["proxy1"])
    assert said.startswith("This run has no goaccess.html: GoAccess is not installed on this machine; on Debian")


def test_a_run_says_which_lines_are_not_in_a_report(host: HostFolder) -> None:
    archive(host, b"damaged\n" + lines(entry(), entry()))
    assert make_reports(RunFolder(host.path.parent), ["proxy1"]) == [
        "host proxy1: GoAccess could not read 1 of the 3 lines of nginx-access.log."
    ]
