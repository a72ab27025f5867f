"""Expectations of runs as JUnit XML, which CI systems show as tests.

A host of a run is a test suite. What makes a run valid and what our model expects of it are its tests: a run that is
not valid has an error and says nothing about the rest, an expectation that does not hold has a failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree import ElementTree

from floodmark.runs.folders import RunFolder
from floodmark.runs.verdicts import read_verdicts
from floodmark.show.tables import number

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
    case = run.read_run()["case"]
    for verdict in read_verdicts(run):
        suite = ElementTree.Element("testsuite", name=f"{run.run_id}.{verdict['host']}", hostname=verdict["host"])
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in {"kernel": verdict["kernel"] or "unknown", **verdict["params"]}.items():
            ElementTree.SubElement(properties, "property", name=name, value=str(value))
        suite.extend(_tests(f"case{case['number']}.{verdict['host']}", verdict))
        suite.set("tests", str(len(suite.findall("testcase"))))
        for kind in ("failure", "error", "skipped"):
            suite.set({"failure": "failures", "error": "errors"}.get(kind, kind), str(len(suite.findall(f"*/{kind}"))))
        yield suite


def _tests(class_name: str, verdict: dict[str, Any]) -> Iterator[ElementTree.Element]:
    valid = ElementTree.Element("testcase", classname=class_name, name="the run is valid")
    if not verdict["valid"]:
        ElementTree.SubElement(valid, "error", message="INVALID").text = "\n".join(verdict["reasons"])
    yield valid
    for one in verdict["expectations"]:
        test = ElementTree.Element("testcase", classname=class_name, name=one["name"])
        if not verdict["valid"]:
            ElementTree.SubElement(test, "skipped", message="the run is not valid")
        elif not one["holds"]:
            ElementTree.SubElement(
                test, "failure", message=f"value is {number(one['value'])}, predicted was {one['condition']}"
            )
        yield test
    for one in verdict["unstated"]:
        test = ElementTree.Element("testcase", classname=class_name, name=one["name"])
        ElementTree.SubElement(test, "skipped", message=f"only stated where {one['applies']}")
        yield test
