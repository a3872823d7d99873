"""The rules that decide which posts are due to whom, in the order of docs/delivery-rules.md.

All functions are pure: clock, calendar, log and posts are arguments.
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
    """A run: the state row that the last run stored, and the one that this run stores.

    `last` is None before the first run. The run reads the posts as they stand at `state.clock`.
    """

    last: RunState | None
    state: RunState


def advance_run(
    last: RunState | None, now: datetime, zone: ZoneInfo, send_at: time, *, yes: bool = False
) -> RunWindow:
    """Return the run that starts at the instant `now`; clock, `released` and `floor` never fall.

    `send_at` is a local time in `zone`. Raises `StoppedError` if `now` is more than
    `LATE_TOLERANCE` after the clock of the last run, unless `yes` (rule 15).
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
    return Problem("", message=message, hint="set the clock, or repeat with --yes if it is right")


def released_date(clock: datetime, zone: ZoneInfo, send_at: time) -> date:
    """Return the newest date whose `send_at` in `zone` is not after the instant `clock`.

    If daylight saving time skips or repeats `send_at`, it counts once, by the offset before the
    change.
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

    `language` is never empty. `written` is false if the post's front matter has no id, so that the
    id was made from the path and changes with it.
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
    """Return the visible posts among the published `posts`, by id.

    `language` is the site's; `derived` are the ids that were made from paths.
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
    """The changes that a run stores in one transaction before it plans.

    They are new entries, retractions and the state row.

    If cursors moved without the state row, they would pass posts that are logged after a crash.
    """

    state: RunState
    entries: tuple[LogEntry, ...]
    retracted: tuple[int, ...]

    def log(self, before: Sequence[LogEntry]) -> tuple[LogEntry, ...]:
        """Return the log after this update, given the log `before` it."""
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
    """Return what `run` stores before it plans (rules 2, 7 and 8).

    `log` is the whole log, oldest first; for `frequencies` see `first_unreleased`. Raises
    `StoppedError` if an unreleased post has no written id, or if at least three and more than half
    of the unreleased entries have lost their posts and `accept_missing` is false.
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
    """Yield an entry for each post that is new, or visible again after a retraction."""
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

    In the first run after a change of zone, a post dated by the new calendar may be for
    subscribers who confirmed by the old one. It counts as of the date that the old calendar showed
    while the new one showed `day`.
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
    """Tell whether `entry` is behind `cursor`, so that it is not due any more."""
    return entry.day < cursor.date or entry.seq <= cursor.seq


def raise_cursor(cursor: Cursor, target: Cursor) -> Cursor:
    """Return `cursor` raised to `target`: the later of both, part by part."""
    return Cursor(max(cursor.date, target.date), max(cursor.seq, target.seq))


def target_cursor(frequency: Frequency, released: date, last_seq: int) -> Cursor:
    """Return the cursor to which an issue of `frequency` raises the cursors of its subscribers.

    An issue raises one part; the other one is the lowest there is, so that it changes nothing.
    """
    if frequency == "post":
        return Cursor(date.min, last_seq)
    return Cursor(cutoff_before(frequency, released))


# Rule 5: a confirmation starts at a cutoff.


def confirmation_cursor(frequency: Frequency, state: RunState, last_seq: int) -> Cursor:
    """Return the cursor of a subscriber who confirms at `state.clock`, or is imported then.

    `state` is the row that a run would store at this instant, `advance_run(…, yes=True).state`.
    """
    if frequency == "post":
        return Cursor(_today(state), last_seq)
    return target_cursor(frequency, state.released, last_seq)


def start_cursor(day: date, state: RunState) -> Cursor:
    """Return the cursor of imported subscribers to whom the posts of `day` and later are due.

    Raises `UseError` if `day` is in the future: the posts until then would be lost.
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

    If there are no entries, there is no issue, and the group's cursor moves all the same.
    """

    group: Group
    cutoff: Cursor
    entries: tuple[LogEntry, ...]

    @property
    def cursor(self) -> Cursor:
        """The group's cursor after the issue, or after it was found that there is none."""
        return raise_cursor(self.group.cursor, self.cutoff)

    @property
    def returned(self) -> tuple[LogEntry, ...]:
        """The entries that are not due to all of the group, as some have received the posts."""
        return tuple(entry for entry in self.entries if entry.returned)

    @property
    def issue(self) -> Issue | None:
        """The issue that holds all these posts, or None without posts."""
        posts = tuple(entry.post_id for entry in self.entries)
        if not posts:
            return None
        return Issue(self.group.frequency, self.cutoff, posts, self.group.language)

    def without(self, posts: Collection[str]) -> DuePosts:
        """Return what is due to those of the group to whom `posts`, by id, are not due."""
        rest = tuple(entry for entry in self.entries if entry.post_id not in posts)
        return evolve(self, entries=rest)


def due_posts(
    group: Group, target: Cursor, log: Iterable[LogEntry], visible: Mapping[str, VisiblePost]
) -> DuePosts:
    """Return what is due to `group` in a run whose `target_cursor` for its frequency is `target`.

    Entries of `log` behind the group's cursor may be left out. Whether a returned post is due
    depends on the subscriber: see `DuePosts.returned`.
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
    """Return the entries that match the group, newest post first.

    The order is that of the posts, since the order of the log depends on when runs happened.
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


@lru_cache(maxsize=10_000)
def _slugs(topics: frozenset[str]) -> frozenset[str]:
    return frozenset(map(topic_slug, topics))


# Rule 7: a post that vanishes before its issue is retracted, and logged again when it returns.


def first_unreleased(frequencies: Iterable[Frequency], released: date) -> date:
    """Return the first day whose entries may still be due to somebody in a coming issue.

    It is the earliest of the last cutoffs of `frequencies`. Pass the frequencies that are offered
    and those that subscribers have: a frequency may no longer be offered.
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
    """Return the identity of `issue` as a hexadecimal SHA-256 hash."""
    day, seq = issue.cutoff.date.isoformat(), issue.cutoff.seq
    return _hash([issue.frequency, day, seq, issue.language, *issue.posts])


def message_key(subscriber: int, issue: Issue) -> str:
    """Return the part of a Message-ID that stays the same in each attempt; hexadecimal."""
    return _hash([subscriber, issue_key(issue)])


def _hash(parts: Sequence[str | int]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


# Rule 13: a welcome issue holds older posts.


def make_welcome_issue(
    group: Group, log: Iterable[LogEntry], visible: Mapping[str, VisiblePost], limit: int = 5
) -> Issue | None:
    """Return the welcome issue with the newest `limit` posts before a confirmation, or None.

    `group` has the cursor that the confirmation raised. Entries that are behind it by seq alone
    are left out: their day is the start's, so rule 7 would send their posts again if they vanished
    and returned.
    """
    old = (entry for entry in log if not entry.retracted and entry.day < group.cursor.date)
    posts = tuple(entry.post_id for entry in _matching(group, old, visible)[:limit])
    return Issue("welcome", Cursor(date.min), posts, group.language) if posts else None
