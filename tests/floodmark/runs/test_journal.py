from __future__ import annotations

import json
from pathlib import Path

import pytest

from floodmark.errors import SuiteError
from floodmark.inputs.suites import Suite, SuiteRun, resolve_suite
from floodmark.model.stored import save
from floodmark.runs.folders import RunFolder, new_run
from floodmark.runs.journal import Journal, open_journal, read_journal
from tests.floodmark.made_up_runs import record_of

GROUPS = {"proxies": ["proxy1"], "load_generators": ["localhost"], "testbed": ["proxy1"]}

SUITE = """
title: Is it so?
cases: [1]
vary: {transport: [unix, tcp]}
repetitions: 2
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return suite_with(tmp_path, seed=1)


def suite_with(folder: Path, seed: int) -> Suite:
    path = folder / "mine.yml"
    path.write_text(f"{SUITE}\nseed: {seed}\n")
    return resolve_suite(path, GROUPS, {})


def complete(folder: RunFolder, *, valid: bool = True, passed: bool = True) -> RunFolder:
    save(folder.record, record_of(folder, valid=valid, passed=passed))
    return folder


def made(journal: Journal, run: SuiteRun, results: Path) -> RunFolder:
    folder = new_run(1, "unix", results)
    journal.begin(run, folder)
    journal.finish(run, complete(folder), 12.3)
    return folder


def test_what_was_finished_is_known_again(suite: Suite, tmp_path: Path) -> None:
    first, second, *_ = suite.runs()
    with open_journal(suite, tmp_path) as journal:
        folder = made(journal, first, tmp_path)
        journal.begin(second, new_run(1, "unix", tmp_path))
    again = read_journal(suite, tmp_path)
    assert {name: (one.run, one.passed, one.took_s) for name, one in again.finished.items()} == {
        first.name: (folder, True, 12.3)
    }


def test_a_run_that_was_complete_when_the_process_was_killed_is_not_lost(suite: Suite, tmp_path: Path) -> None:
    run = next(suite.runs())
    with open_journal(suite, tmp_path) as journal:
        journal.begin(run, complete(new_run(1, "unix", tmp_path), passed=False))
    done = read_journal(suite, tmp_path).finished[run.name]
    assert (done.valid, done.passed, done.took_s) == (True, False, None)


def test_a_run_whose_folder_was_removed_is_not_finished(suite: Suite, tmp_path: Path) -> None:
    run = next(suite.runs())
    with open_journal(suite, tmp_path) as journal:
        made(journal, run, tmp_path).record.unlink()
    assert read_journal(suite, tmp_path).finished == {}


def test_a_line_that_was_cut_off_is_taken_away(suite: Suite, tmp_path: Path) -> None:
    first, second, *_ = suite.runs()
    with open_journal(suite, tmp_path) as journal:
        made(journal, first, tmp_path)
    with journal.path.open("a") as file:
        file.write('{"event": "finis')
    with open_journal(suite, tmp_path) as journal:
        made(journal, second, tmp_path)
    assert set(read_journal(suite, tmp_path).finished) == {first.name, second.name}


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_a_journal_that_was_cut_off_in_its_first_line_begins_anew(suite: Suite, tmp_path: Path, cut: int) -> None:
    with open_journal(suite, tmp_path) as journal:
        whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:cut])
    with open_journal(suite, tmp_path):
        assert json.loads(journal.path.read_text())["digest"] == suite.digest


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[1]",
        '{"event": "finished"}',
        '{"event": "began", "run": "x"}',
        "\0\0\0",
        '{"event": "finished", "run": "x", "run_id": "y", "took_s": "z"}',
        '{"event": [], "run": "x"}',
        '{"event": "began", "run": [], "run_id": "y"}',
        '{"event": "began", "run": "x", "run_id": 5}',
    ],
)
def test_a_damaged_line_is_said_with_its_number(suite: Suite, tmp_path: Path, line: str) -> None:
    with open_journal(suite, tmp_path) as journal:
        made(journal, next(suite.runs()), tmp_path)
    with journal.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(SuiteError, match=r"journal\.jsonl, line 4 is damaged: .* or move mine-.* away"):
        read_journal(suite, tmp_path)


def test_the_journal_of_another_suite_is_refused(suite: Suite, tmp_path: Path) -> None:
    other = suite_with(tmp_path, seed=2)
    with open_journal(suite, tmp_path) as mine, open_journal(other, tmp_path) as foreign:
        mine.path.replace(foreign.path)
    with pytest.raises(SuiteError, match=f"belongs to suite mine with digest {suite.digest}, and this is mine"):
        read_journal(other, tmp_path)


def test_the_suite_as_resolved_is_kept_beside_it(suite: Suite, tmp_path: Path) -> None:
    with open_journal(suite, tmp_path) as journal:
        kept = json.loads((journal.folder / "suite.json").read_text())
    assert kept["combinations"]["case1-transport=tcp"]["parameters"]["transport"] == "tcp"
    assert kept["repetitions"] == 2
