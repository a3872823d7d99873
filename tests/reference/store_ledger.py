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

from postroom.db.engine import Database, make_engine
from postroom.db.migrate import require_tables
from postroom.db.schema import deliveries, issue_posts, issues, metadata
from postroom.db.store import Store, make_store
from postroom.errors import StoppedError
from postroom.models import (
    ClaimedDelivery,
    Cursor,
    Delivery,
    DeliveryOutcome,
    Issue,
    IssueSnapshot,
    LogEntry,
    RunState,
    Site,
    Subscriber,
)
from postroom.scheduling.rules import VisiblePost
from postroom.send.outcomes import retry_delay
from postroom.send.run import Overrides, look_up_posts, plan_issues, settle_log
from tests.reference.delivery import Reply
from tests.reference.ledger import CONNECTIONS, Crash, Office
from tests.support.content import FixedContentSource

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
    database = make_engine(url, folder)
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
        database.release_lock()
        self.database = emptied(database)
        self.database.pulse = self.step
        self.store = make_store(database)
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

    def release(self) -> RunState | None:
        """Return the state row."""
        found: RunState | None = self._once("release", self.store.post_log.state)
        return found

    def log(self) -> Sequence[LogEntry]:
        """Return all arrivals."""
        found: list[LogEntry] = self._once("log", lambda: list(self.store.post_log.entries()))
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
        asked = sa.select(deliveries, issues.c.frequency, issues.c.cutoff, issues.c.language)
        asked = asked.join(issues, issues.c.id == deliveries.c.issue).order_by(deliveries.c.id)
        posts: dict[int, list[str]] = defaultdict(list)
        with self.database.reading() as connection:
            order = issue_posts.c.issue, issue_posts.c.position
            for row in connection.execute(sa.select(issue_posts).order_by(*order)):
                posts[row.issue].append(row.post)
            return {
                row.id: Delivery(
                    row.subscriber,
                    row.number,
                    Issue(row.frequency, _reach(row), tuple(posts[row.issue]), row.language),
                    row.state,
                    row.attempts,
                    row.retry_at,
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
                cursor=Cursor(date.min),
                start=date.min,
                token=f"token {subscriber.id}",
            )
            self.store.subscribers.add([held], EARLIER)
        chosen = subscriber.frequency, subscriber.topics, subscriber.language
        if chosen != (held.frequency, held.topics, held.language):
            self.store.subscribers.set_preferences(subscriber.id, *chosen)
        if subscriber.state != held.state:
            self._move(held, subscriber)
        stored = next(one for one in self.subscribers() if one.id == subscriber.id)
        assert stored == evolve(subscriber, token=held.token)

    def _move(self, held: Subscriber, to: Subscriber) -> None:
        if to.state == "unsubscribed":
            self.store.subscribers.stop([held.address], "unsubscribed")
        elif to.state == "paused":
            self.store.subscribers.pause(held.id)
        elif held.state == "paused":
            self.store.subscribers.resume(held.id)
        else:
            self.store.subscribers.confirm(held.id, Cursor(to.start, to.cursor.seq))

    def insert(self, delivery: Delivery) -> None:
        """Plan a welcome letter."""
        number = self.store.issues.freeze(frozen_of(delivery.issue, EARLIER))
        assert self.store.deliveries.plan_welcome(delivery.subscriber, number, EARLIER)

    def run(
        self, office: Office, now: datetime, *, yes: bool = False, accept: bool = False
    ) -> None:
        """Do one run; the turn of one that dies is free."""
        try:
            run_on(self.store, self._at_home(office), now, yes=yes, accept=accept)
        except Crash:
            self.database.release_lock()
            raise

    def run_again(self, office: Office, clock: datetime) -> None:
        """Send what is uncertain once more."""
        try:
            resend_on(self.store, self._at_home(office), clock)
        except Crash:
            self.database.release_lock()
            raise

    def _at_home(self, office: Office) -> StoreOffice:
        def send(claim: ClaimedDelivery, posts: tuple[str, ...]) -> Reply:
            row = self.rows()[claim.id]
            assert (row.subscriber, row.number) == (claim.subscriber, claim.number)
            # The machine counts the tries that were answered, the store those that were begun.
            return office.mail(evolve(row, attempts=claim.attempts - 1), posts)

        return StoreOffice(office.news, office.zone, send, office.opened, self.connections)


def _reach(row: sa.Row[Any]) -> Cursor:
    """Return what the letter of a row raises to: the row holds the bookmark that it makes."""
    if row.frequency == "post":
        return Cursor(date.min, row.cursor_seq)
    return Cursor(row.cutoff)


def frozen_of(letter: Issue, at: datetime) -> IssueSnapshot:
    """Return `letter` as it is frozen at the instant `at`."""
    return IssueSnapshot(letter.frequency, letter.cutoff.date, letter.language, letter.posts, at)


# A run over the store


class StoreOffice:
    """What a run over the store is given; `send` takes a claim and the posts of its letter."""

    def __init__(
        self,
        news: Callable[[datetime], Mapping[str, VisiblePost]],
        zone: ZoneInfo,
        send: Callable[[ClaimedDelivery, tuple[str, ...]], Reply],
        opened: Callable[[RunState], None] = lambda _: None,
        connections: int = CONNECTIONS,
    ) -> None:
        self.site = Site(
            title="News", url="https://news.example.com/", id="tag:", language="en", timezone=zone
        )
        self.content = FixedContentSource(news, self.site)
        self.send = send
        self.opened = opened
        self.connections = connections


def run_on(
    store: Store, office: StoreOffice, now: datetime, *, yes: bool = False, accept: bool = False
) -> None:
    """Do one run; raises `StoppedError` with nothing moved."""
    run = store.runs.begin(now)
    try:
        outlook = look_up_posts(
            store, office.site, office.content, now, Overrides(yes=yes, accept_missing=accept)
        )
    except StoppedError:
        store.runs.end(run, now)
        raise
    clock = outlook.run.state.clock
    settle_log(store, run, outlook)
    office.opened(outlook.update.state)
    plan_issues(store, run, office.content, outlook)
    _send(store, run, office, clock)
    store.runs.end(run, clock)


def _send(store: Store, run: int, office: StoreOffice, clock: datetime) -> None:
    outcomes: list[DeliveryOutcome] = []
    while claims := store.deliveries.record_and_claim(
        run, outcomes, office.connections, clock, str
    ):
        outcomes = []
        for claim in claims:
            letter = store.issues.find(claim.issue)
            assert letter
            outcomes.append(_outcome(claim, office.send(claim, letter.posts), clock))


def resend_on(store: Store, office: StoreOffice, clock: datetime) -> None:
    """Send again what is uncertain, less the posts that are gone; nothing, where all are."""
    news, last = office.content.visible_posts(clock), 0
    run = store.runs.begin(clock)
    outcomes: list[DeliveryOutcome] = []
    while claims := store.deliveries.record_and_claim_uncertain(
        run, outcomes, office.connections, clock, str, after=last
    ):
        outcomes, last = [], claims[-1].id
        for claim in claims:
            letter = store.issues.find(claim.issue)
            assert letter
            posts = tuple(post for post in letter.posts if post in news)
            reply: Reply = office.send(claim, posts) if posts else "uncertain"
            outcomes.append(_outcome(claim, reply, clock))
    store.runs.end(run, clock)


def _outcome(claim: ClaimedDelivery, reply: Reply, clock: datetime) -> DeliveryOutcome:
    due = clock + retry_delay(claim.attempts) if reply == "deferred" else None
    return DeliveryOutcome(claim.id, reply, "", due)
