"""The delivery ledger in the database: each row is one issue for one subscriber.

A delivery is *planned*, *claimed* by a run that is about to send it (state `sending`), and
*settled* with an outcome. `sent` and `uncertain` *close* it: the subscriber's cursor is raised, and
the next delivery gets a row of its own. Otherwise a later plan may use the same row again. A
delivery is *open* while it is planned or deferred.
"""

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

Hashed: TypeAlias = Callable[[str], str]
"""Returns the suppression hash of an address's key."""

# RFC 5321 §4.2.1 does not limit the number of lines in a reply; this much is enough to act on.
_LONGEST_REPLY = 1000
DELIVERED = ("sent", "uncertain")
"""States that close a delivery (delivery rules, rule 10).

Closing raises the subscriber's cursor and the count of closed deliveries.
"""
_NOT_RECEIVED: tuple[DeliveryState, ...] = ("planned", "deferred", "bounced")

_UNCERTAIN = (deliveries.c.state == "uncertain") & deliveries.c.acknowledged.is_(None)
_ACKNOWLEDGED = (deliveries.c.state == "uncertain") & deliveries.c.acknowledged.is_not(None)


# Closing deliveries


@frozen
class SendingRow:
    """A delivery that was claimed and may be closed.

    `number` is the delivery's number among those of the subscriber, from 0. `issues` counts the
    closed deliveries of the subscriber, so the delivery is closed if `issues` is greater.
    """

    id: int
    subscriber: int
    number: int
    cursor_date: date
    cursor_seq: int
    reply: str
    issues: int


def _closable(condition: Callable[[int], sa.ColumnElement[bool]]) -> CompiledSelect[SendingRow]:
    names = "id subscriber number cursor_date cursor_seq reply".split()
    query = (
        sa.select(*(deliveries.c[name] for name in names), subscribers.c.issues)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries)
    )
    return CompiledSelect(lambda size: query.where(condition(size)), SendingRow)


_CLAIMED = _closable(
    lambda size: (
        among(deliveries.c.id, size)
        & (deliveries.c.run == bindparam("of_run"))
        & ((deliveries.c.state == "sending") | (deliveries.c.state == "uncertain"))
    )
)
_LEFT_IN_SENDING = _closable(
    lambda _: (deliveries.c.state == "sending") & (deliveries.c.run != bindparam("of_run"))
)
_SETTLE = CompiledUpdate(
    lambda _: (
        sa.update(deliveries)
        .where(deliveries.c.id == bindparam("row"))
        .values(
            state=bindparam("new"),
            reply=bindparam("new_reply"),
            retry_at=bindparam("new_retry_at"),
            refused=bindparam("refused_at"),
            changed=bindparam("now"),
        )
    )
)
# Only if the subscriber's count still is the row's: a delivery is closed once.
_CLOSE = CompiledUpdate(
    lambda _: (
        sa.update(subscribers)
        .where(
            subscribers.c.id == bindparam("which"),
            subscribers.c.issues == bindparam("number"),
        )
        .values(
            issues=subscribers.c.issues + 1,
            cursor_date=greater(subscribers.c.cursor_date, bindparam("to_date", type_=sa.Date())),
            cursor_seq=greater(
                subscribers.c.cursor_seq, bindparam("to_seq", type_=sa.BigInteger())
            ),
        )
    )
)


def _record(
    connection: sa.Connection, run: int, outcomes: Sequence[DeliveryOutcome], now: datetime
) -> int:
    """Record `outcomes` within the caller's transaction; see `DeliveryTable.record`."""
    by_id = {outcome.delivery: outcome for outcome in outcomes}
    if not by_id:
        return 0
    rows = _CLAIMED.all(connection, {"of_run": run}, list(by_id))
    settled = [(row, _final(row, by_id[row.id])) for row in rows]
    settle(connection, settled, now)
    failures = [outcome.failure for _, outcome in settled if outcome.failure]
    if failures:
        note_failures(connection, failures, now)
    return len(settled)


def _final(row: SendingRow, outcome: DeliveryOutcome) -> DeliveryOutcome:
    """Return the outcome to record for `row`: `outcome`, or `uncertain` instead.

    A closed row has raised the subscriber's cursor already, so it cannot be planned again: it
    becomes `sent` if the email was accepted, and stays `uncertain` otherwise.
    """
    if row.issues > row.number and outcome.state != "sent":
        return evolve(outcome, state="uncertain", retry_at=None, refused=False)
    return outcome


def settle(
    connection: sa.Connection, settled: Sequence[tuple[SendingRow, DeliveryOutcome]], now: datetime
) -> None:
    """Store each outcome in its row.

    If the new state closes the delivery, raise the subscriber's cursor and the count of closed
    deliveries.
    """
    if not settled:
        return
    outcomes = [
        {
            "row": row.id,
            "new": outcome.state,
            "new_reply": outcome.reply[:_LONGEST_REPLY],
            "new_retry_at": outcome.retry_at,
            "refused_at": now if outcome.refused else None,
        }
        for row, outcome in settled
    ]
    _SETTLE.run_many(connection, outcomes, {"now": now})
    closing = [
        {
            "which": row.subscriber,
            "number": row.number,
            "to_date": row.cursor_date,
            "to_seq": row.cursor_seq,
        }
        for row, outcome in settled
        if outcome.state in DELIVERED
    ]
    if closing:
        _CLOSE.run_many(connection, closing)


def _sweep(connection: sa.Connection, run: int, now: datetime) -> tuple[int, ...]:
    """Mark deliveries that other runs left in `sending` as `uncertain`; return their ids."""
    rows = _LEFT_IN_SENDING.all(connection, {"of_run": run})
    settle(
        connection, [(row, DeliveryOutcome(row.id, "uncertain", row.reply)) for row in rows], now
    )
    return tuple(row.id for row in rows)


# Claiming deliveries


@frozen
class ClaimableRow:
    """A delivery that may be claimed, with its subscriber's address, token and state."""

    id: int
    subscriber: int
    number: int
    issue: int
    state: DeliveryState
    attempts: int
    address: str
    token: str
    subscriber_state: State


def _claimable(*conditions: sa.ColumnElement[bool]) -> CompiledSelect[ClaimableRow]:
    """Return a query for deliveries that fulfil `conditions`, in the order of their ids.

    The parameters of the query are `after` and `most`: it returns up to `most` rows with a greater
    id than `after`. It skips rows that another transaction has locked.
    """
    names = "id subscriber number issue state attempts".split()
    query = (
        sa.select(
            *(deliveries.c[name] for name in names),
            subscribers.c.address,
            subscribers.c.token,
            subscribers.c.state.label("subscriber_state"),
        )
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .where(*conditions, deliveries.c.id > bindparam("after"))
        .order_by(deliveries.c.id)
        .limit(bindparam("most"))
        .with_for_update(of=deliveries, skip_locked=True)
    )
    return CompiledSelect(lambda _: query, ClaimableRow)


_PLANNED_ROWS = _claimable(deliveries.c.state == "planned", deliveries.c.run == bindparam("of_run"))
_UNCERTAIN_ROWS = _claimable(_UNCERTAIN)
_CLAIM = CompiledUpdate(
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
_CANCEL = CompiledUpdate(
    lambda size: (
        sa.update(deliveries)
        .where(among(deliveries.c.id, size))
        .values(state="cancelled", changed=bindparam("now"))
    )
)
_SUPPRESSED = CompiledSelect(
    lambda size: sa.select(suppressions.c.hash).where(among(suppressions.c.hash, size)), str
)


def _claim(
    connection: sa.Connection,
    query: CompiledSelect[ClaimableRow],
    values: Mapping[str, int],
    now: datetime,
    hashed: Hashed,
) -> tuple[ClaimedDelivery, ...]:
    """Claim the first rows of `query` that may be sent, within the caller's transaction.

    `values` holds the parameters of the query and, as `by`, the run that claims. A row may be sent
    if its subscriber is active and the address is not suppressed; planned rows that may not be sent
    are cancelled.
    """
    after, run = values["after"], values["by"]
    parameters = {name: value for name, value in values.items() if name != "by"}
    while rows := query.all(connection, {**parameters, "after": after}):
        suppressed = _suppressed(connection, rows, hashed)
        allowed = [
            row for row in rows if row.subscriber_state == "active" and row.id not in suppressed
        ]
        ids = [row.id for row in allowed]
        if dropped := [row.id for row in rows if row.state == "planned" and row.id not in ids]:
            _CANCEL.run(connection, {"now": now}, dropped)
        if ids:
            _CLAIM.run(connection, {"by": run, "now": now}, ids)
            return tuple(map(_claimed, allowed))
        after = rows[-1].id
    return ()


def _claimed(row: ClaimableRow) -> ClaimedDelivery:
    return ClaimedDelivery(
        id=row.id,
        subscriber=row.subscriber,
        number=row.number,
        issue=row.issue,
        address=row.address,
        token=row.token,
        attempts=row.attempts + 1,
    )


def _suppressed(
    connection: sa.Connection, rows: Sequence[ClaimableRow], hashed: Hashed
) -> frozenset[int]:
    """Return the ids of the rows whose address is suppressed, whatever the subscriber's state."""
    ids = {hashed(address_key(row.address)): row.id for row in rows}
    return frozenset(ids[found] for found in _SUPPRESSED.all(connection, {}, list(ids)))


# Planning deliveries

_PLAN_COLUMNS = (
    "subscriber number issue state cursor_date cursor_seq attempts run changed reply".split()
)


def _planned_rows(
    issue: int, cursor: Cursor, run: sa.ColumnElement[Any], now: datetime
) -> sa.Select[Any]:
    """Return a query that makes a planned delivery of `issue` for each subscriber.

    Its columns are those of `_PLAN_COLUMNS`. The caller adds the condition that chooses the
    subscribers.
    """
    return sa.select(
        subscribers.c.id,
        subscribers.c.issues,
        sa.literal(issue),
        sa.literal("planned"),
        sa.literal(cursor.date),
        sa.literal(cursor.seq),
        sa.literal(0),
        run,
        sa.literal(now, deliveries.c.changed.type),
        sa.literal(""),
    )


def _replacing(statement: Insert, now: datetime) -> Insert:
    """Return the INSERT `statement` with an ON CONFLICT clause (delivery rules, rules 9 to 11).

    If the subscriber has a delivery that is not closed, the new plan replaces it in the same row.
    """
    new, old = statement.excluded, deliveries.c
    newer = (new.cursor_date > old.cursor_date) | (new.cursor_seq > old.cursor_seq)
    goes_on = ~newer & old.state.in_(OPEN)
    waits = goes_on & (old.state == "deferred") & (old.retry_at > now)
    return statement.on_conflict_do_update(
        index_elements=["subscriber", "number"],
        set_={
            "issue": new.issue,
            "state": sa.case((waits, "deferred"), else_="planned"),
            "cursor_date": new.cursor_date,
            "cursor_seq": new.cursor_seq,
            "attempts": sa.case((goes_on, old.attempts), else_=0),
            "retry_at": sa.case((goes_on, old.retry_at), else_=None),
            # A newer issue replaces a refused one and holds its posts.
            "refused": sa.case((goes_on, old.refused), else_=None),
            "run": new.run,
            "changed": new.changed,
        },
        where=old.state.in_((*OPEN, "cancelled")) | ((old.state == "bounced") & newer),
    )


# Showing deliveries


def _entries(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    issue = issues.c.frequency, issues.c.cutoff, issues.c.language
    return (
        sa.select(deliveries, subscribers.c.address, *issue)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .join(issues, issues.c.id == deliveries.c.issue)
        .where(*conditions)
        .order_by(deliveries.c.id)
    )


def _entry(row: sa.Row[Any]) -> DeliveryRow:
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


class DeliveryTable:
    """The table of deliveries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Planning

    def plan(self, run: int, segment: Segment, issue: int, cursor: Cursor, now: datetime) -> int:
        """Plan `issue` for all subscribers of `segment` in one statement; return their number.

        `cursor` is the cursor of these subscribers once the issue is delivered. An open delivery of
        an earlier plan is replaced. A deferred delivery keeps its attempts and its delay unless
        `cursor` is newer than the delivery's own; a bounced one is replaced only if `cursor` is
        newer. A delivery in `sending` stays as it is.
        """
        rows = _planned_rows(issue, cursor, sa.literal(run), now)
        chosen = rows.where(is_plannable(segment, cursor)).order_by("id")
        with self._database.writing() as connection:
            statement = insert(connection, deliveries).from_select(_PLAN_COLUMNS, chosen)
            return connection.execute(_replacing(statement, now)).rowcount

    def plan_welcome(self, subscriber: int, issue: int, now: datetime) -> bool:
        """Plan a welcome issue for an active subscriber who has no open delivery.

        A welcome issue raises no cursor. It is added to the plan of the latest run. If that run is
        still sending, it sends the issue. Otherwise the next run sends it, unless that run plans
        another issue for the subscriber. Return whether the issue was planned; before the first
        run no welcome issue is planned.
        """
        last = sa.select(sa.func.max(runs.c.id)).scalar_subquery()
        which = (subscribers.c.id == subscriber) & (subscribers.c.state == "active")
        rows = _planned_rows(issue, Cursor(date.min), last, now)
        chosen = rows.where(which, last.is_not(None))
        with self._database.writing() as connection:
            statement = insert(connection, deliveries).from_select(_PLAN_COLUMNS, chosen)
            return connection.execute(statement.on_conflict_do_nothing()).rowcount == 1

    def adopt(self, run: int, issue: int) -> int:
        """Add the open deliveries of a welcome issue to the plan of `run`; return their number."""
        condition = deliveries.c.state.in_(OPEN) & (deliveries.c.issue == issue)
        with self._database.writing() as connection:
            return connection.execute(
                sa.update(deliveries).where(condition).values(run=run)
            ).rowcount

    def cancel_stale(self, run: int, now: datetime) -> int:
        """Cancel the open deliveries that are not in the plan of `run`; return their number.

        They are left over from earlier plans: their subscribers are no longer active, or nothing is
        due to them any more.
        """
        statement = (
            sa.update(deliveries)
            .where(deliveries.c.state.in_(OPEN), deliveries.c.run != run)
            .values(state="cancelled", changed=now)
        )
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount

    def retry_deferred(self, run: int, now: datetime) -> int:
        """Change the deferred deliveries of `run` whose delay is over to planned.

        Return their number.
        """
        condition = sa.and_(
            deliveries.c.state == "deferred", deliveries.c.run == run, deliveries.c.retry_at <= now
        )
        statement = sa.update(deliveries).where(condition).values(state="planned", changed=now)
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount

    # Sending

    def sweep(self, run: int, now: datetime) -> tuple[int, ...]:
        """Mark deliveries left in `sending` by a crashed run as `uncertain`; return their ids.

        `run` holds the lease, so no other run is alive. Raises `LeaseError` if it does not.
        """
        with self._database.writing() as connection:
            require_lease(connection, run)
            return _sweep(connection, run, now)

    def record(self, run: int, outcomes: Sequence[DeliveryOutcome], now: datetime) -> int:
        """Record the outcomes of deliveries that this run claimed; return how many were recorded.

        Skip deliveries that were deleted or that another run has claimed since. The run need not
        hold the lease any more: another run may have marked its deliveries as uncertain, and this
        run may still record that an email was sent.
        """
        with self._database.writing() as connection:
            return _record(connection, run, outcomes, now)

    def record_and_claim(
        self,
        run: int,
        outcomes: Sequence[DeliveryOutcome],
        limit: int,
        now: datetime,
        hashed: Hashed,
    ) -> tuple[ClaimedDelivery, ...]:
        """Record outcomes as `record` does, then claim up to `limit` planned deliveries, by id.

        Both happen in one transaction, which waits for the disk once instead of twice. The claims
        are durable when this method returns, and after a crash all claimed deliveries become
        uncertain; so claim no more than can be sent at once. Deliveries whose subscriber is no
        longer active, or whose address is suppressed, are cancelled instead; `hashed` returns the
        suppression hash of an address's key. If the run does not hold the lease any more, its
        outcomes are recorded, nothing is claimed, and `LeaseError` is raised.
        """
        values = {"of_run": run, "by": run, "most": limit, "after": 0}
        return self._record_and_claim(outcomes, _PLANNED_ROWS, values, now, hashed)

    def record_and_claim_uncertain(  # noqa: PLR0913 - as `record_and_claim`, and where to go on
        self,
        run: int,
        outcomes: Sequence[DeliveryOutcome],
        limit: int,
        now: datetime,
        hashed: Hashed,
        *,
        after: int,
    ) -> tuple[ClaimedDelivery, ...]:
        """Do as `record_and_claim`, but claim uncertain deliveries that nobody has acknowledged.

        Only deliveries with an id above `after`, the last one claimed, are considered: a delivery
        that stays uncertain would otherwise be claimed again and again.
        """
        values = {"by": run, "most": limit, "after": after}
        return self._record_and_claim(outcomes, _UNCERTAIN_ROWS, values, now, hashed)

    def _record_and_claim(
        self,
        outcomes: Sequence[DeliveryOutcome],
        query: CompiledSelect[ClaimableRow],
        values: Mapping[str, int],
        now: datetime,
        hashed: Hashed,
    ) -> tuple[ClaimedDelivery, ...]:
        claims, run = None, values["by"]
        with self._database.writing() as connection:
            _record(connection, run, outcomes, now)
            if holds_lease(connection, run):
                claims = _claim(connection, query, values, now, hashed)
        if claims is None:
            raise lost_lease()
        return claims

    # Status

    def count_planned(self, run: int) -> int:
        """Return the number of planned deliveries of `run`."""
        return self._count((deliveries.c.state == "planned") & (deliveries.c.run == run))

    def count_by_state(self) -> Mapping[DeliveryState, int]:
        """Return the number of deliveries in each state."""
        query = sa.select(deliveries.c.state, sa.func.count().label("number"))
        with self._database.reading() as connection:
            rows = connection.execute(query.group_by(deliveries.c.state))
            return {row.state: row.number for row in rows}

    def rows(self, state: DeliveryState) -> Generator[DeliveryRow, None, None]:
        """Yield the deliveries in `state`, oldest first."""
        return self._entries(deliveries.c.state == state)

    def uncertain(self) -> Generator[DeliveryRow, None, None]:
        """Yield the uncertain deliveries that nobody has acknowledged, oldest first."""
        return self._entries(_UNCERTAIN)

    def refused(self) -> Generator[DeliveryRow, None, None]:
        """Yield the refused deliveries whose subscribers still miss the issue, oldest first.

        The issue has neither been sent since nor been replaced by a newer issue, and the subscriber
        is pending, active or paused.
        """
        return self._entries(
            deliveries.c.refused.is_not(None),
            deliveries.c.state.in_(_NOT_RECEIVED),
            subscribers.c.state.in_(RECEIVING),
        )

    def deferred(self) -> Generator[DeliveryRow, None, None]:
        """Yield the deferred deliveries that were not refused, oldest first."""
        return self._entries(deliveries.c.state == "deferred", deliveries.c.refused.is_(None))

    def count_uncertain(self) -> int:
        """Return the number of uncertain deliveries that nobody has acknowledged."""
        return self._count(_UNCERTAIN)

    def count_acknowledged(self) -> int:
        """Return the number of uncertain deliveries that were acknowledged."""
        return self._count(_ACKNOWLEDGED)

    def acknowledge(self, now: datetime, *, dead: bool) -> tuple[DeliveryRow, ...]:
        """Acknowledge the uncertain deliveries, so that they are never sent again; return them.

        They stay uncertain and count as delivered. With `dead`, first mark all deliveries in
        `sending` as uncertain; they come from a crashed run. The caller must have made sure that no
        run is alive (see `Database.locked`).
        """
        with self._database.writing() as connection:
            if dead:
                _sweep(connection, 0, now)
            connection.execute(sa.update(deliveries).where(_UNCERTAIN).values(acknowledged=now))
            rows = connection.execute(_entries(_ACKNOWLEDGED, deliveries.c.acknowledged == now))
            return tuple(map(_entry, rows.all()))

    def _entries(self, *conditions: sa.ColumnElement[bool]) -> Generator[DeliveryRow, None, None]:
        return self._database.stream(_entries(*conditions), _entry)

    def _count(self, condition: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(deliveries).where(condition)
        with self._database.reading() as connection:
            return connection.scalar(query) or 0
