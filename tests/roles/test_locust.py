"""What a load generator that is not the control node gets."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def test_what_a_load_generator_needs_does_not_depend_on_the_python_of_the_control_node() -> None:
    """`pip download --python-version` chooses wheels for the other Python, but judges markers by its own."""
    # typing-extensions==4.16.0 ; python_full_version < '3.12' \
    lines = (ROOT / "requirements/loadgen.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.search(r";.*\bpython_(full_)?version\b", line)] == []
