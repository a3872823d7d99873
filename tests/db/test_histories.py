"""The delivery rules in the store: the same histories and oracle, on real tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reference.delivery import Delivery
from tests.reference.histories import STEPS, Step, play
from tests.reference.ledger import FREQUENCIES, Ledger, MemoryLedger
from tests.reference.store_ledger import PulsingDatabase, StoreLedger, opened
from tests.reference.world import World, berlin
from tests.support import postgresql

# FEW histories are the same in each run, MANY are random; PostgreSQL is slower.
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
    """Return the settings for a search of that many histories."""
    return settings(
        max_examples=examples,
        derandomize=examples == FEW,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def search(database: PulsingDatabase, examples: int) -> None:
    """Play that many histories; fail if too few of them send, crash or return posts."""
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
    """The tables keep the delivery rules in every order of events."""
    search(sqlite, examples)


@pytest.mark.slow
def test_every_history_delivers_every_post_once_on_postgresql(postgres: PulsingDatabase) -> None:
    """The tables keep the delivery rules on PostgreSQL, too."""
    search(postgres, SOME)


# Compared with the rules


class _Memory(MemoryLedger):
    """A ledger in memory that crashes only around an email, which is a step of both ledgers."""

    connections = 1

    def step(self) -> None:
        """Do nothing, because the store has other transactions."""


class _Tables(StoreLedger):
    """A store that crashes only around an email."""

    connections = 1

    def step(self) -> None:
        """Do nothing, because the ledger in memory has other transactions."""


def final_state(ledger: Ledger) -> tuple[object, ...]:
    """Return the final release, log, subscribers and deliveries, without irrelevant fields."""
    people = [evolve(subscriber, token="") for subscriber in ledger.subscribers()]
    rows = sorted((_plain(row) for row in ledger.deliveries()), key=_slot)
    return ledger.release(), list(ledger.log()), people, rows


def _plain(row: Delivery) -> Delivery:
    """Return `row` without attempts, and with the time of a retry only if it is deferred."""
    return evolve(row, attempts=0, retry_at=row.retry_at if row.state == "deferred" else None)


def _slot(row: Delivery) -> tuple[int, int]:
    return row.subscriber, row.number


def compare(database: PulsingDatabase, examples: int) -> None:
    """Play that many histories on both ledgers."""

    @chosen(examples)
    @given(STEPS, STARTS)
    def histories(steps: list[Step], start: int) -> None:
        worlds = [play(steps, start, each) for each in (_Memory(), _Tables(database))]
        rules, tables = worlds
        assert final_state(tables.ledger) == final_state(rules.ledger)
        assert [person.received for person in tables.people.values()] == [
            person.received for person in rules.people.values()
        ]

    histories()


@pytest.mark.parametrize("examples", [FEW, SLOW])
def test_the_store_agrees_with_the_ledger_in_memory(sqlite: PulsingDatabase, examples: int) -> None:
    """The same steps lead to the same log entries, cursors and deliveries."""
    compare(sqlite, examples)


@pytest.mark.slow
def test_postgresql_agrees_with_the_ledger_in_memory(postgres: PulsingDatabase) -> None:
    """The same steps lead to the same result on PostgreSQL."""
    compare(postgres, SOME)


# A crash before each transaction in turn


def crash_before(database: PulsingDatabase, step: int) -> World:
    """Crash a run that has work of every kind before its step number `step`, then continue."""
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


@pytest.mark.slow
def test_a_crash_before_any_step_loses_and_repeats_nothing(
    sqlite: PulsingDatabase,
) -> None:
    """A run may crash before each transaction and on either side of each email."""
    for step in count(1):
        world = crash_before(sqlite, step)
        uncertain = [row for row in world.ledger.deliveries() if row.state == "uncertain"]
        assert len(uncertain) <= StoreLedger.connections
        if not world.effects["crash"]:
            break
    assert step > 30
