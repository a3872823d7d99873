"""Writing down what became of deliveries, and closing those that are final."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from attrs import evolve, frozen
from sqlalchemy import bindparam

from postroom.db.bounces import note_failures
from postroom.db.compiled import CompiledSelect, CompiledUpdate, Insert, among, greater, insert
from postroom.db.engine import Database
from postroom.db.runs import holds_lease, lost_lease, require_lease
from postroom.db.schema import deliveries, issues, runs, subscribers, suppressions
from postroom.db.subscribers import OPEN, RECEIVING, is_plannable
from postroom.mail.address import address_key
from postroom.models import (
    ClaimedDelivery,
    Cursor,
    DeliveryOutcome,
    DeliveryRow,
    DeliveryState,
    Segment,
    State,
)

# A server may say as much as it likes (RFC 5321 §4.2.1); this is enough to act on.
_LONGEST_REPLY = 1000
DELIVERED = ("sent", "uncertain")


@frozen
class SendingRow:
    """A row that may be closed, and how many letters of its subscriber are closed."""

    id: int
    subscriber: int
    number: int
    cursor_date: date
    cursor_seq: int
    reply: str
    issues: int


def _closable(condition: Callable[[int], sa.ColumnElement[bool]]) -> CompiledSelect[SendingRow]:
    """Return the question for the rows of which `condition` is true."""
    columns = [
        deliveries.c[name] for name in "id subscriber number cursor_date cursor_seq reply".split()
    ]
    asked = (
        sa.select(*columns, subscribers.c.issues)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries)
    )
    return CompiledSelect(lambda size: asked.where(condition(size)), SendingRow)


_ANSWERED = _closable(
    lambda size: (
        among(deliveries.c.id, size)
        & (deliveries.c.run == bindparam("of_run"))
        & ((deliveries.c.state == "sending") | (deliveries.c.state == "uncertain"))
    )
)
_LEFT = _closable(
    lambda _: (deliveries.c.state == "sending") & (deliveries.c.run != bindparam("of_run"))
)
_SETTLE = CompiledUpdate(
    lambda _: (
        sa.update(deliveries)
        .where(deliveries.c.id == bindparam("row"))
        .values(
            state=bindparam("new"),
            reply=bindparam("said"),
            retry_at=bindparam("then"),
            refused=bindparam("refused_at"),
            changed=bindparam("now"),
        )
    )
)
# Only of those whose count still is the row's.
_CLOSE = CompiledUpdate(
    lambda _: (
        sa.update(subscribers)
        .where(
            subscribers.c.id == bindparam("whose"),
            subscribers.c.issues == bindparam("number"),
        )
        .values(
            issues=subscribers.c.issues + 1,
            cursor_date=greater(subscribers.c.cursor_date, bindparam("to_before", type_=sa.Date())),
            cursor_seq=greater(
                subscribers.c.cursor_seq, bindparam("to_upto", type_=sa.BigInteger())
            ),
        )
    )
)


def left_by_others(connection: sa.Connection, run: int) -> Sequence[SendingRow]:
    """Return the rows that another run than `run` was sending."""
    return _LEFT.all(connection, {"of_run": run})


def recorded(
    connection: sa.Connection, run: int, outcomes: Sequence[DeliveryOutcome], now: datetime
) -> int:
    """Write down `outcomes` in the caller's transaction; see `Ledger.record`."""
    by_id = {outcome.delivery: outcome for outcome in outcomes}
    if not by_id:
        return 0
    rows = _ANSWERED.all(connection, {"of_run": run}, list(by_id))
    settled = [(row, _final(row, by_id[row.id])) for row in rows]
    settle(connection, settled, now)
    failures = [outcome.failure for _, outcome in settled if outcome.failure]
    if failures:
        note_failures(connection, failures, now)
    return len(settled)


def _final(row: SendingRow, outcome: DeliveryOutcome) -> DeliveryOutcome:
    """Return what can still become of a row: a closed one is sent, or stays uncertain."""
    if row.issues > row.number and outcome.state != "sent":
        return evolve(outcome, state="uncertain", retry_at=None, refused=False)
    return outcome


def settle(
    connection: sa.Connection, settled: Sequence[tuple[SendingRow, DeliveryOutcome]], now: datetime
) -> None:
    """Move rows into their states; of those that are final, raise the bookmark and count."""
    if not settled:
        return
    moves = [
        {
            "row": row.id,
            "new": outcome.state,
            "said": outcome.reply[:_LONGEST_REPLY],
            "then": outcome.retry_at,
            "refused_at": now if outcome.refused else None,
        }
        for row, outcome in settled
    ]
    _SETTLE.run_many(connection, moves, {"now": now})
    closing = [
        {
            "whose": row.subscriber,
            "number": row.number,
            "to_before": row.cursor_date,
            "to_upto": row.cursor_seq,
        }
        for row, outcome in settled
        if outcome.state in DELIVERED
    ]
    if closing:
        _CLOSE.run_many(connection, closing)


Hashed: TypeAlias = Callable[[str], str]
"""Makes the hash under which the address with a key is suppressed."""


OPEN_UNCERTAIN = (deliveries.c.state == "uncertain") & deliveries.c.acknowledged.is_(None)
"""The condition of an uncertain delivery that nobody has acknowledged."""
ACKNOWLEDGED = (deliveries.c.state == "uncertain") & deliveries.c.acknowledged.is_not(None)
"""The condition of one that somebody has."""


def rows_in(state: DeliveryState) -> sa.Select[Any]:
    """Return the question for deliveries in `state`, by id, and whose they are."""
    whose = subscribers.c.address, subscribers.c.token, subscribers.c.state.label("whose_state")
    return (
        sa.select(deliveries, *whose)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .where(deliveries.c.state == state)
        .order_by(deliveries.c.id)
    )


@frozen
class NextDelivery:
    """A row that may be taken, and whose it is."""

    id: int
    subscriber: int
    number: int
    issue: int
    state: DeliveryState
    attempts: int
    address: str
    token: str
    whose_state: State


def _next(asked: sa.Select[Any]) -> CompiledSelect[NextDelivery]:
    """Return the question for the next rows; what another worker has at hand is passed over."""
    columns = [deliveries.c[name] for name in "id subscriber number issue state attempts".split()]
    whose = subscribers.c.address, subscribers.c.token, subscribers.c.state.label("whose_state")
    statement = (
        asked.with_only_columns(*columns, *whose)
        .where(deliveries.c.id > bindparam("after"))
        .limit(bindparam("most"))
        .with_for_update(of=deliveries, skip_locked=True)
    )
    return CompiledSelect(lambda _: statement, NextDelivery)


PLANNED = _next(rows_in("planned").where(deliveries.c.run == bindparam("of_run")))
"""The planned rows of the run `of_run`, by id, behind `after`, and `most` of them."""
UNCERTAIN = _next(rows_in("uncertain").where(OPEN_UNCERTAIN))
"""The same of those that are uncertain and that nobody has acknowledged, of whichever run."""
_TAKE = CompiledUpdate(
    lambda size: (
        sa.update(deliveries)
        .where(among(deliveries.c.id, size))
        .values(
            state="sending",
            run=bindparam("by"),
            attempts=deliveries.c.attempts + 1,
            changed=bindparam("now"),
        )
    )
)
_DROP = CompiledUpdate(
    lambda size: (
        sa.update(deliveries)
        .where(among(deliveries.c.id, size))
        .values(state="cancelled", changed=bindparam("now"))
    )
)
_CLOSED = CompiledSelect(
    lambda size: sa.select(suppressions.c.hash).where(among(suppressions.c.hash, size)), str
)


def claim_of(row: sa.Row[Any] | NextDelivery, tries: int = 0) -> ClaimedDelivery:
    """Return what is needed of a row for its message, `tries` counted in."""
    return ClaimedDelivery(
        id=row.id,
        subscriber=row.subscriber,
        number=row.number,
        issue=row.issue,
        address=row.address,
        token=row.token,
        attempts=row.attempts + tries,
    )


def claimed(
    connection: sa.Connection,
    asked: CompiledSelect[NextDelivery],
    values: Mapping[str, int],
    now: datetime,
    hashed: Hashed,
) -> tuple[ClaimedDelivery, ...]:
    """Put the rows of `asked` into sending; where none of them may be sent, go on behind them.

    `values` are those of the question, and the run that takes them as `by`.
    """
    after, run = values["after"], values["by"]
    question = {name: value for name, value in values.items() if name != "by"}
    while rows := asked.all(connection, {**question, "after": after}):
        closed = _suppressed(connection, rows, hashed)
        ids = [row.id for row in rows if row.whose_state == "active" and row.id not in closed]
        if gone := [row.id for row in rows if row.state == "planned" and row.id not in ids]:
            _DROP.run(connection, {"now": now}, gone)
        if ids:
            _TAKE.run(connection, {"by": run, "now": now}, ids)
            return tuple(claim_of(row, tries=1) for row in rows if row.id in ids)
        after = rows[-1].id
    return ()


def _suppressed(
    connection: sa.Connection, rows: Sequence[NextDelivery], hashed: Hashed
) -> frozenset[int]:
    """Return the ids of the rows whose address is suppressed, whatever its subscriber's state."""
    hashes = {hashed(address_key(row.address)): row.id for row in rows}
    return frozenset(hashes[each] for each in _CLOSED.all(connection, {}, list(hashes)))


_REFUSED: tuple[DeliveryState, ...] = ("planned", "deferred", "bounced")


def in_state(state: DeliveryState) -> sa.Select[Any]:
    """Return the question for the deliveries in `state`, oldest first."""
    return _entries(deliveries.c.state == state)


def uncertain() -> sa.Select[Any]:
    """Return the question for the uncertain deliveries that nobody has acknowledged."""
    return _entries(OPEN_UNCERTAIN)


def acknowledged(at: datetime) -> sa.Select[Any]:
    """Return the question for the uncertain deliveries that were acknowledged at this instant."""
    return _entries(deliveries.c.state == "uncertain", deliveries.c.acknowledged == at)


def refused() -> sa.Select[Any]:
    """Return the question for the refused deliveries whose subscribers still wait for the email.

    The issue was neither sent since nor replaced by a newer one, and the subscriber is on the list.
    """
    return _entries(
        deliveries.c.refused.is_not(None),
        deliveries.c.state.in_(_REFUSED),
        subscribers.c.state.in_(RECEIVING),
    )


def deferred() -> sa.Select[Any]:
    """Return the question for the deferred deliveries, less the refused ones."""
    return _entries(deliveries.c.state == "deferred", deliveries.c.refused.is_(None))


def entry(row: sa.Row[Any]) -> DeliveryRow:
    """Return the delivery that a row of these questions is."""
    return DeliveryRow(
        address=row.address,
        state=row.state,
        since=row.changed,
        retry_at=row.retry_at,
        reply=row.reply,
        issue=row.issue,
        frequency=row.frequency,
        cutoff=row.cutoff,
        language=row.language,
        refused=row.refused,
    )


def _entries(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    issue = issues.c.frequency, issues.c.cutoff, issues.c.language
    return (
        sa.select(deliveries, subscribers.c.address, *issue)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .join(issues, issues.c.id == deliveries.c.issue)
        .where(*conditions)
        .order_by(deliveries.c.id)
    )


class DeliveryTable:
    """The rows of deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Planning

    def plan(self, run: int, members: Segment, letter: int, to: Cursor, now: datetime) -> int:
        """Plan `letter` for every one of `members`, in one statement; return for how many.

        `to` is the bookmark that they have once it is delivered. An open row of an earlier plan is
        replaced; a deferred one keeps its attempts and its time while there is nothing newer in
        `to`; a bounced one is replaced only by what is newer. What is being sent is left alone.
        """
        chosen = _planned(letter, to, sa.literal(run), now).where(is_plannable(members, to))
        with self._database.writing() as connection:
            statement = insert(connection, deliveries).from_select(_PLANNED, chosen.order_by("id"))
            return connection.execute(_replacing(statement, now)).rowcount

    def plan_welcome(self, subscriber: int, letter: int, now: datetime) -> bool:
        """Plan the welcome letter `letter` for an active subscriber who has no open letter.

        It raises no bookmark. A run that is under way sends it; else the next one takes it up,
        unless it plans another. Before the first run there is nothing to welcome with.
        """
        last = sa.select(sa.func.max(runs.c.id)).scalar_subquery()
        whose = (subscribers.c.id == subscriber) & (subscribers.c.state == "active")
        chosen = _planned(letter, Cursor(date.min), last, now).where(whose, last.is_not(None))
        with self._database.writing() as connection:
            statement = insert(connection, deliveries).from_select(_PLANNED, chosen)
            return connection.execute(statement.on_conflict_do_nothing()).rowcount == 1

    def adopt(self, run: int, letter: int) -> int:
        """Make the open rows of `letter` part of this run's plan; return how many.

        It is for welcome letters, which no run plans.
        """
        condition = deliveries.c.state.in_(OPEN) & (deliveries.c.issue == letter)
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

    def retry_deferred(self, run: int, now: datetime) -> int:
        """Plan the deferred rows of this run's plan whose time has come; return how many."""
        condition = sa.and_(
            deliveries.c.state == "deferred", deliveries.c.run == run, deliveries.c.retry_at <= now
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

    def record(self, run: int, outcomes: Sequence[DeliveryOutcome], now: datetime) -> int:
        """Write down what became of deliveries that this run claimed; return of how many.

        Rows that are gone, or no longer this run's, are passed over. A run that lost its lease may
        still say that a letter, uncertain by now, was sent.
        """
        with self._database.writing() as connection:
            return recorded(connection, run, outcomes, now)

    def record_and_claim(
        self,
        run: int,
        outcomes: Sequence[DeliveryOutcome],
        limit: int,
        now: datetime,
        hashed: Hashed,
    ) -> tuple[ClaimedDelivery, ...]:
        """Do `record`, then put up to `limit` planned rows into sending and return them, by id.

        Both are one transaction: one wait for the disk instead of two. It is durable before the
        call returns, so ask for no more than there are open connections. Rows of subscribers who
        are no longer active, or whose address is suppressed under what `hashed` makes of its key,
        are cancelled instead. A run that lost its lease still records; then `LeaseError` is raised.
        """
        values = {"of_run": run, "by": run, "most": limit, "after": 0}
        return self._turn(outcomes, PLANNED, values, now, hashed)

    def record_and_claim_uncertain(  # noqa: PLR0913 - as `turn`, and where it stands
        self,
        run: int,
        outcomes: Sequence[DeliveryOutcome],
        limit: int,
        now: datetime,
        hashed: Hashed,
        *,
        after: int,
    ) -> tuple[ClaimedDelivery, ...]:
        """Do the same as `turn` with the open uncertain rows, to send their letters again.

        `after` is the last id that was taken before: what stays uncertain is not asked for twice.
        """
        values = {"by": run, "most": limit, "after": after}
        return self._turn(outcomes, UNCERTAIN, values, now, hashed)

    def _turn(
        self,
        outcomes: Sequence[DeliveryOutcome],
        asked: CompiledSelect[NextDelivery],
        values: Mapping[str, int],
        now: datetime,
        hashed: Hashed,
    ) -> tuple[ClaimedDelivery, ...]:
        claims, run = None, values["by"]
        with self._database.writing() as connection:
            recorded(connection, run, outcomes, now)
            if holds_lease(connection, run):
                claims = claimed(connection, asked, values, now, hashed)
        if claims is None:
            raise lost_lease()
        return claims

    # Status

    def count_planned(self, run: int) -> int:
        """Return how many rows of the plan of `run` wait to be sent."""
        return self._count((deliveries.c.state == "planned") & (deliveries.c.run == run))

    def count_by_state(self) -> Mapping[DeliveryState, int]:
        """Return how many deliveries there are in each state."""
        asked = sa.select(deliveries.c.state, sa.func.count().label("number"))
        with self._database.reading() as connection:
            rows = connection.execute(asked.group_by(deliveries.c.state))
            return {row.state: row.number for row in rows}

    def rows(self, state: DeliveryState) -> Generator[DeliveryRow, None, None]:
        """Yield the deliveries in `state`, oldest first."""
        return self._database.stream(in_state(state), entry)

    def uncertain(self) -> Generator[DeliveryRow, None, None]:
        """Yield the uncertain deliveries that nobody has acknowledged, oldest first."""
        return self._database.stream(uncertain(), entry)

    def refused(self) -> Generator[DeliveryRow, None, None]:
        """Yield the refused deliveries whose subscribers still wait for the email, oldest first."""
        return self._database.stream(refused(), entry)

    def deferred(self) -> Generator[DeliveryRow, None, None]:
        """Yield the deferred deliveries that were not refused, oldest first."""
        return self._database.stream(deferred(), entry)

    def count_uncertain(self) -> int:
        """Return how many uncertain deliveries nobody has acknowledged."""
        return self._count(OPEN_UNCERTAIN)

    def count_acknowledged(self) -> int:
        """Return how many uncertain deliveries were acknowledged."""
        return self._count(ACKNOWLEDGED)

    def acknowledge(self, now: datetime, *, dead: bool) -> tuple[DeliveryRow, ...]:
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
            rows = connection.execute(acknowledged(now)).all()
            return tuple(entry(row) for row in rows)

    def _count(self, condition: sa.ColumnElement[bool]) -> int:
        asked = sa.select(sa.func.count()).select_from(deliveries).where(condition)
        with self._database.reading() as connection:
            return connection.scalar(asked) or 0


def _sweep(connection: sa.Connection, run: int, now: datetime) -> tuple[int, ...]:
    """Make deliveries that other runs left in `sending` uncertain; return their ids."""
    rows = left_by_others(connection, run)
    settle(
        connection, [(row, DeliveryOutcome(row.id, "uncertain", row.reply)) for row in rows], now
    )
    return tuple(row.id for row in rows)


_PLANNED = "subscriber number issue state cursor_date cursor_seq attempts run changed reply".split()


def _planned(letter: int, to: Cursor, run: sa.ColumnElement[Any], now: datetime) -> sa.Select[Any]:
    """Return the question for a planned row, in the columns above, for each subscriber."""
    return sa.select(
        subscribers.c.id,
        subscribers.c.issues,
        sa.literal(letter),
        sa.literal("planned"),
        sa.literal(to.date),
        sa.literal(to.seq),
        sa.literal(0),
        run,
        sa.literal(now, deliveries.c.changed.type),
        sa.literal(""),
    )


def _replacing(statement: Insert, now: datetime) -> Insert:
    """Return `statement` with what happens to a row that the subscriber has already."""
    new, held = statement.excluded, deliveries.c
    newer = (new.cursor_date > held.cursor_date) | (new.cursor_seq > held.cursor_seq)
    goes_on = ~newer & held.state.in_(OPEN)
    waits = goes_on & (held.state == "deferred") & (held.retry_at > now)
    return statement.on_conflict_do_update(
        index_elements=["subscriber", "number"],
        set_={
            "issue": new.issue,
            "state": sa.case((waits, "deferred"), else_="planned"),
            "cursor_date": new.cursor_date,
            "cursor_seq": new.cursor_seq,
            "attempts": sa.case((goes_on, held.attempts), else_=0),
            "retry_at": sa.case((goes_on, held.retry_at), else_=None),
            # A newer issue takes the place of a refused one and holds its posts.
            "refused": sa.case((goes_on, held.refused), else_=None),
            "run": new.run,
            "changed": new.changed,
        },
        where=held.state.in_((*OPEN, "cancelled")) | ((held.state == "bounced") & newer),
    )
