"""Who may ask what of Locust's page. It is asked in a process of its own: Locust patches sockets and threads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

PASSWORD = "s3cret"
OWN = "http://127.0.0.1:8089"
# Reads a list of requests, asks each of them of one browser after the other, and prints status, place and text.
ASK = """
import json, sys
from locust.env import Environment
from floodmark.web.access_log import AccessLog
from floodmark.web.control import Settings
from floodmark.web.pages import add_pages
from floodmark.web.session import Session

room, password = sys.argv[1:3]
web_ui = Environment().create_web_ui("127.0.0.1", 0, web_login=True)
state = Session(Settings(room, password, 1, [], {}))
state.was_held.set()
add_pages(web_ui, state, AccessLog(room), password)
browser = web_ui.app.test_client()
said = []
for method, path, origin, form in json.load(sys.stdin):
    headers = {"Origin": origin} if origin else {}
    answer = browser.open(path, method=method, base_url="http://127.0.0.1:8089", headers=headers, data=form)
    said.append([answer.status_code, answer.headers.get("Location", ""), answer.get_data(as_text=True)])
print(json.dumps(said))
"""


def asked(room: Path, *requests: tuple[str, str, str, dict[str, str]]) -> list[tuple[int, str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, room, PASSWORD],
        input=json.dumps(requests), capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]


LOGIN = ("POST", "/password", OWN, {"password": PASSWORD})
SWARM = ("POST", "/swarm", OWN, {"user_count": "1", "host": "http://198.51.100.9"})


def test_what_changes_something_takes_a_login_and_this_page(tmp_path: Path) -> None:
    paths = ("/swarm", "/stop", "/stats/reset", "/accept-queue/case", "/user")
    others = ("http://127.0.0.1:3000", "http://localhost:8089", "http://evil.example", "null", "")
    foreign: list[tuple[str, str, str, dict[str, str]]] = [
        ("POST", path, origin, {}) for path in paths for origin in others
    ]
    own = [SWARM, ("POST", "/stop", OWN, {}), ("GET", "/stats/requests", "", {})]
    before, _, *rest = asked(tmp_path, SWARM, LOGIN, *foreign, *own)
    assert before[0] == 302
    assert "/login" in before[1], "and nothing about the flood"
    assert {answer[0] for answer in rest[: len(foreign)]} == {403}
    assert "Only a page of http://127.0.0.1:8089 may ask for this" in rest[0][2]
    swarmed, stopped, looked = rest[len(foreign) :]
    assert "no case is held up" in swarmed[2]
    assert (stopped[0], looked[0]) == (200, 200)
