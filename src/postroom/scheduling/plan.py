"""Make the plan of a run: for each segment the issue that is due, or the reason why none is.

The command `plan` prints the plan, and `send` carries it out. This module writes nothing. It treats
the posts that the run would add to the post log as if they were logged already, so a plan can be
made at any time, even before the first run. A run of `send` does this:

1. acquire the lock, call `begin_run`, and read the posts as they stand at the run's clock;
2. call `make_plan_input`, which may stop the run while nothing has been stored;
3. mark deliveries that a crashed run left in `sending` as `uncertain`, and store the log update;
4. for each `PlannedSegment`, freeze and plan its issue, or raise the cursors of its subscribers;
5. keep the welcome issues of `valid_welcome_issues`, and cancel open deliveries of earlier plans
   that are not in this one.

`plan` leaves out step 3. After a crash, subscribers whose delivery is still in `sending` are
therefore missing from its segments.
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
"""Why a segment gets no issue.

`not due`: its next cutoff has not passed. `nothing new`: there are no new posts. `another language`
and `other topics`: the new posts are not in its language or not on its topics. `had already`: the
only new posts are posts that vanished and returned, which its subscribers have received before.
"""


# The database implements these protocols; scheduling must not import it.


class PostLogReader(Protocol):
    """Read access to the post log and the state row; `db.runs.PostLog` implements it."""

    def entries(self) -> Generator[LogEntry, None, None]:
        """Yield all entries, oldest first."""

    def state(self) -> RunState | None:
        """Return the state that the last run has stored, None before the first run."""


class SegmentReader(Protocol):
    """Read access to the active subscribers; `db.subscribers.SegmentTable` implements it."""

    def groups(self) -> Generator[tuple[Group, int], None, None]:
        """Yield each group and the number of its subscribers."""

    def split_by_returned(
        self, group: Group, returned: Sequence[LogEntry], target: Cursor
    ) -> Iterable[tuple[Segment, int]]:
        """Split `group` into segments, each of which is due the same posts among `returned`."""

    def tokens(self, segment: Segment, target: Cursor) -> Generator[str, None, None]:
        """Yield the unsubscribe tokens of subscribers in `segment` whose issue can be planned.

        `target` is the cursor that these subscribers have once the issue is delivered.
        """

    def is_used(self, frequency: Frequency) -> bool:
        """Tell whether a pending, active or paused subscriber has chosen `frequency`."""


@frozen
class PlanningStore:
    """The parts of the store that planning reads."""

    post_log: PostLogReader
    segments: SegmentReader


@frozen
class PlanInput:
    """The data that a plan is made from.

    `visible` are the visible posts by id, `update` the changes that this run makes to the post log,
    and `log` the post log with these changes applied.
    """

    run: RunWindow
    visible: Mapping[str, VisiblePost]
    update: LogUpdate
    log: tuple[LogEntry, ...]


@frozen
class PlannedSegment:
    """The issue that is planned for a segment, or the reason why there is none.

    `count` is the number of subscribers for whom the run plans; it is never 0. `cursor` is their
    new cursor: it is stored when the issue is delivered, or at once if there is no issue.
    """

    segment: Segment
    count: int
    cursor: Cursor
    issue: Issue | None
    reason: NoIssueReason | None = None


@frozen
class LateRun:
    """The fact that a run is too late.

    The run would send the issues of `frequency`, which were due at the instant `due`.
    """

    frequency: Frequency
    due: datetime


def begin_run(store: PlanningStore, site: Site, now: datetime, *, yes: bool = False) -> RunWindow:
    """Return the run that starts at the instant `now`.

    The caller then reads the posts as they stand at the run's `state.clock`. Raises `StoppedError`
    if `now` is much later than the last run, unless `yes` (delivery rules, rule 15).
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
    """Return the input for the plan of `run`; `visible` are the visible posts at its clock, by id.

    Raises `StoppedError` if a post has no id of its own or too many posts have vanished (delivery
    rules, rule 8; `accept_missing` allows the latter). Nothing has been stored then.
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

    The caller may store the issue or cursor of a segment before it asks for the next segment.
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
    """Return the frequencies for which the plan has an issue."""
    return frozenset(
        planned.segment.group.frequency
        for planned in plan_segments(store, plan_input)
        if planned.issue
    )


def find_late_run(
    due: Collection[Frequency], state: RunState, send_at: time, window: timedelta
) -> LateRun | None:
    """Return which issues a run would send too late, None if the run is in time.

    A run is late if it starts more than `window` after its issues were due; `due` are the
    frequencies of the issues in its plan. If weekly or monthly issues are among them, the newest of
    their cutoffs decides. Daily issues decide only if there are no others, because a daily cutoff
    is never more than a day old. Issues of frequency `post` are never late.
    """
    periods: Sequence[Frequency] = [each for each in due if each in {"week", "month"}]
    periods = periods or [each for each in due if each == "day"]
    if not periods:
        return None
    cutoff, frequency = max((cutoff_before(each, state.released), each) for each in periods)
    due_at = to_instant(cutoff, ZoneInfo(state.zone), send_at)
    return LateRun(frequency, due_at) if state.clock - due_at > window else None


def next_cutoff(frequency: Frequency, day: date) -> date:
    """Return the first cutoff of `frequency` that is after `day`."""
    day += timedelta(days=1)
    while cutoff_before(frequency, day) != day:
        day += timedelta(days=1)
    return day


def valid_welcome_issues(
    waiting: Iterable[IssueSnapshot], visible: Mapping[str, VisiblePost]
) -> Iterator[int]:
    """Yield the ids of those `waiting` welcome issues whose posts are all still visible.

    The others are not sent (delivery rules, rule 13).
    """
    return (issue.id for issue in waiting if all(post in visible for post in issue.posts))


class _Log:
    """The log entries that are not retracted, sorted by day.

    The order lets a plan read only the newest entries for each group. With a hundred thousand posts
    and a thousand groups, reading all of them would take a hundred million steps.
    """

    def __init__(self, log: Sequence[LogEntry]) -> None:
        self.last_seq = max((entry.seq for entry in log), default=0)
        live = (entry for entry in log if not entry.retracted)
        self._entries = sorted(live, key=lambda entry: entry.day)
        self._days = [entry.day for entry in self._entries]

    def ahead_of(self, cursor: Cursor) -> Sequence[LogEntry]:
        """Return the entries with the date of `cursor` or a later one.

        Some of them may be behind the cursor all the same, because of their seq.
        """
        return self._entries[bisect_left(self._days, cursor.date) :]


def _reason(whole: DuePosts, log: _Log, visible: Mapping[str, VisiblePost]) -> NoIssueReason:
    """Return why a segment gets no issue; `whole` are the posts due to its whole group."""
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
    """Return the welcome issue for a subscriber who confirms for the first time.

    It holds posts from before the confirmation (delivery rules, rule 13). Return None if
    `digest.welcome` is off or there are no such posts. The cutoff of the issue is the current date,
    which is also the date that the issue shows.
    """
    if not site.digest.welcome:
        return None
    group = Group(subscriber.frequency, subscriber.cursor, subscriber.topics, subscriber.language)
    issue = make_welcome_issue(group, store.post_log.entries(), visible)
    today = local_date(run.state.clock, site.timezone)
    return evolve(issue, cutoff=Cursor(today)) if issue else None
