"""Each rule of delivery that a test is said to guard is broken here, and the tests must see it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
RULES = "src/postroom/delivery"
STORE = "src/postroom/store"
CASES, SEARCH = "tests/test_delivery.py", "tests/test_delivery_machine.py"
QUERIES, TABLES = "tests/test_store.py", "tests/test_delivery_store.py"
SEARCHES = {"test_every_history_delivers_every_post_once", "test_the_store_ends_as_the_rules_end"}
# Hypothesis would spend minutes on making the failures small that are wanted here.
QUICK = """
from hypothesis import Phase, settings

settings.register_profile("quick", phases=[Phase.generate], report_multiple_bugs=False)
settings.load_profile("quick")
"""


@frozen
class Mutant:
    """A change to the text of one file that breaks one rule."""

    name: str
    path: str
    old: str
    new: str
    by_search: bool = True
    """Whether the random search sees it, or only a case written by hand."""
    search: str = SEARCH
    cases: str = CASES


MUTANTS = [
    Mutant(
        "1 the clock is not guarded",
        f"{RULES}/clock.py",
        "    clock = max(now, last.clock)\n"
        "    released = max(date_released(clock, zone, send_at), last.released)\n",
        "    clock = now\n    released = date_released(clock, zone, send_at)\n",
    ),
    Mutant(
        "2 the floor is off",
        f"{RULES}/clock.py",
        "lowest = max(day, run.last.floor, run.last.released)",
        "lowest = day",
    ),
    Mutant(
        "2 the floor is this run's",
        f"{RULES}/clock.py",
        "lowest = max(day, run.last.floor, run.last.released)",
        "lowest = max(day, run.release.floor)",
    ),
    Mutant(
        "2 the day is not frozen",
        f"{RULES}/owed.py",
        "due = (one for one in log if _due(one, group, raising_to))",
        "now = (evolve(one, day=news[one.post_id].day) for one in log if one.post_id in news)\n"
        "    due = (one for one in now if _due(one, group, raising_to))",
    ),
    Mutant(
        "4 the bookmark is assigned, not raised",
        f"{RULES}/owed.py",
        "return Bookmark(max(bookmark.before, to.before), max(bookmark.upto, to.upto))",
        "return to",
    ),
    Mutant(
        "5 a confirmation owes the archive",
        f"{RULES}/owed.py",
        "return Bookmark(_today(release), last_seq)",
        "return Bookmark(_today(release))",
    ),
    Mutant(
        "6 nothing is matched",
        f"{RULES}/owed.py",
        "return not group.topics or not _slugs(group.topics).isdisjoint(_slugs(post.topics))",
        "return True",
    ),
    Mutant(
        "7 nothing arrives again",
        f"{RULES}/arrivals.py",
        "if known is None or known.struck:",
        "if known is None:",
    ),
    Mutant(
        "7 what returned goes to all",
        f"{RULES}/owed.py",
        "return arrival.returned and (start > arrival.first_day or arrival.post_id in delivered)",
        "return False",
    ),
    Mutant(
        "7 what returned goes to those who came later",
        f"{RULES}/owed.py",
        "return arrival.returned and (start > arrival.first_day or arrival.post_id in delivered)",
        "return arrival.returned and arrival.post_id in delivered",
    ),
    Mutant(
        "7 strikes by this run's calendar",
        f"{RULES}/arrivals.py",
        "(run.last or run.release).released",
        "run.release.released",
    ),
    Mutant(
        "7 strikes by the longest frequency alone",
        f"{RULES}/clock.py",
        "return min((boundary(each, released) for each in frequencies), default=released)",
        'return boundary("month", released)',
        by_search=False,
    ),
    Mutant(
        "9 the key is (subscriber, upto)",
        "tests/delivery_ledger.py",
        "return delivery.subscriber, delivery.number",
        "return delivery.subscriber, delivery.letter.reach.upto",
    ),
    Mutant(
        "9 a plan replaces what is being sent",
        f"{RULES}/ledger.py",
        'if delivery is None or delivery.state in CLAIMABLE or delivery.state == "cancelled":',
        'if delivery is None or delivery.state in CLAIMABLE | {"cancelled", "sending"}:',
        by_search=False,
    ),
    Mutant(
        "10 the sweep comes after the plan",
        "tests/delivery_ledger.py",
        "    ledger.sweep()\n"
        "    ledger.open(first)\n"
        "    office.opened(this.release)\n"
        "    ledger.plan(this.release, news)\n",
        "    ledger.open(first)\n"
        "    office.opened(this.release)\n"
        "    ledger.plan(this.release, news)\n"
        "    ledger.sweep()\n",
    ),
    Mutant(
        "10 uncertain closes nothing",
        f"{RULES}/ledger.py",
        'FINAL: frozenset[DeliveryState] = frozenset({"sent", "uncertain"})',
        'FINAL: frozenset[DeliveryState] = frozenset({"sent"})',
    ),
    Mutant(
        "10 the state row is written last",
        "tests/delivery_ledger.py",
        "        self.state = opening.release\n",
        "        self.state = opening.release if self.state is None else self.state\n",
    ),
    Mutant(
        "11 a deferred letter outlives its boundary",
        f"{RULES}/ledger.py",
        '    if held is None or held.state != "deferred" or newer(held, new.letter.reach):\n',
        '    if held is not None and held.state == "deferred":\n'
        "        return held\n"
        "    if held is None or newer(held, new.letter.reach):\n",
    ),
    Mutant(
        "11 a deferred letter outlives its posts",
        f"{RULES}/ledger.py",
        '    return evolve(new, state="deferred", ',
        "    return evolve(held, ",
        by_search=False,
    ),
    Mutant(
        "11 the wait outlives the boundary",
        f"{RULES}/ledger.py",
        'if held is None or held.state != "deferred" or newer(held, new.letter.reach):',
        'if held is None or held.state != "deferred":',
        by_search=False,
    ),
    Mutant(
        "11 a plan ends the wait",
        f"{RULES}/ledger.py",
        "newer(held, new.letter.reach):\n",
        "True:\n",
        by_search=False,
    ),
    Mutant(
        "13 a welcome holds what is owed",
        f"{RULES}/owed.py",
        "if not one.struck and one.day < group.bookmark.before)",
        "if not one.struck)",
    ),
    Mutant(
        "14 the old zone is forgotten",
        f"{RULES}/clock.py",
        "return max(lowest, local_date(min(end, run.release.clock), ZoneInfo(run.last.zone)))",
        "return lowest",
        by_search=False,
    ),
    # What the rules ask of the store
    Mutant(
        "store: 5 a confirmation does not raise the start",
        f"{STORE}/subscribers.py",
        "                start=greater(subscribers.c.start, bookmark.before),\n",
        "",
        search=TABLES,
        cases=QUERIES,
    ),
    Mutant(
        "store: 10 the bookmark of a bounced letter moves",
        f"{STORE}/groups.py",
        "return sa.and_(belongs(members), ~left_alone.exists())",
        "return belongs(members)",
        by_search=False,
        search=TABLES,
        cases=QUERIES,
    ),
    Mutant(
        "store: 10 closing counts and raises nothing",
        f"{STORE}/settling.py",
        "        _CLOSE.make_each(connection, closing)\n",
        "        pass\n",
        search=TABLES,
        cases=QUERIES,
    ),
    Mutant(
        "store: 11 the wait outlives an absence",
        f"{STORE}/subscribers.py",
        '    if after != "active":\n        _cancel(connection, condition)\n',
        "",
        by_search=False,
        search=TABLES,
        cases=QUERIES,
    ),
    Mutant(
        "store: 7 what returned goes to all",
        f"{STORE}/groups.py",
        "return sa.and_(subscribers.c.start <= arrival.first_day, ~delivered.exists())",
        "return sa.true()",
        search=TABLES,
        cases=QUERIES,
    ),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the source and its tests."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "tests/conftest.py").open("a") as conftest:
        conftest.write(QUICK)
    return tmp_path


def failures(folder: Path, tests: str) -> list[str]:
    """Return the names of the tests in the file `tests` that fail in the copy in `folder`."""
    options = ["-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", "-m", "not slow"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tests],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"\d+ (passed|failed)", done.stdout), done.stdout + done.stderr
    return re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+)", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_the_copy_is_green(copy: Path) -> None:
    """Else a mutant that is red would show nothing."""
    assert [
        name for each in (CASES, SEARCH, QUERIES, TABLES) for name in failures(copy, each)
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_broken_rule_is_seen(mutant: Mutant, copy: Path) -> None:
    """By the search, and where that is too much to ask by a case; prints a line of a table."""
    text = (copy / mutant.path).read_text()
    assert text.count(mutant.old) == 1
    (copy / mutant.path).write_text(text.replace(mutant.old, mutant.new))
    cases = failures(copy, mutant.cases)
    found = not SEARCHES.isdisjoint(failures(copy, mutant.search))
    row = f"{mutant.name:52} | search {'red' if found else '-':3} | {len(cases):2} cases red"
    print(row)  # noqa: T201 - the table is for who runs the proof with -s
    assert cases or found
    assert found or not mutant.by_search
