"""From a host's files to tables: on files written here, whole and damaged."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from collectors.fields import AGENT, REQUESTS, SOURCES, TABLES
from floodmark.errors import RunError
from floodmark.runs.folders import RunFolder
from floodmark.verdict.ingest import Ingested, ingest
from floodmark.verdict.logs import parse_error_log

S = 1_000_000_000
WALL = 1_700_000_000 * S  # wall clock minus monotonic clock of the host


class FakeRun:
    """The files of one run, which a test changes before it reads them."""

    def __init__(self, folder: Path) -> None:
        self.run = RunFolder(folder)
        self.files: dict[str, str] = {}
        for table in SOURCES:
            empty = "," * (len(table.columns) - 2)
            self.files[f"{table.name}.csv"] = ",".join(table.columns) + "\n" + f"{1 * S}{empty},not there\n"
        clocks = {"wall_minus_monotonic_ns": WALL, "utc_offset_s": 0}
        self.files["host.json"] = json.dumps({"clocks": clocks, "listeners": [], "kernel": {"release": "x"}})
        self.files["nginx-access.log"] = ""
        self.files["nginx-error.log"] = ""
        self.load: dict[str, Any] = {
            "wall_minus_monotonic_ns": WALL,
            "unfinished": 0,
            "dropped": 0,
            "generator": 0,
            "generators": 1,
            "cpu_s": 0.1,
            "cpu_warning": False,
            "locust_version": "2.47.0",
            "leader_version": "2.47.0",
        }
        self.requests = [",".join(REQUESTS.columns)]
        self.sources = [table.name for table in SOURCES if table is not AGENT]

    def depth(self, t_s: float, depth: int, limit: int = 8, listener: str = "upstream") -> None:
        self.files["accept_queue.csv"] += f"{int(t_s * S)},{listener},{depth},{limit},unix_diag,\n"

    def request(
        self, number: int, start_s: float, end_s: float, status: int | str = 200, error: str = "", late_s: float = 0
    ) -> None:
        connected_ns, first_byte_ns = int(start_s * S) + 100_000, "" if error else int(end_s * S)
        times = f"{int((start_s - late_s) * S)},{int(start_s * S)},{connected_ns},{first_byte_ns},{int(end_s * S)}"
        self.requests.append(f"0,{self.run.run_id}/{number},{times},{status},{error},,5")

    def logged(
        self, number: int, end_s: float, request_s: float, status: int = 200, upstream: str = "0.001, 0.002"
    ) -> None:
        entry = {
            "id": f"{self.run.run_id}/{number}",
            "msec": f"{(WALL + int(end_s * S)) / S:.3f}", "pid": "7", "status": str(status),
            "bytes_sent": "100", "request_time": f"{request_s:.3f}", "upstream_connect_time": "0.000",
            "upstream_header_time": "-", "upstream_response_time": upstream, "upstream_status": str(status),
        }  # fmt: skip
        self.files["nginx-access.log"] += json.dumps(entry) + "\n"

    def write(self) -> None:
        host = self.run.host("proxy1")
        host.archive.parent.mkdir(parents=True)
        load = self.run.load("proxy1")
        load.mkdir(parents=True)
        (load / "load.0.json").write_text(json.dumps(self.load))
        (load / "requests.0.csv").write_text("\n".join(self.requests) + "\n")
        with tarfile.open(host.archive, "w:gz") as archive:
            for name, text in self.files.items():
                path = self.run.path / name
                path.write_text(text, errors="surrogateescape")
                archive.add(path, name)
                path.unlink()

    def ingest(self) -> Ingested:
        self.write()
        return ingest(self.run, self.run.host("proxy1"), self.sources)


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path)


def broken(tables: Ingested) -> list[str]:
    """Return the sentences of the checks that reading has found broken."""
    return [one.sentence for one in tables.checks if not one.ok]


def rows(tables: Ingested, query: str) -> list[tuple[Any, ...]]:
    return list(tables.database.execute(query).fetchall())


def test_lines_of_the_access_log_that_are_no_text_or_no_object_are_left_out_and_counted(fake: FakeRun) -> None:
    fake.request(1, 2, 3)
    fake.logged(1, 3, 1)
    fake.files["nginx-access.log"] += '{"id":"\udcff","msec":"1"}\n17\n{"id":"2","ms\n{"id":"3","msec":"170'
    tables = fake.ingest()
    assert rows(tables, "SELECT count(*) FROM nginx_access") == [(1,)]
    assert broken(tables) == [
        "nginx-access.log ends in the middle of a line: its last 21 bytes were left out",
        "nginx-access.log has 3 damaged lines, which were left out",
    ]


def test_samples_belong_to_the_phase_of_their_time(fake: FakeRun) -> None:
    for t_s in (1, 2, 3, 4, 5):
        fake.depth(t_s, t_s)
    fake.request(1, 2, 3)
    fake.request(2, 2.5, 4)
    assert rows(fake.ingest(), "SELECT depth_conns, phase FROM accept_queue WHERE reason IS NULL ORDER BY t_ns") == [
        (1, "baseline"), (2, "flood"), (3, "flood"), (4, "flood"), (5, "drain"),
    ]  # fmt: skip


def test_a_failed_reading_stays_a_row_without_a_number(fake: FakeRun) -> None:
    assert rows(fake.ingest(), "SELECT active_conns, reason FROM stub_status") == [(None, "not there")]


def test_the_source_machine_may_have_been_left_out(fake: FakeRun) -> None:
    fake.request(1, 2, 3)
    del fake.files["machine.csv"]
    fake.sources.remove("machine")
    tables = fake.ingest()
    assert (rows(tables, "SELECT count(*) FROM machine"), broken(tables)) == ([(0,)], [])


def test_tables_are_written_with_the_types_of_the_registry(fake: FakeRun) -> None:
    fake.ingest()
    types = {"integer": "BIGINT", "real": "DOUBLE", "text": "VARCHAR"}
    for table in TABLES.values():
        path = fake.run.host("proxy1").table(table.name)
        found = duckdb.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
        assert [(row[0], row[1]) for row in found if row[0] != "phase"] == [
            (field.name, types[field.type]) for field in table.fields
        ]


def test_a_file_that_was_cut_off_loses_its_last_line_and_says_so(fake: FakeRun) -> None:
    fake.depth(1, 3)
    fake.files["accept_queue.csv"] += "2000000000,upstr"
    tables = fake.ingest()
    assert rows(tables, "SELECT max(depth_conns) FROM accept_queue") == [(3,)]
    assert broken(tables) == ["accept_queue.csv ends in the middle of a line: its last 16 bytes were left out"]


def test_what_was_cut_off_is_said_each_time_and_the_file_stays_as_it_is(fake: FakeRun) -> None:
    fake.files["nginx-access.log"] += '{"id":"7"'
    fake.ingest()
    requests = fake.run.load("proxy1") / "requests.0.csv"
    with requests.open("a") as file:
        file.write("8,17")
    before = requests.read_bytes()
    expected = [
        "requests.0.csv ends in the middle of a line: its last 4 bytes were left out",
        "nginx-access.log ends in the middle of a line: its last 9 bytes were left out",
    ]
    for _ in range(2):
        assert broken(ingest(fake.run, fake.run.host("proxy1"), fake.sources)) == expected
    assert requests.read_bytes() == before


def test_a_source_that_wrote_nothing_is_named(fake: FakeRun) -> None:
    del fake.files["tcp_ext.csv"]
    assert broken(fake.ingest()) == ["tcp_ext.csv is missing: nothing was written"]


def test_a_reason_may_hold_commas_and_quotes(fake: FakeRun) -> None:
    fake.files["tcp_ext.csv"] = ",".join(TABLES["tcp_ext"].columns) + '\n1,,,,,,,"a ""b"", c"\n'
    assert rows(fake.ingest(), "SELECT reason FROM tcp_ext") == [('a "b", c',)]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda fake: fake.files.pop("host.json"), "has no host.json: the run stopped before it was written"),
        (lambda fake: fake.files.update({"host.json": "{"}), "host.json in .* is damaged"),
        (lambda fake: fake.files.update({"tcp_ext.csv": "a,b\n"}), "tcp_ext.csv has the columns"),
    ],
)
def test_what_is_missing_or_damaged_is_named(fake: FakeRun, damage: Callable[[FakeRun], Any], sentence: str) -> None:
    damage(fake)
    with pytest.raises(RunError, match=sentence):
        fake.ingest()


def test_a_missing_and_a_damaged_archive_are_named(fake: FakeRun) -> None:
    fake.write()
    archive = fake.run.host("proxy1").archive
    archive.write_bytes(b"no archive")
    with pytest.raises(RunError, match=r"host\.tar\.gz is damaged"):
        ingest(fake.run, fake.run.host("proxy1"), fake.sources)
    archive.unlink()
    with pytest.raises(RunError, match="nothing was fetched from this host"):
        ingest(fake.run, fake.run.host("proxy1"), fake.sources)


def test_times_of_nginx_are_read_with_lists_and_dashes(fake: FakeRun) -> None:
    fake.request(1, 2, 3)
    fake.logged(1, 2.9, 0.8)
    assert rows(
        fake.ingest(), "SELECT end_ns, request_s, upstream_header_s, upstream_response_s FROM nginx_access"
    ) == [(2_900_000_000, 0.8, None, pytest.approx(0.003))]


def test_clocks_that_agree_are_left_alone(fake: FakeRun) -> None:
    fake.request(1, 2.000, 2.010)
    fake.logged(1, 2.009, 0.008)
    tables = fake.ingest()
    assert tables.clock.offset_ns == 0
    assert rows(tables, "SELECT start_ns FROM requests") == [(2 * S,)]


@pytest.mark.parametrize("ahead_s", [-3.0, 0.25, 40.0])
def test_a_generator_with_another_clock_is_moved_to_the_hosts(fake: FakeRun, ahead_s: float) -> None:
    """The generator's wall clock is wrong by ahead_s; the requests that nginx logged tell by how much."""
    fake.load["wall_minus_monotonic_ns"] = WALL + int(ahead_s * S)
    for number in range(1, 6):
        fake.request(number, 2 + number / 10, 2 + number / 10 + 0.01)
        fake.logged(number, 2 + number / 10 + 0.009, 0.008)
    tables = fake.ingest()
    (first,) = rows(tables, "SELECT min(start_ns) FROM requests")
    assert tables.clock.error_ns is not None
    assert tables.clock.error_ns <= 5_000_000
    assert abs(first[0] - int(2.1 * S)) <= tables.clock.error_ns


def test_the_error_log_gives_errno_and_message() -> None:
    refused = (
        "2026/11/23 03:15:01 [error] 812#812: *5 connect() to unix:/run/u.sock failed (11: Resource temporarily "
        "unavailable) while connecting to upstream, client: 198.18.7.1, server: _\n"
    )
    exhausted = "2026/11/23 03:15:02 [alert] 812#812: 16 worker_connections are not enough\n"
    lines = iter([refused, exhausted, "something else\n"])
    parsed = parse_error_log(lines, 0, 0)
    assert [(level, pid, errno) for _t, level, pid, errno, _m in parsed] == [("error", 812, 11), ("alert", 812, None)]
    assert parsed[0][4].endswith("while connecting to upstream")
    assert parsed[1][4] == "16 worker_connections are not enough"
    assert parsed[1][0] - parsed[0][0] == S


# --- several generators ---------------------------------------------------------------------------


def test_each_generator_has_a_clock_of_its_own(fake: FakeRun) -> None:
    fake.request(1, 2, 3)
    fake.logged(1, 3, 1)
    fake.write()
    load = fake.run.load("proxy1")
    second = {**fake.load, "generator": 1, "generators": 2, "wall_minus_monotonic_ns": WALL + 7 * S}
    (load / "load.0.json").write_text(json.dumps({**fake.load, "generators": 2}))
    (load / "load.1.json").write_text(json.dumps(second))
    row = f"1,{fake.run.run_id}/2," + ",".join(str(int((t_s - 7) * S)) for t_s in (2, 2)) + f",,,{-4 * S},200,,,5"
    (load / "requests.1.csv").write_text("\n".join([fake.requests[0], row]) + "\n")
    tables = ingest(fake.run, fake.run.host("proxy1"), fake.sources)
    assert rows(tables, "SELECT generator, start_ns, end_ns FROM requests ORDER BY 1") == [
        (0, 2 * S, 3 * S),
        (1, 2 * S, 3 * S),
    ]
    assert broken(tables) == []


def test_a_generator_that_was_lost_is_named(fake: FakeRun) -> None:
    fake.request(1, 2, 3)
    fake.load["generators"] = 3
    (loss,) = broken(fake.ingest())
    assert "2 processes of 3 of the flood were lost, number 1, 2" in loss


def test_of_very_many_lost_generators_some_are_named(fake: FakeRun) -> None:
    """A damaged file may say any number, which must not take all memory."""
    fake.request(1, 2, 3)
    fake.load["generators"] = 10**15
    (loss,) = broken(fake.ingest())
    assert "number 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …" in loss


def test_a_flood_that_has_written_nothing_is_said(fake: FakeRun) -> None:
    fake.write()
    (fake.run.load("proxy1") / "load.0.json").unlink()
    with pytest.raises(RunError, match=r"no load\.\*\.json: the flood was ended before"):
        ingest(fake.run, fake.run.host("proxy1"), fake.sources)
