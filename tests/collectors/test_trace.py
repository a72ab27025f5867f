"""The trace of the accept queue without a kernel to trace; tests/testbed/test_virtual_machines.py has the rest."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.config import Listener
from collectors.fields import QUEUE_WAITS
from collectors.output import Output
from collectors.trace import ARRIVAL_UNSEEN, STILL_WAITING, Trace, program
from tests.conftest import ROOT


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "queue_waits.csv").open() as file:
        return list(csv.DictReader(file))


def trace_in(folder: Path, path: str, **listener: object) -> subprocess.CompletedProcess[str]:
    """Run the tracer with a PATH of its own until it ends by itself."""
    upstream = {"name": "upstream", "transport": "unix", "path": str(folder / "s"), "port": 0, **listener}
    front = {"name": "front", "transport": "tcp", "path": "", "port": 8080}
    config = {"output": str(folder), "listeners": [upstream, front], "status_path": "/", "nginx_unit": "none.service",
              "upstream_unit": "none.service", "rates_hz": {}}  # fmt: skip
    (folder / "agent.json").write_text(json.dumps(config))
    return subprocess.run(
        [sys.executable, "-m", "collectors.trace", str(folder / "agent.json")],
        cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_without_bpftrace_the_table_says_so_and_the_run_goes_on(tmp_path: Path) -> None:
    done = trace_in(tmp_path, path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path)
    assert row["reason"] == "bpftrace is not installed on this host"
    assert row["t_ns"]
    assert not row["wait_ns"]
    assert json.loads((tmp_path / "written-trace.json").read_text()) == {"queue_waits": 1}


def test_a_bpftrace_that_is_refused_gives_its_own_words(tmp_path: Path) -> None:
    program = tmp_path / "bpftrace"
    program.write_text(
        "#!/bin/sh\necho 'Attaching 3 probes...'\n"
        "echo 'ERROR: bpftrace currently only supports running as the root user.' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    assert trace_in(tmp_path, path=f"{tmp_path}:/bin").returncode == 0
    assert [row["reason"] for row in rows(tmp_path)] == [
        "bpftrace: bpftrace currently only supports running as the root user."
    ]


def test_what_bpftrace_prints_becomes_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines as bpftrace 0.17 printed them on Linux 6.12; one that is cut in two by a read is whole again."""
    said = tmp_path / "bpftrace"
    said.write_text(
        "#!/bin/sh\nprintf 'Attaching 3 probes...\\nready\\n53151689273 532056'\nsleep 0.05\nprintf '16576\\n'\n"
        "printf '0 53209479701\\nLost 12 events\\n\\n\\n@came[0xff30dc7f821e6c00]: 53153539364\\n'\n"
    )
    said.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    output = Output(tmp_path)
    trace = Trace("", output.table(QUEUE_WAITS))
    trace.wait_until_ready()
    while trace.read():
        pass
    trace.close()
    output.close()
    accepted, unseen, lost, waiting, ended = rows(tmp_path)
    assert accepted == {"t_ns": "53151689273", "accepted_ns": "53205616576", "wait_ns": "53927303", "reason": ""}
    assert (unseen["t_ns"], unseen["accepted_ns"], unseen["reason"]) == ("", "53209479701", ARRIVAL_UNSEEN)
    assert lost["reason"] == "12 events were lost: bpftrace was too slow"
    assert (waiting["t_ns"], waiting["wait_ns"], waiting["reason"]) == ("53153539364", "", STILL_WAITING)
    assert "bpftrace ended with status 0" in ended["reason"], "nobody asked it to"


def test_the_program_names_the_listener() -> None:
    odd = program(Listener("upstream", "unix", '/run/a "b" \\c', 0), 7)
    assert r'== "/run/a \"b\" \\c"' in odd
    assert "addr + 10)" in odd
    abstract = program(Listener("upstream", "unix", "@name", 0), 7)
    assert '== "name"' in abstract
    assert "addr + 11)" in abstract, "after the NUL"
    tcp = program(Listener("upstream", "tcp", "", 9000), 4026531840)
    assert "skc_num == 9000" in tcp
    assert "inum == 4026531840" in tcp
