"""Mutants of the delivery rules, and a pytest plugin that activates one of them.

`pytest -p tests.proofs.delivery_mutants` breaks the rule named in DELIVERY_MUTANT before any test
runs. A mutant changes one function; its source is compared as `ast.unparse` writes it, so the
layout of the code does not matter.
"""

from __future__ import annotations

import ast
import inspect
import os
import textwrap
from pkgutil import resolve_name
from types import FunctionType

from attrs import frozen
from hypothesis import Phase, settings

RULES = "postroom.scheduling.rules"
MODEL = "tests.reference.delivery"
LEDGER = "tests.reference.ledger"
DB = "postroom.db"
CASES, SEARCH = "tests/scheduling/test_rules.py", "tests/scheduling/test_histories.py"
QUERIES, TABLES = "tests/db/test_store.py", "tests/db/test_histories.py"
# The tests clear variables that begin with POSTROOM_.
VARIABLE = "DELIVERY_MUTANT"


@frozen
class Mutant:
    """A change to the function `target` (`module:name`) that breaks one rule.

    `by_search` tells whether the random search finds it, or only a handwritten case.
    """

    name: str
    target: str
    old: str
    new: str
    by_search: bool = True
    search: str = SEARCH
    cases: str = CASES


MUTANTS = (
    Mutant("1 the clock may go back", f"{RULES}:advance_run", "max(now, last.clock)", "now"),
    Mutant(
        "1 the released date may go back",
        f"{RULES}:advance_run",
        "max(released_date(clock, zone, send_at), last.released)",
        "released_date(now, zone, send_at)",
    ),
    Mutant(
        "2 there is no floor",
        f"{RULES}:entry_date",
        "max(day, run.last.floor, run.last.released)",
        "day",
    ),
    Mutant(
        "2 the floor is this run's",
        f"{RULES}:entry_date",
        "max(day, run.last.floor, run.last.released)",
        "max(day, run.state.floor)",
    ),
    Mutant(
        "2 the day of an entry changes with the post",
        f"{RULES}:due_posts",
        "for entry in log if",
        "for entry in (evolve(entry, day=visible[entry.post_id].day) for entry in log"
        " if entry.post_id in visible) if",
    ),
    Mutant(
        "4 a cursor is set, not raised",
        f"{RULES}:raise_cursor",
        "Cursor(max(cursor.date, target.date), max(cursor.seq, target.seq))",
        "target",
    ),
    Mutant(
        "5 all posts are due after a confirmation",
        f"{RULES}:confirmation_cursor",
        "Cursor(_today(state), last_seq)",
        "Cursor(_today(state))",
    ),
    Mutant(
        "6 topics do not count",
        f"{RULES}:_matches",
        "not group.topics or not _slugs(group.topics).isdisjoint(_slugs(post.topics))",
        "True",
    ),
    Mutant(
        "7 nothing is logged again",
        f"{RULES}:_new_entries",
        "known is None or known.retracted",
        "known is None",
    ),
    Mutant(
        "7 a returned post is due to all",
        f"{MODEL}:has_received",
        "entry.returned and (start > entry.first_day or entry.post_id in delivered)",
        "False",
    ),
    Mutant(
        "7 a returned post is due to later subscribers",
        f"{MODEL}:has_received",
        "start > entry.first_day or entry.post_id in delivered",
        "entry.post_id in delivered",
    ),
    Mutant(
        "7 retractions go by this run's calendar",
        f"{RULES}:update_log",
        "(run.last or run.state).released",
        "run.state.released",
    ),
    Mutant(
        "7 retractions go by the longest frequency",
        f"{RULES}:first_unreleased",
        "min((cutoff_before(each, released) for each in frequencies), default=released)",
        "cutoff_before('month', released)",
        by_search=False,
    ),
    Mutant(
        "9 the key is (subscriber, seq)",
        f"{LEDGER}:slot",
        "delivery.number",
        "delivery.issue.cutoff.seq",
    ),
    Mutant(
        "9 a plan replaces what is being sent",
        f"{MODEL}:left_alone",
        "delivery.state == 'cancelled'",
        "delivery.state in {'cancelled', 'sending'}",
        by_search=False,
    ),
    Mutant(
        "10 the sweep comes after the plan",
        f"{LEDGER}:run",
        "ledger.sweep()\n    ledger.open(first)\n    context.opened(this.state)\n"
        "    ledger.plan(this.state, news)",
        "ledger.open(first)\n    context.opened(this.state)\n    ledger.plan(this.state, news)\n"
        "    ledger.sweep()",
    ),
    Mutant(
        "10 uncertain closes nothing",
        f"{LEDGER}:MemoryLedger._store",
        "delivery.state in FINAL",
        "delivery.state == 'sent'",
    ),
    Mutant(
        "10 the state row is stored last",
        f"{LEDGER}:MemoryLedger.open",
        "opening.state",
        "opening.state if self.state is None else self.state",
    ),
    Mutant(
        "11 a deferred issue outlives its cutoff",
        f"{MODEL}:placed",
        "if held is None or held.state != 'deferred' or newer(held, new.issue.cutoff):",
        "if held is not None and held.state == 'deferred':\n        return held\n"
        "    if held is None or newer(held, new.issue.cutoff):",
    ),
    Mutant(
        "11 a deferred issue keeps its posts",
        f"{MODEL}:placed",
        "evolve(new, state='deferred', ",
        "evolve(held, ",
        by_search=False,
    ),
    Mutant(
        "11 the delay outlives the cutoff",
        f"{MODEL}:placed",
        " or newer(held, new.issue.cutoff)",
        "",
        by_search=False,
    ),
    Mutant(
        "11 a plan ends the delay",
        f"{MODEL}:placed",
        "newer(held, new.issue.cutoff)",
        "True",
        by_search=False,
    ),
    Mutant(
        "13 a welcome issue holds due posts",
        f"{RULES}:make_welcome_issue",
        "not entry.retracted and entry.day < group.cursor.date",
        "not entry.retracted",
    ),
    Mutant(
        "14 the old zone is forgotten",
        f"{RULES}:entry_date",
        "max(lowest, local_date(min(end, run.state.clock), ZoneInfo(run.last.zone)))",
        "lowest",
        by_search=False,
    ),
    # The same rules in SQL
    Mutant(
        "database: 5 a confirmation does not raise the start",
        f"{DB}.subscribers:SubscriberTable.confirm",
        ", start=greater(subscribers.c.start, cursor.date)",
        "",
        search=TABLES,
        cases=QUERIES,
    ),
    Mutant(
        "database: 10 the cursor of a bounced issue moves",
        f"{DB}.subscribers:is_plannable",
        "sa.and_(_is_in(segment), ~blocking.exists())",
        "_is_in(segment)",
        by_search=False,
        search=TABLES,
        cases=QUERIES,
    ),
    Mutant(
        "database: 10 a closed delivery counts nothing and raises nothing",
        f"{DB}.deliveries:settle",
        "if closing:",
        "if False:",
        search=TABLES,
        cases=QUERIES,
    ),
    Mutant(
        "database: 11 the delay outlives an absence",
        f"{DB}.subscribers:move_subscribers",
        "if to != 'active':",
        "if False:",
        by_search=False,
        search=TABLES,
        cases=QUERIES,
    ),
    Mutant(
        "database: 7 a returned post is due to all",
        f"{DB}.subscribers:_is_due",
        "sa.and_(subscribers.c.start <= entry.first_day, ~delivered.exists())",
        "sa.true()",
        search=TABLES,
        cases=QUERIES,
    ),
)


def activate(mutant: Mutant) -> None:
    """Replace the code of the mutant's function in this process, wherever it was imported."""
    function = resolve_name(mutant.target)
    source = ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
    found = source.count(mutant.old)
    if found != 1:
        raise LookupError(f"{mutant.name}: its text occurs {found} times in {mutant.target}")
    module = inspect.getmodule(function)
    scope: dict[str, FunctionType] = {}
    code = compile(source.replace(mutant.old, mutant.new), f"<{mutant.name}>", "exec", 0, True)  # noqa: FBT003 - its annotations stay strings
    exec(code, vars(module), scope)  # noqa: S102 - broken on purpose
    function.__code__ = scope[function.__name__].__code__


def pytest_sessionstart() -> None:
    """Activate the requested mutant, and end searches at their first failure."""
    # Shrinking would take minutes, and failures are expected here.
    settings.register_profile("quick", phases=[Phase.generate], report_multiple_bugs=False)
    settings.load_profile("quick")
    if name := os.environ.get(VARIABLE):
        activate(next(mutant for mutant in MUTANTS if mutant.name == name))
