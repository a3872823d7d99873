"""The state machine of a delivery (delivery rules, rules 9 to 12).

A subscriber has at most one open delivery. Its number is the count of closed deliveries so far.
All others are final, so a number below that count means delivered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime
from types import MappingProxyType
from typing import Literal

from attrs import evolve, frozen

from postroom.models import Cursor, DeliveryState, Issue, LogEntry, Subscriber
from postroom.scheduling.rules import raise_cursor
from postroom.send.outcomes import retry_delay

Reply = Literal["sent", "deferred", "bounced", "uncertain"]
"""The outcome of an attempt: accepted, 4xx, 5xx, or a connection lost before the last reply."""

FINAL: frozenset[DeliveryState] = frozenset({"sent", "uncertain"})
"""States that close a delivery: the cursor is raised and the number taken."""
CLAIMABLE: frozenset[DeliveryState] = frozenset({"planned", "deferred"})
"""States from which a delivery may be claimed or cancelled."""
REPLACEABLE: frozenset[DeliveryState] = CLAIMABLE | {"bounced", "cancelled"}
"""States that a new plan under the same number may overwrite."""

TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = MappingProxyType(
    {
        "planned": frozenset({"planned", "sending", "cancelled"}),
        "sending": frozenset({"sent", "deferred", "bounced", "uncertain"}),
        "deferred": frozenset({"planned", "sending", "cancelled"}),
        "bounced": frozenset({"planned"}),
        "cancelled": frozenset({"planned"}),
        "uncertain": frozenset({"sending"}),
        "sent": frozenset(),
    }
)


@frozen
class Delivery:
    """A row of the delivery ledger: this issue, to this subscriber, in this state.

    `number` is the number of the subscriber's deliveries that were closed before this one. A
    deferred delivery may be tried again from the instant `retry_at` on.
    """

    subscriber: int
    number: int
    issue: Issue
    state: DeliveryState = "planned"
    attempts: int = 0
    retry_at: datetime | None = None


def moved(delivery: Delivery, state: DeliveryState) -> Delivery:
    """Return `delivery` in another `state`; raise `ValueError` if the transition is not allowed."""
    if state not in TRANSITIONS[delivery.state]:
        raise ValueError(f"a delivery that is {delivery.state} cannot become {state}")
    return evolve(delivery, state=state)


def replied(delivery: Delivery, reply: Reply, at: datetime, subscriber: Subscriber) -> Delivery:
    """Return a `sending` delivery after the server's `reply` at the instant `at`.

    An uncertain delivery that is sent again stays uncertain unless it is accepted now: its number
    is taken, and no plan may replace it.
    """
    if reply != "sent" and delivery.number < subscriber.issues:
        return moved(delivery, "uncertain")
    tried = evolve(moved(delivery, reply), attempts=delivery.attempts + 1, retry_at=None)
    return (
        evolve(tried, retry_at=at + retry_delay(tried.attempts)) if reply == "deferred" else tried
    )


def set_start(subscriber: Subscriber, cursor: Cursor) -> Subscriber:
    """Return a new, imported or returning `subscriber` as active, with the cursor raised.

    Entries that were behind the old cursor stay behind (rules 4 and 12).
    """
    raised = raise_cursor(subscriber.cursor, cursor)
    start = max(subscriber.start, cursor.date)
    return evolve(subscriber, state="active", cursor=raised, start=start)


def has_received(entry: LogEntry, start: date, delivered: Collection[str]) -> bool:
    """Tell whether a returned `entry` is not due to one subscriber (rule 7).

    `start` is the subscriber's; `delivered` are the ids of the posts in the subscriber's closed
    issues.
    """
    return entry.returned and (start > entry.first_day or entry.post_id in delivered)


def swept(delivery: Delivery) -> Delivery:
    """Return a delivery left in `sending` by a crashed run as `uncertain`."""
    return moved(delivery, "uncertain")


def closed(subscriber: Subscriber, delivery: Delivery) -> Subscriber:
    """Return `subscriber` after the final `delivery`; store both in one transaction (rule 10).

    Closing a second time changes nothing. Raise `ValueError` for a state that is not final.
    """
    if delivery.state not in FINAL:
        raise ValueError(f"a delivery that is {delivery.state} closes nothing")
    return evolve(
        subscriber,
        cursor=raise_cursor(subscriber.cursor, delivery.issue.cutoff),
        issues=max(subscriber.issues, delivery.number + 1),
    )


def newer(delivery: Delivery, raising_to: Cursor) -> bool:
    """Tell whether `raising_to` is a newer cutoff or log entry than that of `delivery`."""
    return raise_cursor(delivery.issue.cutoff, raising_to) != delivery.issue.cutoff


def left_alone(delivery: Delivery | None, raising_to: Cursor) -> bool:
    """Tell whether a run skips a subscriber whose open number has `delivery`, or no row.

    It does if the delivery is being sent, or if it bounced and there is nothing newer. Then
    nothing is planned, and the cursor does not move. `raising_to` is the target cursor of the run
    for the subscriber's frequency.
    """
    if delivery is None or delivery.state in CLAIMABLE or delivery.state == "cancelled":
        return False
    return delivery.state != "bounced" or not newer(delivery, raising_to)


def placed(held: Delivery | None, new: Delivery) -> Delivery:
    """Return `new` as it is planned in place of `held`, or of no row.

    The issue is always the new one: nobody has received the old one, and it may have posts that
    were withdrawn or do not match any more. The delay stays while there is nothing newer (rule 11).
    """
    if held is None or held.state != "deferred" or newer(held, new.issue.cutoff):
        return new
    return evolve(new, state="deferred", attempts=held.attempts, retry_at=held.retry_at)


def lapses(delivery: Delivery, visible: Collection[str]) -> bool:
    """Tell whether an open delivery is cancelled if a run finds nothing due to its subscriber.

    Only a welcome issue is not cancelled, while all its posts are visible.
    """
    if delivery.state not in CLAIMABLE:
        return False
    issue = delivery.issue
    return issue.frequency != "welcome" or any(each not in visible for each in issue.posts)


def sendable(delivery: Delivery, subscriber: Subscriber) -> bool:
    """Tell whether `delivery` may be claimed now.

    The store checks suppression, because it depends on the address, not on the subscriber.
    """
    return subscriber.state == "active" and delivery.state in CLAIMABLE


def resend(delivery: Delivery, subscriber: Subscriber, visible: Collection[str]) -> tuple[str, ...]:
    """Return the visible posts of an uncertain delivery, which are sent again on request.

    Without any, nothing is sent. Row and Message-ID stay those of the frozen issue (rule 11).
    """
    if delivery.state != "uncertain" or subscriber.state != "active":
        return ()
    return tuple(each for each in delivery.issue.posts if each in visible)
