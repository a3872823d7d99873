"""The ledger: one row for each delivery of a letter to a subscriber.

A delivery is planned → sending → sent, deferred, bounced, cancelled or uncertain. It is *closed*
once it is sent or uncertain: then, in the same transaction, its subscriber's bookmark is raised and
their count of letters grows by one. As a row is unique by subscriber and count, at most one letter
is open for a subscriber, and none can be closed twice.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from postroom.database.engine import Database
from postroom.database.schema import deliveries, runs, subscribers
from postroom.database.statements import Insert, greater, insert
from postroom.model import Bookmark, Claim, DeliveryState, Members, Outcome
from postroom.store.groups import reached
from postroom.store.runs import holds_lease, lost, require_lease
from postroom.store.subscribers import OPEN

# A server may say as much as it likes (RFC 5321 §4.2.1); this is enough to act on.
_LONGEST_REPLY = 1000
DELIVERED = ("sent", "uncertain")


class Ledger:
    """The rows of deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Planning

    def plan(self, run: int, members: Members, letter: int, to: Bookmark, now: datetime) -> int:
        """Plan `letter` for every one of `members`, in one statement; return for how many.

        `to` is the bookmark that they have once it is delivered. An open row of an earlier plan is
        replaced; a deferred one keeps its attempts and its time while there is nothing newer in
        `to`; a bounced one is replaced only by what is newer. What is being sent is left alone.
        """
        chosen = _planned(letter, to, sa.literal(run), now).where(reached(members, to))
        with self._database.writing() as connection:
            statement = insert(connection, deliveries).from_select(_PLANNED, chosen.order_by("id"))
            return connection.execute(_replacing(statement, now)).rowcount

    def greet(self, subscriber: int, letter: int, now: datetime) -> bool:
        """Plan the welcome letter `letter` for an active subscriber who has no open letter.

        It raises no bookmark. A run that is under way sends it; else the next one takes it up,
        unless it plans another. Before the first run there is nothing to welcome with.
        """
        last = sa.select(sa.func.max(runs.c.id)).scalar_subquery()
        whose = (subscribers.c.id == subscriber) & (subscribers.c.state == "active")
        chosen = _planned(letter, Bookmark(date.min), last, now).where(whose, last.is_not(None))
        with self._database.writing() as connection:
            statement = insert(connection, deliveries).from_select(_PLANNED, chosen)
            return connection.execute(statement.on_conflict_do_nothing()).rowcount == 1

    def take_up(self, run: int, letter: int) -> int:
        """Make the open rows of `letter` part of this run's plan; return how many.

        It is for welcome letters, which no run plans.
        """
        condition = deliveries.c.state.in_(OPEN) & (deliveries.c.letter == letter)
        with self._database.writing() as connection:
            return connection.execute(
                sa.update(deliveries).where(condition).values(run=run)
            ).rowcount

    def cancel_stale(self, run: int, now: datetime) -> int:
        """Cancel the open rows that the plan of `run` did not take up; return how many.

        Their subscribers paused or left, or nothing is owed to them any more.
        """
        statement = (
            sa.update(deliveries)
            .where(deliveries.c.state.in_(OPEN), deliveries.c.run != run)
            .values(state="cancelled", changed=now)
        )
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount

    def wake(self, run: int, now: datetime) -> int:
        """Plan the deferred rows of this run's plan whose time has come; return how many."""
        condition = sa.and_(
            deliveries.c.state == "deferred", deliveries.c.run == run, deliveries.c.due <= now
        )
        statement = sa.update(deliveries).where(condition).values(state="planned", changed=now)
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount

    # Sending

    def sweep(self, run: int, now: datetime) -> tuple[int, ...]:
        """Close what a dead run left in sending: its fate is uncertain; return the ids.

        `run` holds the lease, so no other run is alive.
        """
        asked = _closable().where(deliveries.c.state == "sending", deliveries.c.run != run)
        with self._database.writing() as connection:
            require_lease(connection, run)
            rows = connection.execute(asked).all()
            _settle(
                connection, [(row, Outcome(row.id, "uncertain", row.reply)) for row in rows], now
            )
            return tuple(row.id for row in rows)

    def claim(self, run: int, limit: int, now: datetime, *, after: int = 0) -> tuple[Claim, ...]:
        """Put up to `limit` planned rows into sending and return them, by id.

        Durable before the call returns, so ask for no more than there are open connections.
        Rows of subscribers who are no longer active are cancelled instead. `after` is the last id
        that was claimed before. Raises `LeaseError`.
        """
        with self._database.writing() as connection:
            require_lease(connection, run)
            asked = _claimable("planned", limit, after).where(deliveries.c.run == run)
            return _claimed(connection, asked, run, now)

    def record(self, run: int, outcomes: Sequence[Outcome], now: datetime) -> int:
        """Write down what became of deliveries that this run claimed; return of how many.

        Rows that are gone, or no longer this run's, are passed over. A run that lost its lease may
        still say that a letter, uncertain by now, was sent.
        """
        with self._database.writing() as connection:
            return _recorded(connection, run, outcomes, now)

    def turn(
        self, run: int, outcomes: Sequence[Outcome], limit: int, now: datetime, *, after: int = 0
    ) -> tuple[Claim, ...]:
        """Do `record` and `claim` in one transaction: one wait for the disk instead of two.

        A run that lost its lease still records; then `LeaseError` is raised.
        """
        claimed = None
        with self._database.writing() as connection:
            _recorded(connection, run, outcomes, now)
            if holds_lease(connection, run):
                asked = _claimable("planned", limit, after).where(deliveries.c.run == run)
                claimed = _claimed(connection, asked, run, now)
        if claimed is None:
            raise lost()
        return claimed

    def reclaim(self, run: int, limit: int, now: datetime, *, after: int = 0) -> tuple[Claim, ...]:
        """Put up to `limit` uncertain rows back into sending, to send the same letter again."""
        with self._database.writing() as connection:
            require_lease(connection, run)
            return _claimed(connection, _claimable("uncertain", limit, after), run, now)

    # Status

    def tally(self) -> Mapping[DeliveryState, int]:
        """Return how many deliveries there are in each state."""
        asked = sa.select(deliveries.c.state, sa.func.count().label("number"))
        with self._database.reading() as connection:
            rows = connection.execute(asked.group_by(deliveries.c.state))
            return {row.state: row.number for row in rows}

    def uncertain(self) -> Generator[Claim, None, None]:
        """Yield the deliveries whose fate is uncertain, oldest first."""
        return self._database.stream(_in("uncertain"), _delivery)


_PLANNED = "subscriber n letter state before upto attempts run changed reply".split()


def _planned(
    letter: int, to: Bookmark, run: sa.ColumnElement[Any], now: datetime
) -> sa.Select[Any]:
    """Return the question for a planned row, in the columns above, for each subscriber."""
    return sa.select(
        subscribers.c.id,
        subscribers.c.letters,
        sa.literal(letter),
        sa.literal("planned"),
        sa.literal(to.before),
        sa.literal(to.upto),
        sa.literal(0),
        run,
        sa.literal(now, deliveries.c.changed.type),
        sa.literal(""),
    )


def _replacing(statement: Insert, now: datetime) -> Insert:
    """Return `statement` with what happens to a row that the subscriber has already."""
    new, held = statement.excluded, deliveries.c
    newer = (new.before > held.before) | (new.upto > held.upto)
    goes_on = ~newer & held.state.in_(OPEN)
    waits = goes_on & (held.state == "deferred") & (held.due > now)
    return statement.on_conflict_do_update(
        index_elements=["subscriber", "n"],
        set_={
            "letter": new.letter,
            "state": sa.case((waits, "deferred"), else_="planned"),
            "before": new.before,
            "upto": new.upto,
            "attempts": sa.case((goes_on, held.attempts), else_=0),
            "due": sa.case((goes_on, held.due), else_=None),
            "run": new.run,
            "changed": new.changed,
        },
        where=held.state.in_((*OPEN, "cancelled")) | ((held.state == "bounced") & newer),
    )


def _in(state: DeliveryState, after: int = 0) -> sa.Select[Any]:
    """Return the question for deliveries in `state`, by id, and whose they are."""
    whose = subscribers.c.address, subscribers.c.token, subscribers.c.state.label("whose_state")
    return (
        sa.select(deliveries, *whose)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .where(deliveries.c.state == state, deliveries.c.id > after)
        .order_by(deliveries.c.id)
    )


def _claimable(state: DeliveryState, limit: int, after: int) -> sa.Select[Any]:
    """Return the question for the next rows; what another worker has at hand is passed over."""
    return _in(state, after).limit(limit).with_for_update(of=deliveries, skip_locked=True)


def _delivery(row: sa.Row[Any], tries: int = 0) -> Claim:
    return Claim(
        id=row.id,
        subscriber=row.subscriber,
        number=row.n,
        letter=row.letter,
        address=row.address,
        token=row.token,
        attempts=row.attempts + tries,
    )


def _claimed(
    connection: sa.Connection, asked: sa.Select[Any], run: int, now: datetime
) -> tuple[Claim, ...]:
    """Put the rows of `asked` into sending; where none of them may be sent, go on behind them."""
    while rows := connection.execute(asked).all():
        active = tuple(row.id for row in rows if row.whose_state == "active")
        planned = [row for row in rows if row.state == "planned"]
        if gone := [row.id for row in planned if row.id not in active]:
            _mark(connection, gone, state="cancelled", changed=now)
        if active:
            attempts = deliveries.c.attempts + 1
            _mark(connection, active, state="sending", run=run, attempts=attempts, changed=now)
            return tuple(_delivery(row, tries=1) for row in rows if row.id in active)
        asked = asked.where(deliveries.c.id > rows[-1].id)
    return ()


def _mark(connection: sa.Connection, ids: Sequence[int], **values: object) -> None:
    connection.execute(sa.update(deliveries).where(deliveries.c.id.in_(ids)).values(**values))


def _closable() -> sa.Select[Any]:
    """Return the question for rows of deliveries and their subscribers' count of letters."""
    return (
        sa.select(deliveries, subscribers.c.letters)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries)
    )


def _recorded(
    connection: sa.Connection, run: int, outcomes: Sequence[Outcome], now: datetime
) -> int:
    by_id = {outcome.delivery: outcome for outcome in outcomes}
    if not by_id:
        return 0
    asked = _closable().where(
        deliveries.c.id.in_(by_id),
        deliveries.c.run == run,
        deliveries.c.state.in_(("sending", "uncertain")),
    )
    settled = [(row, _final(row, by_id[row.id])) for row in connection.execute(asked)]
    _settle(connection, settled, now)
    return len(settled)


def _final(row: sa.Row[Any], outcome: Outcome) -> Outcome:
    """Return what can still become of a row: a closed one is sent, or stays uncertain."""
    if row.letters > row.n and outcome.state != "sent":
        return Outcome(row.id, "uncertain", outcome.reply)
    return outcome


def _settle(
    connection: sa.Connection, settled: Sequence[tuple[sa.Row[Any], Outcome]], now: datetime
) -> None:
    if not settled:
        return
    statement = (
        sa.update(deliveries)
        .where(deliveries.c.id == sa.bindparam("row"))
        .values(state=sa.bindparam("new"), reply=sa.bindparam("said"), due=sa.bindparam("then"))
    )
    connection.execute(
        statement.values(changed=now),
        [
            {
                "row": row.id,
                "new": outcome.state,
                "said": outcome.reply[:_LONGEST_REPLY],
                "then": outcome.due,
            }
            for row, outcome in settled
        ],
    )
    if closing := [row for row, outcome in settled if outcome.state in DELIVERED]:
        _close(connection, closing)


def _close(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> None:
    """Raise the bookmarks and count the letters, of those whose count still is the row's."""
    whose = (subscribers.c.id == sa.bindparam("whose")) & (
        subscribers.c.letters == sa.bindparam("number")
    )
    statement = (
        sa.update(subscribers)
        .where(whose)
        .values(
            letters=subscribers.c.letters + 1,
            before=greater(subscribers.c.before, sa.bindparam("to_before", type_=sa.Date())),
            upto=greater(subscribers.c.upto, sa.bindparam("to_upto", type_=sa.BigInteger())),
        )
    )
    connection.execute(
        statement,
        [
            {"whose": row.subscriber, "number": row.n, "to_before": row.before, "to_upto": row.upto}
            for row in rows
        ],
    )
