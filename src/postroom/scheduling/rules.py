"""The rules that decide which posts are due to which subscribers, and when.

The numbers of rules are those of docs/delivery-rules.md, and the functions are in its order. All
functions are pure: clock, calendar, log and posts are arguments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from postroom.errors import Problem, StoppedError, UseError
from postroom.models import Cursor, Frequency, Group, Issue, LogEntry, Post, RunState
from postroom.text import topic_slug

LATE_TOLERANCE = timedelta(days=40)
"""The longest time between two runs that needs no `--yes` (rule 15)."""


# Rule 1: time never goes back. Rules 14 and 15: change of zone, clock far ahead.


@frozen
class RunWindow:
    """A run of `send`, described by two states.

    `last` is the state that the previous run stored, None before the first run. `state` is the
    state that this run stores; it reads the posts as they stand at `state.clock`.
    """

    last: RunState | None
    state: RunState


def advance_run(
    last: RunState | None, now: datetime, zone: ZoneInfo, send_at: time, *, yes: bool = False
) -> RunWindow:
    """Return the run that starts at the instant `now`.

    `last` is the state that the previous run stored. `clock`, `released` and `floor` of the new
    state are never lower, even if the system clock was set back. `send_at` is a local time in
    `zone`. Raises `StoppedError` if `now` is more than `LATE_TOLERANCE` after the clock of the last
    run, unless `yes` (rule 15).
    """
    # Python compares two times of one zone by their local time, which is wrong in the hour that
    # comes twice when daylight saving time ends.
    now = now.astimezone(UTC)
    if last is None:
        released = released_date(now, zone, send_at)
        return RunWindow(last, RunState(now, released, zone.key, released))
    if now - last.clock > LATE_TOLERANCE and not yes:
        raise StoppedError([_clock_problem(last, now)])
    clock = max(now, last.clock)
    released = max(released_date(clock, zone, send_at), last.released)
    floor = max(released, last.floor)
    if zone.key != last.zone:
        floor = max(floor, local_date(clock, ZoneInfo(last.zone)))
    return RunWindow(last, RunState(clock, released, zone.key, floor))


def _clock_problem(last: RunState, now: datetime) -> Problem:
    message = f"the clock shows {now:%Y-%m-%d}, the last run was on {last.clock:%Y-%m-%d}"
    return Problem("", message=message, hint="correct the clock, or pass --yes if it is right")


def released_date(clock: datetime, zone: ZoneInfo, send_at: time) -> date:
    """Return the newest date whose `send_at` in `zone` is not after the instant `clock`.

    On a day on which a clock change skips or repeats `send_at`, the UTC offset before the change
    counts, so that each date is released exactly once.
    """
    today = local_date(clock, zone)
    # A clock that is set back over midnight has already shown tomorrow's date, and a zone that
    # crossed the date line has skipped one date.
    nearby = (today + timedelta(days=days) for days in (1, 0, -1))
    return next(
        (day for day in nearby if to_instant(day, zone, send_at) <= clock),
        today - timedelta(days=2),
    )


def to_instant(day: date, zone: ZoneInfo, send_at: time) -> datetime:
    """Return `send_at` on `day` in `zone` as an instant in UTC."""
    return datetime.combine(day, send_at, tzinfo=zone).astimezone(UTC)


def local_date(clock: datetime, zone: ZoneInfo) -> date:
    """Return the calendar date in `zone` at the instant `clock`."""
    return clock.astimezone(zone).date()


# Rule 2: a post is logged once, on a day that never changes.


@frozen
class VisiblePost:
    """A post that is visible now: dated today or earlier, no draft, not expired, not withdrawn.

    `language` is never empty. `written` tells whether the id is written in the post's front matter.
    Otherwise the id was derived from the path, and changes if the file is renamed.
    """

    id: str
    day: date
    published: datetime
    topics: frozenset[str]
    language: str
    path: str = ""
    written: bool = True


def visible_posts(
    posts: Iterable[Post], language: str, derived: Collection[str] = ()
) -> dict[str, VisiblePost]:
    """Return a mapping from id to post of the published `posts` that are not withdrawn.

    Posts without a language get `language`, that of the site. `derived` are the ids that are not
    written in front matter but were derived from paths.
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


@frozen
class LogUpdate:
    """The changes to the post log and the state row that a run stores before it plans.

    `entries` are appended to the log, and the entries with the seqs in `retracted` are marked as
    retracted. All changes are stored in one transaction and before any cursor is raised. Otherwise,
    after a crash, posts could be logged behind cursors that were raised already, and be lost.
    """

    state: RunState
    entries: tuple[LogEntry, ...]
    retracted: tuple[int, ...]

    def log(self, before: Sequence[LogEntry]) -> tuple[LogEntry, ...]:
        """Return the log after this update; `before` is the log before it."""
        retracted = set(self.retracted)
        entries = (
            evolve(entry, retracted=True) if entry.seq in retracted else entry for entry in before
        )
        return (*entries, *self.entries)


def update_log(
    run: RunWindow,
    log: Sequence[LogEntry],
    visible: Mapping[str, VisiblePost],
    frequencies: Iterable[Frequency],
    *,
    accept_missing: bool = False,
) -> LogUpdate:
    """Return the log update that `run` stores before it plans (rules 2, 7 and 8).

    `log` is the whole log, oldest first; for `frequencies` see `first_unreleased`. An entry is
    unreleased if a coming issue may still hold its post. Raises `StoppedError` if the post of such
    an entry has no id in its front matter. Raises it, too, if the posts of at least three and more
    than half of the unreleased entries have vanished, unless `accept_missing`.
    """
    # By the previous run's calendar. By this run's, an entry whose post is missing at just the run
    # that passes its cutoff would be too old to retract, and its post would be lost.
    since = first_unreleased(frequencies, (run.last or run.state).released)
    unreleased = [entry for entry in log if not entry.retracted and entry.day >= since]
    vanished = [entry for entry in unreleased if entry.post_id not in visible]
    new = tuple(_new_entries(run, log, visible))
    expected = [entry.post_id for entry in (*unreleased, *new) if entry.day >= since]
    problems = _missing_ids(visible[post] for post in expected if post in visible)
    if not accept_missing:
        problems += _missing_posts(unreleased, vanished)
    if problems:
        raise StoppedError(problems)
    return LogUpdate(run.state, new, tuple(entry.seq for entry in vanished))


def _new_entries(
    run: RunWindow, log: Sequence[LogEntry], visible: Mapping[str, VisiblePost]
) -> Iterator[LogEntry]:
    """Yield a log entry for each post that has none, or whose last entry was retracted."""
    latest = {entry.post_id: entry for entry in log}
    seq = max((entry.seq for entry in log), default=0)
    for post in sorted(visible.values(), key=lambda post: (post.day, post.published, post.id)):
        known = latest.get(post.id)
        if known is None or known.retracted:
            seq += 1
            day = entry_date(post.day, run)
            first_day = known.first_day if known else day
            yield LogEntry(seq, day, post.id, first_day, returned=known is not None)


def entry_date(day: date, run: RunWindow) -> date:
    """Return the day of the entry that `run` logs for a post dated `day` (rules 2 and 14).

    The first run after a change of the site's time zone uses the calendar of the old zone, because
    the cursors of subscribers were set by it. The entry then gets the date that the old calendar
    showed when `day` ended in the new zone, or shows now if `day` has not ended.
    """
    if run.last is None:
        return day
    lowest = max(day, run.last.floor, run.last.released)
    if run.state.zone == run.last.zone:
        return lowest
    end = to_instant(day + timedelta(days=1), ZoneInfo(run.state.zone), time())
    return max(lowest, local_date(min(end, run.state.clock), ZoneInfo(run.last.zone)))


# Rule 3: cutoffs are dates.


def cutoff_before(frequency: Frequency, day: date) -> date:
    """Return the last cutoff of `frequency` that is not after `day`.

    A monthly cutoff is the 1st, a weekly one a Monday (ISO 8601), a daily one any date. Frequency
    `post` has no cutoff dates; `day` is returned for it.
    """
    if frequency == "month":
        return day.replace(day=1)
    if frequency == "week":
        return day - timedelta(days=day.weekday())
    return day


# Rule 4: a cursor has two parts, and neither goes back.


def is_delivered(entry: LogEntry, cursor: Cursor) -> bool:
    """Tell whether `entry` is behind `cursor`, which means that it is not due any more."""
    return entry.day < cursor.date or entry.seq <= cursor.seq


def raise_cursor(cursor: Cursor, target: Cursor) -> Cursor:
    """Return the cursor with the later date and the greater seq of `cursor` and `target`."""
    return Cursor(max(cursor.date, target.date), max(cursor.seq, target.seq))


def target_cursor(frequency: Frequency, released: date, last_seq: int) -> Cursor:
    """Return the cursor to which an issue of `frequency` raises the cursors of its subscribers.

    An issue of frequency `post` raises the seq of a cursor, every other issue the date. The part
    that it does not raise has the lowest possible value, so that it changes nothing.
    """
    if frequency == "post":
        return Cursor(date.min, last_seq)
    return Cursor(cutoff_before(frequency, released))


# Rule 5: a confirmation starts at a cutoff.


def confirmation_cursor(frequency: Frequency, state: RunState, last_seq: int) -> Cursor:
    """Return the cursor of a subscriber who confirms or is imported at `state.clock`.

    `state` is the state that a run would store at this instant: `advance_run(…, yes=True).state`.
    `last_seq` is the seq of the last log entry.
    """
    if frequency == "post":
        return Cursor(_today(state), last_seq)
    return target_cursor(frequency, state.released, last_seq)


def start_cursor(day: date, state: RunState) -> Cursor:
    """Return the cursor of imported subscribers to whom the posts of `day` and later are due.

    Raises `UseError` if `day` is in the future: posts dated before that day would never be sent to
    them.
    """
    if day <= _today(state):
        return Cursor(day)
    hint = "leave it out, or give an earlier date"
    raise UseError([Problem("--from", message=f"{day} is in the future", hint=hint)])


def _today(state: RunState) -> date:
    return local_date(state.clock, ZoneInfo(state.zone))


# Rule 6: planning decides what an issue holds.


@frozen
class DuePosts:
    """The log entries that are due to a group, newest post first, and the cutoff of their issue.

    Without entries there is no issue, but the group's cursor is raised to the cutoff all the same.
    """

    group: Group
    cutoff: Cursor
    entries: tuple[LogEntry, ...]

    @property
    def cursor(self) -> Cursor:
        """The group's cursor, raised to the cutoff."""
        return raise_cursor(self.group.cursor, self.cutoff)

    @property
    def returned(self) -> tuple[LogEntry, ...]:
        """The entries of returned posts, which some of the group may have received already."""
        return tuple(entry for entry in self.entries if entry.returned)

    @property
    def issue(self) -> Issue | None:
        """The issue that holds the posts of all entries, None if there are no entries."""
        posts = tuple(entry.post_id for entry in self.entries)
        if not posts:
            return None
        return Issue(self.group.frequency, self.cutoff, posts, self.group.language)

    def without(self, posts: Collection[str]) -> DuePosts:
        """Return the due posts without the entries whose post ids are in `posts`.

        The result is due to the subscribers of the group who have received `posts` already.
        """
        rest = tuple(entry for entry in self.entries if entry.post_id not in posts)
        return evolve(self, entries=rest)


def due_posts(
    group: Group, target: Cursor, log: Iterable[LogEntry], visible: Mapping[str, VisiblePost]
) -> DuePosts:
    """Return the log entries that are due to `group`.

    `target` is the `target_cursor` of the run for the frequency of the group. The caller may leave
    out entries of `log` that are behind the group's cursor. The result holds all returned posts,
    although each may not be due to every subscriber of the group (see `DuePosts.returned`).
    """
    due = (entry for entry in log if _is_due(entry, group, target))
    return DuePosts(group, target, tuple(_matching(group, due, visible)))


def _is_due(entry: LogEntry, group: Group, target: Cursor) -> bool:
    if entry.retracted or is_delivered(entry, group.cursor):
        return False
    return group.frequency == "post" or entry.day < target.date


def _matching(
    group: Group, entries: Iterable[LogEntry], visible: Mapping[str, VisiblePost]
) -> list[LogEntry]:
    """Return the entries whose posts match the group's language and topics, newest post first.

    They are sorted by the dates of the posts. The order of the log would not do, as it depends on
    when runs happened.
    """

    def order(entry: LogEntry) -> tuple[date, datetime, str]:
        post = visible[entry.post_id]
        return post.day, post.published, post.id

    matching = (entry for entry in entries if _matches(group, entry, visible))
    return sorted(matching, key=order, reverse=True)


def _matches(group: Group, entry: LogEntry, visible: Mapping[str, VisiblePost]) -> bool:
    post = visible.get(entry.post_id)
    if post is None or not _covers(group.language, post.language):
        return False
    return not group.topics or not _slugs(group.topics).isdisjoint(_slugs(post.topics))


def _covers(chosen: str, language: str) -> bool:
    """Tell whether the language tag `chosen` covers `language` (RFC 4647 §3.3.1).

    `en` covers `en-US`, an empty tag covers all languages, and case does not count.
    """
    wanted, found = chosen.casefold(), language.casefold()
    return not wanted or found == wanted or found.startswith(f"{wanted}-")


def find_unmet_topics(chosen: Iterable[str], posted: Iterable[str]) -> list[str]:
    """Return the topics among `chosen` that no topic of a post in `posted` equals, sorted."""
    known = _slugs(frozenset(posted))
    return sorted(topic for topic in chosen if topic_slug(topic) not in known)


def find_unmet_languages(chosen: Iterable[str], posted: Collection[str]) -> list[str]:
    """Return the language tags among `chosen` that cover none of `posted`, sorted."""
    return sorted(tag for tag in chosen if not any(_covers(tag, found) for found in posted))


@lru_cache(maxsize=10_000)
def _slugs(topics: frozenset[str]) -> frozenset[str]:
    return frozenset(map(topic_slug, topics))


# Rule 7: a post that vanishes before its issue is retracted, and logged again when it returns.


def first_unreleased(frequencies: Iterable[Frequency], released: date) -> date:
    """Return the first day whose entries may still be due to somebody in a coming issue.

    It is the earliest of the last cutoffs of `frequencies`. Pass both the frequencies that the site
    offers and those that subscribers have, as they may have one that is no longer offered.
    """
    return min((cutoff_before(each, released) for each in frequencies), default=released)


# Rule 8: a run stops when something looks wrong.


def _missing_ids(posts: Iterable[VisiblePost]) -> list[Problem]:
    message = "is missing, so the post would be sent again if its file were renamed"
    hint = "run postroom check --fix, and commit the changes"
    return [
        Problem(post.path, key="id", message=message, hint=hint)
        for post in posts
        if not post.written
    ]


def _missing_posts(unreleased: Sequence[LogEntry], vanished: Sequence[LogEntry]) -> list[Problem]:
    if len(vanished) < 3 or 2 * len(vanished) <= len(unreleased):
        return []
    message = f"{len(vanished)} of the {len(unreleased)} posts of the coming issues have vanished"
    return [Problem("", message=message, hint="restore them, or repeat with --accept-missing")]


# Rules 9 and 11: an issue is frozen under one key, and a delivery has one Message-ID.


@lru_cache(maxsize=64)
def issue_key(issue: Issue) -> str:
    """Return a hexadecimal SHA-256 hash that is the same for equal issues only."""
    day, seq = issue.cutoff.date.isoformat(), issue.cutoff.seq
    return _hash([issue.frequency, day, seq, issue.language, *issue.posts])


def message_key(subscriber: int, issue: Issue) -> str:
    """Return a hexadecimal hash of a subscriber's id and an issue, for the Message-ID.

    It is the same in each attempt to deliver this issue to this subscriber.
    """
    return _hash([subscriber, issue_key(issue)])


def _hash(parts: Sequence[str | int]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


# Rule 13: a welcome issue holds older posts.


def make_welcome_issue(
    group: Group, log: Iterable[LogEntry], visible: Mapping[str, VisiblePost], limit: int = 5
) -> Issue | None:
    """Return the welcome issue with the newest `limit` posts before a confirmation.

    Return None if there are no such posts. `group` describes the new subscriber; its cursor is the
    one after the confirmation. The issue holds only posts of days before the date of the cursor,
    not those that are behind the cursor because of their seq: if such a post of the first day
    vanished and returned, rule 7 would send it again.
    """
    old = (entry for entry in log if not entry.retracted and entry.day < group.cursor.date)
    posts = tuple(entry.post_id for entry in _matching(group, old, visible)[:limit])
    return Issue("welcome", Cursor(date.min), posts, group.language) if posts else None
