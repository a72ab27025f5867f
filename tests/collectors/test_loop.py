"""The beat: absolute deadlines, missed ones counted, and what takes long waits for what is due."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from collectors import fields
from collectors.agent import Beat
from collectors.loop import READABLE, Loop
from collectors.output import Output
from collectors.timer import Timer

MS = 1_000_000


def test_beats_that_were_missed_are_counted_and_not_made_up_for() -> None:
    timer = Timer(10 * MS)
    first_ns = time.monotonic_ns() + 10 * MS
    timer.start(first_ns)
    time.sleep(0.055)  # as long as something else might take
    due_ns, lost = timer.last_due()
    assert lost >= 3
    assert due_ns == first_ns + lost * 10 * MS
    assert time.monotonic_ns() - due_ns < 10 * MS + 5 * MS


def test_what_is_left_for_later_waits_for_a_timer_that_is_due() -> None:
    loop = Loop()
    order: list[str] = []
    timer = Timer(1000 * MS)
    timer.start(time.monotonic_ns() - 1)  # due by now

    def fire() -> None:
        timer.last_due()
        order.append("due")

    loop.watch(timer.fd, READABLE, fire)
    loop.later(lambda: order.append("later"))
    loop.later(loop.stop)
    loop.run()
    assert order == ["due", "later"]


class Slow:
    """A source whose one row comes after three pauses."""

    def read(self, now_ns: int) -> object:  # noqa: ARG002
        yield None
        yield None
        yield None
        yield (1, 2, 3, 4, 5, 6, None)


def test_a_reading_that_pauses_is_one_row_with_the_time_of_its_begin(tmp_path: Path) -> None:
    loop = Loop()
    with closing(Output(tmp_path)) as output:
        ledger, table = output.table(fields.AGENT), output.table(fields.TCP_EXT)
        beat = Beat(Slow(), 50 * MS, table, ledger, loop)  # type: ignore[arg-type]
        beat.start(time.monotonic_ns())
        timer = Timer(500 * MS)
        timer.start(time.monotonic_ns() + 120 * MS)
        loop.watch(timer.fd, READABLE, loop.stop)
        loop.run()
    rows = (tmp_path / "tcp_ext.csv").read_text().splitlines()[1:]
    begun = [line.split(",")[0] for line in (tmp_path / "agent.csv").read_text().splitlines()[1:]]
    assert [row.partition(",")[2] for row in rows] == ["1,2,3,4,5,6,"] * len(rows)
    assert [row.partition(",")[0] for row in rows] == begun
    assert len(rows) >= 2
