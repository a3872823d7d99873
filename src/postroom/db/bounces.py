"""Store bounces, refusals, complaints and other events in the database."""

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
    """The table of events; when a subscriber is deleted, so are the subscriber's events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: Sequence[SubscriberEvent]) -> None:
        """Record events."""
        rows = [
            {
                "at": event.at,
                "kind": event.kind,
                "detail": event.detail,
                "subscriber": event.subscriber,
            }
            for event in new
        ]
        if rows:
            with self._database.writing() as connection:
                connection.execute(events.insert(), rows)

    def of(self, subscriber: int | None) -> Generator[SubscriberEvent, None, None]:
        """Yield the events of the subscriber with this id, oldest first.

        For None, yield the events of the whole list, which belong to no subscriber.
        """
        query = sa.select(events).where(events.c.subscriber == subscriber).order_by(events.c.id)
        return self._database.stream(
            query, lambda row: SubscriberEvent(row.at, row.kind, row.detail, row.subscriber)
        )


HARD, SOFT, REFUSED = "hard bounce", "soft bounce", "refused"
COMPLAINT, CONSENT = "complaint", "consent"
_DAY = timedelta(days=1)
# Mail servers write it, at any length.
_LONGEST_DETAIL = 1000
# An event of a failed delivery begins with delivery and issue, so that it is recorded once. The
# delivery alone is not enough, because the same row serves the next issue after a failure.
_OF_ISSUE = re.compile(r"delivery ([0-9]+) of issue [0-9]+: ")


class BounceTable:
    """Record bounces and complaints as events, and stop or suppress the subscribers concerned.

    In all methods `hashed` is a function that returns the suppression hash of an address's key. If
    the same report is recorded again, nothing changes.
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
        """Record that an email which the relay accepted has bounced; its delivery stays `sent`.

        The bounce has the same consequences as a failure in `note_failures` (delivery rules,
        rule 10). If the report names only addresses other than the subscriber's, the bounce counts
        as soft even if `hard` is set: the subscriber's address works, and forwarded the email to
        those other addresses.
        """
        with self._database.writing() as connection:
            if (subscriber := _subscriber(connection, trace)) is None:
                return "gone"
            prefix = "" if trace.delivery else f"report {trace.report}: "
            known = _failures_of(connection, subscriber.id)
            if prefix and any(prefix in event.detail for event in known):
                return "known"
            # A report that names only the subscriber is most likely about the last email.
            delivery = trace.delivery or _last_sent(connection, subscriber.id)
            hard = hard and (not trace.named or subscriber.key in trace.named)
            key = hashed(subscriber.key)
            failure = DeliveryFailure(subscriber.id, key, hard, prefix + detail, delivery)
            return _note(connection, failure, at)

    def record_refusal(self, trace: BounceTrace, detail: str, at: datetime) -> Change:
        """Record that an email was refused for a reason other than the subscriber's address."""
        with self._database.writing() as connection:
            if (subscriber := _subscriber(connection, trace)) is None:
                return "gone"
            return _add_event(connection, subscriber.id, REFUSED, f"{_key(trace)}: {detail}", at)

    def record_complaint(
        self, trace: BounceTrace, hashed: Callable[[str], str], at: datetime
    ) -> Change:
        """Record a complaint, suppress the address and stop the subscriber.

        Further complaints of the same subscriber are ignored. The complaint is recorded twice: as
        an event of the subscriber, and as an event of the whole list. The second one names nobody
        and stays when the subscriber is forgotten, so that the complaint rate remains right.
        """
        with self._database.writing() as connection:
            subscriber = _subscriber(connection, trace)
            if subscriber is None and trace.delivery:
                # The subscriber has been forgotten; the delivery's number shows that it was ours.
                return _add_event(connection, None, COMPLAINT, _key(trace), at)
            if subscriber is None:
                return "gone"
            if subscriber.state == "complained":
                return "known"
            if _add_event(connection, subscriber.id, COMPLAINT, _key(trace), at) == "known":
                return "known"
            _add_event(connection, None, COMPLAINT, _key(trace), at)
            suppress_hashes(connection, {hashed(subscriber.key): "complained"}, at)
            states = [state for state in get_args(State) if state != "complained"]
            which = subscribers.c.id == subscriber.id
            move_subscribers(connection, which, states, "complained")
            return "stopped"

    def complaints(self, since: datetime) -> tuple[int, int]:
        """Return the number of complaints, and the number of emails sent, since an instant."""
        complaints = sa.select(sa.func.count()).where(
            events.c.subscriber.is_(None), events.c.kind == COMPLAINT, events.c.at >= since
        )
        sent = sa.select(sa.func.count()).where(
            deliveries.c.state == "sent", deliveries.c.changed >= since
        )
        with self._database.reading() as connection:
            return connection.scalar(complaints) or 0, connection.scalar(sent) or 0

    def summary(self, since: datetime) -> Mapping[str, int]:
        """Return the number of bounces, refusals and complaints since an instant, by event kind."""
        counted_once = events.c.subscriber.is_(None) == (events.c.kind == COMPLAINT)
        kinds = events.c.kind.in_((HARD, SOFT, REFUSED, COMPLAINT))
        query = sa.select(events.c.kind, sa.func.count().label("number"))
        query = query.where(kinds, counted_once, events.c.at >= since).group_by(events.c.kind)
        with self._database.reading() as connection:
            return {row.kind: row.number for row in connection.execute(query)}


def note_failures(
    connection: sa.Connection, failures: Sequence[DeliveryFailure], at: datetime
) -> None:
    """Record failures within the caller's transaction, and stop subscribers who cannot be reached.

    Each failure is recorded as an event of its subscriber, at most once for each delivery of an
    issue. After a hard bounce, or too many soft bounces in a row, the subscriber becomes `bounced`,
    the address is suppressed, and an open delivery is cancelled. Failures of deleted subscribers
    are skipped.
    """
    # In the same order everywhere, so that two writers cannot wait for each other.
    for failure in sorted(failures, key=lambda failure: failure.subscriber):
        _note(connection, failure, at)


def _note(connection: sa.Connection, failure: DeliveryFailure, at: datetime) -> Change:
    which = subscribers.c.id == failure.subscriber
    if not _lock(connection, which):
        return "gone"
    prefix = _prefix(connection, failure)
    known = _failures_of(connection, failure.subscriber)
    if prefix and any(event.detail.startswith(prefix) for event in known):
        return "known"
    event = {
        "at": at,
        "kind": HARD if failure.hard else SOFT,
        "detail": (prefix + failure.detail)[:_LONGEST_DETAIL],
        "subscriber": failure.subscriber,
    }
    connection.execute(events.insert(), event)
    if not (failure.hard or _is_unreachable(connection, failure, at)):
        return "noted"
    suppress_hashes(connection, {failure.hashed: "bounced"}, at)
    return "stopped" if move_subscribers(connection, which, RECEIVING, "bounced") else "noted"


def _subscriber(connection: sa.Connection, trace: BounceTrace) -> sa.Row[Any] | None:
    """Return the subscriber whom a report is about, or None; lock the row until the commit."""
    query = sa.select(subscribers).with_for_update(key_share=True, of=subscribers)
    if trace.delivery:
        joined = query.join(deliveries, deliveries.c.subscriber == subscribers.c.id)
        return connection.execute(joined.where(deliveries.c.id == trace.delivery)).one_or_none()
    token = trace.token or None
    return connection.execute(query.where(subscribers.c.token == token)).one_or_none()


def _last_sent(connection: sa.Connection, subscriber: int) -> int:
    """Return the id of the subscriber's last sent delivery, 0 if there is none."""
    query = sa.select(deliveries.c.id).where(
        deliveries.c.subscriber == subscriber, deliveries.c.state == "sent"
    )
    return connection.scalar(query.order_by(deliveries.c.number.desc()).limit(1)) or 0


def _key(trace: BounceTrace) -> str:
    return f"delivery {trace.delivery}" if trace.delivery else f"report {trace.report}"


def _add_event(
    connection: sa.Connection, subscriber: int | None, kind: str, detail: str, at: datetime
) -> Change:
    """Record an event, unless the subscriber has one of the same kind for the same email.

    The detail begins with the key of the email or report (see `_key`), followed by a colon or the
    end of the text.
    """
    key = detail.partition(":")[0]
    query = sa.select(events.c.detail).where(
        events.c.subscriber.is_not_distinct_from(subscriber), events.c.kind == kind
    )
    if any(known.partition(":")[0] == key for known in connection.scalars(query)):
        return "known"
    event = {"at": at, "kind": kind, "detail": detail[:_LONGEST_DETAIL], "subscriber": subscriber}
    connection.execute(events.insert(), event)
    return "noted"


def _lock(connection: sa.Connection, which: sa.ColumnElement[bool]) -> bool:
    """Lock a subscriber's row until the commit; return whether the subscriber exists."""
    query = sa.select(subscribers.c.id).where(which).with_for_update(key_share=True)
    return connection.scalar(query) is not None


def _prefix(connection: sa.Connection, failure: DeliveryFailure) -> str:
    query = sa.select(deliveries.c.issue).where(
        deliveries.c.id == failure.delivery, deliveries.c.subscriber == failure.subscriber
    )
    issue = connection.scalar(query)
    return f"delivery {failure.delivery} of issue {issue}: " if issue else ""


def _failures_of(connection: sa.Connection, subscriber: int) -> Sequence[sa.Row[Any]]:
    """Return the subscriber's events that are bounces or consents, oldest first."""
    query = sa.select(events).where(
        events.c.subscriber == subscriber, events.c.kind.in_((HARD, SOFT, CONSENT))
    )
    return connection.execute(query.order_by(events.c.id)).all()


def _is_unreachable(connection: sa.Connection, failure: DeliveryFailure, at: datetime) -> bool:
    """Tell whether the subscriber has too many soft bounces in a row, this failure included.

    Return False, too, if as many addresses as the daily limit allows were suppressed as bounced in
    the last 24 hours.
    """
    if not is_lasting(_soft_bounces_in_a_row(connection, failure)):
        return False
    recent = (suppressions.c.reason == "bounced") & (suppressions.c.at > at - _DAY)
    stopped = sa.select(sa.func.count()).select_from(suppressions).where(recent)
    active = sa.select(sa.func.count()).where(subscribers.c.state == "active")
    limit = daily_removal_limit(connection.scalar(active) or 0)
    return (connection.scalar(stopped) or 0) < limit


def _soft_bounces_in_a_row(connection: sa.Connection, failure: DeliveryFailure) -> list[datetime]:
    """Return the instants of the failures in the unbroken series that `failure` belongs to.

    A delivered issue or a new consent ends a series. The order of issues is that of the delivery
    numbers and not of the events, as a bounce may be reported days after the next issue was sent.
    """
    query = sa.select(deliveries.c.id, deliveries.c.number, deliveries.c.state)
    rows = connection.execute(query.where(deliveries.c.subscriber == failure.subscriber)).all()
    numbers = {row.id: row.number for row in rows}
    failed: list[tuple[int, datetime]] = []
    for event in _failures_of(connection, failure.subscriber):
        # A new consent starts a new row.
        failed = [] if event.kind == CONSENT else [*failed, (_delivery(event), event.at)]
    known = {delivery for delivery, _ in failed}
    delivered = [row.number for row in rows if row.state == "sent" and row.id not in known]
    this = numbers.get(failure.delivery, len(rows))
    first = max((number for number in delivered if number < this), default=-1)
    last = min((number for number in delivered if number > this), default=len(rows) + 1)
    return [at for delivery, at in failed if first < numbers.get(delivery, this) < last]


def _delivery(event: sa.Row[Any]) -> int:
    found = _OF_ISSUE.match(event.detail)
    return int(found[1]) if found else 0
