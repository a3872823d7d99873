"""The store as a ledger for the oracle in world.py, and a run over it in the order of `send`.

The ledger reads its answers from the tables, and changes subscribers by the methods of the store,
whose results must follow the delivery rules.
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
from tests.reference.delivery import Delivery, Reply
from tests.reference.ledger import CONNECTIONS, Crash, RunContext
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
    """Open the database at `url` with its tables, without durability."""
    database = make_engine(url, folder)
    if database.is_sqlite:
        event.listen(database.engine, "connect", _hasty)
    require_tables(database)
    return PulsingDatabase(database)


def _hasty(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF").close()


def emptied(database: PulsingDatabase) -> PulsingDatabase:
    """Empty all tables and restart the ids, because the world counts its people from 1."""
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
    """A ledger that is the store."""

    connections = CONNECTIONS

    def __init__(self, database: PulsingDatabase) -> None:
        self.pulse: Callable[[], None] = lambda: None
        database.release_lock()
        self.database = emptied(database)
        self.database.pulse = self.step
        self.store = make_store(database)
        self._read: tuple[int, dict[str, Any]] = (0, {})

    def step(self) -> None:
        """Call `pulse` before a transaction."""
        self.pulse()

    def _once(self, name: str, read: Callable[[], Any]) -> Any:
        """Return the result of `read`, cached until the next write."""
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
        """Return all log entries."""
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
        query = sa.select(deliveries, issues.c.frequency, issues.c.cutoff, issues.c.language)
        query = query.join(issues, issues.c.id == deliveries.c.issue).order_by(deliveries.c.id)
        posts: dict[int, list[str]] = defaultdict(list)
        with self.database.reading() as connection:
            order = issue_posts.c.issue, issue_posts.c.position
            for row in connection.execute(sa.select(issue_posts).order_by(*order)):
                posts[row.issue].append(row.post)
            return {
                row.id: Delivery(
                    row.subscriber,
                    row.number,
                    Issue(row.frequency, _issue_cutoff(row), tuple(posts[row.issue]), row.language),
                    row.state,
                    row.attempts,
                    row.retry_at,
                )
                for row in connection.execute(query)
            }

    def save(self, subscriber: Subscriber) -> None:
        """Change the stored subscriber to this one, and check the result."""
        before = next((each for each in self.subscribers() if each.id == subscriber.id), None)
        if before is None:
            before = evolve(
                subscriber,
                state="pending",
                cursor=Cursor(date.min),
                start=date.min,
                token=f"token {subscriber.id}",
            )
            self.store.subscribers.add([before], EARLIER)
        chosen = subscriber.frequency, subscriber.topics, subscriber.language
        if chosen != (before.frequency, before.topics, before.language):
            self.store.subscribers.set_preferences(subscriber.id, *chosen)
        if subscriber.state != before.state:
            self._move(before, subscriber)
        stored = next(each for each in self.subscribers() if each.id == subscriber.id)
        assert stored == evolve(subscriber, token=before.token)

    def _move(self, stored: Subscriber, to: Subscriber) -> None:
        if to.state == "unsubscribed":
            self.store.subscribers.stop([stored.address], "unsubscribed")
        elif to.state == "paused":
            self.store.subscribers.pause(stored.id)
        elif stored.state == "paused":
            self.store.subscribers.resume(stored.id)
        else:
            self.store.subscribers.confirm(stored.id, Cursor(to.start, to.cursor.seq))

    def insert(self, delivery: Delivery) -> None:
        """Plan the delivery of a welcome issue."""
        number = self.store.issues.freeze(make_snapshot(delivery.issue, EARLIER))
        assert self.store.deliveries.plan_welcome(delivery.subscriber, number, EARLIER)

    def run(
        self, context: RunContext, now: datetime, *, yes: bool = False, accept: bool = False
    ) -> None:
        """Do one run; release the lock of a run that crashes."""
        try:
            run_on(self.store, self._store_context(context), now, yes=yes, accept=accept)
        except Crash:
            self.database.release_lock()
            raise

    def run_again(self, context: RunContext, clock: datetime) -> None:
        """Send uncertain deliveries again."""
        try:
            resend_on(self.store, self._store_context(context), clock)
        except Crash:
            self.database.release_lock()
            raise

    def _store_context(self, context: RunContext) -> StoreContext:
        def send(claim: ClaimedDelivery, posts: tuple[str, ...]) -> Reply:
            row = self.rows()[claim.id]
            assert (row.subscriber, row.number) == (claim.subscriber, claim.number)
            # The model counts the attempts that were answered, the store those that were begun.
            return context.mail(evolve(row, attempts=claim.attempts - 1), posts)

        return StoreContext(context.news, context.zone, send, context.opened, self.connections)


def _issue_cutoff(row: sa.Row[Any]) -> Cursor:
    """Return the cutoff of the issue of a row."""
    if row.frequency == "post":
        return Cursor(date.min, row.cursor_seq)
    return Cursor(row.cutoff)


def make_snapshot(issue: Issue, at: datetime) -> IssueSnapshot:
    """Return `issue` as it is frozen at the instant `at`."""
    return IssueSnapshot(issue.frequency, issue.cutoff.date, issue.language, issue.posts, at)


# A run over the store


class StoreContext:
    """The inputs of a run over the store; `send` takes a claim and the posts of its issue."""

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
    store: Store, context: StoreContext, now: datetime, *, yes: bool = False, accept: bool = False
) -> None:
    """Do one run; raise `StoppedError` before any change."""
    run = store.runs.begin(now)
    try:
        plan_input = look_up_posts(
            store, context.site, context.content, now, Overrides(yes=yes, accept_missing=accept)
        )
    except StoppedError:
        store.runs.end(run, now)
        raise
    clock = plan_input.run.state.clock
    settle_log(store, run, plan_input)
    context.opened(plan_input.update.state)
    plan_issues(store, run, context.content, plan_input)
    _send(store, run, context, clock)
    store.runs.end(run, clock)


def _send(store: Store, run: int, context: StoreContext, clock: datetime) -> None:
    outcomes: list[DeliveryOutcome] = []
    while claims := store.deliveries.record_and_claim(
        run, outcomes, context.connections, clock, str
    ):
        outcomes = []
        for claim in claims:
            issue = store.issues.find(claim.issue)
            assert issue
            outcomes.append(_outcome(claim, context.send(claim, issue.posts), clock))


def resend_on(store: Store, context: StoreContext, clock: datetime) -> None:
    """Send uncertain deliveries again with their visible posts, unless they have none."""
    news, last = context.content.visible_posts(clock), 0
    run = store.runs.begin(clock)
    outcomes: list[DeliveryOutcome] = []
    while claims := store.deliveries.record_and_claim_uncertain(
        run, outcomes, context.connections, clock, str, after=last
    ):
        outcomes, last = [], claims[-1].id
        for claim in claims:
            issue = store.issues.find(claim.issue)
            assert issue
            posts = tuple(post for post in issue.posts if post in news)
            reply: Reply = context.send(claim, posts) if posts else "uncertain"
            outcomes.append(_outcome(claim, reply, clock))
    store.runs.end(run, clock)


def _outcome(claim: ClaimedDelivery, reply: Reply, clock: datetime) -> DeliveryOutcome:
    due = clock + retry_delay(claim.attempts) if reply == "deferred" else None
    return DeliveryOutcome(claim.id, reply, "", due)
