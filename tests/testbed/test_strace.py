"""strace of nginx from its first instruction, in real runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from floodmark.runs.folders import RunFolder
from tests.conftest import environment
from tests.testbed.conftest import ROOT, SHORT, evidence, folder_of, play, shown_verdicts, verdict_of
from tests.testbed.test_promises import wait_until

pytestmark = pytest.mark.usefixtures("testbed")

ONE_REQUEST = ["-e", "case=2", "-e", "users=1", "-e", "strace=true"]


def ask(folder: Path, question: str) -> list[tuple[Any, ...]]:
    """Ask the tables of a run's only host."""
    host = RunFolder(folder).host("proxy1")
    tables = {name: f"'{host.table(name)}'" for name in ("syscalls", "process")}
    return duckdb.execute(question.format(**tables)).fetchall()


@pytest.mark.parametrize(("listens", "proxy_passes"), [(1, 2), (2, 1)])
def test_nginx_listens_for_each_listen_and_not_for_each_proxy_pass(
    listens: int, proxy_passes: int, snapshot: Callable[[], str]
) -> None:
    before = snapshot()
    done = play(*ONE_REQUEST, "-e", f"nginx_listens={listens}", "-e", f"nginx_proxy_passes={proxy_passes}")
    assert done.returncode == 0, evidence(done)
    verdict = verdict_of(done)
    assert verdict["valid"], verdict["reasons"]
    folder = folder_of(done)
    listening = ask(
        folder,
        "SELECT role, phase, object, count(DISTINCT fd) FROM {syscalls} WHERE name = 'listen' GROUP BY ALL",
    )
    assert listening == [("nginx-master", "baseline", "listener", listens)]
    first = ask(folder, "SELECT name, arguments FROM {syscalls} ORDER BY t_ns LIMIT 1")
    assert first[0][0] == "execve"
    assert first[0][1].startswith('"/usr/sbin/nginx", ["/usr/sbin/nginx", "-c"')
    # One becomes the master by cloning itself; the tracer, which is in the unit as well, is none of them.
    assert ask(folder, "SELECT role, count(DISTINCT pid) FROM {syscalls} GROUP BY role ORDER BY role") == [
        ("nginx-master", 2), ("nginx-worker", 2),
    ]  # fmt: skip
    assert ask(folder, "SELECT role, count(DISTINCT pid) FROM {process} GROUP BY role ORDER BY role") == [
        ("nginx-master", 1), ("nginx-worker", 2), ("upstream", 1),
    ]  # fmt: skip
    # nginx ended as it does without, and that is captured too.
    assert ask(folder, "SELECT count(DISTINCT pid) FROM {syscalls} WHERE name = 'exit_group'") == [(4,)]
    assert snapshot() == before


def hold(*arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a run of case 1 that begins with a long baseline; return it and its folder."""
    known = set(ROOT.glob("results/*case1*"))
    process = subprocess.Popen(
        ["ansible-playbook", "run-case.yml", *SHORT, "-e", "case=1", "-e", "baseline_s=8", *arguments],
        cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def begun() -> set[Path]:
        return set(ROOT.glob("results/*case1*")) - known

    wait_until(lambda: bool(begun()) or process.poll() is not None, 60, "a run")
    (folder,) = begun()
    wait_until(lambda: any(folder.glob("load/proxy1/*")) or process.poll() is not None, 90, "a baseline")
    assert process.poll() is None
    return process, folder


def test_nginx_is_let_go_when_strace_is_ended(testbed: Callable[[str], str]) -> None:
    process, folder = hold("-e", "strace=true")
    testbed("kill $(pgrep -x strace)")
    assert process.wait(120) == 0
    (verdict,) = shown_verdicts(folder)
    assert verdict["valid"], verdict["reasons"]
    assert any("were not captured: strace ended" in one for one in verdict["doubts"]), verdict["doubts"]
    assert verdict["metrics"]["status"] == {"200": 32}


def test_every_port_and_every_location_leads_to_the_upstream(testbed: Callable[[str], str]) -> None:
    process, _folder = hold("-e", "nginx_listens=2", "-e", "nginx_proxy_passes=3")
    urls = " ".join(
        f"http://127.0.0.1:{port}/{path}" for port in (8080, 8081) for path in ("", "floodmark-2", "floodmark-3")
    )
    ask_all = f"python3 -c 'import sys, urllib.request as u; print([u.urlopen(x).status for x in sys.argv[1:]])' {urls}"
    assert testbed(ask_all).strip() == str([200] * 6)
    process.wait(120)  # these requests were none of the flood's, and the verdict says so
