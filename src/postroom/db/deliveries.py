"""The delivery ledger in the database: one row for each issue to each subscriber."""

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
"""States that close a delivery: they raise the cursor and the count (delivery rules, rule 10)."""
_NOT_RECEIVED: tuple[DeliveryState, ...] = ("planned", "deferred", "bounced")

_UNCERTAIN = (deliveries.c.state == "uncertain") & deliveries.c.acknowledged.is_(None)
_ACKNOWLEDGED = (deliveries.c.state == "uncertain") & deliveries.c.acknowledged.is_not(None)


# Closing deliveries


@frozen
class SendingRow:
    """A delivery that may be closed; `issues` counts the closed deliveries of its subscriber."""

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
    """Return the outcome that a row can have: a closed one becomes sent or stays uncertain."""
    if row.issues > row.number and outcome.state != "sent":
        return evolve(outcome, state="uncertain", retry_at=None, refused=False)
    return outcome


def settle(
    connection: sa.Connection, settled: Sequence[tuple[SendingRow, DeliveryOutcome]], now: datetime
) -> None:
    """Store the outcomes; where they close a delivery, raise the subscriber's cursor and count."""
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
    """Return a query for the first `most` rows behind the id `after`.

    Rows that another worker has locked are skipped.
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

    `values` are those of the query, and as `by` the run that claims. Planned rows that may not be
    sent are cancelled.
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
    """Return a query for a planned row, in the columns above, for each subscriber."""
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
    """Return `statement` with the replacement of the subscriber's open row (rules 9 to 11)."""
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

        `cursor` is theirs once the issue is delivered. An open row of an earlier plan is replaced;
        a deferred one keeps its attempts and its delay unless `cursor` is newer; a bounced one is
        replaced only if `cursor` is newer. A row in `sending` is not touched.
        """
        rows = _planned_rows(issue, cursor, sa.literal(run), now)
        chosen = rows.where(is_plannable(segment, cursor)).order_by("id")
        with self._database.writing() as connection:
            statement = insert(connection, deliveries).from_select(_PLAN_COLUMNS, chosen)
            return connection.execute(_replacing(statement, now)).rowcount

    def plan_welcome(self, subscriber: int, issue: int, now: datetime) -> bool:
        """Plan a welcome issue for an active subscriber who has no open delivery.

        It raises no cursor. A run that is under way sends it; otherwise the next run does, unless
        it plans another issue. Before the first run there is no welcome issue.
        """
        last = sa.select(sa.func.max(runs.c.id)).scalar_subquery()
        which = (subscribers.c.id == subscriber) & (subscribers.c.state == "active")
        rows = _planned_rows(issue, Cursor(date.min), last, now)
        chosen = rows.where(which, last.is_not(None))
        with self._database.writing() as connection:
            statement = insert(connection, deliveries).from_select(_PLAN_COLUMNS, chosen)
            return connection.execute(statement.on_conflict_do_nothing()).rowcount == 1

    def adopt(self, run: int, issue: int) -> int:
        """Make the open deliveries of a welcome issue part of this run's plan; return how many."""
        condition = deliveries.c.state.in_(OPEN) & (deliveries.c.issue == issue)
        with self._database.writing() as connection:
            return connection.execute(
                sa.update(deliveries).where(condition).values(run=run)
            ).rowcount

    def cancel_stale(self, run: int, now: datetime) -> int:
        """Cancel the open deliveries that the plan of `run` did not take up; return how many.

        Their subscribers are no longer active, or nothing is due to them any more.
        """
        statement = (
            sa.update(deliveries)
            .where(deliveries.c.state.in_(OPEN), deliveries.c.run != run)
            .values(state="cancelled", changed=now)
        )
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount

    def retry_deferred(self, run: int, now: datetime) -> int:
        """Plan the deferred deliveries of this run whose delay is over; return how many."""
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

        Deliveries that were deleted, or are no longer this run's, are skipped. A run that lost its
        lease may still record that an email, uncertain by now, was sent.
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

        Both happen in one transaction, which needs one wait for the disk instead of two. It is
        durable before this method returns, so claim no more than there are open connections.
        Deliveries of subscribers who are no longer active, or whose address is suppressed under its
        `hashed` key, are cancelled instead. A run that lost its lease records its outcomes; then
        `LeaseError` is raised.
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
        """Do as `record_and_claim` with uncertain deliveries that nobody has acknowledged.

        `after` is the last id that was claimed before, as deliveries may stay uncertain.
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

        The issue has neither been sent since nor been replaced by a newer one, and the subscriber
        is not unsubscribed or suppressed.
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

        They stay uncertain and count as delivered. With `dead`, deliveries that a crashed run left
        in `sending` become uncertain first; the caller has made sure that no run is alive
        (`Database.locked`).
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
