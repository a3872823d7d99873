"""A ledger in memory and a run over it: what a store and a send job make of the decisions.

The machine of delivery_machine.py knows a ledger by the Protocol below and by nothing else, so the
same machine can be run against a store that keeps all this in a database.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, time
from typing import Protocol
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from postroom.models import Delivery, Frequency, Group, LogEntry, RunState, Subscriber
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
    """The process is gone; nothing of what it had not stored is left."""


Mailer = Callable[[Delivery, tuple[str, ...]], Reply]
"""Sends the posts of a letter and tells what the server said."""


@frozen
class Office:
    """What a run is given: the posts as they stand at a clock, the zone, the way out."""

    news: Callable[[datetime], Mapping[str, VisiblePost]]
    zone: ZoneInfo
    mail: Mailer
    opened: Callable[[RunState], None] = lambda _: None


class Ledger(Protocol):
    """What is stored, and how it is run.

    `pulse` is called before each transaction of a run and may raise `Crash`.
    """

    pulse: Callable[[], None]

    def release(self) -> RunState | None:
        """Return the state row, None before the first run."""

    def log(self) -> Sequence[LogEntry]:
        """Return all arrivals, oldest first."""

    def subscribers(self) -> Sequence[Subscriber]:
        """Return all subscribers."""

    def deliveries(self) -> Sequence[Delivery]:
        """Return all rows of the ledger."""

    def save(self, subscriber: Subscriber) -> None:
        """Insert or update; cancel what is open for one who is not active."""

    def insert(self, delivery: Delivery) -> None:
        """Insert a welcome letter that is planned at a confirmation."""

    def run(
        self, office: Office, now: datetime, *, yes: bool = False, accept: bool = False
    ) -> None:
        """Do one run; raises `StoppedError` with nothing moved."""

    def run_again(self, office: Office, clock: datetime) -> None:
        """Send what is uncertain once more, as `--resend-uncertain` does."""


def slot(delivery: Delivery) -> tuple[int, int]:
    """Return the key of a delivery: one open letter per subscriber and count of closed ones."""
    return delivery.subscriber, delivery.number


class MemoryLedger:
    """The Protocol in two dictionaries and a list."""

    connections = CONNECTIONS

    def __init__(self) -> None:
        self.pulse: Callable[[], None] = lambda: None
        self.state: RunState | None = None
        self.arrivals: tuple[LogEntry, ...] = ()
        self.people: dict[int, Subscriber] = {}
        self.rows: dict[tuple[int, int], Delivery] = {}

    def step(self) -> None:
        """Do what is done before each transaction."""
        self.pulse()

    def run(
        self, office: Office, now: datetime, *, yes: bool = False, accept: bool = False
    ) -> None:
        """Do one run."""
        run(self, office, now, yes=yes, accept=accept)

    def run_again(self, office: Office, clock: datetime) -> None:
        """Send what is uncertain once more."""
        run_again(self, office, clock)

    def release(self) -> RunState | None:
        """Return the state row."""
        return self.state

    def log(self) -> Sequence[LogEntry]:
        """Return all arrivals."""
        return self.arrivals

    def subscribers(self) -> Sequence[Subscriber]:
        """Return all subscribers."""
        return tuple(self.people.values())

    def deliveries(self) -> Sequence[Delivery]:
        """Return all rows."""
        return tuple(self.rows.values())

    def save(self, subscriber: Subscriber) -> None:
        """Insert or update; cancel what is open for one who is not active."""
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
        self.arrivals = opening.log(self.arrivals)
        self.state = opening.state

    def sweep(self) -> None:
        """Close what a dead run left."""
        dead = [row for row in self.rows.values() if row.state == "sending"]
        if dead:
            self.step()
        for row in dead:
            self._store(swept(row))

    def plan(self, release: RunState, news: Mapping[str, VisiblePost]) -> None:
        """Plan group by group; a group is split where some have had what returned."""
        for group, members in sorted(self.groups(release).items(), key=_by_group):
            raising_to = target_cursor(group.frequency, release.released, self.last_seq)
            whole = due_posts(group, raising_to, self.arrivals, news)
            for had, some in self._split(whole, members).items():
                self.step()
                for member in some:
                    self.place(member, whole.without(had), news)

    @property
    def last_seq(self) -> int:
        """The newest arrival's seq."""
        return self.arrivals[-1].seq if self.arrivals else 0

    def groups(self, release: RunState) -> Mapping[Group, Sequence[Subscriber]]:
        """Return whom a run plans for, by what planning depends on."""
        groups: dict[Group, list[Subscriber]] = defaultdict(list)
        for one in self.people.values():
            raising_to = target_cursor(one.frequency, release.released, self.last_seq)
            row = self.rows.get((one.id, one.issues))
            if one.state == "active" and not left_alone(row, raising_to):
                groups[Group(one.frequency, one.cursor, one.topics, one.language)].append(one)
        return groups

    def _split(
        self, whole: DuePosts, members: Iterable[Subscriber]
    ) -> Mapping[frozenset[str], Sequence[Subscriber]]:
        classes: dict[frozenset[str], list[Subscriber]] = defaultdict(list)
        for one in members:
            delivered = self.delivered(one.id) if whole.returned else frozenset()
            had = {a.post_id for a in whole.returned if has_received(a, one.start, delivered)}
            classes[frozenset(had)].append(one)
        order = [one.post_id for one in whole.returned]
        return dict(sorted(classes.items(), key=lambda one: [post in one[0] for post in order]))

    def delivered(self, subscriber: int) -> frozenset[str]:
        """Return the posts of all letters closed for a subscriber."""
        letters = self.people[subscriber].issues
        rows = (r for r in self.rows.values() if r.subscriber == subscriber and r.number < letters)
        return frozenset(post for row in rows for post in row.issue.posts)

    def place(self, member: Subscriber, part: DuePosts, visible: Collection[str]) -> None:
        """Plan the letter of `part`, or raise the bookmark, unless `member` was overtaken."""
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
        """Return the keys of what is planned, and of what is deferred and due."""
        return [
            key
            for key, row in self.rows.items()
            if row.state == "planned"
            or (row.state == "deferred" and row.retry_at and row.retry_at <= clock)
        ]

    def claim(self, key: tuple[int, int]) -> tuple[Delivery, Subscriber] | None:
        """Turn a row into `sending`, if its subscriber still wants it."""
        self.step()
        row, subscriber = self.rows[key], self.people[key[0]]
        if not sendable(row, subscriber):
            return None
        self.rows[key] = moved(row, "sending")
        return self.rows[key], subscriber

    def claim_again(self, key: tuple[int, int]) -> tuple[Delivery, Subscriber]:
        """Turn an uncertain row into `sending`."""
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
    """Return what orders groups as a database does, so that letters leave in the same order."""
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
    ledger: MemoryLedger, office: Office, now: datetime, *, yes: bool = False, accept: bool = False
) -> None:
    """Do one run; raises `StoppedError` with nothing moved."""
    this = advance_run(ledger.release(), now, office.zone, SEND_AT, yes=yes)
    news = office.news(this.state.clock)
    first = update_log(this, ledger.log(), news, FREQUENCIES, accept_missing=accept)
    ledger.sweep()
    ledger.open(first)
    office.opened(this.state)
    ledger.plan(this.state, news)
    keys = ledger.claimable(this.state.clock)
    for start in range(0, len(keys), ledger.connections):
        claims = [ledger.claim(key) for key in keys[start : start + ledger.connections]]
        for delivery, subscriber in filter(None, claims):
            reply = office.mail(delivery, delivery.issue.posts)
            ledger.record(replied(delivery, reply, this.state.clock, subscriber))


def run_again(ledger: MemoryLedger, office: Office, clock: datetime) -> None:
    """Send what is uncertain once more, as `--resend-uncertain` does."""
    people = {one.id: one for one in ledger.subscribers()}
    news = office.news(clock)
    for row in ledger.deliveries():
        posts = resend(row, people[row.subscriber], news)
        if posts:
            delivery, subscriber = ledger.claim_again(slot(row))
            reply = office.mail(delivery, posts)
            ledger.record(replied(delivery, reply, clock, subscriber))
