"""What a run would do, told without doing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from attrs import evolve

from postroom.db.schema import metadata
from postroom.db.store import Store, open_store
from postroom.errors import StoppedError
from postroom.models import (
    Cursor,
    DeliveryOutcome,
    DigestSettings,
    Frequency,
    Group,
    IssueSnapshot,
    Segment,
    Site,
    Subscriber,
)
from postroom.scheduling.plan import (
    PlanInput,
    PlannedSegment,
    PlanningStore,
    begin_run,
    make_plan_input,
    plan_segments,
    valid_welcome_issues,
)
from postroom.scheduling.rules import VisiblePost
from postroom.send.run import plan_issues, settle_log
from tests.support.content import FixedContentSource

NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
IN_DECEMBER = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
SITE = Site(
    title="News",
    url="https://news.example.com/",
    id="tag:news.example.com,2026:",
    language="en",
    timezone=ZoneInfo("Europe/Berlin"),
)


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    """Open the store of an empty database, once of each kind, and close it."""
    opened = open_store(database_url, tmp_path)
    yield opened
    opened.database.close()


def news(*ids: str, day: date = date(2026, 11, 20), **parts: Any) -> dict[str, VisiblePost]:
    """Return posts with these ids, the later ones younger, with no topic and in English."""
    plain = VisiblePost("", day, NOW, frozenset(), "en")
    younger = enumerate(ids)
    return {
        name: evolve(plain, id=name, published=NOW + timedelta(hours=n), **parts)
        for n, name in younger
    }


def add(
    store: Store, *names: str, frequency: Frequency = "month", topics: str = "", language: str = ""
) -> None:
    """Add active subscribers who are owed what came in November."""
    store.subscribers.add(
        [
            Subscriber(
                id=0,
                address=f"{name}@example.com",
                state="active",
                frequency=frequency,
                topics=frozenset(topics.split()),
                language=language,
                cursor=Cursor(NOVEMBER),
                start=NOVEMBER,
                token=name,
            )
            for name in names
        ],
        NOW,
    )


def book_of(store: Store) -> PlanningStore:
    """Return what planning reads of a store."""
    return PlanningStore(store.post_log, store.segments)


def look(
    store: Store,
    posts: dict[str, VisiblePost],
    now: datetime = NOW,
    site: Site = SITE,
    *,
    accept_missing: bool = False,
) -> PlanInput:
    """Return what a run at `now` would go by."""
    book = book_of(store)
    run = begin_run(book, site, now)
    return make_plan_input(book, site, run, posts, accept_missing=accept_missing)


def told(store: Store, posts: dict[str, VisiblePost], now: datetime = NOW) -> list[PlannedSegment]:
    """Return what a dry run at `now` tells."""
    return list(plan_segments(book_of(store), look(store, posts, now)))


def do(
    store: Store, posts: dict[str, VisiblePost], now: datetime = NOW, *, accept: bool = False
) -> int:
    """Do a run, up to the letters, and die; return its number."""
    store.database.release_lock()
    run = store.runs.begin(now)
    outlook = look(store, posts, now, accept_missing=accept)
    settle_log(store, run, outlook)
    plan_issues(store, run, FixedContentSource(lambda _: posts, SITE), outlook)
    return run


def send_all(store: Store, run: int, now: datetime = NOW) -> None:
    """Send all letters of a run."""
    claims = store.deliveries.record_and_claim(run, [], 999, now, str)
    store.deliveries.record(run, [DeliveryOutcome(one.id, "sent") for one in claims], now)


def dump(store: Store) -> dict[str, Sequence[tuple[object, ...]]]:
    """Return every row of every table."""
    with store.database.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
        }


def letters(told: list[PlannedSegment]) -> list[tuple[tuple[str, ...], int]]:
    """Return the posts of each letter, and to how many it goes."""
    return [(one.issue.posts, one.count) for one in told if one.issue]


def reasons(told: list[PlannedSegment]) -> list[tuple[str, int]]:
    """Return why there is no letter, and for how many."""
    return [(one.reason or "", one.count) for one in told if not one.issue]


def test_a_dry_run_writes_nothing(store: Store) -> None:
    """Not before the first run, not in the middle of things, not even what has arrived."""
    add(store, "a", "b")
    add(store, "c", frequency="post")
    before = dump(store)
    assert told(store, news("one", "two"))
    assert dump(store) == before
    send_all(store, do(store, news("one", "two")))
    before = dump(store)
    assert told(store, news("one", "three"), IN_DECEMBER)
    assert dump(store) == before


def test_a_dry_run_tells_what_the_run_then_does(store: Store) -> None:
    """The same letters for the same number of readers, and no others."""
    add(store, *"abcd")
    add(store, *"ef", frequency="week", topics="x y")
    add(store, *"gh", frequency="post", language="de")
    add(store, "i", frequency="day")
    posts = {**news("one", "two"), **news("drei", language="de", topics=frozenset("y"))}
    for now in (NOW, NOW + timedelta(days=1), IN_DECEMBER):
        expected = told(store, posts, now)
        run = do(store, posts, now)
        counted = store.deliveries.count_by_state().get("planned", 0)
        assert counted == sum(count for _, count in letters(expected))
        left = {one.reason for one in told(store, posts, now) if not one.issue}
        assert left <= {"not due", "nothing new"}
        send_all(store, run, now)
        store.runs.end(run, now)
    assert not letters(told(store, posts, IN_DECEMBER))


def test_a_letter_is_told_with_its_posts_its_readers_and_their_bookmark(store: Store) -> None:
    """One for each group, the newest post first."""
    add(store, *"abc")
    add(store, "d", topics="x")
    posts = {**news("one"), **news("two", day=date(2026, 11, 21), topics=frozenset("x"))}
    one, two = (each for each in told(store, posts, IN_DECEMBER) if each.issue)
    assert letters([one, two]) == [(("two",), 1), (("two", "one"), 3)]
    assert two.segment == Segment(Group("month", Cursor(NOVEMBER)))
    assert two.cursor == Cursor(DECEMBER)
    assert two.issue
    assert (two.issue.frequency, two.issue.cutoff) == ("month", Cursor(DECEMBER))


def test_who_is_sent_nothing_is_told_why(store: Store) -> None:
    """Each reason, with how many it concerns."""
    posts = news("one", topics=frozenset("x"))
    add(store, *"ab")
    assert reasons(told(store, posts)) == [("not due", 2)]
    add(store, *"cde", frequency="post", topics="y")
    add(store, *"fghi", frequency="post", language="de")
    assert sorted(reasons(told(store, posts))) == [
        ("another language", 4),
        ("not due", 2),
        ("other topics", 3),
    ]
    assert set(reasons(told(store, {}))) == {("not due", 2), ("nothing new", 3), ("nothing new", 4)}


def test_what_returned_divides_a_group(store: Store) -> None:
    """Who had it is told apart from who had not, and from who is owed something else besides."""
    add(store, "early", frequency="post")
    run = do(store, news("returns"))
    send_all(store, run)
    store.runs.end(run, NOW)
    later = NOW + timedelta(hours=1)
    store.runs.end(do(store, {}, later), later)
    add(store, "late", frequency="post")
    bookmark = next(iter(store.subscribers.every())).cursor
    store.segments.raise_cursors(Segment(Group("post", Cursor(NOVEMBER))), bookmark)
    back = told(store, news("returns"), later)
    assert letters(back) == [(("returns",), 1)]
    assert reasons(back) == [("had already", 1)]
    assert letters(told(store, news("returns", "new"), later)) == [
        (("new", "returns"), 1),
        (("new",), 1),
    ]


def test_many_that_returned_divide_a_group_no_further_than_its_readers_do(store: Store) -> None:
    """Twenty posts that come back together make no million groups."""
    add(store, *"abc", frequency="post")
    names = [f"post {number}" for number in range(20)]
    run = do(store, news(*names))
    (first, *_) = store.deliveries.record_and_claim(run, [], 1, NOW, str)
    store.deliveries.record(run, [DeliveryOutcome(first.id, "sent")], NOW)
    store.runs.end(run, NOW)
    store.runs.end(do(store, {}, accept=True), NOW)
    posts = {**news(*names), **news("new", day=date(2026, 11, 21))}
    assert letters(told(store, posts)) == [
        (("new", *reversed(names)), 2),
        (("new",), 1),
    ]


def test_whose_letter_bounced_is_counted_when_there_is_something_newer(store: Store) -> None:
    """Until then the plan leaves them alone."""
    add(store, *"ab", frequency="post")
    run = do(store, news("one"))
    bounced, sent = store.deliveries.record_and_claim(run, [], 2, NOW, str)
    outcomes = [DeliveryOutcome(bounced.id, "bounced"), DeliveryOutcome(sent.id, "sent")]
    store.deliveries.record(run, outcomes, NOW)
    store.runs.end(run, NOW)
    assert letters(told(store, news("one"))) == []
    assert letters(told(store, news("one", "two"))) == [(("two", "one"), 1), (("two",), 1)]


@pytest.mark.parametrize(("offer", "struck"), [(("day",), 0), (("day", "month"), 1)])
def test_a_frequency_that_is_offered_keeps_its_posts_pending(
    store: Store, offer: tuple[Frequency, ...], struck: int
) -> None:
    """What a monthly letter may still hold is struck when it vanishes."""
    site = evolve(SITE, digest=DigestSettings(every="day", offer=offer))
    store.runs.end(do(store, news("one")), NOW)
    assert len(look(store, {}, site=site).update.retracted) == struck


def test_a_frequency_that_is_in_use_keeps_its_posts_pending(store: Store) -> None:
    """Also if it is offered no more."""
    site = evolve(SITE, digest=DigestSettings(every="day", offer=("day",)))
    add(store, "a", frequency="month")
    store.runs.end(do(store, news("one")), NOW)
    assert len(look(store, {}, site=site).update.retracted) == 1


def test_a_run_in_doubt_stops_before_it_writes(store: Store) -> None:
    """Posts that vanished, and a clock that is far ahead, stop it until somebody says so."""
    add(store, "a")
    names = ["one", "two", "three"]
    store.runs.end(do(store, news(*names)), NOW)
    before = dump(store)
    with pytest.raises(StoppedError, match="3 of the 3 posts of the coming issues have vanished"):
        look(store, {})
    assert len(look(store, {}, accept_missing=True).update.retracted) == 3
    far = NOW + timedelta(days=50)
    with pytest.raises(StoppedError, match="the last run was on 2026-11-22"):
        begin_run(book_of(store), SITE, far)
    assert begin_run(book_of(store), SITE, far, yes=True).state.clock == far
    assert dump(store) == before


def test_a_welcome_letter_whose_posts_are_gone_is_not_welcome() -> None:
    """All of them must be visible still."""
    waiting = [
        IssueSnapshot("welcome", date.min, "en", posts, NOW, id=number)
        for number, posts in enumerate([("a",), ("a", "b"), ("b",)])
    ]
    assert list(valid_welcome_issues(waiting, news("a"))) == [0]
    assert list(valid_welcome_issues(waiting, news("a", "b"))) == [0, 1, 2]
