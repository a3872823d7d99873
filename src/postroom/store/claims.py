"""Taking rows of the ledger for sending: which may be, and what is needed of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from attrs import frozen
from sqlalchemy import bindparam

from postroom.address import key_of
from postroom.database.ready import Change, Question, among
from postroom.database.schema import deliveries, subscribers, suppressions
from postroom.model import Claim, DeliveryState, State

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
class Next:
    """A row that may be taken, and whose it is."""

    id: int
    subscriber: int
    n: int
    letter: int
    state: DeliveryState
    attempts: int
    address: str
    token: str
    whose_state: State


def _next(asked: sa.Select[Any]) -> Question[Next]:
    """Return the question for the next rows; what another worker has at hand is passed over."""
    columns = [deliveries.c[name] for name in "id subscriber n letter state attempts".split()]
    whose = subscribers.c.address, subscribers.c.token, subscribers.c.state.label("whose_state")
    statement = (
        asked.with_only_columns(*columns, *whose)
        .where(deliveries.c.id > bindparam("after"))
        .limit(bindparam("most"))
        .with_for_update(of=deliveries, skip_locked=True)
    )
    return Question(lambda _: statement, Next)


PLANNED = _next(rows_in("planned").where(deliveries.c.run == bindparam("of_run")))
"""The planned rows of the run `of_run`, by id, behind `after`, and `most` of them."""
UNCERTAIN = _next(rows_in("uncertain").where(OPEN_UNCERTAIN))
"""The same of those that are uncertain and that nobody has acknowledged, of whichever run."""
_TAKE = Change(
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
_DROP = Change(
    lambda size: (
        sa.update(deliveries)
        .where(among(deliveries.c.id, size))
        .values(state="cancelled", changed=bindparam("now"))
    )
)
_CLOSED = Question(
    lambda size: sa.select(suppressions.c.hash).where(among(suppressions.c.hash, size)), str
)


def claim_of(row: sa.Row[Any] | Next, tries: int = 0) -> Claim:
    """Return what is needed of a row for its message, `tries` counted in."""
    return Claim(
        id=row.id,
        subscriber=row.subscriber,
        number=row.n,
        letter=row.letter,
        address=row.address,
        token=row.token,
        attempts=row.attempts + tries,
    )


def claimed(
    connection: sa.Connection,
    asked: Question[Next],
    values: Mapping[str, int],
    now: datetime,
    hashed: Hashed,
) -> tuple[Claim, ...]:
    """Put the rows of `asked` into sending; where none of them may be sent, go on behind them.

    `values` are those of the question, and the run that takes them as `by`.
    """
    after, run = values["after"], values["by"]
    question = {name: value for name, value in values.items() if name != "by"}
    while rows := asked.ask(connection, {**question, "after": after}):
        closed = _suppressed(connection, rows, hashed)
        ids = [row.id for row in rows if row.whose_state == "active" and row.id not in closed]
        if gone := [row.id for row in rows if row.state == "planned" and row.id not in ids]:
            _DROP.make(connection, {"now": now}, gone)
        if ids:
            _TAKE.make(connection, {"by": run, "now": now}, ids)
            return tuple(claim_of(row, tries=1) for row in rows if row.id in ids)
        after = rows[-1].id
    return ()


def _suppressed(connection: sa.Connection, rows: Sequence[Next], hashed: Hashed) -> frozenset[int]:
    """Return the ids of the rows whose address is suppressed, whatever its subscriber's state."""
    hashes = {hashed(key_of(row.address)): row.id for row in rows}
    return frozenset(hashes[each] for each in _CLOSED.ask(connection, {}, list(hashes)))
