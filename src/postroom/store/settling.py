"""Writing down what became of deliveries, and closing those that are final."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import evolve
from sqlalchemy import bindparam

from postroom.database.schema import deliveries, subscribers
from postroom.database.statements import greater
from postroom.model import Outcome
from postroom.store.reports import note_failures

# A server may say as much as it likes (RFC 5321 §4.2.1); this is enough to act on.
_LONGEST_REPLY = 1000
DELIVERED = ("sent", "uncertain")


def _closable(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return the question for rows of deliveries and their subscribers' count of letters."""
    columns = [deliveries.c[name] for name in "id subscriber n before upto reply".split()]
    return (
        sa.select(*columns, subscribers.c.letters)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .where(condition)
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries)
    )


# They stand ready: to build a statement takes several times as long as to run it.
_ANSWERED = _closable(
    deliveries.c.id.in_(bindparam("ids", expanding=True))
    & (deliveries.c.run == bindparam("of_run"))
    & deliveries.c.state.in_(("sending", "uncertain"))
)
_LEFT = _closable((deliveries.c.state == "sending") & (deliveries.c.run != bindparam("of_run")))
_SETTLE = (
    sa.update(deliveries)
    .where(deliveries.c.id == bindparam("row"))
    .values(
        state=bindparam("new"),
        reply=bindparam("said"),
        due=bindparam("then"),
        changed=bindparam("now"),
    )
)
# Only of those whose count still is the row's.
_CLOSE = (
    sa.update(subscribers)
    .where(
        subscribers.c.id == bindparam("whose"),
        subscribers.c.letters == bindparam("number"),
    )
    .values(
        letters=subscribers.c.letters + 1,
        before=greater(subscribers.c.before, bindparam("to_before", type_=sa.Date())),
        upto=greater(subscribers.c.upto, bindparam("to_upto", type_=sa.BigInteger())),
    )
)


def left_by_others(connection: sa.Connection, run: int) -> Sequence[sa.Row[Any]]:
    """Return the rows that another run than `run` was sending."""
    return connection.execute(_LEFT, {"of_run": run}).all()


def recorded(
    connection: sa.Connection, run: int, outcomes: Sequence[Outcome], now: datetime
) -> int:
    """Write down `outcomes` in the caller's transaction; see `Ledger.record`."""
    by_id = {outcome.delivery: outcome for outcome in outcomes}
    if not by_id:
        return 0
    rows = connection.execute(_ANSWERED, {"ids": list(by_id), "of_run": run}).all()
    settled = [(row, _final(row, by_id[row.id])) for row in rows]
    settle(connection, settled, now)
    failures = [outcome.failure for _, outcome in settled if outcome.failure]
    if failures:
        note_failures(connection, failures, now)
    return len(settled)


def _final(row: sa.Row[Any], outcome: Outcome) -> Outcome:
    """Return what can still become of a row: a closed one is sent, or stays uncertain."""
    if row.letters > row.n and outcome.state != "sent":
        return evolve(outcome, state="uncertain", due=None)
    return outcome


def settle(
    connection: sa.Connection, settled: Sequence[tuple[sa.Row[Any], Outcome]], now: datetime
) -> None:
    """Move rows into their states; of those that are final, raise the bookmark and count."""
    if not settled:
        return
    moves = [
        {
            "row": row.id,
            "new": outcome.state,
            "said": outcome.reply[:_LONGEST_REPLY],
            "then": outcome.due,
            "now": now,
        }
        for row, outcome in settled
    ]
    connection.execute(_SETTLE, moves)
    closing = [
        {"whose": row.subscriber, "number": row.n, "to_before": row.before, "to_upto": row.upto}
        for row, outcome in settled
        if outcome.state in DELIVERED
    ]
    if closing:
        connection.execute(_CLOSE, closing)
