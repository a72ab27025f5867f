"""The search for the highest rate that holds, against edges that are known."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from floodmark.cli import main
from floodmark.runner.edge import MOST_PROBES, Edge, Probe, Search, find_edge, print_edge, what_broke

METRICS = {"request_p99_s": 0.02, "queue_limit": 8, "accept_queue_max": 4, "status": {"200": 99}, "dropped": 0}


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
    assert (edge.n_holds, edge.n_breaks, edge.why) == (2, 2, "")


def test_a_rate_that_is_never_too_much_is_said() -> None:
    edge = search(lambda _: False, most=300)
    assert (edge.holds, edge.breaks, edge.n_holds) == (300, None, 2)
    assert "300 requests a second hold (n = 2), and no edge was found: 300 a second is the most" in edge.sentence()


def test_a_rate_that_is_always_too_much_is_said() -> None:
    edge = search(lambda _: True)
    assert (edge.holds, edge.breaks) == (None, 1)
    assert edge.sentence() == "No rate holds: 1 a second is too much already (n = 2)."


def test_one_outlier_is_outvoted() -> None:
    hiccups = iter([False, True])  # the second probe, at 100, breaks
    edge = search(lambda rate: next(hiccups, False) or rate > 400)
    assert (edge.probes[1].rate, edge.probes[1].broke) == (100, "queue")
    assert edge.holds == pytest.approx(400, rel=0.05)


def test_where_chance_decides_the_bracket_is_near_the_middle() -> None:
    """A rate breaks with a probability that rises from 0 to 1 around 1,000; three of four brackets are close to it."""
    draw = random.Random(5)
    found = [
        search(lambda rate: draw.random() < 1 / (1 + math.exp(-(rate - 1000) / 40)), precision=0.1) for _ in range(200)
    ]
    near = sum((edge.holds or 0) > 850 and (edge.breaks or math.inf) < 1150 for edge in found)
    assert near > 150, near
    assert all(len(edge.probes) <= MOST_PROBES for edge in found)


def test_a_coin_ends_the_search_too() -> None:
    draw = random.Random(1)
    assert all(len(search(lambda _: draw.random() < 0.5).probes) <= MOST_PROBES for _ in range(50))


def test_a_generator_at_its_end_is_not_taken_for_the_edge() -> None:
    def probe(rate: float, seed: int) -> Probe | str:
        return "the load generator was late" if rate > 150 else Probe(rate, f"run{seed}", 1.0, 3, "")

    edge = find_edge(Search(50, 5000, 0.05), probe, lambda _: None)
    assert (edge.holds, edge.breaks) == (100, None)
    assert "at 200 a second the load generator was late" in edge.sentence()


@pytest.mark.parametrize(
    ("changes", "broke"),
    [
        ({}, ""),
        ({"status": {"200": 90, "502": 9}}, "9 × 502"),
        ({"request_p99_s": 0.1001}, "p99 100 ms"),
        ({"request_p99_s": None}, "p99 beyond the client's timeout"),
        ({"accept_queue_max": 5}, "queue of 5, limit 8"),
        ({"dropped": 3}, "3 dropped"),
    ],
)
def test_what_breaks_is_named(changes: dict[str, Any], broke: str) -> None:
    assert what_broke({**METRICS, **changes}, p99_ms=100) == broke


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
