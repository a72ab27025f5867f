"""docs/claims.md is what sentences and evidence say."""

from __future__ import annotations

from dataclasses import replace

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
