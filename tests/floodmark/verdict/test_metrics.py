"""Key figures on runs written here: each says what its name says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from floodmark.model.metrics import Metrics, described
from tests.floodmark.verdict.test_judge import OPEN, NoAccept


@pytest.fixture
def fake(tmp_path: Path) -> NoAccept:
    return NoAccept(tmp_path)


def answer(fake: NoAccept, *outcomes: tuple[float, int | str, str]) -> dict[str, Any]:
    """Let the requests take so long and end so, and return the key figures."""
    fake.requests = fake.requests[:1]
    for number, (took_s, status, error) in enumerate(outcomes, start=1):
        fake.request(number, 2, 2 + took_s, status, error)
    metrics: dict[str, Any] = fake.judge()["metrics"]
    return metrics


def test_a_fast_error_is_no_fast_answer(fake: NoAccept) -> None:
    """Three good answers of 1 s, nine fast refusals, resets and closed connections."""
    bad: list[tuple[float, int | str, str]] = [
        (0.001, 502, ""),
        (0.001, 500, ""),
        (0.001, "", "reset"),
        (0.001, "", "closed"),
        (0.001, 200, "truncated"),
    ]
    metrics = answer(fake, *[(1.0, 200, "")] * 3, *bad)
    assert (metrics["request_n"], metrics["good_n"]) == (8, 3)
    # The median is of the eight: five of them rank above all numbers.
    assert (metrics["request_median_s"], metrics["request_p99_s"], metrics["request_max_s"]) == (None, None, None)
    assert {name: one["median_s"] for name, one in metrics["latency"].items()} == {
        "200": 1, "500": 0.001, "502": 0.001, "closed": 0.001, "reset": 0.001, "truncated": 0.001,
    }  # fmt: skip


def test_a_client_error_is_a_complete_answer(fake: NoAccept) -> None:
    assert answer(fake, (1.0, 404, ""), (1.0, 200, ""))["good_n"] == 2


def test_what_was_dropped_ranks_above_every_number(fake: NoAccept) -> None:
    """Twelve requests were answered in the end, and twelve more were due and not sent."""
    fake.load["dropped"] = 12
    fake.requests = fake.requests[:1]
    for number in range(1, 13):
        fake.request(number, 2, 3, 200)
    metrics = fake.judge(**{**OPEN, "rate": "4:6"})["metrics"]
    assert (metrics["request_n"], metrics["good_n"]) == (24, 12)
    assert (metrics["request_median_s"], metrics["request_p99_s"]) == (1, None)


def test_goodput_is_what_was_answered_well_and_not_what_was_sent(fake: NoAccept) -> None:
    metrics = answer(fake, (5.0, 200, ""), *[(0.01, 502, "")] * 9)
    assert metrics["goodput_per_s"] == pytest.approx(1 / 5)
    assert metrics["requests_per_s"] == pytest.approx(10 / 5)


def test_the_warm_up_is_left_out_of_key_figures_and_of_nothing_else(fake: NoAccept) -> None:
    fake.requests = fake.requests[:1]
    for number in range(1, 13):
        slow = number <= 3
        fake.request(number, 2 if slow else 4, 7 if slow else 5, 200)
    whole, later = (fake.judge(), fake.judge_again(warmup_s=1))
    assert (whole["metrics"]["request_n"], later["metrics"]["request_n"]) == (12, 9)
    assert (whole["metrics"]["request_max_s"], later["metrics"]["request_max_s"]) == (5, 1)
    assert later["metrics"]["sent"] == 12
    assert later["metrics"]["accept_queue_n"] == whole["metrics"]["accept_queue_n"] - 10
    # 9 · 1 s less of waiting, but for the first reading of the queue at 2.1 s.
    less = whole["metrics"]["queue_area_conn_s"] - later["metrics"]["queue_area_conn_s"]
    assert less == pytest.approx(9 * 0.9)
    assert whole["expectations"] == later["expectations"]


def test_what_is_seen_after_the_drain_changes_no_key_figure(fake: NoAccept) -> None:
    """The agent is stopped when Ansible has time for it."""
    longer = fake.judge()["metrics"]
    for name in ("accept_queue", "upstream_conns", "stub_status", "agent"):
        header, *lines = fake.files[f"{name}.csv"].splitlines()
        kept = [one for one in lines if int(one.split(",")[0]) <= 9_100_000_000]
        fake.files[f"{name}.csv"] = "\n".join([header, *kept, ""])
    fake.remove_written()
    shorter = fake.judge()["metrics"]
    changed = {name for name in longer if longer[name] != shorter[name] and not name.startswith("agent")}
    assert not changed


def overflow(fake: NoAccept, at_s: float, times: int) -> None:
    """Let ListenOverflows grow."""
    header, *lines = fake.files["tcp_ext.csv"].splitlines()
    rows = [one.split(",", 2) for one in lines]
    grown = [f"{t_ns},{int(total or 0) + times * (int(t_ns) >= at_s * 1e9)},{rest}" for t_ns, total, rest in rows]
    fake.files["tcp_ext.csv"] = "\n".join([header, *grown, ""])


def short_front(fake: NoAccept, limit_conns: int = 8) -> None:
    """Let nginx's own queue be one that the flood can fill."""
    queue = re.sub(r"(?m)^(\d+,front,\d+),\d+,", rf"\1,{limit_conns},", fake.files["accept_queue.csv"])
    fake.files["accept_queue.csv"] = queue


def test_a_queue_that_holds_all_that_were_sent_does_not_overflow(fake: NoAccept) -> None:
    """The agent has missed the moment in which the upstream's queue was full; 32 fit into nginx's own."""
    overflow(fake, 1.5, 2)
    assert fake.judge(transport="tcp")["metrics"]["front_overflows"] == 0


def test_growth_of_overflows_while_the_upstreams_queue_is_full_is_not_nginxs(fake: NoAccept) -> None:
    """Two at 1.5 s, when nobody waits, and five at 4 s, when nine wait at a limit of eight."""
    overflow(fake, 1.5, 2)
    overflow(fake, 4, 5)
    short_front(fake)
    assert fake.judge(transport="tcp")["metrics"]["front_overflows"] == 2


@pytest.mark.parametrize(("front_conns", "expected"), [(1, 0), (8, 5)])
def test_an_overflow_between_two_readings_is_of_the_queue_that_was_fuller(
    fake: NoAccept, front_conns: int, expected: int
) -> None:
    """When an upstream goes on after a pause, its queue fills and empties within a millisecond: nobody saw it full."""
    overflow(fake, 4, 5)
    queue = re.sub(r"(?m)^(\d+),upstream,9,", r"\1,upstream,7,", fake.files["accept_queue.csv"])
    fake.files["accept_queue.csv"] = re.sub(r"(?m)^(\d+),front,\d+,", rf"\1,front,{front_conns},", queue)
    short_front(fake)
    assert fake.judge(transport="tcp")["metrics"]["front_overflows"] == expected


def test_every_key_figure_says_what_it_is_and_its_n_is_a_key_figure_too() -> None:
    told = dict(described())
    assert told.keys() == Metrics.model_fields.keys()
    assert {rests.n for rests in told.values() if rests.n} <= told.keys()
    assert all(rests.meaning for rests in told.values())


def test_the_predicted_number_stands_beside_the_condition(fake: NoAccept) -> None:
    predicted = {one["name"]: one["predicted"] for one in fake.judge()["expectations"]}
    assert predicted["queue_fills_to_limit_plus_one"] == "9"
    assert predicted["those_refused_get_502"] == "3"
    assert predicted["queue_never_exceeds_limit_plus_one"] == "at most 9"
    # It compares with a number that is written in it, or with more than one thing.
    assert predicted["nginx_and_locust_agree_on_every_status"] == predicted["every_user_sent"] == ""
