"""Effects of bounces and complaints on the store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from attrs import evolve

from postroom.db.bounces import note_failures
from postroom.db.schema import deliveries
from postroom.db.store import Store, open_store
from postroom.mail.bounce_policy import SOFT_LIMIT
from postroom.models import (
    BounceTrace,
    Change,
    Cursor,
    DeliveryFailure,
    DeliveryOutcome,
    DeliveryState,
    IssueSnapshot,
    Segment,
    State,
    Subscriber,
    SubscriberEvent,
)
from tests.support.bounce_messages import begin, claim_all

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
FIRST = date(2026, 11, 1)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    """Open the store of an empty database of each kind, and close it at the end."""
    opened = open_store(database_url, tmp_path)
    yield opened
    opened.database.close()


def add_subscribers(store: Store, *names: str, state: State = "active") -> list[Subscriber]:
    """Add subscribers to a monthly newsletter and return them as stored."""
    new = [
        Subscriber(
            0,
            f"{name}@example.com",
            state,
            "month",
            frozenset(),
            "",
            Cursor(FIRST),
            FIRST,
            token=f"token-of-{name}",
        )
        for name in names
    ]
    store.subscribers.add(new, NOW)
    found = [store.subscribers.find(subscriber.address) for subscriber in new]
    return [subscriber for subscriber in found if subscriber]


def plan_issue(store: Store, issue: int = 1) -> int:
    """Plan an issue with the next cutoff for all active subscribers, and return the run."""
    at = NOW + issue * WEEK
    run = begin(store, at)
    to = Cursor(FIRST + issue * DAY)
    number = store.issues.freeze(IssueSnapshot("month", to.date, "en", (f"p{issue}",), at, b""))
    for group, _ in list(store.segments.groups()):
        store.deliveries.plan(run, Segment(group), number, to, at)
    return run


def send_issue(store: Store, issue: int = 1, state: DeliveryState = "sent") -> dict[int, int]:
    """Send an issue with the next cutoff to everybody, and return deliveries by subscriber."""
    run, at = plan_issue(store, issue), NOW + issue * WEEK
    claims = claim_all(store, run, at)
    store.deliveries.record(run, [DeliveryOutcome(claim.id, state, "said") for claim in claims], at)
    store.runs.end(run, at)
    return {claim.subscriber: claim.id for claim in claims}


def note(store: Store, *failures: DeliveryFailure, at: datetime = NOW) -> None:
    """Record failures in a transaction of their own."""
    with store.database.writing() as connection:
        note_failures(connection, failures, at)


def failure(subscriber: Subscriber, delivery: int = 0, *, hard: bool = False) -> DeliveryFailure:
    """Return a failure of an email to `subscriber`."""
    reply = "5.1.1 no such user" if hard else "5.2.2 mailbox full"
    return DeliveryFailure(subscriber.id, f"hash-of-{subscriber.id}", hard, reply, delivery)


def state_of(store: Store, subscriber: Subscriber) -> State:
    """Return the current state of a subscriber."""
    found = store.subscribers.find(subscriber.address)
    assert found
    return found.state


def is_suppressed(store: Store, *subscribers: Subscriber) -> list[bool]:
    """Return for each subscriber whether the address is suppressed."""
    hashes = [f"hash-of-{each.id}" for each in subscribers]
    found = store.suppressions.among(hashes)
    return [hashed in found for hashed in hashes]


def states(store: Store) -> list[tuple[int, DeliveryState]]:
    """Return all deliveries as (subscriber, state)."""
    query = sa.select(deliveries).order_by(deliveries.c.id)
    with store.database.reading() as connection:
        return [(row.subscriber, row.state) for row in connection.execute(query)]


def hashed(key: str) -> str:
    """Return a stand-in for the suppression hash of a key."""
    return f"hash of {key}"


class TestFailures:
    """Failures of emails."""

    def test_a_hard_bounce_stops_the_subscriber(self, store: Store) -> None:
        """Event, state, suppression and cancelled delivery are written in one transaction."""
        subscriber, other = add_subscribers(store, "a", "b")
        plan_issue(store)
        note(store, failure(subscriber, hard=True))
        assert [state_of(store, each) for each in (subscriber, other)] == ["bounced", "active"]
        assert is_suppressed(store, subscriber, other) == [True, False]
        assert states(store) == [(subscriber.id, "cancelled"), (other.id, "planned")]
        assert list(store.events.of(subscriber.id)) == [
            SubscriberEvent(NOW, "hard bounce", "5.1.1 no such user", subscriber.id)
        ]

    def test_a_rolled_back_failure_changes_nothing(self, store: Store) -> None:
        """If the caller's transaction fails, nothing of the failure is stored."""
        (subscriber,) = add_subscribers(store, "a")
        with contextlib.suppress(KeyError), store.database.writing() as connection:
            note_failures(connection, [failure(subscriber, hard=True)], NOW)
            raise KeyError
        assert state_of(store, subscriber) == "active"
        assert is_suppressed(store, subscriber) == [False]
        assert list(store.events.of(subscriber.id)) == []

    def test_a_soft_bounce_is_recorded(self, store: Store) -> None:
        """A soft bounce is an event that names its delivery, and changes nothing else."""
        (subscriber,) = add_subscribers(store, "a")
        delivery = send_issue(store)[subscriber.id]
        note(store, failure(subscriber, delivery))
        assert state_of(store, subscriber) == "active"
        assert states(store) == [(subscriber.id, "sent")]
        assert [event.detail for event in store.events.of(subscriber.id)] == [
            f"delivery {delivery} of issue 1: 5.2.2 mailbox full"
        ]

    def test_failures_of_one_email_count_once(self, store: Store) -> None:
        """A repeated report, or a second report about the same email, changes nothing."""
        (subscriber,) = add_subscribers(store, "a")
        delivery = send_issue(store)[subscriber.id]
        for _ in range(3):
            note(store, failure(subscriber, delivery), failure(subscriber, delivery))
        assert len(list(store.events.of(subscriber.id))) == 1

    @pytest.mark.parametrize("state", ["sent", "bounced"])
    def test_enough_soft_bounces_stop_the_subscriber(
        self, store: Store, state: DeliveryState
    ) -> None:
        """Enough soft bounces in a row have the effect of a hard bounce.

        This holds for later reports and for refusals by the relay, which
        reuse one row of the ledger.
        """
        (subscriber,) = add_subscribers(store, "a")
        for issue in range(1, SOFT_LIMIT + 1):
            assert state_of(store, subscriber) == "active"
            delivery = send_issue(store, issue, state)[subscriber.id]
            note(store, failure(subscriber, delivery), at=NOW + issue * WEEK)
        assert state_of(store, subscriber) == "bounced"
        assert is_suppressed(store, subscriber) == [True]

    def test_a_delivered_email_resets_the_count(self, store: Store) -> None:
        """An email without a report ends the row of failures, in whatever order reports come."""
        (subscriber,) = add_subscribers(store, "a")
        failed = [send_issue(store, issue)[subscriber.id] for issue in range(1, SOFT_LIMIT + 3)]
        delivered = failed.pop(2)
        for issue, delivery in enumerate((*failed[1:], failed[0])):
            note(store, failure(subscriber, delivery), at=NOW + issue * WEEK)
        assert state_of(store, subscriber) == "active"
        # A report of the remaining email makes the row of failures complete.
        note(store, failure(subscriber, delivered), at=NOW + 9 * WEEK)
        assert state_of(store, subscriber) == "bounced"

    def test_a_confirmation_resets_the_count(self, store: Store) -> None:
        """A subscriber who confirms again starts with no failures."""
        (subscriber,) = add_subscribers(store, "a")
        for issue in range(1, SOFT_LIMIT + 1):
            delivery = send_issue(store, issue)[subscriber.id]
            note(store, failure(subscriber, delivery), at=NOW + issue * WEEK)
            if issue == SOFT_LIMIT - 1:
                store.events.add(
                    [SubscriberEvent(NOW + issue * WEEK, "consent", "confirmed", subscriber.id)]
                )
        assert state_of(store, subscriber) == "active"

    def test_failures_of_a_whole_list_stop_few_subscribers(self, store: Store) -> None:
        """A relay that refuses a whole list of 20 for weeks stops one subscriber a day."""
        everybody = add_subscribers(store, *(f"reader{number}" for number in range(20)))
        for issue in range(1, SOFT_LIMIT + 1):
            made = send_issue(store, issue, "bounced")
            failures = [failure(subscriber, made[subscriber.id]) for subscriber in everybody]
            note(store, *failures, at=NOW + issue * WEEK)
        assert store.subscribers.count() == {"active": 19, "bounced": 1}

    def test_failures_of_a_forgotten_subscriber_are_ignored(self, store: Store) -> None:
        """A forgotten subscriber gets no new event or suppression."""
        subscriber, other = add_subscribers(store, "a", "b")
        store.suppressions.forget("a@example.com", "hash-of-a", NOW)
        note(store, failure(subscriber, hard=True), failure(other, hard=True))
        assert is_suppressed(store, subscriber, other) == [False, True]
        assert store.subscribers.count() == {"bounced": 1}

    @pytest.mark.parametrize("state", ["unsubscribed", "complained"])
    def test_a_failure_keeps_the_state_of_a_stopped_subscriber(
        self, store: Store, state: State
    ) -> None:
        """An unsubscribed or complained subscriber keeps the state; the address is suppressed."""
        (subscriber,) = add_subscribers(store, "a", state=state)
        note(store, failure(subscriber, hard=True))
        assert state_of(store, subscriber) == state
        assert is_suppressed(store, subscriber) == [True]


class TestReports:
    """Effects of reports."""

    def test_a_failure_finds_the_subscriber_by_the_delivery(self, store: Store) -> None:
        """Rule 10: a report adds an event; the delivery stays sent, the cursor in place."""
        (subscriber,) = add_subscribers(store, "a")
        trace = BounceTrace(send_issue(store)[subscriber.id])
        before = store.subscribers.find(subscriber.address)
        assert before
        changes = [
            store.bounces.record_failure(trace, hard=True, detail="5.1.1 no", hashed=hashed, at=NOW)
            for _ in range(2)
        ]
        assert changes == ["stopped", "known"]
        assert states(store) == [(subscriber.id, "sent")]
        assert store.subscribers.find(subscriber.address) == evolve(before, state="bounced")
        assert store.suppressions.among([hashed("a@example.com")]) == {hashed("a@example.com")}
        events = [(event.kind, event.detail) for event in store.events.of(subscriber.id)]
        assert events == [("hard bounce", f"delivery {trace.delivery} of issue 1: 5.1.1 no")]

    def test_a_failure_of_a_forwarded_email_is_soft(self, store: Store) -> None:
        """A failure at another address only is soft, because the email was forwarded."""
        first, other, third = add_subscribers(store, "a", "b", "c")
        made = send_issue(store)
        named = {
            first: frozenset({"elsewhere@example.org"}),
            other: frozenset({"b@example.com", "elsewhere@example.org"}),
            third: frozenset[str](),
        }
        for subscriber, addresses in named.items():
            trace = BounceTrace(made[subscriber.id], named=addresses)
            store.bounces.record_failure(trace, hard=True, detail="5.1.1", hashed=hashed, at=NOW)
        found = [state_of(store, each) for each in (first, other, third)]
        assert found == ["active", "bounced", "bounced"]
        assert [event.kind for event in store.events.of(first.id)] == ["soft bounce"]

    def test_a_report_without_a_number_is_about_the_last_email(self, store: Store) -> None:
        """A report that names a subscriber by token counts once, and so does its email."""
        (subscriber,) = add_subscribers(store, "a")
        first, second, third = (
            BounceTrace(0, subscriber.token, str(number) * 16) for number in range(3)
        )

        def record(trace: BounceTrace) -> Change:
            return store.bounces.record_failure(
                trace, hard=False, detail="no", hashed=hashed, at=NOW
            )

        assert [record(first), record(first)] == ["noted", "known"]
        delivery = send_issue(store)[subscriber.id]
        assert [record(first), record(second), record(third)] == ["known", "noted", "known"]
        send_issue(store, 2)
        assert [record(second), record(third)] == ["known", "noted"]
        details = [event.detail for event in store.events.of(subscriber.id)]
        assert details[:2] == [
            f"report {'0' * 16}: no",
            f"delivery {delivery} of issue 1: report {'1' * 16}: no",
        ]

    def test_a_report_about_an_unknown_email_changes_nothing(self, store: Store) -> None:
        """A delivery or token that is not in the database belongs to no subscriber."""
        for trace in (BounceTrace(9), BounceTrace(token="none"), BounceTrace()):
            found = store.bounces.record_failure(trace, hard=True, detail="", hashed=hashed, at=NOW)
            assert found == "gone"
            assert store.bounces.record_refusal(trace, "", NOW) == "gone"
        assert store.bounces.record_complaint(BounceTrace(token="none"), hashed, NOW) == "gone"

    def test_a_refusal_of_content_is_only_recorded(self, store: Store) -> None:
        """A refusal that is not about the address stops no subscriber, however often it comes."""
        (subscriber,) = add_subscribers(store, "a")
        for issue in range(1, 3 * SOFT_LIMIT):
            trace = BounceTrace(send_issue(store, issue)[subscriber.id])
            at = NOW + issue * WEEK
            assert store.bounces.record_refusal(trace, "5.7.1 relaying denied", at) == "noted"
            assert store.bounces.record_refusal(trace, "5.7.1 relaying denied", at) == "known"
        assert state_of(store, subscriber) == "active"

    def test_a_complaint_suppresses_the_address(self, store: Store) -> None:
        """Rule 9: a subscriber who complains gets no more email, and the complaint counts once."""
        subscriber, other = add_subscribers(store, "a", "b")
        first, second = send_issue(store)[subscriber.id], send_issue(store, 2)[subscriber.id]
        plan_issue(store, 3)
        assert store.bounces.record_complaint(BounceTrace(first), hashed, NOW) == "stopped"
        assert store.bounces.record_complaint(BounceTrace(first), hashed, NOW) == "known"
        assert store.bounces.record_complaint(BounceTrace(second), hashed, NOW) == "known"
        assert [state_of(store, each) for each in (subscriber, other)] == ["complained", "active"]
        assert states(store)[-2:] == [(subscriber.id, "cancelled"), (other.id, "planned")]
        assert store.suppressions.among([hashed("a@example.com")])
        assert store.bounces.complaints(NOW)[0] == 1

    def test_a_repeated_complaint_does_not_undo_a_confirmation(self, store: Store) -> None:
        """A subscriber who confirms after a complaint stays active if its report is read again."""
        (subscriber,) = add_subscribers(store, "a")
        trace = BounceTrace(send_issue(store)[subscriber.id])
        store.bounces.record_complaint(trace, hashed, NOW)
        store.subscribers.confirm(subscriber.id, subscriber.cursor)
        assert store.bounces.record_complaint(trace, hashed, NOW) == "known"
        assert state_of(store, subscriber) == "active"
        newer = BounceTrace(send_issue(store, 2)[subscriber.id])
        assert store.bounces.record_complaint(newer, hashed, NOW) == "stopped"
        assert store.bounces.complaints(NOW)[0] == 2

    def test_a_repeated_failure_does_not_undo_a_confirmation(self, store: Store) -> None:
        """A subscriber who confirms after a failure stays active if its report is read again."""
        (subscriber,) = add_subscribers(store, "a")
        trace = BounceTrace(send_issue(store)[subscriber.id])
        for change in ("stopped", "known"):
            found = store.bounces.record_failure(
                trace, hard=True, detail="no", hashed=hashed, at=NOW
            )
            assert found == change
            store.subscribers.confirm(subscriber.id, subscriber.cursor)
            store.events.add([SubscriberEvent(NOW, "consent", "confirmed", subscriber.id)])
        assert state_of(store, subscriber) == "active"

    def test_complaints_count_after_forgetting(self, store: Store) -> None:
        """A complaint of a forgotten subscriber still counts, and names nobody.

        A complaint that arrives after its subscriber was forgotten counts once, too.
        """
        subscriber, other = add_subscribers(store, "a", "b")
        made = send_issue(store)
        store.bounces.record_complaint(BounceTrace(made[subscriber.id]), hashed, NOW)
        for name in "ab":
            store.suppressions.forget(f"{name}@example.com", f"hash-of-{name}", NOW)
        changes = [
            store.bounces.record_complaint(BounceTrace(made[other.id]), hashed, NOW)
            for _ in range(2)
        ]
        assert changes == ["noted", "known"]
        details = [event.detail for event in store.events.of(None)]
        assert details == [f"delivery {made[each.id]}" for each in (subscriber, other)]
        assert store.bounces.complaints(NOW)[0] == 2

    def test_complaints_have_a_rate(self, store: Store) -> None:
        """Complaints and emails are counted from an instant on; deferred emails do not count."""
        subscriber, other = add_subscribers(store, "a", "b")
        first = send_issue(store)
        send_issue(store, 2)
        send_issue(store, 3, "deferred")
        store.bounces.record_complaint(BounceTrace(first[subscriber.id]), hashed, NOW + 1.5 * WEEK)
        store.bounces.record_complaint(BounceTrace(first[other.id]), hashed, NOW + 2.5 * WEEK)
        assert store.bounces.complaints(NOW) == (2, 4)
        assert store.bounces.complaints(NOW + 2 * WEEK) == (1, 2)
        assert store.bounces.complaints(NOW + 4 * WEEK) == (0, 0)

    def test_reports_are_summarised(self, store: Store) -> None:
        """Failures, refusals and complaints are counted by kind, each complaint once."""
        first, second, third, fourth = add_subscribers(store, *"abcd")
        made = send_issue(store)
        note(store, failure(first, made[first.id], hard=True), failure(second, made[second.id]))
        store.bounces.record_refusal(BounceTrace(made[third.id]), "5.7.1 no", NOW)
        store.bounces.record_complaint(BounceTrace(made[fourth.id]), hashed, NOW)
        everything = {"hard bounce": 1, "soft bounce": 1, "refused": 1, "complaint": 1}
        assert store.bounces.summary(NOW) == everything
        assert store.bounces.summary(NOW + DAY) == {}

    def test_simultaneous_reports_count_once(self, store: Store) -> None:
        """If several processes get the same report, only one records it."""
        subscribers = add_subscribers(store, *(f"reader{number}" for number in range(8)))
        made = send_issue(store)
        changes: list[Change] = []
        ready = threading.Barrier(4)

        def work() -> None:
            ready.wait()
            for subscriber in subscribers:
                trace = BounceTrace(made[subscriber.id])
                changes.append(store.bounces.record_complaint(trace, hashed, NOW))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(changes) == ["known"] * 24 + ["stopped"] * 8
        assert store.bounces.complaints(NOW)[0] == 8
