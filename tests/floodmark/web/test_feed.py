from __future__ import annotations

import json
from pathlib import Path

from floodmark.web.feed import Feed, Reader, Sample

QUEUE = {"t_ns": 7, "depth_conns": 8, "most_conns": 9, "limit_conns": 8}
FULL = {
    "accept_queue": {"upstream": QUEUE, "front": {"depth_conns": 1}},
    "unix_states": {"unconnected_socks": 1, "connecting_socks": 8, "connected_socks": 0},
    "upstream_conns": {"accepted_conns": 2},
    "stub_status": {"active_conns": 11},
    "process": [
        {"pid": 1, "role": "nginx-master", "rss_bytes": 5},
        {"pid": 2, "role": "nginx-worker", "rss_bytes": 100},
        {"pid": 3, "role": "nginx-worker", "rss_bytes": 20},
    ],
    "statuses": {"200": 4, "502": 3, "499": 2},
}


def test_a_line_becomes_a_sample() -> None:
    sample = Reader().read(json.dumps(FULL), "flood 1", 12.5)
    assert sample == Sample(
        12.5, "flood 1", t_ns=7, depth_conns=8, most_conns=9, limit_conns=8, unconnected_socks=1, connecting_socks=8,
        connected_socks=0, active_conns=11, accepted_conns=2, worker_rss_bytes=120, status_200=4, status_500=0,
        status_502=3, status_504=0, status_other=2,
    )  # fmt: skip


def test_a_source_that_is_read_seldom_keeps_its_newest_row_and_the_queue_does_not() -> None:
    reader = Reader()
    reader.read(json.dumps(FULL), "", 0)
    later = reader.read(json.dumps({"statuses": {}}), "", 1)
    assert (later.depth_conns, later.active_conns, later.worker_rss_bytes) == (None, 11, 120)


def test_what_was_never_read_is_missing_and_not_0() -> None:
    sample = Reader().read(json.dumps({"statuses": {}}), "", 0)
    assert {sample.depth_conns, sample.active_conns, sample.worker_rss_bytes, sample.connected_socks} == {None}


def test_a_session_that_ends_says_why(tmp_path: Path) -> None:
    program = tmp_path / "said"
    program.write_text(f"echo '{json.dumps(FULL)}'; echo first >&2; echo no route to host >&2")
    taken: list[Sample] = []
    # The line that a real way runs on the host is an argument that this one ignores.
    feed = Feed(["sh", str(program)], "/nowhere")
    assert feed.follow(lambda: "flood 1", taken.append) == "no route to host"
    assert [(one.phase, one.most_conns) for one in taken] == [("flood 1", 9)]
