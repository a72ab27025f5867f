"""How much there is of it."""

from __future__ import annotations

from tests.fuzz import test_files, test_host, test_results, test_variables
from tests.fuzz.made_up import EXAMPLES, LEAST_EXAMPLES


def test_there_is_enough_of_each_kind_and_of_all() -> None:
    kinds = [len(vars(module)) > 0 for module in (test_files, test_host, test_results, test_variables)]
    assert all(kinds)
    assert sum(EXAMPLES.values()) >= LEAST_EXAMPLES, EXAMPLES
