"""What reports change in the store; every test runs on SQLite and on PostgreSQL."""

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
    """Open the store of an empty database, once of each kind, and close it."""
    opened = open_store(database_url, tmp_path)
    yield opened
    opened.database.close()


def added(store: Store, *names: str, state: State = "active") -> list[Subscriber]:
    """Add subscribers to a monthly letter and return them as the store has them."""
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
    found = [store.subscribers.find(one.address) for one in new]
    return [one for one in found if one]


def planned(store: Store, turn: int = 1) -> int:
    """Plan the letter of one more boundary for everybody who is active; return the run."""
    at = NOW + turn * WEEK
    run = begin(store, at)
    to = Cursor(FIRST + turn * DAY)
    number = store.issues.freeze(IssueSnapshot("month", to.date, "en", (f"p{turn}",), at, b""))
    for group, _ in list(store.segments.groups()):
        store.deliveries.plan(run, Segment(group), number, to, at)
    return run


def sent(store: Store, turn: int = 1, state: DeliveryState = "sent") -> dict[int, int]:
    """Send the letter of one more boundary to everybody; return deliveries by subscriber."""
    run, at = planned(store, turn), NOW + turn * WEEK
    claims = claim_all(store, run, at)
    store.deliveries.record(run, [DeliveryOutcome(claim.id, state, "said") for claim in claims], at)
    store.runs.end(run, at)
    return {claim.subscriber: claim.id for claim in claims}


def note(store: Store, *failures: DeliveryFailure, at: datetime = NOW) -> None:
    """Note failures in a transaction of their own."""
    with store.database.writing() as connection:
        note_failures(connection, failures, at)


def failure(one: Subscriber, delivery: int = 0, *, hard: bool = False) -> DeliveryFailure:
    """Return the failure of a letter to `one`."""
    words = "5.1.1 no such user" if hard else "5.2.2 mailbox full"
    return DeliveryFailure(one.id, f"hash-of-{one.id}", hard, words, delivery)


def state_of(store: Store, one: Subscriber) -> State:
    """Return the state of a subscriber as it is now."""
    found = store.subscribers.find(one.address)
    assert found
    return found.state


def suppressed(store: Store, *them: Subscriber) -> list[bool]:
    """Tell of each whether the address is suppressed."""
    hashes = [f"hash-of-{one.id}" for one in them]
    kept = store.suppressions.among(hashes)
    return [hashed in kept for hashed in hashes]


def states(store: Store) -> list[tuple[int, DeliveryState]]:
    """Return all deliveries as (subscriber, state)."""
    asked = sa.select(deliveries).order_by(deliveries.c.id)
    with store.database.reading() as connection:
        return [(row.subscriber, row.state) for row in connection.execute(asked)]


def hashed(key: str) -> str:
    """Return what stands for the suppression hash of a key."""
    return f"hash of {key}"


class TestFailures:
    """Failures of letters."""

    def test_that_are_hard_take_the_subscriber_off(self, store: Store) -> None:
        """Event, state, suppression and the cancelled open letter come in one transaction."""
        one, other = added(store, "a", "b")
        planned(store)
        note(store, failure(one, hard=True))
        assert [state_of(store, each) for each in (one, other)] == ["bounced", "active"]
        assert suppressed(store, one, other) == [True, False]
        assert states(store) == [(one.id, "cancelled"), (other.id, "planned")]
        assert list(store.events.of(one.id)) == [
            SubscriberEvent(NOW, "hard bounce", "5.1.1 no such user", one.id)
        ]

    def test_that_are_undone_change_nothing(self, store: Store) -> None:
        """Where the caller's transaction fails, nothing of the failure stays."""
        (one,) = added(store, "a")
        with contextlib.suppress(KeyError), store.database.writing() as connection:
            note_failures(connection, [failure(one, hard=True)], NOW)
            raise KeyError
        assert state_of(store, one) == "active"
        assert suppressed(store, one) == [False]
        assert list(store.events.of(one.id)) == []

    def test_that_are_soft_are_written_down(self, store: Store) -> None:
        """A soft failure is an event of its letter, and nothing else."""
        (one,) = added(store, "a")
        delivery = sent(store)[one.id]
        note(store, failure(one, delivery))
        assert state_of(store, one) == "active"
        assert states(store) == [(one.id, "sent")]
        assert [event.detail for event in store.events.of(one.id)] == [
            f"delivery {delivery} of issue 1: 5.2.2 mailbox full"
        ]

    def test_of_one_letter_count_once(self, store: Store) -> None:
        """The same report, read again or beside another of the same letter, changes nothing."""
        (one,) = added(store, "a")
        delivery = sent(store)[one.id]
        for _ in range(3):
            note(store, failure(one, delivery), failure(one, delivery))
        assert len(list(store.events.of(one.id))) == 1

    @pytest.mark.parametrize("state", ["sent", "bounced"])
    def test_take_off_whom_they_follow(self, store: Store, state: DeliveryState) -> None:
        """Enough soft failures in a row are as good as a hard one.

        It is the same whether the report came later or the relay refused; then one row of the
        ledger serves all the letters.
        """
        (one,) = added(store, "a")
        for turn in range(1, SOFT_LIMIT + 1):
            assert state_of(store, one) == "active"
            delivery = sent(store, turn, state)[one.id]
            note(store, failure(one, delivery), at=NOW + turn * WEEK)
        assert state_of(store, one) == "bounced"
        assert suppressed(store, one) == [True]

    def test_begin_anew_after_a_letter_that_arrived(self, store: Store) -> None:
        """A letter without a report ends the row, whenever the reports of the others come."""
        (one,) = added(store, "a")
        failed = [sent(store, turn)[one.id] for turn in range(1, SOFT_LIMIT + 3)]
        arrived = failed.pop(2)
        for turn, delivery in enumerate((*failed[1:], failed[0])):
            note(store, failure(one, delivery), at=NOW + turn * WEEK)
        assert state_of(store, one) == "active"
        # With a report of that one, too, there is none that arrived.
        note(store, failure(one, arrived), at=NOW + 9 * WEEK)
        assert state_of(store, one) == "bounced"

    def test_begin_anew_with_a_confirmation(self, store: Store) -> None:
        """Who consented anew starts with no failures."""
        (one,) = added(store, "a")
        for turn in range(1, SOFT_LIMIT + 1):
            delivery = sent(store, turn)[one.id]
            note(store, failure(one, delivery), at=NOW + turn * WEEK)
            if turn == SOFT_LIMIT - 1:
                store.events.add(
                    [SubscriberEvent(NOW + turn * WEEK, "consent", "confirmed", one.id)]
                )
        assert state_of(store, one) == "active"

    def test_of_everybody_take_off_few(self, store: Store) -> None:
        """A relay that refuses all of a list for weeks takes off one of it a day."""
        everybody = added(store, *(f"reader{number}" for number in range(20)))
        for turn in range(1, SOFT_LIMIT + 1):
            made = sent(store, turn, "bounced")
            failures = [failure(one, made[one.id]) for one in everybody]
            note(store, *failures, at=NOW + turn * WEEK)
        assert store.subscribers.count() == {"active": 19, "bounced": 1}

    def test_of_who_is_gone_are_passed_over(self, store: Store) -> None:
        """A forgotten subscriber gets no new trace."""
        one, other = added(store, "a", "b")
        store.suppressions.forget("a@example.com", "hash-of-a", NOW)
        note(store, failure(one, hard=True), failure(other, hard=True))
        assert suppressed(store, one, other) == [False, True]
        assert store.subscribers.count() == {"bounced": 1}

    @pytest.mark.parametrize("state", ["unsubscribed", "complained"])
    def test_keep_the_state_of_who_stopped(self, store: Store, state: State) -> None:
        """Who left or complained stays so; the address is suppressed as bad all the same."""
        (one,) = added(store, "a", state=state)
        note(store, failure(one, hard=True))
        assert state_of(store, one) == state
        assert suppressed(store, one) == [True]


class TestReports:
    """What reports change."""

    def test_of_failures_find_the_reader_by_the_delivery(self, store: Store) -> None:
        """Rule 10 of the delivery rules: an event; the row stays sent, the bookmark where it is."""
        (one,) = added(store, "a")
        trace = BounceTrace(sent(store)[one.id])
        before = store.subscribers.find(one.address)
        assert before
        changes = [
            store.bounces.record_failure(trace, hard=True, detail="5.1.1 no", hashed=hashed, at=NOW)
            for _ in range(2)
        ]
        assert changes == ["stopped", "known"]
        assert states(store) == [(one.id, "sent")]
        assert store.subscribers.find(one.address) == evolve(before, state="bounced")
        assert store.suppressions.among([hashed("a@example.com")]) == {hashed("a@example.com")}
        kept = [(event.kind, event.detail) for event in store.events.of(one.id)]
        assert kept == [("hard bounce", f"delivery {trace.delivery} of issue 1: 5.1.1 no")]

    def test_of_failures_elsewhere_are_soft(self, store: Store) -> None:
        """Who has letters sent on to a bad address has a good one; the count may still end it."""
        one, other, third = added(store, "a", "b", "c")
        made = sent(store)
        named = {
            one: frozenset({"elsewhere@example.org"}),
            other: frozenset({"b@example.com", "elsewhere@example.org"}),
            third: frozenset[str](),
        }
        for reader, addresses in named.items():
            trace = BounceTrace(made[reader.id], named=addresses)
            store.bounces.record_failure(trace, hard=True, detail="5.1.1", hashed=hashed, at=NOW)
        found = [state_of(store, each) for each in (one, other, third)]
        assert found == ["active", "bounced", "bounced"]
        assert [event.kind for event in store.events.of(one.id)] == ["soft bounce"]

    def test_without_a_number_are_about_the_last_letter(self, store: Store) -> None:
        """A report that names a reader by the token counts once, and so does its letter."""
        (one,) = added(store, "a")
        first, second, third = (BounceTrace(0, one.token, str(number) * 16) for number in range(3))

        def failed(trace: BounceTrace) -> Change:
            return store.bounces.record_failure(
                trace, hard=False, detail="no", hashed=hashed, at=NOW
            )

        assert [failed(first), failed(first)] == ["noted", "known"]
        delivery = sent(store)[one.id]
        assert [failed(first), failed(second), failed(third)] == ["known", "noted", "known"]
        sent(store, 2)
        assert [failed(second), failed(third)] == ["known", "noted"]
        details = [event.detail for event in store.events.of(one.id)]
        assert details[:2] == [
            f"report {'0' * 16}: no",
            f"delivery {delivery} of issue 1: report {'1' * 16}: no",
        ]

    def test_of_letters_that_we_do_not_have_change_nothing(self, store: Store) -> None:
        """A delivery or a token that is not here is nobody's."""
        for trace in (BounceTrace(9), BounceTrace(token="none"), BounceTrace()):
            found = store.bounces.record_failure(trace, hard=True, detail="", hashed=hashed, at=NOW)
            assert found == "gone"
            assert store.bounces.record_refusal(trace, "", NOW) == "gone"
        assert store.bounces.record_complaint(BounceTrace(token="none"), hashed, NOW) == "gone"

    def test_that_refuse_a_letter_are_written_down_alone(self, store: Store) -> None:
        """A refusal that says nothing of the address takes nobody off, however often it comes."""
        (one,) = added(store, "a")
        for turn in range(1, 3 * SOFT_LIMIT):
            trace = BounceTrace(sent(store, turn)[one.id])
            at = NOW + turn * WEEK
            assert store.bounces.record_refusal(trace, "5.7.1 relaying denied", at) == "noted"
            assert store.bounces.record_refusal(trace, "5.7.1 relaying denied", at) == "known"
        assert state_of(store, one) == "active"

    def test_of_complaints_suppress(self, store: Store) -> None:
        """Rule 9 of the mailbox providers: who complains gets no more, and counts once."""
        one, other = added(store, "a", "b")
        first, second = sent(store)[one.id], sent(store, 2)[one.id]
        planned(store, 3)
        assert store.bounces.record_complaint(BounceTrace(first), hashed, NOW) == "stopped"
        assert store.bounces.record_complaint(BounceTrace(first), hashed, NOW) == "known"
        assert store.bounces.record_complaint(BounceTrace(second), hashed, NOW) == "known"
        assert [state_of(store, each) for each in (one, other)] == ["complained", "active"]
        assert states(store)[-2:] == [(one.id, "cancelled"), (other.id, "planned")]
        assert store.suppressions.among([hashed("a@example.com")])
        assert store.bounces.complaints(NOW)[0] == 1

    def test_of_complaints_are_not_undone_by_a_second_reading(self, store: Store) -> None:
        """Who confirmed anew after a complaint is not taken off by the same report again."""
        (one,) = added(store, "a")
        trace = BounceTrace(sent(store)[one.id])
        store.bounces.record_complaint(trace, hashed, NOW)
        store.subscribers.confirm(one.id, one.cursor)
        assert store.bounces.record_complaint(trace, hashed, NOW) == "known"
        assert state_of(store, one) == "active"
        newer = BounceTrace(sent(store, 2)[one.id])
        assert store.bounces.record_complaint(newer, hashed, NOW) == "stopped"
        assert store.bounces.complaints(NOW)[0] == 2

    def test_of_failures_are_not_undone_by_a_second_reading(self, store: Store) -> None:
        """Nor is who confirmed anew after a failure."""
        (one,) = added(store, "a")
        trace = BounceTrace(sent(store)[one.id])
        for change in ("stopped", "known"):
            found = store.bounces.record_failure(
                trace, hard=True, detail="no", hashed=hashed, at=NOW
            )
            assert found == change
            store.subscribers.confirm(one.id, one.cursor)
            store.events.add([SubscriberEvent(NOW, "consent", "confirmed", one.id)])
        assert state_of(store, one) == "active"

    def test_of_complaints_count_after_forgetting(self, store: Store) -> None:
        """A complaint still counts when its reader is forgotten, and names nobody.

        One about the letter of somebody who is forgotten by then counts as well, once.
        """
        one, other = added(store, "a", "b")
        made = sent(store)
        store.bounces.record_complaint(BounceTrace(made[one.id]), hashed, NOW)
        for name in "ab":
            store.suppressions.forget(f"{name}@example.com", f"hash-of-{name}", NOW)
        changes = [
            store.bounces.record_complaint(BounceTrace(made[other.id]), hashed, NOW)
            for _ in range(2)
        ]
        assert changes == ["noted", "known"]
        kept = [event.detail for event in store.events.of(None)]
        assert kept == [f"delivery {made[each.id]}" for each in (one, other)]
        assert store.bounces.complaints(NOW)[0] == 2

    def test_give_the_rate_of_complaints(self, store: Store) -> None:
        """Complaints and letters are counted from an instant on; deferred ones are no letters."""
        one, other = added(store, "a", "b")
        first = sent(store)
        sent(store, 2)
        sent(store, 3, "deferred")
        store.bounces.record_complaint(BounceTrace(first[one.id]), hashed, NOW + 1.5 * WEEK)
        store.bounces.record_complaint(BounceTrace(first[other.id]), hashed, NOW + 2.5 * WEEK)
        assert store.bounces.complaints(NOW) == (2, 4)
        assert store.bounces.complaints(NOW + 2 * WEEK) == (1, 2)
        assert store.bounces.complaints(NOW + 4 * WEEK) == (0, 0)

    def test_are_summed_up(self, store: Store) -> None:
        """Failures, refusals and complaints are counted by kind, each complaint once."""
        one, two, three, four = added(store, *"abcd")
        made = sent(store)
        note(store, failure(one, made[one.id], hard=True), failure(two, made[two.id]))
        store.bounces.record_refusal(BounceTrace(made[three.id]), "5.7.1 no", NOW)
        store.bounces.record_complaint(BounceTrace(made[four.id]), hashed, NOW)
        everything = {"hard bounce": 1, "soft bounce": 1, "refused": 1, "complaint": 1}
        assert store.bounces.summary(NOW) == everything
        assert store.bounces.summary(NOW + DAY) == {}

    def test_that_come_twice_at_once_count_once(self, store: Store) -> None:
        """Two processes may be given the same report; one of them notes it."""
        readers = added(store, *(f"reader{number}" for number in range(8)))
        made = sent(store)
        changes: list[Change] = []
        ready = threading.Barrier(4)

        def work() -> None:
            ready.wait()
            for one in readers:
                trace = BounceTrace(made[one.id])
                changes.append(store.bounces.record_complaint(trace, hashed, NOW))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(changes) == ["known"] * 24 + ["stopped"] * 8
        assert store.bounces.complaints(NOW)[0] == 8
