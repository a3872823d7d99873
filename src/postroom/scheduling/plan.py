"""The plan of a run: the issues that are due, segment by segment, or why none is.

`plan` prints it and `send` carries it out. This module only reads, and what the run would log first
counts as logged; so a plan is safe to make at any time, also before the first run. A run that
sends does this:

1. take the lock, call `begin_run`, read the posts as they stand at the run's clock;
2. call `make_plan_input`, which may stop the run while nothing has been stored;
3. mark what a crashed run left in `sending` as `uncertain`, and store the log update;
4. for each `PlannedSegment`, freeze and plan its issue, or raise the cursors of its subscribers;
5. keep the welcome issues of `valid_welcome_issues`, and cancel deliveries that no plan took up.

`plan` leaves out step 3, so subscribers whose email a crashed run left in `sending` are in no
`PlannedSegment`.
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
"""Why a segment is sent nothing: its next cutoff has not passed, no post is new, the new posts are
in other languages or on other topics, or its subscribers have received all posts that returned."""


# The database implements these protocols; scheduling must not import it.


class PostLogReader(Protocol):
    """The post log and the state row, as `db.runs.PostLog` reads them."""

    def entries(self) -> Generator[LogEntry, None, None]:
        """Yield all entries, oldest first."""

    def state(self) -> RunState | None:
        """Return the state row, None before the first run."""


class SegmentReader(Protocol):
    """The active subscribers by group, as `db.subscribers.SegmentTable` reads them."""

    def groups(self) -> Generator[tuple[Group, int], None, None]:
        """Yield each group and the number of its subscribers."""

    def split_by_returned(
        self, group: Group, returned: Sequence[LogEntry], target: Cursor
    ) -> Iterable[tuple[Segment, int]]:
        """Return the segments of `group`, by the `returned` posts that are due to them."""

    def tokens(self, segment: Segment, target: Cursor) -> Generator[str, None, None]:
        """Yield the tokens of the subscribers for whom `target` can be planned."""

    def is_used(self, frequency: Frequency) -> bool:
        """Tell whether a subscriber who is not unsubscribed or suppressed has `frequency`."""


@frozen
class PlanningStore:
    """The parts of the store that planning reads."""

    post_log: PostLogReader
    segments: SegmentReader


@frozen
class PlanInput:
    """The input of a plan: the run, the visible posts, and the log update of the run.

    `log` is the post log after the update.
    """

    run: RunWindow
    visible: Mapping[str, VisiblePost]
    update: LogUpdate
    log: tuple[LogEntry, ...]


@frozen
class PlannedSegment:
    """The issue for a segment, or the reason why there is none.

    `cursor` is the segment's cursor once the issue is delivered, or at once if there is no issue.
    `count` is the number of subscribers for whom the run plans; it is never 0.
    """

    segment: Segment
    count: int
    cursor: Cursor
    issue: Issue | None
    reason: NoIssueReason | None = None


@frozen
class LateRun:
    """A run that is too late for the issues of `frequency`, which were due at the instant `due`."""

    frequency: Frequency
    due: datetime


def begin_run(store: PlanningStore, site: Site, now: datetime, *, yes: bool = False) -> RunWindow:
    """Return the run that starts at the instant `now`; read the posts at its `state.clock`.

    Raises `StoppedError` if the clock is far ahead of the last run's, unless `yes` (rule 15).
    """
    send_at = time.fromisoformat(site.digest.send_at)
    return advance_run(store.post_log.state(), now, site.timezone, send_at, yes=yes)


def make_plan_input(
    store: PlanningStore,
    site: Site,
    run: RunWindow,
    visible: Mapping[str, VisiblePost],
    *,
    accept_missing: bool = False,
) -> PlanInput:
    """Return the input for the plan of `run`; `visible` are the posts at its clock.

    Raises `StoppedError` if something looks wrong (rule 8); nothing has been stored then.
    """
    log = tuple(store.post_log.entries())
    frequencies = [
        frequency
        for frequency in get_args(Frequency)
        if frequency in site.digest.offer or store.segments.is_used(frequency)
    ]
    update = update_log(run, log, visible, frequencies, accept_missing=accept_missing)
    return PlanInput(run, visible, update, update.log(log))


def plan_segments(store: PlanningStore, plan_input: PlanInput) -> Iterator[PlannedSegment]:
    """Yield the plan for all active subscribers, segment by segment.

    Each segment may be carried out before the next is read.
    """
    log, visible = _Log(plan_input.log), plan_input.visible
    with closing(store.segments.groups()) as groups:
        for group, _ in groups:
            target = target_cursor(group.frequency, plan_input.run.state.released, log.last_seq)
            whole = due_posts(group, target, log.ahead_of(group.cursor), visible)
            for segment, count in store.segments.split_by_returned(
                group, whole.returned, whole.cursor
            ):
                part = whole.without({entry.post_id for entry in segment.delivered})
                reason = None if part.issue else _reason(whole, log, visible)
                yield PlannedSegment(segment, count, part.cursor, part.issue, reason)


def frequencies_due(store: PlanningStore, plan_input: PlanInput) -> frozenset[Frequency]:
    """Return the frequencies of the issues that a run plans."""
    return frozenset(
        planned.segment.group.frequency
        for planned in plan_segments(store, plan_input)
        if planned.issue
    )


def find_late_run(
    due: Collection[Frequency], state: RunState, send_at: time, window: timedelta
) -> LateRun | None:
    """Return the issues for which a run is more than `window` late, None if it is in time.

    `due` are the frequencies of the planned issues. The newest weekly or monthly cutoff counts; a
    daily cutoff is always new, so it counts only if there is no other. Frequency `post` is never
    late.
    """
    periods: Sequence[Frequency] = [each for each in due if each in {"week", "month"}]
    periods = periods or [each for each in due if each == "day"]
    if not periods:
        return None
    cutoff, frequency = max((cutoff_before(each, state.released), each) for each in periods)
    due_at = to_instant(cutoff, ZoneInfo(state.zone), send_at)
    return LateRun(frequency, due_at) if state.clock - due_at > window else None


def next_cutoff(frequency: Frequency, day: date) -> date:
    """Return the first cutoff of `frequency` after `day`."""
    day += timedelta(days=1)
    while cutoff_before(frequency, day) != day:
        day += timedelta(days=1)
    return day


def valid_welcome_issues(
    waiting: Iterable[IssueSnapshot], visible: Mapping[str, VisiblePost]
) -> Iterator[int]:
    """Yield the ids of the `waiting` welcome issues whose posts are all visible (rule 13)."""
    return (issue.id for issue in waiting if all(post in visible for post in issue.posts))


class _Log:
    """The entries that are not retracted, sorted by day.

    With a hundred thousand posts and a thousand groups, reading all entries for each group would
    take a hundred million steps.
    """

    def __init__(self, log: Sequence[LogEntry]) -> None:
        self.last_seq = max((entry.seq for entry in log), default=0)
        live = (entry for entry in log if not entry.retracted)
        self._entries = sorted(live, key=lambda entry: entry.day)
        self._days = [entry.day for entry in self._entries]

    def ahead_of(self, cursor: Cursor) -> Sequence[LogEntry]:
        """Return the entries of the cursor's date and later; some may be behind it by seq."""
        return self._entries[bisect_left(self._days, cursor.date) :]


def _reason(whole: DuePosts, log: _Log, visible: Mapping[str, VisiblePost]) -> NoIssueReason:
    """Return why a segment of the group gets no issue."""
    group = whole.group
    if whole.entries:
        return "had already"
    if group.frequency != "post" and whole.cursor == group.cursor:
        return "not due"
    entries = log.ahead_of(group.cursor)
    any_topic = evolve(group, topics=frozenset())
    if due_posts(any_topic, whole.cutoff, entries, visible).entries:
        return "other topics"
    if due_posts(evolve(any_topic, language=""), whole.cutoff, entries, visible).entries:
        return "another language"
    return "nothing new"


def welcome_issue(
    store: PlanningStore,
    site: Site,
    run: RunWindow,
    visible: Mapping[str, VisiblePost],
    subscriber: Subscriber,
) -> Issue | None:
    """Return the welcome issue for a subscriber who confirms for the first time, or None.

    It holds posts from before the confirmation (rule 13). There is none if `digest.welcome` is off
    or there are no such posts. Its cutoff is the current date, so that it is dated today.
    """
    if not site.digest.welcome:
        return None
    group = Group(subscriber.frequency, subscriber.cursor, subscriber.topics, subscriber.language)
    issue = make_welcome_issue(group, store.post_log.entries(), visible)
    today = local_date(run.state.clock, site.timezone)
    return evolve(issue, cutoff=Cursor(today)) if issue else None
