"""Locust's web page with a case held up that is a server on loopback: what its buttons do."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import websocket

from floodmark.errors import FloodmarkError
from floodmark.inputs.cases import load_cases
from floodmark.owner import Owner
from floodmark.runner.fleet import _free_port
from floodmark.values import Content
from floodmark.web import control

PASSWORD = "only for this test"


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@dataclass
class Page:
    """The page, as a browser and as Ansible see it."""

    url: str
    settings: control.Settings
    folder: Path
    target: str
    ended: bool = False
    answers: list[control.Answer] = field(default_factory=list)
    http: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        # As a browser does with each POST.
        self.http.headers["Origin"] = self.url

    def log_in(self, password: str = PASSWORD) -> requests.Response:
        # The page that follows a login waits until a case is held up.
        follow = password != PASSWORD
        return self.http.post(f"{self.url}/password", data={"password": password}, allow_redirects=follow)

    def hold(self, case: int) -> threading.Thread:
        """Hold up a case, as Ansible does in a task of its own, on a host that is a folder."""
        parameters = load_cases()[case].parameters.model_dump() | {"users": 4, "start_spread_ms": 20}
        hold: Content = {
            "host": "proxy1", "run_id": f"run{case}", "case": case, "title": "", "parameters": parameters,
            "answer_timeout_s": 5, "target": self.target, "way": ["sh", "-c"], "folder": str(self.host),
            "load": str(self.folder / f"load{case}"), "at_most_s": 60,
        }  # fmt: skip
        asking = threading.Thread(target=lambda: self.answers.append(self.ask({"hold": hold})), daemon=True)
        asking.start()
        self.log_in()
        self.wait_for(lambda told: told["state"] == "held" and told["hold"]["case"] == case)
        return asking

    def end(self) -> None:
        """End the session, as Ctrl-C does, and ask what comes next, as Ansible does then."""
        self.ended = True
        os.eventfd_write(self.settings.owner.ends, 1)
        assert self.ask({"failure": ""}) == {"case": None}

    def ask(self, question: control.Question) -> control.Answer:
        return control.ask(self.settings.control, question)

    def told(self) -> dict[str, Any]:
        return dict(self.http.get(f"{self.url}/accept-queue/samples").json())

    def swarm(self, **form: object) -> dict[str, Any]:
        return dict(self.http.post(f"{self.url}/swarm", data={"spawn_rate": 100, **form}).json())

    def stop(self) -> None:
        self.http.post(f"{self.url}/stop")

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask until something is so."""
        deadline = time.monotonic() + 20
        while not condition(told := self.told()):
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
        return told

    @property
    def host(self) -> Path:
        """Where nginx would log."""
        folder = self.folder / "host"
        folder.mkdir(exist_ok=True)
        return folder

    def log(self, *entries: dict[str, str]) -> None:
        """Write lines to nginx's log, as nginx does."""
        with (self.host / "nginx-access.log").open("a") as log:
            for one in entries:
                log.write(json.dumps(one) + "\n")
                log.flush()

    def look_at_log(self, origin: str = "") -> websocket.WebSocket:
        """Open the WebSocket of the access log."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        address = f"{self.url.replace('http', 'ws')}/access-log/live"
        return websocket.create_connection(address, timeout=20, origin=origin or self.url, cookie=cookies)

    def logged(self, case: int, flood: int) -> list[dict[str, str]]:
        log = self.folder / f"load{case}/flood-{flood}/requests.0.csv"
        return list(csv.DictReader(log.read_text().splitlines()))


def new_settings() -> control.Settings:
    return control.Settings(control.new_room(), PASSWORD, Owner.of(os.getpid()), [{}, {}], {"rate": 1000})


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    settings = new_settings()
    port = _free_port()
    process = control.start(settings, port, tmp_path / control.LOG)
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = Page(f"http://127.0.0.1:{port}", settings, tmp_path, f"http://127.0.0.1:{server.server_port}")
        try:
            yield page
        finally:
            if not page.ended:
                page.end()
            page.http.close()
            server.shutdown()
            assert process.wait(20) == 0, (tmp_path / control.LOG).read_text()


def test_nobody_gets_in_without_the_password(page: Page) -> None:
    assert page.http.get(f"{page.url}/accept-queue/samples").url.endswith("/login")
    assert "This is not the password" in page.log_in("guessed").text
    assert page.http.get(f"{page.url}/accept-queue/csv").url.endswith("/login")
    page.log_in()
    assert page.told()["state"] == "applying"


def test_a_name_that_was_bent_to_this_machine_is_refused(page: Page) -> None:
    answer = page.http.get(f"{page.url}/login", headers={"Host": "evil.example:80"})
    assert (answer.status_code, "127.0.0.1 or localhost" in answer.text) == (421, True)


def test_a_burst_is_one_request_of_each_user_and_ends_by_itself(page: Page) -> None:
    page.hold(2)
    assert page.swarm(user_count=4)["success"]
    told = page.wait_for(lambda told: told["flood"] == "stopped")
    assert [row["status"] for row in page.logged(2, 1)] == ["200"] * 4
    assert [what for _, what in told["marks"]] == ["case 2", "flood 1: burst, 4 users", "no flood"]
    load = json.loads((page.folder / "load2/flood-1/load.0.json").read_text())
    assert (load["requests"], load["unfinished"], load["generators"], load["begin_error_ns"]) == (4, 0, 1, 0)
    assert load["begin_ns"] == min(int(row["intended_ns"]) for row in page.logged(2, 1))


def test_users_and_rate_can_be_changed_while_a_flood_goes_on(page: Page) -> None:
    page.hold(2)
    page.swarm(user_count=2, load_shape="sustained", think_time_ms=1)
    page.wait_for(lambda told: "2 users" in told["phase"] and told["flood"] == "running")
    page.swarm(user_count=7)
    page.wait_for(lambda told: "7 users" in told["phase"])
    page.swarm(user_count=1)
    page.wait_for(lambda told: "sustained, 1 users" in told["phase"])
    page.stop()
    assert page.logged(2, 1)
    page.swarm(user_count=50, load_shape="open", rate="20", arrivals="constant")
    page.wait_for(lambda told: "20 a second" in told["phase"])
    page.swarm(user_count=50, rate="200")
    page.wait_for(lambda told: "200 a second" in told["phase"])
    page.wait_for(lambda _: len(page.logged(2, 2)) > 60)
    page.stop()
    # The last of them came after the change. Intended starts do not depend on how busy this machine is, but it may drop
    # some that are due.
    starts_s = sorted(int(row["intended_ns"]) / 1e9 for row in page.logged(2, 2))[-40:]
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(starts_s)]
    assert min(gaps_s) == pytest.approx(1 / 200, abs=1e-4)


def test_a_flood_that_is_not_allowed_does_not_begin(page: Page) -> None:
    page.hold(2)
    for form, sentence in (
        ({"user_count": 0}, "users=0 is not allowed: it must be 1 to 10000 users"),
        ({"user_count": "many"}, "users=many is not allowed"),
        ({"user_count": 1, "load_shape": "open", "rate": "-1"}, "rate=-1 is not allowed"),
        ({"user_count": 1, "load_shape": "open", "rate": "2000"}, "the inventory allows 1,000"),
        ({"user_count": 1, "payload_bytes": "99999999"}, "payload_bytes=99999999 is not allowed"),
        ({"user_count": 1, "host": "http://example.com"}, "host=http://example.com is not allowed: the flood goes to"),
    ):
        answer = page.swarm(**form)
        assert (answer["success"], sentence in answer["message"]) == (False, True), answer
    assert page.told()["flood"] == "ready"


def test_a_page_that_cannot_be_served_is_explained(page: Page, tmp_path: Path) -> None:
    settings = dataclasses.replace(page.settings, room=control.new_room())
    with pytest.raises(FloodmarkError, match=r"Locust's web page ended with status .*already in use"):
        control.start(settings, int(page.url.rpartition(":")[2]), tmp_path / "second.log")


def test_nothing_is_flooded_before_a_case_is_held_up(page: Page) -> None:
    page.log_in()
    assert "no case is held up, the host is applying" in page.swarm(user_count=1)["message"]


def test_another_case_can_be_wished_for(page: Page) -> None:
    asking = page.hold(2)
    page.swarm(user_count=1, load_shape="sustained")
    page.wait_for(lambda told: told["flood"] == "running")
    unknown = page.http.post(f"{page.url}/accept-queue/case", json={"case": "99"})
    assert (unknown.status_code, "there is no case '99'" in unknown.json()["message"]) == (409, True)
    assert page.http.post(f"{page.url}/accept-queue/case", json={"case": "4"}).ok
    asking.join(20)
    assert page.answers == [{}]
    assert page.told()["flood"] == "stopped"
    assert page.ask({"failure": ""}) == {"case": 4}
    page.hold(4)
    assert page.swarm(user_count=2)["success"]
    page.wait_for(lambda told: told["flood"] == "stopped")
    assert len(page.logged(4, 1)) == 2


def test_a_case_that_came_to_nothing_is_explained_and_another_one_may_be_tried(page: Page) -> None:
    page.log_in()
    asking = threading.Thread(
        target=lambda: page.answers.append(page.ask({"failure": "nginx did not start"})), daemon=True
    )
    asking.start()
    told = page.wait_for(lambda told: told["state"] == "failed")
    assert told["failure"] == "nginx did not start"
    page.http.post(f"{page.url}/accept-queue/case", json={"case": 1})
    asking.join(20)
    assert page.answers == [{"case": 1}]


def test_the_end_is_told_to_ansible(page: Page) -> None:
    asking = page.hold(2)
    page.end()  # the process ends as well: the fixture waits for it
    asking.join(20)
    assert page.answers == [{}]


def test_what_was_seen_comes_as_csv(page: Page) -> None:
    page.hold(2)
    header, first = page.http.get(f"{page.url}/accept-queue/csv").text.splitlines()
    assert header.startswith("time_s,phase,t_ns,depth_conns,most_conns,limit_conns")
    assert first.count(",") == header.count(",")
    assert first.endswith(",,,")  # nothing was seen


def logged_by_nginx(run: str, number: int, request: str = "POST / HTTP/1.1") -> dict[str, str]:
    return {
        "id": f"{run}/{number}", "msec": "1795720337.876", "pid": "7", "client": "198.18.79.1", "request": request,
        "status": "502", "bytes_sent": "309", "request_time": "0.001",
    }  # fmt: skip


def wait_for_log(looking: websocket.WebSocket, valid: int) -> dict[str, Any]:
    """Take what GoAccess says, about once a second, until it has counted so many lines."""
    while True:
        shown = dict(json.loads(looking.recv()))
        if shown["general"]["valid_requests"] >= valid:
            return shown


def test_goaccess_shows_each_line_of_the_log_through_all_cases(page: Page) -> None:
    # Longer than a pipe is, so that what is read at once ends within lines.
    page.log(*(logged_by_nginx("run2", number) for number in range(2000)))
    asking = page.hold(2)
    answer = page.http.get(f"{page.url}/access-log/")
    assert f'"url": "{page.url.removeprefix("http://")}/access-log/live"' in answer.text
    looking = page.look_at_log()
    assert wait_for_log(looking, 2000)["general"]["valid_requests"] == 2000

    page.http.post(f"{page.url}/accept-queue/case", json={"case": "4"})
    asking.join(20)
    assert page.ask({"failure": ""}) == {"case": 4}
    (page.host / "nginx-access.log").unlink()
    page.log(logged_by_nginx("run4", 1))
    page.hold(4)
    page.log(logged_by_nginx("run4", 2, "GET /</script><script>alert(1)</script> HTTP/1.1"))
    shown = wait_for_log(looking, 2002)
    looking.close()
    assert (shown["general"]["total_requests"], shown["general"]["failed_requests"]) == (2002, 0)
    assert {one["data"]: one["hits"]["count"] for one in shown["vhosts"]["data"]} == {"run2": 2000, "run4": 2}


def test_the_access_log_is_for_those_who_have_logged_in_and_for_its_own_page(page: Page) -> None:
    assert page.http.get(f"{page.url}/access-log/").url.endswith("/login")
    asked = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": page.url}
    assert page.http.get(f"{page.url}/access-log/live", headers=asked).url.endswith("/login")
    page.log_in()
    for elsewhere in ("http://evil.example", "http://127.0.0.1:1"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            page.look_at_log(origin=elsewhere)
        assert refused.value.status_code == 403
    page.look_at_log().close()


def test_the_page_says_why_there_is_no_goaccess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(programs))
    settings, port = new_settings(), _free_port()
    process = control.start(settings, port, tmp_path / control.LOG)
    page = Page(f"http://127.0.0.1:{port}", settings, tmp_path, "http://127.0.0.1:1")
    page.hold(2)
    assert "GoAccess is not installed on this machine" in page.http.get(f"{page.url}/access-log/").text
    assert page.told()["state"] == "held"
    page.end()
    assert process.wait(20) == 0
    page.http.close()


def test_goaccess_ends_with_a_page_that_is_killed(tmp_path: Path) -> None:
    settings = new_settings()
    process = control.start(settings, _free_port(), tmp_path / control.LOG)
    children = psutil.Process(process.pid).children(recursive=True)
    assert sorted(one.name() for one in children) == ["goaccess", "grep"]
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    process.wait()
    shutil.rmtree(settings.room)
