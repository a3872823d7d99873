"""The phases of a run: plan the issues that are due, freeze their content, and send them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime

from attrs import field, frozen

from postroom.db.bounces import BounceTable
from postroom.db.ownership import LedgerPlace
from postroom.db.store import Store
from postroom.errors import DatabaseError, Problem, StoppedError
from postroom.mail.bounce_policy import COMPLAINT_SPAN, exceeds_complaint_limit
from postroom.models import Issue, Site, Subscriber
from postroom.scheduling.plan import (
    PlanInput,
    PlanningStore,
    begin_run,
    make_plan_input,
    plan_segments,
    valid_welcome_issues,
    welcome_issue,
)
from postroom.send.content import ContentSource, ResolvedIssue, freeze_issue, resolve_issue
from postroom.send.dispatch import Counts, Dispatcher
from postroom.send.outcomes import Clock
from postroom.send.plan_file import ApprovedIssue, ApprovedPlan, plan_difference
from postroom.send.pool import Transport
from postroom.send.queue import PlannedQueue, Sender, UncertainQueue


def require_few_complaints(bounces: BounceTable, now: datetime) -> None:
    """Raise `StoppedError` if too many emails were reported as spam in the last 30 days."""
    complaints, emails = bounces.complaints(now - COMPLAINT_SPAN)
    if exceeds_complaint_limit(complaints, emails):
        days = COMPLAINT_SPAN.days
        message = f"{complaints:,} complaints about {emails:,} emails in {days} days, 0.3 % or more"
        hint = (
            "email only people who asked for it, or providers will refuse all your mail; "
            "--despite-complaints sends nevertheless"
        )
        raise StoppedError([Problem("send", message=message, hint=hint)])


def send_welcome(
    store: Store,
    site: Site,
    content: ContentSource,
    now: datetime,
    new_subscribers: Iterable[Subscriber],
) -> int:
    """Plan a welcome email for each of `new_subscribers`, who have just become active.

    Return the number of emails planned; before the first run it is 0. Raises the same errors as
    `ContentSource.visible_posts` and `ContentSource.render`.
    """
    if not site.digest.welcome:
        return 0
    reader = PlanningStore(store.post_log, store.segments)
    # As if a run began now. It is not stored, so it does not matter how long the last is ago.
    run = begin_run(reader, site, now, yes=True)
    visible = content.visible_posts(run.state.clock)
    welcomed = 0
    for subscriber in new_subscribers:
        issue = welcome_issue(reader, site, run, visible, subscriber)
        if issue:
            number = store.issues.freeze(freeze_issue(issue, run.state.clock, content.render))
            welcomed += store.deliveries.plan_welcome(subscriber.id, number, run.state.clock)
    return welcomed


@frozen
class Overrides:
    """The decisions of the operator that change what a run does.

    `yes`: go on although the clock is far ahead of the last run (delivery rules, rule 15).
    `accept_missing`: go on although many posts have vanished (rule 8). `plan`: send nothing that is
    not in this approved plan. `refresh`: use the edited posts for subscribers who have not received
    an issue yet.
    """

    yes: bool = False
    accept_missing: bool = False
    refresh: bool = False
    plan: ApprovedPlan | None = None


@frozen
class SendPlan:
    """A summary of the plan of a run.

    `clock` is the instant of the run, `issues` the number of issues, and `subscribers` the number
    of deliveries to send now. `waiting` is the number of deferred deliveries whose delay is not
    over, and `uncertain` that of uncertain deliveries that nobody has acknowledged. `outdated`
    holds the dates of issues that keep their old content, although the posts have changed, because
    some subscribers have received them already.
    """

    clock: datetime
    issues: int
    subscribers: int
    waiting: int = 0
    uncertain: int = 0
    outdated: tuple[datetime, ...] = ()


def look_up_posts(
    store: Store, site: Site, content: ContentSource, now: datetime, overrides: Overrides
) -> PlanInput:
    """Read the posts, and return the input for the plan of a run that starts at `now`.

    Write nothing. Raises `StoppedError` if the operator must decide first, and the same errors as
    `ContentSource.visible_posts`.
    """
    reader = PlanningStore(store.post_log, store.segments)
    run = begin_run(reader, site, now, yes=overrides.yes)
    visible = content.visible_posts(run.state.clock)
    return make_plan_input(reader, site, run, visible, accept_missing=overrides.accept_missing)


def compare_with_plan(
    store: Store, content: ContentSource, plan_input: PlanInput, approved: ApprovedPlan
) -> None:
    """Check that a run would send nothing that is not in the approved plan; write nothing.

    The run may send fewer issues, or to fewer subscribers, than the plan holds: people unsubscribe,
    or have received their issue in the meantime. Welcome emails need no approval, since each goes
    to a single person and holds posts that an earlier run has logged. Raises `StoppedError` if the
    check fails.
    """
    approved.require_visible(plan_input.visible)
    found: dict[Issue, ApprovedIssue] = {}
    unapproved = 0
    for segment in plan_segments(PlanningStore(store.post_log, store.segments), plan_input):
        if segment.issue is None:
            continue
        if segment.issue not in found:
            clock = plan_input.run.state.clock
            resolved = resolve_issue(store.issues, segment.issue, clock, content.render)
            found[segment.issue] = approved.find(resolved.issue)
        recipients = found[segment.issue]
        tokens = store.segments.tokens(segment.segment, segment.cursor)
        unapproved += sum(not recipients.includes(token) for token in tokens)
    _require_none(unapproved)


def compare_planned(store: Store, run: int, approved: ApprovedPlan) -> None:
    """Check that the deliveries that `run` has planned are in the approved plan.

    Call this before any email is sent. It repeats the check of `compare_with_plan`, as people may
    have subscribed or changed their preferences in between. Raises `StoppedError` if the check
    fails.
    """
    found: dict[int, ApprovedIssue | None] = {}
    unapproved = 0
    for number, token in store.issues.open_in(run):
        if number not in found:
            issue = store.issues.find(number)
            is_exempt = issue is None or issue.frequency == "welcome"
            found[number] = None if issue is None or is_exempt else approved.find(issue)
        recipients = found[number]
        unapproved += recipients is not None and not recipients.includes(token)
    _require_none(unapproved)


def _require_none(unapproved: int) -> None:
    if unapproved:
        who = f"{unapproved:,} subscriber{'s' * (unapproved != 1)}"
        raise plan_difference(f"{who} would receive an issue that is not in the plan")


def settle_log(store: Store, run: int, plan_input: PlanInput) -> None:
    """Mark deliveries that a crashed run left in `sending` as uncertain; store the log update."""
    # Before anything is planned: an email that may have arrived must not be planned again.
    store.deliveries.sweep(run, plan_input.run.state.clock)
    update = plan_input.update
    store.post_log.apply(update.entries, update.retracted, update.state)


def plan_issues(
    store: Store, run: int, content: ContentSource, plan_input: PlanInput, *, refresh: bool = False
) -> SendPlan:
    """Freeze the issues that are due, plan their deliveries, and return a summary.

    For `refresh` see `Overrides`.
    """
    clock = plan_input.run.state.clock
    issues = _plan_segments(store, run, content, plan_input, refresh=refresh)
    for number in valid_welcome_issues(store.issues.waiting("welcome"), plan_input.visible):
        store.deliveries.adopt(run, number)
    store.deliveries.cancel_stale(run, clock)
    store.deliveries.retry_deferred(run, clock)
    # Every other deferred row was cancelled as stale.
    waiting = store.deliveries.count_by_state().get("deferred", 0)
    outdated = sorted(found.issue.date for found in issues.values() if found.is_outdated)
    subscribers, uncertain = store.deliveries.count_planned(run), store.deliveries.count_uncertain()
    return SendPlan(clock, len(issues), subscribers, waiting, uncertain, tuple(outdated))


def _plan_segments(
    store: Store, run: int, content: ContentSource, plan_input: PlanInput, *, refresh: bool
) -> Mapping[Issue, ResolvedIssue]:
    """Plan deliveries or raise cursors, segment by segment; return the issues with content."""
    clock = plan_input.run.state.clock
    resolved: dict[Issue, ResolvedIssue] = {}
    numbers: dict[Issue, int] = {}
    for segment in plan_segments(PlanningStore(store.post_log, store.segments), plan_input):
        issue = segment.issue
        if issue is None:
            store.segments.raise_cursors(segment.segment, segment.cursor)
            continue
        if issue not in resolved:
            found = resolve_issue(store.issues, issue, clock, content.render, refresh=refresh)
            resolved[issue] = found
            numbers[issue] = found.issue.id or store.issues.freeze_anew(found.issue)
        store.deliveries.plan(run, segment.segment, numbers[issue], segment.cursor, clock)
    return resolved


@frozen
class SendResult:
    """The result of a run; `finished` is false if a signal ended it early.

    `counts` is the number of deliveries that got an outcome, by state; `refused` counts those of
    them that were refused permanently. `uncertain` is the number of uncertain deliveries, of this
    run and of earlier ones, that nobody has acknowledged.
    """

    plan: SendPlan
    counts: Counts
    refused: Counts
    uncertain: int
    finished: bool


@frozen
class SendContext:
    """The services that a run uses.

    The database must be claimed for `place`. `is_stopped` tells whether a signal has asked the run
    to end; `report` receives the number of deliveries by state while the run sends.
    """

    store: Store
    site: Site
    content: ContentSource
    sender: Sender
    transport: Transport
    clock: Clock
    place: LedgerPlace
    is_stopped: Callable[[], bool] = field(default=lambda: False)
    report: Callable[[Counts], None] = field(default=lambda _: None)


def send(
    context: SendContext, overrides: Overrides, announce: Callable[[SendPlan], None]
) -> SendResult:
    """Plan the issues that are due and send them; call `announce` before the first email.

    Raises `LeaseError` while another run is sending, `StoppedError` if the run must not go on,
    `RelayError`, `DatabaseError`, and the same errors as `ContentSource.visible_posts` and
    `ContentSource.render`. After each of them the delivery ledger is correct, and the next run
    continues from there.
    """
    store, content = context.store, context.content
    with _run(context) as run:
        plan_input = look_up_posts(store, context.site, content, context.clock(), overrides)
        if overrides.plan:
            compare_with_plan(store, content, plan_input, overrides.plan)
        settle_log(store, run, plan_input)
        plan = plan_issues(store, run, content, plan_input, refresh=overrides.refresh)
        if overrides.plan:
            compare_planned(store, run, overrides.plan)
        announce(plan)
        clock = _not_before(plan.clock, context.clock)
        queue = PlannedQueue(store, run, clock, context.sender, context.transport.to_wire)
        return _deliver(context, queue, plan)


def resend_uncertain(context: SendContext, announce: Callable[[SendPlan], None]) -> SendResult:
    """Send the uncertain deliveries that nobody has acknowledged once more, and nothing else.

    Raises the same errors as `send`.
    """
    store, now = context.store, context.clock()
    with _run(context) as run:
        state = store.post_log.state()
        start = max(now, state.clock) if state else now
        visible = context.content.visible_posts(start)
        store.deliveries.sweep(run, start)
        plan = SendPlan(start, 0, store.deliveries.count_uncertain())
        announce(plan)
        clock, to_wire = _not_before(start, context.clock), context.transport.to_wire
        queue = UncertainQueue(store, run, clock, context.sender, to_wire, context.content, visible)
        return _deliver(context, queue, plan)


def _deliver(context: SendContext, queue: PlannedQueue, plan: SendPlan) -> SendResult:
    """Send the deliveries of `queue`, and return the result of the run."""
    deliveries = context.store.deliveries
    if not plan.subscribers:
        return SendResult(plan, {}, {}, deliveries.count_uncertain(), finished=True)
    dispatcher = Dispatcher(
        queue, context.transport, is_stopped=context.is_stopped, report=context.report
    )
    counts = dispatcher.run(plan.subscribers)
    uncertain = deliveries.count_uncertain()
    finished = not context.is_stopped()
    return SendResult(plan, counts, dispatcher.refused, uncertain, finished=finished)


@contextmanager
def _run(context: SendContext) -> Iterator[int]:
    """Begin a run, which holds the lease during the block, and end it; yield its id."""
    run = context.store.runs.begin(context.clock(), context.place)
    try:
        yield run
    finally:
        # An error of the block matters more; the lease ends with the process anyway.
        with suppress(DatabaseError):
            context.store.runs.end(run, context.clock())


def _not_before(start: datetime, clock: Clock) -> Clock:
    """Return a clock that never returns an earlier time than `start` (delivery rules, rule 1)."""
    return lambda: max(start, clock())
