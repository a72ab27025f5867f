from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from floodmark.errors import FloodmarkError
from floodmark.inputs.suites import SUITES, Suite, read_suite, resolve_suite
from floodmark.runner.suite import needs_boot
from tests.conftest import ROOT

GROUPS = {"proxies": ["old", "new"], "load_generators": ["localhost"], "testbed": ["old", "new"]}
SUITE = {
    "title": "Is it so?",
    "cases": [1, 2, 3],
    "vary": {"transport": ["unix", "tcp"], "somaxconn": [8, 16]},
    "parameters": {"users": 16},
    "repetitions": 4,
    "boot": "block",
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "mine.yml"
    content = {key: value for key, value in {**SUITE, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def resolve(groups: dict[str, list[str]] = GROUPS, **changes: Any) -> Suite:
        return resolve_suite(write(tmp_path, **changes), groups, {"floodmark_parameters": {"accept_queue_hz": 100}})

    return resolve


# --- the matrix -----------------------------------------------------------------------------------


def test_a_suite_is_cases_times_parameters_times_repetitions(make: Any) -> None:
    suite = make()
    assert len(suite.combinations) == 3 * 2 * 2
    assert len(list(suite.runs())) == 3 * 2 * 2 * 4


def test_a_combination_has_what_the_file_and_the_inventory_set(make: Any) -> None:
    one = next(one for one in make().combinations if one.name == "case2-transport=tcp-somaxconn=16")
    chosen = (one.case.number, one.parameters.transport, one.parameters.somaxconn, one.parameters.users)
    assert (*chosen, one.parameters.accept_queue_hz) == (2, "tcp", 16, 16, 100)


def test_every_block_has_every_combination_once(make: Any) -> None:
    suite = make()
    names = sorted(one.name for one in suite.combinations)
    for block in range(1, 5):
        assert sorted(run.combination.name for run in suite.runs() if run.block == block) == names


def test_of_two_consecutive_blocks_a_combination_is_once_in_each_half_and_once_in_each_order_of_hosts(
    make: Any,
) -> None:
    pairs = Counter(
        ((run.block - 1) // 2, run.combination.name, what)
        for run in make().runs()
        for what in (run.half, run.host_order)
    )
    assert set(pairs.values()) == {1}
    assert {what for _, _, what in pairs} == {"a1", "a2", "inventory", "reverse_inventory"}


def test_of_ten_seeds_in_one_block_each_half_has_five(make: Any) -> None:
    suite = make(cases=[1, 2], vary={"virtual_seed": list(range(1, 11))}, repetitions=1)
    halves = Counter((run.combination.case.number, run.half) for run in suite.runs())
    assert halves == {(1, "a1"): 5, (1, "a2"): 5, (2, "a1"): 5, (2, "a2"): 5}


def test_half_and_order_of_hosts_are_drawn_apart(make: Any) -> None:
    together = Counter((run.half, run.host_order) for run in make().runs())
    assert len(together) == 4


def test_the_same_seed_gives_the_same_order_and_another_seed_another(make: Any) -> None:
    order = [run.name for run in make().runs()]
    assert order == [run.name for run in make().runs()]
    assert order != [run.name for run in make(seed=2).runs()]


def test_blocks_differ_in_their_order(make: Any) -> None:
    orders = [tuple(run.combination.name for run in make().runs() if run.block == block) for block in (1, 2, 3)]
    assert len(set(orders)) == 3


def test_more_repetitions_continue_the_same_suite(make: Any) -> None:
    short, long = make(), make(repetitions=6)
    assert short.digest == long.digest
    assert list(long.runs())[: len(list(short.runs()))] == list(short.runs())


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"boot": "once"}, {"cases": [1]}, {"parameters": {"users": 17}}, {"hosts": ["old"]}]
)
def test_whatever_changes_a_run_makes_it_another_suite(make: Any, change: dict[str, Any]) -> None:
    assert make(**change).digest != make().digest


@pytest.mark.parametrize(
    ("boot", "booted"),
    [("once", []), ("block", [1, 2, 3]), ("run", [1] * 12 + [2] * 12 + [3] * 12)],
)
def test_hosts_boot_for_each_block_or_for_each_run(make: Any, boot: str, booted: list[int]) -> None:
    suite = make(boot=boot, repetitions=3)
    runs = list(suite.runs())
    before = [None, *runs]
    assert len(runs) == 36
    assert [run.block for run, last in zip(runs, before, strict=False) if needs_boot(suite, run, last)] == booted


def test_a_suite_that_goes_on_within_a_block_boots_anew(make: Any) -> None:
    suite = make(boot="block")
    assert needs_boot(suite, list(suite.runs())[1], None)


# --- what is wrong is said ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"repetitions": 0}, "repetitions = 0 is not allowed: Input should be greater than or equal to 1"),
        ({"repetitions": None}, "the key 'repetitions' is missing"),
        ({"repetition": 3}, "unknown key 'repetition': did you mean 'repetitions'?"),
        ({"boot": "often"}, "boot = 'often' is not allowed: Input should be 'once', 'block' or 'run'"),
        ({"cases": []}, "cases = [] is not allowed"),
        ({"cases": [1, 2, 1]}, "cases has 1 twice"),
        ({"cases": [1, 99]}, "cases: there is no case '99': allowed are 1, 2, 3"),
        ({"vary": {"transprot": ["tcp"]}}, "vary: there is no parameter 'transprot': did you mean 'transport'?"),
        ({"vary": {"users": [8, 16]}}, "users is fixed by parameters (16) and varied (8, 16)"),
        ({"vary": {"somaxconn": []}}, "vary.somaxconn has no value"),
        ({"vary": {"somaxconn": [8, 8]}}, "vary.somaxconn has 8 twice"),
        ({"vary": {"trace": [True, "true"]}}, "vary.trace has true twice"),
        ({"vary": {"somaxconn": [8, 8.0]}}, "{'somaxconn': 8.0} is the same as {'somaxconn': 8}: name each value once"),
        ({"vary": {"somaxconn": [8, None]}}, "vary.somaxconn.1 = None is not allowed: A parameter is one number"),
        ({"vary": {"somaxconn": [8, -1]}}, "somaxconn=-1 is not allowed: it must be 0 to 65535 conns"),
        ({"parameters": {"user": 16}}, "there is no parameter 'user': did you mean 'users'?"),
        (
            {"hosts": ["old", "nwe"]},
            "host 'nwe' is not in the group proxies of inventory/testbed.yml: did you mean 'new'?",
        ),
        ({"hosts": ["old", "old"]}, "hosts has old twice"),
    ],
)
def test_a_suite_that_is_wrong_says_where_and_how(make: Any, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FloodmarkError) as error:
        make(**changes)
    assert sentence in str(error.value)
    assert "mine.yml" in str(error.value)


def test_hosts_that_are_not_of_the_testbed_are_not_rebooted(make: Any) -> None:
    with pytest.raises(FloodmarkError, match=r"new of inventory/testbed\.yml is not in the group testbed"):
        make({**GROUPS, "testbed": ["old"]})
    assert make({**GROUPS, "testbed": ["old"]}, boot="once").hosts == ("old", "new")


def test_an_inventory_without_hosts_is_named(make: Any) -> None:
    with pytest.raises(
        FloodmarkError, match=r"mine\.yml: inventory = 'inventory/testbed\.yml': .* no host in the group"
    ):
        make({**GROUPS, "proxies": []})


@pytest.mark.parametrize(("text", "sentence"), [("a: [", "this is not YAML"), ("- 1", "a suite file is a mapping")])
def test_what_is_no_suite_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(FloodmarkError, match=sentence):
        read_suite(path)


def test_a_suite_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(FloodmarkError, match=r"did you mean 'suites/kernels\.yml'\? There are suites/kernels\.yml"):
        read_suite(Path("suites/kernel.yml"))


# --- the suites that are here ---------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yml")), ids=lambda path: path.name)
def test_a_suite_that_is_here_can_be_read(path: Path) -> None:
    assert read_suite(path).title.endswith("?")


def test_the_question_of_the_study_has_boots_enough() -> None:
    file = read_suite(SUITES / "kernels.yml")
    assert (file.cases, file.vary, file.hosts) == (
        [1, 2, 3, 4, 5],
        {"transport": ["unix", "tcp"]},
        ["linux61", "linux612"],
    )
    assert file.boot == "block"
    assert file.repetitions // 2 >= 5, "with five in each half the least possible p of an exact test is below 0.01"


def test_the_schema_on_disk_knows_the_parameters() -> None:
    schema = json.loads((ROOT / "suites/schema.json").read_text())
    assert schema["properties"]["parameters"]["properties"]["users"]["maximum"] == 10000
    assert schema["properties"]["vary"]["properties"]["transport"]["items"]["enum"] == ["unix", "tcp"]
