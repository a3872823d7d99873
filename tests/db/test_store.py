"""The store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import inspect
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from attrs import evolve, fields
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.db.engine import make_engine
from postroom.db.migrate import require_tables
from postroom.db.ownership import LedgerPlace
from postroom.db.schema import deliveries, metadata
from postroom.db.store import Store, make_store, open_store
from postroom.errors import DatabaseError, LeaseError, SettingsError
from postroom.models import (
    BounceTrace,
    ClaimedDelivery,
    Cursor,
    DeliveryOutcome,
    DeliveryState,
    Frequency,
    Group,
    IssueSnapshot,
    LogEntry,
    RunState,
    Segment,
    State,
    Subscriber,
    SubscriberEvent,
)

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=5)
NOVEMBER, DECEMBER, JANUARY = date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)
DUE = Cursor(DECEMBER)


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    """Open the store of an empty database of each kind, and close it at the end."""
    opened = open_store(database_url, tmp_path)
    yield opened
    opened.database.close()


def make_subscriber(name: str, state: State = "active", **changes: Any) -> Subscriber:
    """Return a subscriber to a monthly newsletter, not yet stored."""
    plain = Subscriber(
        id=0,
        address=f"{name}@example.com",
        state=state,
        frequency="month",
        topics=frozenset(),
        language="",
        cursor=Cursor(NOVEMBER),
        start=NOVEMBER,
        token=f"token-of-{name}",
    )
    return evolve(plain, **changes)


def add_subscribers(store: Store, *newcomers: Subscriber) -> list[Subscriber]:
    """Add subscribers and return them as stored."""
    store.subscribers.add(newcomers, NOW)
    found = [store.subscribers.find(subscriber.address.casefold()) for subscriber in newcomers]
    return [subscriber for subscriber in found if subscriber]


def add_members(store: Store, count: int) -> list[Subscriber]:
    """Add `count` subscribers who are all of one group."""
    return add_subscribers(store, *(make_subscriber(f"reader{number}") for number in range(count)))


def only_group(store: Store) -> Segment:
    """Return the members of the only group."""
    ((group, _),) = store.segments.groups()
    return Segment(group)


def begin(store: Store, at: datetime = NOW) -> int:
    """Begin a run; an earlier run that has not ended counts as crashed."""
    store.database.release_lock()
    return store.runs.begin(at)


def hashed(key: str) -> str:
    """Return a stand-in for the suppression hash of a key."""
    return f"hash of {key}"


def claim(store: Store, run: int, limit: int, now: datetime) -> tuple[ClaimedDelivery, ...]:
    """Claim deliveries, with nothing to record."""
    return store.deliveries.record_and_claim(run, [], limit, now, hashed)


def plan_issue(
    store: Store,
    run: int,
    *posts: str,
    to: Cursor = DUE,
    members: Segment | None = None,
    now: datetime = NOW,
) -> int:
    """Plan an issue with these posts for a group, by default the only one; return the count."""
    issue = IssueSnapshot("month", to.date, "en", posts, now, b"frozen")
    number = store.issues.freeze(issue)
    return store.deliveries.plan(run, members or only_group(store), number, to, now)


def members_of(store: Store, segment: Segment) -> list[str]:
    """Return the addresses of the subscribers of a segment, in the order of their ids."""
    tokens = set(store.segments.tokens(segment, Cursor(date.max, 1000)))
    return [each.address for each in store.subscribers.every() if each.token in tokens]


def rows(store: Store) -> list[tuple[str, int, DeliveryState, int]]:
    """Return all deliveries as (name, number, state, attempts), in the order of their ids."""
    query = sa.select(deliveries).order_by(deliveries.c.id)
    names = {
        subscriber.id: subscriber.address.partition("@")[0]
        for subscriber in store.subscribers.every()
    }
    with store.database.reading() as connection:
        return [
            (names[r.subscriber], r.number, r.state, r.attempts) for r in connection.execute(query)
        ]


def found(store: Store, name: str) -> Subscriber:
    """Return the subscriber with this name."""
    subscriber = store.subscribers.find(f"{name}@example.com")
    assert subscriber
    return subscriber


class TestSubscribers:
    """Subscribers."""

    def test_are_stored_unchanged(self, store: Store) -> None:
        """Every field of a subscriber is stored, and the store assigns the id."""
        new = make_subscriber(
            "Reader",
            "paused",
            frequency="week",
            topics=frozenset({"Products", "Ünïcode, and more"}),
            language="zh-Hans",
            cursor=Cursor(DECEMBER, 2**40),
            issues=7,
        )
        (stored,) = add_subscribers(store, new)
        assert stored == evolve(new, id=stored.id)
        assert store.subscribers.with_token("token-of-Reader") == stored
        assert store.subscribers.with_token("another") is None

    def test_are_the_same_in_any_case(self, store: Store) -> None:
        """An address that differs in case alone is not added again."""
        assert store.subscribers.add([make_subscriber("reader")], NOW) == {"reader@example.com"}
        again = make_subscriber("READER", token="another")
        assert store.subscribers.add([again], NOW) == frozenset()

    def test_with_the_token_of_another_are_not_added(self, store: Store) -> None:
        """Two subscribers never share a token; the others of the same call are added."""
        thief = make_subscriber("thief", token="token-of-reader")
        others = [make_subscriber("reader"), thief, make_subscriber("third")]
        assert store.subscribers.add(others, NOW) == {"reader@example.com", "third@example.com"}

    def test_are_counted_by_state(self, store: Store) -> None:
        """The states of known keys are returned, and all states are counted."""
        add_subscribers(
            store,
            make_subscriber("a"),
            make_subscriber("b", "unsubscribed"),
            make_subscriber("c", "unsubscribed"),
        )
        keys = ["a@example.com", "b@example.com", "nobody@example.com"]
        assert store.subscribers.known(keys) == {
            "a@example.com": "active",
            "b@example.com": "unsubscribed",
        }
        assert store.subscribers.count() == {"active": 1, "unsubscribed": 2}
        assert store.subscribers.known([]) == {}

    def test_are_read_in_the_order_of_their_ids(self, store: Store) -> None:
        """All subscribers, or those in one state, are read in more than one batch."""
        store.subscribers.add([make_subscriber(f"r{number:04}") for number in range(2500)], NOW)
        store.subscribers.stop(["r0007@example.com"], "unsubscribed")
        names = [subscriber.address for subscriber in store.subscribers.every()]
        assert names == [f"r{number:04}@example.com" for number in range(2500)]
        assert [subscriber.address for subscriber in store.subscribers.every("unsubscribed")] == [
            "r0007@example.com"
        ]

    def test_can_be_changed_while_they_are_read(self, store: Store) -> None:
        """A long read does not keep other connections from writing."""
        add_members(store, 3)
        with closing(store.subscribers.every()) as everyone:
            next(everyone)
            assert store.subscribers.stop(["reader2@example.com"], "unsubscribed") == 1

    def test_stop_only_once(self, store: Store) -> None:
        """Stopping changes only subscribers who are not stopped yet."""
        add_subscribers(
            store,
            make_subscriber("a"),
            make_subscriber("b", "complained"),
            make_subscriber("c", "pending"),
        )
        keys = [f"{name}@example.com" for name in "abcd"]
        assert store.subscribers.stop(keys, "bounced") == 2
        assert store.subscribers.stop(keys, "unsubscribed") == 0
        assert store.subscribers.count() == {"bounced": 2, "complained": 1}

    def test_consent_is_recorded(self, store: Store) -> None:
        """If the operator confirms consent, an event of each new subscriber records it."""
        store.subscribers.add([make_subscriber("a")], NOW, "they signed a list")
        store.subscribers.add([make_subscriber("a"), make_subscriber("b")], NOW)
        events = [list(store.events.of(found(store, name).id)) for name in "ab"]
        assert events == [
            [SubscriberEvent(NOW, "consent", "they signed a list", found(store, "a").id)],
            [],
        ]

    def test_pause_and_resume(self, store: Store) -> None:
        """An active subscriber pauses, a paused one resumes, and the cursor stays in place."""
        subscriber, gone = add_subscribers(
            store, make_subscriber("a"), make_subscriber("b", "unsubscribed")
        )
        assert store.subscribers.pause(subscriber.id)
        assert not store.subscribers.pause(subscriber.id)
        assert found(store, "a") == evolve(subscriber, state="paused")
        assert store.subscribers.resume(subscriber.id)
        assert found(store, "a") == subscriber
        assert not store.subscribers.resume(gone.id)

    def test_confirmation_raises_the_cursor(self, store: Store) -> None:
        """A confirmation activates a subscriber; neither the cursor nor the start moves back."""
        (subscriber,) = add_subscribers(
            store, make_subscriber("a", "unsubscribed", cursor=Cursor(NOVEMBER, 5))
        )
        assert store.subscribers.confirm(subscriber.id, Cursor(DECEMBER, 3))
        confirmed = evolve(subscriber, state="active", cursor=Cursor(DECEMBER, 5), start=DECEMBER)
        assert found(store, "a") == confirmed
        assert store.subscribers.confirm(subscriber.id, Cursor(NOVEMBER, 9))
        assert found(store, "a") == evolve(confirmed, cursor=Cursor(DECEMBER, 9))
        assert not store.subscribers.confirm(subscriber.id + 1, Cursor(NOVEMBER, 9))

    def test_preferences_change_nothing_else(self, store: Store) -> None:
        """A change of frequency, topics and language changes nothing else."""
        (subscriber,) = add_subscribers(store, make_subscriber("a"))
        assert store.subscribers.set_preferences(
            subscriber.id, "post", frozenset({"Products"}), "de"
        )
        assert found(store, "a") == evolve(
            subscriber, frequency="post", topics=frozenset({"Products"}), language="de"
        )


class TestSuppressions:
    """Suppressions."""

    def test_are_found(self, store: Store) -> None:
        """The suppressed hashes of a list are found, and a suppression can be lifted."""
        store.suppressions.suppress({"h1": "bounced", "h2": "complained"}, NOW)
        store.suppressions.suppress({"h1": "complained"}, NOW)
        store.suppressions.suppress({}, NOW)
        assert store.suppressions.among(["h1", "h2", "h3"]) == {"h1", "h2"}
        assert store.suppressions.lift("h1")
        assert not store.suppressions.lift("h1")
        assert store.suppressions.among(["h1", "h2", "h3"]) == {"h2"}

    def test_forgetting_keeps_only_a_hash(self, store: Store) -> None:
        """The hash of a forgotten address stays, but no delivery and no event."""
        store.subscribers.add([make_subscriber("a"), make_subscriber("b")], NOW, "they agreed")
        run = begin(store)
        plan_issue(store, run, "post")
        subscriber = found(store, "a")
        assert store.suppressions.forget("a@example.com", "h", NOW)
        assert store.subscribers.find("a@example.com") is None
        assert list(store.events.of(subscriber.id)) == []
        assert rows(store) == [("b", 0, "planned", 0)]
        assert store.suppressions.among(["h"]) == {"h"}

    def test_forgetting_twice_or_an_unknown_address_suppresses_too(self, store: Store) -> None:
        """An address that is unknown or already forgotten is suppressed, too."""
        for _ in range(2):
            assert not store.suppressions.forget("a@example.com", "h", NOW)
        assert store.suppressions.among(["h"]) == {"h"}

    def test_forgetting_during_a_delivery_is_no_error(self, store: Store) -> None:
        """The outcome of a delivery is dropped if its subscriber was forgotten meanwhile."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "post")
        (claimed,) = claim(store, run, 1, NOW)
        store.suppressions.forget("reader0@example.com", "h", NOW)
        assert store.deliveries.record(run, [DeliveryOutcome(claimed.id, "sent")], NOW) == 0

    def test_need_their_first_key(self, store: Store) -> None:
        """Another key than the first is refused, because no suppression would match."""
        store.suppressions.require_key("proof")
        store.suppressions.require_key("proof")
        with pytest.raises(SettingsError, match=r"POSTROOM_SECRET_KEY: .*set that key again"):
            store.suppressions.require_key("another")


def test_sqlite_keeps_no_bytes_of_a_forgotten_address(tmp_path: Path) -> None:
    """A forgotten address is in no file of the database."""
    store = open_store(None, tmp_path)
    store.subscribers.add([make_subscriber("zzforgotten")], NOW, "they agreed")
    store.suppressions.forget("zzforgotten@example.com", "h", NOW)
    files = list((tmp_path / ".postroom").iterdir())
    assert any(b"subscribers" in file.read_bytes() for file in files)
    assert not any(b"zzforgotten" in file.read_bytes() for file in files)
    store.database.close()


class TestPostLog:
    """The post log and the release."""

    def test_log_and_release_change_together(self, store: Store) -> None:
        """New log entries, retracted ones and the state are written in one transaction."""
        assert (store.post_log.last(), store.post_log.state()) == (0, None)
        first_state = RunState(NOW, date(2026, 11, 22), "Europe/Berlin")
        first_entry, second_entry = (
            LogEntry(seq, NOVEMBER, f"post-{seq}", NOVEMBER) for seq in (1, 2)
        )
        store.post_log.apply([first_entry, second_entry], [], first_state)
        later_state = RunState(SOON, date(2026, 11, 23), "Asia/Shanghai")
        again = LogEntry(3, DECEMBER, "post-1", NOVEMBER)
        store.post_log.apply([again], [1], later_state)
        assert list(store.post_log.entries()) == [
            evolve(first_entry, retracted=True),
            second_entry,
            again,
        ]
        assert (store.post_log.last(), store.post_log.state()) == (3, later_state)

    def test_the_log_is_never_overwritten(self, store: Store) -> None:
        """A used sequence number is refused, and nothing of that transaction is stored."""
        state = RunState(NOW, NOVEMBER, "UTC")
        store.post_log.apply([LogEntry(1, NOVEMBER, "a", NOVEMBER)], [], state)
        with pytest.raises(DatabaseError):
            store.post_log.apply(
                [LogEntry(1, NOVEMBER, "b", NOVEMBER)], [1], evolve(state, clock=SOON)
            )
        assert [entry.post_id for entry in store.post_log.entries()] == ["a"]
        assert store.post_log.state() == state


class TestEvents:
    """Events."""

    def test_are_of_a_subscriber_or_of_the_list(self, store: Store) -> None:
        """Events are read for one subscriber or for the list, oldest first."""
        (subscriber,) = add_subscribers(store, make_subscriber("a"))
        own_events = [
            SubscriberEvent(NOW, "pause", "", subscriber.id),
            SubscriberEvent(SOON, "return", "", subscriber.id),
        ]
        list_events = [SubscriberEvent(NOW, "import", "list.csv: 3 added")]
        store.events.add([*own_events, *list_events])
        store.events.add([])
        assert list(store.events.of(subscriber.id)) == own_events
        assert list(store.events.of(None)) == list_events


class TestRuns:
    """Runs and their lease."""

    def test_only_one_sends(self, store: Store) -> None:
        """A second run is refused in one line until the first run ends."""
        run = store.runs.begin(NOW)
        with pytest.raises(LeaseError, match="another run is sending; wait until it has ended"):
            store.runs.begin(SOON)
        store.runs.end(run, NOW)
        assert store.runs.begin(NOW) > run

    def test_a_crashed_run_frees_its_lock_at_once(self, store: Store) -> None:
        """The lock of a crashed process is free, even for a clock that was set back."""
        run = begin(store)
        other = begin(store, NOW - timedelta(days=1))
        store.runs.end(run, SOON)
        assert claim(store, other, 1, NOW) == ()

    def test_only_one_of_several_runs_gets_the_lease(self, store: Store) -> None:
        """Exactly one of several simultaneous runs gets the lease."""
        won: list[int] = []
        lost: list[LeaseError] = []

        def try_to_begin() -> None:
            try:
                won.append(store.runs.begin(NOW))
            except LeaseError as error:
                lost.append(error)

        threads = [threading.Thread(target=try_to_begin) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 5)


class TestGroups:
    """Groups."""

    def test_hold_active_subscribers_with_equal_settings(self, store: Store) -> None:
        """Groups are in a fixed order with their sizes, and hold only active subscribers."""
        products = frozenset({"Products"})
        add_subscribers(
            store,
            make_subscriber("a"),
            make_subscriber("b"),
            make_subscriber("c", topics=products),
            make_subscriber("d", language="de"),
            make_subscriber("e", cursor=Cursor(NOVEMBER, 4)),
            make_subscriber("f", frequency="day"),
            *(
                make_subscriber(state, state)
                for state in ("pending", "paused", "unsubscribed", "bounced")
            ),
        )
        plain = Group("month", Cursor(NOVEMBER), frozenset(), "")
        assert list(store.segments.groups()) == [
            (evolve(plain, frequency="day"), 1),
            (evolve(plain, topics=products), 1),
            (plain, 2),
            (evolve(plain, language="de"), 1),
            (evolve(plain, cursor=Cursor(NOVEMBER, 4)), 1),
        ]
        assert members_of(store, Segment(plain)) == [
            "a@example.com",
            "b@example.com",
        ]
        assert store.segments.split_by_returned(plain, (), DUE) == ((Segment(plain), 2),)
        assert store.segments.split_by_returned(evolve(plain, language="fr"), (), DUE) == ()

    def test_the_cursors_of_a_group_rise_together(self, store: Store) -> None:
        """The cursors of a group rise together, those of other groups stay, and none falls."""
        add_subscribers(
            store, make_subscriber("a"), make_subscriber("b"), make_subscriber("c", language="de")
        )
        (members, _) = (Segment(group) for group, _ in store.segments.groups())
        assert store.segments.raise_cursors(members, Cursor(DECEMBER, 3)) == 2
        assert [subscriber.cursor for subscriber in store.subscribers.every()] == [
            Cursor(DECEMBER, 3),
            Cursor(DECEMBER, 3),
            Cursor(NOVEMBER),
        ]
        raised = Segment(evolve(members.group, cursor=Cursor(DECEMBER, 3)))
        assert store.segments.raise_cursors(raised, Cursor(NOVEMBER, 4)) == 2
        assert found(store, "a").cursor == Cursor(DECEMBER, 4)

    def test_a_returned_post_splits_a_group(self, store: Store) -> None:
        """A returned post is due for members who started in time and have no email with it."""
        add_members(store, 5)
        late = make_subscriber("late", start=date(2026, 11, 20), cursor=Cursor(DECEMBER))
        add_subscribers(store, late)
        run = begin(store)
        plan_issue(
            store,
            run,
            "x",
            "returned",
            members=Segment(Group("month", Cursor(NOVEMBER), frozenset(), "")),
        )
        claimed = claim(store, run, 5, NOW)
        ends: Sequence[DeliveryState] = ("sent", "uncertain", "bounced", "deferred", "cancelled")
        outcomes = [
            DeliveryOutcome(delivery.id, end) for delivery, end in zip(claimed, ends, strict=True)
        ]
        store.deliveries.record(run, outcomes, NOW)
        for group, _ in list(store.segments.groups()):
            store.segments.raise_cursors(Segment(group), evolve(DUE, seq=1))
        again = LogEntry(9, DECEMBER, "returned", date(2026, 11, 10))
        due = evolve(only_group(store), due=(again,))
        settled = evolve(only_group(store), delivered=(again,))
        assert [address[:7] for address in members_of(store, due)] == [
            "reader2",
            "reader3",
            "reader4",
        ]
        assert [address[:7] for address in members_of(store, settled)] == [
            "reader0",
            "reader1",
            "late@ex",
        ]
        newer = evolve(DUE, seq=2)
        assert store.segments.split_by_returned(due.group, [again], newer) == (
            (due, 3),
            (settled, 3),
        )

    def test_cursors_wait_for_open_and_bounced_deliveries(self, store: Store) -> None:
        """A cursor stays behind a newer cutoff if the delivery is being sent or bounced."""
        add_members(store, 4)
        run = begin(store)
        plan_issue(store, run, "a")
        claimed = claim(store, run, 3, NOW)
        ends: Sequence[DeliveryState] = ("bounced", "deferred")
        outcomes = [
            DeliveryOutcome(delivery.id, end) for delivery, end in zip(claimed, ends, strict=False)
        ]
        store.deliveries.record(run, outcomes, NOW)
        members, newer = only_group(store), evolve(DUE, seq=1)
        assert store.segments.split_by_returned(members.group, (), DUE) == ((members, 2),)
        assert store.segments.split_by_returned(members.group, (), newer) == ((members, 3),)
        assert store.segments.raise_cursors(members, DUE) == 2
        assert store.segments.raise_cursors(members, newer) == 1
        assert [subscriber.cursor for subscriber in store.subscribers.every()] == [
            newer,
            DUE,
            Cursor(NOVEMBER),
            DUE,
        ]

    def test_know_the_frequencies_in_use(self, store: Store) -> None:
        """A frequency is in use if an active or paused subscriber has it."""
        add_subscribers(
            store, make_subscriber("a"), make_subscriber("b", "paused", frequency="day")
        )
        add_subscribers(store, make_subscriber("c", "unsubscribed", frequency="week"))
        frequencies: Sequence[Frequency] = ("post", "day", "week", "month")
        assert [each for each in frequencies if store.segments.is_used(each)] == ["day", "month"]

    def test_planning_reads_an_index_in_order(self, tmp_path: Path) -> None:
        """SQLite groups a million subscribers by walking one index, without sorting them."""
        store = open_store(None, tmp_path)
        columns = "frequency, cursor_date, cursor_seq, topics, language"
        query = f"SELECT {columns}, count(*) FROM subscribers WHERE state = 'active'"  # noqa: S608
        plan = f"EXPLAIN QUERY PLAN {query} GROUP BY {columns} ORDER BY {columns}"
        with store.database.reading() as connection:
            steps = [row.detail for row in connection.exec_driver_sql(plan)]
        assert steps == ["SEARCH subscribers USING COVERING INDEX subscribers_groups (state=?)"]
        store.database.close()


class TestIssues:
    """Issues."""

    def test_are_frozen_once(self, store: Store) -> None:
        """Equal posts, frequency, cutoff and language are one issue, as first frozen."""
        issue = IssueSnapshot("week", DECEMBER, "en", ("b", "a"), NOW, b"\x00first")
        number = store.issues.freeze(issue)
        assert store.issues.freeze(evolve(issue, content=b"second", date=SOON)) == number
        assert store.issues.find(number) == evolve(issue, id=number)
        others = (
            evolve(issue, posts=("a", "b")),
            evolve(issue, posts=()),
            evolve(issue, language="de"),
            evolve(issue, cutoff=JANUARY),
            evolve(issue, frequency="month"),
        )
        assert len({number, *map(store.issues.freeze, others)}) == 6
        assert store.issues.find(99) is None


class TestPlan:
    """Planning deliveries."""

    def test_gives_each_member_one_row(self, store: Store) -> None:
        """Planning makes one delivery for each member, and planning again adds none."""
        add_members(store, 3)
        run = begin(store)
        assert plan_issue(store, run, "a") == 3
        assert plan_issue(store, run, "a", "b") == 3
        assert rows(store) == [(f"reader{n}", 0, "planned", 0) for n in range(3)]
        (first, *_) = claim(store, run, 1, NOW)
        issue = store.issues.find(first.issue)
        assert issue
        assert issue.posts == ("a", "b")

    def test_keeps_the_waiting_time_of_a_deferred_delivery(self, store: Store) -> None:
        """A deferred delivery keeps attempts and time while its cutoff is the newest."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "deferred", "451", SOON)], NOW)
        plan_issue(store, run, "a")
        assert rows(store) == [("reader0", 0, "deferred", 1)]
        assert store.deliveries.retry_deferred(run, NOW) == 0
        assert store.deliveries.retry_deferred(run, SOON) == 1
        assert claim(store, run, 1, SOON)[0].attempts == 2

    def test_retries_a_deferred_delivery_when_it_is_time(self, store: Store) -> None:
        """Planning again at the same cutoff retries a delivery that has waited long enough."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "deferred", "451", SOON)], NOW)
        plan_issue(store, run, "a", now=SOON)
        assert rows(store) == [("reader0", 0, "planned", 1)]

    def test_replaces_a_deferred_delivery_at_a_newer_cutoff(self, store: Store) -> None:
        """A newer cutoff gives a deferred delivery the new issue, the same number and no wait."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "deferred", "451", SOON)], NOW)
        plan_issue(store, run, "a", "b", to=Cursor(JANUARY))
        assert rows(store) == [("reader0", 0, "planned", 0)]

    def test_keeps_a_bounced_delivery_until_a_newer_cutoff(self, store: Store) -> None:
        """A bounced delivery is planned again only when its cutoff is no longer the newest."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "bounced", "550")], NOW)
        assert plan_issue(store, run, "a", "b") == 0
        assert rows(store) == [("reader0", 0, "bounced", 1)]
        assert plan_issue(store, run, "a", "b", to=Cursor(DECEMBER, 7)) == 1
        assert rows(store) == [("reader0", 0, "planned", 0)]

    def test_keeps_a_delivery_that_is_being_sent(self, store: Store) -> None:
        """A delivery that is being sent is not replaced."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "a")
        claim(store, run, 1, NOW)
        assert plan_issue(store, run, "a", "b", to=Cursor(JANUARY)) == 0
        assert rows(store) == [("reader0", 0, "sending", 1)]

    def test_cancels_stale_deliveries(self, store: Store) -> None:
        """Open deliveries of an earlier plan that the new plan does not include are cancelled."""
        first, second = add_members(store, 2)
        run = begin(store)
        plan_issue(store, run, "a")
        store.runs.end(run, NOW)
        store.subscribers.set_preferences(first.id, "day", frozenset(), "")
        run = begin(store)
        monthly = Segment(Group("month", Cursor(NOVEMBER)))
        plan_issue(store, run, "a", members=monthly)
        assert store.deliveries.cancel_stale(run, NOW) == 1
        assert rows(store) == [("reader0", 0, "cancelled", 0), ("reader1", 0, "planned", 0)]
        store.subscribers.set_preferences(first.id, "month", frozenset(), "")
        assert plan_issue(store, run, "a") == 2
        assert second.issues == 0

    @pytest.mark.parametrize("state", ["planned", "deferred"])
    def test_ends_when_the_subscriber_stops(self, store: Store, state: DeliveryState) -> None:
        """Pausing or unsubscribing cancels an open delivery; a later plan begins without a wait."""
        first, second, _ = add_members(store, 3)
        run = begin(store)
        plan_issue(store, run, "a")
        for claimed in claim(store, run, 3, NOW):
            store.deliveries.record(run, [DeliveryOutcome(claimed.id, state, "", SOON)], NOW)
        store.subscribers.pause(first.id)
        store.subscribers.stop(["reader1@example.com"], "unsubscribed")
        assert [row[2] for row in rows(store)] == ["cancelled", "cancelled", state]
        store.subscribers.resume(first.id)
        store.subscribers.confirm(second.id, Cursor(NOVEMBER))
        for group, _ in list(store.segments.groups()):
            plan_issue(store, run, "a", members=Segment(group))
        assert rows(store) == [
            ("reader0", 0, "planned", 0),
            ("reader1", 0, "planned", 0),
            ("reader2", 0, state, 1),
        ]


class TestWelcome:
    """Welcome emails, which a confirmation plans, not a run."""

    def test_waits_for_the_next_run(self, store: Store) -> None:
        """The next run adopts a welcome email, and its outcome moves no cursor."""
        (subscriber,) = add_members(store, 1)
        store.runs.end(begin(store), NOW)
        issue = plan_welcome(store, subscriber)
        run = begin(store)
        assert claim(store, run, 9, NOW) == ()
        assert [each.id for each in store.issues.waiting("welcome")] == [issue]
        assert store.deliveries.adopt(run, issue) == 1
        assert store.deliveries.cancel_stale(run, NOW) == 0
        (claimed,) = claim(store, run, 9, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "sent")], NOW)
        assert found(store, "reader0") == evolve(subscriber, issues=1)
        assert list(store.issues.waiting("welcome")) == []

    def test_is_sent_by_the_run_that_is_under_way(self, store: Store) -> None:
        """A subscriber who confirms during a run gets the welcome email from that run."""
        (subscriber,) = add_members(store, 1)
        run = begin(store)
        plan_welcome(store, subscriber)
        assert len(claim(store, run, 9, NOW)) == 1

    def test_gives_way_to_a_due_issue(self, store: Store) -> None:
        """A planned issue replaces the welcome email, because only one delivery can be open."""
        (subscriber,) = add_members(store, 1)
        earlier = begin(store)
        issue = plan_welcome(store, subscriber)
        store.runs.end(earlier, NOW)
        run = begin(store)
        plan_issue(store, run, "a")
        assert store.deliveries.adopt(run, issue) == 0
        assert rows(store) == [("reader0", 0, "planned", 0)]

    def test_is_for_an_active_subscriber_without_an_open_delivery(self, store: Store) -> None:
        """A subscriber who has an open delivery or is not active gets no welcome email."""
        subscriber, gone = add_subscribers(
            store, make_subscriber("reader0"), make_subscriber("b", "unsubscribed")
        )
        run = begin(store)
        plan_issue(store, run, "a")
        number = store.issues.freeze(WELCOME)
        assert not store.deliveries.plan_welcome(subscriber.id, number, NOW)
        assert not store.deliveries.plan_welcome(gone.id, number, NOW)


WELCOME = IssueSnapshot("welcome", date.min, "en", ("old",), NOW)


def plan_welcome(store: Store, subscriber: Subscriber) -> int:
    """Plan a welcome email for a subscriber, and return the id of its issue."""
    number = store.issues.freeze(WELCOME)
    assert store.deliveries.plan_welcome(subscriber.id, number, NOW)
    return number


class TestLedger:
    """Claims and outcomes."""

    def test_a_sent_email_closes_its_delivery(self, store: Store) -> None:
        """A sent email raises the cursor and count of its subscriber; a failure moves neither."""
        add_members(store, 4)
        run = begin(store)
        plan_issue(store, run, "a", to=Cursor(DECEMBER, 7))
        claimed = claim(store, run, 4, NOW)
        ends: Sequence[DeliveryState] = ("sent", "deferred", "bounced", "uncertain")
        outcomes = [
            DeliveryOutcome(delivery.id, end) for delivery, end in zip(claimed, ends, strict=True)
        ]
        assert store.deliveries.record(run, outcomes, NOW) == 4
        progress = [
            (subscriber.cursor, subscriber.issues) for subscriber in store.subscribers.every()
        ]
        closed, open_ = (Cursor(DECEMBER, 7), 1), (Cursor(NOVEMBER), 0)
        assert progress == [closed, open_, open_, closed]
        assert store.deliveries.count_by_state() == dict.fromkeys(ends, 1)
        assert [delivery.address for delivery in store.deliveries.uncertain()] == [
            "reader3@example.com"
        ]

    def test_deliveries_are_claimed_in_order_and_once(self, store: Store) -> None:
        """Each planned delivery is claimed once, in the order of the plan."""
        add_members(store, 5)
        run = begin(store)
        plan_issue(store, run, "a")
        first = claim(store, run, 2, NOW)
        rest = claim(store, run, 9, NOW)
        names = [delivery.address[:7] for delivery in (*first, *rest)]
        assert names == [f"reader{n}" for n in range(5)]
        assert claim(store, run, 9, NOW) == ()
        assert [delivery.attempts for delivery in first] == [1, 1]
        assert first[0].token == "token-of-reader0"

    def test_workers_of_one_run_share_the_deliveries(self, store: Store) -> None:
        """Workers that claim at the same time never get the same delivery."""
        add_members(store, 60)
        run = begin(store)
        plan_issue(store, run, "a")
        claimed_ids: list[int] = []

        def work() -> None:
            while claimed := claim(store, run, 3, NOW):
                claimed_ids.extend(delivery.id for delivery in claimed)
                outcomes = [DeliveryOutcome(delivery.id, "sent") for delivery in claimed]
                store.deliveries.record(run, outcomes, NOW)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(claimed_ids) == sorted(set(claimed_ids))
        assert store.deliveries.count_by_state() == {"sent": 60}

    def test_one_transaction_records_and_claims(self, store: Store) -> None:
        """Outcomes and the next claim share one transaction, until nothing is left."""
        add_members(store, 3)
        run = begin(store)
        plan_issue(store, run, "a")
        claimed = store.deliveries.record_and_claim(run, [], 1, NOW, hashed)
        rounds = 0
        while claimed:
            rounds += 1
            claimed = store.deliveries.record_and_claim(
                run, [DeliveryOutcome(claimed[0].id, "sent")], 1, NOW, hashed
            )
        assert (rounds, store.deliveries.count_by_state()) == (3, {"sent": 3})

    def test_unsubscribing_before_the_claim_cancels(self, store: Store) -> None:
        """Deliveries of subscribers who unsubscribed after planning are cancelled and skipped."""
        add_members(store, 4)
        run = begin(store)
        plan_issue(store, run, "a")
        store.subscribers.stop([f"reader{n}@example.com" for n in (0, 1, 3)], "unsubscribed")
        claimed = claim(store, run, 1, NOW)
        assert [delivery.address for delivery in claimed] == ["reader2@example.com"]
        assert claim(store, run, 1, NOW) == ()
        assert store.deliveries.count_by_state() == {"cancelled": 3, "sending": 1}

    def test_a_claim_can_be_released(self, store: Store) -> None:
        """A delivery that was claimed and not begun is planned again, and moves nothing."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "planned")], NOW)
        assert claim(store, run, 1, NOW)[0].id == claimed.id

    def test_a_crashed_run_leaves_uncertain_deliveries(self, store: Store) -> None:
        """Deliveries left in sending by a crashed run become uncertain, and count as delivered."""
        add_members(store, 3)
        run = begin(store)
        plan_issue(store, run, "a")
        claimed = claim(store, run, 2, NOW)
        other = begin(store, SOON)
        assert store.deliveries.sweep(other, SOON) == tuple(delivery.id for delivery in claimed)
        assert store.deliveries.sweep(other, SOON) == ()
        assert store.deliveries.count_by_state() == {"uncertain": 2, "planned": 1}
        assert [subscriber.issues for subscriber in store.subscribers.every()] == [1, 1, 0]
        waiting, _ = (Segment(group) for group, _ in store.segments.groups())
        assert plan_issue(store, other, "a", "b", members=waiting) == 1

    def test_only_the_holder_of_the_lease_claims(self, store: Store) -> None:
        """A run that lost its lease neither claims nor sweeps."""
        add_members(store, 2)
        run = begin(store)
        plan_issue(store, run, "a")
        begin(store, SOON)
        for call in (
            lambda: claim(store, run, 1, SOON),
            lambda: store.deliveries.record_and_claim_uncertain(run, [], 1, SOON, hashed, after=0),
            lambda: store.deliveries.record_and_claim(run, [], 1, SOON, hashed),
            lambda: store.deliveries.sweep(run, SOON),
        ):
            with pytest.raises(LeaseError):
                call()
        assert store.deliveries.count_by_state() == {"planned": 2}

    def test_a_late_reply_turns_uncertain_into_sent(self, store: Store) -> None:
        """A run that lost its lease can still record that an email was sent, and nothing else."""
        add_members(store, 2)
        run = begin(store)
        plan_issue(store, run, "a")
        first, second = claim(store, run, 2, NOW)
        other = begin(store, SOON)
        store.deliveries.sweep(other, SOON)
        outcomes = [
            DeliveryOutcome(first.id, "sent", "250"),
            DeliveryOutcome(second.id, "deferred", "451", SOON),
        ]
        assert store.deliveries.record(run, outcomes, SOON) == 2
        assert store.deliveries.count_by_state() == {"sent": 1, "uncertain": 1}
        assert [each.issues for each in store.subscribers.every()] == [1, 1]
        assert store.deliveries.record(other, [DeliveryOutcome(second.id, "sent")], SOON) == 0

    def test_outcomes_are_recorded_without_the_lease(self, store: Store) -> None:
        """A run that lost its lease cannot claim, but its outcomes are stored."""
        add_members(store, 2)
        run = begin(store)
        plan_issue(store, run, "a")
        (delivery,) = claim(store, run, 1, NOW)
        begin(store, SOON)
        with pytest.raises(LeaseError):
            store.deliveries.record_and_claim(
                run, [DeliveryOutcome(delivery.id, "sent", "250")], 1, SOON, hashed
            )
        assert store.deliveries.count_by_state() == {"sent": 1, "planned": 1}
        assert found(store, "reader0").issues == 1

    def test_uncertain_emails_are_resent_on_request(self, store: Store) -> None:
        """The same delivery is sent again, and counts once whatever its outcome is."""
        add_members(store, 3)
        run = begin(store)
        plan_issue(store, run, "a")
        claim(store, run, 3, NOW)
        run = begin(store, SOON)
        store.deliveries.sweep(run, SOON)
        first, second, _ = store.deliveries.record_and_claim_uncertain(
            run, [], 3, SOON, hashed, after=0
        )
        assert (first.number, first.attempts) == (0, 2)
        store.deliveries.record(
            run, [DeliveryOutcome(first.id, "sent"), DeliveryOutcome(second.id, "bounced")], SOON
        )
        run = begin(store, SOON + timedelta(minutes=5))
        store.deliveries.sweep(run, SOON)
        assert store.deliveries.count_by_state() == {"sent": 1, "uncertain": 2}
        assert [each.issues for each in store.subscribers.every()] == [1, 1, 1]

    def test_uncertain_emails_to_unsubscribed_are_not_resent(self, store: Store) -> None:
        """A delivery stays uncertain if its subscriber unsubscribed."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "a")
        claim(store, run, 1, NOW)
        run = begin(store, SOON)
        store.deliveries.sweep(run, SOON)
        store.subscribers.stop(["reader0@example.com"], "unsubscribed")
        assert store.deliveries.record_and_claim_uncertain(run, [], 1, SOON, hashed, after=0) == ()
        assert store.deliveries.count_by_state() == {"uncertain": 1}

    def test_any_reply_of_a_server_can_be_stored(self, store: Store) -> None:
        """A reply of any characters and any length is stored with its outcome."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        reply = "550 no \udcff\0 " + "x" * 100_000
        assert (
            store.deliveries.record(run, [DeliveryOutcome(claimed.id, "bounced", reply)], NOW) == 1
        )
        with store.database.reading() as connection:
            stored = connection.execute(sa.select(deliveries.c.reply)).scalar_one()
        assert stored == "550 no ?\ufffd " + "x" * 990

    def test_an_outcome_counts_once(self, store: Store) -> None:
        """A repeated outcome changes nothing, and neither does an empty list."""
        add_members(store, 1)
        run = begin(store)
        plan_issue(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        counts = [
            store.deliveries.record(run, [DeliveryOutcome(claimed.id, "sent")], NOW)
            for _ in range(2)
        ]
        assert counts == [1, 0]
        assert store.deliveries.record(run, [], NOW) == 0
        assert found(store, "reader0").issues == 1


STEPS = st.lists(
    st.sampled_from("plan claim sent deferred bounced give-back crash slow-answer".split()),
    min_size=4,
    max_size=25,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_no_delivery_closes_twice(store: Store, steps: list[str]) -> None:
    """In every order of events, each count of a subscriber stands for one closed delivery."""
    with store.database.writing() as connection:
        for table in reversed(metadata.sorted_tables):
            if table.name != "postroom_version":
                connection.execute(sa.delete(table))
    add_members(store, 2)
    clock = NOW
    run, cutoff = begin(store), NOVEMBER
    claims: list[tuple[int, int]] = []
    for step in steps:
        if step == "plan":
            cutoff += timedelta(days=1)
            for group, _ in list(store.segments.groups()):
                plan_issue(store, run, "a", to=Cursor(cutoff), members=Segment(group), now=clock)
        elif step == "claim":
            claims += [(delivery.id, run) for delivery in claim(store, run, 1, clock)]
        elif step == "crash":
            clock += timedelta(minutes=5)
            run = begin(store, clock)
            store.deliveries.sweep(run, clock)
        elif claims:
            states = {"give-back": "planned", "slow-answer": "sent"}
            number, claimed_by = claims.pop(0)
            outcome = DeliveryOutcome(number, states.get(step, step), "", clock)  # type: ignore[arg-type]
            store.deliveries.record(claimed_by, [outcome], clock)
        _assert_counts_match(store)


def _assert_counts_match(store: Store) -> None:
    closed: dict[str, list[int]] = {}
    for name, number, state, _ in rows(store):
        if state in {"sent", "uncertain"}:
            closed.setdefault(name, []).append(number)
    for subscriber in store.subscribers.every():
        name = subscriber.address.partition("@")[0]
        assert sorted(closed.get(name, [])) == list(range(subscriber.issues))


# A valid call of every public method of the store.
_ISSUE = IssueSnapshot("month", DECEMBER, "en", ("a",), NOW)
_MEMBERS = Segment(Group("month", Cursor(NOVEMBER), frozenset(), ""))
CALLS: dict[str, Callable[[Store], object]] = {
    "subscribers.known": lambda s: s.subscribers.known(["k"]),
    "subscribers.find": lambda s: s.subscribers.find("k"),
    "subscribers.with_token": lambda s: s.subscribers.with_token("t"),
    "subscribers.every": lambda s: list(s.subscribers.every()),
    "subscribers.count": lambda s: s.subscribers.count(),
    "subscribers.add": lambda s: s.subscribers.add([make_subscriber("a")], NOW),
    "subscribers.stop": lambda s: s.subscribers.stop(["k"], "unsubscribed"),
    "subscribers.unsubscribe": lambda s: s.subscribers.unsubscribe("t", NOW, "page"),
    "subscribers.pause": lambda s: s.subscribers.pause(1),
    "subscribers.resume": lambda s: s.subscribers.resume(1),
    "subscribers.confirm": lambda s: s.subscribers.confirm(1, DUE),
    "subscribers.set_preferences": lambda s: s.subscribers.set_preferences(
        1, "day", frozenset(), ""
    ),
    "suppressions.require_key": lambda s: s.suppressions.require_key("p"),
    "suppressions.among": lambda s: s.suppressions.among(["h"]),
    "suppressions.suppress": lambda s: s.suppressions.suppress({"h": "bounced"}, NOW),
    "suppressions.lift": lambda s: s.suppressions.lift("h"),
    "suppressions.forget": lambda s: s.suppressions.forget("k", "h", NOW),
    "post_log.entries": lambda s: list(s.post_log.entries()),
    "post_log.last": lambda s: s.post_log.last(),
    "post_log.state": lambda s: s.post_log.state(),
    "post_log.apply": lambda s: s.post_log.apply([], [], RunState(NOW, NOVEMBER, "UTC")),
    "segments.groups": lambda s: list(s.segments.groups()),
    "segments.split_by_returned": lambda s: s.segments.split_by_returned(_MEMBERS.group, (), DUE),
    "segments.is_used": lambda s: s.segments.is_used("day"),
    "segments.raise_cursors": lambda s: s.segments.raise_cursors(_MEMBERS, DUE),
    "segments.tokens": lambda s: list(s.segments.tokens(_MEMBERS, DUE)),
    "issues.freeze": lambda s: s.issues.freeze(_ISSUE),
    "issues.freeze_anew": lambda s: s.issues.freeze_anew(_ISSUE),
    "issues.find_frozen": lambda s: s.issues.find_frozen(_ISSUE),
    "issues.has_recipients": lambda s: s.issues.has_recipients(1),
    "issues.open_in": lambda s: list(s.issues.open_in(1)),
    "issues.waiting": lambda s: list(s.issues.waiting("welcome")),
    "issues.find": lambda s: s.issues.find(1),
    "deliveries.plan": lambda s: s.deliveries.plan(1, _MEMBERS, 1, DUE, NOW),
    "deliveries.plan_welcome": lambda s: s.deliveries.plan_welcome(1, 1, NOW),
    "deliveries.adopt": lambda s: s.deliveries.adopt(1, 1),
    "deliveries.cancel_stale": lambda s: s.deliveries.cancel_stale(1, NOW),
    "deliveries.retry_deferred": lambda s: s.deliveries.retry_deferred(1, NOW),
    "deliveries.sweep": lambda s: s.deliveries.sweep(1, NOW),
    "deliveries.record": lambda s: s.deliveries.record(1, [DeliveryOutcome(1, "sent")], NOW),
    "deliveries.count_planned": lambda s: s.deliveries.count_planned(1),
    "deliveries.record_and_claim": lambda s: s.deliveries.record_and_claim(1, [], 1, NOW, hashed),
    "deliveries.record_and_claim_uncertain": lambda s: s.deliveries.record_and_claim_uncertain(
        1, [], 1, NOW, hashed, after=0
    ),
    "deliveries.count_by_state": lambda s: s.deliveries.count_by_state(),
    "deliveries.rows": lambda s: list(s.deliveries.rows("sent")),
    "deliveries.uncertain": lambda s: list(s.deliveries.uncertain()),
    "deliveries.refused": lambda s: list(s.deliveries.refused()),
    "deliveries.deferred": lambda s: list(s.deliveries.deferred()),
    "deliveries.count_uncertain": lambda s: s.deliveries.count_uncertain(),
    "claim.find": lambda s: s.claim.find(),
    "claim.find_difference": lambda s: s.claim.find_difference(LedgerPlace("news")),
    "claim.replace": lambda s: s.claim.replace(LedgerPlace("news")),
    "deliveries.count_acknowledged": lambda s: s.deliveries.count_acknowledged(),
    "deliveries.acknowledge": lambda s: s.deliveries.acknowledge(NOW, dead=True),
    "runs.begin": lambda s: s.runs.begin(NOW),
    "runs.last": lambda s: s.runs.last(1),
    "runs.is_under_way": lambda s: s.runs.is_under_way(),
    "runs.end": lambda s: s.runs.end(1, NOW),
    "events.add": lambda s: s.events.add([SubscriberEvent(NOW, "k")]),
    "events.of": lambda s: list(s.events.of(None)),
    "bounces.record_failure": lambda s: s.bounces.record_failure(
        BounceTrace(1), hard=True, detail="", hashed=str, at=NOW
    ),
    "bounces.record_refusal": lambda s: s.bounces.record_refusal(BounceTrace(1), "", NOW),
    "bounces.record_complaint": lambda s: s.bounces.record_complaint(BounceTrace(1), str, NOW),
    "bounces.complaints": lambda s: s.bounces.complaints(NOW),
    "bounces.summary": lambda s: s.bounces.summary(NOW),
}


def test_every_method_has_a_call(store: Store) -> None:
    """The table of calls names each public method of the store."""
    parts = [field.name for field in fields(Store) if field.name != "database"]
    methods = {
        f"{part}.{name}"
        for part in parts
        for name, _ in inspect.getmembers(getattr(store, part), inspect.ismethod)
        if not name.startswith("_")
    }
    assert methods == set(CALLS)


@contextmanager
def _lock_tables(store: Store, url: str) -> Iterator[None]:
    """Lock all tables, as a backup or a repair does."""
    store.database.close()
    if store.database.is_sqlite:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as raw:
            raw.execute("PRAGMA locking_mode=EXCLUSIVE")
            raw.execute("BEGIN EXCLUSIVE")
            yield
        return
    with psycopg.connect(url) as connection:
        for table in metadata.sorted_tables:
            connection.execute(f'LOCK TABLE "{table.name}"'.encode())
        yield


def test_a_locked_database_is_one_line(database_url: str, tmp_path: Path) -> None:
    """Each method raises an error of one line if the database is locked."""
    database = make_engine(database_url, tmp_path, timeout=0.02)
    require_tables(database)
    store = make_store(database)
    with _lock_tables(store, database_url):
        for name, call in CALLS.items():
            with pytest.raises(DatabaseError) as caught:
                call(store)
            (problem,) = caught.value.problems
            assert str(problem).startswith("POSTROOM_DATABASE_URL: is locked; another"), name
    database.close()
