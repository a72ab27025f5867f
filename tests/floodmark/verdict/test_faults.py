"""Faults put into a good run: each comes out as what it is, and none of them is taken for what was measured."""

from __future__ import annotations

import json
import re

import pytest

from collectors.fields import AGENT, MACHINE, SOURCES
from tests.floodmark.verdict.test_judge import NoAccept, broken, silence, units, with_evidence

S = 1_000_000_000
# The flood is from 2 s to 7.001 s, and the readings are from 1 s to 9.9 s.


def cut(fake: NoAccept, from_s: float, to_s: float = 99, sources: tuple[str, ...] = ()) -> None:
    """Take the readings of a time away from some sources, or from all."""
    for name in sources or [table.name for table in SOURCES if table is not MACHINE]:
        header, *lines = fake.files[f"{name}.csv"].splitlines()
        kept = [one for one in lines if not from_s * S <= int(one.split(",")[0]) < to_s * S]
        if name == "stub_status":
            # nginx counts only what it is asked.
            kept = [re.sub(r"\d+,$", f"{turn + (12 if int(one.split(',')[0]) > 2 * S else 0)},", one)
                    for turn, one in enumerate(kept, start=1)]  # fmt: skip
        fake.files[f"{name}.csv"] = "\n".join([header, *kept, ""])


def ids(fake: NoAccept, severity: str = "invalid") -> set[str]:
    return {one for one, _, how in broken(fake.judge()) if how == severity}


@pytest.fixture
def fake(tmp_path_factory: pytest.TempPathFactory) -> NoAccept:
    made = NoAccept(tmp_path_factory.mktemp("run"))
    with_evidence(made)
    return made


def test_with_all_its_evidence_a_good_run_breaks_no_rule(fake: NoAccept) -> None:
    assert broken(fake.judge()) == []


# --- the agent --------------------------------------------------------------------------------------


def test_an_agent_that_is_stopped_one_second_into_the_flood(fake: NoAccept) -> None:
    """Ended by SIGTERM it writes what it counted, and its unit has done nothing wrong."""
    cut(fake, 3)
    with_evidence(fake)
    fake.files["units.json"] = units(active_state="inactive", sub_state="dead", inactive_since_ns=3 * S)
    verdict = fake.judge()
    assert not verdict["valid"]
    found = {(one, subject) for one, subject, severity in broken(verdict) if severity == "invalid"}
    assert {
        ("source_read", "accept_queue of upstream in the flood"),
        ("source_read", "accept_queue of upstream in the drain"),
        ("phase_length", "drain"),
        ("unit_active", "floodmark-agent.service"),
    } <= found
    assert verdict["metrics"]["accept_queue_max"] is None
    assert "accept_queue of upstream in the flood" in verdict["missing"]["accept_queue_max"]
    assert verdict["metrics"]["drain_s"] is None


def test_an_agent_that_was_killed_has_counted_nothing(fake: NoAccept) -> None:
    cut(fake, 3)
    del fake.files["written.json"]
    fake.files["units.json"] = units(active_state="failed", sub_state="failed", result="signal")
    assert {"rows_counted", "unit_active", "source_read", "phase_length"} <= ids(fake)


def test_an_agent_that_stood_still_for_a_second(fake: NoAccept) -> None:
    cut(fake, 4, 5)
    with_evidence(fake)
    assert ids(fake) == {"source_gap"}


def test_a_generator_that_sends_only_the_first_of_its_bursts(fake: NoAccept) -> None:
    """Its flood is shorter than the bursts are apart; if it dropped the second one it said so."""
    again = {"bursts": 2, "burst_every_s": 6}
    with_evidence(fake)
    assert ("phase_length", "flood", "invalid") in broken(fake.judge(**again))
    fake.remove_written()
    fake.load["dropped"] = 12
    assert "phase_length" not in {one for one, _, _ in broken(fake.judge(**again))}


def test_an_agent_that_was_started_late(fake: NoAccept) -> None:
    cut(fake, 0, 1.8)
    with_evidence(fake)
    assert ids(fake) == {"source_read", "source_gap", "phase_length"}


def test_an_accept_queue_that_cannot_be_read_half_of_the_time(fake: NoAccept) -> None:
    lines = fake.files["accept_queue.csv"].splitlines()
    for place, line in enumerate(lines[1:], start=1):
        t_ns, listener = line.split(",")[:2]
        if int(t_ns) // (S // 10) % 2:
            lines[place] = f"{t_ns},{listener},,,,ENOBUFS"
    fake.files["accept_queue.csv"] = "\n".join([*lines, ""])
    assert "source_answered" in ids(fake)
    verdict = fake.judge_again()
    assert any("ENOBUFS" in one for one in verdict["reasons"])


def test_a_status_page_that_is_silent_from_the_middle_on(fake: NoAccept) -> None:
    silence(fake, "stub_status", "nginx has not answered the status page for 50 ms", from_s=4)
    assert ids(fake) == {"source_answered", "source_gap"}
    assert fake.judge_again()["metrics"]["active_max"] is None


def test_a_hole_in_a_source_that_nothing_rests_on_is_a_note(fake: NoAccept) -> None:
    cut(fake, 4, 6, sources=("socket_memory",))
    with_evidence(fake)
    verdict = fake.judge()
    assert verdict["valid"]
    assert {subject for _, subject, _ in broken(verdict)} == {"socket_memory in the flood"}


# --- logs and archives ------------------------------------------------------------------------------


def test_rows_of_the_flood_that_are_missing(fake: NoAccept) -> None:
    fake.load["requests"] = 12
    fake.requests = fake.requests[:9]
    found = broken(fake.judge())
    assert ("rows_counted", "requests.0.csv", "invalid") in found


def test_rows_of_the_flood_that_stand_in_it_twice(fake: NoAccept) -> None:
    fake.load["requests"] = 12
    fake.requests.append(fake.requests[-1])
    found = broken(fake.judge())
    assert ("rows_unique", "requests", "invalid") in found
    assert ("rows_counted", "requests.0.csv", "invalid") in found


def test_lines_of_nginxs_log_that_are_missing_are_not_taken_for_nginxs_mistake(fake: NoAccept) -> None:
    fake.files["nginx-access.log"] = "".join(fake.files["nginx-access.log"].splitlines(keepends=True)[:-2])
    assert ids(fake) == {"rows_counted"}
    (sentence,) = fake.judge_again()["reasons"]
    assert sentence == "nginx-access.log has 10 rows, and nginx counted 12 rows: lines of it are missing"


def test_a_log_that_has_reached_its_limit_says_so(fake: NoAccept) -> None:
    fake.files["nginx-access.log"] = "".join(fake.files["nginx-access.log"].splitlines(keepends=True)[:-2])
    fake.files["nginx-error.log"] += (
        '2023/11/14 22:13:22 [alert] 7#7: *9 write() to "/var/lib/floodmark/runs/x/nginx-access.log" failed (27: File '
        "too large) while logging request, client: x\n"
    )
    assert ids(fake) == {"rows_counted", "log_whole"}
    assert "nginx-access.log lacks lines: File too large, says nginx" in fake.judge_again()["reasons"]


def test_lines_of_nginxs_log_that_stand_in_it_twice(fake: NoAccept) -> None:
    lines = fake.files["nginx-access.log"].splitlines(keepends=True)
    fake.files["nginx-access.log"] = "".join([*lines, lines[0]])
    assert ids(fake) == {"rows_unique"}


@pytest.mark.parametrize("source", [table.name for table in SOURCES if table not in (MACHINE, AGENT)])
def test_rows_of_the_agent_that_are_missing(fake: NoAccept, source: str) -> None:
    lines = fake.files[f"{source}.csv"].splitlines(keepends=True)
    fake.files[f"{source}.csv"] = "".join([*lines[:40], *lines[41:]])
    assert ("rows_counted", f"{source}.csv", "invalid") in broken(fake.judge())


def test_a_log_of_requests_that_was_changed_since_it_was_closed(fake: NoAccept) -> None:
    fake.load["requests_sha256"] = "0" * 64
    assert ("log_whole", "requests.0.csv", "invalid") in broken(fake.judge())


# --- units ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"active_state": "failed", "result": "oom-kill"}, "it was failed before it was stopped (oom-kill)"),
        ({"restarts": 1}, "systemd has restarted it, 1 times"),
        ({"active_since_ns": 4 * S}, "it was started again 2.0 s after the flood had begun"),
    ],
)
def test_a_unit_that_was_not_there_all_the_time(fake: NoAccept, changed: dict[str, object], said: str) -> None:
    fake.files["units.json"] = units(**changed)
    verdict = fake.judge()
    assert broken(verdict) == [("unit_active", "floodmark-agent.service", "invalid")]
    assert said in verdict["reasons"][0]


def test_a_unit_that_systemd_has_forgotten(fake: NoAccept) -> None:
    """One that ended well and that nothing refers to is unloaded."""
    fake.files["units.json"] = json.dumps([one for one in json.loads(units()) if "agent" not in one["name"]])
    assert broken(fake.judge()) == [("unit_active", "floodmark-agent.service", "invalid")]


# --- clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_s", [-5, 5])
def test_a_wall_clock_of_the_host_that_is_set_in_the_flood(fake: NoAccept, step_s: int) -> None:
    """From 4 s on nginx logs by another wall clock."""

    def later(found: re.Match[str]) -> str:
        msec = float(found[1])
        return f'"msec": "{msec + step_s if msec % 1000 > 4 else msec:.3f}"'

    fake.files["nginx-access.log"] = re.sub(r'"msec": "([\d.]+)"', later, fake.files["nginx-access.log"])
    verdict = fake.judge()
    assert "clocks_agree" in {one for one, _, severity in broken(verdict) if severity == "invalid"}


def test_a_wall_clock_of_the_generator_that_is_set_in_the_flood(fake: NoAccept) -> None:
    fake.load["wall_minus_monotonic_begin_ns"] = fake.load["wall_minus_monotonic_ns"] - 5 * S
    assert ("clock_set", "process 0", "invalid") in broken(fake.judge())


# --- the load generator -----------------------------------------------------------------------------


def test_a_generator_that_stood_still_for_two_seconds(fake: NoAccept) -> None:
    fake.load["longest_stall_ms"] = 2003.4
    assert ids(fake) == {"generator_stalled"}


def test_a_generator_that_was_saturated_while_it_sent_and_waited_then(fake: NoAccept) -> None:
    """10 s of 15 s are 67 % of the flood, and all of the time in which it was sending."""
    fake.load |= {"sending_s": 3.3, "cpu_sending_s": 3.2, "cpu_s": 3.3}
    assert ids(fake) == {"generator_saturated"}


def test_a_generator_that_waits_busily_is_not_saturated(fake: NoAccept) -> None:
    fake.load |= {"sending_s": 0.05, "cpu_sending_s": 0.05, "cpu_s": 4.9}
    assert ids(fake) == set()


def test_load_generators_that_nginx_does_not_know(fake: NoAccept) -> None:
    for number in range(1, 13):
        fake.requests[number] = fake.requests[number].replace(",504,", ",403,").replace(",502,", ",403,")
    assert "generators_allowed" in ids(fake)
    assert any("nginx refused 12 requests of the flood with 403" in one for one in fake.judge_again()["reasons"])
