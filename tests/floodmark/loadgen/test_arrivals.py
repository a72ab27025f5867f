"""When requests are to start."""

from __future__ import annotations

import itertools
import random

import pytest
from scipy import stats

from floodmark.loadgen.arrivals import NS, ClosedLoop, OpenLoop, Step, bursts, parse_steps, planned, spread

MS = NS // 1000


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("500", [Step(500, 500, 10)]),
        ("0.5:20", [Step(0.5, 0.5, 20)]),
        ("100:10 100-500:20", [Step(100, 100, 10), Step(100, 500, 20)]),
        ("0-100", [Step(0, 100, 10)]),
    ],
)
def test_steps_and_ramps_are_read(text: str, steps: list[Step]) -> None:
    assert parse_steps(text, duration_s=10) == steps


@pytest.mark.parametrize(
    "text", ["", "fast", "100:", ":10", "-5", "0", "0-0:5", "5:0", "100:10s", "1:2:3", "nan", "inf"]
)
def test_what_is_no_step_is_refused_with_what_was_given(text: str) -> None:
    with pytest.raises(ValueError, match=text or "no step"):
        parse_steps(text, duration_s=10)


def test_a_constant_rate_is_spaced_evenly() -> None:
    assert list(planned([Step(4, 4, 1)])) == [0, NS // 4, NS // 2, NS * 3 // 4]


def test_steps_follow_each_other() -> None:
    assert list(planned([Step(2, 2, 1), Step(4, 4, 0.5)])) == [0, NS // 2, NS, NS * 5 // 4]


def test_a_ramp_gets_steadily_denser_and_has_as_many_as_its_area() -> None:
    times = list(planned([Step(0, 1000, 2)]))
    assert len(times) == 1000
    # The rate's integral is 250 t²: after one second a quarter of them have come.
    assert sum(time < NS for time in times) == 250
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(gaps))


def test_arrivals_at_random_are_a_poisson_process() -> None:
    times = list(planned([Step(1000, 1000, 20)], seed=7))
    gaps_s = [(later - earlier) / NS for earlier, later in itertools.pairwise(times)]
    assert stats.kstest(gaps_s, "expon", args=(0, 1 / 1000)).pvalue > 0.01
    assert abs(len(times) - 20_000) < 4 * 20_000**0.5


def test_one_seed_plans_one_flood_and_another_seed_another() -> None:
    steps = [Step(100, 500, 3)]
    assert list(planned(steps, seed=1)) == list(planned(steps, seed=1))
    assert list(planned(steps, seed=1)) != list(planned(steps, seed=2))


@pytest.mark.parametrize("of", [2, 3])
def test_several_generators_have_together_what_one_would(of: int) -> None:
    steps = [Step(300, 300, 2), Step(300, 900, 1)]
    shares = [list(planned(steps, share=share, of=of)) for share in range(of)]
    assert sorted(itertools.chain(*shares)) == list(planned(steps))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_several_generators_at_random_are_one_poisson_process() -> None:
    steps = [Step(1000, 1000, 20)]
    times = sorted(itertools.chain(*(planned(steps, seed=3, share=share, of=4) for share in range(4))))
    gaps_s = [(later - earlier) / NS for earlier, later in itertools.pairwise(times)]
    assert stats.kstest(gaps_s, "expon", args=(0, 1 / 1000)).pvalue > 0.01
    assert abs(len(times) - 20_000) < 4 * 20_000**0.5


def test_a_burst_is_spread_evenly() -> None:
    assert list(spread(5, 50 * MS)) == [0, 10 * MS, 20 * MS, 30 * MS, 40 * MS]


def test_several_bursts_are_the_same_again() -> None:
    assert list(bursts(3, 100, [0, 10])) == [0, 10, 100, 110, 200, 210]
    assert list(bursts(1, 100, [])) == []


# --- loads ----------------------------------------------------------------------------------------


def test_an_open_loop_does_not_wait_for_answers() -> None:
    load = OpenLoop(iter([0, 5, 7]), begin_ns=100)
    assert [load.take(), load.take(), load.due_ns(), load.is_over] == [100, 105, 107, False]
    load.ended(200)
    assert (load.take(), load.due_ns(), load.is_over) == (107, None, True)


def test_a_closed_loop_waits_for_its_answers_and_thinks() -> None:
    load = ClosedLoop(iter([0, 10]), begin_ns=100, think_ns=50, end_ns=1000)
    assert [load.take(), load.take(), load.due_ns()] == [100, 110, None]
    load.ended(300)
    assert load.take() == 350
    assert load.is_over  # but for the answers that are still to come
    load.ended(951)
    assert load.due_ns() is None, "nobody begins after the end"


def test_users_come_and_go() -> None:
    load = ClosedLoop(iter([0]), begin_ns=0, think_ns=0, end_ns=None)
    load.add(5)
    assert [load.take(), load.take()] == [0, 5]
    load.remove()
    load.ended(10)
    assert load.due_ns() is None
    load.ended(11)
    assert load.take() == 11
    load.remove()
    load.add(12)
    load.ended(13)
    assert load.due_ns() == 13, "who left and who came are the same number"


def test_answers_in_any_order_give_requests_in_order() -> None:
    load = ClosedLoop(iter([0] * 100), begin_ns=0, think_ns=7, end_ns=None)
    for _ in range(100):
        load.take()
    ends = random.Random(1).sample(range(1000), 100)
    for end_ns in ends:
        load.ended(end_ns)
    assert [load.take() for _ in range(100)] == [end_ns + 7 for end_ns in sorted(ends)]
