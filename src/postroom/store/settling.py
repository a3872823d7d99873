"""Writing down what became of deliveries, and closing those that are final."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime

import sqlalchemy as sa
from attrs import evolve, frozen
from sqlalchemy import bindparam

from postroom.database.ready import Change, Question, among
from postroom.database.schema import deliveries, subscribers
from postroom.database.statements import greater
from postroom.model import Outcome
from postroom.store.reports import note_failures

# A server may say as much as it likes (RFC 5321 §4.2.1); this is enough to act on.
_LONGEST_REPLY = 1000
DELIVERED = ("sent", "uncertain")


@frozen
class Row:
    """A row that may be closed, and how many letters of its subscriber are closed."""

    id: int
    subscriber: int
    n: int
    before: date
    upto: int
    reply: str
    letters: int


def _closable(condition: Callable[[int], sa.ColumnElement[bool]]) -> Question[Row]:
    """Return the question for the rows of which `condition` is true."""
    columns = [deliveries.c[name] for name in "id subscriber n before upto reply".split()]
    asked = (
        sa.select(*columns, subscribers.c.letters)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .order_by(deliveries.c.id)
        .with_for_update(of=deliveries)
    )
    return Question(lambda size: asked.where(condition(size)), Row)


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
_SETTLE = Change(
    lambda _: (
        sa.update(deliveries)
        .where(deliveries.c.id == bindparam("row"))
        .values(
            state=bindparam("new"),
            reply=bindparam("said"),
            due=bindparam("then"),
            refused=bindparam("refused_at"),
            changed=bindparam("now"),
        )
    )
)
# Only of those whose count still is the row's.
_CLOSE = Change(
    lambda _: (
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
)


def left_by_others(connection: sa.Connection, run: int) -> Sequence[Row]:
    """Return the rows that another run than `run` was sending."""
    return _LEFT.ask(connection, {"of_run": run})


def recorded(
    connection: sa.Connection, run: int, outcomes: Sequence[Outcome], now: datetime
) -> int:
    """Write down `outcomes` in the caller's transaction; see `Ledger.record`."""
    by_id = {outcome.delivery: outcome for outcome in outcomes}
    if not by_id:
        return 0
    rows = _ANSWERED.ask(connection, {"of_run": run}, list(by_id))
    settled = [(row, _final(row, by_id[row.id])) for row in rows]
    settle(connection, settled, now)
    failures = [outcome.failure for _, outcome in settled if outcome.failure]
    if failures:
        note_failures(connection, failures, now)
    return len(settled)


def _final(row: Row, outcome: Outcome) -> Outcome:
    """Return what can still become of a row: a closed one is sent, or stays uncertain."""
    if row.letters > row.n and outcome.state != "sent":
        return evolve(outcome, state="uncertain", due=None, refused=False)
    return outcome


def settle(
    connection: sa.Connection, settled: Sequence[tuple[Row, Outcome]], now: datetime
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
            "refused_at": now if outcome.refused else None,
        }
        for row, outcome in settled
    ]
    _SETTLE.make_each(connection, moves, {"now": now})
    closing = [
        {"whose": row.subscriber, "number": row.n, "to_before": row.before, "to_upto": row.upto}
        for row, outcome in settled
        if outcome.state in DELIVERED
    ]
    if closing:
        _CLOSE.make_each(connection, closing)
