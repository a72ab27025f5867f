"""Files that people write: cases, labs, suites, the sentences of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from floodmark.errors import LabError, SuiteError
from floodmark.inputs import labs, suites
from floodmark.inputs.cases import CASES, load_cases
from floodmark.inputs.labs import LABS, find_lab
from floodmark.inputs.suites import SUITES, read_suite, resolve_suite
from floodmark.runner.plan import servers_of_a_run
from floodmark.study import sentences
from tests.conftest import ROOT
from tests.fuzz.made_up import fuzz, nothing_outside, refuses_or_returns, yaml_files

ALL_CASES = load_cases()
GROUPS = {"proxies": ["proxy1", "proxy2"], "load_generators": ["localhost"], "testbed": ["proxy1"]}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def short(document: dict[str, Any], *lists: str) -> dict[str, Any]:
    """Return a document with the first two of what is in some of its lists: the others are alike."""
    return {key: value[:2] if key in lists else value for key, value in document.items()}


@pytest.fixture(autouse=True)
def read_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the case files once, and not for each example."""
    for module in (labs, suites, sentences):
        monkeypatch.setattr(module, "load_cases", lambda: ALL_CASES)


def bomb(key: str) -> bytes:
    """Return YAML that is short, and long when it is written out: each list has the one before it nine times."""
    lists = [f"&a{one} [{', '.join([f'*a{one - 1}' if one else 'x'] * 9)}]" for one in range(12)]
    return f"{key}: [{', '.join(lists)}]".encode()


SHORT_AND_LONG = [
    *(bomb(key) for key in ("title", "fault", "parameters", "vary", "hosts", "also", "sentences")),
    b"&a [*a]", b"title: &a [*a]", b"parameters: &a {users: *a}", b"fault: &a [*a]", b"runs: &a [name: *a]",
    b"[" * 5000, b"title: " + b"[" * 5000 + b"]" * 5000, b"{a: " * 500 + b"}" * 500, b"title: 2026-99-99", b"case: 0b",
    b"\xff\xfe\x00", b"", b"---\n---\n", b"!!python/object/apply:os.system [touch escaped]", b"? [a]\n: b", b"<<: 1",
    b"cases: [1]\nrepetitions: " + b"9" * 5000, b"title: &a\n  <<: *a",
]  # fmt: skip


@pytest.mark.parametrize("content", SHORT_AND_LONG, ids=range(len(SHORT_AND_LONG)))
@pytest.mark.timeout(20)
def test_yaml_that_is_longer_than_it_looks_or_none_at_all(tmp_path: Path, content: bytes) -> None:
    for name in ("base.yml", "1-made-up.yml", "made-up.yml"):
        (tmp_path / name).write_bytes(content)
    with nothing_outside(tmp_path):
        refuses_or_returns(lambda: load_cases(tmp_path))
        refuses_or_returns(lambda: find_lab("made-up", tmp_path))
        refuses_or_returns(lambda: read_suite(tmp_path / "made-up.yml"))
        refuses_or_returns(lambda: sentences.load_sentences.__wrapped__(tmp_path / "made-up.yml"))
    for name, folder in (("1-made-up.yml", CASES), ("base.yml", CASES)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / "base.yml").write_bytes((folder / "base.yml").read_bytes())
        refuses_or_returns(lambda: load_cases(tmp_path))


VARIED = {"somaxconn": 100, "users": 100, "think_time_ms": 100, "upstream_backlog": 100}


@pytest.mark.timeout(20)
def test_more_runs_than_anybody_makes(tmp_path: Path) -> None:
    vary = {name: list(range(1, many + 1)) for name, many in VARIED.items()}
    path = tmp_path / "made-up.yml"
    path.write_text(yaml.safe_dump({"title": "all", "cases": [1], "repetitions": 1, "vary": vary}), encoding="utf-8")
    with pytest.raises(SuiteError, match=r"100,000,000 combinations, .* at most 1,000"):
        read_suite(path)
    path.write_text(yaml.safe_dump({"question": "all?", "case": 1, "vary": vary}), encoding="utf-8")
    with pytest.raises(LabError, match=r"100,000,000 points, .* at most 1,000"):
        find_lab("made-up", tmp_path)


CASE_FILES = [short(read(path), "fault", "expect", "reading") for path in sorted(CASES.glob("[0-9]*.yml"))]


@fuzz(200, yaml_files(*CASE_FILES))
def test_case_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "base.yml").write_bytes((CASES / "base.yml").read_bytes())
    (tmp_path / "1-made-up.yml").write_bytes(content)
    with nothing_outside(tmp_path):
        cases = refuses_or_returns(lambda: load_cases(tmp_path))
        for case in (cases or {}).values():
            refuses_or_returns(lambda: servers_of_a_run(case, case.parameters, 9000))  # noqa: B023 - called at once


@fuzz(40, yaml_files(read(CASES / "base.yml")))
def test_the_file_that_all_cases_share(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "base.yml").write_bytes(content)
    (tmp_path / "2-not-accepting.yml").write_bytes(next(CASES.glob("2-*.yml")).read_bytes())
    with nothing_outside(tmp_path):
        refuses_or_returns(lambda: load_cases(tmp_path))


@fuzz(120, yaml_files(*(short(read(path), "expect", "fault") for path in sorted(LABS.glob("*.yml")))))
def test_lab_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "made-up.yml").write_bytes(content)
    with nothing_outside(tmp_path):
        refuses_or_returns(lambda: find_lab("made-up", tmp_path))


@fuzz(150, yaml_files(*(read(path) for path in sorted(SUITES.glob("*.yml")))))
def test_suite_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "made-up.yml"
    path.write_bytes(content)
    with nothing_outside(tmp_path):
        refuses_or_returns(lambda: read_suite(path))
        suite = refuses_or_returns(lambda: resolve_suite(path, GROUPS, {}))
        if suite:
            assert next(suite.runs()).name
            assert suite.digest


SENTENCES = read(ROOT / "study/sentences.yml")


@fuzz(80, yaml_files({"sentences": SENTENCES["sentences"][:4]}, {"sentences": SENTENCES["sentences"][-4:]}))
def test_sentences_of_the_study(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sentences.yml"
    path.write_bytes(content)
    with nothing_outside(tmp_path):
        refuses_or_returns(lambda: sentences.load_sentences.__wrapped__(path))
