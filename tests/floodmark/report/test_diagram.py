"""The numbers of the study's diagram at a moment, beside the tables that they come from."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import duckdb
import numpy as np
import pytest

from floodmark.report.diagram import Diagram, draw_diagram
from floodmark.report.figures import KEPT, draw_host
from floodmark.report.run import report_of, write_report
from floodmark.report.series import Line, Span, find_span, open_tables
from floodmark.runs.folders import RunFolder
from floodmark.verdict.tables import create_tables
from floodmark.verdict.views import create_queue_views
from tests.conftest import ROOT
from tests.floodmark.report.conftest import Page, judged
from tests.floodmark.verdict.test_judge import AS_WRITTEN, NoAccept

NAMES = ("in_front", "front", "front_limit", "active", "queue", "limit", "accepted")
NaN = float("nan")


def line(*points: tuple[float, float]) -> Line:
    x, y = zip(*points, strict=True)
    return Line("", "", np.array(x), np.array(y, dtype=np.float64))


def diagram(at_s: float, **lines: Line) -> Diagram:
    """Return a diagram at a moment; the lines that are not given are 0 from 0 s to 10 s."""
    still = line((0, 0), (10, 0))
    return Diagram({name: lines.get(name, still) for name in NAMES}, round(at_s * 1e5), "", "", 0.12, [])


def drawn(run: RunFolder, **parameters: Any) -> Diagram:
    """Return the diagram of a run."""
    database, _ = open_tables(run.host("proxy1"))
    with closing(database):
        found = find_span(database)
        assert found
        given = {**AS_WRITTEN, **parameters}
        figures = list(draw_host(database, found[0], given, 1))
        made = draw_diagram(database, found[0], given, 1, figures)
    assert made
    return made


@pytest.mark.parametrize(
    ("at_s", "queue"), [(0.999, None), (1, 4), (2.999, 4), (3, None), (3.5, None), (4, 6), (5, 6), (5.001, None)]
)
def test_a_number_is_the_last_one_that_was_read(at_s: float, queue: int | None) -> None:
    """Read from 1 s on, in vain at 3 s, again at 4 s, and last at 5 s; what was not read is not 0."""
    assert diagram(at_s, queue=line((1, 4), (3, NaN), (4, 6), (5, 6))).numbers["queue"] == queue


@pytest.mark.parametrize(("front", "held"), [(line((0, 2), (9, 2)), 3), (line((0, 6), (9, 6)), None)])
def test_workers_have_accepted_the_clients_that_do_not_wait(front: Line, held: int | None) -> None:
    """Six cannot wait where five are connected: a busy client has not learned of it yet."""
    assert diagram(5, in_front=line((0, 6), (9, 6)), front=front).numbers["held"] == held


@pytest.mark.parametrize(
    ("active", "queue", "holds"),
    [
        (line((0, 10), (9, 10)), line((0, 9), (9, 9)), True),
        (line((0, 8), (9, 8)), line((0, 9), (9, 9)), False),
        (line((0, 1), (4.95, 10), (9, 10)), line((0, 0), (4.95, 9), (9, 9)), None),
        (line((0, 33), (9, 33)), line((0, 9), (4.95, 8), (9, 8)), False),
        (line((0, NaN), (9, NaN)), line((0, 9), (9, 9)), None),
    ],
    ids=["equal", "not equal", "just changed", "changes, and is far off", "not read"],
)
def test_the_formula_is_judged_where_readings_can_tell(active: Line, queue: Line, holds: bool | None) -> None:
    assert diagram(5, active=active, queue=queue).holds("upstream") is holds
    in_front = Line("", "", queue.x, queue.y + 1)
    assert diagram(5, active=active, in_front=in_front).holds("study") is holds


def test_it_shows_the_deepest_queue_when_all_numbers_stand_still(fake: NoAccept) -> None:
    """By hand: nine wait in the queue from 2.1 s on, and nginx has them until it gives up at 7 s."""
    shown = drawn(judged(fake))
    assert shown.numbers == {
        "in_front": 10, "clients": 9, "front": 0, "front_limit": 4096, "held": 9, "active": 10, "queue": 9, "limit": 8,
        "accepted": 0,
    }  # fmt: skip
    assert shown.when == "the upstream's queue is deepest"
    assert (shown.holds("study"), shown.holds("upstream")) == (True, True)
    assert 0.1 < shown.at_s < 5


def test_at_every_moment_it_says_what_the_tables_say() -> None:
    """A real run, with the newest row of each table before each of three hundred moments."""
    run = RunFolder(ROOT / "tests/data/results-3c3c525/20261130T154107Z-case6-tcp")
    shown = drawn(run, stub_status_hz=20, upstream_conns_hz=10, accept_queue_hz=1000)
    database, _ = open_tables(run.host("proxy1"))
    found = find_span(database)
    assert found
    span = found[0]
    # From when all have been read until the first of them is not read any more; the axis knows 10 µs.
    read = [
        database.execute(f"SELECT min(t_ns), max(t_ns) FROM {name}").fetchone() or ()
        for name in ("stub_status", "upstream_conns", "accept_queue")
    ]
    begin, end = max(one[0] for one in read) + 20_000, min(one[1] for one in read) - 20_000
    told = set()
    for t_ns in np.linspace(begin, end, 300).astype(np.int64).tolist():
        expected = database.execute(
            """
            SELECT (SELECT count(*) FROM requests WHERE connected_ns <= $t AND $t < end_ns),
                   (SELECT arg_max(active_conns, t_ns) FROM stub_status WHERE t_ns <= $t),
                   (SELECT arg_max(depth_conns, t_ns) FROM front_queue WHERE t_ns <= $t),
                   (SELECT arg_max(depth_conns, t_ns) FROM upstream_queue WHERE t_ns <= $t),
                   (SELECT arg_max(accepted_conns, t_ns) FROM upstream_conns WHERE t_ns <= $t)
            """,
            {"t": t_ns},
        ).fetchone()
        numbers = Diagram(shown.lines, round((t_ns - span.zero_ns) / 1e4), "", "", 0.12, []).numbers
        assert tuple(numbers[name] for name in ("clients", "active", "front", "queue", "accepted")) == expected
        told.add(expected)
    assert len(told) > 20


def test_the_picture_in_the_glossary_has_the_numbers_of_its_run() -> None:
    shown = drawn(RunFolder(ROOT / "tests/data/results-3c3c525/20261130T154004Z-case2-unix"))
    picture = ElementTree.parse(ROOT / "docs/study-diagram.svg").getroot()
    written = {one.get("id"): int(one.text or "") for one in picture.iter() if one.get("id") in shown.numbers}
    assert written == {name: value for name, value in shown.numbers.items() if name != "in_front"}
    assert f"{shown.at_s:.2f} s after the first of 32 requests" in " ".join(picture.itertext())
    sums = ["".join(one.itertext()) for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "As the study draws it: Active 10 = Q 0 + A 9 + 1" in sums
    assert "At the upstream: Active 10 = Q 9 + A 0 + 1" in sums


def test_a_source_that_failed_is_not_read(fake: NoAccept) -> None:
    """Nginx did not answer while nine waited."""
    fake.files["stub_status.csv"] = re.sub(
        r"(?m)^([2-9]\d{9}),.*$", r"\1,,,,,,,,,no answer", fake.files["stub_status.csv"]
    )
    run = judged(fake)
    shown = drawn(run)
    assert (shown.numbers["queue"], shown.numbers["active"], shown.holds("study")) == (9, None, None)
    text = Page(report_of(run)).text
    assert "accepted clients; Active not read" in text
    assert "At the upstream: Active \N{EN DASH} … Q 9 + A 0 + 1" in text


def test_without_a_queue_it_shows_the_moment_of_the_highest_active(fake: NoAccept) -> None:
    fake.files["accept_queue.csv"] = re.sub(
        r"(?m)^(\d+),upstream,\d+,", r"\1,upstream,0,", fake.files["accept_queue.csv"]
    )
    shown = drawn(judged(fake))
    assert (shown.name, shown.numbers["queue"], shown.numbers["active"]) == ("highest Active", 0, 10)


def test_clients_that_keep_their_connections_are_not_counted_and_it_says_why(fake: NoAccept) -> None:
    shown = drawn(judged(fake), keepalive=True)
    assert {name for name, value in shown.numbers.items() if value is None} == {"in_front", "clients", "held"}
    assert shown.notes == [KEPT]
    assert shown.holds("study") is None


def test_where_nothing_happened_there_is_no_diagram() -> None:
    database = duckdb.connect()
    create_tables(database)
    create_queue_views(database)
    assert draw_diagram(database, Span(0, 1_000_000_000, 0), {}, 1, []) is None


def test_the_page_has_it_without_a_script_and_its_numbers_only_once(fake: NoAccept, tmp_path: Path) -> None:
    page = Page(write_report(judged(fake), tmp_path / "report.html").read_text())
    assert "Where connections are at " in page.text
    assert "As the study draws it: Active 10 = Q 0 + A 9 + 1" in page.text
    (host,) = json.loads(page.scripts[0])["hosts"]
    numbers = host["diagram"]["numbers"]
    assert set(numbers) == set(NAMES)
    of_figures = {name: host["figures"][place[0]]["name"] for name, place in numbers.items() if isinstance(place, list)}
    assert of_figures == {
        "in_front": "active", "active": "active", "queue": "accept-queue", "limit": "accept-queue",
    }  # fmt: skip
