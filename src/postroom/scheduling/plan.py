"""What a run finds → what it opens with, and the letters it plans, group by group.

`plan` shows this and `send` does it. The rows are only read here, so to show is safe, also before
the first run: what the opening would log is taken as logged. The order of a run that sends:

1. take the lease, `begin` on the state row, read the posts as they stand at the run's clock;
2. `look_ahead`, which may stop the run while nothing has been written;
3. sweep what a dead run left, and store the opening;
4. for each `Planned`: freeze and plan its letter, or raise the bookmarks of its members;
5. take up the welcome letters of `still_welcome`, and cancel what no plan took up.

A dry run leaves step 3 out: readers whose letter a dead run left on its way are in no `Planned`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, datetime, time, timedelta
from typing import Literal, Protocol, get_args
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from postroom.models import (
    Cursor,
    Frequency,
    Group,
    Issue,
    IssueSnapshot,
    LogEntry,
    RunState,
    Segment,
    Site,
    Subscriber,
)
from postroom.scheduling.rules import (
    DuePosts,
    LogUpdate,
    RunWindow,
    VisiblePost,
    advance_run,
    cutoff_before,
    due_posts,
    local_date,
    make_welcome_issue,
    target_cursor,
    to_instant,
    update_log,
)

NoIssueReason = Literal["not due", "nothing new", "another language", "other topics", "had already"]
"""Why members are sent nothing: no boundary has come since their last letter, nothing came, none
of it is in their language or on their topics, or they have had all that returned."""


class PostLogReader(Protocol):
    """What is needed of the log of arrivals and of the state row."""

    def entries(self) -> Generator[LogEntry, None, None]:
        """Yield every arrival, oldest first."""

    def state(self) -> RunState | None:
        """Return the state row."""


class SegmentReader(Protocol):
    """What is needed of the active subscribers, by what they are owed."""

    def groups(self) -> Generator[tuple[Group, int], None, None]:
        """Yield each group that has members."""

    def split_by_returned(
        self, group: Group, returned: Sequence[LogEntry], to: Cursor
    ) -> Iterable[tuple[Segment, int]]:
        """Divide the members whom `to` reaches by which of the `returned` posts they are owed."""

    def tokens(self, members: Segment, to: Cursor) -> Generator[str, None, None]:
        """Yield the tokens of the members whom `to` reaches."""

    def is_used(self, frequency: Frequency) -> bool:
        """Tell whether anybody who receives, or may again, chose `frequency`."""


@frozen
class PlanningStore:
    """The rows that planning reads."""

    post_log: PostLogReader
    segments: SegmentReader


@frozen
class PlanInput:
    """What a run goes by: its clock, the posts that are visible, and what it writes first.

    `log` is the log of arrivals as it stands after that.
    """

    run: RunWindow
    visible: Mapping[str, VisiblePost]
    update: LogUpdate
    log: tuple[LogEntry, ...]


@frozen
class PlannedSegment:
    """What a run does for some members of a group: a letter, or why there is none.

    `bookmark` is theirs once the letter is delivered; without one it is raised at once. `count` is
    how many of them the plan reaches, which are never none.
    """

    segment: Segment
    count: int
    cursor: Cursor
    issue: Issue | None
    reason: NoIssueReason | None = None


@frozen
class LateRun:
    """A run comes too late for the letters of `frequency`, which were due at the instant `due`."""

    frequency: Frequency
    due: datetime


def begin_run(book: PlanningStore, site: Site, now: datetime, *, yes: bool = False) -> RunWindow:
    """Return the run that starts at the instant `now`; read the posts at `release.clock`.

    Raises `StoppedError` if the clock is far ahead of the last run's, unless `yes` (rule 15).
    """
    send_at = time.fromisoformat(site.digest.send_at)
    return advance_run(book.post_log.state(), now, site.timezone, send_at, yes=yes)


def make_plan_input(
    book: PlanningStore,
    site: Site,
    run: RunWindow,
    news: Mapping[str, VisiblePost],
    *,
    accept_missing: bool = False,
) -> PlanInput:
    """Return what `run` goes by where `news` are the posts that are visible at its clock.

    Raises `StoppedError` where in doubt (rule 8); nothing has been written then.
    """
    before = tuple(book.post_log.entries())
    frequencies = [
        each
        for each in get_args(Frequency)
        if each in site.digest.offer or book.segments.is_used(each)
    ]
    first = update_log(run, before, news, frequencies, accept_missing=accept_missing)
    return PlanInput(run, news, first, first.log(before))


def plan_segments(book: PlanningStore, outlook: PlanInput) -> Iterator[PlannedSegment]:
    """Yield what is owed to each group of active subscribers, the letters and the bookmarks.

    What is yielded may be carried out before the next is asked for.
    """
    log, news = _Log(outlook.log), outlook.visible
    with closing(book.segments.groups()) as groups:
        for group, _ in groups:
            to = target_cursor(group.frequency, outlook.run.state.released, log.last)
            whole = due_posts(group, to, log.ahead_of(group.cursor), news)
            for members, count in book.segments.split_by_returned(
                group, whole.returned, whole.cursor
            ):
                part = whole.without({one.post_id for one in members.delivered})
                why = None if part.issue else _why(whole, log, news)
                yield PlannedSegment(members, count, part.cursor, part.issue, why)


def frequencies_due(book: PlanningStore, outlook: PlanInput) -> frozenset[Frequency]:
    """Return the frequencies of which a run has letters to send."""
    return frozenset(
        one.segment.group.frequency for one in plan_segments(book, outlook) if one.issue
    )


def find_late_run(
    owing: Collection[Frequency], release: RunState, send_at: time, window: timedelta
) -> LateRun | None:
    """Return what a run is too late for, or None where it is not.

    `owing` are the frequencies of which there are letters to send. The newest boundary of a week or
    a month among them counts; a day's is always new, so it counts only where there is no other, and
    who gets every post waits for no boundary.
    """
    zone, reached = ZoneInfo(release.zone), release.released
    periods: Sequence[Frequency] = [one for one in owing if one in {"week", "month"}]
    periods = periods or [one for one in owing if one == "day"]
    if not periods:
        return None
    newest, frequency = max((cutoff_before(one, reached), one) for one in periods)
    due = to_instant(newest, zone, send_at)
    return LateRun(frequency, due) if release.clock - due > window else None


def next_boundary(frequency: Frequency, day: date) -> date:
    """Return the first boundary of `frequency` after `day`."""
    day += timedelta(days=1)
    while cutoff_before(frequency, day) != day:
        day += timedelta(days=1)
    return day


def valid_welcome_issues(
    waiting: Iterable[IssueSnapshot], news: Mapping[str, VisiblePost]
) -> Iterator[int]:
    """Yield the ids of the `waiting` welcome letters that may be sent: all their posts are visible.

    A welcome letter is planned when its reader confirms; a run that plans another letter for the
    reader has put that in its place (rule 13).
    """
    return (letter.id for letter in waiting if all(post in news for post in letter.posts))


class _Log:
    """The arrivals that are not struck, so that those of one group are found without reading all.

    A hundred thousand posts and a thousand groups would be a hundred million looks otherwise.
    """

    def __init__(self, log: Sequence[LogEntry]) -> None:
        self.last = max((one.seq for one in log), default=0)
        self._live = sorted((one for one in log if not one.retracted), key=lambda one: one.day)
        self._days = [one.day for one in self._live]

    def ahead_of(self, bookmark: Cursor) -> Sequence[LogEntry]:
        """Return the arrivals of the day `before` and later; some may be behind by seq."""
        return self._live[bisect_left(self._days, bookmark.date) :]


def _why(whole: DuePosts, log: _Log, news: Mapping[str, VisiblePost]) -> NoIssueReason:
    """Return why nothing of what the group is owed, if anything, makes a letter."""
    group = whole.group
    if whole.entries:
        return "had already"
    if group.frequency != "post" and whole.cursor == group.cursor:
        return "not due"
    due = log.ahead_of(group.cursor)
    any_topic = evolve(group, topics=frozenset())
    if due_posts(any_topic, whole.cutoff, due, news).entries:
        return "other topics"
    if due_posts(evolve(any_topic, language=""), whole.cutoff, due, news).entries:
        return "another language"
    return "nothing new"


def welcome_issue(
    book: PlanningStore,
    site: Site,
    run: RunWindow,
    news: Mapping[str, VisiblePost],
    subscriber: Subscriber,
) -> Issue | None:
    """Return the letter that welcomes who has just confirmed for the first time, or None.

    It holds what was new before they came, and nothing where `digest.welcome` is off or nothing
    was (rule 13). Its boundary is the day, so that nobody's welcome bears an old date.
    """
    if not site.digest.welcome:
        return None
    chosen = subscriber.frequency, subscriber.cursor, subscriber.topics, subscriber.language
    letter = make_welcome_issue(Group(*chosen), book.post_log.entries(), news)
    today = local_date(run.state.clock, site.timezone)
    return evolve(letter, cutoff=Cursor(today)) if letter else None
