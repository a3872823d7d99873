"""Writing down what became of deliveries, and closing those that are final."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from attrs import evolve

from postroom.database.schema import deliveries, subscribers
from postroom.database.statements import greater
from postroom.model import Outcome
from postroom.store.reports import note_failures

# A server may say as much as it likes (RFC 5321 §4.2.1); this is enough to act on.
_LONGEST_REPLY = 1000
DELIVERED = ("sent", "uncertain")


def closable() -> sa.Select[Any]:
    """Return the question for rows of deliveries and their subscribers' count of letters."""
    return (
        sa.select(deliveries, subscribers.c.letters)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries)
    )


def recorded(
    connection: sa.Connection, run: int, outcomes: Sequence[Outcome], now: datetime
) -> int:
    """Write down `outcomes` in the caller's transaction; see `Ledger.record`."""
    by_id = {outcome.delivery: outcome for outcome in outcomes}
    if not by_id:
        return 0
    asked = closable().where(
        deliveries.c.id.in_(by_id),
        deliveries.c.run == run,
        deliveries.c.state.in_(("sending", "uncertain")),
    )
    settled = [(row, _final(row, by_id[row.id])) for row in connection.execute(asked)]
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
    """Move rows into their states, and close those that are final."""
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
