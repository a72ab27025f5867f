"""Locust's web page in a real browser, with a real case held up."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from queue import Queue

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import environment
from tests.testbed.conftest import ROOT, SHORT

# What somebody who looks for it finds after the tests.
SCREENSHOT = ROOT / "results/tests/web-ui-case2.png"
WAIT_MS = 60_000
OFFER = re.compile(r"is at (?P<url>http://127\.0\.0\.1:\d+/), its password is (?P<password>\S+)")


class Playbook:
    """`ansible-playbook web-ui.yml`, and what it says."""

    def __init__(self, *arguments: str) -> None:
        self.said: list[str] = []
        self._lines: Queue[str] = Queue()
        self._process = subprocess.Popen(
            ["ansible-playbook", "web-ui.yml", *SHORT, "-e", "web_port=18089", *arguments],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self.said.append(line)
                self._lines.put(line)
        self._lines.put("")

    def wait_for_offer(self) -> tuple[str, str]:
        """Return address and password."""
        while line := self._lines.get(timeout=120):
            if found := OFFER.search(line):
                return found["url"], found["password"]
        pytest.fail("".join(self.said))

    def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit status."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        status = self._process.wait(120)
        self._listener.join()
        return status

    def end(self) -> None:
        """Make sure that it does not go on."""
        if self._process.poll() is None:
            self.interrupt()

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self.wait()


@pytest.fixture
def start() -> Iterator[Callable[..., Playbook]]:
    """Return a function that starts the playbook; what a failing test leaves of it is ended."""
    started = []

    def start(*arguments: str) -> Playbook:
        started.append(Playbook(*arguments))
        return started[-1]

    yield start
    for playbook in started:
        playbook.end()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 1100})
    page.set_default_timeout(WAIT_MS)
    yield page
    page.close()


def test_a_flood_of_case_2_fills_the_queue_before_ones_eyes(
    testbed: Callable[[str], str], snapshot: Callable[[], str], start: Callable[..., Playbook], page: Page
) -> None:
    before = snapshot()
    playbook = start("-e", "case=2")
    url, password = playbook.wait_for_offer()
    page.goto(url)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    queue = page.frame_locator("iframe[title='Accept queue']")
    expect(queue.locator("#title")).to_contain_text("Case 2", timeout=WAIT_MS)
    expect(queue.locator("#depth")).to_have_text("0 / 8", timeout=WAIT_MS)

    page.get_by_role("button", name="Start").click()
    page.get_by_role("tab", name="Accept queue").click()
    expect(queue.locator("#depth")).to_have_text("9 / 8 full", timeout=WAIT_MS)
    expect(queue.locator("#states")).to_have_text("1 / 9 / 0", timeout=WAIT_MS)
    # A second witness: the host's own ss, which counts the connections that wait.
    assert testbed("ss -Hlx src unix:/run/floodmark-upstream/upstream.sock").split()[2] == "9"
    SCREENSHOT.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOT, full_page=True)
    answer = page.request.get(f"{url}accept-queue/csv").text()
    assert max(int(row["most_conns"] or 0) for row in csv.DictReader(answer.splitlines())) == 9

    page.get_by_role("tab", name="Access log").click()
    log = page.frame_locator("iframe[title='Access log']")
    expect(log.locator("#valid_requests")).to_have_text("32", timeout=WAIT_MS)
    page.screenshot(path=SCREENSHOT.with_stem("access-log-case2"))

    page.get_by_role("tab", name="Accept queue").click()
    queue.locator("#case").select_option("1")
    queue.get_by_role("button", name="Hold it up").click()
    expect(queue.locator("#title")).to_contain_text("Case 1", timeout=WAIT_MS)
    expect(queue.locator("#depth")).to_have_text("0 / 8", timeout=WAIT_MS)
    own = {"Origin": url.rstrip("/")}
    started = page.request.post(f"{url}swarm", headers=own, form={
        "user_count": "20", "spawn_rate": "20", "load_shape": "open", "rate": "50",
    })  # fmt: skip
    assert started.json()["success"], started.text()
    expect(queue.locator("#flood")).to_have_text(re.compile("open, 50 a second"), timeout=WAIT_MS)
    page.request.post(f"{url}stop", headers=own)
    expect(queue.locator("#flood")).to_have_text("no flood", timeout=WAIT_MS)

    # GoAccess goes on with the next case, and counts each line of the host's log.
    lines = int(testbed("wc -l </var/lib/floodmark/runs/*/nginx-access.log"))
    assert lines > 0
    page.get_by_role("tab", name="Access log").click()
    expect(log.locator("#valid_requests")).to_have_text(f"{32 + lines:,}", timeout=WAIT_MS)
    expect(log.locator("#failed_requests")).to_have_text("0", timeout=WAIT_MS)

    assert playbook.interrupt() == 0, "".join(playbook.said)
    assert snapshot() == before


def test_a_host_whose_control_node_is_killed_undoes_the_case_itself(
    testbed: Callable[[str], str], snapshot: Callable[[], str], start: Callable[..., Playbook]
) -> None:
    before = snapshot()
    playbook = start("-e", "case=2")
    playbook.wait_for_offer()
    # The file is there as long as the case is applied.
    testbed("timeout 60 sh -c 'until [ -e /run/floodmark-sysctl.json ]; do sleep 0.1; done'")
    playbook.kill()
    testbed("timeout 100 sh -c 'while [ -e /run/floodmark-run.json ]; do sleep 0.5; done'")
    testbed("rm -rf /var/lib/floodmark/runs/*; ! pgrep --exact tail")
    assert snapshot() == before
