"""The procedures of the study: what is started first, where the status page is, a case held for one's own requests."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import time
from collections.abc import Callable

import pytest
import requests

from floodmark.runs.folders import RunFolder
from tests.conftest import environment
from tests.testbed.conftest import ROOT, SHORT, evidence, folder_of, play, verdict_of

# Who calls listen() after somaxconn was set has 8; 4096 is what the testbed's hosts have before.
LIMITS = {
    "nginx,sysctl,upstream": (8, 511),
    "sysctl,nginx,upstream": (8, 8),
    "nginx,upstream,sysctl": (4096, 511),
}


@pytest.mark.parametrize("order", LIMITS)
def test_listen_clamps_to_somaxconn_as_it_is_at_that_moment(
    order: str, testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    """What the study's own programs gave in the same order: see the limits and statuses of each."""
    before = snapshot()
    assert testbed("cat /proc/sys/net/core/somaxconn").strip() == "4096"
    given = ("case=2", f"order={order}", "nginx_listen_backlog=511", "front_may_overflow=true")
    done = play(*(part for one in given for part in ("-e", one)))
    assert done.returncode == 0, evidence(done)
    verdict = verdict_of(done)
    upstream, front = LIMITS[order]
    refused = upstream == 8
    assert verdict["metrics"]["status"] == ({"502": 23, "504": 9} if refused else {"504": 32})
    assert verdict["metrics"]["active_median"] == (9 if refused else 32)
    assert verdict["metrics"]["states"]["02"] == (9 if refused else 32)
    host = RunFolder(folder_of(done)).host("proxy1")
    described = json.loads(host.description.read_text())
    assert {one["name"]: one["limit_conns"] for one in described["listeners"]} == {"upstream": upstream, "front": front}
    assert described["sysctls_before"] == {"net.core.somaxconn": "4096"}
    assert described["sysctls"]["net.core.somaxconn"] == "8"
    assert snapshot() == before, "the host was not left as it was found"


@pytest.mark.usefixtures("testbed")
def test_the_status_page_is_where_the_inventory_says_and_the_agent_finds_it() -> None:
    given = {"nginx_status_path": "/stats", "nginx_status_allow": ["10.0.0.0/8"]}
    done = play("-e", "case=2", "-e", json.dumps(given))
    assert done.returncode == 0, evidence(done)
    verdict = verdict_of(done)
    assert verdict["valid"]
    assert verdict["metrics"]["active_median"] == 9
    record = RunFolder(folder_of(done)).read_run()
    assert record.status_pages["proxy1"].model_dump() == {"path": "/stats", "allow": ["10.0.0.0/8"]}


class Held:
    """`ansible-playbook run-case.yml -e hold=true` at a terminal of its own."""

    def __init__(self, *given: str) -> None:
        self.said = ""
        arguments = ["ansible-playbook", "run-case.yml", *SHORT, *(part for one in given for part in ("-e", one))]
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            os.chdir(ROOT)
            os.execvpe(arguments[0], [*arguments, "-e", "hold=true"], environment(COLUMNS="200"))

    def read_until(self, text: str, timeout_s: float = 120) -> None:
        """Read what is on the terminal until a text is there."""
        deadline = time.monotonic() + timeout_s
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self._terminal], [], [], 0.2)[0]:
                try:
                    data = os.read(self._terminal, 65536)
                except OSError:  # the other end is closed
                    data = b""
                assert data, self.said
                self.said += data.decode(errors="replace")

    def press(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def wait(self) -> int:
        """Return the exit status, once it has ended."""
        with contextlib.suppress(AssertionError):
            self.read_until("\0")
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._terminal)
        return status


@pytest.mark.parametrize("key", [b"\n", b"\x03"], ids=["Enter", "Ctrl-C"])
def test_a_case_is_held_for_ones_own_requests_until_a_key(
    key: bytes, testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    before, runs = snapshot(), sorted((ROOT / "results").glob("*-case*"))
    held = Held("case=2", "order=nginx,upstream,sysctl", "nginx_status_path=/stats")
    held.read_until("Enter or Ctrl-C restores the host")
    address = (ROOT / ".testbed/hosts/proxy1/address").read_text()
    assert f"curl http://{address}:8080/" in held.said
    assert "curl http://127.0.0.1:8080/stats" in held.said
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/stats').read().decode())"
    assert "Active connections: 2 " in testbed(f'python3 -c "{ask}"'), "the agent's poll and ours"
    assert testbed("ss -Hlx src unix:/run/floodmark-upstream/upstream.sock").split()[2:4] == ["0", "4096"]
    assert testbed("cat /proc/sys/net/core/somaxconn").strip() == "8"
    assert requests.get(f"http://{address}:8080/", timeout=30).status_code == 504
    # By its own address the host is somebody else: whatever it sends is refused, and nothing of it is kept.
    post = f"import urllib.request as u; u.urlopen('http://{address}:8080/', bytes(2_000_000))"
    assert "403" in testbed(f'python3 -c "{post}" 2>&1 | tail -n 1')
    assert testbed("find /var/cache/floodmark-nginx -type f") == ""
    held.press(key)
    assert held.wait() == 0, held.said
    assert snapshot() == before, "the host was not left as it was found"
    assert sorted((ROOT / "results").glob("*-case*")) == runs, "nothing was measured"


def test_a_held_host_whose_control_node_is_killed_undoes_the_case_itself(
    testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    before = snapshot()
    held = Held("case=2")
    held.read_until("Enter or Ctrl-C restores the host")
    os.kill(held.pid, signal.SIGKILL)
    held.wait()
    testbed("timeout 100 sh -c 'while [ -e /run/floodmark-run.json ]; do sleep 0.5; done'")
    testbed("rm -rf /var/lib/floodmark/runs/*")
    assert snapshot() == before
