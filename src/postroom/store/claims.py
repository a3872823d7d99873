"""Taking rows of the ledger for sending: which may be, and what is needed of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import sqlalchemy as sa

from postroom.address import key_of
from postroom.database.schema import deliveries, subscribers, suppressions
from postroom.model import Claim, DeliveryState

Hashed: TypeAlias = Callable[[str], str]
"""Makes the hash under which the address with a key is suppressed."""


def rows_in(state: DeliveryState) -> sa.Select[Any]:
    """Return the question for deliveries in `state`, by id, and whose they are."""
    whose = subscribers.c.address, subscribers.c.token, subscribers.c.state.label("whose_state")
    return (
        sa.select(deliveries, *whose)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .where(deliveries.c.state == state)
        .order_by(deliveries.c.id)
    )


def claimable(state: DeliveryState, limit: int) -> sa.Select[Any]:
    """Return the question for the next rows; what another worker has at hand is passed over."""
    return rows_in(state).limit(limit).with_for_update(of=deliveries, skip_locked=True)


def claim_of(row: sa.Row[Any], tries: int = 0) -> Claim:
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
    connection: sa.Connection, asked: sa.Select[Any], run: int, now: datetime, hashed: Hashed
) -> tuple[Claim, ...]:
    """Put the rows of `asked` into sending; where none of them may be sent, go on behind them."""
    while rows := connection.execute(asked).all():
        closed = _suppressed(connection, rows, hashed)
        ids = [row.id for row in rows if row.whose_state == "active" and row.id not in closed]
        if gone := [row.id for row in rows if row.state == "planned" and row.id not in ids]:
            _mark(connection, gone, state="cancelled", changed=now)
        if ids:
            attempts = deliveries.c.attempts + 1
            _mark(connection, ids, state="sending", run=run, attempts=attempts, changed=now)
            return tuple(claim_of(row, tries=1) for row in rows if row.id in ids)
        asked = asked.where(deliveries.c.id > rows[-1].id)
    return ()


def _suppressed(
    connection: sa.Connection, rows: Sequence[sa.Row[Any]], hashed: Hashed
) -> frozenset[int]:
    """Return the ids of the rows whose address is suppressed, whatever its subscriber's state."""
    hashes = {hashed(key_of(row.address)): row.id for row in rows}
    asked = sa.select(suppressions.c.hash).where(suppressions.c.hash.in_(hashes))
    return frozenset(hashes[each] for each in connection.scalars(asked))


def _mark(connection: sa.Connection, ids: Sequence[int], **values: object) -> None:
    connection.execute(sa.update(deliveries).where(deliveries.c.id.in_(ids)).values(**values))
