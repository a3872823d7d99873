"""Events: what must be provable later, such as who consented when, and to what."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

import sqlalchemy as sa

from postroom.db.engine import Database
from postroom.db.schema import deliveries, events, subscribers, suppressions
from postroom.db.subscribers import RECEIVING, move_subscribers, suppress_hashes
from postroom.mail.bounce_policy import daily_removal_limit, is_lasting
from postroom.models import BounceTrace, Change, DeliveryFailure, State, SubscriberEvent


class EventTable:
    """The rows of events; those of a subscriber go with the subscriber."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, happened: Sequence[SubscriberEvent]) -> None:
        """Write events."""
        rows = [
            {"at": e.at, "kind": e.kind, "detail": e.detail, "subscriber": e.subscriber}
            for e in happened
        ]
        if rows:
            with self._database.writing() as connection:
                connection.execute(events.insert(), rows)

    def of(self, subscriber: int | None) -> Generator[SubscriberEvent, None, None]:
        """Yield the events of a subscriber, or those of the list as a whole, oldest first."""
        asked = sa.select(events).where(events.c.subscriber == subscriber).order_by(events.c.id)
        return self._database.stream(
            asked, lambda row: SubscriberEvent(row.at, row.kind, row.detail, row.subscriber)
        )


HARD, SOFT, REFUSED = "hard bounce", "soft bounce", "refused"
COMPLAINT, CONSENT = "complaint", "consent"
_DAY = timedelta(days=1)
# Others write it, as long as they like.
_LONGEST_DETAIL = 1000
# By its beginning the event of a letter is known again. The row of a letter that failed serves the
# next one, too, so the row alone does not tell them apart.
_OF_LETTER = re.compile(r"delivery ([0-9]+) of issue [0-9]+: ")


class BounceTable:
    """What reports say, written down as events, with what follows from it.

    `hashed` makes the suppression hash of an address's key. A report that is read again changes
    nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record_failure(
        self,
        trace: BounceTrace,
        *,
        hard: bool,
        detail: str,
        hashed: Callable[[str], str],
        at: datetime,
    ) -> Change:
        """Note that a letter which the relay took did not arrive; its row stays `sent`.

        It is a failure like those of `note_failures` (delivery rules, rule 10), but never a hard
        one where the report names other addresses than the reader's: the letter was sent on to
        them, and what is bad is where to.
        """
        with self._database.writing() as connection:
            if (whose := _subscriber(connection, trace)) is None:
                return "gone"
            mark = "" if trace.delivery else f"report {trace.report}: "
            if mark and any(mark in row.detail for row in _failures_of(connection, whose.id)):
                return "known"
            # Who names the reader alone speaks of their last letter, most likely.
            delivery = trace.delivery or _last_sent(connection, whose.id)
            hard = hard and (not trace.named or whose.key in trace.named)
            failure = DeliveryFailure(whose.id, hashed(whose.key), hard, mark + detail, delivery)
            return _note(connection, failure, at)

    def record_refusal(self, trace: BounceTrace, detail: str, at: datetime) -> Change:
        """Note that a letter was refused for a reason that says nothing of the address."""
        with self._database.writing() as connection:
            if (whose := _subscriber(connection, trace)) is None:
                return "gone"
            return _write(connection, whose.id, REFUSED, f"{_key(trace)}: {detail}", at)

    def record_complaint(
        self, trace: BounceTrace, hashed: Callable[[str], str], at: datetime
    ) -> Change:
        """Note that a reader called a letter spam: suppress the address and send no more.

        A subscriber counts once. The complaint is also an event of the list as a whole, which
        stays when its subscriber is forgotten, and names nobody.
        """
        with self._database.writing() as connection:
            whose = _subscriber(connection, trace)
            if whose is None:
                # Forgotten meanwhile: the number is ours, so the letter was, too.
                return (
                    _write(connection, None, COMPLAINT, _key(trace), at)
                    if trace.delivery
                    else "gone"
                )
            if whose.state == "complained":
                return "known"
            if _write(connection, whose.id, COMPLAINT, _key(trace), at) == "known":
                return "known"
            _write(connection, None, COMPLAINT, _key(trace), at)
            suppress_hashes(connection, {hashed(whose.key): "complained"}, at)
            before = [state for state in get_args(State) if state != "complained"]
            move_subscribers(connection, subscribers.c.id == whose.id, before, "complained")
            return "stopped"

    def complaints(self, since: datetime) -> tuple[int, int]:
        """Return how many complaints came and how many letters were sent since an instant."""
        complained = sa.select(sa.func.count()).where(
            events.c.subscriber.is_(None), events.c.kind == COMPLAINT, events.c.at >= since
        )
        letters = sa.select(sa.func.count()).where(
            deliveries.c.state == "sent", deliveries.c.changed >= since
        )
        with self._database.reading() as connection:
            return connection.scalar(complained) or 0, connection.scalar(letters) or 0

    def summary(self, since: datetime) -> Mapping[str, int]:
        """Return how many failures and complaints of each kind came since an instant."""
        whose = events.c.subscriber.is_(None) == (events.c.kind == COMPLAINT)
        kinds = events.c.kind.in_((HARD, SOFT, REFUSED, COMPLAINT))
        asked = sa.select(events.c.kind, sa.func.count().label("number"))
        asked = asked.where(kinds, whose, events.c.at >= since).group_by(events.c.kind)
        with self._database.reading() as connection:
            return {row.kind: row.number for row in connection.execute(asked)}


def note_failures(
    connection: sa.Connection, failures: Sequence[DeliveryFailure], at: datetime
) -> None:
    """Write down failures within a transaction that writes, and take off whom they give up.

    Each is an event of its subscriber, once for each letter. Who failed hard, or too often in a
    row, becomes `bounced`: the address is suppressed and the open letter cancelled. Who is not
    there any more is passed over.
    """
    # In one order everywhere, or two who write at once wait for each other.
    for failure in sorted(failures, key=lambda one: one.subscriber):
        _note(connection, failure, at)


def _note(connection: sa.Connection, failure: DeliveryFailure, at: datetime) -> Change:
    whose = subscribers.c.id == failure.subscriber
    if not _held(connection, whose):
        return "gone"
    prefix = _prefix(connection, failure)
    known = _failures_of(connection, failure.subscriber)
    if prefix and any(row.detail.startswith(prefix) for row in known):
        return "known"
    event = {
        "at": at,
        "kind": HARD if failure.hard else SOFT,
        "detail": (prefix + failure.detail)[:_LONGEST_DETAIL],
        "subscriber": failure.subscriber,
    }
    connection.execute(events.insert(), event)
    if not (failure.hard or _is_given_up(connection, failure, at)):
        return "noted"
    suppress_hashes(connection, {failure.hashed: "bounced"}, at)
    return "stopped" if move_subscribers(connection, whose, RECEIVING, "bounced") else "noted"


def _subscriber(connection: sa.Connection, trace: BounceTrace) -> sa.Row[Any] | None:
    """Return whom a report is about, and keep others from writing about the same one."""
    asked = sa.select(subscribers).with_for_update(key_share=True, of=subscribers)
    if trace.delivery:
        joined = asked.join(deliveries, deliveries.c.subscriber == subscribers.c.id)
        return connection.execute(joined.where(deliveries.c.id == trace.delivery)).one_or_none()
    token = trace.token or None
    return connection.execute(asked.where(subscribers.c.token == token)).one_or_none()


def _last_sent(connection: sa.Connection, subscriber: int) -> int:
    """Return the delivery of the subscriber's last letter that was sent, 0 if there is none."""
    asked = sa.select(deliveries.c.id).where(
        deliveries.c.subscriber == subscriber, deliveries.c.state == "sent"
    )
    return connection.scalar(asked.order_by(deliveries.c.number.desc()).limit(1)) or 0


def _key(trace: BounceTrace) -> str:
    return f"delivery {trace.delivery}" if trace.delivery else f"report {trace.report}"


def _write(
    connection: sa.Connection, subscriber: int | None, kind: str, detail: str, at: datetime
) -> Change:
    """Write one event, unless there is one of its kind and key."""
    key = detail.partition(":")[0]
    asked = sa.select(events.c.detail).where(
        events.c.subscriber.is_not_distinct_from(subscriber), events.c.kind == kind
    )
    if any(one.partition(":")[0] == key for one in connection.scalars(asked)):
        return "known"
    event = {"at": at, "kind": kind, "detail": detail[:_LONGEST_DETAIL], "subscriber": subscriber}
    connection.execute(events.insert(), event)
    return "noted"


def _held(connection: sa.Connection, whose: sa.ColumnElement[bool]) -> bool:
    """Tell whether the subscriber is there, and keep others from writing about the same one."""
    asked = sa.select(subscribers.c.id).where(whose).with_for_update(key_share=True)
    return connection.scalar(asked) is not None


def _prefix(connection: sa.Connection, failure: DeliveryFailure) -> str:
    asked = sa.select(deliveries.c.issue).where(
        deliveries.c.id == failure.delivery, deliveries.c.subscriber == failure.subscriber
    )
    letter = connection.scalar(asked)
    return f"delivery {failure.delivery} of issue {letter}: " if letter else ""


def _failures_of(connection: sa.Connection, subscriber: int) -> Sequence[sa.Row[Any]]:
    """Return the subscriber's failures and, among them, their consents, oldest first."""
    asked = sa.select(events).where(
        events.c.subscriber == subscriber, events.c.kind.in_((HARD, SOFT, CONSENT))
    )
    return connection.execute(asked.order_by(events.c.id)).all()


def _is_given_up(connection: sa.Connection, failure: DeliveryFailure, at: datetime) -> bool:
    """Tell whether the subscriber's soft failures, the one just written included, are enough."""
    if not is_lasting(_row(connection, failure)):
        return False
    lately = (suppressions.c.reason == "bounced") & (suppressions.c.at > at - _DAY)
    taken = sa.select(sa.func.count()).select_from(suppressions).where(lately)
    active = sa.select(sa.func.count()).where(subscribers.c.state == "active")
    allowed = daily_removal_limit(connection.scalar(active) or 0)
    return (connection.scalar(taken) or 0) < allowed


def _row(connection: sa.Connection, failure: DeliveryFailure) -> list[datetime]:
    """Return the instants of the soft failures around this one with no letter delivered in between.

    Letters are compared by their count, not by time: a report may come days after the next letter.
    """
    asked = sa.select(deliveries.c.id, deliveries.c.number, deliveries.c.state)
    rows = connection.execute(asked.where(deliveries.c.subscriber == failure.subscriber)).all()
    count = {row.id: row.number for row in rows}
    failed: list[tuple[int, datetime]] = []
    for event in _failures_of(connection, failure.subscriber):
        # Who consented anew begins anew.
        failed = [] if event.kind == CONSENT else [*failed, (_delivery(event), event.at)]
    known = {delivery for delivery, _ in failed}
    arrived = [row.number for row in rows if row.state == "sent" and row.id not in known]
    this = count.get(failure.delivery, len(rows))
    first = max((n for n in arrived if n < this), default=-1)
    last = min((n for n in arrived if n > this), default=len(rows) + 1)
    return [at for delivery, at in failed if first < count.get(delivery, this) < last]


def _delivery(event: sa.Row[Any]) -> int:
    found = _OF_LETTER.match(event.detail)
    return int(found[1]) if found else 0
