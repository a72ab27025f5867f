"""docs/claims.md is what sentences and evidence say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from floodmark.cli import main
from floodmark.study import evidence
from floodmark.study import page as page_module
from floodmark.study.evidence import Evidence, read_evidence
from floodmark.study.outcome import sentences_of
from floodmark.study.page import claims_page
from floodmark.study.sentences import load_sentences
from floodmark.text import one_line

EVIDENCE = read_evidence()


def test_each_sentence_is_one_line_with_its_verdict() -> None:
    page = claims_page(EVIDENCE)
    for one in sentences_of(EVIDENCE):
        quote = " ".join(one.quote.replace("|", " ").replace("<", "&lt;").split())
        (line, *_) = [line for line in page.splitlines() if line.startswith(f"| {quote} | ")]
        assert f"| **{one.verdict}**" in line, one.id


def test_what_stands_behind_it_is_folded() -> None:
    page = claims_page(EVIDENCE)
    assert page.count("<details markdown") == page.count("</details>") > 5
    for one in load_sentences().values():
        assert one_line(one.why) in page


def test_kernels_that_agree_are_one_row() -> None:
    one = next(one for one in EVIDENCE if one.question == "case_2_several_lines")
    rows = [replace(one, kernel=kernel) for kernel in ("6.1.0", "6.12.0", "6.18.0")]
    (row,) = rows_with("case 2 | unix", rows)
    assert "| 6.1.0, 6.12.0, 6.18.0 | yes | 10 |" in row
    other = replace(one, kernel="6.2.0", confirmed=0, refuted=1, value=1)
    assert len(rows_with("case 2 | unix", [*rows, other])) == 2


def rows_with(text: str, evidence: list[Evidence]) -> list[str]:
    return [line for line in claims_page(evidence).splitlines() if text in line]


def test_what_is_asked_twice_is_shown_once() -> None:
    page = claims_page(EVIDENCE)
    assert "The same is asked as of *Call accept() on the proxy socket connection for each client*" in page


def test_the_command_counts_what_it_finds_and_writes_when_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "EVIDENCE", tmp_path / "evidence.csv")
    monkeypatch.setattr(page_module, "PAGE", tmp_path / "claims.md")
    monkeypatch.setattr(evidence, "collect", lambda: EVIDENCE)
    said = CliRunner().invoke(main, ["claims"]).output
    assert f"{len(EVIDENCE)} answers were found, 0 of other runs were known." in said
    assert list(tmp_path.iterdir()) == []
    CliRunner().invoke(main, ["claims", "--write"])
    assert (tmp_path / "claims.md").read_text() == claims_page(EVIDENCE)
    assert read_evidence(tmp_path / "evidence.csv") == EVIDENCE


def test_each_sentence_that_runs_can_be_asked_was_told_of() -> None:
    untold = [one.id for one in sentences_of(EVIDENCE) if one.verdict == "not observed"]
    assert untold == [], "make the runs that it needs, then: floodmark claims --write"
