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
from postroom.database.ready import Question
from postroom.database.schema import deliveries, runs, subscribers
from postroom.database.statements import Insert, insert
from postroom.model import Bookmark, Claim, DeliveryState, Entry, Members, Outcome
from postroom.store import entries
from postroom.store.claims import (
    ACKNOWLEDGED,
    OPEN_UNCERTAIN,
    PLANNED,
    UNCERTAIN,
    Hashed,
    Next,
    claimed,
)
from postroom.store.groups import reached
from postroom.store.runs import holds_lease, lost, require_lease
from postroom.store.settling import left_by_others, recorded, settle
from postroom.store.subscribers import OPEN


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
        with self._database.writing() as connection:
            require_lease(connection, run)
            return _sweep(connection, run, now)

    def record(self, run: int, outcomes: Sequence[Outcome], now: datetime) -> int:
        """Write down what became of deliveries that this run claimed; return of how many.

        Rows that are gone, or no longer this run's, are passed over. A run that lost its lease may
        still say that a letter, uncertain by now, was sent.
        """
        with self._database.writing() as connection:
            return recorded(connection, run, outcomes, now)

    def turn(
        self, run: int, outcomes: Sequence[Outcome], limit: int, now: datetime, hashed: Hashed
    ) -> tuple[Claim, ...]:
        """Do `record`, then put up to `limit` planned rows into sending and return them, by id.

        Both are one transaction: one wait for the disk instead of two. It is durable before the
        call returns, so ask for no more than there are open connections. Rows of subscribers who
        are no longer active, or whose address is suppressed under what `hashed` makes of its key,
        are cancelled instead. A run that lost its lease still records; then `LeaseError` is raised.
        """
        values = {"of_run": run, "by": run, "most": limit, "after": 0}
        return self._turn(outcomes, PLANNED, values, now, hashed)

    def turn_again(  # noqa: PLR0913 - as `turn`, and where it stands
        self,
        run: int,
        outcomes: Sequence[Outcome],
        limit: int,
        now: datetime,
        hashed: Hashed,
        *,
        after: int,
    ) -> tuple[Claim, ...]:
        """Do the same as `turn` with the open uncertain rows, to send their letters again.

        `after` is the last id that was taken before: what stays uncertain is not asked for twice.
        """
        values = {"by": run, "most": limit, "after": after}
        return self._turn(outcomes, UNCERTAIN, values, now, hashed)

    def _turn(
        self,
        outcomes: Sequence[Outcome],
        asked: Question[Next],
        values: Mapping[str, int],
        now: datetime,
        hashed: Hashed,
    ) -> tuple[Claim, ...]:
        claims, run = None, values["by"]
        with self._database.writing() as connection:
            recorded(connection, run, outcomes, now)
            if holds_lease(connection, run):
                claims = claimed(connection, asked, values, now, hashed)
        if claims is None:
            raise lost()
        return claims

    # Status

    def planned(self, run: int) -> int:
        """Return how many rows of the plan of `run` wait to be sent."""
        return self._count((deliveries.c.state == "planned") & (deliveries.c.run == run))

    def tally(self) -> Mapping[DeliveryState, int]:
        """Return how many deliveries there are in each state."""
        asked = sa.select(deliveries.c.state, sa.func.count().label("number"))
        with self._database.reading() as connection:
            rows = connection.execute(asked.group_by(deliveries.c.state))
            return {row.state: row.number for row in rows}

    def entries(self, state: DeliveryState) -> Generator[Entry, None, None]:
        """Yield the deliveries in `state`, oldest first."""
        return self._database.stream(entries.in_state(state), entries.entry)

    def uncertain(self) -> Generator[Entry, None, None]:
        """Yield the uncertain deliveries that nobody has acknowledged, oldest first."""
        return self._database.stream(entries.uncertain(), entries.entry)

    def refused(self) -> Generator[Entry, None, None]:
        """Yield the refused deliveries whose subscribers still wait for the email, oldest first."""
        return self._database.stream(entries.refused(), entries.entry)

    def deferred(self) -> Generator[Entry, None, None]:
        """Yield the deferred deliveries that were not refused, oldest first."""
        return self._database.stream(entries.deferred(), entries.entry)

    def count_uncertain(self) -> int:
        """Return how many uncertain deliveries nobody has acknowledged."""
        return self._count(OPEN_UNCERTAIN)

    def count_acknowledged(self) -> int:
        """Return how many uncertain deliveries were acknowledged."""
        return self._count(ACKNOWLEDGED)

    def acknowledge(self, now: datetime, *, dead: bool) -> tuple[Entry, ...]:
        """Close the open uncertain deliveries without sending them; return them.

        They stay uncertain and counted as delivered, and are never sent again. With `dead`, those
        that a dead run left in `sending` become uncertain first; then the caller has made sure
        that no run is alive (`Database.turn`).
        """
        with self._database.writing() as connection:
            if dead:
                _sweep(connection, 0, now)
            chosen = sa.update(deliveries).where(OPEN_UNCERTAIN)
            connection.execute(chosen.values(acknowledged=now))
            rows = connection.execute(entries.acknowledged(now)).all()
            return tuple(entries.entry(row) for row in rows)

    def _count(self, condition: sa.ColumnElement[bool]) -> int:
        asked = sa.select(sa.func.count()).select_from(deliveries).where(condition)
        with self._database.reading() as connection:
            return connection.scalar(asked) or 0


def _sweep(connection: sa.Connection, run: int, now: datetime) -> tuple[int, ...]:
    """Make deliveries that other runs left in `sending` uncertain; return their ids."""
    rows = left_by_others(connection, run)
    settle(connection, [(row, Outcome(row.id, "uncertain", row.reply)) for row in rows], now)
    return tuple(row.id for row in rows)


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
            # A newer issue takes the place of a refused one and holds its posts.
            "refused": sa.case((goes_on, held.refused), else_=None),
            "run": new.run,
            "changed": new.changed,
        },
        where=held.state.in_((*OPEN, "cancelled")) | ((held.state == "bounced") & newer),
    )
