"""The epoch that a leader gives its workers, with clocks and delays that are made up."""

from __future__ import annotations

import random
import time

import psutil
import pytest

from floodmark.loadgen.epoch import DRIFT_PPM, LEAD_NS, SharedEpoch, baseline_end_ns, process_age_ns

MS = 1_000_000
S = 1000 * MS


@pytest.mark.parametrize("seed", range(200))
def test_the_error_covers_delays_that_differ_and_a_clock_that_drifts(seed: int) -> None:
    """Up to 50 ms on each way, in any proportion; the worker's clock began at another time and is not as fast."""
    chance = random.Random(seed)
    offset_ns = chance.randint(-(10**18), 10**18)
    ppm = chance.uniform(-DRIFT_PPM, DRIFT_PPM)
    beginning_ns = now_ns = chance.randint(0, 10**15)

    def workers_clock_ns(leader_ns: int) -> int:
        return leader_ns + offset_ns + round((leader_ns - beginning_ns) * ppm / 1e6)

    shared = SharedEpoch()
    round_trips_ns = []
    for _ in range(chance.randint(1, 8)):
        there_ns, back_ns = chance.randint(0, 50 * MS), chance.randint(0, 50 * MS)
        sent_ns, now_ns = now_ns, now_ns + there_ns + back_ns
        answered_ns = workers_clock_ns(sent_ns + there_ns)
        shared.note_reply("w", sent_ns=sent_ns, worker_ns=answered_ns, received_ns=now_ns)
        round_trips_ns.append(there_ns + back_ns)
    shared.choose(now_ns + chance.randint(-S, 2 * S), now_ns)
    assert shared.begin_ns is not None
    epoch = shared.of("w")
    assert epoch is not None
    assert abs(epoch.begin_ns - workers_clock_ns(shared.begin_ns)) <= epoch.error_ns
    # Half of the shortest round trip, and little besides: 15 ppm of three seconds are 45 µs.
    assert min(round_trips_ns) / 2 <= epoch.error_ns <= min(round_trips_ns) / 2 + 50_000


def test_the_reading_with_the_shortest_round_trip_is_used() -> None:
    shared = SharedEpoch()
    for sent_ns, worker_ns, received_ns in ((0, 1_090, 100), (200, 1_205, 210), (300, 1_310, 400)):
        shared.note_reply("w", sent_ns=sent_ns, worker_ns=worker_ns, received_ns=received_ns)
    shared.choose(10 * S, 500)
    assert shared.of("w") == (10 * S + 1_000, 5 + (10 * S - 200) * DRIFT_PPM // 1_000_000 + 1)


@pytest.mark.parametrize(
    ("earliest_ns", "begin_ns"),
    [(20 * S, 20 * S), (0, 10 * S + LEAD_NS + 2 * 20 * MS)],
    ids=["when the baseline is over", "when all have heard of it"],
)
def test_the_epoch_is_neither_in_the_baseline_nor_too_early_for_the_farthest(earliest_ns: int, begin_ns: int) -> None:
    shared = SharedEpoch()
    shared.note_reply("near", sent_ns=9 * S, worker_ns=0, received_ns=9 * S + MS)
    shared.note_reply("far", sent_ns=9 * S, worker_ns=0, received_ns=9 * S + 30 * MS)
    shared.note_reply("far", sent_ns=9 * S, worker_ns=0, received_ns=9 * S + 20 * MS)
    shared.choose(earliest_ns, 10 * S)
    assert shared.begin_ns == begin_ns


def test_a_worker_whose_clock_was_not_read_is_told_nothing() -> None:
    shared = SharedEpoch()
    shared.note_reply("w", sent_ns=0, worker_ns=0, received_ns=1)
    assert shared.of("w") is None
    shared.choose(0, 10)
    assert shared.of("w") is not None
    assert shared.of("another") is None


def test_the_age_of_a_process_is_counted_from_its_start_in_ticks() -> None:
    """The line is from a kernel, with a name that tries to mislead."""
    stat = (
        "27110 (a ) R 1 (b) R 27108 27108 4116 0 -1 4194304 2944 0 0 0 4 1 0 0 20 0 1 0 84038 20725760 4153 "
        "18446744073709551615 0 0\n"
    )
    assert process_age_ns(stat, 841 * S) == 620 * MS


def test_a_baseline_begins_with_the_process() -> None:
    end_ns = baseline_end_ns(5)
    assert end_ns < time.monotonic_ns() + 5 * S
    # psutil knows the boot time to a second only.
    created_ns = time.monotonic_ns() - int((time.time() - psutil.Process().create_time()) * 1e9)
    assert end_ns - 5 * S == pytest.approx(created_ns, abs=1.1 * S)
