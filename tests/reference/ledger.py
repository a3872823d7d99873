"""A ledger in memory and a run over it, as a model of the store and of `send`.

The oracle in world.py uses a ledger only by the Protocol below, so it can also check a store in a
database.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, time
from typing import Protocol
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from postroom.models import Frequency, Group, LogEntry, RunState, Subscriber
from postroom.scheduling.rules import (
    DuePosts,
    LogUpdate,
    VisiblePost,
    advance_run,
    due_posts,
    target_cursor,
    update_log,
)
from tests.reference.delivery import (
    CLAIMABLE,
    FINAL,
    REPLACEABLE,
    Delivery,
    Reply,
    closed,
    has_received,
    lapses,
    left_alone,
    moved,
    placed,
    replied,
    resend,
    sendable,
    swept,
)

SEND_AT = time(9)
FREQUENCIES: tuple[Frequency, ...] = ("post", "day", "week", "month")
CONNECTIONS = 2


class Crash(BaseException):
    """The process dies and loses everything that it did not store."""


Mailer = Callable[[Delivery, tuple[str, ...]], Reply]
"""Sends the posts of a delivery and returns the reply of the server."""


@frozen
class RunContext:
    """The inputs of a run: the posts at an instant, the time zone and the mailer."""

    news: Callable[[datetime], Mapping[str, VisiblePost]]
    zone: ZoneInfo
    mail: Mailer
    opened: Callable[[RunState], None] = lambda _: None


class Ledger(Protocol):
    """The stored state, and runs over it.

    `pulse` is called before each transaction of a run and may raise `Crash`.
    """

    pulse: Callable[[], None]

    def release(self) -> RunState | None:
        """Return the state row, None before the first run."""

    def log(self) -> Sequence[LogEntry]:
        """Return all log entries, oldest first."""

    def subscribers(self) -> Sequence[Subscriber]:
        """Return all subscribers."""

    def deliveries(self) -> Sequence[Delivery]:
        """Return all rows of the ledger."""

    def save(self, subscriber: Subscriber) -> None:
        """Insert or update; cancel open deliveries of a subscriber who is not active."""

    def insert(self, delivery: Delivery) -> None:
        """Insert the planned delivery of a welcome issue."""

    def run(
        self, context: RunContext, now: datetime, *, yes: bool = False, accept: bool = False
    ) -> None:
        """Do one run; raise `StoppedError` before any change."""

    def run_again(self, context: RunContext, clock: datetime) -> None:
        """Send uncertain deliveries again, as `--resend-uncertain` does."""


def slot(delivery: Delivery) -> tuple[int, int]:
    """Return the key of a delivery: its subscriber and its number."""
    return delivery.subscriber, delivery.number


class MemoryLedger:
    """A ledger of two dictionaries and a tuple."""

    connections = CONNECTIONS

    def __init__(self) -> None:
        self.pulse: Callable[[], None] = lambda: None
        self.state: RunState | None = None
        self.entries: tuple[LogEntry, ...] = ()
        self.people: dict[int, Subscriber] = {}
        self.rows: dict[tuple[int, int], Delivery] = {}

    def step(self) -> None:
        """Call `pulse` before a transaction."""
        self.pulse()

    def run(
        self, context: RunContext, now: datetime, *, yes: bool = False, accept: bool = False
    ) -> None:
        """Do one run."""
        run(self, context, now, yes=yes, accept=accept)

    def run_again(self, context: RunContext, clock: datetime) -> None:
        """Send uncertain deliveries again."""
        run_again(self, context, clock)

    def release(self) -> RunState | None:
        """Return the state row."""
        return self.state

    def log(self) -> Sequence[LogEntry]:
        """Return all log entries."""
        return self.entries

    def subscribers(self) -> Sequence[Subscriber]:
        """Return all subscribers."""
        return tuple(self.people.values())

    def deliveries(self) -> Sequence[Delivery]:
        """Return all rows."""
        return tuple(self.rows.values())

    def save(self, subscriber: Subscriber) -> None:
        """Insert or update; cancel open deliveries of a subscriber who is not active."""
        self.people[subscriber.id] = subscriber
        for key, row in self.rows.items():
            gone = key[0] == subscriber.id and subscriber.state != "active"
            if gone and row.state in CLAIMABLE:
                self.rows[key] = moved(row, "cancelled")

    def insert(self, delivery: Delivery) -> None:
        """Insert a row."""
        assert slot(delivery) not in self.rows
        self.rows[slot(delivery)] = delivery

    def open(self, opening: LogUpdate) -> None:
        """Store the opening of a run."""
        self.step()
        self.entries = opening.log(self.entries)
        self.state = opening.state

    def sweep(self) -> None:
        """Mark deliveries left in `sending` by a crashed run as `uncertain`."""
        dead = [row for row in self.rows.values() if row.state == "sending"]
        if dead:
            self.step()
        for row in dead:
            self._store(swept(row))

    def plan(self, release: RunState, news: Mapping[str, VisiblePost]) -> None:
        """Plan each group; split a group if some of it have received a returned post."""
        for group, members in sorted(self.groups(release).items(), key=_by_group):
            raising_to = target_cursor(group.frequency, release.released, self.last_seq)
            whole = due_posts(group, raising_to, self.entries, news)
            for had, some in self._split(whole, members).items():
                self.step()
                for member in some:
                    self.place(member, whole.without(had), news)

    @property
    def last_seq(self) -> int:
        """The number of the newest log entry."""
        return self.entries[-1].seq if self.entries else 0

    def groups(self, release: RunState) -> Mapping[Group, Sequence[Subscriber]]:
        """Return the subscribers of each group for which a run plans."""
        groups: dict[Group, list[Subscriber]] = defaultdict(list)
        for person in self.people.values():
            raising_to = target_cursor(person.frequency, release.released, self.last_seq)
            row = self.rows.get((person.id, person.issues))
            if person.state == "active" and not left_alone(row, raising_to):
                group = Group(person.frequency, person.cursor, person.topics, person.language)
                groups[group].append(person)
        return groups

    def _split(
        self, whole: DuePosts, members: Iterable[Subscriber]
    ) -> Mapping[frozenset[str], Sequence[Subscriber]]:
        classes: dict[frozenset[str], list[Subscriber]] = defaultdict(list)
        for member in members:
            delivered = self.delivered(member.id) if whole.returned else frozenset()
            had = {e.post_id for e in whole.returned if has_received(e, member.start, delivered)}
            classes[frozenset(had)].append(member)
        order = [entry.post_id for entry in whole.returned]
        return dict(sorted(classes.items(), key=lambda item: [post in item[0] for post in order]))

    def delivered(self, subscriber: int) -> frozenset[str]:
        """Return the posts of all closed deliveries of a subscriber."""
        count = self.people[subscriber].issues
        rows = (r for r in self.rows.values() if r.subscriber == subscriber and r.number < count)
        return frozenset(post for row in rows for post in row.issue.posts)

    def place(self, member: Subscriber, part: DuePosts, visible: Collection[str]) -> None:
        """Plan the issue of `part`, or raise the cursor, unless `member` has changed."""
        planned = part.issue and Delivery(member.id, member.issues, part.issue)
        key = slot(planned) if planned else (member.id, member.issues)
        row = self.rows.get(key)
        if self.people[member.id] != member or (row and row.state not in REPLACEABLE):
            return
        if planned:
            self.rows[key] = placed(row, planned)
        else:
            self.people[member.id] = evolve(member, cursor=part.cursor)
            if row and lapses(row, visible):
                self.rows[key] = moved(row, "cancelled")

    def claimable(self, clock: datetime) -> Sequence[tuple[int, int]]:
        """Return the keys of planned deliveries and of deferred ones after their retry time."""
        return [
            key
            for key, row in self.rows.items()
            if row.state == "planned"
            or (row.state == "deferred" and row.retry_at and row.retry_at <= clock)
        ]

    def claim(self, key: tuple[int, int]) -> tuple[Delivery, Subscriber] | None:
        """Mark a row as `sending` if it is sendable."""
        self.step()
        row, subscriber = self.rows[key], self.people[key[0]]
        if not sendable(row, subscriber):
            return None
        self.rows[key] = moved(row, "sending")
        return self.rows[key], subscriber

    def claim_again(self, key: tuple[int, int]) -> tuple[Delivery, Subscriber]:
        """Mark an uncertain row as `sending`."""
        self.step()
        self.rows[key] = moved(self.rows[key], "sending")
        return self.rows[key], self.people[key[0]]

    def record(self, delivery: Delivery) -> None:
        """Store the outcome."""
        self.step()
        self._store(delivery)

    def _store(self, delivery: Delivery) -> None:
        self.rows[slot(delivery)] = delivery
        if delivery.state in FINAL:
            owner = self.people[delivery.subscriber]
            self.people[owner.id] = closed(owner, delivery)


def _by_group(item: tuple[Group, object]) -> tuple[object, ...]:
    """Return the key that sorts groups as a database does, for the same order of sending."""
    group = item[0]
    topics = json.dumps(sorted(group.topics))
    return (
        group.frequency,
        group.cursor.date,
        group.cursor.seq,
        topics,
        group.language,
    )


def run(
    ledger: MemoryLedger,
    context: RunContext,
    now: datetime,
    *,
    yes: bool = False,
    accept: bool = False,
) -> None:
    """Do one run; raise `StoppedError` before any change."""
    this = advance_run(ledger.release(), now, context.zone, SEND_AT, yes=yes)
    news = context.news(this.state.clock)
    first = update_log(this, ledger.log(), news, FREQUENCIES, accept_missing=accept)
    ledger.sweep()
    ledger.open(first)
    context.opened(this.state)
    ledger.plan(this.state, news)
    keys = ledger.claimable(this.state.clock)
    for start in range(0, len(keys), ledger.connections):
        claims = [ledger.claim(key) for key in keys[start : start + ledger.connections]]
        for delivery, subscriber in filter(None, claims):
            reply = context.mail(delivery, delivery.issue.posts)
            ledger.record(replied(delivery, reply, this.state.clock, subscriber))


def run_again(ledger: MemoryLedger, context: RunContext, clock: datetime) -> None:
    """Send uncertain deliveries again, as `--resend-uncertain` does."""
    people = {person.id: person for person in ledger.subscribers()}
    news = context.news(clock)
    for row in ledger.deliveries():
        posts = resend(row, people[row.subscriber], news)
        if posts:
            delivery, subscriber = ledger.claim_again(slot(row))
            reply = context.mail(delivery, posts)
            ledger.record(replied(delivery, reply, clock, subscriber))
