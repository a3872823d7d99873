"""Suppressions: keyed hashes of the addresses to which nothing may be sent again."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

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


class SuppressionTable:
    """The rows of suppressions; the hashes are made elsewhere, from the oldest secret key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def require_key(self, proof: str) -> None:
        """Remember by `proof` which key makes the hashes; later, refuse another.

        With another key every suppressed address would look new. Raises `SettingsError`.
        """
        with self._database.writing() as connection:
            statement = insert(connection, suppression_key).on_conflict_do_nothing()
            connection.execute(statement.values(id=1, proof=proof))
            kept = connection.scalar(sa.select(suppression_key.c.proof))
        if kept != proof:
            what = "its last key is not the one that this database's suppressions were made with"
            repair = "put that key back, as the last of the list"
            raise SettingsError([Problem("POSTROOM_SECRET_KEY", message=what, hint=repair)])

    def among(self, hashes: Sequence[str]) -> frozenset[str]:
        """Return those of `hashes` that are suppressed."""
        asked = sa.select(suppressions.c.hash).where(suppressions.c.hash.in_(hashes))
        with self._database.reading() as connection:
            return frozenset(connection.scalars(asked))

    def suppress(self, reasons: Mapping[str, Reason], at: datetime) -> None:
        """Suppress these hashes; one that is suppressed already keeps its first reason."""
        if reasons:
            with self._database.writing() as connection:
                suppress(connection, reasons, at)

    def lift(self, hashed: str) -> bool:
        """Lift one suppression: its owner has confirmed anew."""
        statement = sa.delete(suppressions).where(suppressions.c.hash == hashed)
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1

    def forget(self, key: str, hashed: str, at: datetime) -> bool:
        """Delete all that is known of the address with this key, and suppress its hash.

        Deliveries and events go with the subscriber. Returns whether it was known.
        """
        with self._database.writing() as connection:
            suppress(connection, {hashed: "forgotten"}, at)
            gone = connection.execute(sa.delete(subscribers).where(subscribers.c.key == key))
        self._database.forget_traces()
        return gone.rowcount == 1


def suppress(connection: sa.Connection, reasons: Mapping[str, Reason], at: datetime) -> None:
    """Suppress these hashes within a transaction that writes; the first reason stays."""
    statement = insert(connection, suppressions).on_conflict_do_nothing()
    rows = [{"hash": hashed, "reason": reason, "at": at} for hashed, reason in reasons.items()]
    connection.execute(statement, rows)


class SegmentTable:
    """Active subscribers, grouped by frequency, bookmark, topics and language."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def groups(self) -> Generator[tuple[Group, int], None, None]:
        """Yield each group that has members, and their number, in a fixed order."""
        columns = [subscribers.c[name] for name in "frequency before upto topics language".split()]
        asked = (
            sa.select(*columns, sa.func.count().label("number"))
            .where(subscribers.c.state == "active")
            .group_by(*columns)
            .order_by(*columns)
        )
        return self._database.stream(asked, _group)

    def is_used(self, frequency: Frequency) -> bool:
        """Tell whether anybody who receives, or may again without confirming, chose `frequency`."""
        chose = (subscribers.c.frequency == frequency) & subscribers.c.state.in_(RECEIVING)
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.exists().where(chose))) or False

    def split_by_returned(
        self, group: Group, returned: Sequence[LogEntry], to: Cursor
    ) -> tuple[tuple[Segment, int], ...]:
        """Divide the members whom `to` reaches by which of the `returned` posts they are owed.

        Return each division and its number, which is never 0, in a fixed order.
        """
        asked = [sa.case((_is_owed(one), 1), else_=0).label(f"owed_{one.seq}") for one in returned]
        each = sa.select(subscribers.c.id, *asked).where(is_reached(Segment(group), to)).subquery()
        flags = [column for column in each.c if column.name != "id"]
        counted = sa.select(*flags, sa.func.count()).select_from(each).group_by(*flags)
        with self._database.reading() as connection:
            found = connection.execute(counted.order_by(*(flag.desc() for flag in flags)))
            rows = [tuple(row) for row in found]
        return tuple((_division(group, returned, owed), number) for *owed, number in rows if number)

    def members(self, members: Segment) -> Generator[Subscriber, None, None]:
        """Yield the members by id."""
        asked = sa.select(subscribers).where(is_in_group(members)).order_by(subscribers.c.id)
        return self._database.stream(asked, from_row)

    def tokens(self, members: Segment, to: Cursor) -> Generator[str, None, None]:
        """Yield the tokens of the members whom `to` reaches."""
        asked = sa.select(subscribers.c.token).where(is_reached(members, to))
        return self._database.stream(asked, lambda row: str(row.token))

    def raise_cursors(self, members: Segment, to: Cursor) -> int:
        """Raise the bookmarks of all the members in one statement; neither part falls.

        It is for those to whom nothing is owed: a letter moves its subscriber's bookmark itself.
        """
        held = members.group.cursor
        raised = Cursor(max(held.date, to.date), max(held.seq, to.seq))
        if raised == held:
            return 0
        statement = sa.update(subscribers).where(is_reached(members, raised))
        statement = statement.values(before=raised.date, upto=raised.seq)
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount


def _division(group: Group, returned: Sequence[LogEntry], flags: Sequence[int]) -> Segment:
    owed = tuple(one for one, flag in zip(returned, flags, strict=True) if flag)
    return Segment(group, owed, tuple(one for one in returned if one not in owed))


def _group(row: sa.Row[Any]) -> tuple[Group, int]:
    bookmark = Cursor(row.before, row.upto)
    return Group(row.frequency, bookmark, row.topics, row.language), row.number


def is_in_group(members: Segment) -> sa.ColumnElement[bool]:
    """Return the condition by which a row of subscribers is one of the members."""
    group = members.group
    return sa.and_(
        subscribers.c.state == "active",
        subscribers.c.frequency == group.frequency,
        subscribers.c.before == group.cursor.date,
        subscribers.c.upto == group.cursor.seq,
        subscribers.c.topics == group.topics,
        subscribers.c.language == group.language,
        *(_is_owed(arrival) for arrival in members.due),
        *(~_is_owed(arrival) for arrival in members.delivered),
    )


def is_reached(members: Segment, to: Cursor) -> sa.ColumnElement[bool]:
    """Return the condition by which a row of subscribers is a member that `to` reaches."""
    newer = (deliveries.c.before < to.date) | (deliveries.c.upto < to.seq)
    left_alone = (
        sa.select(sa.literal(1))
        .select_from(deliveries)
        .where(
            deliveries.c.subscriber == subscribers.c.id,
            deliveries.c.n == subscribers.c.letters,
            (deliveries.c.state == "sending") | ((deliveries.c.state == "bounced") & ~newer),
        )
        .correlate(subscribers)
    )
    return sa.and_(is_in_group(members), ~left_alone.exists())


def _is_owed(arrival: LogEntry) -> sa.ColumnElement[bool]:
    """Return the condition of delivery rule 7 for a post that had vanished and came back."""
    delivered = (
        sa.select(sa.literal(1))
        .select_from(deliveries.join(issue_posts, issue_posts.c.letter == deliveries.c.letter))
        .where(
            deliveries.c.subscriber == subscribers.c.id,
            # One that is closed, also while it is sent again.
            deliveries.c.n < subscribers.c.letters,
            issue_posts.c.post == arrival.post_id,
        )
        .correlate(subscribers)
    )
    return sa.and_(subscribers.c.start <= arrival.first_day, ~delivered.exists())


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
        cursor=Cursor(row.before, row.upto),
        start=row.start,
        issues=row.letters,
        token=row.token,
    )


def _values(subscriber: Subscriber) -> dict[str, object]:
    return {
        "key": address_key(subscriber.address),
        "address": subscriber.address,
        "state": subscriber.state,
        "frequency": subscriber.frequency,
        "topics": subscriber.topics,
        "language": subscriber.language,
        "before": subscriber.cursor.date,
        "upto": subscriber.cursor.seq,
        "start": subscriber.start,
        "letters": subscriber.issues,
        "token": subscriber.token,
    }


class SubscriberTable:
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

    def unsubscribe(self, token: str, at: datetime, way: str) -> bool:
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
            return move_subscriber(connection, whose, before, after)

    def confirm(self, subscriber: int, bookmark: Cursor) -> bool:
        """Make a subscriber active whose own confirmation has come, from whatever state.

        What lies behind `bookmark` is not owed, and what returns is only if it first came at or
        after its date; neither part of the stored one falls, nor does the start.
        """
        statement = (
            sa.update(subscribers)
            .where(subscribers.c.id == subscriber)
            .values(
                state="active",
                before=greater(subscribers.c.before, bookmark.date),
                upto=greater(subscribers.c.upto, bookmark.seq),
                start=greater(subscribers.c.start, bookmark.date),
            )
        )
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1

    def set_preferences(
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


def move_subscriber(
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
