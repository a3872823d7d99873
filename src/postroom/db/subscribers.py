"""Store subscribers and suppressed addresses, and group subscribers for planning."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import attrs
import sqlalchemy as sa

from postroom.db.compiled import greater, insert
from postroom.db.engine import Database
from postroom.db.schema import (
    deliveries,
    events,
    issue_posts,
    subscribers,
    suppression_key,
    suppressions,
)
from postroom.errors import Problem, SettingsError
from postroom.mail.address import address_key
from postroom.models import (
    Cursor,
    DeliveryState,
    Frequency,
    Group,
    LogEntry,
    Reason,
    Segment,
    State,
    Subscriber,
)

OPEN: tuple[DeliveryState, ...] = ("planned", "deferred")
"""States of deliveries that a plan may replace or cancel."""
RECEIVING: tuple[State, ...] = ("pending", "active", "paused")
"""States of subscribers who receive emails, or may do so later without subscribing again."""

# A field of Subscriber with a column of its own name needs no other mention in this module.
_FIELDS = tuple(field.name for field in attrs.fields(Subscriber) if field.name in subscribers.c)
_read_fields = attrgetter(*_FIELDS)


def from_row(row: sa.Row[Any]) -> Subscriber:
    """Return the subscriber that `row` holds; it must have all columns of the table."""
    values = dict(zip(_FIELDS, _read_fields(row), strict=True))
    return Subscriber(cursor=Cursor(row.cursor_date, row.cursor_seq), **values)


def _values(subscriber: Subscriber) -> dict[str, object]:
    """Return the values of the table's columns for `subscriber`, by name.

    The id is left out, as the database assigns it.
    """
    values = dict(zip(_FIELDS, _read_fields(subscriber), strict=True))
    del values["id"]
    return {
        **values,
        "key": address_key(subscriber.address),
        "cursor_date": subscriber.cursor.date,
        "cursor_seq": subscriber.cursor.seq,
    }


class SubscriberTable:
    """The table of subscribers.

    A *key* is the form of an email address in which addresses are compared, without regard to case
    (see `mail.address.address_key`).
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, keys: Sequence[str]) -> dict[str, State]:
        """Return the states of the subscribers whose keys are among `keys`, by key."""
        query = sa.select(subscribers.c.key, subscribers.c.state)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(subscribers.c.key.in_(keys)))
            return {row.key: row.state for row in rows}

    def find(self, key: str) -> Subscriber | None:
        """Return the subscriber with this key, None if there is none."""
        return self._find(subscribers.c.key == key)

    def with_token(self, token: str) -> Subscriber | None:
        """Return the subscriber with this unsubscribe token, None if there is none."""
        return self._find(subscribers.c.token == token)

    def _find(self, condition: sa.ColumnElement[bool]) -> Subscriber | None:
        with self._database.reading() as connection:
            row = connection.execute(sa.select(subscribers).where(condition)).one_or_none()
            return from_row(row) if row else None

    def every(self, state: State | None = None) -> Generator[Subscriber, None, None]:
        """Yield all subscribers, or those in `state`, in the order in which they were added."""
        query = sa.select(subscribers).order_by(subscribers.c.id)
        if state:
            query = query.where(subscribers.c.state == state)
        return self._database.stream(query, from_row)

    def count(self) -> Mapping[State, int]:
        """Return the number of subscribers in each state."""
        query = sa.select(subscribers.c.state, sa.func.count().label("number"))
        with self._database.reading() as connection:
            rows = connection.execute(query.group_by(subscribers.c.state))
            return {row.state: row.number for row in rows}

    def add(
        self, newcomers: Sequence[Subscriber], at: datetime, consent: str = ""
    ) -> frozenset[str]:
        """Add the `newcomers` whose address and token are new; return the keys of those added.

        The database assigns the ids. `consent` says how these people agreed to receive emails; if
        it is not empty, it is recorded as an event of each subscriber added.
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
                rows = [{**event, "subscriber": row.id} for row in added]
                connection.execute(events.insert(), rows)
            return frozenset(row.key for row in added)

    def stop(self, keys: Sequence[str], state: State) -> int:
        """Set the state of the subscribers with these keys, and cancel their open deliveries.

        `state` is unsubscribed, bounced or complained. Subscribers who are in one of these three
        states already stay as they are. Return the number of subscribers changed.
        """
        if not keys:
            return 0
        return self._move(subscribers.c.key.in_(keys), RECEIVING, state)

    def unsubscribe(self, token: str, at: datetime, method: str) -> bool:
        """Unsubscribe the subscriber with this token, and record when and by which `method`.

        Cancel an open delivery, if there is one. Return whether anything changed: if the subscriber
        is already unsubscribed, bounced or complained, nothing changes and no event is recorded.
        """
        condition = (subscribers.c.token == token) & subscribers.c.state.in_(RECEIVING)
        statement = sa.update(subscribers).where(condition).values(state="unsubscribed")
        with self._database.writing() as connection:
            _cancel(connection, condition)
            subscriber = connection.scalar(statement.returning(subscribers.c.id))
            if subscriber is not None:
                event = {
                    "at": at,
                    "kind": "unsubscribed",
                    "detail": method,
                    "subscriber": subscriber,
                }
                connection.execute(events.insert().values(event))
            return subscriber is not None

    def pause(self, subscriber: int) -> bool:
        """Pause an active subscriber and cancel an open delivery; return whether it was done.

        The cursor stays, so a subscriber who resumes is sent the posts of the pause, too.
        """
        return self._move(subscribers.c.id == subscriber, ("active",), "paused") == 1

    def resume(self, subscriber: int) -> bool:
        """Make a paused subscriber active; return whether the subscriber was paused."""
        return self._move(subscribers.c.id == subscriber, ("paused",), "active") == 1

    def _move(self, which: sa.ColumnElement[bool], states: Sequence[State], to: State) -> int:
        with self._database.writing() as connection:
            return move_subscribers(connection, which, states, to)

    def confirm(self, subscriber: int, cursor: Cursor) -> bool:
        """Set the state of a subscriber who has confirmed to active, from any other state.

        Raise the subscriber's cursor to `cursor` and the first day whose posts are due (`start`) to
        the date of `cursor`. Neither is ever lowered (delivery rules, rule 5). Return whether the
        subscriber exists.
        """
        statement = (
            sa.update(subscribers)
            .where(subscribers.c.id == subscriber)
            .values(
                state="active",
                cursor_date=greater(subscribers.c.cursor_date, cursor.date),
                cursor_seq=greater(subscribers.c.cursor_seq, cursor.seq),
                start=greater(subscribers.c.start, cursor.date),
            )
        )
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1

    def set_preferences(
        self, subscriber: int, frequency: Frequency, topics: frozenset[str], language: str
    ) -> bool:
        """Set a subscriber's preferences, without changing cursor and state.

        Return whether the subscriber exists.
        """
        statement = (
            sa.update(subscribers)
            .where(subscribers.c.id == subscriber)
            .values(frequency=frequency, topics=topics, language=language)
        )
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1


def move_subscribers(
    connection: sa.Connection,
    which: sa.ColumnElement[bool],
    states: Sequence[State],
    to: State,
) -> int:
    """Set the state of subscribers to `to`, within the caller's transaction.

    Change only subscribers who fulfil `which` and are in one of `states`. Cancel their open
    deliveries unless `to` is active. Return the number of subscribers changed.
    """
    condition = which & subscribers.c.state.in_(states)
    if to != "active":
        _cancel(connection, condition)
    return connection.execute(sa.update(subscribers).where(condition).values(state=to)).rowcount


def _cancel(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> None:
    """Cancel the open deliveries of the subscribers that fulfil `condition`."""
    ids = sa.select(subscribers.c.id).where(condition)
    statement = sa.update(deliveries).where(
        deliveries.c.subscriber.in_(ids), deliveries.c.state.in_(OPEN)
    )
    connection.execute(statement.values(state="cancelled"))


_GROUP = "frequency cursor_date cursor_seq topics language".split()


class SegmentTable:
    """The active subscribers, in the groups and segments for which issues are planned.

    The subscribers of a `Group` have the same frequency, cursor, topics and language. A `Segment`
    holds those of a group to whom the same posts are due.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def groups(self) -> Generator[tuple[Group, int], None, None]:
        """Yield each group that is not empty with the number of its subscribers, sorted."""
        columns = [subscribers.c[name] for name in _GROUP]
        query = (
            sa.select(*columns, sa.func.count().label("number"))
            .where(subscribers.c.state == "active")
            .group_by(*columns)
            .order_by(*columns)
        )
        return self._database.stream(query, _group)

    def is_used(self, frequency: Frequency) -> bool:
        """Tell whether a pending, active or paused subscriber has chosen `frequency`."""
        chose = (subscribers.c.frequency == frequency) & subscribers.c.state.in_(RECEIVING)
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.exists().where(chose))) or False

    def split_by_returned(
        self, group: Group, returned: Sequence[LogEntry], target: Cursor
    ) -> tuple[tuple[Segment, int], ...]:
        """Split a group into segments, each of which is due the same posts among `returned`.

        Return each segment that is not empty, with the number of its subscribers, in a fixed order.
        Subscribers for whom no issue up to `target` can be planned are left out (see
        `is_plannable`).
        """
        due = [
            sa.case((_is_due(entry), 1), else_=0).label(f"due_{entry.seq}") for entry in returned
        ]
        query = sa.select(subscribers.c.id, *due).where(is_plannable(Segment(group), target))
        rows = query.subquery()
        flags = [column for column in rows.c if column.name != "id"]
        counts = sa.select(*flags, sa.func.count()).select_from(rows).group_by(*flags)
        with self._database.reading() as connection:
            found = connection.execute(counts.order_by(*(flag.desc() for flag in flags)))
            counted = [tuple(row) for row in found]
        return tuple(
            (_segment(group, returned, due_flags), number)
            for *due_flags, number in counted
            if number
        )

    def tokens(self, segment: Segment, target: Cursor) -> Generator[str, None, None]:
        """Yield the unsubscribe tokens of subscribers in `segment` whose issue can be planned.

        `target` is the cursor that these subscribers have once the issue is delivered (see
        `is_plannable`).
        """
        query = sa.select(subscribers.c.token).where(is_plannable(segment, target))
        return self._database.stream(query, lambda row: str(row.token))

    def raise_cursors(self, segment: Segment, target: Cursor) -> int:
        """Raise the cursors of a segment that gets no issue; return the number of subscribers.

        Neither date nor seq of a cursor is ever lowered. For a segment that gets an issue, do not
        call this: there the delivery of the issue raises the cursor.
        """
        cursor = segment.group.cursor
        raised = Cursor(max(cursor.date, target.date), max(cursor.seq, target.seq))
        if raised == cursor:
            return 0
        statement = sa.update(subscribers).where(is_plannable(segment, raised))
        statement = statement.values(cursor_date=raised.date, cursor_seq=raised.seq)
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount


def _segment(group: Group, returned: Sequence[LogEntry], flags: Sequence[int]) -> Segment:
    due = tuple(entry for entry, flag in zip(returned, flags, strict=True) if flag)
    return Segment(group, due, tuple(entry for entry in returned if entry not in due))


def _group(row: sa.Row[Any]) -> tuple[Group, int]:
    cursor = Cursor(row.cursor_date, row.cursor_seq)
    return Group(row.frequency, cursor, row.topics, row.language), row.number


def _is_in(segment: Segment) -> sa.ColumnElement[bool]:
    """Return the SQL condition for the subscribers in `segment`."""
    group = segment.group
    return sa.and_(
        subscribers.c.state == "active",
        subscribers.c.frequency == group.frequency,
        subscribers.c.cursor_date == group.cursor.date,
        subscribers.c.cursor_seq == group.cursor.seq,
        subscribers.c.topics == group.topics,
        subscribers.c.language == group.language,
        *(_is_due(entry) for entry in segment.due),
        *(~_is_due(entry) for entry in segment.delivered),
    )


def is_plannable(segment: Segment, target: Cursor) -> sa.ColumnElement[bool]:
    """Return the SQL condition for the subscribers in `segment` who can be sent another issue.

    `target` is the cursor that a subscriber has once that issue is delivered. No issue can be
    planned while an email to the subscriber is being sent. After an email to the subscriber has
    bounced, `target` must be newer than the cursor of the bounced issue (delivery rules, rule 10).
    """
    newer = (deliveries.c.cursor_date < target.date) | (deliveries.c.cursor_seq < target.seq)
    blocking = (
        sa.select(sa.literal(1))
        .select_from(deliveries)
        .where(
            deliveries.c.subscriber == subscribers.c.id,
            deliveries.c.number == subscribers.c.issues,
            (deliveries.c.state == "sending") | ((deliveries.c.state == "bounced") & ~newer),
        )
        .correlate(subscribers)
    )
    return sa.and_(_is_in(segment), ~blocking.exists())


def _is_due(entry: LogEntry) -> sa.ColumnElement[bool]:
    """Return the SQL condition for subscribers to whom a returned post is due (rule 7)."""
    delivered = (
        sa.select(sa.literal(1))
        .select_from(deliveries.join(issue_posts, issue_posts.c.issue == deliveries.c.issue))
        .where(
            deliveries.c.subscriber == subscribers.c.id,
            # The delivery is closed, also while it is sent again.
            deliveries.c.number < subscribers.c.issues,
            issue_posts.c.post == entry.post_id,
        )
        .correlate(subscribers)
    )
    return sa.and_(subscribers.c.start <= entry.first_day, ~delivered.exists())


class SuppressionTable:
    """The suppression list: the keyed hashes of addresses to which nothing may be sent again.

    The key of the hashes is the site's secret key; the *key* of an address is its comparable form.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def require_key(self, proof: str) -> None:
        """Check that the hashes of this database were made with the present secret key.

        `proof` is a value that is derived from the present key; the first call stores it. Raises
        `SettingsError` if another proof is stored: with another key, no suppressed address would be
        recognised.
        """
        with self._database.writing() as connection:
            statement = insert(connection, suppression_key).on_conflict_do_nothing()
            connection.execute(statement.values(id=1, proof=proof))
            stored = connection.scalar(sa.select(suppression_key.c.proof))
        if stored != proof:
            message = "its last key is not the key that this database was first used with"
            hint = "set that key again; after a rotation it stays the last of the list"
            raise SettingsError([Problem("POSTROOM_SECRET_KEY", message=message, hint=hint)])

    def among(self, hashes: Sequence[str]) -> frozenset[str]:
        """Return the hashes among `hashes` that are on the suppression list."""
        query = sa.select(suppressions.c.hash).where(suppressions.c.hash.in_(hashes))
        with self._database.reading() as connection:
            return frozenset(connection.scalars(query))

    def suppress(self, reasons: Mapping[str, Reason], at: datetime) -> None:
        """Suppress the hashes that are the keys of `reasons`.

        A hash that is suppressed already keeps its old reason.
        """
        if reasons:
            with self._database.writing() as connection:
                suppress_hashes(connection, reasons, at)

    def lift(self, hashed: str) -> bool:
        """Lift the suppression of a hash, after the owner of the address has confirmed again.

        Return whether the hash was suppressed.
        """
        statement = sa.delete(suppressions).where(suppressions.c.hash == hashed)
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1

    def forget(self, key: str, hashed: str, at: datetime) -> bool:
        """Delete the subscriber with this key, and suppress the address's hash.

        The subscriber's deliveries and events are deleted, too. Return whether there was such a
        subscriber.
        """
        with self._database.writing() as connection:
            suppress_hashes(connection, {hashed: "forgotten"}, at)
            deleted = connection.execute(sa.delete(subscribers).where(subscribers.c.key == key))
        self._database.forget_traces()
        return deleted.rowcount == 1


def suppress_hashes(connection: sa.Connection, reasons: Mapping[str, Reason], at: datetime) -> None:
    """Suppress the hashes that are the keys of `reasons`, within the caller's transaction.

    A hash that is suppressed already keeps its old reason.
    """
    statement = insert(connection, suppressions).on_conflict_do_nothing()
    rows = [{"hash": hashed, "reason": reason, "at": at} for hashed, reason in reasons.items()]
    connection.execute(statement, rows)
