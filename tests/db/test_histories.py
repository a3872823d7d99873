"""The delivery rules as the store keeps them: the same histories, the same oracle, real tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.models import Delivery
from tests.reference.histories import STEPS, Step, play
from tests.reference.ledger import FREQUENCIES, Ledger, MemoryLedger
from tests.reference.store_ledger import PulsingDatabase, StoreLedger, opened
from tests.reference.world import World, berlin
from tests.support import postgresql

# A few that are the same in each run, many that are others each time; PostgreSQL is slower.
FEW, MANY, SOME = 36, 2000, 400
SLOW = pytest.param(MANY, marks=pytest.mark.slow)
STARTS = st.integers(0, 11)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[PulsingDatabase]:
    """Open an SQLite database and close it."""
    database = opened(f"sqlite:///{tmp_path / 'news.db'}", tmp_path)
    yield database
    database.close()


@pytest.fixture
def postgres(postgresql_server: postgresql.Server, tmp_path: Path) -> Iterator[PulsingDatabase]:
    """Open an empty PostgreSQL database and close it."""
    database = opened(postgresql_server.emptied(), tmp_path)
    yield database
    database.close()


def chosen(examples: int) -> settings:
    """Return how to search that many histories."""
    return settings(
        max_examples=examples,
        derandomize=examples == FEW,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def search(database: PulsingDatabase, examples: int) -> None:
    """Play so many histories; fail if too few of them send a letter, or crash, or return posts."""
    sent, effects = 0, Counter[str]()

    @chosen(examples)
    @given(STEPS, STARTS)
    def histories(steps: list[Step], start: int) -> None:
        nonlocal sent
        world = play(steps, start, StoreLedger(database))
        sent += any(person.letters for person in world.people.values())
        effects.update(+world.effects)

    histories()
    assert sent * 10 >= examples
    for effect in ("6 moved without a letter", "7 received after return", "crash"):
        assert effects[effect]


@pytest.mark.parametrize("examples", [FEW, SLOW])
def test_every_history_delivers_every_post_once(sqlite: PulsingDatabase, examples: int) -> None:
    """What holds of the rules holds of the tables, whatever happens in whatever order."""
    search(sqlite, examples)


@pytest.mark.slow
def test_every_history_delivers_every_post_once_on_postgresql(postgres: PulsingDatabase) -> None:
    """There too."""
    search(postgres, SOME)


# Compared with the rules


class _Memory(MemoryLedger):
    """A ledger in memory that dies only around a letter, which is a step that both have."""

    connections = 1

    def step(self) -> None:
        """Do nothing: the store has other transactions."""


class _Tables(StoreLedger):
    """A store that dies only around a letter."""

    connections = 1

    def step(self) -> None:
        """Do nothing: the rules have other transactions."""


def ended(ledger: Ledger) -> tuple[object, ...]:
    """Return what there is at the end, as far as it makes a difference to anybody."""
    people = [evolve(one, token="") for one in ledger.subscribers()]
    rows = sorted((_plain(row) for row in ledger.deliveries()), key=_slot)
    return ledger.release(), list(ledger.log()), people, rows


def _plain(row: Delivery) -> Delivery:
    """Return `row` without the count of its tries, and when to try again only where that counts."""
    return evolve(row, attempts=0, retry_at=row.retry_at if row.state == "deferred" else None)


def _slot(row: Delivery) -> tuple[int, int]:
    return row.subscriber, row.number


def compare(database: PulsingDatabase, examples: int) -> None:
    """Play so many histories on both."""

    @chosen(examples)
    @given(STEPS, STARTS)
    def histories(steps: list[Step], start: int) -> None:
        worlds = [play(steps, start, each) for each in (_Memory(), _Tables(database))]
        rules, tables = worlds
        assert ended(tables.ledger) == ended(rules.ledger)
        assert [one.received for one in tables.people.values()] == [
            one.received for one in rules.people.values()
        ]

    histories()


@pytest.mark.parametrize("examples", [FEW, SLOW])
def test_the_store_ends_as_the_rules_end(sqlite: PulsingDatabase, examples: int) -> None:
    """The same steps lead to the same arrivals, bookmarks and letters, in the same states."""
    compare(sqlite, examples)


@pytest.mark.slow
def test_postgresql_ends_as_the_rules_end(postgres: PulsingDatabase) -> None:
    """There too."""
    compare(postgres, SOME)


# A crash before each transaction in turn


def crashed(database: PulsingDatabase, step: int) -> World:
    """Let a run with something of everything die before its step number `step`, then go on."""
    world = World(berlin("2026-11-10 10:00"), StoreLedger(database))
    for frequency in FREQUENCIES:
        world.join(frequency)
    world.join("month", "x")
    for name, topics in (("a", "x"), ("b", "y"), ("gone", "x")):
        world.push(name, topics=topics)
    world.run()
    world.change("gone", present=False)
    world.to(berlin("2026-11-16 09:01"))
    world.run()
    world.change("gone", present=True)
    world.join("day", greet=True)
    world.push("c", topics="x")
    world.to(berlin("2026-12-01 09:01"))
    world.run(crash=step)
    died = world.effects["crash"]
    world.push("d", topics="x")
    world.heal()
    world.effects["crash"] = died
    return world


def test_a_run_that_dies_before_any_step_loses_and_repeats_nothing(
    sqlite: PulsingDatabase,
) -> None:
    """Every transaction in turn, and either side of every letter, until a run gets through."""
    for step in count(1):
        world = crashed(sqlite, step)
        unsure = [row for row in world.ledger.deliveries() if row.state == "uncertain"]
        assert len(unsure) <= StoreLedger.connections
        if not world.effects["crash"]:
            break
    assert step > 30
