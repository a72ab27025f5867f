"""What people see who look on while a run goes on."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from collectors.live import Seen
from floodmark.errors import RunError
from floodmark.model.stored import save
from floodmark.runner.plan import owner
from floodmark.runner.watch import BARS, Feed, View, draw, find, running, sparkline
from floodmark.runs.folders import RunFolder
from tests.floodmark.made_up_runs import plan_of

FULL: Seen = {
    "accept_queue": {"upstream": {"depth_conns": 7, "most_conns": 9, "limit_conns": 8}},
    "unix_states": {"unconnected_socks": 1, "connecting_socks": 7, "connected_socks": 0},
    "upstream_conns": {"accepted_conns": 2},
    "stub_status": {"active_conns": 10},
    "process": [
        {"pid": 7, "role": "nginx-worker", "rss_bytes": 3_200_000},
        {"pid": 6, "role": "nginx-master", "rss_bytes": 9_000_000},
    ],
    "statuses": {"502": 4},
}


def text_of(view: View, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(draw("proxy1", view, width))
    return out.getvalue()


def test_all_that_was_seen_is_shown() -> None:
    view = View()
    view.take(FULL)
    shown = text_of(view)
    for said in (
        "7 now, 9 at most; limit 8", "1 × 01, 7 × 02, 0 × 03", "10; Q + A + 1 = 7 + 2 + 1", "3.2 MB resident",
        "4 × 502 (0/s)",
    ):  # fmt: skip
        assert said in shown, shown


@pytest.mark.parametrize("missing", [name for name in FULL if name != "statuses"])
def test_what_was_not_seen_is_not_made_up(missing: str) -> None:
    view = View()
    view.take(cast(Seen, {name: value for name, value in FULL.items() if name != missing}))
    shown = text_of(view)
    label = {"accept_queue": "7 now", "unix_states": "× 02", "upstream_conns": "Q + A", "stub_status": "Active",
             "process": "memory"}[missing]  # fmt: skip
    assert label not in shown


def test_what_was_seen_stays_until_it_is_seen_again() -> None:
    view = View()
    view.take(FULL)
    view.take({"statuses": {"502": 4}})
    assert "1 × 01" in text_of(view)


def test_a_host_before_its_turn_says_so() -> None:
    assert "it is not its turn yet" in text_of(View())


def test_rates_are_over_the_last_second() -> None:
    view = View()
    for count in (0, 100, 200, 300, 400, 400):
        view.take({"statuses": {"200": count}})
    assert view.per_s("200") == 300
    assert view.per_s("504") == 0


def test_bars_are_as_high_as_the_queue_can_be() -> None:
    text = sparkline([0, 1, 9, 10], limit=8, width=80)
    assert text.plain[0] == BARS[0]
    assert text.plain[1] == BARS[1]
    assert text.plain[3] == BARS[-1]
    assert [span.style for span in text.spans] == ["cyan", "cyan", "red", "red"]
    assert sparkline(list(range(100)), 8, 10).plain[-1] == BARS[-1]
    assert len(sparkline(list(range(100)), 8, 10)) == 10


@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_fits_its_terminal(width: int) -> None:
    view = View()
    for _ in range(300):
        view.take(FULL)
    assert all(len(line.rstrip()) <= width for line in text_of(view, width).splitlines())


def test_a_line_may_come_in_pieces() -> None:
    view = View()
    feed = Feed(view)
    line = json.dumps(FULL).encode() + b"\n"
    feed.take(line[:50])
    assert view.looks == 0
    feed.take(line[50:] + line + line[:9])
    assert view.looks == 2


# --- which run ------------------------------------------------------------------------------------


def made(results: Path, name: str, **plan: Any) -> Path:
    folder = results / name
    folder.mkdir()
    run = RunFolder(folder)
    save(run.plan, plan_of(run, **{"owner": owner(os.getpid()), "inventory": ["i"], **plan}))
    return folder


def test_the_newest_run_that_somebody_makes_is_looked_at(tmp_path: Path) -> None:
    made(tmp_path, "20261123T000001Z-case1-unix")
    made(tmp_path, "20261123T000002Z-case2-unix")
    made(tmp_path, "20261123T000003Z-case3-unix", owner=f"{owner(os.getpid()).rpartition(' ')[0]} 1")
    assert running(tmp_path).run_id == "20261123T000002Z-case2-unix"


def test_a_plan_that_cannot_be_read_does_not_hide_the_run_under_way(tmp_path: Path) -> None:
    made(tmp_path, "20261123T000001Z-case1-unix")
    (made(tmp_path, "20261123T000002Z-case2-unix") / "plan.json").write_text("{")
    assert running(tmp_path).run_id == "20261123T000001Z-case1-unix"


def test_no_run_under_way_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run is under way"):
        running(tmp_path)


@pytest.mark.parametrize(
    ("plan", "over", "said"),
    [
        ({}, True, "is over: 'floodmark show 20261123T000001Z-case1-unix'"),
        ({"clock": "virtual"}, False, "it runs in virtual time"),
    ],
)
def test_a_run_with_nothing_to_see_is_refused(tmp_path: Path, plan: dict[str, Any], over: bool, said: str) -> None:
    folder = made(tmp_path, "20261123T000001Z-case1-unix", **plan)
    if over:
        (folder / "run.json").write_text("{}")
    with pytest.raises(RunError, match=said):
        find(str(folder))
