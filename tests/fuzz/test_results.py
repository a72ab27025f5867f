"""Folders of results from somebody else: archives, logs, JSON, Parquet."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from floodmark.cli import main
from floodmark.export.database import SAMPLED, ask
from floodmark.inputs.suites import resolve_suite
from floodmark.model.lab import LabPoint, LabRecord
from floodmark.runs.archive import checksum_file
from floodmark.runs.folders import RunFolder
from floodmark.runs.journal import read_journal
from floodmark.verdict.ingest import extract_archive, ingest
from floodmark.verdict.logs import load_access_log, load_error_log
from floodmark.verdict.tables import create_tables
from tests.conftest import ROOT
from tests.fuzz.made_up import (
    ATOMS,
    ODD_TEXTS,
    TEXTS,
    damaged,
    fuzz,
    garbled,
    is_a_sentence,
    json_files,
    nothing_outside,
    refuses_or_returns,
)

REAL = ROOT / "tests/data/results-3c3c525/20261130T154107Z-case6-tcp"
ARCHIVE = (REAL / "proxy1/raw/host.tar.gz").read_bytes()
with tarfile.open(fileobj=io.BytesIO(ARCHIVE)) as _opened:
    MEMBERS = {
        one.name: file.read() for one in _opened if one.isfile() and (file := _opened.extractfile(one)) is not None
    }


# That run had no strace, and its host did not yet say how it ended.
PACKED = {
    **MEMBERS,
    "./strace.json": b'{"reason": null, "version": "6.1", "processes": {"812": "master", "813": "worker"}}',
    "./strace.813": b"1796053274.183000 accept4(6, {sa_family=AF_INET}, [112 => 16], SOCK_NONBLOCK) = 3 <0.000021>\n",
    "./units.json": b'[{"name": "floodmark-agent.service", "active_state": "active", "result": "success"}]',
    "./written.json": b'{"accept_queue": 18000, "agent": 12}',
}
# How often each source was read.
RATES = json.loads((REAL / "run.json").read_text(encoding="utf-8"))["rates_hz"]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[], RunFolder]:
    """Return what makes a copy of a real run, instead of the one that it has made before."""

    def copy() -> RunFolder:
        results = tmp_path / "results"
        shutil.rmtree(results, ignore_errors=True)
        return RunFolder(shutil.copytree(REAL, results / REAL.name))

    return copy


def invoke(folder: Path, *arguments: str) -> None:
    """Run a command as a user would: it ends with status 0 or 1, or with 2 and a sentence."""
    with nothing_outside(folder):
        done = CliRunner().invoke(main, [*arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code not in (0, 1):
        sentence = done.stderr.strip().splitlines()[-1]
        assert done.exit_code == 2
        assert sentence.startswith("floodmark: ")
        assert is_a_sentence(sentence), sentence[:5000]


# --- logs -----------------------------------------------------------------------------------------

ACCESS, ERRORS = (MEMBERS[name].splitlines(keepends=True)[:3] for name in ("./nginx-access.log", "./nginx-error.log"))
REQUEST = json.loads(ACCESS[0])


@st.composite
def access_lines(draw: DrawFn) -> bytes:
    """Make a line of the access log in which a value is another one."""
    name = draw(st.sampled_from(sorted(REQUEST)))
    return (
        json.dumps({**REQUEST, name: draw(ATOMS | TEXTS)}, ensure_ascii=draw(st.booleans())).encode(errors="replace")
        + b"\n"
    )


@fuzz(100, st.lists(access_lines() | garbled(b"".join(ACCESS)), min_size=1, max_size=4))
def test_access_logs(tmp_path: Path, lines: list[bytes]) -> None:
    log = tmp_path / "nginx-access.log"
    log.write_bytes(b"".join(lines))
    with nothing_outside(tmp_path), duckdb.connect() as database:
        create_tables(database)
        refuses_or_returns(lambda: load_access_log(database, log, 1))


@fuzz(100, st.lists(garbled(b"".join(ERRORS)), min_size=1, max_size=4))
def test_error_logs(tmp_path: Path, lines: list[bytes]) -> None:
    log = tmp_path / "nginx-error.log"
    log.write_bytes(b"".join(lines))
    with nothing_outside(tmp_path), duckdb.connect() as database:
        create_tables(database)
        refuses_or_returns(lambda: load_error_log(database, log, 1, 0))


# --- archives -------------------------------------------------------------------------------------

KINDS = [
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
    b"x",
    b"?",
]
NAMES = st.sampled_from(
    [*ODD_TEXTS, "./host.json", "host.json", "a", "a/b", "a/../../escaped", "/tmp/escaped", "..", "./"]
).map(lambda name: name.replace("\0", ""))


@st.composite
def archives(draw: DrawFn) -> bytes:
    """Make archives of members that no host packs."""
    packed = io.BytesIO()
    with tarfile.open(
        fileobj=packed, mode="w", format=draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    ) as archive:
        for _ in range(draw(st.integers(1, 4))):
            member = tarfile.TarInfo(draw(NAMES))
            member.type, member.linkname = draw(st.sampled_from(KINDS)), draw(NAMES)
            member.mode = draw(st.sampled_from([0o000, 0o644, 0o4755, 0o777]))
            content = draw(st.binary(max_size=30))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), compresslevel=1)


@fuzz(200, archives() | garbled(ARCHIVE))
def test_archives(tmp_path: Path, content: bytes) -> None:
    archive, target = tmp_path / "host.tar.gz", tmp_path / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    archive.write_bytes(content)
    with nothing_outside(target):
        refuses_or_returns(lambda: extract_archive(archive, target))
    assert all(path.is_dir() or path.is_file() for path in target.rglob("*"))
    assert not any(path.is_symlink() or path.stat().st_mode & 0o7000 for path in target.rglob("*"))


@fuzz(40, st.sampled_from(sorted(PACKED)).flatmap(lambda name: st.tuples(st.just(name), garbled(PACKED[name][:4000]))))
def test_what_a_host_has_packed(run: Callable[[], RunFolder], member: tuple[str, bytes]) -> None:
    folder, (name, content) = run(), member
    archive = folder.host("proxy1").archive
    checksum_file(archive).unlink(missing_ok=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        for one, there in {**PACKED, name: content}.items():
            info = tarfile.TarInfo(one)
            info.size = len(there)
            packed.addfile(info, io.BytesIO(there))
    with nothing_outside(folder.path):
        refuses_or_returns(lambda: ingest(folder, folder.host("proxy1"), RATES))


# --- what stands in the folder of a run -----------------------------------------------------------

FILES = ("run.json", "proxy1/verdict.json", "proxy1/host.json", "load/proxy1/load.0.json")
CONTENT = {name: (REAL / name).read_bytes() for name in FILES}


@st.composite
def stored_files(draw: DrawFn) -> tuple[str, bytes]:
    """Make a file of a run that is damaged."""
    name = draw(st.sampled_from(FILES))
    if draw(st.booleans()):
        return name, json.dumps(draw(damaged(json.loads(CONTENT[name])))).encode()
    return name, draw(garbled(CONTENT[name]))


COMMANDS = ["show", "show --json", "diff latest", "junit", "csv requests", "sql", "compare --by host"]


def command(words: str, folder: RunFolder) -> list[str]:
    """Return a command about a run."""
    name, *rest = words.split()
    if name == "diff":
        return [name, str(folder.path), str(REAL)]
    if name == "compare":
        return [name, str(folder.path), str(REAL), *rest]
    return [name, str(folder.path), *rest]


@fuzz(150, stored_files(), st.sampled_from([one for one in COMMANDS if one != "sql"]))
def test_files_of_a_run(run: Callable[[], RunFolder], file: tuple[str, bytes], words: str) -> None:
    folder, (name, content) = run(), file
    (folder.path / name).write_bytes(content)
    invoke(folder.path.parent, *command(words, folder))


NO_JSON = [
    b"",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"schema_version": ' + b"9" * 5000 + b"}",
    b"NaN",
    b"[]",
    b"\xff\xfe",
]


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_json(run: Callable[[], RunFolder], name: str) -> None:
    folder = run()
    for content in NO_JSON:
        (folder.path / name).write_bytes(content)
        invoke(folder.path.parent, "show", str(folder.path))
    invoke(folder.path.parent, "judge", "--quiet", str(folder.path))


@fuzz(15, stored_files(), st.sampled_from(["report", "judge --quiet"]))
def test_reports_and_verdicts_on_them(run: Callable[[], RunFolder], file: tuple[str, bytes], words: str) -> None:
    folder, (name, content) = run(), file
    (folder.path / name).write_bytes(content)
    invoke(folder.path.parent, *command(words, folder))


@fuzz(60, stored_files(), st.sampled_from(["runs", "metrics", "expectations", "checks", "claims", "parameters"]))
def test_questions_about_them(run: Callable[[], RunFolder], file: tuple[str, bytes], table: str) -> None:
    folder, (name, content) = run(), file
    (folder.path / name).write_bytes(content)
    with nothing_outside(folder.path):
        answer = refuses_or_returns(lambda: ask(f"FROM {table}", [folder.path]))
        if answer:
            answer.fetchall()


TABLES = {
    name: (REAL / f"proxy1/{name}.parquet").read_bytes()
    for name in SAMPLED
    if (REAL / f"proxy1/{name}.parquet").exists()
}


@fuzz(60, st.sampled_from(sorted(TABLES)).flatmap(lambda name: st.tuples(st.just(name), garbled(TABLES[name]))))
def test_tables(run: Callable[[], RunFolder], file: tuple[str, bytes]) -> None:
    folder, (name, content) = run(), file
    folder.host("proxy1").table(name).write_bytes(content)
    invoke(folder.path.parent, "csv", str(folder.path), name)


# --- labs and suites ------------------------------------------------------------------------------

LAB = LabRecord(
    lab="single-request", question="What does one request do?", case=2, inventory="inventory/testbed.yml",
    given={"users": "2"}, parameters={"users": 1},
    points=[
        LabPoint(point="transport=unix", case=2, varied={"transport": "unix"}, takes_s=10.0, run_id=REAL.name),
        LabPoint(point="transport=tcp", case=2, varied={"transport": "tcp"}, takes_s=10.0),
    ],
)  # fmt: skip


@fuzz(60, json_files(LAB.model_dump(mode="json")))
def test_executions_of_a_lab(run: Callable[[], RunFolder], content: bytes) -> None:
    folder = run().path.parent / "20261130T154107Z-lab-single-request"
    folder.mkdir()
    (folder / "lab.json").write_bytes(content)
    invoke(folder.parent, "report", str(folder))


SUITE = resolve_suite(
    ROOT / "suites/kernels.yml",
    {"proxies": ["linux61", "linux612"], "load_generators": ["a"], "testbed": ["linux61", "linux612"]},
    {},
)
JOURNAL = "".join(
    json.dumps(line) + "\n"
    for line in (
        {"at": "2026-11-30T15:41:07+00:00", "suite": SUITE.name, "digest": SUITE.digest},
        {"at": "2026-11-30T15:41:08+00:00", "event": "began", "run": "block1-case1", "run_id": REAL.name, "block": 1},
        {"event": "finished", "run": "block1-case1", "run_id": REAL.name, "valid": True, "passed": True, "took_s": 9.5},
        {"event": "failed", "run": "block1-case2", "why": "the pump is broken"},
    )
).encode()


@st.composite
def journals(draw: DrawFn) -> bytes:
    """Make journals with a line that nobody has written."""
    lines = [json.loads(line) for line in JOURNAL.splitlines()]
    return b"".join(json.dumps(one).encode() + b"\n" for one in draw(damaged(lines)))


@fuzz(100, garbled(JOURNAL) | journals() | st.just(JOURNAL + b"[" * 100_000 + b"\n"))
def test_journals_of_a_suite(run: Callable[[], RunFolder], content: bytes) -> None:
    results = run().path.parent
    folder = results / f"suites/{SUITE.name}-{SUITE.digest[:8]}"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(content)
    with nothing_outside(results):
        refuses_or_returns(lambda: read_journal(SUITE, results))
