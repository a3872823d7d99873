"""Leaving, on SQLite and on PostgreSQL: nobody who left gets a letter, whatever else happens."""

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
    """Open the store of an empty database, once of each kind, and close it."""
    opened = open_store(database_url, tmp_path)
    yield opened
    opened.database.close()


def added(store: Store, name: str = "reader", state: State = "active") -> Subscriber:
    """Add a subscriber and return them as the store has them."""
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
    return found(store, newcomer)


def found(store: Store, whose: Subscriber) -> Subscriber:
    """Return a subscriber as the store has them now."""
    one = store.subscribers.find(whose.address)
    assert one
    return one


def planned(store: Store) -> int:
    """Plan a letter for all who are owed one, and return the run."""
    run = store.runs.begin(NOW)
    letter = store.issues.freeze(IssueSnapshot("month", DECEMBER, "en", ("a",), NOW, b"frozen"))
    for group, _ in store.segments.groups():
        store.deliveries.plan(run, Segment(group), letter, Cursor(DECEMBER), NOW)
    return run


@pytest.mark.parametrize("state", RECEIVING)
def test_who_receives_can_leave(store: Store, state: State) -> None:
    """Active, paused or not yet confirmed: the token leads out, and when and which way is kept."""
    reader = added(store, state=state)
    assert unsubscribe(store.subscribers, reader.token, LATER, "page")
    assert found(store, reader) == evolve(reader, state="unsubscribed")
    assert list(store.events.of(reader.id)) == [
        SubscriberEvent(LATER, "unsubscribed", "page", reader.id)
    ]


@pytest.mark.parametrize("state", STOPPED)
def test_who_receives_nothing_stays_as_they_are(store: Store, state: State) -> None:
    """An address that bounced or complained is not made one that merely left."""
    reader = added(store, state=state)
    assert not unsubscribe(store.subscribers, reader.token, LATER, "one click")
    assert found(store, reader) == reader
    assert list(store.events.of(reader.id)) == []


def test_leaving_again_changes_nothing(store: Store) -> None:
    """S4: a token works as often as it is used, and only its first use is written down."""
    reader = added(store)
    answers = [unsubscribe(store.subscribers, reader.token, LATER, "one click") for _ in range(3)]
    assert answers == [True, False, False]
    assert len(list(store.events.of(reader.id))) == 1


def test_a_token_lets_out_its_owner_alone(store: Store) -> None:
    """Everybody else goes on receiving."""
    readers = [added(store, f"reader{number}") for number in range(3)]
    unsubscribe(store.subscribers, readers[1].token, LATER, "page")
    assert [found(store, one).state for one in readers] == ["active", "unsubscribed", "active"]


def test_a_forged_token_changes_nothing(store: Store) -> None:
    """S6: a token that nobody has is no error, and lets nobody out."""
    reader = added(store)
    forged = new_token(lambda count: b"\0" * count)
    wrong_case = reader.token.swapcase()
    for token in (forged, wrong_case, "", reader.token[:-1], f"{reader.token}x", reader.address):
        assert not unsubscribe(store.subscribers, token, LATER, "page")
    assert list(store.subscribers.every()) == [reader]


def test_an_unknown_token_takes_the_same_way(store: Store) -> None:
    """S6: known, used or unknown, a token is looked for by one transaction that may write."""
    reader = added(store)
    counted = PulsingDatabase(store.database)
    book, writes = make_store(counted).subscribers, []
    for token in (reader.token, reader.token, new_token()):
        before = counted.writes
        unsubscribe(book, token, LATER, "page")
        writes.append(counted.writes - before)
    assert writes == [1, 1, 1]


class _Untouchable:
    """Rows that nobody may ask."""

    def unsubscribe(self, token: str, at: datetime, way: str) -> bool:
        """Fail."""
        raise AssertionError((token, at, way))


@given(st.text().filter(lambda text: len(text) != 22 or not text.isascii()))
def test_what_cannot_be_a_token_never_reaches_the_database(token: str) -> None:
    """NUL, quotes, half characters: only what could be a token is looked for."""
    assert not unsubscribe(_Untouchable(), token, NOW, "page")


def test_a_token_outlives_keys_preferences_and_years(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4, rule 8: ten years on, with another key and other wishes, a letter's link still works."""
    monkeypatch.setenv(SECRET_KEY_VAR, "the key of the year in which the letter was sent")
    reader = added(store)
    store.subscribers.set_preferences(reader.id, "week", frozenset({"Market"}), "de")
    monkeypatch.setenv(SECRET_KEY_VAR, "a key of ten years later that nobody knew then")
    with time_machine.travel(NOW + timedelta(days=3653)):
        assert unsubscribe(store.subscribers, reader.token, datetime.now(UTC), "one click")
    assert found(store, reader).state == "unsubscribed"


def test_a_token_outlives_a_return(store: Store) -> None:
    """Who left, confirmed anew and leaves by the old letter's link has left."""
    reader = added(store)
    unsubscribe(store.subscribers, reader.token, LATER, "page")
    store.subscribers.confirm(reader.id, reader.cursor)
    assert unsubscribe(store.subscribers, reader.token, LATER, "page")
    assert found(store, reader).state == "unsubscribed"


def test_who_leaves_after_the_plan_gets_no_letter(store: Store) -> None:
    """Rule 8: an unsubscribe between freeze and send is honoured, in the ledger too."""
    staying, going = added(store, "staying"), added(store, "going")
    run = planned(store)
    assert unsubscribe(store.subscribers, going.token, LATER, "one click")
    assert store.deliveries.count_by_state() == {"planned": 1, "cancelled": 1}
    claims = [
        *store.deliveries.record_and_claim(run, [], 9, LATER, str),
        *store.deliveries.record_and_claim(run, [], 9, LATER, str),
    ]
    assert [claim.address for claim in claims] == [staying.address]


def test_who_leaves_gets_no_deferred_letter(store: Store) -> None:
    """Rule 8: a letter that waits for its next try is not tried again."""
    reader = added(store)
    run = planned(store)
    (claim,) = store.deliveries.record_and_claim(run, [], 1, NOW, str)
    store.deliveries.record(run, [DeliveryOutcome(claim.id, "deferred", "451", LATER)], NOW)
    unsubscribe(store.subscribers, reader.token, NOW, "page")
    assert (store.deliveries.retry_deferred(run, LATER), store.deliveries.count_by_state()) == (
        0,
        {"cancelled": 1},
    )
    store.runs.end(run, NOW)
    assert store.deliveries.record_and_claim(planned(store), [], 9, NOW, str) == ()


def test_a_letter_on_its_way_is_still_recorded(store: Store) -> None:
    """Who leaves while their letter is in the air has left, and the letter counts as sent."""
    reader = added(store)
    run = planned(store)
    (claim,) = store.deliveries.record_and_claim(run, [], 1, NOW, str)
    unsubscribe(store.subscribers, reader.token, NOW, "page")
    store.deliveries.record(run, [DeliveryOutcome(claim.id, "sent")], NOW)
    assert (found(store, reader).state, store.deliveries.count_by_state()) == (
        "unsubscribed",
        {"sent": 1},
    )


def test_many_clicks_at_once_are_one(store: Store) -> None:
    """A mail program, its owner and a scanner at the same moment make one event."""
    reader = added(store)
    news: list[bool] = []
    ready = threading.Barrier(6)

    def click() -> None:
        ready.wait()
        news.append(unsubscribe(store.subscribers, reader.token, NOW, "one click"))

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(news), len(list(store.events.of(reader.id)))) == (1, 1)


def test_a_mail_uses_the_same_token(store: Store) -> None:
    """The address in a letter's List-Unsubscribe carries the token that the page takes."""
    reader = added(store)
    token = read_unsubscribe_address(unsubscribe_address("bounces@example.com", reader.token))
    assert token
    assert unsubscribe(store.subscribers, token, LATER, "mail")
