"""Expectations of runs as JUnit XML, which CI systems show as tests.

A host of a run is a test suite. The rules that it was held against and what our model expects of it are its tests: a
rule that makes the run invalid is an error and nothing is said about the expectations, an expectation that does not
hold is a failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from xml.etree import ElementTree

from floodmark.model.check import Check, Severity
from floodmark.model.verdict import Verdict
from floodmark.runs.folders import RunFolder
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.run import prediction_text
from floodmark.text import number

# What XML 1.0 cannot hold, however it is written: https://www.w3.org/TR/xml/#charsets. Logs and hosts say anything.
NO_CHARACTER = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(runs: Iterable[RunFolder]) -> str:
    """Return the verdicts of runs as JUnit XML.

    Args:
        runs: complete ones.

    Raises:
        RunError: one of them is not complete, or damaged.
    """
    suites = ElementTree.Element("testsuites", name="floodmark")
    for run in runs:
        for suite in _suites(run):  # extend() would make a TypeError of what goes wrong
            suites.append(suite)
    ElementTree.indent(suites)
    return NO_CHARACTER.sub("�", ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)) + "\n"


def _suites(run: RunFolder) -> Iterator[ElementTree.Element]:
    case = run.read_run().case
    for verdict in read_verdicts(run):
        suite = ElementTree.Element("testsuite", name=f"{run.run_id}.{verdict.host}", hostname=verdict.host)
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in {"kernel": verdict.kernel or "unknown", **verdict.params}.items():
            ElementTree.SubElement(properties, "property", name=name, value=str(value))
        suite.extend(_tests(f"case{case.number}.{verdict.host}", verdict))
        suite.set("tests", str(len(suite.findall("testcase"))))
        for kind in ("failure", "error", "skipped"):
            suite.set({"failure": "failures", "error": "errors"}.get(kind, kind), str(len(suite.findall(f"*/{kind}"))))
        yield suite


def _tests(class_name: str, verdict: Verdict) -> Iterator[ElementTree.Element]:
    for rule_id, checks in groupby(sorted(verdict.checks, key=_by_rule), key=_by_rule):
        yield _check(class_name, rule_id, list(checks))
    for one in verdict.expectations:
        test = ElementTree.Element("testcase", classname=class_name, name=one.name)
        if not verdict.valid:
            ElementTree.SubElement(test, "skipped", message="the run is not valid")
        elif not one.holds:
            ElementTree.SubElement(
                test, "failure", message=f"value is {number(one.value)}, predicted was {prediction_text(one)}"
            )
        yield test
    for unstated in verdict.unstated:
        test = ElementTree.Element("testcase", classname=class_name, name=unstated.name)
        ElementTree.SubElement(test, "skipped", message=f"only stated where {unstated.applies}")
        yield test


def _by_rule(check: Check) -> str:
    return check.id


def _check(class_name: str, rule_id: str, checks: Sequence[Check]) -> ElementTree.Element:
    """Return one rule as a test: an error where it makes the run invalid, output where it is a note."""
    test = ElementTree.Element("testcase", classname=f"{class_name}.checks", name=rule_id)
    broken = [one for one in checks if not one.ok]
    invalid = [one.sentence for one in broken if one.severity is Severity.INVALID]
    if invalid:
        ElementTree.SubElement(test, "error", message="INVALID").text = "\n".join(invalid)
    if notes := [one.sentence for one in broken if one.severity is Severity.NOTE]:
        ElementTree.SubElement(test, "system-out").text = "\n".join(notes)
    return test
