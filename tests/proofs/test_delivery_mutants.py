"""Break each delivery rule in turn, and show that the tests find it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proofs.delivery_mutants import (
    CASES,
    MUTANTS,
    QUERIES,
    SEARCH,
    TABLES,
    VARIABLE,
    Mutant,
)

ROOT = Path(__file__).parents[2]
SEARCHES = {"test_every_history_delivers_every_post_once", "test_the_store_ends_as_the_rules_end"}


def failures(tests: str, mutant: str = "") -> list[str]:
    """Return the names of the tests in the file `tests` that fail with the mutant of this name."""
    options = ["-q", "--tb=no", "-rfE", "-m", "not slow", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.proofs.delivery_mutants", *options, tests],
        cwd=ROOT,
        env={**os.environ, VARIABLE: mutant},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"\d+ (passed|failed)", done.stdout), done.stdout + done.stderr
    return re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+)", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_all_tests_pass_without_a_mutant() -> None:
    """All tests pass without a mutant, so a failure with one is caused by it."""
    assert [name for tests in (CASES, SEARCH, QUERIES, TABLES) for name in failures(tests)] == []


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_rule_is_found(mutant: Mutant) -> None:
    """A broken rule is found by the search or a handwritten case; the test prints a table row."""
    cases = failures(mutant.cases, mutant.name)
    found = not SEARCHES.isdisjoint(failures(mutant.search, mutant.name))
    row = f"{mutant.name:60} | search {'red' if found else '-':3} | {len(cases):2} cases red"
    print(row)  # noqa: T201 - printed for runs with -s
    assert cases or found
    assert found or not mutant.by_search
