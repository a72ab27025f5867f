"""A lab with runs that are made up: what is checked beforehand, how it goes on, and the verdict on all points."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from floodmark.errors import FloodmarkError, LabError, RunError
from floodmark.inputs.inventory import Inventory
from floodmark.inputs.labs import LabRun, find_lab
from floodmark.model.metrics import Metrics
from floodmark.model.stored import save
from floodmark.model.verdict import Prediction, Verdict
from floodmark.report.lab import write_lab_report
from floodmark.runner import lab as lab_runner
from floodmark.runner.lab import begin_lab, go_on_with, judge_lab, run_points
from floodmark.runs.folders import LabFolder, RunFolder, is_lab_folder
from floodmark.runs.lock import only_process
from floodmark.runs.verdicts import read_verdict
from floodmark.show import lab as lab_show
from floodmark.show.lab import print_lab
from floodmark.study.sentences import Sentence
from floodmark.verdict.rules import RESULTS_READABLE
from tests.conftest import ROOT
from tests.floodmark.made_up_runs import record_of

GROUPS = {"proxies": ["proxy1"], "load_generators": ["localhost"], "testbed": ["proxy1"]}
NAME = "active-over-somaxconn"

# A sentence of the study that the points of a lab are asked about.
ABOVE = Sentence.model_validate(
    {
        "id": "it", "section": "Lab", "quote": "It is above.", "why": "So it is.", "source": "nginx",
        "questions": [
            {"runs": [f"lab {NAME}"], "points": True, "from": "points", "holds": "value > 0",
             "value": "max(active_while_hanging_conns - somaxconn) FILTER (transport = 'tcp')"},
        ],
    }
)  # fmt: skip


def expectation(*, holds: bool) -> Prediction:
    return Prediction(name="x", value=1, holds=holds, condition="value = 1")


class FakePlay:
    """Makes a run of a moment, as ansible-runner would in half a minute."""

    made: list[dict[str, Any]] = []  # noqa: RUF012 - the tests look at it
    results = Path()
    fail_at = 0

    def __init__(self, on_plan: Any, *_: object) -> None:
        self._on_plan = on_plan
        self.why = "host proxy1: the pump is broken"

    def make(
        self, _project: Path, _inventory: Path, _limit: Sequence[str], extra: Mapping[str, Any], *_: object
    ) -> RunFolder | None:
        number = len(self.made) + 1
        run = RunFolder(self.results / f"20260101T00000{number}Z-case2-unix-{NAME}")
        run.host("proxy1").path.mkdir(parents=True)
        self._on_plan(run)
        self.made.append(dict(extra))
        if number == self.fail_at:
            return None
        lab = find_lab(extra["lab"])
        (point,) = lab.points(extra)
        tcp = point.varied["transport"] == "tcp"
        figures = {one.name: None for one in lab.file.figures}
        keepalive = str(point.varied.get("keepalive")) == "True"
        active = 32 if tcp or keepalive else 9
        figures |= {"active_while_hanging_conns": active, "refused_at_once": 0 if tcp else 23}  # type: ignore[dict-item]
        params = {"users": 32, "somaxconn": 8, "transport": point.varied["transport"], "keepalive": keepalive}
        record = record_of(run, case=2, parameters=params)
        verdict = Verdict(
            run_id=run.run_id,
            host="proxy1",
            kernel="6.1.0",
            checks=[],
            params=record.parameters,
            expectations=[expectation(holds=True)],
            metrics=Metrics(queue_limit=8),
            figures=figures,
        )
        save(run.host("proxy1").verdict, verdict)
        save(run.record, record)
        return run


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lab_runner, "RESULTS", tmp_path)
    monkeypatch.setattr(lab_runner, "Play", FakePlay)
    monkeypatch.setattr(lab_runner, "list_inventory", lambda _: Inventory(GROUPS, {}, {}, []))
    monkeypatch.setattr(lab_runner, "asked_of_points", lambda _: [(ABOVE, ABOVE.questions[0])])
    monkeypatch.setattr(FakePlay, "made", [])
    monkeypatch.setattr(FakePlay, "results", tmp_path)
    monkeypatch.setattr(FakePlay, "fail_at", 0)
    return tmp_path


def begin(results: Path, name: str = NAME, **extra: Any) -> LabFolder:
    return begin_lab(name, ROOT / "inventory/testbed.yml", extra, results)


def change_verdict(folder: LabFolder, point: int, **parts: Any) -> None:
    """Let the run of a point have another verdict."""
    host = folder.run(str(folder.read().points[point].run_id)).host("proxy1")
    save(host.verdict, read_verdict(host).model_copy(update=parts))


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_lab_makes_its_points_and_judges_them_together(results: Path) -> None:
    folder = begin(results, guard_margin_s="90")
    run_points(quiet(), folder)
    record = judge_lab(folder)
    assert FakePlay.made == [
        {"guard_margin_s": "90", "lab": NAME, "point": "transport=unix"},
        {"guard_margin_s": "90", "lab": NAME, "point": "transport=tcp"},
        {"guard_margin_s": "90", "lab": NAME, "point": "transport=unix, keepalive=true, start_spread_ms=0"},
    ]
    assert (record.valid, record.passed) == (True, True)
    (host,) = record.overall or []
    assert [(one.name, one.verdict, one.value) for one in host.claims] == [("it", "confirmed", 24)]
    assert [row.point for row in record.table or []][:2] == ["transport=unix", "transport=tcp"]
    screen = io.StringIO()
    print_lab(Console(file=screen, width=150), folder)
    assert "3 of 3 points are valid" in screen.getvalue()
    assert "confirmed" in screen.getvalue()


def test_each_run_that_ends_says_how_long_the_others_take(results: Path) -> None:
    folder, screen = begin(results), io.StringIO()
    run_points(Console(file=screen, width=150), folder)
    lines = screen.getvalue().splitlines()
    left = [re.search(r"about (\d+) s left$", line) for line in lines]
    assert [bool(one) for one in left] == [True, True, False], "after the last there is nothing left"
    assert left[0]
    assert left[1]
    assert 0 < int(left[1][1]) < int(left[0][1]), "and a run of a moment takes less than was thought"


def test_a_lab_is_made_by_one_process_at_a_time(results: Path) -> None:
    folder = begin(results)
    with (
        only_process(folder.path, "the other one", LabError),
        pytest.raises(
            LabError, match=f"lab {folder.path.name} is being run by another process .pid {os.getpid()} since"
        ),
    ):
        run_points(quiet(), folder)
    assert FakePlay.made == []


def test_a_lab_goes_on_where_it_was_ended(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePlay, "fail_at", 2)
    folder = begin(results)
    with pytest.raises(FloodmarkError) as error:
        run_points(quiet(), folder)
    assert "the point 'transport=tcp' ended without a verdict: host proxy1: the pump is broken" in str(error.value)
    assert f"go on with: floodmark lab {folder.path.name}" in str(error.value)
    with pytest.raises(RunError, match=r"the point 'transport=tcp' of .* has no run yet"):
        judge_lab(folder)
    run_points(quiet(), folder)
    made = [one["point"].removeprefix("transport=")[:4] for one in FakePlay.made]
    assert made == ["unix", "tcp", "tcp", "unix"]
    assert judge_lab(folder).passed
    run_points(quiet(), folder)
    assert len(FakePlay.made) == 4, "nothing is left to do"


def test_a_point_that_failed_has_no_figures_and_the_others_are_shown(results: Path) -> None:
    folder = begin(results)
    run_points(quiet(), folder)
    broken = RESULTS_READABLE.check(False, ok=False, why="nothing was fetched")
    change_verdict(folder, 1, checks=[broken], expectations=[], metrics=None, figures={}, kernel=None)
    record = judge_lab(folder)
    assert (record.valid, record.passed) == (False, False)
    screen = io.StringIO()
    print_lab(Console(file=screen, width=150), folder)
    assert "invalid" in screen.getvalue()
    assert "2 of 3 points are valid" in screen.getvalue()


def test_a_valid_point_counts_for_the_study_whether_the_model_explains_it_or_not(results: Path) -> None:
    folder = begin(results)
    run_points(quiet(), folder)
    change_verdict(folder, 1, expectations=[expectation(holds=False)])
    record = judge_lab(folder)
    assert (record.valid, record.passed) == (True, False)
    (host,) = record.overall or []
    assert [one.verdict for one in host.claims] == ["confirmed"]
    assert [one.value for one in host.expectations if one.name == "over_tcp_everybody_is_active"] == [0]


def test_points_stand_below_each_other_where_the_terminal_is_narrow(results: Path) -> None:
    folder = begin(results)
    run_points(quiet(), folder)
    judge_lab(folder)
    screen = io.StringIO()
    print_lab(Console(file=screen, width=44), folder)
    lines = [line.split() for line in screen.getvalue().splitlines()]
    assert [cells[1:] for cells in lines if cells[:1] == ["transport"]] == [["unix", "tcp"], ["unix"]]
    assert [cells[1:] for cells in lines if cells[:1] == ["active_while_hanging_conns"]] == [["9", "32"], ["32"]]


def test_the_runs_to_come_may_have_other_options_but_no_other_parameters(results: Path) -> None:
    folder = begin(results)
    go_on_with(folder.path.name, {"guard_margin_s": "240"}, results)
    run_points(quiet(), folder)
    assert {one["guard_margin_s"] for one in FakePlay.made} == {"240"}
    with pytest.raises(LabError, match=f"-e: users is fixed for {folder.path.name}, which has been begun"):
        go_on_with(folder.path.name, {"users": "9"}, results)
    with pytest.raises(RunError, match="there is no lab run '20260101T000000Z-lab-none'"):
        go_on_with("20260101T000000Z-lab-none", {}, results)


def test_a_lab_whose_file_has_changed_goes_on_only_if_what_is_left_is_still_there(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakePlay, "fail_at", 2)
    folder = begin(results)
    with pytest.raises(FloodmarkError, match="the pump is broken"):
        run_points(quiet(), folder)
    lab = find_lab(NAME)
    for vary, there in ({"transport": ["unix"]}, False), ({"transport": ["tcp"]}, True):
        changed = replace(lab, file=lab.file.model_copy(update={"vary": vary}))
        monkeypatch.setattr(lab_runner, "find_lab", lambda _, changed=changed: changed)
        if there:
            run_points(quiet(), folder)
        else:
            with pytest.raises(
                LabError, match=r"has changed since .* and its point 'transport=tcp' is no longer there"
            ):
                run_points(quiet(), folder)
    assert len(FakePlay.made) == 4


def test_a_lab_whose_file_sets_other_parameters_now_does_not_go_on(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begin(results)
    lab = find_lab(NAME)
    changed = replace(lab, file=lab.file.model_copy(update={"parameters": {"users": 33}}))
    monkeypatch.setattr(lab_runner, "find_lab", lambda _: changed)
    with pytest.raises(LabError, match=r"has changed since .*, and sets other parameters for all points"):
        run_points(quiet(), folder)


def test_one_point_can_be_made_alone(results: Path) -> None:
    folder = begin(results, point="transport=tcp")
    run_points(quiet(), folder)
    assert [one["point"] for one in FakePlay.made] == ["transport=tcp"]
    with pytest.raises(LabError, match="has no point 'transport=udp': did you mean 'transport=tcp'"):
        begin(results, point="transport=udp")


def test_points_of_several_cases_are_told_apart(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = find_lab(NAME)
    runs = [LabRun(name=f"case {case}", case=case, parameters={"transport": "unix"}) for case in (1, 2)]
    several = replace(lab, file=lab.file.model_copy(update={"vary": {}, "also": [], "runs": runs, "case": None}))
    monkeypatch.setattr(lab_runner, "find_lab", lambda _: several)
    monkeypatch.setitem(globals(), "find_lab", lambda _: several)
    folder = begin(results)
    run_points(quiet(), folder)
    record = judge_lab(folder)
    assert (record.case, [one.case for one in record.points]) == (None, [1, 2])
    assert [(row.point, row.case_number) for row in record.table or []] == [("case 1", 1), ("case 2", 2)]
    monkeypatch.setattr(lab_show, "find_lab", lambda _: several)
    screen = io.StringIO()
    print_lab(Console(file=screen, width=150), folder)
    lines = [line.split() for line in screen.getvalue().splitlines()]
    assert ["1", "✓", "case", "1"] in lines
    assert ["case", "1", "2"] in lines


def test_what_is_not_stated_without_a_point_is_not_asked(results: Path) -> None:
    folder = begin(results, transport="unix", keepalive="false")
    run_points(quiet(), folder)
    (host,) = judge_lab(folder).overall or []
    names = [one.name for one in host.expectations]
    assert "over_tcp_everybody_is_active" not in names
    assert "on_a_unix_socket_the_queue_alone_is_active" in names


@pytest.mark.parametrize(
    ("name", "extra", "sentence"),
    [
        ("single-requst", {}, "did you mean 'single-request'?"),
        (NAME, {"case": "3"}, f"case=3 is not that of lab {NAME}, which is 2"),
        (NAME, {"somaxcon": "8"}, "did you mean 'somaxconn'?"),
        (NAME, {"users": "0"}, "users=0 is not allowed"),
        ("memory-stability", {"users": "10000"}, "this flood would have 10,485.76 MB of bodies"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(results: Path, name: str, extra: Any, sentence: str) -> None:
    with pytest.raises(FloodmarkError) as error:
        begin(results, name, **extra)
    assert sentence in str(error.value)
    assert list(results.iterdir()) == []


def test_a_lab_is_not_begun_on_hosts_whose_clock_counts_instructions(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual = {"proxy1": {"testbed_clock": "virtual", "testbed_driver": "qemu"}}
    monkeypatch.setattr(lab_runner, "list_inventory", lambda _: Inventory(GROUPS, {}, virtual, []))
    with pytest.raises(LabError, match=f"lab={NAME} is measured in the host's time"):
        begin(results)
    assert list(results.iterdir()) == []


def test_an_execution_is_told_from_a_lab_by_its_name() -> None:
    assert is_lab_folder(f"results/20260101T000000Z-lab-{NAME}")
    assert not is_lab_folder(NAME)
    assert not is_lab_folder(f"20260101T000000Z-case2-unix-{NAME}")


def test_secrets_reach_the_runs_and_no_file(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Inventory(GROUPS, {"floodmark_secrets": ["sudo_word"]}, {}, [])
    monkeypatch.setattr(lab_runner, "list_inventory", lambda _: listed)
    secrets = {"ansible_become_password": "s3cret", "sudo_word": "hush"}
    folder = begin(results, users="9", **secrets)
    run_points(quiet(), folder, given={"users": "9", **secrets})
    assert all(secrets.items() <= made.items() for made in FakePlay.made)
    judge_lab(folder)
    write_lab_report(folder.path)
    text = "".join(path.read_text() for path in results.rglob("*") if path.is_file())
    assert "ansible_become_password" in text
    assert not any(secret in text for secret in secrets.values())


def test_a_lab_goes_on_with_its_secrets_given_again(results: Path) -> None:
    folder = begin(results, ansible_become_password="s3cret")
    with pytest.raises(LabError, match="was begun with -e ansible_become_password, which is not written down: give it"):
        go_on_with(folder.path.name, {}, results)
    given = {"ansible_become_password": "s3cret"}
    run_points(quiet(), go_on_with(folder.path.name, given, results), given=given)
    assert {made["ansible_become_password"] for made in FakePlay.made} == {"s3cret"}
    assert go_on_with(folder.path.name, {}, results) == folder, "nothing is left to do that needs it"


def test_labs_of_before_lose_what_they_have_of_ansibles_own_variables(results: Path) -> None:
    folder = begin(results, users="9")
    content = json.loads(folder.file.read_text())
    content["given"]["ansible_become_password"] = "s3cret"
    del content["secrets"]
    folder.file.write_text(json.dumps(content))
    assert folder.read().given == {"users": "9"}


@pytest.mark.parametrize("name", ["../elsewhere", "/elsewhere", "..", ""])
def test_the_runs_of_a_lab_from_somebody_else_lie_beside_it(results: Path, name: str) -> None:
    folder = begin(results)
    record = folder.read()
    points = [one.model_copy(update={"run_id": name}) for one in record.points]
    save(folder.file, record.model_copy(update={"points": points}))
    with pytest.raises(RunError, match="is no name for a folder of results"):
        judge_lab(folder, again=True)
