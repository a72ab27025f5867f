"""The search for the highest rate that holds, against edges that are known."""

from __future__ import annotations

import io
import json
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from floodmark.cli import main
from floodmark.errors import FloodmarkError, Interrupted
from floodmark.model.check import Check, Severity
from floodmark.model.metrics import Metrics
from floodmark.model.run import RunRecord
from floodmark.model.stored import save
from floodmark.model.verdict import Verdict
from floodmark.paths import ROOT
from floodmark.runner import edge
from floodmark.runner.case_player import Play, Stop
from floodmark.runner.edge import (
    MOST_PROBES,
    PROBES_TO_HOLD,
    Edge,
    Probe,
    Prober,
    Search,
    find_edge,
    print_edge,
    run_edge,
    what_broke,
)
from floodmark.runs.folders import RunFolder
from floodmark.values import Content
from floodmark.verdict.rules import GENERATOR_ON_TIME, GENERATOR_STALLED, Rule

METRICS: dict[str, Any] = {
    "request_p99_s": 0.02, "queue_limit": 8, "accept_queue_max": 4, "status": {"200": 99}, "errors": {}, "dropped": 0,
}  # fmt: skip


def search(breaks: Callable[[float], bool], start: float = 50, most: float = 5000, precision: float = 0.05) -> Edge:
    def probe(rate: float, seed: int) -> Probe:
        return Probe(rate, f"run{seed}", 1.0, 3, "queue" if breaks(rate) else "")

    return find_edge(Search(start, most, precision), probe, lambda _: None)


@pytest.mark.parametrize("edge_at", [3, 51, 99, 100, 101, 777, 4900])
def test_a_sharp_edge_is_found_as_closely_as_was_asked_for(edge_at: float) -> None:
    edge = search(lambda rate: rate > edge_at)
    assert edge.holds
    assert edge.breaks
    assert edge.holds <= edge_at < edge.breaks
    # A rate is rounded to three digits.
    assert edge.breaks / edge.holds <= 1.05 * 1.01
    assert (edge.n_holds, edge.n_breaks, edge.broke, edge.why, edge.certain) == (PROBES_TO_HOLD, 2, 2, "", True)


def test_a_rate_that_is_never_too_much_is_said() -> None:
    edge = search(lambda _: False, most=300)
    assert (edge.holds, edge.breaks, edge.n_holds) == (300, None, PROBES_TO_HOLD)
    assert "300 requests a second hold (n = 20), and no edge was found: 300 a second" in edge.sentence()


def test_a_rate_that_is_always_too_much_is_said() -> None:
    edge = search(lambda _: True)
    assert (edge.holds, edge.breaks) == (None, 1)
    assert edge.sentence() == "No rate holds: 1 a second is too much already (n = 2)."


def test_one_outlier_is_outvoted() -> None:
    hiccups = iter([False, True])  # the second probe, at 100, breaks
    edge = search(lambda rate: next(hiccups, False) or rate > 400)
    assert (edge.probes[1].rate, edge.probes[1].broke) == (100, "queue")
    assert edge.holds == pytest.approx(400, rel=0.05)


def often_breaks(rate: float) -> float:
    """A probability that rises from 0 to 1 around 1,000 a second."""
    return 1 / (1 + math.exp(-(rate - 1000) / 40))


def test_where_chance_decides_the_rate_that_is_said_to_hold_holds_again() -> None:
    draw = random.Random(5)
    found = [search(lambda rate: draw.random() < often_breaks(rate), precision=0.1) for _ in range(200)]
    assert all(len(edge.probes) <= MOST_PROBES for edge in found)
    stated = [edge.holds for edge in found if edge.certain and edge.holds]
    assert len(stated) > 190
    # Of ten probes more at the stated rate nine hold, or all ten.
    again = [sum(draw.random() >= often_breaks(rate) for _ in range(10)) for rate in stated]
    assert sum(held >= 9 for held in again) >= 0.93 * len(again), sorted(again)[:30]
    # And it is no lower than it must be: at 780 one probe of 250 breaks.
    assert sum(rate > 780 for rate in stated) > 0.9 * len(stated)


def test_where_chance_decides_over_a_wide_range_the_search_comes_to_an_end() -> None:
    """A busy machine makes a short queue half full now and then, also far below what it can do."""
    draw = random.Random(3)
    found = [search(lambda rate: draw.random() < (rate / 1500) ** 3, precision=0.05) for _ in range(200)]
    assert sum(edge.certain for edge in found) >= 190
    assert statistics.median(len(edge.probes) for edge in found) < 70
    again = [draw.random() >= ((edge.holds or 0) / 1500) ** 3 for edge in found if edge.certain for _ in range(10)]
    assert sum(again) / len(again) > 0.9


@pytest.mark.parametrize(("holds_in", "at_most"), [(0.4, 0.001), (0.6, 0.01), (0.8, 0.2)])
def test_a_rate_that_holds_now_and_then_is_seldom_said_to_hold(holds_in: float, at_most: float) -> None:
    """From 100 to 150 a second chance decides, and eight rates are tried; below nothing breaks, above everything."""
    draw = random.Random(7)
    found = [search(lambda rate: rate > 150 or (rate > 100 and draw.random() > holds_in)) for _ in range(300)]
    assert all(edge.certain for edge in found)
    assert sum((edge.holds or 0) > 100 for edge in found) / len(found) <= at_most


def test_a_coin_ends_the_search_too() -> None:
    draw = random.Random(1)
    assert all(len(search(lambda _: draw.random() < 0.5).probes) <= MOST_PROBES for _ in range(50))


def test_a_generator_at_its_end_is_not_taken_for_the_edge() -> None:
    def probe(rate: float, seed: int) -> Probe | str:
        return "the load generator was late" if rate > 150 else Probe(rate, f"run{seed}", 1.0, 3, "")

    edge = find_edge(Search(50, 5000, 0.05), probe, lambda _: None)
    assert (edge.holds, edge.breaks, edge.n_holds) == (100, None, PROBES_TO_HOLD)
    assert "at 200 a second the load generator was late" in edge.sentence()


def test_a_generator_that_is_at_its_end_from_the_beginning_ends_the_search() -> None:
    edge = find_edge(Search(50, 5000, 0.05), lambda *_: "the load generator was late", lambda _: None)
    assert (edge.holds, edge.breaks, edge.probes) == (None, None, [])
    assert edge.sentence() == "No rate was probed: at 50 a second the load generator was late."


@pytest.mark.parametrize(
    ("changes", "broke"),
    [
        ({}, ""),
        ({"status": {"200": 90, "502": 9}}, "9 × 502"),
        ({"status": {"200": 90, "500": 9}}, "9 × 500"),
        ({"errors": {"reset": 1000, "closed": 479}}, "1000 × reset, 479 × closed"),
        ({"errors": {"truncated": 1}}, "1 × truncated"),
        ({"errors": {"timeout": 2}, "request_p99_s": None}, "2 × timeout"),
        ({"request_p99_s": 0.1001}, "p99 100 ms"),
        ({"request_p99_s": None}, "p99 is not known"),
        ({"accept_queue_max": 5}, "queue of 5, limit 8"),
        ({"accept_queue_max": None}, "the queue was not seen"),
        ({"dropped": 3}, "3 dropped"),
    ],
)
def test_what_breaks_is_named(changes: dict[str, Any], broke: str) -> None:
    assert what_broke(Metrics.model_validate({**METRICS, **changes}), p99_ms=100) == broke


# --- the runs -------------------------------------------------------------------------------------


@dataclass
class Plays:
    """Stands for Ansible: each run has the next of some verdicts, or none."""

    results: Path
    checks: list[list[Check]]
    metrics: dict[str, Any] = field(default_factory=lambda: METRICS)
    made: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)

    def make(
        self, play: Play, _project: Path, inventory: Path, _limit: object, extra: dict[str, Any], *_: Path
    ) -> RunFolder | None:
        self.made.append((inventory, extra))
        if len(self.made) > len(self.checks):
            play.why = "host proxy1: no room"
            return None
        run = RunFolder(self.results / f"20260101T00000{len(self.made)}Z-case1-unix")
        run.host("proxy1").path.mkdir(parents=True)
        checks, metrics = self.checks[len(self.made) - 1], Metrics.model_validate(self.metrics)
        save(run.host("proxy1").verdict, Verdict(run_id=run.run_id, host="proxy1", checks=checks, metrics=metrics))
        plan: Content = {
            "run_id": run.run_id,
            "case": {"number": 1, "title": "t"},
            "parameters": {"transport": "unix"},
            "hosts": {"proxies": ["proxy1"]},
        }
        save(run.record, RunRecord.parse(plan))
        return run


def broken_check(rule: Rule) -> Check:
    return Check(id=rule.id, severity=Severity.INVALID, ok=False, sentence=f"it broke {rule.id}")


def prober(monkeypatch: pytest.MonkeyPatch, plays: Plays, inventory: str = "inventory/testbed.yml") -> Prober:
    def make(play: Play, *given: Any) -> RunFolder | None:
        return plays.make(play, *given)

    monkeypatch.setattr(Play, "make", make)
    console = Console(file=io.StringIO())
    return Prober(console, Path(inventory), "proxy1", {"case": "1"}, 100, Stop())


def test_a_probe_is_an_open_flood_at_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays = Plays(tmp_path, [[]])
    probe = prober(monkeypatch, plays).probe(120, seed=3)
    assert probe == Probe(120, "20260101T000001Z-case1-unix", 20.0, 4, "")
    ((_, extra),) = plays.made
    assert extra == {"load_shape": "open", "rate": "120", "arrival_seed": 3, "case": "1"}


def test_an_inventory_named_from_here_is_found_by_ansible_which_looks_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    plays = Plays(tmp_path, [[]])
    prober(monkeypatch, plays).probe(50, seed=1)
    assert plays.made[0][0] == ROOT / "inventory/testbed.yml"


def test_an_invalid_run_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays = Plays(tmp_path, [[broken_check(GENERATOR_STALLED)], []])
    assert isinstance(prober(monkeypatch, plays).probe(50, seed=1), Probe)
    assert [extra["arrival_seed"] for _, extra in plays.made] == [1, 1 + MOST_PROBES]


def test_three_invalid_runs_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays = Plays(tmp_path, [[broken_check(GENERATOR_STALLED)]] * 3)
    with pytest.raises(FloodmarkError, match=r"3 runs at 50 a second are invalid, .* it broke generator_stalled"):
        prober(monkeypatch, plays).probe(50, seed=1)


def test_a_generator_at_its_end_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays = Plays(tmp_path, [[broken_check(GENERATOR_ON_TIME)]])
    assert prober(monkeypatch, plays).probe(50, seed=1) == "it broke generator_on_time"


def test_a_run_without_a_verdict_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FloodmarkError, match="a run at 50 a second has no verdict: host proxy1: no room"):
        prober(monkeypatch, Plays(tmp_path, [])).probe(50, seed=1)


def test_a_signal_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = prober(monkeypatch, Plays(tmp_path, [[]]))
    asked.stop.wanted_at = 1.0
    with pytest.raises(Interrupted):
        asked.probe(50, seed=1)


def test_the_table_has_every_rate_and_the_sentence_below() -> None:
    out = io.StringIO()
    print_edge(Console(file=out, width=100), search(lambda rate: rate > 400))
    assert "The highest rate that holds is" in out.getvalue()
    assert "100" in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--case", "1", "-e", "rate=5"], "-e: rate is for the search to choose"),
        (
            ["--case", "1", "--host", "proxy9"],
            "there is no proxy host 'proxy9' in inventory/testbed.yml: it has proxy1",
        ),
        (["--case", "1", "-i", "nowhere.yml"], "-i: inventory nowhere.yml does not exist"),
    ],
)
def test_a_wrong_question_is_refused_before_anything_runs(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["edge", *arguments])
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


def test_what_was_found_is_written_down_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "FOLDER", tmp_path)
    monkeypatch.setattr(edge, "ROOT", tmp_path)
    plays = Plays(tmp_path / "runs", [[broken_check(GENERATOR_ON_TIME)]])
    made = prober(monkeypatch, plays)
    made.extra, made.marked = {"case": "1", "ansible_become_password": "s3cret", "sudo_word": "hush"}, ["sudo_word"]
    run_edge(Console(file=io.StringIO()), Search(50, 50, 0.05, 1), made)
    (file,) = tmp_path.glob("*-case1.json")
    assert json.loads(file.read_text())["extra"] == {"case": "1"}
    assert plays.made[0][1]["ansible_become_password"] == "s3cret"
