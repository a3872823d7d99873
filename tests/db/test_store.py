"""The store; every test runs on SQLite and on PostgreSQL."""

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
    """Open the store of an empty database, once of each kind, and close it."""
    opened = open_store(database_url, tmp_path)
    yield opened
    opened.database.close()


def subscriber(name: str, state: State = "active", **changes: Any) -> Subscriber:
    """Return a subscriber to a monthly letter, not yet stored."""
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


def added(store: Store, *newcomers: Subscriber) -> list[Subscriber]:
    """Add subscribers and return them as the store has them."""
    store.subscribers.add(newcomers, NOW)
    found = [store.subscribers.find(one.address.casefold()) for one in newcomers]
    return [one for one in found if one]


def some(store: Store, count: int) -> list[Subscriber]:
    """Add `count` subscribers who are all of one group."""
    return added(store, *(subscriber(f"reader{number}") for number in range(count)))


def only_group(store: Store) -> Segment:
    """Return the members of the one group that there is."""
    ((group, _),) = store.segments.groups()
    return Segment(group)


def begin(store: Store, at: datetime = NOW) -> int:
    """Begin a run; the one before it, if it has not ended, is dead."""
    store.database.release_lock()
    return store.runs.begin(at)


def hashed(key: str) -> str:
    """Return what the address with this key would be suppressed under."""
    return f"hash of {key}"


def claim(store: Store, run: int, limit: int, now: datetime) -> tuple[ClaimedDelivery, ...]:
    """Take rows for sending, with nothing to record."""
    return store.deliveries.record_and_claim(run, [], limit, now, hashed)


def planned(
    store: Store,
    run: int,
    *posts: str,
    to: Cursor = DUE,
    members: Segment | None = None,
    now: datetime = NOW,
) -> int:
    """Plan a letter with these posts for a group, by default the only one; return for how many."""
    letter = IssueSnapshot("month", to.date, "en", posts, now, b"frozen")
    number = store.issues.freeze(letter)
    return store.deliveries.plan(run, members or only_group(store), number, to, now)


def members_of(store: Store, segment: Segment) -> list[str]:
    """Return the addresses of the subscribers of a segment, in the order of their ids."""
    tokens = set(store.segments.tokens(segment, Cursor(date.max, 1000)))
    return [each.address for each in store.subscribers.every() if each.token in tokens]


def rows(store: Store) -> list[tuple[str, int, DeliveryState, int]]:
    """Return all deliveries as (reader, n, state, attempts), in the order of their ids."""
    asked = sa.select(deliveries).order_by(deliveries.c.id)
    names = {one.id: one.address.partition("@")[0] for one in store.subscribers.every()}
    with store.database.reading() as connection:
        return [
            (names[r.subscriber], r.number, r.state, r.attempts) for r in connection.execute(asked)
        ]


def found(store: Store, name: str) -> Subscriber:
    """Return the subscriber with this name."""
    one = store.subscribers.find(f"{name}@example.com")
    assert one
    return one


class TestSubscribers:
    """Subscribers."""

    def test_come_back_as_they_were(self, store: Store) -> None:
        """Every field of a subscriber comes back, and the store gives the id."""
        new = subscriber(
            "Reader",
            "paused",
            frequency="week",
            topics=frozenset({"Products", "Ünïcode, and more"}),
            language="zh-Hans",
            cursor=Cursor(DECEMBER, 2**40),
            issues=7,
        )
        (kept,) = added(store, new)
        assert kept == evolve(new, id=kept.id)
        assert store.subscribers.with_token("token-of-Reader") == kept
        assert store.subscribers.with_token("another") is None

    def test_are_the_same_in_any_case(self, store: Store) -> None:
        """An address that differs in case alone is not added again."""
        assert store.subscribers.add([subscriber("reader")], NOW) == {"reader@example.com"}
        again = subscriber("READER", token="another")
        assert store.subscribers.add([again], NOW) == frozenset()

    def test_with_the_token_of_another_are_not_added(self, store: Store) -> None:
        """Two subscribers never share a token; the others of the same call are added."""
        thief = subscriber("thief", token="token-of-reader")
        others = [subscriber("reader"), thief, subscriber("third")]
        assert store.subscribers.add(others, NOW) == {"reader@example.com", "third@example.com"}

    def test_are_told_by_state(self, store: Store) -> None:
        """States are told of keys that are known, and counted."""
        added(
            store, subscriber("a"), subscriber("b", "unsubscribed"), subscriber("c", "unsubscribed")
        )
        asked = ["a@example.com", "b@example.com", "nobody@example.com"]
        assert store.subscribers.known(asked) == {
            "a@example.com": "active",
            "b@example.com": "unsubscribed",
        }
        assert store.subscribers.count() == {"active": 1, "unsubscribed": 2}
        assert store.subscribers.known([]) == {}

    def test_are_read_in_the_order_in_which_they_came(self, store: Store) -> None:
        """All are read, or those in one state, more of them than are held at once."""
        store.subscribers.add([subscriber(f"r{number:04}") for number in range(2500)], NOW)
        store.subscribers.stop(["r0007@example.com"], "unsubscribed")
        names = [one.address for one in store.subscribers.every()]
        assert names == [f"r{number:04}@example.com" for number in range(2500)]
        assert [one.address for one in store.subscribers.every("unsubscribed")] == [
            "r0007@example.com"
        ]

    def test_can_be_changed_while_they_are_read(self, store: Store) -> None:
        """A long reading does not keep others from writing."""
        some(store, 3)
        with closing(store.subscribers.every()) as everyone:
            next(everyone)
            assert store.subscribers.stop(["reader2@example.com"], "unsubscribed") == 1

    def test_stop_once_and_for_all(self, store: Store) -> None:
        """Stopping changes those who receive, and no other state of those who do not."""
        added(store, subscriber("a"), subscriber("b", "complained"), subscriber("c", "pending"))
        keys = [f"{name}@example.com" for name in "abcd"]
        assert store.subscribers.stop(keys, "bounced") == 2
        assert store.subscribers.stop(keys, "unsubscribed") == 0
        assert store.subscribers.count() == {"bounced": 2, "complained": 1}

    def test_consent_is_on_record(self, store: Store) -> None:
        """Where someone answers for their consent, an event of each one says so."""
        store.subscribers.add([subscriber("a")], NOW, "they signed a list")
        store.subscribers.add([subscriber("a"), subscriber("b")], NOW)
        kept = [list(store.events.of(found(store, name).id)) for name in "ab"]
        assert kept == [
            [SubscriberEvent(NOW, "consent", "they signed a list", found(store, "a").id)],
            [],
        ]

    def test_pause_and_resume(self, store: Store) -> None:
        """Only who is active pauses, only who paused resumes; the bookmark stays."""
        one, gone = added(store, subscriber("a"), subscriber("b", "unsubscribed"))
        assert store.subscribers.pause(one.id)
        assert not store.subscribers.pause(one.id)
        assert found(store, "a") == evolve(one, state="paused")
        assert store.subscribers.resume(one.id)
        assert found(store, "a") == one
        assert not store.subscribers.resume(gone.id)

    def test_confirmation_raises_the_bookmark(self, store: Store) -> None:
        """A confirmation makes active; neither part of the bookmark falls, nor does the start."""
        (one,) = added(store, subscriber("a", "unsubscribed", cursor=Cursor(NOVEMBER, 5)))
        assert store.subscribers.confirm(one.id, Cursor(DECEMBER, 3))
        back = evolve(one, state="active", cursor=Cursor(DECEMBER, 5), start=DECEMBER)
        assert found(store, "a") == back
        assert store.subscribers.confirm(one.id, Cursor(NOVEMBER, 9))
        assert found(store, "a") == evolve(back, cursor=Cursor(DECEMBER, 9))
        assert not store.subscribers.confirm(one.id + 1, Cursor(NOVEMBER, 9))

    def test_preferences_leave_the_rest_alone(self, store: Store) -> None:
        """A change of frequency, topics and language changes nothing else."""
        (one,) = added(store, subscriber("a"))
        assert store.subscribers.set_preferences(one.id, "post", frozenset({"Products"}), "de")
        assert found(store, "a") == evolve(
            one, frequency="post", topics=frozenset({"Products"}), language="de"
        )


class TestSuppressions:
    """Suppressions."""

    def test_are_found(self, store: Store) -> None:
        """Of some hashes, those that are suppressed are told; one may be lifted again."""
        store.suppressions.suppress({"h1": "bounced", "h2": "complained"}, NOW)
        store.suppressions.suppress({"h1": "complained"}, NOW)
        store.suppressions.suppress({}, NOW)
        assert store.suppressions.among(["h1", "h2", "h3"]) == {"h1", "h2"}
        assert store.suppressions.lift("h1")
        assert not store.suppressions.lift("h1")
        assert store.suppressions.among(["h1", "h2", "h3"]) == {"h2"}

    def test_forgetting_leaves_a_hash_alone(self, store: Store) -> None:
        """Of a forgotten address no row is left but the hash: no delivery, no event."""
        store.subscribers.add([subscriber("a"), subscriber("b")], NOW, "they agreed")
        run = begin(store)
        planned(store, run, "post")
        one = found(store, "a")
        assert store.suppressions.forget("a@example.com", "h", NOW)
        assert store.subscribers.find("a@example.com") is None
        assert list(store.events.of(one.id)) == []
        assert rows(store) == [("b", 0, "planned", 0)]
        assert store.suppressions.among(["h"]) == {"h"}

    def test_forgetting_twice_or_an_unknown_address_suppresses_too(self, store: Store) -> None:
        """An address that is not known, or not any more, is suppressed all the same."""
        for _ in range(2):
            assert not store.suppressions.forget("a@example.com", "h", NOW)
        assert store.suppressions.among(["h"]) == {"h"}

    def test_forgetting_in_the_middle_of_a_letter_is_no_fault(self, store: Store) -> None:
        """A letter whose reader is forgotten while it is on its way has no outcome to record."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "post")
        (claimed,) = claim(store, run, 1, NOW)
        store.suppressions.forget("reader0@example.com", "h", NOW)
        assert store.deliveries.record(run, [DeliveryOutcome(claimed.id, "sent")], NOW) == 0

    def test_need_the_key_that_they_were_made_with(self, store: Store) -> None:
        """Another key than the first is refused: all who are suppressed would be new."""
        store.suppressions.require_key("proof")
        store.suppressions.require_key("proof")
        with pytest.raises(SettingsError, match=r"POSTROOM_SECRET_KEY: .*put that key back"):
            store.suppressions.require_key("another")


def test_sqlite_keeps_no_bytes_of_a_forgotten_address(tmp_path: Path) -> None:
    """After "forget me" the address stands nowhere in the files of the database."""
    store = open_store(None, tmp_path)
    store.subscribers.add([subscriber("zzforgotten")], NOW, "they agreed")
    store.suppressions.forget("zzforgotten@example.com", "h", NOW)
    files = list((tmp_path / ".postroom").iterdir())
    assert any(b"subscribers" in file.read_bytes() for file in files)
    assert not any(b"zzforgotten" in file.read_bytes() for file in files)
    store.database.close()


class TestArrivals:
    """Arrivals and the release."""

    def test_log_and_release_change_together(self, store: Store) -> None:
        """New arrivals, struck ones and the state row are written in one step."""
        assert (store.post_log.last(), store.post_log.state()) == (0, None)
        first = RunState(NOW, date(2026, 11, 22), "Europe/Berlin")
        one, two = (LogEntry(seq, NOVEMBER, f"post-{seq}", NOVEMBER) for seq in (1, 2))
        store.post_log.apply([one, two], [], first)
        later = RunState(SOON, date(2026, 11, 23), "Asia/Shanghai")
        again = LogEntry(3, DECEMBER, "post-1", NOVEMBER)
        store.post_log.apply([again], [1], later)
        assert list(store.post_log.entries()) == [evolve(one, retracted=True), two, again]
        assert (store.post_log.last(), store.post_log.state()) == (3, later)

    def test_the_log_is_never_written_over(self, store: Store) -> None:
        """A seq that is taken is refused, and nothing of that step is kept."""
        state = RunState(NOW, NOVEMBER, "UTC")
        store.post_log.apply([LogEntry(1, NOVEMBER, "a", NOVEMBER)], [], state)
        with pytest.raises(DatabaseError):
            store.post_log.apply(
                [LogEntry(1, NOVEMBER, "b", NOVEMBER)], [1], evolve(state, clock=SOON)
            )
        assert [arrival.post_id for arrival in store.post_log.entries()] == ["a"]
        assert store.post_log.state() == state


class TestEvents:
    """Events."""

    def test_are_of_a_subscriber_or_of_the_list(self, store: Store) -> None:
        """Events come back by whom they concern, oldest first."""
        (one,) = added(store, subscriber("a"))
        mine = [
            SubscriberEvent(NOW, "pause", "", one.id),
            SubscriberEvent(SOON, "return", "", one.id),
        ]
        ours = [SubscriberEvent(NOW, "import", "list.csv: 3 added")]
        store.events.add([*mine, *ours])
        store.events.add([])
        assert list(store.events.of(one.id)) == mine
        assert list(store.events.of(None)) == ours


class TestRuns:
    """Runs and their lease."""

    def test_only_one_sends(self, store: Store) -> None:
        """While one run sends another is refused in one line, until it ends."""
        run = store.runs.begin(NOW)
        with pytest.raises(LeaseError, match="another run is sending; wait until it has ended"):
            store.runs.begin(SOON)
        store.runs.end(run, NOW)
        assert store.runs.begin(NOW) > run

    def test_a_dead_run_is_taken_over_at_once(self, store: Store) -> None:
        """The turn of a process that died is free, also for a clock that was set back."""
        run = begin(store)
        other = begin(store, NOW - timedelta(days=1))
        store.runs.end(run, SOON)
        assert claim(store, other, 1, NOW) == ()

    def test_of_many_at_once_one_wins(self, store: Store) -> None:
        """Of runs that begin at the same moment exactly one gets the lease."""
        won: list[int] = []
        lost: list[LeaseError] = []

        def try_it() -> None:
            try:
                won.append(store.runs.begin(NOW))
            except LeaseError as error:
                lost.append(error)

        threads = [threading.Thread(target=try_it) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 5)


class TestGroups:
    """Groups."""

    def test_are_the_active_by_what_they_are_owed(self, store: Store) -> None:
        """Groups are told with their sizes, in a fixed order; who is not active is in none."""
        products = frozenset({"Products"})
        added(
            store,
            subscriber("a"),
            subscriber("b"),
            subscriber("c", topics=products),
            subscriber("d", language="de"),
            subscriber("e", cursor=Cursor(NOVEMBER, 4)),
            subscriber("f", frequency="day"),
            *(
                subscriber(state, state)
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

    def test_bookmarks_of_a_group_rise_together(self, store: Store) -> None:
        """The bookmarks of a whole group rise in one step, of no other one, and never fall."""
        added(store, subscriber("a"), subscriber("b"), subscriber("c", language="de"))
        (members, _) = (Segment(group) for group, _ in store.segments.groups())
        assert store.segments.raise_cursors(members, Cursor(DECEMBER, 3)) == 2
        assert [one.cursor for one in store.subscribers.every()] == [
            Cursor(DECEMBER, 3),
            Cursor(DECEMBER, 3),
            Cursor(NOVEMBER),
        ]
        raised = Segment(evolve(members.group, cursor=Cursor(DECEMBER, 3)))
        assert store.segments.raise_cursors(raised, Cursor(NOVEMBER, 4)) == 2
        assert found(store, "a").cursor == Cursor(DECEMBER, 4)

    def test_a_returned_post_divides_a_group(self, store: Store) -> None:
        """Owed a returned post is who started in time and has no delivered letter that holds it."""
        some(store, 5)
        late = subscriber("late", start=date(2026, 11, 20), cursor=Cursor(DECEMBER))
        added(store, late)
        run = begin(store)
        planned(
            store,
            run,
            "x",
            "returned",
            members=Segment(Group("month", Cursor(NOVEMBER), frozenset(), "")),
        )
        claimed = claim(store, run, 5, NOW)
        ends: Sequence[DeliveryState] = ("sent", "uncertain", "bounced", "deferred", "cancelled")
        outcomes = [DeliveryOutcome(one.id, end) for one, end in zip(claimed, ends, strict=True)]
        store.deliveries.record(run, outcomes, NOW)
        for group, _ in list(store.segments.groups()):
            store.segments.raise_cursors(Segment(group), evolve(DUE, seq=1))
        again = LogEntry(9, DECEMBER, "returned", date(2026, 11, 10))
        owed = evolve(only_group(store), due=(again,))
        settled = evolve(only_group(store), delivered=(again,))
        assert [address[:7] for address in members_of(store, owed)] == [
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
        assert store.segments.split_by_returned(owed.group, [again], newer) == (
            (owed, 3),
            (settled, 3),
        )

    def test_bookmarks_wait_for_what_is_on_its_way_or_bounced(self, store: Store) -> None:
        """Nothing newer reaches those whose letter has not come back, or has for good."""
        some(store, 4)
        run = begin(store)
        planned(store, run, "a")
        claimed = claim(store, run, 3, NOW)
        ends: Sequence[DeliveryState] = ("bounced", "deferred")
        outcomes = [DeliveryOutcome(one.id, end) for one, end in zip(claimed, ends, strict=False)]
        store.deliveries.record(run, outcomes, NOW)
        members, newer = only_group(store), evolve(DUE, seq=1)
        assert store.segments.split_by_returned(members.group, (), DUE) == ((members, 2),)
        assert store.segments.split_by_returned(members.group, (), newer) == ((members, 3),)
        assert store.segments.raise_cursors(members, DUE) == 2
        assert store.segments.raise_cursors(members, newer) == 1
        assert [one.cursor for one in store.subscribers.every()] == [
            newer,
            DUE,
            Cursor(NOVEMBER),
            DUE,
        ]

    def test_tell_which_frequencies_are_in_use(self, store: Store) -> None:
        """By those who receive, or will again; not by who has left."""
        added(store, subscriber("a"), subscriber("b", "paused", frequency="day"))
        added(store, subscriber("c", "unsubscribed", frequency="week"))
        frequencies: Sequence[Frequency] = ("post", "day", "week", "month")
        assert [each for each in frequencies if store.segments.is_used(each)] == ["day", "month"]

    def test_planning_reads_an_index_in_order(self, tmp_path: Path) -> None:
        """SQLite groups a million subscribers by walking one index, without sorting them."""
        store = open_store(None, tmp_path)
        columns = "frequency, cursor_date, cursor_seq, topics, language"
        asked = f"SELECT {columns}, count(*) FROM subscribers WHERE state = 'active'"  # noqa: S608
        plan = f"EXPLAIN QUERY PLAN {asked} GROUP BY {columns} ORDER BY {columns}"
        with store.database.reading() as connection:
            steps = [row.detail for row in connection.exec_driver_sql(plan)]
        assert steps == ["SEARCH subscribers USING COVERING INDEX subscribers_groups (state=?)"]
        store.database.close()


class TestLetters:
    """Letters."""

    def test_are_frozen_once(self, store: Store) -> None:
        """The same posts, frequency, boundary and language are one letter, as first frozen."""
        letter = IssueSnapshot("week", DECEMBER, "en", ("b", "a"), NOW, b"\x00first")
        number = store.issues.freeze(letter)
        assert store.issues.freeze(evolve(letter, content=b"second", date=SOON)) == number
        assert store.issues.find(number) == evolve(letter, id=number)
        others = (
            evolve(letter, posts=("a", "b")),
            evolve(letter, posts=()),
            evolve(letter, language="de"),
            evolve(letter, cutoff=JANUARY),
            evolve(letter, frequency="month"),
        )
        assert len({number, *map(store.issues.freeze, others)}) == 6
        assert store.issues.find(99) is None


class TestPlan:
    """Planning deliveries."""

    def test_gives_each_member_one_row(self, store: Store) -> None:
        """A plan makes a row for every member of the group, and a second one none more."""
        some(store, 3)
        run = begin(store)
        assert planned(store, run, "a") == 3
        assert planned(store, run, "a", "b") == 3
        assert rows(store) == [(f"reader{n}", 0, "planned", 0) for n in range(3)]
        (first, *_) = claim(store, run, 1, NOW)
        letter = store.issues.find(first.issue)
        assert letter
        assert letter.posts == ("a", "b")

    def test_keeps_the_waiting_time_of_a_deferred_letter(self, store: Store) -> None:
        """A deferred letter keeps attempts and time while its boundary is the newest."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "deferred", "451", SOON)], NOW)
        planned(store, run, "a")
        assert rows(store) == [("reader0", 0, "deferred", 1)]
        assert store.deliveries.retry_deferred(run, NOW) == 0
        assert store.deliveries.retry_deferred(run, SOON) == 1
        assert claim(store, run, 1, SOON)[0].attempts == 2

    def test_takes_up_a_deferred_letter_whose_time_has_come(self, store: Store) -> None:
        """A later plan at the same boundary tries again what has waited long enough."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "deferred", "451", SOON)], NOW)
        planned(store, run, "a", now=SOON)
        assert rows(store) == [("reader0", 0, "planned", 1)]

    def test_replaces_a_deferred_letter_at_a_newer_boundary(self, store: Store) -> None:
        """At the next boundary the old content is dead: same number, new letter, no wait."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "deferred", "451", SOON)], NOW)
        planned(store, run, "a", "b", to=Cursor(JANUARY))
        assert rows(store) == [("reader0", 0, "planned", 0)]

    def test_leaves_a_bounced_letter_until_a_newer_boundary(self, store: Store) -> None:
        """A bounced letter is planned again only when its boundary is no longer the newest."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "bounced", "550")], NOW)
        assert planned(store, run, "a", "b") == 0
        assert rows(store) == [("reader0", 0, "bounced", 1)]
        assert planned(store, run, "a", "b", to=Cursor(DECEMBER, 7)) == 1
        assert rows(store) == [("reader0", 0, "planned", 0)]

    def test_never_touches_what_is_being_sent(self, store: Store) -> None:
        """A letter that is on its way is not replaced under the sender's hands."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "a")
        claim(store, run, 1, NOW)
        assert planned(store, run, "a", "b", to=Cursor(JANUARY)) == 0
        assert rows(store) == [("reader0", 0, "sending", 1)]

    def test_cancels_what_it_did_not_take_up(self, store: Store) -> None:
        """Open rows of an earlier plan that the new one does not confirm are cancelled."""
        first, second = some(store, 2)
        run = begin(store)
        planned(store, run, "a")
        store.runs.end(run, NOW)
        store.subscribers.set_preferences(first.id, "day", frozenset(), "")
        run = begin(store)
        monthly = Segment(Group("month", Cursor(NOVEMBER)))
        planned(store, run, "a", members=monthly)
        assert store.deliveries.cancel_stale(run, NOW) == 1
        assert rows(store) == [("reader0", 0, "cancelled", 0), ("reader1", 0, "planned", 0)]
        store.subscribers.set_preferences(first.id, "month", frozenset(), "")
        assert planned(store, run, "a") == 2
        assert second.issues == 0

    @pytest.mark.parametrize("state", ["planned", "deferred"])
    def test_ends_with_its_readers_absence(self, store: Store, state: DeliveryState) -> None:
        """Who pauses or leaves has no open letter; a plan after it begins without a wait."""
        one, two, _ = some(store, 3)
        run = begin(store)
        planned(store, run, "a")
        for claimed in claim(store, run, 3, NOW):
            store.deliveries.record(run, [DeliveryOutcome(claimed.id, state, "", SOON)], NOW)
        store.subscribers.pause(one.id)
        store.subscribers.stop(["reader1@example.com"], "unsubscribed")
        assert [row[2] for row in rows(store)] == ["cancelled", "cancelled", state]
        store.subscribers.resume(one.id)
        store.subscribers.confirm(two.id, Cursor(NOVEMBER))
        for group, _ in list(store.segments.groups()):
            planned(store, run, "a", members=Segment(group))
        assert rows(store) == [
            ("reader0", 0, "planned", 0),
            ("reader1", 0, "planned", 0),
            ("reader2", 0, state, 1),
        ]


class TestWelcome:
    """Welcome letters, which are planned at a confirmation and not by a run."""

    def test_waits_for_the_next_run(self, store: Store) -> None:
        """A run takes it up, and what became of it moves no bookmark."""
        (one,) = some(store, 1)
        store.runs.end(begin(store), NOW)
        letter = greeted(store, one)
        run = begin(store)
        assert claim(store, run, 9, NOW) == ()
        assert [each.id for each in store.issues.waiting("welcome")] == [letter]
        assert store.deliveries.adopt(run, letter) == 1
        assert store.deliveries.cancel_stale(run, NOW) == 0
        (claimed,) = claim(store, run, 9, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "sent")], NOW)
        assert found(store, "reader0") == evolve(one, issues=1)
        assert list(store.issues.waiting("welcome")) == []

    def test_is_sent_by_the_run_that_is_under_way(self, store: Store) -> None:
        """A reader who confirms while letters go out need not wait for the next time."""
        (one,) = some(store, 1)
        run = begin(store)
        greeted(store, one)
        assert len(claim(store, run, 9, NOW)) == 1

    def test_gives_way_to_what_is_owed(self, store: Store) -> None:
        """There is one open letter: what a run plans takes the place of the welcome."""
        (one,) = some(store, 1)
        greeted_by = begin(store)
        letter = greeted(store, one)
        store.runs.end(greeted_by, NOW)
        run = begin(store)
        planned(store, run, "a")
        assert store.deliveries.adopt(run, letter) == 0
        assert rows(store) == [("reader0", 0, "planned", 0)]

    def test_is_for_a_reader_without_a_letter(self, store: Store) -> None:
        """Who has an open letter, or is not active, is not greeted."""
        one, gone = added(store, subscriber("reader0"), subscriber("b", "unsubscribed"))
        run = begin(store)
        planned(store, run, "a")
        number = store.issues.freeze(WELCOME)
        assert not store.deliveries.plan_welcome(one.id, number, NOW)
        assert not store.deliveries.plan_welcome(gone.id, number, NOW)


WELCOME = IssueSnapshot("welcome", date.min, "en", ("old",), NOW)


def greeted(store: Store, one: Subscriber) -> int:
    """Plan a welcome letter for a subscriber, and return the letter's id."""
    number = store.issues.freeze(WELCOME)
    assert store.deliveries.plan_welcome(one.id, number, NOW)
    return number


class TestLedger:
    """Claims and outcomes."""

    def test_a_sent_letter_closes_in_one_step(self, store: Store) -> None:
        """What is sent raises its reader's bookmark and count; what is not moves nothing."""
        some(store, 4)
        run = begin(store)
        planned(store, run, "a", to=Cursor(DECEMBER, 7))
        claimed = claim(store, run, 4, NOW)
        ends: Sequence[DeliveryState] = ("sent", "deferred", "bounced", "uncertain")
        outcomes = [DeliveryOutcome(one.id, end) for one, end in zip(claimed, ends, strict=True)]
        assert store.deliveries.record(run, outcomes, NOW) == 4
        moved = [(one.cursor, one.issues) for one in store.subscribers.every()]
        closed, open_ = (Cursor(DECEMBER, 7), 1), (Cursor(NOVEMBER), 0)
        assert moved == [closed, open_, open_, closed]
        assert store.deliveries.count_by_state() == dict.fromkeys(ends, 1)
        assert [one.address for one in store.deliveries.uncertain()] == ["reader3@example.com"]

    def test_claims_come_in_order_and_once(self, store: Store) -> None:
        """Each planned row is claimed once, in the order of the plan."""
        some(store, 5)
        run = begin(store)
        planned(store, run, "a")
        first = claim(store, run, 2, NOW)
        rest = claim(store, run, 9, NOW)
        names = [one.address[:7] for one in (*first, *rest)]
        assert names == [f"reader{n}" for n in range(5)]
        assert claim(store, run, 9, NOW) == ()
        assert [one.attempts for one in first] == [1, 1]
        assert first[0].token == "token-of-reader0"

    def test_workers_of_one_run_share_the_rows(self, store: Store) -> None:
        """Workers that claim at the same time never get the same row."""
        some(store, 60)
        run = begin(store)
        planned(store, run, "a")
        got: list[int] = []

        def work() -> None:
            while claimed := claim(store, run, 3, NOW):
                got.extend(one.id for one in claimed)
                outcomes = [DeliveryOutcome(one.id, "sent") for one in claimed]
                store.deliveries.record(run, outcomes, NOW)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == sorted(set(got))
        assert store.deliveries.count_by_state() == {"sent": 60}

    def test_one_turn_records_and_claims(self, store: Store) -> None:
        """Outcomes and the next claim share one transaction, until nothing is left."""
        some(store, 3)
        run = begin(store)
        planned(store, run, "a")
        claimed = store.deliveries.record_and_claim(run, [], 1, NOW, hashed)
        turns = 0
        while claimed:
            turns += 1
            claimed = store.deliveries.record_and_claim(
                run, [DeliveryOutcome(claimed[0].id, "sent")], 1, NOW, hashed
            )
        assert (turns, store.deliveries.count_by_state()) == (3, {"sent": 3})

    def test_who_left_meanwhile_gets_nothing(self, store: Store) -> None:
        """Rows of readers who left between plan and claim are cancelled, and passed over."""
        some(store, 4)
        run = begin(store)
        planned(store, run, "a")
        store.subscribers.stop([f"reader{n}@example.com" for n in (0, 1, 3)], "unsubscribed")
        claimed = claim(store, run, 1, NOW)
        assert [one.address for one in claimed] == ["reader2@example.com"]
        assert claim(store, run, 1, NOW) == ()
        assert store.deliveries.count_by_state() == {"cancelled": 3, "sending": 1}

    def test_a_stopped_claim_can_be_given_back(self, store: Store) -> None:
        """A letter that was claimed and not begun goes back to planned, and moves nothing."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        store.deliveries.record(run, [DeliveryOutcome(claimed.id, "planned")], NOW)
        assert claim(store, run, 1, NOW)[0].id == claimed.id

    def test_a_dead_run_leaves_uncertain_letters(self, store: Store) -> None:
        """What a dead run had in sending is swept: uncertain, and counted as delivered."""
        some(store, 3)
        run = begin(store)
        planned(store, run, "a")
        claimed = claim(store, run, 2, NOW)
        other = begin(store, SOON)
        assert store.deliveries.sweep(other, SOON) == tuple(one.id for one in claimed)
        assert store.deliveries.sweep(other, SOON) == ()
        assert store.deliveries.count_by_state() == {"uncertain": 2, "planned": 1}
        assert [one.issues for one in store.subscribers.every()] == [1, 1, 0]
        waiting, _ = (Segment(group) for group, _ in store.segments.groups())
        assert planned(store, other, "a", "b", members=waiting) == 1

    def test_only_the_holder_of_the_lease_claims(self, store: Store) -> None:
        """A run that slept past its lease claims, sweeps and turns no more."""
        some(store, 2)
        run = begin(store)
        planned(store, run, "a")
        begin(store, SOON)
        for refused in (
            lambda: claim(store, run, 1, SOON),
            lambda: store.deliveries.record_and_claim_uncertain(run, [], 1, SOON, hashed, after=0),
            lambda: store.deliveries.record_and_claim(run, [], 1, SOON, hashed),
            lambda: store.deliveries.sweep(run, SOON),
        ):
            with pytest.raises(LeaseError):
                refused()
        assert store.deliveries.count_by_state() == {"planned": 2}

    def test_a_late_answer_turns_uncertain_into_sent(self, store: Store) -> None:
        """A run that lost its lease may still say that a letter was sent, and nothing else."""
        some(store, 2)
        run = begin(store)
        planned(store, run, "a")
        one, two = claim(store, run, 2, NOW)
        other = begin(store, SOON)
        store.deliveries.sweep(other, SOON)
        outcomes = [
            DeliveryOutcome(one.id, "sent", "250"),
            DeliveryOutcome(two.id, "deferred", "451", SOON),
        ]
        assert store.deliveries.record(run, outcomes, SOON) == 2
        assert store.deliveries.count_by_state() == {"sent": 1, "uncertain": 1}
        assert [each.issues for each in store.subscribers.every()] == [1, 1]
        assert store.deliveries.record(other, [DeliveryOutcome(two.id, "sent")], SOON) == 0

    def test_a_turn_without_the_lease_still_records(self, store: Store) -> None:
        """What a run knows is kept also where it learns that it is no longer the one that sends."""
        some(store, 2)
        run = begin(store)
        planned(store, run, "a")
        (one,) = claim(store, run, 1, NOW)
        begin(store, SOON)
        with pytest.raises(LeaseError):
            store.deliveries.record_and_claim(
                run, [DeliveryOutcome(one.id, "sent", "250")], 1, SOON, hashed
            )
        assert store.deliveries.count_by_state() == {"sent": 1, "planned": 1}
        assert found(store, "reader0").issues == 1

    def test_uncertain_letters_are_sent_again_on_request(self, store: Store) -> None:
        """The same row is sent again, and whatever comes of it, it is counted once."""
        some(store, 3)
        run = begin(store)
        planned(store, run, "a")
        claim(store, run, 3, NOW)
        run = begin(store, SOON)
        store.deliveries.sweep(run, SOON)
        one, two, _ = store.deliveries.record_and_claim_uncertain(run, [], 3, SOON, hashed, after=0)
        assert (one.number, one.attempts) == (0, 2)
        store.deliveries.record(
            run, [DeliveryOutcome(one.id, "sent"), DeliveryOutcome(two.id, "bounced")], SOON
        )
        run = begin(store, SOON + timedelta(minutes=5))
        store.deliveries.sweep(run, SOON)
        assert store.deliveries.count_by_state() == {"sent": 1, "uncertain": 2}
        assert [each.issues for each in store.subscribers.every()] == [1, 1, 1]

    def test_uncertain_letters_of_who_left_are_not_sent_again(self, store: Store) -> None:
        """Who left is not written to again; the row stays uncertain."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "a")
        claim(store, run, 1, NOW)
        run = begin(store, SOON)
        store.deliveries.sweep(run, SOON)
        store.subscribers.stop(["reader0@example.com"], "unsubscribed")
        assert store.deliveries.record_and_claim_uncertain(run, [], 1, SOON, hashed, after=0) == ()
        assert store.deliveries.count_by_state() == {"uncertain": 1}

    def test_whatever_a_server_says_can_be_kept(self, store: Store) -> None:
        """A reply of any characters and any length does not keep its outcome from being kept."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        said = "550 no \udcff\0 " + "x" * 100_000
        assert (
            store.deliveries.record(run, [DeliveryOutcome(claimed.id, "bounced", said)], NOW) == 1
        )
        with store.database.reading() as connection:
            kept = connection.execute(sa.select(deliveries.c.reply)).scalar_one()
        assert kept == "550 no ?\ufffd " + "x" * 990

    def test_an_outcome_counts_once(self, store: Store) -> None:
        """The same outcome told twice moves nothing the second time, nor does none at all."""
        some(store, 1)
        run = begin(store)
        planned(store, run, "a")
        (claimed,) = claim(store, run, 1, NOW)
        told = [
            store.deliveries.record(run, [DeliveryOutcome(claimed.id, "sent")], NOW)
            for _ in range(2)
        ]
        assert told == [1, 0]
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
def test_no_letter_closes_twice(store: Store, steps: list[str]) -> None:
    """Whatever happens in whatever order, each count of a reader stands for one closed letter."""
    with store.database.writing() as connection:
        for table in reversed(metadata.sorted_tables):
            if table.name != "postroom_version":
                connection.execute(sa.delete(table))
    some(store, 2)
    clock = NOW
    run, boundary = begin(store), NOVEMBER
    held: list[tuple[int, int]] = []
    for step in steps:
        if step == "plan":
            boundary += timedelta(days=1)
            for group, _ in list(store.segments.groups()):
                planned(store, run, "a", to=Cursor(boundary), members=Segment(group), now=clock)
        elif step == "claim":
            held += [(one.id, run) for one in claim(store, run, 1, clock)]
        elif step == "crash":
            clock += timedelta(minutes=5)
            run = begin(store, clock)
            store.deliveries.sweep(run, clock)
        elif held:
            states = {"give-back": "planned", "slow-answer": "sent"}
            number, whose = held.pop(0)
            outcome = DeliveryOutcome(number, states.get(step, step), "", clock)  # type: ignore[arg-type]
            store.deliveries.record(whose, [outcome], clock)
        _assert_sound(store)


def _assert_sound(store: Store) -> None:
    closed: dict[str, list[int]] = {}
    for name, number, state, _ in rows(store):
        if state in {"sent", "uncertain"}:
            closed.setdefault(name, []).append(number)
    for one in store.subscribers.every():
        name = one.address.partition("@")[0]
        assert sorted(closed.get(name, [])) == list(range(one.issues))


# Every public method of the store, called as it may be called.
_LETTER = IssueSnapshot("month", DECEMBER, "en", ("a",), NOW)
_MEMBERS = Segment(Group("month", Cursor(NOVEMBER), frozenset(), ""))
CALLS: dict[str, Callable[[Store], object]] = {
    "subscribers.known": lambda s: s.subscribers.known(["k"]),
    "subscribers.find": lambda s: s.subscribers.find("k"),
    "subscribers.with_token": lambda s: s.subscribers.with_token("t"),
    "subscribers.every": lambda s: list(s.subscribers.every()),
    "subscribers.count": lambda s: s.subscribers.count(),
    "subscribers.add": lambda s: s.subscribers.add([subscriber("a")], NOW),
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
    "issues.freeze": lambda s: s.issues.freeze(_LETTER),
    "issues.freeze_anew": lambda s: s.issues.freeze_anew(_LETTER),
    "issues.find_frozen": lambda s: s.issues.find_frozen(_LETTER),
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


def test_every_method_is_tried_against_a_locked_database(store: Store) -> None:
    """The list of calls names each public method of every noun."""
    nouns = [field.name for field in fields(Store) if field.name != "database"]
    methods = {
        f"{noun}.{name}"
        for noun in nouns
        for name, _ in inspect.getmembers(getattr(store, noun), inspect.ismethod)
        if not name.startswith("_")
    }
    assert methods == set(CALLS)


@contextmanager
def _locked(store: Store, url: str) -> Iterator[None]:
    """Lock all tables against everyone, as a backup or a repair does."""
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
    """Each method tells in one line that the database is locked, and no trace."""
    database = make_engine(database_url, tmp_path, timeout=0.02)
    require_tables(database)
    store = make_store(database)
    with _locked(store, database_url):
        for name, call in CALLS.items():
            with pytest.raises(DatabaseError) as caught:
                call(store)
            (problem,) = caught.value.problems
            assert str(problem).startswith("POSTROOM_DATABASE_URL: is locked; another"), name
    database.close()
