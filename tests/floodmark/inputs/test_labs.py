"""Lab files: what each of them must have, and what is said of one that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from floodmark.errors import FloodmarkError, LabError
from floodmark.inputs.cases import find_case, load_cases
from floodmark.inputs.labs import LABS, Lab, Point, create_points, find_lab, load_labs
from floodmark.verdict.judge import judge_expectations
from floodmark.verdict.views import check_sql
from tests.conftest import ROOT

LAB = {
    "question": "Is it so?",
    "case": 2,
    "parameters": {"users": 16},
    "vary": {"transport": ["unix", "tcp"], "somaxconn": [8, 16]},
    "also": [{"somaxconn": 32}],
    "figures": [{"name": "refused", "value": "count(*) FILTER (status = 502)", "from": "requests"}],
    "overall": {"expect": [{"name": "all", "value": "sum(refused)", "from": "points", "holds": "value = 5"}]},
}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "mine.yml").write_text(yaml.safe_dump({**LAB, **changes}, sort_keys=False))
    return folder


def make(folder: Path, **changes: Any) -> Lab:
    return find_lab("mine", write(folder, **changes))


def test_there_are_the_four_labs_of_the_study_and_what_it_ran_itself() -> None:
    four = ["active-over-somaxconn", "memory-stability", "single-request", "worker-connections"]
    assert sorted(load_labs()) == sorted([*four, "study"])


@pytest.mark.parametrize("name", load_labs())
def test_the_sql_of_every_lab_works_and_its_names_are_its_own(name: str) -> None:
    lab = load_labs()[name]
    for number in lab.cases:
        case = lab.extend(find_case(number, load_cases()))
        check_sql(case)
        names = [one.name for one in (*case.fault, *case.expect)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", load_labs())
def test_the_points_of_a_lab_differ(name: str) -> None:
    names = [point.name for point in load_labs()[name].points({})]
    assert len(names) == len(set(names)) > 1


def test_the_sweep_of_worker_connections_is_that_of_the_study_and_more() -> None:
    points = [tuple(point.varied.values()) for point in load_labs()["worker-connections"].points({})]
    assert points == [(slots, workers) for slots in (2, 4, 8, 16, 64, 512) for workers in (1, 2)]


def test_the_schema_on_disk_knows_parameters_in_all_places() -> None:
    properties = json.loads((LABS / "schema.json").read_text())["properties"]
    for place in (properties["parameters"], properties["vary"], properties["also"]["items"]):
        assert "somaxconn" in place["properties"]
        assert place["additionalProperties"] is False


def test_points_are_every_combination_and_those_named_besides(tmp_path: Path) -> None:
    assert [point.name for point in make(tmp_path).points({})] == [
        "transport=unix, somaxconn=8",
        "transport=unix, somaxconn=16",
        "transport=tcp, somaxconn=8",
        "transport=tcp, somaxconn=16",
        "somaxconn=32",
    ]


def test_what_is_given_is_the_same_in_all_points_and_none_is_made_twice(tmp_path: Path) -> None:
    points = make(tmp_path).points({"somaxconn": "64", "users": "9"})
    assert [point.varied for point in points] == [
        {"transport": "unix", "somaxconn": "64"},
        {"transport": "tcp", "somaxconn": "64"},
        {"somaxconn": "64"},
    ]


def test_a_lab_that_varies_nothing_is_one_run(tmp_path: Path) -> None:
    (point,) = make(tmp_path, vary={}, also=[]).points({})
    assert point.name == "as it is"


def test_it_adds_to_its_case_what_it_says_of_each_run(tmp_path: Path) -> None:
    case = find_case(2, load_cases())
    more = {"name": "more", "value": "count(*)", "from": "requests", "holds": "value > 0"}
    extended = make(tmp_path, expect=[more]).extend(case)
    assert [one.name for one in extended.expect][:-1] == [one.name for one in case.expect]
    assert extended.expect[-1].name == "more"
    assert [one.name for one in extended.figures] == ["refused"]


def test_what_is_said_of_all_points_is_asked_of_their_table(tmp_path: Path) -> None:
    lab = make(tmp_path)
    database = create_points(lab, [{"point": "a", "refused": 2}, {"point": "b", "refused": 3}, {"point": "c"}])
    (outcome,) = judge_expectations(database, lab.file.overall.expect, "unix")
    assert (outcome.value, outcome.holds) == (5, True)
    nothing = judge_expectations(create_points(lab, []), lab.file.overall.expect, "unix")
    assert not nothing[0].holds, "what could not be seen has not held"


NAMED = {"name": "his: as it was", "case": 3, "parameters": {"users": 9}}


def test_a_named_point_has_a_case_and_parameters_of_its_own(tmp_path: Path) -> None:
    named = make(tmp_path, vary={}, also=[], runs=[NAMED, {"name": "lab"}])
    assert named.points({}) == [Point("his: as it was", 3, {"users": 9}), Point("lab", 2, {})]
    assert (named.cases, named.axes) == ([3, 2], ["users"])
    assert named.points({"users": "5", "somaxconn": "4"})[0].varied == {"users": "5"}
    assert make(tmp_path, runs=[NAMED]).points({})[-1].name == "his: as it was", "beside those that are varied"


def test_a_lab_needs_no_case_if_its_points_have_one(tmp_path: Path) -> None:
    alone = make(tmp_path, case=None, vary={}, also=[], runs=[NAMED])
    assert alone.cases == [3]
    with pytest.raises(LabError, match=r"have cases of their own: name one with point=: 'his: as it was'\."):
        alone.point({})
    assert alone.point({"point": "his: as it was"}).case == 3


def test_one_point_is_selected_by_its_name(tmp_path: Path) -> None:
    lab = make(tmp_path)
    (point,) = lab.points({"point": "transport=tcp, somaxconn=8"})
    assert point.varied == {"transport": "tcp", "somaxconn": 8}
    assert lab.point({}) == Point("as it is", 2, {})
    with pytest.raises(LabError, match=r"lab mine has no point 'somaxconn=33': did you mean 'somaxconn=32'\? Allowed"):
        lab.points({"point": "somaxconn=33"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"case": 77}, "case: there is no case '77'"),
        ({"case": None}, "the point 'transport=unix, somaxconn=8' has no case"),
        ({"case": None, "vary": {}, "also": [], "runs": [{"name": "a"}]}, "the point 'a' has no case"),
        ({"runs": [NAMED, {**NAMED, "case": 1}]}, "two points are called 'his: as it was'"),
        ({"runs": [{**NAMED, "name": "somaxconn=32"}]}, "two points are called 'somaxconn=32'"),
        ({"runs": [{**NAMED, "case": 77}]}, "case: there is no case '77'"),
        ({"runs": [{**NAMED, "parameters": {"somaxcon": 8}}]}, "did you mean 'somaxconn'?"),
        ({"runs": [{**NAMED, "parameters": {"users": 0}}]}, "users=0 is not allowed"),
        ({"runs": [{**NAMED, "nme": 8}]}, "unknown key 'runs.0.nme': did you mean 'name'?"),
        ({"questoin": "?"}, "unknown key 'questoin': did you mean 'question'?"),
        ({"vary": {"somaxcon": [8]}}, "there is no parameter 'somaxcon': did you mean 'somaxconn'?"),
        ({"also": [{"somaxcon": 8}]}, "there is no parameter 'somaxcon': did you mean 'somaxconn'?"),
        ({"vary": {"users": [8]}}, "users is fixed by parameters and varied"),
        ({"vary": {"somaxconn": []}}, "vary.somaxconn has no value"),
        ({"vary": {"somaxconn": [8, -1]}}, "somaxconn=-1 is not allowed: it must be 0 to 65535 conns"),
        ({"figures": [{**LAB["figures"][0], "name": "sent"}]}, "figures has sent"),  # type: ignore[index]
        (
            {"overall": {"expect": [{"name": "x", "value": "max(refusd)", "from": "points", "holds": "true"}]}},
            "overall.expect, 'x': this SQL does not work",
        ),
    ],
)
def test_a_lab_file_that_is_wrong_says_where_and_how(tmp_path: Path, changes: Any, sentence: str) -> None:
    with pytest.raises(FloodmarkError) as error:
        make(tmp_path, **changes)
    assert sentence in str(error.value)
    assert "mine.yml" in str(error.value)


def test_a_parameter_may_be_called_like_a_word_of_sql() -> None:
    row = load_cases()[2].parameters.model_dump()
    points = create_points(load_labs()["single-request"], [row])
    assert points.execute('SELECT "order" FROM points').fetchall() == [("nginx,sysctl,upstream",)]


def test_a_lab_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(LabError, match=r"there is no lab 'single-requst': did you mean 'single-request'\? Allowed are"):
        find_lab("single-requst")
    for nothing in (None, "", " "):
        with pytest.raises(LabError, match="no lab was given: allowed are active-over-somaxconn, "):
            find_lab(nothing)


def test_every_lab_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in load_labs() if f"`{name}`" not in text] == []
