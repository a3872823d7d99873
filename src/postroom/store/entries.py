"""Deliveries for a person to read: whose they are, of which issue, and what the server said."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from postroom.database.schema import deliveries, letters, subscribers
from postroom.model import DeliveryState, Entry
from postroom.store.claims import OPEN_UNCERTAIN
from postroom.store.subscribers import RECEIVING

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


def entry(row: sa.Row[Any]) -> Entry:
    """Return the delivery that a row of these questions is."""
    return Entry(
        address=row.address,
        state=row.state,
        since=row.changed,
        due=row.due,
        reply=row.reply,
        issue=row.letter,
        frequency=row.frequency,
        cutoff=row.boundary,
        language=row.language,
        refused=row.refused,
    )


def _entries(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    issue = letters.c.frequency, letters.c.boundary, letters.c.language
    return (
        sa.select(deliveries, subscribers.c.address, *issue)
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber)
        .join(letters, letters.c.id == deliveries.c.letter)
        .where(*conditions)
        .order_by(deliveries.c.id)
    )
