"""Subscribers: who they are, what they chose, and what lies behind them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from postroom.address import key_of
from postroom.database.engine import Database
from postroom.database.schema import deliveries, events, subscribers
from postroom.database.statements import greater, insert
from postroom.model import Bookmark, DeliveryState, Frequency, State, Subscriber

OPEN: tuple[DeliveryState, ...] = ("planned", "deferred")
RECEIVING: tuple[State, ...] = ("pending", "active", "paused")


def from_row(row: sa.Row[Any]) -> Subscriber:
    """Return the subscriber that a row of all the table's columns is."""
    return Subscriber(
        id=row.id,
        address=row.address,
        state=row.state,
        frequency=row.frequency,
        topics=row.topics,
        language=row.language,
        bookmark=Bookmark(row.before, row.upto),
        start=row.start,
        letters=row.letters,
        token=row.token,
    )


def _values(subscriber: Subscriber) -> dict[str, object]:
    return {
        "key": key_of(subscriber.address),
        "address": subscriber.address,
        "state": subscriber.state,
        "frequency": subscriber.frequency,
        "topics": subscriber.topics,
        "language": subscriber.language,
        "before": subscriber.bookmark.before,
        "upto": subscriber.bookmark.upto,
        "start": subscriber.start,
        "letters": subscriber.letters,
        "token": subscriber.token,
    }


class Subscribers:
    """The rows of subscribers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, keys: Sequence[str]) -> dict[str, State]:
        """Return the states of those whose keys are among `keys`."""
        asked = sa.select(subscribers.c.key, subscribers.c.state)
        with self._database.reading() as connection:
            rows = connection.execute(asked.where(subscribers.c.key.in_(keys)))
            return {row.key: row.state for row in rows}

    def find(self, key: str) -> Subscriber | None:
        """Return the subscriber with this key."""
        return self._one(subscribers.c.key == key)

    def with_token(self, token: str) -> Subscriber | None:
        """Return the subscriber whose unsubscribe page this token opens."""
        return self._one(subscribers.c.token == token)

    def _one(self, condition: sa.ColumnElement[bool]) -> Subscriber | None:
        with self._database.reading() as connection:
            row = connection.execute(sa.select(subscribers).where(condition)).one_or_none()
            return from_row(row) if row else None

    def every(self, state: State | None = None) -> Generator[Subscriber, None, None]:
        """Yield all subscribers, or those in `state`, in the order in which they came."""
        asked = sa.select(subscribers).order_by(subscribers.c.id)
        if state:
            asked = asked.where(subscribers.c.state == state)
        return self._database.stream(asked, from_row)

    def count(self) -> Mapping[State, int]:
        """Return how many there are in each state."""
        asked = sa.select(subscribers.c.state, sa.func.count().label("number"))
        with self._database.reading() as connection:
            rows = connection.execute(asked.group_by(subscribers.c.state))
            return {row.state: row.number for row in rows}

    def add(
        self, newcomers: Sequence[Subscriber], at: datetime, consent: str = ""
    ) -> frozenset[str]:
        """Add those whose address and token are not there yet; return their keys.

        Their ids are given here. With `consent`, an event of each one says how they agreed.
        """
        if not newcomers:
            return frozenset()
        with self._database.writing() as connection:
            statement = insert(connection, subscribers).on_conflict_do_nothing()
            rows = [_values(newcomer) for newcomer in newcomers]
            returned = statement.returning(subscribers.c.id, subscribers.c.key)
            added = connection.execute(returned, rows).all()
            if consent and added:
                event = {"at": at, "kind": "consent", "detail": consent}
                connection.execute(events.insert(), [{**event, "subscriber": r.id} for r in added])
            return frozenset(row.key for row in added)

    def stop(self, keys: Sequence[str], state: State) -> int:
        """Put those who still receive into `state`, one of left, bounced and complained.

        Who receives nothing any more stays as they are; an open letter of the others is cancelled.
        Returns how many were stopped.
        """
        if not keys:
            return 0
        return self._move(subscribers.c.key.in_(keys), RECEIVING, state)

    def leave(self, token: str, at: datetime, way: str) -> bool:
        """Put the subscriber with this token into `left`, and write down when and which way.

        Who receives nothing any more stays as they are; an open letter is cancelled. Returns
        whether anything changed: a second time nothing does, and nothing is written.
        """
        condition = (subscribers.c.token == token) & subscribers.c.state.in_(RECEIVING)
        statement = sa.update(subscribers).where(condition).values(state="left")
        with self._database.writing() as connection:
            _cancel(connection, condition)
            whose = connection.scalar(statement.returning(subscribers.c.id))
            if whose is not None:
                event = {"at": at, "kind": "left", "detail": way, "subscriber": whose}
                connection.execute(events.insert().values(event))
            return whose is not None

    def pause(self, subscriber: int) -> bool:
        """Pause an active subscriber; the bookmark stays, so the backlog comes on return.

        An open letter is cancelled.
        """
        return self._move(subscribers.c.id == subscriber, ("active",), "paused") == 1

    def resume(self, subscriber: int) -> bool:
        """Make a paused subscriber active."""
        return self._move(subscribers.c.id == subscriber, ("paused",), "active") == 1

    def _move(self, whose: sa.ColumnElement[bool], before: Sequence[State], after: State) -> int:
        with self._database.writing() as connection:
            return moved(connection, whose, before, after)

    def confirm(self, subscriber: int, bookmark: Bookmark) -> bool:
        """Make a subscriber active whose own confirmation has come, from whatever state.

        What lies behind `bookmark` is not owed, and what returns is only if it first came at or
        after its date; neither part of the stored one falls, nor does the start.
        """
        statement = (
            sa.update(subscribers)
            .where(subscribers.c.id == subscriber)
            .values(
                state="active",
                before=greater(subscribers.c.before, bookmark.before),
                upto=greater(subscribers.c.upto, bookmark.upto),
                start=greater(subscribers.c.start, bookmark.before),
            )
        )
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1

    def prefer(
        self, subscriber: int, frequency: Frequency, topics: frozenset[str], language: str
    ) -> bool:
        """Set what the subscriber chose; bookmark and state stay."""
        statement = (
            sa.update(subscribers)
            .where(subscribers.c.id == subscriber)
            .values(frequency=frequency, topics=topics, language=language)
        )
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1


def moved(
    connection: sa.Connection,
    whose: sa.ColumnElement[bool],
    before: Sequence[State],
    after: State,
) -> int:
    """Put subscribers from a state of `before` into `after`, within a transaction that writes.

    An open letter of who is no longer active is cancelled. Returns how many were moved.
    """
    condition = whose & subscribers.c.state.in_(before)
    if after != "active":
        _cancel(connection, condition)
    return connection.execute(sa.update(subscribers).where(condition).values(state=after)).rowcount


def _cancel(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> None:
    """Cancel the open letters of the subscribers of whom `condition` is true."""
    whose = sa.select(subscribers.c.id).where(condition)
    statement = sa.update(deliveries).where(
        deliveries.c.subscriber.in_(whose), deliveries.c.state.in_(OPEN)
    )
    connection.execute(statement.values(state="cancelled"))
