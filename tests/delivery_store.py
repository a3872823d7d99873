"""The store as a ledger of delivery_machine.py, and a run over it in the order that `send` keeps.

What the machine asks of a ledger is answered from the tables; what it does to subscribers is done
by the store's own methods, and must come out as the rules say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from attrs import evolve
from sqlalchemy import event

from delivery_ledger import CONNECTIONS, Crash, Office
from postroom.database.engine import Database, engine_for
from postroom.database.schema import deliveries, letter_posts, letters, metadata
from postroom.database.versions import require_tables
from postroom.delivery.arrivals import News
from postroom.delivery.ledger import Reply, wait
from postroom.errors import StoppedError
from postroom.model import (
    Arrival,
    Bookmark,
    Claim,
    Delivery,
    FrozenLetter,
    Letter,
    Outcome,
    Release,
    Site,
    Subscriber,
)
from postroom.send.opening import Consent, look, plan, settle
from postroom.store import Store, store_in

EARLIER = datetime(2026, 1, 1, tzinfo=UTC)


class PulsingDatabase(Database):
    """A database that counts its writing transactions and calls `pulse` before each."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine, database.name)
        self.pulse: Callable[[], None] = lambda: None
        self.writes = 0

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes, unless the process dies before it."""
        self.pulse()
        self.writes += 1
        with super().writing() as connection:
            yield connection


def opened(url: str, folder: Path) -> PulsingDatabase:
    """Open the database at `url` with its tables; what is durable is no question here."""
    database = engine_for(url, folder)
    if database.is_sqlite:
        event.listen(database.engine, "connect", _hasty)
    require_tables(database)
    return PulsingDatabase(database)


def _hasty(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF").close()


def emptied(database: PulsingDatabase) -> PulsingDatabase:
    """Empty all tables, and let the ids begin anew: the machine counts its people from 1."""
    names = [table.name for table in metadata.sorted_tables if table.name != "postroom_version"]
    database.pulse = lambda: None
    with database.writing() as connection:
        if database.is_sqlite:
            for name in (*reversed(names), "sqlite_sequence"):
                connection.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608 - our own names
        else:
            listed = ", ".join(f'"{name}"' for name in names)
            connection.exec_driver_sql(f"TRUNCATE {listed} RESTART IDENTITY CASCADE")
    return database


class StoreLedger:
    """The machine's Protocol, answered by the store."""

    connections = CONNECTIONS

    def __init__(self, database: PulsingDatabase) -> None:
        self.pulse: Callable[[], None] = lambda: None
        database.give_turn_back()
        self.database = emptied(database)
        self.database.pulse = self.step
        self.store = store_in(database)
        self._read: tuple[int, dict[str, Any]] = (0, {})

    def step(self) -> None:
        """Do what is done before each transaction."""
        self.pulse()

    def _once(self, name: str, read: Callable[[], Any]) -> Any:
        """Return what `read` returns, asked once between two writes: the oracle asks often."""
        if self._read[0] != self.database.writes:
            self._read = (self.database.writes, {})
        if name not in self._read[1]:
            self._read[1][name] = read()
        return self._read[1][name]

    def release(self) -> Release | None:
        """Return the state row."""
        found: Release | None = self._once("release", self.store.arrivals.release)
        return found

    def log(self) -> Sequence[Arrival]:
        """Return all arrivals."""
        found: list[Arrival] = self._once("log", lambda: list(self.store.arrivals.log()))
        return found

    def subscribers(self) -> Sequence[Subscriber]:
        """Return all subscribers."""
        found: list[Subscriber] = self._once(
            "subscribers", lambda: list(self.store.subscribers.every())
        )
        return found

    def deliveries(self) -> Sequence[Delivery]:
        """Return all rows."""
        return list(self.rows().values())

    def rows(self) -> Mapping[int, Delivery]:
        """Return all rows by the id of the table."""
        found: Mapping[int, Delivery] = self._once("rows", self._rows)
        return found

    def _rows(self) -> Mapping[int, Delivery]:
        asked = sa.select(deliveries, letters.c.frequency, letters.c.boundary, letters.c.language)
        asked = asked.join(letters, letters.c.id == deliveries.c.letter).order_by(deliveries.c.id)
        posts: dict[int, list[str]] = defaultdict(list)
        with self.database.reading() as connection:
            order = letter_posts.c.letter, letter_posts.c.position
            for row in connection.execute(sa.select(letter_posts).order_by(*order)):
                posts[row.letter].append(row.post)
            return {
                row.id: Delivery(
                    row.subscriber,
                    row.n,
                    Letter(row.frequency, _reach(row), tuple(posts[row.letter]), row.language),
                    row.state,
                    row.attempts,
                    row.due,
                )
                for row in connection.execute(asked)
            }

    def save(self, subscriber: Subscriber) -> None:
        """Do what makes the stored subscriber this one, and see that it does."""
        held = next((one for one in self.subscribers() if one.id == subscriber.id), None)
        if held is None:
            held = evolve(
                subscriber,
                state="pending",
                bookmark=Bookmark(date.min),
                start=date.min,
                token=f"token {subscriber.id}",
            )
            self.store.subscribers.add([held], EARLIER)
        chosen = subscriber.frequency, subscriber.topics, subscriber.language
        if chosen != (held.frequency, held.topics, held.language):
            self.store.subscribers.prefer(subscriber.id, *chosen)
        if subscriber.state != held.state:
            self._move(held, subscriber)
        stored = next(one for one in self.subscribers() if one.id == subscriber.id)
        assert stored == evolve(subscriber, token=held.token)

    def _move(self, held: Subscriber, to: Subscriber) -> None:
        if to.state == "left":
            self.store.subscribers.stop([held.address], "left")
        elif to.state == "paused":
            self.store.subscribers.pause(held.id)
        elif held.state == "paused":
            self.store.subscribers.resume(held.id)
        else:
            self.store.subscribers.confirm(held.id, Bookmark(to.start, to.bookmark.upto))

    def insert(self, delivery: Delivery) -> None:
        """Plan a welcome letter."""
        number = self.store.letters.freeze(frozen_of(delivery.letter, EARLIER))
        assert self.store.ledger.greet(delivery.subscriber, number, EARLIER)

    def run(
        self, office: Office, now: datetime, *, yes: bool = False, accept: bool = False
    ) -> None:
        """Do one run; the turn of one that dies is free."""
        try:
            run_on(self.store, self._at_home(office), now, yes=yes, accept=accept)
        except Crash:
            self.database.give_turn_back()
            raise

    def run_again(self, office: Office, clock: datetime) -> None:
        """Send what is uncertain once more."""
        try:
            resend_on(self.store, self._at_home(office), clock)
        except Crash:
            self.database.give_turn_back()
            raise

    def _at_home(self, office: Office) -> StoreOffice:
        def send(claim: Claim, posts: tuple[str, ...]) -> Reply:
            row = self.rows()[claim.id]
            assert (row.subscriber, row.number) == (claim.subscriber, claim.number)
            # The machine counts the tries that were answered, the store those that were begun.
            return office.mail(evolve(row, attempts=claim.attempts - 1), posts)

        return StoreOffice(office.news, office.zone, send, office.opened, self.connections)


def _reach(row: sa.Row[Any]) -> Bookmark:
    """Return what the letter of a row raises to: the row holds the bookmark that it makes."""
    if row.frequency == "post":
        return Bookmark(date.min, row.upto)
    return Bookmark(row.boundary)


def frozen_of(letter: Letter, at: datetime) -> FrozenLetter:
    """Return `letter` as it is frozen at the instant `at`."""
    return FrozenLetter(letter.frequency, letter.reach.before, letter.language, letter.posts, at)


# A run over the store


class StoreOffice:
    """What a run over the store is given; `send` takes a claim and the posts of its letter."""

    def __init__(
        self,
        news: Callable[[datetime], Mapping[str, News]],
        zone: ZoneInfo,
        send: Callable[[Claim, tuple[str, ...]], Reply],
        opened: Callable[[Release], None] = lambda _: None,
        connections: int = CONNECTIONS,
    ) -> None:
        self.news = news
        self.site = Site(
            title="News", url="https://news.example.com/", id="tag:", language="en", timezone=zone
        )
        self.send = send
        self.opened = opened
        self.connections = connections

    def write(self, _letter: Letter, _date: datetime) -> bytes:
        """Return nothing: what a letter says is no question here."""
        return b""


def run_on(
    store: Store, office: StoreOffice, now: datetime, *, yes: bool = False, accept: bool = False
) -> None:
    """Do one run; raises `StoppedError` with nothing moved."""
    run = store.runs.begin(now)
    try:
        outlook = look(store, office.site, office, now, Consent(yes=yes, accept_missing=accept))
    except StoppedError:
        store.runs.end(run, now)
        raise
    clock = outlook.run.release.clock
    settle(store, run, outlook)
    office.opened(outlook.opening.release)
    plan(store, run, office, outlook)
    _send(store, run, office, clock)
    store.runs.end(run, clock)


def _send(store: Store, run: int, office: StoreOffice, clock: datetime) -> None:
    outcomes: list[Outcome] = []
    while claims := store.ledger.turn(run, outcomes, office.connections, clock, str):
        outcomes = []
        for claim in claims:
            letter = store.letters.find(claim.letter)
            assert letter
            outcomes.append(_outcome(claim, office.send(claim, letter.posts), clock))


def resend_on(store: Store, office: StoreOffice, clock: datetime) -> None:
    """Send again what is uncertain, less the posts that are gone; nothing, where all are."""
    news, last = office.news(clock), 0
    run = store.runs.begin(clock)
    outcomes: list[Outcome] = []
    while claims := store.ledger.turn_again(
        run, outcomes, office.connections, clock, str, after=last
    ):
        outcomes, last = [], claims[-1].id
        for claim in claims:
            letter = store.letters.find(claim.letter)
            assert letter
            posts = tuple(post for post in letter.posts if post in news)
            reply: Reply = office.send(claim, posts) if posts else "uncertain"
            outcomes.append(_outcome(claim, reply, clock))
    store.runs.end(run, clock)


def _outcome(claim: Claim, reply: Reply, clock: datetime) -> Outcome:
    due = clock + wait(claim.attempts) if reply == "deferred" else None
    return Outcome(claim.id, reply, "", due)
