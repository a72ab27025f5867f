"""The loop of a flood, against a port at which nobody listens: when it begins, and what it knows about itself."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from floodmark.loadgen.arrivals import OpenLoop
from floodmark.loadgen.client import Exchange, Target
from floodmark.loadgen.generator import Generator, Usage
from floodmark.loadgen.request_log import RequestLog

S = 1_000_000_000
MS = 1_000_000


def run(folder: Path, begin_ns: int, *offsets_ns: int) -> tuple[Generator, list[Exchange]]:
    """Send a few requests, each of which is refused."""
    ended: list[Exchange] = []
    log = RequestLog(folder / "requests.0.csv", 0)
    generator = Generator(
        Target(socket.AF_INET, ("127.0.0.1", 1)),
        lambda turn: (str(turn), b""),
        timeout_s=5,
        reuse=False,
        most_in_flight=None,
        log=log,
        on_end=ended.append,
    )
    generator.run(OpenLoop(iter(offsets_ns), begin_ns), begin_ns)
    log.close()
    return generator, ended


def test_nothing_is_sent_before_the_beginning(tmp_path: Path) -> None:
    begin_ns = time.monotonic_ns() + S // 5
    generator, ended = run(tmp_path, begin_ns, 0, 20 * MS)
    assert [one.intended_ns for one in ended] == [begin_ns, begin_ns + 20 * MS]
    assert all(one.start_ns >= one.intended_ns for one in ended)
    assert generator.usage
    assert 20 * MS <= generator.usage.sending_ns <= time.monotonic_ns() - begin_ns


def test_a_generator_that_is_told_late_sends_late_and_has_not_stalled(tmp_path: Path) -> None:
    told_ns = time.monotonic_ns()
    begin_ns = told_ns - 3600 * S
    generator, ended = run(tmp_path, begin_ns, 0, 20 * MS)
    assert [one.intended_ns for one in ended] == [begin_ns, begin_ns + 20 * MS]
    assert all(one.start_ns >= told_ns for one in ended)
    assert generator.usage
    assert max(generator.usage.longest_stall_ns, generator.usage.sending_ns) < 3600 * S


def test_the_time_of_sending_ends_when_nothing_more_was_sent() -> None:
    usage = Usage(began_ns=100)
    for now_ns, taken, late_ns in ((1_000, 0, 5), (2_000, 7, 40), (3_000, 7, 30)):
        usage.note(now_ns, taken, late_ns)
        if taken == 7 and now_ns == 2_000:
            sending = usage.cpu_sending_ns
            assert sending == usage.cpu_ns
    assert (usage.sending_ns, usage.longest_stall_ns) == (1_900, 40)
    assert usage.cpu_sending_ns == sending <= usage.cpu_ns
