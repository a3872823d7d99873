"""Each rule of docs/delivery-rules.md, and the cases in which simpler rules failed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve

from postroom.errors import StoppedError, UseError
from postroom.models import (
    Cursor,
    DeliveryState,
    Frequency,
    Group,
    Html,
    Issue,
    LogEntry,
    Post,
    RunState,
    Subscriber,
)
from postroom.scheduling.rules import (
    LogUpdate,
    RunWindow,
    VisiblePost,
    advance_run,
    confirmation_cursor,
    cutoff_before,
    due_posts,
    entry_date,
    first_unreleased,
    is_delivered,
    issue_key,
    make_welcome_issue,
    message_key,
    raise_cursor,
    released_date,
    start_cursor,
    target_cursor,
    update_log,
    visible_posts,
)
from postroom.send.outcomes import retry_delay
from tests.reference.delivery import (
    TRANSITIONS,
    Delivery,
    closed,
    has_received,
    left_alone,
    moved,
    placed,
    replied,
    resend,
    sendable,
    set_start,
    swept,
)
from tests.reference.ledger import SEND_AT, MemoryLedger
from tests.reference.world import BERLIN, World, berlin

AT = berlin("2026-11-22 12:00")
TODAY = date(2026, 11, 22)
LAST = RunState(AT, TODAY, "Europe/Berlin", TODAY)
ISSUE = Issue("month", Cursor(date(2026, 11, 1)), ("a", "b"), "")
SUBSCRIBER = Subscriber(
    1, "1@example.com", "active", "month", frozenset(), "", Cursor(date(2026, 10, 1)), date.min
)


def day(text: str) -> date:
    """Return a date of 2026 written as `11-22`."""
    return date.fromisoformat(f"2026-{text}")


def news(
    *ids: str, on: date = TODAY, topics: str = "", language: str = "en"
) -> dict[str, VisiblePost]:
    """Return visible posts."""
    return {name: VisiblePost(name, on, AT, frozenset(topics.split()), language) for name in ids}


def log_entry(seq: int, on: str, post: str = "", *, retracted: bool = False) -> LogEntry:
    """Return the first log entry of a post."""
    return LogEntry(seq, day(on), post or f"p{seq}", day(on), retracted=retracted)


def delivery(state: DeliveryState, issue: Issue = ISSUE, number: int = 0) -> Delivery:
    """Return a delivery to `SUBSCRIBER`."""
    return Delivery(SUBSCRIBER.id, number, issue, state)


# Rule 1


def test_a_date_is_released_at_send_at() -> None:
    """A second before 09:00 the newest released date is yesterday."""
    assert released_date(berlin("2026-11-22 08:59:59"), BERLIN, SEND_AT) == day("11-21")
    assert released_date(berlin("2026-11-22 09:00:00"), BERLIN, SEND_AT) == day("11-22")


@pytest.mark.parametrize(
    ("zone", "send_at", "before", "after"),
    [
        # 02:30 does not exist on 2026-03-29 in Berlin: it becomes 03:30, 01:30 UTC.
        ("Europe/Berlin", "02:30", "2026-03-29T01:29:59", "2026-03-29T01:30:00"),
        # 02:30 occurs twice on 2026-10-25: the first counts, 00:30 UTC.
        ("Europe/Berlin", "02:30", "2026-10-25T00:29:59", "2026-10-25T00:30:00"),
        # Havana set clocks back from 01:00 to 00:00 on 2026-11-01: 00:15 counts once.
        ("America/Havana", "00:15", "2026-11-01T04:14:59", "2026-11-01T04:15:00"),
        # Apia skipped 2011-12-30.
        ("Pacific/Apia", "09:00", "2011-12-30T18:59:59", "2011-12-30T19:00:00"),
    ],
)
def test_a_skipped_or_repeated_send_at_counts_once(
    zone: str, send_at: str, before: str, after: str
) -> None:
    """A change of offset neither loses a day nor releases one twice."""
    instants = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (before, after))
    first, second = (
        released_date(at, ZoneInfo(zone), time.fromisoformat(send_at)) for at in instants
    )
    assert first < second


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Havana", "Pacific/Apia"])
@pytest.mark.parametrize("send_at", ["00:00", "00:15", "02:30", "09:00", "23:59"])
def test_released_never_falls_as_time_passes(zone: str, send_at: str) -> None:
    """The released date never falls in steps of a quarter of an hour."""
    start = datetime(2011, 12, 28, tzinfo=UTC)
    instants = (start + timedelta(minutes=15 * step) for step in range(96 * 6))
    dates = [released_date(at, ZoneInfo(zone), time.fromisoformat(send_at)) for at in instants]
    assert dates == sorted(dates)


def test_a_clock_set_back_changes_nothing() -> None:
    """A run with an earlier time keeps the clock and released date of the last run."""
    run = advance_run(LAST, AT - timedelta(days=3), BERLIN, SEND_AT)
    assert run.state == LAST


def test_a_later_send_at_does_not_lower_the_released_date() -> None:
    """`released` stays the same if `send_at` is changed to a later hour."""
    assert advance_run(LAST, AT, BERLIN, time(18)).state.released == TODAY


def test_the_clock_never_falls_in_a_repeated_hour() -> None:
    """Two instants of a repeated hour are compared in UTC, not by local time."""
    before = datetime(2026, 10, 25, 2, 50, tzinfo=BERLIN)
    after = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    last = advance_run(None, before, BERLIN, SEND_AT).state
    assert advance_run(last, after, BERLIN, SEND_AT).state.clock == after.astimezone(UTC)
    last = advance_run(None, after, BERLIN, SEND_AT).state
    assert advance_run(last, before, BERLIN, SEND_AT).state.clock == after.astimezone(UTC)


# Rule 2


def test_a_post_is_logged_once_from_the_last_released_date() -> None:
    """A backdated post is logged with the date that the previous run released."""
    later = advance_run(LAST, AT + timedelta(days=2), BERLIN, SEND_AT)
    seen = {**news("late", on=day("11-02")), **news("new", on=day("11-24"))}
    first = update_log(later, [], seen, ["month"])
    assert first.entries == (
        LogEntry(1, TODAY, "late", TODAY),
        LogEntry(2, day("11-24"), "new", day("11-24")),
    )
    edited = {**news("late", on=day("11-23")), **news("new", on=day("11-01"))}
    again = update_log(
        advance_run(later.state, AT, BERLIN, SEND_AT), first.log([]), edited, ["month"]
    )
    assert not again.entries
    assert not again.retracted


def test_the_first_run_logs_the_dates_of_posts() -> None:
    """The first run logs each post with its own date."""
    first = update_log(RunWindow(None, LAST), [], news("old", on=date(2019, 1, 1)), ["month"])
    assert [entry.day for entry in first.entries] == [date(2019, 1, 1)]


def test_withdrawn_posts_are_not_visible() -> None:
    """Published posts are visible unless withdrawn, by default in the language of the site."""
    post = Post(
        "a", "a", "A", "", "posts/a.md", AT, AT, TODAY, TODAY, Html(""), "", "", ("x",)
    )  # fmt: skip
    withdrawn = evolve(post, id="b", withdrawn=TODAY)
    assert visible_posts([post, withdrawn], "de", derived={"a"}) == {
        "a": VisiblePost("a", TODAY, AT, frozenset({"x"}), "de", "posts/a.md", written=False)
    }


# Rule 3


@pytest.mark.parametrize(
    ("frequency", "of", "expected"),
    [
        ("month", "11-30", "11-01"),
        ("month", "12-01", "12-01"),
        ("week", "11-22", "11-16"),
        ("week", "11-23", "11-23"),
        ("day", "11-22", "11-22"),
        ("post", "11-22", "11-22"),
    ],
)
def test_cutoffs_are_dates(frequency: Frequency, of: str, expected: str) -> None:
    """A cutoff is the 1st of a month, a Monday or any day."""
    assert cutoff_before(frequency, day(of)) == day(expected)


def test_an_issue_has_posts_before_its_cutoff() -> None:
    """A weekly issue of Monday has no post of that Monday; an issue of `post` has all."""
    log = [log_entry(1, "11-22"), log_entry(2, "11-23")]
    week = Group("week", Cursor(day("11-16")))
    every = Group("post", Cursor(day("11-16")))
    seen = news("p1", "p2")
    weekly = due_posts(week, target_cursor("week", day("11-24"), 2), log, seen)
    assert [entry.seq for entry in weekly.entries] == [1]
    assert weekly.cursor == Cursor(day("11-23"))
    each = due_posts(every, target_cursor("post", day("11-24"), 2), log, seen)
    assert [entry.seq for entry in each.entries] == [2, 1]
    assert each.cursor == Cursor(day("11-16"), 2)


# Rule 4


def test_neither_part_of_a_cursor_falls() -> None:
    """Raising a cursor to a lower date or number does not change that part."""
    mark = Cursor(day("11-16"), 7)
    assert raise_cursor(mark, Cursor(day("11-01"), 9)) == Cursor(day("11-16"), 9)
    assert raise_cursor(mark, target_cursor("month", TODAY, 9)) == mark
    assert raise_cursor(mark, target_cursor("post", TODAY, 3)) == mark
    assert is_delivered(log_entry(9, "11-15"), mark)
    assert is_delivered(log_entry(7, "11-20"), mark)
    assert not is_delivered(log_entry(8, "11-16"), mark)


# Rule 5


@pytest.mark.parametrize(
    ("frequency", "expected"),
    [
        ("month", Cursor(day("11-01"))),
        ("week", Cursor(day("11-16"))),
        ("day", Cursor(day("11-22"))),
        ("post", Cursor(day("11-22"), 4)),
    ],
)
def test_a_confirmation_starts_at_the_cutoff_before_it(
    frequency: Frequency, expected: Cursor
) -> None:
    """Posts before the cutoff are not due; `post` starts after the posts logged today."""
    assert confirmation_cursor(frequency, LAST, 4) == expected


def test_a_confirmation_does_not_lower_an_old_cursor() -> None:
    """A new confirmation lowers neither cursor nor start."""
    unsubscribed = evolve(
        SUBSCRIBER, state="unsubscribed", cursor=Cursor(day("11-20"), 3), start=day("11-18")
    )
    confirmed = set_start(unsubscribed, Cursor(day("11-01")))
    assert confirmed == evolve(unsubscribed, state="active")


def test_an_import_may_start_earlier_but_not_in_the_future() -> None:
    """A start in the future is refused, because posts before it would be lost."""
    assert start_cursor(day("10-01"), LAST) == Cursor(day("10-01"))
    with pytest.raises(UseError, match="is in the future"):
        start_cursor(day("11-23"), LAST)


# Rule 6


def test_an_issue_has_the_visible_matching_posts() -> None:
    """Topics, language and visibility select posts; the cursor moves even without any."""
    log = [log_entry(seq, "11-10") for seq in (1, 2, 3, 4)] + [
        log_entry(5, "11-10", retracted=True)
    ]
    seen = {
        **news("p1", topics="x y"),
        **news("p2", topics="z"),
        **news("p3", topics="x", language="de"),
        **news("p5", topics="x"),
    }
    group = Group("day", Cursor(day("11-01")), frozenset("x"), "en")
    part = due_posts(group, target_cursor("day", TODAY, 5), log, seen)
    assert part.issue == Issue("day", Cursor(TODAY), ("p1",), "en")
    nothing = due_posts(
        evolve(group, topics=frozenset("q")), target_cursor("day", TODAY, 5), log, seen
    )
    assert nothing.issue is None
    assert nothing.cursor == Cursor(TODAY)


@pytest.mark.parametrize(
    ("topic", "language", "post_topic", "post_language", "is_due"),
    [
        ("Products", "", "products", "en", True),
        ("C++", "", "c", "en", False),
        ("", "zh-hant", "", "zh-Hant", True),
        ("", "en", "", "en-US", True),
        ("", "en-US", "", "en", False),
        ("", "en", "", "enm", False),
    ],
    ids=["case", "another topic", "case of a tag", "region", "no region", "another tag"],
)
def test_topics_and_languages_match_in_other_spellings(
    topic: str, language: str, post_topic: str, post_language: str, *, is_due: bool
) -> None:
    """Topics match by slug, and a language matches its regions."""
    seen = news("p1", topics=post_topic, language=post_language)
    group = Group("day", Cursor(day("11-01")), frozenset(topic.split()), language)
    part = due_posts(group, target_cursor("day", TODAY, 1), [log_entry(1, "11-10")], seen)
    assert (part.issue is not None) is is_due


# Rule 7


def test_a_vanished_post_is_retracted_and_logged_again() -> None:
    """The second log entry has the day of the first one."""
    log = [log_entry(1, "11-03", "a"), log_entry(2, "10-30", "older")]
    gone = update_log(advance_run(LAST, AT, BERLIN, SEND_AT), log, {}, ["month"])
    assert gone.retracted == (1,)
    log = list(gone.log(log))
    assert log[0].retracted
    back = update_log(RunWindow(LAST, LAST), log, news("a", "older", on=day("11-03")), ["month"])
    assert back.entries == (LogEntry(3, TODAY, "a", day("11-03"), returned=True),)


def test_a_run_retracts_by_the_released_date_of_the_last_run() -> None:
    """A post of November that is missing from the run of 1 December is retracted."""
    december = advance_run(LAST, berlin("2026-12-01 09:01"), BERLIN, SEND_AT)
    gone = update_log(december, [log_entry(1, "11-03")], {}, ["month"])
    assert gone.retracted == (1,)


def test_a_week_that_began_last_month_is_still_open() -> None:
    """The week of 30 November is not released on 2 December, although the month is."""
    assert first_unreleased(["month", "week"], day("12-02")) == day("11-30")
    assert first_unreleased(["month", "week"], day("12-08")) == day("12-01")
    assert first_unreleased([], TODAY) == TODAY


def test_a_returned_post_is_due_to_those_who_lack_it() -> None:
    """Subscribers who received the post or confirmed after it do not receive it again."""
    back = LogEntry(9, TODAY, "a", day("11-03"), returned=True)
    assert not has_received(back, day("11-03"), {"b"})
    assert has_received(back, day("11-04"), {"b"})
    assert has_received(back, day("11-03"), {"a"})
    assert not has_received(log_entry(1, "11-03", "a"), day("11-04"), {"a"})
    part = due_posts(
        Group("post", Cursor(date.min)), target_cursor("post", TODAY, 9), [back], news("a")
    )
    assert part.returned == (back,)
    assert part.without({"a"}).issue is None
    assert part.without({"a"}).cursor == part.cursor


# Rule 8


def test_a_due_post_without_a_written_id_stops_the_run() -> None:
    """A post in the archive needs no written id, because it is not due."""
    derived = {post.id: evolve(post, written=False) for post in news("a").values()}
    with pytest.raises(StoppedError, match="id: is missing"):
        update_log(RunWindow(LAST, LAST), [], derived, ["month"])
    with pytest.raises(StoppedError, match="id: is missing"):
        update_log(RunWindow(LAST, LAST), [log_entry(1, "11-03", "a")], derived, ["month"])
    old = {"a": evolve(derived["a"], day=date(2019, 1, 1))}
    assert update_log(RunWindow(None, LAST), [], old, ["month"]).entries


@pytest.mark.parametrize(
    ("there", "missing", "stops"), [(0, 2, False), (3, 3, False), (2, 3, True)]
)
def test_many_vanished_posts_stop_the_run(there: int, missing: int, *, stops: bool) -> None:
    """Three or more vanished posts, over half of the open ones, need `--accept-missing`."""
    log = [log_entry(seq, "11-10") for seq in range(1, there + missing + 1)]
    seen = news(*(f"p{seq}" for seq in range(1, there + 1)))
    accepted = update_log(RunWindow(LAST, LAST), log, seen, ["month"], accept_missing=True)
    assert len(accepted.retracted) == missing
    if stops:
        with pytest.raises(StoppedError, match="3 of the 5 posts"):
            update_log(RunWindow(LAST, LAST), log, seen, ["month"])
    else:
        assert update_log(RunWindow(LAST, LAST), log, seen, ["month"]) == accepted


# Rule 9


def test_an_issue_is_frozen_once_for_each_identity() -> None:
    """Frequency, cutoff, posts and language are the identity of an issue."""
    others = [
        evolve(ISSUE, frequency="week"),
        evolve(ISSUE, cutoff=Cursor(TODAY)),
        evolve(ISSUE, posts=("a",)),
        evolve(ISSUE, language="de"),
    ]
    assert len({issue_key(issue) for issue in (ISSUE, evolve(ISSUE), *others)}) == 5
    assert message_key(1, ISSUE) == message_key(1, evolve(ISSUE))
    assert len({message_key(who, issue) for who in (1, 2) for issue in (ISSUE, *others)}) == 10


# Rule 10


def test_a_delivery_is_closed_once() -> None:
    """Closing raises cursor and number; closing again changes nothing."""
    served = closed(SUBSCRIBER, delivery("sent"))
    assert (served.cursor, served.issues) == (Cursor(day("11-01")), 1)
    assert closed(served, delivery("uncertain")) == served
    with pytest.raises(ValueError, match="closes nothing"):
        closed(SUBSCRIBER, delivery("bounced"))


def test_only_allowed_transitions_are_possible() -> None:
    """A sent delivery stays sent; a delivery of a crashed run becomes uncertain."""
    assert swept(delivery("sending")).state == "uncertain"
    assert not TRANSITIONS["sent"]
    with pytest.raises(ValueError, match="cannot become"):
        swept(delivery("sent"))
    with pytest.raises(ValueError, match="cannot become"):
        moved(delivery("bounced"), "sending")


def test_a_bounced_delivery_waits_for_a_newer_cutoff() -> None:
    """A bounced delivery of `post` waits for a newer log entry."""
    row = delivery("bounced")
    assert left_alone(row, ISSUE.cutoff)
    assert not left_alone(row, Cursor(day("12-01")))
    each = delivery("bounced", evolve(ISSUE, frequency="post", cutoff=Cursor(date.min, 4)))
    assert left_alone(each, Cursor(date.min, 4))
    assert not left_alone(each, Cursor(date.min, 5))


def test_a_sending_or_final_delivery_is_not_replaced() -> None:
    """A plan replaces no delivery that is sending, sent or uncertain."""
    for state in ("sending", "sent", "uncertain"):
        assert left_alone(delivery(state), Cursor(day("12-01")))
    for row in (None, delivery("planned"), delivery("deferred"), delivery("cancelled")):
        assert not left_alone(row, ISSUE.cutoff)


# Rule 11


def test_the_delay_of_a_deferred_delivery_grows() -> None:
    """The delay doubles up to six hours."""
    row = replied(delivery("sending"), "deferred", AT, SUBSCRIBER)
    assert (row.state, row.attempts, row.retry_at) == ("deferred", 1, AT + retry_delay(1))
    assert retry_delay(2) == 2 * retry_delay(1)
    assert retry_delay(99) == timedelta(hours=6)
    sent = replied(moved(row, "sending"), "sent", AT, SUBSCRIBER)
    assert (sent.state, sent.attempts, sent.retry_at) == ("sent", 2, None)


def test_a_new_plan_keeps_the_delay_of_a_deferred_delivery() -> None:
    """A new plan replaces the issue of a deferred delivery, but not its retry time."""
    row = replied(delivery("sending"), "deferred", AT, SUBSCRIBER)
    new = evolve(ISSUE, posts=("b",))
    assert placed(row, delivery("planned", new)) == evolve(row, issue=new)


@pytest.mark.parametrize(
    "issue",
    [
        evolve(ISSUE, cutoff=Cursor(day("12-01"))),
        evolve(ISSUE, frequency="week", cutoff=Cursor(day("11-16"))),
        evolve(ISSUE, frequency="post", cutoff=Cursor(date.min, 4)),
    ],
)
def test_a_new_cutoff_ends_the_delay(issue: Issue) -> None:
    """An issue with a newer cutoff or log entry does not wait for the retry time."""
    row = replied(delivery("sending"), "deferred", AT, SUBSCRIBER)
    assert placed(row, delivery("planned", issue)) == delivery("planned", issue)


def test_a_pause_ends_the_delay() -> None:
    """A subscriber who paused and resumed does not wait for the retry time."""
    world = World(berlin("2026-11-10 10:00"))
    who = world.join("post")
    world.run()
    world.push("a")
    world.fails = {who: "deferred"}
    world.run()
    world.fails = {}
    world.run()
    assert not world.people[who].posts
    world.prefer(who, state="paused")
    world.prefer(who, state="active")
    world.run()
    assert world.people[who].posts == ["a"]


def test_an_uncertain_email_is_sent_again_without_withdrawn_posts() -> None:
    """An email to an active subscriber is sent again and stays uncertain until accepted."""
    row, owner = delivery("uncertain"), evolve(SUBSCRIBER, issues=1)
    assert resend(row, owner, {"b", "c"}) == ("b",)
    assert resend(row, evolve(owner, state="unsubscribed"), {"b"}) == ()
    assert resend(delivery("sent"), owner, {"b"}) == ()
    sending = moved(row, "sending")
    for reply in ("deferred", "bounced", "uncertain"):
        assert replied(sending, reply, AT, owner).state == "uncertain"
    assert replied(sending, "sent", AT, owner).state == "sent"


# Rule 12


def test_only_active_subscribers_are_sent_to() -> None:
    """A subscriber who stops between plan and claim receives nothing."""
    assert sendable(delivery("planned"), SUBSCRIBER)
    assert not sendable(delivery("planned"), evolve(SUBSCRIBER, state="paused"))
    assert not sendable(delivery("bounced"), SUBSCRIBER)


def test_a_pause_keeps_the_backlog() -> None:
    """Posts published during a pause are sent after it."""
    world = World(berlin("2026-11-02 10:00"))
    who = world.join("day")
    world.run()
    world.prefer(who, state="paused")
    for number in range(5):
        world.to(berlin(f"2026-11-0{number + 3} 10:00"))
        world.push(f"p{number}")
        world.run()
    assert not world.people[who].posts
    world.prefer(who, state="active")
    world.to(berlin("2026-11-08 10:00"))
    world.run()
    assert world.people[who].posts == [f"p{number}" for number in reversed(range(5))]


# Rule 13


def test_a_welcome_issue_has_old_matching_posts() -> None:
    """A welcome issue has the newest posts before the start, and does not exist without any."""
    log = [log_entry(seq, f"10-{seq:02}") for seq in range(1, 8)] + [log_entry(8, "11-22")]
    seen = news(*(entry.post_id for entry in log), topics="x")
    group = Group("post", Cursor(TODAY, 8), frozenset("x"), "en")
    issue = make_welcome_issue(group, log, seen, limit=2)
    assert issue == Issue("welcome", Cursor(date.min), ("p7", "p6"), "en")
    assert make_welcome_issue(evolve(group, topics=frozenset("y")), log, seen) is None


# Rule 14


NOON = datetime(2026, 11, 22, 22, tzinfo=UTC)
"""12:00 on the 22nd in Honolulu and 06:00 on the 23rd in Shanghai."""
SHANGHAI, HONOLULU = ZoneInfo("Asia/Shanghai"), ZoneInfo("Pacific/Honolulu")


def test_a_change_of_zone_loses_no_post() -> None:
    """A subscriber who confirmed on the 23rd receives later posts dated the 22nd."""
    world = World(NOON - timedelta(days=1), zone=SHANGHAI)
    world.run()
    world.to(NOON)
    who = world.join("post")
    world.move_to(HONOLULU)
    world.push("a")
    world.run()
    world.push("b")
    world.run()
    assert world.people[who].posts == ["a", "b"]


def test_a_change_of_zone_delays_only_posts_of_the_difference() -> None:
    """A change of zone delays no other post, even long after the last run."""
    last = advance_run(None, NOON - timedelta(days=20), SHANGHAI, SEND_AT).state
    run = advance_run(last, NOON, HONOLULU, SEND_AT)
    assert run.state.floor == day("11-23")
    assert entry_date(day("11-10"), run) == day("11-11")
    assert entry_date(day("11-22"), run) == day("11-23")
    assert entry_date(day("11-22"), advance_run(run.state, NOON, HONOLULU, SEND_AT)) == day("11-23")


# Rule 15


def test_a_clock_far_ahead_stops_the_run() -> None:
    """A clock far ahead needs `yes`, because a released date never falls."""
    future = AT + timedelta(days=41)
    with pytest.raises(StoppedError, match="2027-01-02"):
        advance_run(LAST, future, BERLIN, SEND_AT)
    assert advance_run(LAST, future, BERLIN, SEND_AT, yes=True).state.clock == future
    assert advance_run(LAST, AT + timedelta(days=40), BERLIN, SEND_AT)
    assert advance_run(None, future, BERLIN, SEND_AT)


# Cases in which simpler rules failed


def test_case_1_a_cursor_that_falls() -> None:
    """A change of frequency, a resubscription or a clock set back repeats no post."""
    world = World(berlin("2026-11-10 10:00"))
    changing, leaving = world.join("post"), world.join("post")
    world.run()
    world.push("a")
    world.run()
    world.prefer(changing, frequency="month")
    world.unsubscribe(leaving)
    world.prefer(leaving, frequency="month")
    world.skew = timedelta(days=-1)
    world.confirm_again(leaving)
    world.run()
    world.skew = timedelta()
    world.to(berlin("2026-12-01 09:01"))
    world.run()
    assert world.people[changing].posts == ["a"]
    assert world.people[leaving].posts == ["a"]
    world.heal()


def test_case_2_a_second_monthly_issue() -> None:
    """A post backdated after the monthly issue waits for the next issue."""
    world = World(berlin("2026-11-10 10:00"))
    who = world.join("month")
    world.run()
    world.push("a")
    world.to(berlin("2026-12-01 09:01"))
    world.run()
    world.push("late", day=day("11-20"))
    world.to(berlin("2026-12-02 09:01"))
    world.run()
    assert world.people[who].posts == ["a"]
    world.to(berlin("2027-01-01 09:01"))
    world.run()
    assert world.people[who].posts == ["a", "late"]


def test_case_3_a_log_prefix_that_blocks() -> None:
    """A post of yesterday is in the issue of today even if logged after a post of today."""
    world = World(berlin("2026-11-10 10:00"))
    who = world.join("day")
    world.run()
    world.to(berlin("2026-11-12 00:00"))
    world.push("a")
    world.run()
    world.push("b", day=day("11-11"))
    world.to(berlin("2026-11-12 09:00"))
    world.run()
    assert world.people[who].posts == ["b"]
    world.to(berlin("2026-11-13 09:00"))
    world.run()
    assert world.people[who].posts == ["b", "a"]


@pytest.mark.parametrize("frequency", ["post", "day", "week", "month"])
def test_case_4_old_news(frequency: Frequency) -> None:
    """A subscriber who confirms before the first run does not receive the archive."""
    world = World(berlin("2026-11-10 10:00"))
    for number in range(1, 9):
        world.push(f"old {number}", day=day(f"0{number}-15"))
    who = world.join(frequency)
    world.to(berlin("2026-11-10 11:00"))
    world.run()
    world.to(berlin("2026-12-01 09:01"))
    world.run()
    assert not world.people[who].posts


@pytest.mark.parametrize("frequency", ["post", "day", "week", "month"])
def test_case_5_lost_by_absence(frequency: Frequency) -> None:
    """A post that is missing from the run of its cutoff is sent by the next run."""
    world = World(berlin("2026-11-25 10:00"))
    who = world.join(frequency)
    world.run()
    world.push("a", day=day("11-29"))
    world.to(berlin("2026-11-29 08:00"))
    world.run()
    world.change("a", present=False)
    for missing_at in ("2026-11-30 09:00", "2026-12-01 09:00"):
        world.to(berlin(missing_at))
        world.run()
    world.change("a", present=True)
    world.to(berlin("2026-12-02 09:00"))
    world.run()
    world.heal()
    assert world.people[who].posts.count("a") == 1


def test_case_5_lost_by_absence_in_a_week_across_two_months() -> None:
    """A post is retracted after the cutoff of its month but before that of its week."""
    world = World(berlin("2026-11-30 10:00"))
    who = world.join("week")
    world.run()
    world.push("a")
    world.run()
    world.to(berlin("2026-12-02 10:00"))
    world.run()
    world.change("a", present=False)
    world.to(berlin("2026-12-07 10:00"))
    world.run()
    world.change("a", present=True)
    world.to(berlin("2026-12-14 10:00"))
    world.run()
    assert world.people[who].posts == ["a"]


def test_case_5_an_empty_folder_loses_nothing() -> None:
    """A folder without posts stops the run; posts that return after `accept` are sent."""
    world = World(berlin("2026-11-10 10:00"))
    who = world.join("month")
    names = ["a", "b", "c"]
    for name in names:
        world.push(name)
    world.run()
    for name in names:
        world.change(name, present=False)
    world.to(berlin("2026-12-01 09:01"))
    before = world.ledger.release()
    with pytest.raises(StoppedError, match="have vanished"):
        world.run()
    assert world.ledger.release() == before
    world.run(accept=True)
    for name in names:
        world.change(name, present=True)
    world.heal()
    assert sorted(set(world.people[who].posts) & set(names)) == names


def test_case_6_a_date_alone() -> None:
    """A post backdated by five days after the weekly issue is in the next issue."""
    world = World(berlin("2026-11-10 10:00"))
    who = world.join("week")
    world.to(berlin("2026-11-16 09:01"))
    world.run()
    world.push("late", day=day("11-11"))
    world.to(berlin("2026-11-23 09:01"))
    world.run()
    assert world.people[who].posts == ["late"]


@pytest.mark.parametrize("step", range(1, 12))
def test_case_7_a_crash_and_then_another_post(step: int) -> None:
    """A run that crashes at any step makes the next run repeat no post."""
    world = World(berlin("2026-11-10 10:00"))
    who = world.join("post")
    world.run()
    world.push("a")
    world.run(crash=step)
    world.push("b")
    world.run()
    unsure = [row.issue.posts for row in world.ledger.deliveries() if row.state == "uncertain"]
    assert world.people[who].posts in (["a", "b"], ["b", "a"], ["b"])
    assert "a" in world.people[who].posts or unsure == [("a",)]


def test_case_7_a_deferred_email_and_its_successor() -> None:
    """Only the later email is sent, with the posts of both."""
    world = World(berlin("2026-11-10 10:00"))
    who = world.join("post")
    world.run()
    world.push("a")
    world.fails = {who: "deferred"}
    world.run()
    world.fails = {}
    world.push("b")
    world.to(berlin("2026-11-10 18:00"))
    world.run_twice()
    assert list(world.people[who].received.values()) == [("b", "a")]


@pytest.mark.parametrize("frequency", ["post", "day", "month"])
def test_case_8_a_welcome_by_the_calendar(frequency: Frequency) -> None:
    """A post of the welcome issue is in no other issue, even if it vanishes and returns."""
    world = World(berlin("2026-11-10 10:00"))
    world.push("old", day=day("10-20"))
    world.push("of today")
    world.run()
    who = world.join(frequency, greet=True)
    world.run()
    assert world.people[who].posts == ["old"]
    for there in (False, True):
        world.to(world.now + timedelta(minutes=5))
        world.change("of today", present=there)
        world.change("old", present=there)
        world.run()
    world.heal()
    assert world.people[who].posts.count("old") == 1


# Two planners at once


def planner(ledger: MemoryLedger, sent: list[str]) -> Iterator[None]:
    """Do a run without a lease, and yield between its steps."""
    release, seen = LAST, news("a", "b")
    log, last_seq = ledger.log(), ledger.last_seq
    groups = ledger.groups(release)
    yield
    for group, members in groups.items():
        part = due_posts(
            group, target_cursor(group.frequency, release.released, last_seq), log, seen
        )
        for member in members:
            ledger.place(member, part, seen)
    yield
    for key in ledger.claimable(release.clock):
        yield
        claim = ledger.claim(key)
        yield
        if claim:
            sent.extend(claim[0].issue.posts)
            yield
            ledger.record(replied(claim[0], "sent", release.clock, claim[1]))


@pytest.mark.parametrize("pushed", [1, 3, 5])
def test_two_planners_send_no_post_twice(pushed: int) -> None:
    """Interleaved runs repeat no post, with a new post before step number `pushed`."""
    results = set()
    for mine in combinations(range(12), 6):
        ledger, sent = MemoryLedger(), list[str]()
        ledger.save(evolve(SUBSCRIBER, frequency="post"))
        ledger.open(LogUpdate(LAST, (log_entry(1, "11-22", "a"),), ()))
        planners = (planner(ledger, sent), planner(ledger, sent))
        for step in range(12):
            if step == pushed:
                ledger.open(LogUpdate(LAST, (log_entry(2, "11-22", "b"),), ()))
            next(planners[step in mine], None)
        assert len(sent) == len(set(sent))
        results.add(tuple(sent))
    assert {"a", "b"} in map(set, results)
