from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from floodmark.errors import CaseError, FloodmarkError
from floodmark.inputs.cases import CASES, find_case, load_cases
from floodmark.verdict.views import check_sql
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the cases that a test may spoil."""
    shutil.copytree(CASES, tmp_path / "cases")
    return tmp_path / "cases"


def spoil(folder: Path, old: str, new: str) -> None:
    path = folder / "2-no-accept.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_numbers_of_the_cases_are_permanent() -> None:
    names = {number: case.name for number, case in load_cases().items()}
    assert names == {
        1: "always-200", 2: "no-accept", 3: "no-read", 4: "no-write", 5: "no-close",
        6: "slow-accept", 7: "close-at-once", 8: "reset", 9: "half-answer", 10: "short-queue",
        11: "pool-of-two", 12: "accept-pause",
    }  # fmt: skip


@pytest.mark.parametrize("number", load_cases())
def test_the_sql_of_every_case_works_on_empty_tables(number: int) -> None:
    check_sql(load_cases()[number])


@pytest.mark.parametrize("number", load_cases())
def test_a_case_has_a_fault_and_expectations_with_names_of_their_own(number: int) -> None:
    case = load_cases()[number]
    names = [one.name for one in (*case.fault, *case.expect)]
    assert case.fault
    assert len(names) == len(set(names))


def test_what_tells_the_cases_apart_are_the_calls_of_the_upstream() -> None:
    behaviours = {number: tuple(case.upstream.model_dump().values()) for number, case in load_cases().items()}
    assert behaviours == {
        1: (True, True, True, True),
        2: (False, False, False, False),
        3: (True, False, False, False),
        4: (True, True, False, False),
        5: (True, True, True, False),
        6: ("slowly", True, True, True),
        7: (True, False, False, True),
        8: (True, False, False, "reset"),
        9: (True, True, "half", False),
        10: (True, True, True, True),
        11: (False, False, False, False),
        12: ("with_a_pause", True, True, True),
    }
    assert [number for number, case in load_cases().items() if case.others] == [11]


def test_the_schema_on_disk_is_valid_json_schema_of_the_case_files() -> None:
    schema = json.loads((ROOT / "cases/schema.json").read_text())
    assert schema["properties"]["parameters"]["properties"]["users"]["maximum"] == 10000


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("number: 2", "number: two", "number = 'two' is not allowed"),
        ("number: 2", "number: 7", "the file must be called 7-no-accept.yml"),
        ("title:", "titel:", "unknown key 'titel': did you mean 'title'?"),
        ("accept: false", "accepts: false", "unknown key 'upstream.accepts': did you mean 'accept'?"),
        ("    holds: value = 0", "    hold: value = 0", "did you mean 'holds'?"),
        ("title:", "parameters: {users: 0}\ntitle:", "users=0 is not allowed"),
        ("title:", "parameters: {users: [8]}\ntitle:", "parameters.users = [8] is not allowed: A parameter is"),
        ("title:", "parameters: {user: 9}\ntitle:", "there is no parameter 'user': did you mean 'users'?"),
        ("number: 2", "number: [", "this is not YAML"),
    ],
)
def test_a_case_file_that_is_wrong_says_where_and_how(folder: Path, old: str, new: str, sentence: str) -> None:
    spoil(folder, old, new)
    with pytest.raises(FloodmarkError) as error:
        load_cases(folder)
    assert sentence in str(error.value)
    assert "2-no-accept.yml" in str(error.value)


@pytest.mark.parametrize("sql", ["max(depth_conns", "max(no_such_column)", "nothing(depth_conns)", "depth_conns, 1"])
def test_sql_that_does_not_work_is_found_before_a_host_is_touched(folder: Path, sql: str) -> None:
    spoil(folder, "value: max(accepted_conns)", f"value: {sql}")
    with pytest.raises(CaseError, match="'nothing_was_accepted': this SQL does not work"):
        check_sql(load_cases(folder)[2])


@pytest.mark.parametrize("selector", ["99", "abc", "-1", "1.5", "1; rm"])
def test_a_case_that_does_not_exist_is_named_with_those_that_do(selector: str) -> None:
    with pytest.raises(CaseError, match=r"there is no case '.*': allowed are 1, 2, 3"):
        find_case(selector, load_cases())


@pytest.mark.parametrize("selector", [None, "", " "])
def test_no_case_says_how_to_give_one(selector: str | None) -> None:
    with pytest.raises(CaseError, match="no case was given: allowed are 1, 2, 3"):
        find_case(selector, load_cases())


@pytest.mark.parametrize("selector", [3, "3", " 3 "])
def test_a_case_is_found_by_its_number(selector: object) -> None:
    assert find_case(selector, load_cases()).name == "no-read"
