from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from floodmark.cli import main
from floodmark.inputs.cases import load_cases
from floodmark.model.verdict import ClaimVerdict
from floodmark.show.run import print_cases, print_claims, print_run, settings_line, worth_showing
from floodmark.verdict.judge import judge_run
from tests.floodmark.verdict.test_judge import NoAccept


@pytest.fixture
def complete(tmp_path: Path) -> NoAccept:
    fake = NoAccept(tmp_path)
    fake.write()
    fake.write_plan("proxy1")
    judge_run(fake.run)
    return fake


def claim(study: str, **parts: Any) -> ClaimVerdict:
    given = {"study": study, "verdict": "confirmed", "value": 1, "digest": study}
    return ClaimVerdict.model_validate({**given, **parts})


def test_a_limit_that_was_not_seen_is_left_out() -> None:
    unseen, blind = claim("One.", role="limit", verdict="not observed"), claim("Two.", verdict="not observed")
    assert worth_showing([unseen, blind]) == [blind]


def test_a_sentence_with_two_answers_is_quoted_once() -> None:
    out = io.StringIO()
    limit = claim("One.", digest="e", role="limit", limit="not in winter", verdict="refuted", measured="snow")
    print_claims(Console(file=out, width=120), [claim("One.", measured="sun"), limit])
    text = out.getvalue()
    assert text.count("One.") == 1
    assert "limit: not in winter" in text


def test_show_json_is_a_list_with_a_verdict_for_each_host(complete: NoAccept) -> None:
    done = CliRunner().invoke(main, ["show", str(complete.run.path) + "/", "--json"])
    assert done.exit_code == 0, done.output
    (verdict,) = json.loads(done.output)
    assert {"run_id", "valid", "reasons", "params", "expectations", "claims", "phases", "metrics"} <= set(verdict)
    assert verdict["metrics"]["accept_queue_max"] == 9


def test_the_flood_is_said_in_words() -> None:
    params = load_cases()[2].parameters.model_dump()
    assert "a burst of 32 users" in settings_line(params)
    assert "3 bursts of 32 users, one every 20 s" in settings_line({**params, "bursts": 3, "burst_every_s": 20})
    before_there_were_bursts = {name: value for name, value in params.items() if name != "bursts"}
    assert "a burst of 32 users" in settings_line(before_there_were_bursts)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_its_terminal_and_says_the_verdict(complete: NoAccept, width: int) -> None:
    out = io.StringIO()
    print_run(Console(file=out, width=width), complete.run)
    text = out.getvalue()
    assert "VALID, and all" in text
    assert max(len(line) for line in text.splitlines() if "Everything is in" not in line) <= width


def test_every_parameter_is_listed_with_its_range() -> None:
    out = io.StringIO()
    print_cases(Console(file=out, width=200), load_cases())
    for text in ("somaxconn", "0 to 65535 conns", "unix or tcp", "never calls accept()"):
        assert text in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["show", "no-such-run"], "there is no run 'no-such-run'"), (["show", "/tmp"], "is not complete")],
)
def test_a_wrong_run_is_one_sentence_and_no_traceback(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "20260101T000000Z-case1-unix").mkdir()
    monkeypatch.setattr("floodmark.runs.folders.find_run.__defaults__", (tmp_path,))
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert sentence in done.output
    assert "Traceback" not in done.output
