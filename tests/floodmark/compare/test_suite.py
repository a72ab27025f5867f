from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from floodmark.cli import main
from floodmark.compare.model import Question, Sameness, Verdict
from floodmark.compare.suite import (
    SuiteComparison,
    _group,
    compare_suite,
    print_suite_comparison,
    suite_to_json,
    suite_to_markdown,
)
from floodmark.errors import CompareError
from floodmark.inputs.suites import Suite, SuiteRun, resolve_suite
from floodmark.runs.folders import RunFolder
from floodmark.runs.journal import Finished, Journal
from tests.floodmark.made_up_runs import MadeUpRuns

GROUPS = {"proxies": ["old", "new"], "load_generators": ["localhost"], "testbed": ["old", "new"]}
KERNELS = {"old": "6.1.0", "new": "6.12.0"}
REPETITIONS = 8


class MadeUpSuite:
    """A suite of case 2 with two queue limits, all its runs finished: the new kernel is slower with one of them."""

    def __init__(self, folder: Path) -> None:
        self.made = MadeUpRuns(folder / "results")
        self.file = folder / "mine.yml"
        text = {"title": "Is it so?", "cases": [2], "vary": {"somaxconn": [8, 16]}, "repetitions": REPETITIONS}
        self.file.write_text(yaml.safe_dump(text))
        self.suite: Suite = resolve_suite(self.file, GROUPS, {})
        self.journal = Journal(folder / "journal")
        self._numbers = itertools.count()

    def finish(self, run: SuiteRun, *, valid: bool = True) -> None:
        somaxconn = run.combination.parameters.somaxconn
        paths = []
        for host, kernel in KERNELS.items():
            slower = 1.2 if (host, somaxconn) == ("new", 16) else 1.0
            params = run.combination.parameters.model_dump()
            number = next(self._numbers)
            metrics = {
                "request_median_s": slower + 0.001 * (number % 7),
                "accept_queue_max": somaxconn + 1,
                "queue_limit": somaxconn,
            }
            description = {"kernel.release": kernel, "sysctls": {"net.core.somaxconn": str(somaxconn)},
                           "listeners": [{"name": "upstream", "limit_conns": somaxconn}]}  # fmt: skip
            verdict = {} if valid else {"valid": False, "reasons": ["no fault"], "metrics": {}, "expectations": []}
            paths.append(self.made.add(description, params, metrics, verdict, name=host, testbed=True))
        folder = RunFolder(Path(self.made.join(*paths)))
        self.journal.finished[run.name] = Finished(folder, valid=valid, passed=True, took_s=1.0)

    def compare(self, axis: str, **more: float) -> SuiteComparison:
        question = Question(axis, metrics=("request_median_s", "request_max_s"), **more)  # type: ignore[arg-type]
        return compare_suite(self.suite, self.journal, question)


@pytest.fixture
def made(tmp_path: Path) -> MadeUpSuite:
    return MadeUpSuite(tmp_path)


@pytest.fixture
def complete(made: MadeUpSuite) -> MadeUpSuite:
    for run in made.suite.runs():
        made.finish(run)
    return made


def test_each_combination_is_compared_by_itself_and_p_is_corrected_for_all(complete: MadeUpSuite) -> None:
    done = complete.compare("kernel")
    assert list(done.groups) == ["case 2 somaxconn=8", "case 2 somaxconn=16"]
    same, slower = (one.metrics[0].effects["6.12.0"] for one in done.groups.values())
    assert (same.verdict, slower.verdict) == (Verdict.MEDIANS_EQUIVALENT, Verdict.SLOWER)
    assert {one.tests for one in done.groups.values()} == {2}, "two combinations, and one metric that was measured"
    assert slower.p_holm == pytest.approx(2 * slower.p)
    for one in done.groups.values():
        assert all(behaviour.compared["6.12.0"].sameness is Sameness.SAME for behaviour in one.behaviours)


def test_what_the_suite_varies_is_compared_on_each_host_alone(complete: MadeUpSuite) -> None:
    done = complete.compare("somaxconn")
    assert list(done.groups) == ["case 2 new", "case 2 old"]
    assert done.groups["case 2 new"].metrics[0].effects["16"].verdict is Verdict.SLOWER
    assert done.groups["case 2 old"].metrics[0].effects["16"].verdict is Verdict.MEDIANS_EQUIVALENT


def test_halves_of_one_host_show_what_chance_does(complete: MadeUpSuite) -> None:
    done = complete.compare("half")
    assert list(done.groups) == [f"case 2 somaxconn={limit} {host}" for limit in (8, 16) for host in ("new", "old")]
    for one in done.groups.values():
        assert {arm: len(results.boots) for arm, results in one.arms.items()} == {"a1": 4, "a2": 4}
        assert one.metrics[0].effects["a2"].verdict is Verdict.MEDIANS_EQUIVALENT


def test_a_combination_without_valid_runs_is_named_and_the_others_are_compared(made: MadeUpSuite) -> None:
    for run in made.suite.runs():
        made.finish(run, valid=run.combination.varied["somaxconn"] == 8)
    done = made.compare("kernel")
    assert list(done.groups) == ["case 2 somaxconn=8"]
    assert "no fault" in done.refused["case 2 somaxconn=16"]
    assert "not compared: case 2 somaxconn=16: none of the 16 results is valid" in suite_to_markdown(done)


def test_a_suite_that_is_under_way_says_how_far_it_is(made: MadeUpSuite) -> None:
    with pytest.raises(CompareError, match="no run of suite mine is finished"):
        made.compare("kernel")
    made.finish(next(made.suite.runs()))
    assert "1 of 16 runs are finished" in suite_to_markdown(made.compare("kernel"))


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_tables_fit_and_say_what_is_the_same_once(complete: MadeUpSuite, width: int) -> None:
    out = io.StringIO()
    print_suite_comparison(Console(file=out, width=width), complete.compare("kernel"))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert text.count("8 runs in 8 boots, the baseline") == 1
    assert "17 with limit 16 (n = 16)" in text


@pytest.mark.parametrize("shape", ["terminal", "json", "markdown", "html"])
def test_fail_on_names_the_combination(complete: MadeUpSuite, monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    monkeypatch.setattr("floodmark.runner.suite.load_suite", lambda _: complete.suite)
    monkeypatch.setattr("floodmark.runs.journal.read_journal", lambda *_: complete.journal)
    arguments = ["compare", "--suite", "mine.yml", "--by", "kernel", "--format", shape, "--metric", "request_median_s"]
    done = CliRunner().invoke(main, [*arguments, "--fail-on", "slower"])
    assert done.exit_code == 1, done.output
    assert done.stderr == "floodmark: case 2 somaxconn=16: slower: request_median_s of 6.12.0\n"
    assert CliRunner().invoke(main, [*arguments, "--fail-on", "faster"]).exit_code == 0


def test_json_has_every_number(complete: MadeUpSuite) -> None:
    content = json.loads(suite_to_json(complete.compare("kernel")))
    metric = content["groups"]["case 2 somaxconn=16"]["metrics"][0]
    assert len(metric["summaries"]["6.12.0"]["values"]) == REPETITIONS


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--by", "kernel"], "name either runs or a suite"),
        (["run", "--suite", "suites/smoke.yml", "--by", "kernel"], "name either runs or a suite"),
        (["--suite", "suites/none.yml", "--by", "kernel"], "there is no suite file"),
        (["--suite", "suites/smoke.yml", "--by", "kernel", "--format", "go"], "a suite has terminal, json"),
    ],
)
def test_a_wrong_question_is_a_sentence(arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(main, ["compare", *arguments])
    assert done.exit_code == 2
    assert sentence in done.output
    assert "Traceback" not in done.output


def test_seeds_are_boots_and_no_combinations(tmp_path: Path) -> None:
    file = tmp_path / "seeds.yml"
    file.write_text(yaml.safe_dump({"title": "?", "cases": [1], "vary": {"virtual_seed": [1, 2], "somaxconn": [8]},
                                    "repetitions": 1}))  # fmt: skip
    suite = resolve_suite(file, GROUPS, {})
    assert {_group(suite, run, "old", "kernel") for run in suite.runs()} == {"case 1 somaxconn=8"}
