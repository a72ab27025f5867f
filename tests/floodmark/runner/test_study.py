"""The study as its author ran it, with runs that are made up: where it goes on, and when another one is begun."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from floodmark.errors import FloodmarkError, LabError, RunError
from floodmark.inputs.inventory import Inventory
from floodmark.inputs.labs import find_lab
from floodmark.model.stored import save
from floodmark.runner import lab as lab_runner
from floodmark.runner.study import begin_or_go_on, command_of, go_on_with_study
from floodmark.runs.folders import LabFolder
from tests.conftest import ROOT

GROUPS = {"proxies": ["proxy1"], "load_generators": ["localhost"], "testbed": ["proxy1"]}


@pytest.fixture(autouse=True)
def inventories(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let inventories have the variables that a test gives to them."""
    variables: dict[str, Any] = {}
    monkeypatch.setattr(
        lab_runner, "list_inventory", lambda path: Inventory(GROUPS, variables.get(path.name, {}), {}, [])
    )
    return variables


def study(results: Path, inventory: str = "testbed", *, new: bool = False, **extra: Any) -> LabFolder:
    return begin_or_go_on(ROOT / f"inventory/{inventory}.yml", extra, new=new, results=results)


def make_one_run(folder: LabFolder) -> None:
    """Let the first point have a run."""
    record = folder.read()
    first = record.points[0].model_copy(update={"run_id": "20260101T000000Z-case1-unix"})
    save(folder.file, record.model_copy(update={"points": [first, *record.points[1:]]}))
    run = folder.run("20260101T000000Z-case1-unix")
    run.path.mkdir()
    run.record.touch()


def finish(folder: LabFolder) -> None:
    save(folder.file, folder.read().model_copy(update={"table": [], "overall": []}))


def test_it_goes_on_where_it_was_ended_and_begins_another_one_when_it_has_come_to_its_end(tmp_path: Path) -> None:
    first = study(tmp_path)
    assert study(tmp_path) == first
    finish(first)
    second = study(tmp_path)
    assert second != first
    assert study(tmp_path) == second
    assert study(tmp_path, new=True) not in (first, second)


def test_an_older_one_that_was_left_does_not_go_on(tmp_path: Path) -> None:
    study(tmp_path)
    newer = study(tmp_path, new=True)
    finish(newer)
    assert study(tmp_path).path.name > newer.path.name


@pytest.mark.parametrize(
    ("begun", "then", "was"),
    [
        ({}, {"users": "9"}, "with nothing given by -e"),
        ({"users": "9"}, {}, "with -e users=9"),
        ({"users": "9"}, {"users": "8"}, "with -e users=9"),
        ({}, {"point": "case 2"}, "with nothing given by -e"),
    ],
)
def test_one_with_other_settings_is_begun_only_if_somebody_says_so(
    tmp_path: Path, begun: Any, then: Any, was: str
) -> None:
    first = study(tmp_path, **begun)
    make_one_run(first)
    before = first.file.read_text()
    with pytest.raises(LabError) as error:
        study(tmp_path, **then)
    sentence = str(error.value)
    of = len(first.read().points)
    assert f"{first.path.name} was ended after 1 of {of} points, {was}: go on with it by `floodmark study" in sentence
    assert "or begin another one by `floodmark study --new" in sentence
    assert (first.file.read_text(), len(list(tmp_path.glob("*-lab-*")))) == (before, 1), "nothing was written"
    assert study(tmp_path, **begun) == first
    assert study(tmp_path, new=True, **then) != first


def test_one_of_which_nothing_was_made_gives_way_to_other_settings(tmp_path: Path) -> None:
    first = study(tmp_path)
    assert study(tmp_path, users="9") != first


def test_another_inventory_or_an_inventory_with_other_parameters_is_other_settings(
    tmp_path: Path, inventories: dict[str, Any]
) -> None:
    make_one_run(study(tmp_path, "kernels"))
    with pytest.raises(
        LabError, match=r"with the inventory inventory/kernels.yml: go on with it by .*-i inventory/kern"
    ):
        study(tmp_path)
    inventories["kernels.yml"] = {"floodmark_parameters": {"accept_queue_hz": 77}}
    with pytest.raises(
        LabError, match="with other parameters of its inventory: give that back to it to go on, or begin"
    ):
        study(tmp_path, "kernels")


def test_one_of_another_version_of_its_file_goes_on_only_with_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_one_run(study(tmp_path))
    lab = find_lab("study")
    changed = replace(lab, file=lab.file.model_copy(update={"runs": lab.file.runs[1:]}))
    monkeypatch.setattr(lab_runner, "find_lab", lambda _: changed)
    with pytest.raises(
        LabError, match=r"with another labs/study.yml: take that back to go on, or begin another one by"
    ):
        study(tmp_path)


def test_an_execution_that_is_named_is_one_of_the_study(tmp_path: Path) -> None:
    mine = study(tmp_path)
    assert go_on_with_study(mine.path.name, {}, tmp_path) == mine
    other = lab_runner.begin_lab("single-request", ROOT / "inventory/testbed.yml", {}, tmp_path)
    with pytest.raises(LabError, match=r"is an execution of lab single-request: `floodmark lab .*` goes on with it"):
        go_on_with_study(other.path.name, {}, tmp_path)
    with pytest.raises(RunError, match="there is no lab run 'nonsense'"):
        go_on_with_study("nonsense", {}, tmp_path)


def test_how_a_run_goes_may_be_given_otherwise(tmp_path: Path) -> None:
    first = study(tmp_path)
    assert study(tmp_path, guard_margin_s="240") == first
    assert first.read().given == {"guard_margin_s": "240"}


def test_the_command_that_goes_on_says_all_that_was_given(tmp_path: Path) -> None:
    record = study(tmp_path, "kernels", users="9", point="case 2").read()
    assert command_of(record) == "floodmark study -i inventory/kernels.yml -e users=9 -e 'point=case 2'"


def test_one_that_is_damaged_is_left_as_it_is_and_named(tmp_path: Path) -> None:
    first = study(tmp_path)
    first.file.write_text(json.dumps({"lab": "study"}))
    with pytest.raises(RunError, match=r"damaged: it has no \w+.*`floodmark study --new` begins another one"):
        study(tmp_path)
    assert study(tmp_path, new=True) != first


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"order": "nginx,upstream"}, "order=nginx,upstream is not allowed"),
        ({"nginx_listen_backlog": "0"}, "nginx_listen_backlog=0 is not allowed: it must be 1 to 65535"),
        ({"nginx_listen_backlog": "-1"}, "nginx_listen_backlog=-1 is not allowed"),
        ({"nginx_listen_backlog": "1000000000"}, "nginx_listen_backlog=1000000000 is not allowed"),
        ({"somaxcon": "8"}, "did you mean 'somaxconn'?"),
        ({"case": "2"}, "case=2 is not that of lab study, whose points have cases of their own"),
        ({"point": "case 9"}, "lab study has no point 'case 9': did you mean 'case "),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(tmp_path: Path, extra: Any, sentence: str) -> None:
    with pytest.raises(FloodmarkError) as error:
        study(tmp_path, **extra)
    assert sentence in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_inventory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"-i: inventory .*kernel.yml does not exist"):
        study(tmp_path, "kernel")
