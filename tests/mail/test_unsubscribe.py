"""Unsubscribing, on SQLite and on PostgreSQL: nobody who unsubscribed gets another email."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
import time_machine
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from postroom.db.store import Store, make_store, open_store
from postroom.mail.tokens import (
    SECRET_KEY_VAR,
    new_token,
    read_unsubscribe_address,
    unsubscribe_address,
)
from postroom.mail.unsubscribe import unsubscribe
from postroom.models import (
    Cursor,
    DeliveryOutcome,
    IssueSnapshot,
    Segment,
    State,
    Subscriber,
    SubscriberEvent,
)
from tests.reference.store_ledger import PulsingDatabase

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
RECEIVING = ["pending", "active", "paused"]
STOPPED = [state for state in get_args(State) if state not in RECEIVING]


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    """Open the store of an empty database of each kind, and close it at the end."""
    opened = open_store(database_url, tmp_path)
    yield opened
    opened.database.close()


def add_subscriber(store: Store, name: str = "subscriber", state: State = "active") -> Subscriber:
    """Add a subscriber and return them as stored."""
    newcomer = Subscriber(
        id=0,
        address=f"{name}@example.com",
        state=state,
        frequency="month",
        topics=frozenset(),
        language="",
        cursor=Cursor(NOVEMBER),
        start=NOVEMBER,
        token=new_token(),
    )
    store.subscribers.add([newcomer], NOW)
    return reload(store, newcomer)


def reload(store: Store, subscriber: Subscriber) -> Subscriber:
    """Return a subscriber as stored now."""
    stored = store.subscribers.find(subscriber.address)
    assert stored
    return stored


def plan(store: Store) -> int:
    """Plan an issue for all subscribers, and return the run."""
    run = store.runs.begin(NOW)
    issue = store.issues.freeze(IssueSnapshot("month", DECEMBER, "en", ("a",), NOW, b"frozen"))
    for group, _ in store.segments.groups():
        store.deliveries.plan(run, Segment(group), issue, Cursor(DECEMBER), NOW)
    return run


@pytest.mark.parametrize("state", RECEIVING)
def test_receiving_subscribers_can_unsubscribe(store: Store, state: State) -> None:
    """Active, paused and pending subscribers unsubscribe; time and method are recorded."""
    subscriber = add_subscriber(store, state=state)
    assert unsubscribe(store.subscribers, subscriber.token, LATER, "page")
    assert reload(store, subscriber) == evolve(subscriber, state="unsubscribed")
    assert list(store.events.of(subscriber.id)) == [
        SubscriberEvent(LATER, "unsubscribed", "page", subscriber.id)
    ]


@pytest.mark.parametrize("state", STOPPED)
def test_other_states_are_unchanged(store: Store, state: State) -> None:
    """A bounced or complained subscriber does not become unsubscribed."""
    subscriber = add_subscriber(store, state=state)
    assert not unsubscribe(store.subscribers, subscriber.token, LATER, "one click")
    assert reload(store, subscriber) == subscriber
    assert list(store.events.of(subscriber.id)) == []


def test_unsubscribing_again_changes_nothing(store: Store) -> None:
    """S4: a token works any number of times, and only its first use is recorded."""
    subscriber = add_subscriber(store)
    answers = [
        unsubscribe(store.subscribers, subscriber.token, LATER, "one click") for _ in range(3)
    ]
    assert answers == [True, False, False]
    assert len(list(store.events.of(subscriber.id))) == 1


def test_a_token_unsubscribes_only_its_owner(store: Store) -> None:
    """Other subscribers stay active."""
    subscribers = [add_subscriber(store, f"subscriber{number}") for number in range(3)]
    unsubscribe(store.subscribers, subscribers[1].token, LATER, "page")
    assert [reload(store, subscriber).state for subscriber in subscribers] == [
        "active",
        "unsubscribed",
        "active",
    ]


def test_a_forged_token_changes_nothing(store: Store) -> None:
    """S6: an unknown token is no error and unsubscribes nobody."""
    subscriber = add_subscriber(store)
    forged = new_token(lambda count: b"\0" * count)
    wrong_case = subscriber.token.swapcase()
    for token in (
        forged,
        wrong_case,
        "",
        subscriber.token[:-1],
        f"{subscriber.token}x",
        subscriber.address,
    ):
        assert not unsubscribe(store.subscribers, token, LATER, "page")
    assert list(store.subscribers.every()) == [subscriber]


def test_an_unknown_token_runs_the_same_transaction(store: Store) -> None:
    """S6: a known, used or unknown token runs one writing transaction."""
    subscriber = add_subscriber(store)
    counted = PulsingDatabase(store.database)
    subscribers, writes = make_store(counted).subscribers, []
    for token in (subscriber.token, subscriber.token, new_token()):
        before = counted.writes
        unsubscribe(subscribers, token, LATER, "page")
        writes.append(counted.writes - before)
    assert writes == [1, 1, 1]


class _Untouchable:
    """A store that fails when called."""

    def unsubscribe(self, token: str, at: datetime, method: str) -> bool:
        """Fail."""
        raise AssertionError((token, at, method))


@given(st.text().filter(lambda text: len(text) != 22 or not text.isascii()))
def test_an_invalid_token_never_reaches_the_database(token: str) -> None:
    """Only text in the form of a token is looked up: no NUL, no quotes, no surrogates."""
    assert not unsubscribe(_Untouchable(), token, NOW, "page")


def test_a_token_outlives_keys_preferences_and_years(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4, rule 8: a link works ten years later, with another key and other preferences."""
    monkeypatch.setenv(SECRET_KEY_VAR, "the key of the year in which the email was sent")
    subscriber = add_subscriber(store)
    store.subscribers.set_preferences(subscriber.id, "week", frozenset({"Market"}), "de")
    monkeypatch.setenv(SECRET_KEY_VAR, "a key of ten years later that nobody knew then")
    with time_machine.travel(NOW + timedelta(days=3653)):
        assert unsubscribe(store.subscribers, subscriber.token, datetime.now(UTC), "one click")
    assert reload(store, subscriber).state == "unsubscribed"


def test_a_token_works_after_subscribing_again(store: Store) -> None:
    """A subscriber who confirmed again can unsubscribe by the link of an old email."""
    subscriber = add_subscriber(store)
    unsubscribe(store.subscribers, subscriber.token, LATER, "page")
    store.subscribers.confirm(subscriber.id, subscriber.cursor)
    assert unsubscribe(store.subscribers, subscriber.token, LATER, "page")
    assert reload(store, subscriber).state == "unsubscribed"


def test_unsubscribing_after_planning_cancels_the_delivery(store: Store) -> None:
    """Rule 8: unsubscribing between planning and sending cancels the delivery in the ledger."""
    staying, going = add_subscriber(store, "staying"), add_subscriber(store, "going")
    run = plan(store)
    assert unsubscribe(store.subscribers, going.token, LATER, "one click")
    assert store.deliveries.count_by_state() == {"planned": 1, "cancelled": 1}
    claims = [
        *store.deliveries.record_and_claim(run, [], 9, LATER, str),
        *store.deliveries.record_and_claim(run, [], 9, LATER, str),
    ]
    assert [claim.address for claim in claims] == [staying.address]


def test_unsubscribing_cancels_a_deferred_delivery(store: Store) -> None:
    """Rule 8: a deferred delivery is not tried again."""
    subscriber = add_subscriber(store)
    run = plan(store)
    (claim,) = store.deliveries.record_and_claim(run, [], 1, NOW, str)
    store.deliveries.record(run, [DeliveryOutcome(claim.id, "deferred", "451", LATER)], NOW)
    unsubscribe(store.subscribers, subscriber.token, NOW, "page")
    assert (store.deliveries.retry_deferred(run, LATER), store.deliveries.count_by_state()) == (
        0,
        {"cancelled": 1},
    )
    store.runs.end(run, NOW)
    assert store.deliveries.record_and_claim(plan(store), [], 9, NOW, str) == ()


def test_a_delivery_in_progress_is_still_recorded(store: Store) -> None:
    """If a subscriber unsubscribes while their email is being sent, it counts as sent."""
    subscriber = add_subscriber(store)
    run = plan(store)
    (claim,) = store.deliveries.record_and_claim(run, [], 1, NOW, str)
    unsubscribe(store.subscribers, subscriber.token, NOW, "page")
    store.deliveries.record(run, [DeliveryOutcome(claim.id, "sent")], NOW)
    assert (reload(store, subscriber).state, store.deliveries.count_by_state()) == (
        "unsubscribed",
        {"sent": 1},
    )


def test_simultaneous_clicks_are_one_event(store: Store) -> None:
    """Six requests at the same moment record one event."""
    subscriber = add_subscriber(store)
    changes: list[bool] = []
    ready = threading.Barrier(6)

    def click() -> None:
        ready.wait()
        changes.append(unsubscribe(store.subscribers, subscriber.token, NOW, "one click"))

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(changes), len(list(store.events.of(subscriber.id)))) == (1, 1)


def test_an_email_uses_the_same_token(store: Store) -> None:
    """The address in List-Unsubscribe carries the token that the page takes."""
    subscriber = add_subscriber(store)
    token = read_unsubscribe_address(unsubscribe_address("bounces@example.com", subscriber.token))
    assert token
    assert unsubscribe(store.subscribers, token, LATER, "mail")
