"""What came back about letters: failures, complaints, and what they change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from postroom.database.schema import deliveries, events, subscribers, suppressions
from postroom.delivery.failure import given_up_a_day, is_lasting
from postroom.model import Failure
from postroom.store.subscribers import RECEIVING, moved
from postroom.store.suppression import suppress

HARD, SOFT = "hard bounce", "soft bounce"
_DAY = timedelta(days=1)
# Others write it, as long as they like.
_LONGEST_DETAIL = 1000
# By its beginning the event of a letter is known again. The row of a letter that failed serves the
# next one, too, so the row alone does not tell them apart.
_OF_LETTER = re.compile(r"delivery ([0-9]+) of letter [0-9]+: ")


def note_failures(connection: sa.Connection, failures: Sequence[Failure], at: datetime) -> None:
    """Write down failures within a transaction that writes, and take off whom they give up.

    Each is an event of its subscriber, once for each letter. Who failed hard, or too often in a
    row, becomes `bounced`: the address is suppressed and the open letter cancelled. Who is not
    there any more is passed over.
    """
    # In one order everywhere, or two who write at once wait for each other.
    for failure in sorted(failures, key=lambda one: one.subscriber):
        _note(connection, failure, at)


def _note(connection: sa.Connection, failure: Failure, at: datetime) -> bool:
    """Write down one failure; return whether it was news."""
    whose = subscribers.c.id == failure.subscriber
    if not _held(connection, whose):
        return False
    prefix = _prefix(connection, failure)
    known = _failures_of(connection, failure.subscriber)
    if prefix and any(row.detail.startswith(prefix) for row in known):
        return False
    event = {
        "at": at,
        "kind": HARD if failure.hard else SOFT,
        "detail": (prefix + failure.detail)[:_LONGEST_DETAIL],
        "subscriber": failure.subscriber,
    }
    connection.execute(events.insert(), event)
    if failure.hard or _is_given_up(connection, failure, at):
        suppress(connection, {failure.hashed: "bounced"}, at)
        moved(connection, whose, RECEIVING, "bounced")
    return True


def _held(connection: sa.Connection, whose: sa.ColumnElement[bool]) -> bool:
    """Tell whether the subscriber is there, and keep others from writing about the same one."""
    asked = sa.select(subscribers.c.id).where(whose).with_for_update(key_share=True)
    return connection.scalar(asked) is not None


def _prefix(connection: sa.Connection, failure: Failure) -> str:
    asked = sa.select(deliveries.c.letter).where(
        deliveries.c.id == failure.delivery, deliveries.c.subscriber == failure.subscriber
    )
    letter = connection.scalar(asked)
    return f"delivery {failure.delivery} of letter {letter}: " if letter else ""


def _failures_of(connection: sa.Connection, subscriber: int) -> Sequence[sa.Row[Any]]:
    """Return the subscriber's failures since they last consented, oldest first."""
    of = events.c.subscriber == subscriber
    consent = sa.select(sa.func.max(events.c.id)).where(of, events.c.kind == "consent")
    since = sa.func.coalesce(consent.scalar_subquery(), 0)
    asked = sa.select(events).where(of, events.c.kind.in_((HARD, SOFT)), events.c.id > since)
    return connection.execute(asked.order_by(events.c.id)).all()


def _is_given_up(connection: sa.Connection, failure: Failure, at: datetime) -> bool:
    """Tell whether the subscriber's soft failures, the one just written included, are enough."""
    if not is_lasting(_row(connection, failure)):
        return False
    lately = (suppressions.c.reason == "bounced") & (suppressions.c.at > at - _DAY)
    taken = sa.select(sa.func.count()).select_from(suppressions).where(lately)
    active = sa.select(sa.func.count()).where(subscribers.c.state == "active")
    allowed = given_up_a_day(connection.scalar(active) or 0)
    return (connection.scalar(taken) or 0) < allowed


def _row(connection: sa.Connection, failure: Failure) -> list[datetime]:
    """Return the instants of the soft failures around this one with no letter delivered in between.

    Letters are compared by their count, not by time: a report may come days after the next letter.
    """
    asked = sa.select(deliveries.c.id, deliveries.c.n, deliveries.c.state)
    rows = connection.execute(asked.where(deliveries.c.subscriber == failure.subscriber)).all()
    count = {row.id: row.n for row in rows}
    failed = [(_delivery(row), row.at) for row in _failures_of(connection, failure.subscriber)]
    known = {delivery for delivery, _ in failed}
    arrived = [row.n for row in rows if row.state == "sent" and row.id not in known]
    this = count.get(failure.delivery, len(rows))
    first = max((n for n in arrived if n < this), default=-1)
    last = min((n for n in arrived if n > this), default=len(rows) + 1)
    return [at for delivery, at in failed if first < count.get(delivery, this) < last]


def _delivery(event: sa.Row[Any]) -> int:
    found = _OF_LETTER.match(event.detail)
    return int(found[1]) if found else 0
