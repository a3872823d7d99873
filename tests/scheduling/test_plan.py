"""The plan of a run, made without writing to the store."""

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
    """Open the store of an empty database of each kind, and close it."""
    opened = open_store(database_url, tmp_path)
    yield opened
    opened.database.close()


def news(*ids: str, day: date = date(2026, 11, 20), **parts: Any) -> dict[str, VisiblePost]:
    """Return posts with these ids, later ids newer, without topics and in English."""
    plain = VisiblePost("", day, NOW, frozenset(), "en")
    younger = enumerate(ids)
    return {
        name: evolve(plain, id=name, published=NOW + timedelta(hours=n), **parts)
        for n, name in younger
    }


def add(
    store: Store, *names: str, frequency: Frequency = "month", topics: str = "", language: str = ""
) -> None:
    """Add active subscribers who are due the posts of November."""
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


def planning_store(store: Store) -> PlanningStore:
    """Return the parts of a store that planning reads."""
    return PlanningStore(store.post_log, store.segments)


def read_input(
    store: Store,
    posts: dict[str, VisiblePost],
    now: datetime = NOW,
    site: Site = SITE,
    *,
    accept_missing: bool = False,
) -> PlanInput:
    """Return the input of the plan of a run at `now`."""
    tables = planning_store(store)
    run = begin_run(tables, site, now)
    return make_plan_input(tables, site, run, posts, accept_missing=accept_missing)


def dry_run(
    store: Store, posts: dict[str, VisiblePost], now: datetime = NOW
) -> list[PlannedSegment]:
    """Return the segments of a dry run at `now`."""
    return list(plan_segments(planning_store(store), read_input(store, posts, now)))


def plan_run(
    store: Store, posts: dict[str, VisiblePost], now: datetime = NOW, *, accept: bool = False
) -> int:
    """Do a run that stops after planning; return its number."""
    store.database.release_lock()
    run = store.runs.begin(now)
    plan_input = read_input(store, posts, now, accept_missing=accept)
    settle_log(store, run, plan_input)
    plan_issues(store, run, FixedContentSource(lambda _: posts, SITE), plan_input)
    return run


def send_all(store: Store, run: int, now: datetime = NOW) -> None:
    """Record all deliveries of a run as sent."""
    claims = store.deliveries.record_and_claim(run, [], 999, now, str)
    store.deliveries.record(run, [DeliveryOutcome(claim.id, "sent") for claim in claims], now)


def dump(store: Store) -> dict[str, Sequence[tuple[object, ...]]]:
    """Return every row of every table."""
    with store.database.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table))]
            for table in metadata.sorted_tables
        }


def issues(segments: list[PlannedSegment]) -> list[tuple[tuple[str, ...], int]]:
    """Return the posts of each issue and its number of subscribers."""
    return [(segment.issue.posts, segment.count) for segment in segments if segment.issue]


def reasons(segments: list[PlannedSegment]) -> list[tuple[str, int]]:
    """Return each reason for which there is no issue, and its number of subscribers."""
    return [(segment.reason or "", segment.count) for segment in segments if not segment.issue]


def test_a_dry_run_writes_nothing(store: Store) -> None:
    """A dry run writes no row, neither before the first run nor between runs."""
    add(store, "a", "b")
    add(store, "c", frequency="post")
    before = dump(store)
    assert dry_run(store, news("one", "two"))
    assert dump(store) == before
    send_all(store, plan_run(store, news("one", "two")))
    before = dump(store)
    assert dry_run(store, news("one", "three"), IN_DECEMBER)
    assert dump(store) == before


def test_a_dry_run_equals_the_run(store: Store) -> None:
    """A run plans the issues of the dry run for the same numbers of subscribers."""
    add(store, *"abcd")
    add(store, *"ef", frequency="week", topics="x y")
    add(store, *"gh", frequency="post", language="de")
    add(store, "i", frequency="day")
    posts = {**news("one", "two"), **news("drei", language="de", topics=frozenset("y"))}
    for now in (NOW, NOW + timedelta(days=1), IN_DECEMBER):
        expected = dry_run(store, posts, now)
        run = plan_run(store, posts, now)
        counted = store.deliveries.count_by_state().get("planned", 0)
        assert counted == sum(count for _, count in issues(expected))
        rest = {segment.reason for segment in dry_run(store, posts, now) if not segment.issue}
        assert rest <= {"not due", "nothing new"}
        send_all(store, run, now)
        store.runs.end(run, now)
    assert not issues(dry_run(store, posts, IN_DECEMBER))


def test_a_segment_has_posts_count_and_cursor(store: Store) -> None:
    """Each group has a segment, whose posts are sorted newest first."""
    add(store, *"abc")
    add(store, "d", topics="x")
    posts = {**news("one"), **news("two", day=date(2026, 11, 21), topics=frozenset("x"))}
    first, second = (each for each in dry_run(store, posts, IN_DECEMBER) if each.issue)
    assert issues([first, second]) == [(("two",), 1), (("two", "one"), 3)]
    assert second.segment == Segment(Group("month", Cursor(NOVEMBER)))
    assert second.cursor == Cursor(DECEMBER)
    assert second.issue
    assert (second.issue.frequency, second.issue.cutoff) == ("month", Cursor(DECEMBER))


def test_segments_without_an_issue_have_a_reason(store: Store) -> None:
    """Each segment without an issue has a reason and a number of subscribers."""
    posts = news("one", topics=frozenset("x"))
    add(store, *"ab")
    assert reasons(dry_run(store, posts)) == [("not due", 2)]
    add(store, *"cde", frequency="post", topics="y")
    add(store, *"fghi", frequency="post", language="de")
    assert sorted(reasons(dry_run(store, posts))) == [
        ("another language", 4),
        ("not due", 2),
        ("other topics", 3),
    ]
    assert set(reasons(dry_run(store, {}))) == {
        ("not due", 2),
        ("nothing new", 3),
        ("nothing new", 4),
    }


def test_a_returned_post_divides_a_group(store: Store) -> None:
    """Subscribers who received a returned post are apart from those who did not."""
    add(store, "early", frequency="post")
    run = plan_run(store, news("returns"))
    send_all(store, run)
    store.runs.end(run, NOW)
    later = NOW + timedelta(hours=1)
    store.runs.end(plan_run(store, {}, later), later)
    add(store, "late", frequency="post")
    cursor = next(iter(store.subscribers.every())).cursor
    store.segments.raise_cursors(Segment(Group("post", Cursor(NOVEMBER))), cursor)
    segments = dry_run(store, news("returns"), later)
    assert issues(segments) == [(("returns",), 1)]
    assert reasons(segments) == [("had already", 1)]
    assert issues(dry_run(store, news("returns", "new"), later)) == [
        (("new", "returns"), 1),
        (("new",), 1),
    ]


def test_many_returned_posts_make_few_segments(store: Store) -> None:
    """Twenty returned posts divide a group only where its subscribers differ."""
    add(store, *"abc", frequency="post")
    names = [f"post {number}" for number in range(20)]
    run = plan_run(store, news(*names))
    (first, *_) = store.deliveries.record_and_claim(run, [], 1, NOW, str)
    store.deliveries.record(run, [DeliveryOutcome(first.id, "sent")], NOW)
    store.runs.end(run, NOW)
    store.runs.end(plan_run(store, {}, accept=True), NOW)
    posts = {**news(*names), **news("new", day=date(2026, 11, 21))}
    assert issues(dry_run(store, posts)) == [
        (("new", *reversed(names)), 2),
        (("new",), 1),
    ]


def test_a_bounced_delivery_is_planned_again_for_a_newer_post(store: Store) -> None:
    """A subscriber whose email bounced is in the plan only if there is a newer post."""
    add(store, *"ab", frequency="post")
    run = plan_run(store, news("one"))
    bounced, sent = store.deliveries.record_and_claim(run, [], 2, NOW, str)
    outcomes = [DeliveryOutcome(bounced.id, "bounced"), DeliveryOutcome(sent.id, "sent")]
    store.deliveries.record(run, outcomes, NOW)
    store.runs.end(run, NOW)
    assert issues(dry_run(store, news("one"))) == []
    assert issues(dry_run(store, news("one", "two"))) == [(("two", "one"), 1), (("two",), 1)]


@pytest.mark.parametrize(("offer", "retracted"), [(("day",), 0), (("day", "month"), 1)])
def test_an_offered_frequency_keeps_its_posts_open(
    store: Store, offer: tuple[Frequency, ...], retracted: int
) -> None:
    """A vanished post is retracted if an offered frequency has its cutoff ahead."""
    site = evolve(SITE, digest=DigestSettings(every="day", offer=offer))
    store.runs.end(plan_run(store, news("one")), NOW)
    assert len(read_input(store, {}, site=site).update.retracted) == retracted


def test_a_used_frequency_keeps_its_posts_open(store: Store) -> None:
    """A frequency of a subscriber counts even if it is not offered any more."""
    site = evolve(SITE, digest=DigestSettings(every="day", offer=("day",)))
    add(store, "a", frequency="month")
    store.runs.end(plan_run(store, news("one")), NOW)
    assert len(read_input(store, {}, site=site).update.retracted) == 1


def test_a_suspicious_run_stops_before_it_writes(store: Store) -> None:
    """Vanished posts or a clock far ahead stop a run unless it is told to accept them."""
    add(store, "a")
    names = ["one", "two", "three"]
    store.runs.end(plan_run(store, news(*names)), NOW)
    before = dump(store)
    with pytest.raises(StoppedError, match="3 of the 3 posts of the coming issues have vanished"):
        read_input(store, {})
    assert len(read_input(store, {}, accept_missing=True).update.retracted) == 3
    far = NOW + timedelta(days=50)
    with pytest.raises(StoppedError, match="the last run was on 2026-11-22"):
        begin_run(planning_store(store), SITE, far)
    assert begin_run(planning_store(store), SITE, far, yes=True).state.clock == far
    assert dump(store) == before


def test_a_welcome_issue_is_valid_while_its_posts_are_visible() -> None:
    """A welcome issue with a post that is not visible is invalid."""
    waiting = [
        IssueSnapshot("welcome", date.min, "en", posts, NOW, id=number)
        for number, posts in enumerate([("a",), ("a", "b"), ("b",)])
    ]
    assert list(valid_welcome_issues(waiting, news("a"))) == [0]
    assert list(valid_welcome_issues(waiting, news("a", "b"))) == [0, 1, 2]
