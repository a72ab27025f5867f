"""Verdicts on runs written here: the right answer, the wrong one, and none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from collectors.fields import MACHINE, SOURCES
from floodmark.errors import RunError
from floodmark.inputs.cases import Case, load_cases
from floodmark.inputs.parameters import Parameters, resolve_parameters
from floodmark.runs.folders import find_run
from floodmark.runs.verdicts import read_verdicts
from floodmark.study.sentences import with_questions
from floodmark.verdict.judge import judge_host, judge_run
from tests.floodmark.verdict.test_ingest import FakeRun

LISTENERS = [
    {"name": "upstream", "transport": "unix", "address": "/u.sock", "limit_conns": 8, "owner": "python3"},
    {"name": "front", "transport": "tcp", "address": "port 8080", "limit_conns": 4096, "owner": "nginx"},
]

UNITS = (
    "floodmark-nginx.service",
    "floodmark-upstream@2.service",
    "floodmark-agent.service",
    "floodmark-sysctl.service",
)

# The runs here are read ten times a second, a second before their flood and more than two after it.
AS_WRITTEN = {
    **{name: 10 for name in Parameters.model_fields if name.endswith("_hz")}, "machine_hz": 0, "baseline_s": 1,
}  # fmt: skip


def case_2(**parameters: Any) -> Case:
    case = with_questions(load_cases()[2])
    resolved = resolve_parameters(case.parameters.model_dump(), AS_WRITTEN, parameters, origin="test")
    return case.model_copy(update={"parameters": resolved})


class NoAccept(FakeRun):
    """A run of case 2 as it should be: 12 users, limit 8, so 9 wait and 3 are refused."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        host = json.loads(self.files["host.json"])
        self.files["host.json"] = json.dumps({**host, "listeners": LISTENERS})
        for tenth in range(90):
            t_s = 1 + tenth / 10
            waiting = 9 if t_s > 2 else 0
            active = live = 9 if 2 < t_s < 7 else 0
            self.depth(t_s, waiting)
            self.depth(t_s, 0, 4096, "front")
            t_ns = int(t_s * 1e9)
            self.files["unix_states.csv"] += f"{t_ns},0,1,{waiting},0,0,0,9,{waiting},9,0,\n"
            self.files["upstream_conns.csv"] += f"{t_ns},0,0,{live},{waiting - live},\n"
            asked = tenth + 1 + (12 if t_s > 2 else 0)
            self.files["stub_status.csv"] += f"{t_ns},{active + 1},{active},0,{active + 1},0,13,13,{asked},\n"
            self.files["process.csv"] += f"{t_ns},nginx-worker,7,1000,1,1,1,1,1,0,0,1,0.1,1,1,\n"
            self.files["tcp_ext.csv"] += f"{t_ns},0,0,0,0,0,0,\n"
            self.files["socket_memory.csv"] += f"{t_ns},40,0,3,0,0,\n"
            self.files["agent.csv"] += f"{t_ns},accept_queue,1000,50000,0,,\n{t_ns},agent,,,,0.005,\n"
        for number in range(1, 13):
            refused = number > 9
            end_s = 2.01 if refused else 7.001
            self.request(number, 2, end_s, 502 if refused else 504)
            took_s = end_s - 2.001
            self.logged(number, end_s - 0.001, took_s, 502 if refused else 504, upstream=f"{took_s:.3f}")
            if refused:
                self.files["nginx-error.log"] += (
                    "2023/11/14 22:13:22 [error] 7#7: *5 connect() to unix:/u.sock failed (11: Resource temporarily "
                    "unavailable) while connecting to upstream, client: x\n"
                )

        # Of those that were refused it does not matter.
        self.files["nginx-access.log"] = self.files["nginx-access.log"].replace("0.001, 0.002", "5.001")

    def judge(self, **parameters: Any) -> dict[str, Any]:
        self.write()
        return self.judge_again(**parameters)

    def remove_written(self) -> None:
        """Take back what was written, so that it can be written in another way."""
        shutil.rmtree(self.run.path / "proxy1")
        shutil.rmtree(self.run.path / "load")

    def judge_again(self, **parameters: Any) -> dict[str, Any]:
        """Judge what has been written."""
        case = case_2(**{"users": 12, **parameters})
        return judge_host(self.run, self.run.host("proxy1"), case).model_dump(mode="json")

    def write_plan(self, *hosts: str) -> None:
        """Write what the run was meant to be, so that it can be judged as a whole."""
        case = case_2(users=12)
        plan = {
            "run_id": self.run.run_id,
            "case": case.model_dump(mode="json", by_alias=True, exclude={"parameters"}),
            "parameters": case.parameters.model_dump(),
            "hosts": {"proxies": list(hosts)},
            "schema_version": 2,
        }
        self.run.plan.write_text(json.dumps(plan))


@pytest.fixture
def fake(tmp_path: Path) -> NoAccept:
    return NoAccept(tmp_path)


def units(**changed: object) -> str:
    """Return units.json of a run whose agent is not as it should be."""
    good = {
        "active_state": "active", "sub_state": "running", "result": "success", "restarts": 0,
        "active_since_ns": 500_000_000, "inactive_since_ns": None, "exit_status": 0, "read_ns": 10_000_000_000,
    }  # fmt: skip
    return json.dumps([{"name": name, **good, **(changed if "agent" in name else {})} for name in UNITS])


def with_evidence(fake: NoAccept) -> None:
    """Let the host say how many rows it wrote, and that its units were active: as from format 7 on."""
    host = json.loads(fake.files["host.json"])
    fake.files["host.json"] = json.dumps({**host, "format_version": 7})
    fake.files["units.json"] = units()
    rows = {table.name: fake.files[f"{table.name}.csv"].count("\n") - 1 for table in SOURCES if table is not MACHINE}
    fake.files["written.json"] = json.dumps(rows)


def failed(verdict: dict[str, Any]) -> list[str]:
    return [one["name"] for one in verdict["expectations"] if not one["holds"]]


def passed(verdict: dict[str, Any]) -> bool:
    return verdict["valid"] and not failed(verdict)


def broken(verdict: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return id, subject and severity of the checks that are not ok."""
    return [(one["id"], one["subject"], one["severity"]) for one in verdict["checks"] if not one["ok"]]


def test_a_good_run_is_valid_and_all_its_expectations_hold(fake: NoAccept) -> None:
    verdict = fake.judge()
    assert (verdict["valid"], verdict["reasons"], failed(verdict)) == (True, [], [])
    assert verdict["unstated"] == []
    assert passed(verdict)


def test_its_key_figures_are_those_of_the_tables(fake: NoAccept) -> None:
    metrics = fake.judge()["metrics"]
    assert {name: metrics[name] for name in ("accept_queue_max", "queue_limit", "active_max", "status", "errors")} == {
        "accept_queue_max": 9,
        "queue_limit": 8,
        "active_max": 9,
        "status": {"502": 3, "504": 9},
        "errors": {},
    }
    assert metrics["states"] == {"00": 0, "01": 1, "02": 9, "03": 0, "04": 0}


def test_how_the_queue_filled_stood_and_emptied(fake: NoAccept) -> None:
    """By hand: 9 in the queue from 2.1 s to the last reading at 9.9 s, the flood from 2 s to 7.001 s."""
    metrics = fake.judge()["metrics"]
    assert {name: metrics[name] for name in metrics if name.startswith(("time_to", "plateau", "overshoot"))} == {
        "time_to_full_s": 0.1,
        "plateau_median": 9,
        "plateau_p99": 9,
        "plateau_n": 50,
        "overshoot": 1,
    }
    # 9 · (7.001 - 2.1) in the flood, 9 · 2 in the drain. What comes after that depends on when the agent was stopped.
    assert metrics["queue_area_conn_s"] == pytest.approx(44.109)
    assert metrics["queue_area_drain_conn_s"] == 18
    assert metrics["dead_in_queue_last"] == 9
    assert (metrics["drain_s"], metrics["recovery_s"]) == (None, None)
    # At 7 s nginx has no connection left, and the queue still has nine.
    assert (metrics["identity_n"], metrics["identity_share"]) == (50, 0.98)
    assert (metrics["identity_drain_n"], metrics["identity_drain_share"]) == (20, 0)
    # The nine clients wait until 7.001 s, so at 7 s one cannot tell.
    assert (metrics["identity_front_n"], metrics["identity_front_share"]) == (49, 1)


def test_the_identity_in_front_counts_clients_that_no_worker_has_accepted(fake: NoAccept) -> None:
    """Two of the nine wait in nginx's own queue from 4 s to 5 s: Q + A + 1 is still ten, and Active is eight."""
    for name, old, new in (("accept_queue", "front,0", "front,2"), ("stub_status", "10,9", "8,7")):
        fake.files[f"{name}.csv"] = re.sub(rf"(?m)^(4\d{{9}}),{old},", rf"\1,{new},", fake.files[f"{name}.csv"])
    metrics = fake.judge()["metrics"]
    assert (metrics["identity_front_n"], metrics["identity_front_share"]) == (49, pytest.approx(39 / 49))
    assert metrics["front_queue_max"] == 2


def empty_the_queue_late(fake: NoAccept) -> None:
    """Let the last readings, from 7.5 s on, be of an empty queue."""
    for name in ("accept_queue.csv", "upstream_conns.csv"):
        late = re.compile(r"(?m)^((?:7[5-9]|[89]\d)\d{8},(?:upstream|0,0),).*$")
        emptied = {"accept_queue.csv": r"\g<1>0,8,unix_diag,", "upstream_conns.csv": r"\g<1>0,0,"}
        fake.files[name] = late.sub(emptied[name], fake.files[name])


def test_a_queue_that_empties_has_a_drain_time(fake: NoAccept) -> None:
    empty_the_queue_late(fake)
    metrics = fake.judge()["metrics"]
    assert metrics["drain_s"] == 0.499
    assert metrics["recovery_s"] == 0.499


def test_without_a_reading_after_the_flood_nobody_knows_when_the_queue_was_empty(fake: NoAccept) -> None:
    """What was settled before the flood says nothing of afterwards."""
    for name in ("accept_queue.csv", "upstream_conns.csv"):
        fake.files[name] = re.sub(r"(?m)^(?:[2-9]\d{9}),(?:upstream|0,0).*\n", "", fake.files[name])
    metrics = fake.judge()["metrics"]
    assert (metrics["drain_s"], metrics["recovery_s"]) == (None, None)


@pytest.mark.parametrize(("hz", "seen"), [(20, 0), (5, 50)])
def test_a_source_that_is_read_seldom_is_of_the_same_moment_for_longer(fake: NoAccept, hz: int, seen: int) -> None:
    """The status was read 90 ms before each look at the accepted connections."""
    fake.files["stub_status.csv"] = re.sub(
        r"(?m)^(\d{10}),", lambda line: f"{int(line[1]) - 90_000_000},", fake.files["stub_status.csv"]
    )
    assert fake.judge(stub_status_hz=hz)["metrics"]["identity_n"] == seen


@pytest.mark.parametrize(
    ("resumed_s", "dead", "queue_s", "clients_s"),
    [(6.95, 0, 0.55, 0.051), (7.05, 9, 0.45, 0)],
    ids=["while clients wait", "when they have gone"],
)
def test_the_recovery_counts_from_when_the_upstream_says_it_accepts_again(
    fake: NoAccept, resumed_s: float, dead: int, queue_s: float, clients_s: float
) -> None:
    """By hand: clients wait from 2 s to 7.001 s, the readings at 6.9 s and 7 s see nine live and nine dead."""
    empty_the_queue_late(fake)
    fake.files["upstream_events.csv"] = (
        f"t_ns,listener,event\n2050000000,upstream,paused\n{resumed_s * 1e9:.0f},upstream,resumed\n"
    )
    metrics = fake.judge()["metrics"]
    assert metrics["pause_s"] == pytest.approx(resumed_s - 2.05)
    assert metrics["pause_dead_conns"] == dead
    assert metrics["pause_queue_recovery_s"] == pytest.approx(queue_s)
    assert metrics["pause_clients_recovery_s"] == pytest.approx(clients_s)


def test_without_a_pause_there_is_nothing_to_recover_from(fake: NoAccept) -> None:
    empty_the_queue_late(fake)
    metrics = fake.judge()["metrics"]
    assert {value for name, value in metrics.items() if name.startswith("pause_")} == {None}


def test_the_phases_are_those_of_the_requests(fake: NoAccept) -> None:
    assert [(one["name"], one["duration_s"]) for one in fake.judge()["phases"]] == [
        ("baseline", 1.0), ("flood", 5.001), ("drain", 2.899),
    ]  # fmt: skip


def test_the_studys_mistakes_come_out_as_refuted(fake: NoAccept) -> None:
    verdicts = {one["name"]: (one["role"], one["verdict"]) for one in fake.judge()["claims"]}
    assert verdicts["state_03_is_the_backlog"] == ("sentence", "refuted")
    assert verdicts["refuses_at_somaxconn/queue_is_bounded"] == ("sentence", "confirmed")
    assert verdicts["refuses_at_somaxconn/one_more"] == ("limit", "refuted")
    assert verdicts["active_indicates_queue_and_accepted/of_the_upstream_while_requests_wait"] == (
        "context",
        "confirmed",
    )
    assert verdicts["active_indicates_queue_and_accepted/of_the_upstream_afterwards"] == ("context", "refuted")
    assert verdicts["case_2_nginx_and_clients_hang/full_queue"] == ("limit", "refuted")


def silence(fake: NoAccept, source: str, reason: str, from_s: float = 0) -> None:
    """Let each reading of a source fail, from a time on."""
    header, *lines = fake.files[f"{source}.csv"].splitlines()
    empty = "," * (header.count(",") - 1)
    lines = [one if int(one.split(",")[0]) < from_s * 1e9 else f"{one.split(',')[0]}{empty},{reason}" for one in lines]
    fake.files[f"{source}.csv"] = "\n".join([header, *lines, ""])


def test_a_worker_without_a_slot_for_a_client_has_no_status_page_and_no_fault(fake: NoAccept) -> None:
    silence(fake, "stub_status", "no answer")
    assert ("source_answered", "stub_status in the flood", "invalid") in broken(fake.judge())


def test_memory_of_sockets_that_the_kernel_does_not_tell_is_a_note(fake: NoAccept) -> None:
    """A kernel without unix_diag answers ENOENT."""
    fake.files["socket_memory.csv"] = re.sub(
        r"(?m)^(\d{10}),.*$", r"\1,,,,,,sock_diag: ENOENT No such file or directory", fake.files["socket_memory.csv"]
    )
    verdict = fake.judge()
    assert verdict["valid"], verdict["reasons"]
    assert ("source_answered", "socket_memory in the flood", "note") in broken(verdict)
    assert any("sock_diag: ENOENT No such file or directory" in one for one in verdict["doubts"])


def test_two_worker_connections_are_too_few_for_the_status_page(fake: NoAccept) -> None:
    silence(fake, "stub_status", "no answer")
    assert fake.judge(worker_connections=2)["valid"]


def test_strace_is_a_note_and_a_capture_that_is_missing_has_its_reason(fake: NoAccept) -> None:
    assert any(
        "nginx's system calls were not captured: strace wrote nothing" in one
        for one in fake.judge(strace=True)["doubts"]
    )


def test_what_strace_has_captured_is_a_table_and_slows_nginx(fake: NoAccept) -> None:
    fake.files["strace.json"] = json.dumps({"processes": {"7": "nginx-worker"}, "reason": None})
    fake.files["strace.7"] = "1700000002.000000 accept4(5, NULL, NULL, SOCK_NONBLOCK) = 7 <0.000014>\n"
    verdict = fake.judge(strace=True)
    assert any("strace stopped nginx at each system call" in one for one in verdict["doubts"])
    rows = duckdb.execute(
        f"SELECT t_ns, role, pid, name, result FROM '{fake.run.path}/proxy1/syscalls.parquet'"
    ).fetchall()
    assert rows == [(2 * 10**9, "nginx-worker", 7, "accept4", 7)]


def test_a_capture_from_the_start_has_its_roles_and_phases(fake: NoAccept) -> None:
    fake.files["strace.json"] = json.dumps({"reason": None})
    fake.files["strace.6"] = (
        "1700000000.000001 socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 4 <0.000016>\n"
        "1700000000.000002 listen(4, 511)        = 0 <0.000010>\n"
        "1700000000.000003 clone(child_stack=NULL, flags=SIGCHLD) = 7 <0.000333>\n"
    )
    fake.files["strace.7"] = "1700000000.000004 clone(child_stack=NULL, flags=SIGCHLD) = 8 <0.000333>\n"
    fake.files["strace.8"] = "1700000002.500000 accept4(4, NULL, NULL, SOCK_NONBLOCK) = 7 <0.000014>\n"
    fake.judge(strace=True)
    rows = duckdb.execute(
        f"SELECT role, pid, name, object, phase FROM '{fake.run.path}/proxy1/syscalls.parquet' ORDER BY t_ns"
    ).fetchall()
    assert rows == [
        ("nginx-master", 6, "socket", "listener", "baseline"),
        ("nginx-master", 6, "listen", "listener", "baseline"),
        ("nginx-master", 6, "clone", None, "baseline"),
        ("nginx-master", 7, "clone", None, "baseline"),
        ("nginx-worker", 8, "accept4", "client", "flood"),
    ]


def test_a_capture_that_ended_before_the_flood_is_said(fake: NoAccept) -> None:
    fake.files["strace.json"] = json.dumps({"reason": None})
    fake.files["strace.7"] = "1700000002.500000 accept4(4, NULL, NULL, SOCK_NONBLOCK) = 7 <0.000014>\n"
    cut = "nginx's system calls were not captured: strace ended 4.5 s before the flood did"
    assert any(cut in one for one in fake.judge(strace=True)["doubts"])
    fake.remove_written()
    fake.files["strace.7"] += "1700000007.200000 epoll_wait(8,  <detached ...>\n"
    assert not any("not captured" in one for one in fake.judge(strace=True)["doubts"])


def test_a_wrong_number_fails_its_expectation(fake: NoAccept) -> None:
    fake.files["accept_queue.csv"] = fake.files["accept_queue.csv"].replace(",upstream,9,", ",upstream,8,")
    verdict = fake.judge()
    assert verdict["valid"]
    assert failed(verdict) == ["queue_fills_to_limit_plus_one", "queue_stays_full_when_the_clients_have_gone"]
    assert not passed(verdict)


def test_a_status_that_nginx_did_not_send_is_noticed(fake: NoAccept) -> None:
    fake.files["nginx-access.log"] = fake.files["nginx-access.log"].replace('"status": "504"', '"status": "200"', 1)
    assert failed(fake.judge()) == ["nginx_and_locust_agree_on_every_status"]


def test_a_run_whose_fault_was_not_observed_is_invalid(fake: NoAccept) -> None:
    fake.files["upstream_conns.csv"] = re.sub(r"(?m)^(\d+),0,0,", r"\1,4,0,", fake.files["upstream_conns.csv"])
    verdict = fake.judge()
    assert not verdict["valid"]
    assert "the fault was not observed: nothing_was_accepted is 4" in verdict["reasons"][0]


def test_a_silent_source_makes_a_run_invalid(fake: NoAccept) -> None:
    silence(fake, "upstream_conns", "sock_diag refused")
    verdict = fake.judge()
    for phase in ("baseline", "flood", "drain"):
        assert ("source_answered", f"upstream_conns in the {phase}", "invalid") in broken(verdict)
        assert ("source_gap", f"upstream_conns in the {phase}", "invalid") in broken(verdict)


def test_a_saturated_generator_makes_a_run_invalid(fake: NoAccept) -> None:
    fake.load["cpu_warning"] = True
    assert any("the load generator was saturated" in reason for reason in fake.judge()["reasons"])


def test_a_generator_that_used_a_whole_core_for_long_makes_a_run_invalid(fake: NoAccept) -> None:
    fake.load["cpu_s"] = 4.9
    assert any("the load generator was saturated" in reason for reason in fake.judge()["reasons"])


def test_a_worker_of_another_version_makes_a_run_invalid(fake: NoAccept) -> None:
    fake.load |= {"locust_version": "2.46.0", "leader_version": "2.47.0"}
    assert any(
        "process 0 of the flood ran Locust 2.46.0 and was led by 2.47.0" in reason for reason in fake.judge()["reasons"]
    )


def test_an_overflow_of_nginx_s_own_queue_makes_a_run_invalid(fake: NoAccept) -> None:
    fake.files["tcp_ext.csv"] = re.sub(r"(?m)^([4-9]\d{9}),0,", r"\1,3,", fake.files["tcp_ext.csv"])
    with_evidence(fake)
    verdict = fake.judge()
    assert broken(verdict) == [("front_overflowed", "", "invalid")]
    assert "nginx's own accept queue overflowed 3 times" in verdict["reasons"][0]


def test_an_overflow_of_nginx_s_own_queue_is_a_note_where_it_is_asked_for(fake: NoAccept) -> None:
    fake.files["tcp_ext.csv"] = re.sub(r"(?m)^([4-9]\d{9}),0,", r"\1,3,", fake.files["tcp_ext.csv"])
    with_evidence(fake)
    verdict = fake.judge(front_may_overflow=True)
    assert (verdict["valid"], broken(verdict)) == (True, [("front_overflowed", "", "note")])
    assert "nginx's own accept queue overflowed 3 times" in verdict["doubts"][0]


def test_a_full_queue_of_nginx_is_a_note_because_it_has_refused_nobody(fake: NoAccept) -> None:
    fake.depth(3.05, 4097, 4096, "front")
    with_evidence(fake)
    verdict = fake.judge()
    assert verdict["valid"]
    assert broken(verdict) == [("front_full", "", "note")]
    assert "4097 connections waited there, and its limit is 4096 connections" in verdict["doubts"][0]


def test_requests_that_never_ended_make_a_run_invalid(fake: NoAccept) -> None:
    fake.load["unfinished"] = 2
    assert "2 requests were sent and never ended: the flood was cut off" in fake.judge()["reasons"]


def test_a_run_without_requests_is_invalid(fake: NoAccept) -> None:
    fake.requests = fake.requests[:1]
    verdict = fake.judge()
    assert "there was no flood: no request was sent" in verdict["reasons"]
    assert verdict["phases"] == []


def test_an_agent_that_cost_much_or_lost_readings_is_noted(fake: NoAccept) -> None:
    text = fake.files["agent.csv"].replace(",0.005,", ",0.05,")
    fake.files["agent.csv"] = text.replace(",1000,50000,0,", ",1000,50000,1,", 3)
    doubts = fake.judge()["doubts"]
    assert any("the agent used 50.6% of a core" in doubt for doubt in doubts)
    assert any("the agent lost 3.2% of its readings" in doubt for doubt in doubts)


def test_other_parameters_mean_other_predictions(fake: NoAccept) -> None:
    """The same numbers are wrong when 16 users were asked for."""
    assert "every_user_sent" in failed(fake.judge(users=16))


def test_run_json_is_written_last_and_takes_the_plan_into_itself(fake: NoAccept) -> None:
    fake.write()
    fake.write_plan("proxy1")
    with pytest.raises(RunError, match="is not complete"):
        fake.run.read_run()
    assert judge_run(fake.run).passed
    assert fake.run.read_run().run_id == fake.run.run_id
    assert not fake.run.plan.exists()
    assert find_run("latest", fake.run.path.parent).path == fake.run.path


def test_a_host_that_failed_does_not_lose_the_others_results(fake: NoAccept) -> None:
    fake.write()
    fake.write_plan("proxy1", "failed")
    assert not judge_run(fake.run).passed
    verdicts = {one.host: one for one in read_verdicts(fake.run)}
    assert verdicts["proxy1"].valid
    assert "nothing was fetched from this host" in verdicts["failed"].reasons[0]


def test_requests_of_another_flood_make_a_run_invalid(fake: NoAccept) -> None:
    fake.files["nginx-access.log"] = fake.files["nginx-access.log"].replace(f"{fake.run.run_id}/12", "theirs/12")
    assert (
        "1 requests in nginx's log are not of this flood: something else sends to the same port"
        in (fake.judge()["reasons"])
    )


def test_a_worker_that_dies_makes_a_run_invalid(fake: NoAccept) -> None:
    fake.files["nginx-error.log"] += "2023/11/14 22:13:23 [alert] 6#6: worker process 7 exited on signal 9\n"
    with_evidence(fake)
    verdict = fake.judge()
    assert not verdict["valid"]
    assert broken(verdict) == [("workers_alive", "", "invalid")]
    assert "1 of nginx's workers died in the run (worker process 7 exited on signal 9)" in verdict["reasons"][0]


@pytest.mark.parametrize(("readings", "value"), [(19, None), (20, 1.0)])
def test_a_sentence_about_moments_takes_twenty_of_them(fake: NoAccept, readings: int, value: float | None) -> None:
    waiting = [line for line in fake.files["upstream_conns.csv"].splitlines() if line.endswith(",9,0,")]
    for line in waiting[readings:]:
        fake.files["upstream_conns.csv"] = fake.files["upstream_conns.csv"].replace(line + "\n", "")
    for line in [one for one in fake.files["upstream_conns.csv"].splitlines() if one.endswith(",0,9,")]:
        fake.files["upstream_conns.csv"] = fake.files["upstream_conns.csv"].replace(line + "\n", "")
    (claim,) = (
        one
        for one in fake.judge()["claims"]
        if one["name"] == "active_indicates_queue_and_accepted/of_the_upstream_while_requests_wait"
    )
    assert (claim["value"], claim["verdict"]) == (value, "confirmed" if value else "not observed")


def test_a_claim_that_does_not_apply_is_not_observed(fake: NoAccept) -> None:
    fake.write()
    case = case_2(users=12)
    claims = [one.model_copy(update={"applies": "users > 12"}) for one in case.claims]
    verdict = judge_host(fake.run, fake.run.host("proxy1"), case.model_copy(update={"claims": claims}))
    assert {(one.verdict, one.value) for one in verdict.claims} == {("not observed", None)}


def test_expectations_that_the_model_does_not_state_are_listed(fake: NoAccept) -> None:
    unstated = {one["name"] for one in fake.judge(worker_connections=20)["unstated"]}
    assert "queue_fills_to_limit_plus_one" in unstated


def test_a_damaged_line_of_the_access_log_is_a_loss_and_no_traceback(fake: NoAccept) -> None:
    fake.files["nginx-access.log"] += '{"id":"9","ms\n'
    assert "nginx-access.log has 1 damaged lines, which were left out" in fake.judge()["reasons"]


def test_why_a_run_failed_on_a_host_is_its_reason(fake: NoAccept) -> None:
    folder = fake.run.host("failed")
    folder.path.mkdir()
    folder.failure.write_text("Apply | Start nginx: it failed\n")
    with pytest.raises(RunError, match=r"Apply \| Start nginx: it failed"):
        judge_host(fake.run, folder, case_2())


def test_a_generator_that_was_late_is_noted(fake: NoAccept) -> None:
    fake.requests.pop()
    fake.request(12, 2, 2.01, 502, late_s=0.25)
    verdict = fake.judge()
    assert verdict["valid"]
    assert any("up to 250 ms late" in doubt for doubt in verdict["doubts"])


def test_a_run_of_another_version_keeps_its_verdict(fake: NoAccept) -> None:
    fake.write()
    fake.write_plan("proxy1")
    judge_run(fake.run)
    verdict = fake.run.host("proxy1").verdict.read_text()
    run = json.loads(fake.run.record.read_text())
    del run["parameters"]["rate"]
    fake.run.record.write_text(json.dumps(run))
    with pytest.raises(RunError, match=r"was made by another version of Floodmark .*, whose runs have another rate"):
        judge_run(fake.run)
    assert fake.run.host("proxy1").verdict.read_text() == verdict


# --- open floods ----------------------------------------------------------------------------------

OPEN = {"load_shape": "open", "arrivals": "constant", "rate": "4:3"}


def test_an_open_flood_says_what_was_asked_for_and_what_was_sent(fake: NoAccept) -> None:
    verdict = fake.judge(**OPEN)
    assert verdict["valid"], verdict["reasons"]
    metrics = verdict["metrics"]
    assert (metrics["requested_per_s"], metrics["achieved_per_s"], metrics["dropped"]) == (4, 4, 0)
    (sent,) = [one for one in verdict["expectations"] if one["name"] == "every_user_sent"]
    assert (sent["value"], sent["holds"]) == (12, True)


def test_what_was_dropped_is_counted_and_no_request_is_missing(fake: NoAccept) -> None:
    fake.load["dropped"] = 8
    verdict = fake.judge(**{**OPEN, "rate": "4:5"})
    (sent,) = [one for one in verdict["expectations"] if one["name"] == "every_user_sent"]
    assert sent["holds"]
    assert any(doubt.startswith("8 requests that were due were not sent") for doubt in verdict["doubts"])
    assert verdict["metrics"]["achieved_per_s"] == pytest.approx(12 / 5)


def test_requests_of_an_open_flood_that_are_missing_are_seen(fake: NoAccept) -> None:
    verdict = fake.judge(**{**OPEN, "rate": "4:5"})
    (sent,) = [one for one in verdict["expectations"] if one["name"] == "every_user_sent"]
    assert not sent["holds"]


def test_an_open_flood_from_a_late_generator_is_invalid(fake: NoAccept) -> None:
    fake.requests.pop()
    fake.request(12, 2, 2.01, 502, late_s=0.025)
    (reason,) = fake.judge(**OPEN)["reasons"]
    assert "more than 25 ms after its time (limit 10 ms)" in reason


def test_a_request_takes_its_time_from_when_it_should_have_started(fake: NoAccept) -> None:
    fake.requests = [fake.requests[0]]
    for number in range(1, 13):
        fake.request(number, 2, 3, 504, late_s=0.5)
    assert fake.judge()["metrics"]["latency"]["504"]["median_s"] == 1.5


def test_what_was_given_up_is_longer_than_any_number(fake: NoAccept) -> None:
    fake.requests = [fake.requests[0]]
    for number in range(1, 13):
        late = number > 9
        fake.request(number, 2, 4 if late else 3, "" if late else 200, "timeout" if late else "")
    metrics = fake.judge()["metrics"]
    assert (metrics["request_median_s"], metrics["request_p99_s"], metrics["request_max_s"]) == (1, None, None)
    assert metrics["given_up"] == 3


# --- a folder from somebody else ----------------------------------------------------------------------


def spoil_plan(fake: NoAccept, spoil: Callable[[dict[str, Any]], None]) -> None:
    """Change what is in the plan of a run."""
    fake.write()
    fake.write_plan("proxy1")
    plan = json.loads(fake.run.plan.read_text())
    spoil(plan)
    fake.run.plan.write_text(json.dumps(plan))


@pytest.mark.parametrize(
    ("from_", "sentence"),
    [
        (
            "params; COPY params TO '{}' --",
            "is to be one SELECT, and it is more: .*COPY params.*Nothing of it was executed",
        ),
        ("read_csv('{}', names = ['a'])", "asks for more: Permission Error: .*Do not trust"),
    ],
)
def test_a_folder_that_wants_more_than_its_tables_is_not_judged(
    fake: NoAccept, tmp_path: Path, from_: str, sentence: str
) -> None:
    file = tmp_path / "outside.csv"

    def ask_for_more(plan: dict[str, Any]) -> None:
        plan["case"]["expect"][0]["from"] = from_.format(file)

    spoil_plan(fake, ask_for_more)
    with pytest.raises(RunError, match=sentence):
        judge_run(fake.run)
    assert not file.exists()
    assert not fake.run.record.exists()


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", ".", "", "load", "a/b", "a\x00b"])
def test_the_name_of_a_host_leads_nowhere_else(fake: NoAccept, name: str) -> None:
    spoil_plan(fake, lambda plan: plan["hosts"].update(proxies=[name]))
    before = sorted(fake.run.path.parent.rglob("*"))
    with pytest.raises(RunError, match="is no name for a folder"):
        judge_run(fake.run)
    assert sorted(fake.run.path.parent.rglob("*")) == before


def test_the_folder_of_a_host_is_no_link(fake: NoAccept, tmp_path: Path) -> None:
    fake.write()
    fake.write_plan("proxy1")
    fake.run.host("proxy1").path.rename(tmp_path / "outside")
    (fake.run.path / "proxy1").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match=r"is a link to .*: what is judged is written there"):
        judge_run(fake.run)
