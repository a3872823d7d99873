"""The run's clock and the calendar of the letters (delivery rules, rules 1, 3, 14 and 15)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from postroom.errors import Problem, StoppedError, UseError
from postroom.models import Cursor, Frequency, Group, Issue, LogEntry, Post, RunState, Subscriber
from postroom.text import topic_slug

LATE_TOLERANCE = timedelta(days=40)
"""A clock further ahead of the last run than this may be a wrong one."""


@frozen
class RunWindow:
    """A run, between the state row that it found and the one that it writes.

    `last` is None before the first run. Posts are to be read as they stand at `release.clock`.
    """

    last: RunState | None
    state: RunState


def advance_run(
    last: RunState | None, now: datetime, zone: ZoneInfo, send_at: time, *, yes: bool = False
) -> RunWindow:
    """Return the run that starts at the instant `now`; neither date of the state row falls.

    `send_at` is local to `zone`.
    Raises `StoppedError` if the clock is more than `PATIENCE` past the last run's, unless `yes`.
    """
    # Two times of one zone are compared by what its clocks showed, also where they were put back.
    now = now.astimezone(UTC)
    if last is None:
        reached = released_date(now, zone, send_at)
        return RunWindow(last, RunState(now, reached, zone.key, reached))
    if now - last.clock > LATE_TOLERANCE and not yes:
        raise StoppedError([_too_late(last, now)])
    clock = max(now, last.clock)
    released = max(released_date(clock, zone, send_at), last.released)
    floor = max(released, last.floor)
    if zone.key != last.zone:
        floor = max(floor, local_date(clock, ZoneInfo(last.zone)))
    return RunWindow(last, RunState(clock, released, zone.key, floor))


def _too_late(last: RunState, now: datetime) -> Problem:
    what = f"the clock shows {now:%Y-%m-%d}, the last run was on {last.clock:%Y-%m-%d}"
    return Problem("", message=what, hint="set the clock, or repeat with --yes if it is right")


def released_date(clock: datetime, zone: ZoneInfo, send_at: time) -> date:
    """Return the newest date whose `send_at` in `zone` has come at the instant `clock`.

    A `send_at` that a change of offset skips or repeats comes once, by the offset before it.
    """
    today = local_date(clock, zone)
    # Clocks put back over midnight have already shown tomorrow's date, and a zone that crossed
    # the date line has skipped one whole.
    nearby = (today + timedelta(days=days) for days in (1, 0, -1))
    return next(
        (day for day in nearby if to_instant(day, zone, send_at) <= clock),
        today - timedelta(days=2),
    )


def to_instant(day: date, zone: ZoneInfo, send_at: time) -> datetime:
    """Return the instant, in UTC, at which `send_at` comes on `day` in `zone`."""
    return datetime.combine(day, send_at, tzinfo=zone).astimezone(UTC)


def local_date(clock: datetime, zone: ZoneInfo) -> date:
    """Return what a calendar in `zone` shows at the instant `clock`."""
    return clock.astimezone(zone).date()


def entry_date(day: date, run: RunWindow) -> date:
    """Return the day of the arrival that `run` logs for a post of the date `day` (rules 2, 14).

    In the first run after a change of zone a post of the new calendar may be for subscribers who
    confirmed by the old one: it counts as of what that showed while the new one showed `day`.
    """
    if run.last is None:
        return day
    lowest = max(day, run.last.floor, run.last.released)
    if run.state.zone == run.last.zone:
        return lowest
    end = to_instant(day + timedelta(days=1), ZoneInfo(run.state.zone), time())
    return max(lowest, local_date(min(end, run.state.clock), ZoneInfo(run.last.zone)))


def cutoff_before(frequency: Frequency, day: date) -> date:
    """Return the last boundary of `frequency` that is not after `day` (rule 3).

    A month's is its 1st, a week's its Monday (ISO 8601), a day's the day; `post` has a day's.
    """
    if frequency == "month":
        return day.replace(day=1)
    if frequency == "week":
        return day - timedelta(days=day.weekday())
    return day


def first_unreleased(frequencies: Iterable[Frequency], released: date) -> date:
    """Return the day from which arrivals may still be ahead of somebody's next letter.

    That is the last boundary of the longest of `frequencies`, or of a week that began before it.
    Pass what is offered and what subscribers have: an offer may have been withdrawn from under
    them.
    """
    return min((cutoff_before(each, released) for each in frequencies), default=released)


def target_cursor(frequency: Frequency, released: date, last_seq: int) -> Cursor:
    """Return what a letter of `frequency` raises a bookmark to, once `released` has come (rule 4).

    The part that it leaves alone is the lowest there is, so raising to it changes nothing.
    """
    if frequency == "post":
        return Cursor(date.min, last_seq)
    return Cursor(cutoff_before(frequency, released))


@frozen
class VisiblePost:
    """What a run knows of a post that is visible now: due, no draft, not expired, not withdrawn.

    `language` is never empty. `written` tells whether the id stands in the post itself; one made
    from the path changes with it.
    """

    id: str
    day: date
    published: datetime
    topics: frozenset[str]
    language: str
    path: str = ""
    written: bool = True


@frozen
class LogUpdate:
    """What a run writes before it plans, in one transaction: nothing of it without the rest.

    Bookmarks moved by a run whose `release` is not stored would pass posts that come later.
    """

    release: RunState
    entries: tuple[LogEntry, ...]
    retracted: tuple[int, ...]

    def log(self, before: Sequence[LogEntry]) -> tuple[LogEntry, ...]:
        """Return the log `before` the run as it stands after the opening."""
        struck = set(self.retracted)
        kept = (evolve(one, retracted=True) if one.seq in struck else one for one in before)
        return (*kept, *self.entries)


def visible_posts(
    posts: Iterable[Post], language: str, derived: Collection[str] = ()
) -> dict[str, VisiblePost]:
    """Return the news among the published `posts` by id; `language` is that of the newsroom.

    `derived` are the ids that stand in no post but were made from its path.
    """
    return {
        post.id: VisiblePost(
            id=post.id,
            day=post.day,
            published=post.published,
            topics=frozenset(post.topics),
            language=post.lang or language,
            path=post.path,
            written=post.id not in derived,
        )
        for post in posts
        if post.withdrawn is None
    }


def update_log(
    run: RunWindow,
    log: Sequence[LogEntry],
    news: Mapping[str, VisiblePost],
    frequencies: Iterable[Frequency],
    *,
    accept_missing: bool = False,
) -> LogUpdate:
    """Return what `run` writes first: arrivals, strikes and the state row.

    `log` is the whole log, oldest first; for `frequencies` see `pending_since`.
    Raises `StoppedError` if a pending post has no written id, or if at least three and more than
    half of the pending arrivals have vanished and `accept_missing` is false (rule 8).
    """
    # By the previous run's calendar: what goes missing at just the run that passes a boundary
    # would be too old to strike by this run's, and lost with the bookmarks that pass it.
    since = first_unreleased(frequencies, (run.last or run.state).released)
    pending = [one for one in log if not one.retracted and one.day >= since]
    vanished = [one for one in pending if one.post_id not in news]
    arrivals = tuple(_arrivals(run, log, news))
    expected = [one.post_id for one in (*pending, *arrivals) if one.day >= since]
    problems = _unwritten(news[each] for each in expected if each in news)
    if not accept_missing:
        problems += _missing(pending, vanished)
    if problems:
        raise StoppedError(problems)
    return LogUpdate(run.state, arrivals, tuple(one.seq for one in vanished))


def _arrivals(
    run: RunWindow, log: Sequence[LogEntry], news: Mapping[str, VisiblePost]
) -> Iterator[LogEntry]:
    """Yield the arrival of every post that is new, or back after it was struck."""
    latest = {one.post_id: one for one in log}
    seq = max((one.seq for one in log), default=0)
    for post in sorted(news.values(), key=lambda one: (one.day, one.published, one.id)):
        known = latest.get(post.id)
        if known is None or known.retracted:
            seq += 1
            day = entry_date(post.day, run)
            first_day = known.first_day if known else day
            yield LogEntry(seq, day, post.id, first_day, returned=known is not None)


def _unwritten(expected: Iterable[VisiblePost]) -> list[Problem]:
    what = "is missing, so under a new name the post would be sent again"
    repair = "run postroom check --fix, and commit what it writes"
    return [
        Problem(one.path, key="id", message=what, hint=repair)
        for one in expected
        if not one.written
    ]


def _missing(pending: Sequence[LogEntry], vanished: Sequence[LogEntry]) -> list[Problem]:
    if len(vanished) < 3 or 2 * len(vanished) <= len(pending):
        return []
    what = f"{len(vanished)} of the {len(pending)} posts of the coming letters have vanished"
    return [Problem("", message=what, hint="bring them back, or repeat with --accept-missing")]


@frozen
class DuePosts:
    """The arrivals that a group is owed, newest post first, and what receiving them raises to.

    Nothing owed, no letter; the bookmark is raised all the same (rule 6).
    """

    group: Group
    cutoff: Cursor
    entries: tuple[LogEntry, ...]

    @property
    def cursor(self) -> Cursor:
        """The group's bookmark once this is delivered, or found to be nothing."""
        return raise_cursor(self.group.cursor, self.cutoff)

    @property
    def returned(self) -> tuple[LogEntry, ...]:
        """The arrivals that may split the group: some subscribers have had their posts."""
        return tuple(one for one in self.entries if one.returned)

    @property
    def issue(self) -> Issue | None:
        """The letter that holds all of it, or None."""
        posts = tuple(one.post_id for one in self.entries)
        if not posts:
            return None
        return Issue(self.group.frequency, self.cutoff, posts, self.group.language)

    def without(self, posts: Collection[str]) -> DuePosts:
        """Return what is owed to those of the group who are not owed `posts`, by id."""
        kept = tuple(one for one in self.entries if one.post_id not in posts)
        return evolve(self, entries=kept)


def due_posts(
    group: Group, raising_to: Cursor, log: Iterable[LogEntry], news: Mapping[str, VisiblePost]
) -> DuePosts:
    """Return what `group` is owed by a run whose `reach` for its frequency is `raising_to`.

    Of the `log` only what is not behind the group's bookmark is needed. A post counts if it is
    visible and matches now; which subscribers have had a returned one, `has_had` tells.
    """
    due = (one for one in log if _due(one, group, raising_to))
    return DuePosts(group, raising_to, tuple(_matching(group, due, news)))


def _matching(
    group: Group, arrivals: Iterable[LogEntry], news: Mapping[str, VisiblePost]
) -> list[LogEntry]:
    """Return those that match, in the order of the posts: that of the log tells when runs were."""

    def order(arrival: LogEntry) -> tuple[date, datetime, str]:
        post = news[arrival.post_id]
        return post.day, post.published, post.id

    matching = (one for one in arrivals if _matches(group, one, news))
    return sorted(matching, key=order, reverse=True)


def _due(arrival: LogEntry, group: Group, raising_to: Cursor) -> bool:
    if arrival.retracted or is_delivered(arrival, group.cursor):
        return False
    return group.frequency == "post" or arrival.day < raising_to.date


def _matches(group: Group, arrival: LogEntry, news: Mapping[str, VisiblePost]) -> bool:
    post = news.get(arrival.post_id)
    if post is None or not _covers(group.language, post.language):
        return False
    return not group.topics or not _slugs(group.topics).isdisjoint(_slugs(post.topics))


def _covers(chosen: str, language: str) -> bool:
    """Tell whether a post in `language` is for who chose `chosen` (RFC 4647 §3.3.1).

    `en` covers `en-US`, nothing covers everything, and case does not count.
    """
    wanted, spoken = chosen.casefold(), language.casefold()
    return not wanted or spoken == wanted or spoken.startswith(f"{wanted}-")


@lru_cache(maxsize=10_000)
def _slugs(topics: frozenset[str]) -> frozenset[str]:
    return frozenset(map(topic_slug, topics))


def is_delivered(arrival: LogEntry, bookmark: Cursor) -> bool:
    """Tell whether `arrival` was delivered, or is not owed, to a holder of `bookmark`."""
    return arrival.day < bookmark.date or arrival.seq <= bookmark.seq


def has_received(arrival: LogEntry, start: date, delivered: Collection[str]) -> bool:
    """Tell whether a returned `arrival` is nothing new to one subscriber (rule 7).

    `start` is the subscriber's, `delivered` the ids of posts in letters closed for that
    subscriber, or of those among them that returned.
    """
    return arrival.returned and (start > arrival.first_day or arrival.post_id in delivered)


def raise_cursor(bookmark: Cursor, to: Cursor) -> Cursor:
    """Return `bookmark` raised to `to`: each part the later of both, so neither ever falls."""
    return Cursor(max(bookmark.date, to.date), max(bookmark.seq, to.seq))


def confirm_subscriber(frequency: Frequency, release: RunState, last_seq: int) -> Cursor:
    """Return where a confirmation at the clock of `release` starts (rule 5).

    `release` is the row that a run would write at this instant, `advance(…, yes=True).release`;
    it is not stored. Imported subscribers start here too, unless a day is given for them.
    """
    if frequency == "post":
        return Cursor(_today(release), last_seq)
    return target_cursor(frequency, release.released, last_seq)


def start_cursor(day: date, release: RunState) -> Cursor:
    """Return where imported subscribers start who are owed what came on `day` or later (rule 5).

    Raises `UseError` if that day has not come: all until then would be lost.
    """
    if day <= _today(release):
        return Cursor(day)
    raise UseError([Problem("", message=f"{day} has not come", hint="write today or a day before")])


def _today(release: RunState) -> date:
    return local_date(release.clock, ZoneInfo(release.zone))


def set_start(subscriber: Subscriber, at: Cursor) -> Subscriber:
    """Return `subscriber`, new, imported or back again, as active and owed what is ahead of `at`.

    What lay behind the bookmark stays there (rules 4 and 12).
    """
    bookmark = raise_cursor(subscriber.cursor, at)
    start = max(subscriber.start, at.date)
    return evolve(subscriber, state="active", cursor=bookmark, start=start)


def make_welcome_issue(
    group: Group, log: Iterable[LogEntry], news: Mapping[str, VisiblePost], most: int = 5
) -> Issue | None:
    """Return the letter for a first confirmation, with the newest `most` posts before it, or None.

    `group` has the bookmark that the confirmation raised. Arrivals that are behind by seq alone
    stay out: their day is the start's, so they would not count as had if they vanished and
    returned (rule 13).
    """
    old = (one for one in log if not one.retracted and one.day < group.cursor.date)
    newest = _matching(group, old, news)[:most]
    if not newest:
        return None
    posts = tuple(one.post_id for one in newest)
    return Issue("welcome", Cursor(date.min), posts, group.language)


@lru_cache(maxsize=64)
def issue_key(letter: Issue) -> str:
    """Return the identity of `letter`, under which it is frozen once (rule 9); hexadecimal."""
    before, upto = letter.cutoff.date.isoformat(), letter.cutoff.seq
    return _digest([letter.frequency, before, upto, letter.language, *letter.posts])


def message_key(subscriber: int, letter: Issue) -> str:
    """Return what makes a Message-ID, the same however often a letter is tried; hexadecimal."""
    return _digest([subscriber, issue_key(letter)])


def _digest(parts: Sequence[str | int]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
