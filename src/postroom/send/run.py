"""Too many complaints stop the next letter, until a person has looked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Protocol

from attrs import frozen

from postroom.db.store import Store
from postroom.errors import DatabaseError, Problem, StoppedError
from postroom.mail.bounce_policy import COMPLAINT_SPAN, exceeds_complaint_limit
from postroom.models import Issue, Site, Subscriber
from postroom.newsletter import personalize
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
from postroom.send.plan_file import ApprovedIssue, ApprovedPlan, find_difference
from postroom.send.pool import Transport
from postroom.send.queue import PlannedQueue, Sender, UncertainQueue
from postroom.settings.site import FILE_NAME


class ComplaintStore(Protocol):
    """What is needed of the reports that came back."""

    def complaints(self, since: datetime) -> tuple[int, int]:
        """Return how many complaints came and how many letters were sent since an instant."""


def require_few_complaints(reports: ComplaintStore, now: datetime) -> None:
    """Raise `StoppedError` if too many of the letters of the last 30 days were called spam."""
    complaints, letters = reports.complaints(now - COMPLAINT_SPAN)
    if exceeds_complaint_limit(complaints, letters):
        days = COMPLAINT_SPAN.days
        what = f"{complaints} complaints about {letters:,} letters in {days} days, 0.3 % or more"
        repair = (
            "ask only those who asked for it, or providers will refuse all your mail; "
            "--despite-complaints sends nevertheless"
        )
        raise StoppedError([Problem("send", message=what, hint=repair)])


def send_welcome(
    store: Store, site: Site, desk: ContentSource, now: datetime, newcomers: Iterable[Subscriber]
) -> int:
    """Plan a welcome letter for each of `newcomers`, active since their first confirmation.

    Returns for how many. Before the first run there is nothing to welcome with. Raises what
    reading the posts and writing the letter raises.
    """
    if not site.digest.welcome:
        return 0
    book = PlanningStore(store.post_log, store.segments)
    # As if a run began now, which is not stored; nor does it matter how long the last is ago.
    run = begin_run(book, site, now, yes=True)
    news = desk.visible_posts(run.state.clock)
    greeted = 0
    for newcomer in newcomers:
        letter = welcome_issue(book, site, run, news, newcomer)
        if letter:
            number = store.issues.freeze(freeze_issue(letter, run.state.clock, desk.render))
            greeted += store.deliveries.plan_welcome(newcomer.id, number, run.state.clock)
    return greeted


@frozen
class Overrides:
    """What a person has agreed to beforehand, where a run would otherwise stop and ask.

    `yes`: the clock is right although it is far ahead (rule 15). `accept_missing`: the posts that
    vanished are meant to be gone (rule 8). `plan`: nothing but these letters may be sent. `anew`:
    letters that some have already may say something else to the others.
    """

    yes: bool = False
    accept_missing: bool = False
    anew: bool = False
    plan: ApprovedPlan | None = None


@frozen
class SendPlan:
    """What a run has planned: by which clock, how many different letters, and to how many.

    `waiting` letters were put off by the mail server, and it is not yet time to try them again.
    `uncertain` deliveries of earlier runs are open. `outdated` are the instants at which letters
    were written that keep their words, since some have them already.
    """

    clock: datetime
    issues: int
    subscribers: int
    waiting: int = 0
    uncertain: int = 0
    outdated: tuple[datetime, ...] = ()


def missing_settings(site: Site) -> Iterator[Problem]:
    """Yield what the settings lack for letters to be sent."""
    yield from personalize.missing_mail_settings(site)
    if not site.contact.address:
        # 16 CFR 316.2(p) and 15 USC 7704(a)(5) in the United States, and their kin elsewhere.
        what, repair = "letters need a postal address", "write where your company is"
        yield Problem(FILE_NAME, key="contact.address", message=what, hint=repair)


def look_up_posts(
    store: Store, site: Site, desk: ContentSource, now: datetime, consent: Overrides
) -> PlanInput:
    """Return what a run that starts at `now` goes by; nothing is written.

    Raises `StoppedError` where in doubt, and what reading the posts raises.
    """
    book = PlanningStore(store.post_log, store.segments)
    this = begin_run(book, site, now, yes=consent.yes)
    news = desk.visible_posts(this.state.clock)
    return make_plan_input(book, site, this, news, accept_missing=consent.accept_missing)


def compare_with_plan(
    store: Store, desk: ContentSource, outlook: PlanInput, approval: ApprovedPlan
) -> None:
    """Make sure that a run would send nothing that is not in the plan; nothing is written.

    Fewer readers, or fewer letters, are no fault: some have left, or have had theirs. Welcome
    letters are not looked at: they answer one person, with posts that an earlier run knew. Raises
    `StoppedError`.
    """
    approval.require_visible(outlook.visible)
    found: dict[Issue, ApprovedIssue] = {}
    strangers = 0
    for one in plan_segments(PlanningStore(store.post_log, store.segments), outlook):
        if one.issue is None:
            continue
        if one.issue not in found:
            clock = outlook.run.state.clock
            found[one.issue] = approval.find(
                resolve_issue(store.issues, one.issue, clock, desk.render).issue
            )
        may = found[one.issue]
        readers = store.segments.tokens(one.segment, one.cursor)
        strangers += sum(not may.includes(token) for token in readers)
    _require_none(strangers)


def compare_planned(store: Store, run: int, approval: ApprovedPlan) -> None:
    """Do the same with what stands in the ledger as the plan of `run`, before a letter leaves.

    Readers come, and change their wishes, while a run plans. Raises `StoppedError`.
    """
    found: dict[int, ApprovedIssue | None] = {}
    strangers = 0
    for number, token in store.issues.open_in(run):
        if number not in found:
            letter = store.issues.find(number)
            greets = letter is None or letter.frequency == "welcome"
            found[number] = None if letter is None or greets else approval.find(letter)
        may = found[number]
        strangers += may is not None and not may.includes(token)
    _require_none(strangers)


def _require_none(strangers: int) -> None:
    if strangers:
        who = f"{strangers:,} reader{'s' * (strangers != 1)}"
        raise find_difference(f"{who} would get a letter that they do not get in the plan")


def settle_log(store: Store, run: int, outlook: PlanInput) -> None:
    """Close what a dead run left, and store what `run`, which holds the lease, begins with."""
    # Before anything is planned: a letter that may have arrived must not be planned again.
    store.deliveries.sweep(run, outlook.run.state.clock)
    first = outlook.update
    store.post_log.apply(first.entries, first.retracted, first.state)


def plan_issues(
    store: Store, run: int, desk: ContentSource, outlook: PlanInput, *, anew: bool = False
) -> SendPlan:
    """Freeze the letters that are owed, and plan them for all who are owed them.

    `anew` is that of `Consent`.
    """
    clock = outlook.run.state.clock
    letters = _plan_issues(store, run, desk, outlook, anew=anew)
    for number in valid_welcome_issues(store.issues.waiting("welcome"), outlook.visible):
        store.deliveries.adopt(run, number)
    store.deliveries.cancel_stale(run, clock)
    store.deliveries.retry_deferred(run, clock)
    # Every other deferred row was cancelled as stale.
    waiting = store.deliveries.count_by_state().get("deferred", 0)
    outdated = tuple(sorted(one.issue.date for one in letters.values() if one.is_outdated))
    uncertain = store.deliveries.count_uncertain()
    return SendPlan(
        clock, len(letters), store.deliveries.count_planned(run), waiting, uncertain, outdated
    )


def _plan_issues(
    store: Store, run: int, desk: ContentSource, outlook: PlanInput, *, anew: bool
) -> Mapping[Issue, ResolvedIssue]:
    """Carry out the plan, group by group; return its letters."""
    clock = outlook.run.state.clock
    letters: dict[Issue, ResolvedIssue] = {}
    numbers: dict[Issue, int] = {}
    for one in plan_segments(PlanningStore(store.post_log, store.segments), outlook):
        if one.issue is None:
            store.segments.raise_cursors(one.segment, one.cursor)
            continue
        if one.issue not in letters:
            new = resolve_issue(store.issues, one.issue, clock, desk.render, anew=anew)
            letters[one.issue] = new
            numbers[one.issue] = new.issue.id or store.issues.freeze_anew(new.issue)
        store.deliveries.plan(run, one.segment, numbers[one.issue], one.cursor, clock)
    return letters


@frozen
class SendResult:
    """What a run did, and whether it came to its end.

    Of the emails in `counts`, `refused` were refused, by the state that their deliveries are in.
    `uncertain` deliveries, of this run and of earlier ones, are open at the end.
    """

    plan: SendPlan
    counts: Counts
    refused: Counts
    uncertain: int
    finished: bool


@frozen
class SendContext:
    """All that a run works with; `stopped` tells whether a signal asks it to end."""

    store: Store
    site: Site
    content: ContentSource
    sender: Sender
    transport: Transport
    clock: Clock
    stopped: Callable[[], bool] = lambda: False
    report: Callable[[Counts], None] = lambda _: None


def send(
    office: SendContext, consent: Overrides, planned: Callable[[SendPlan], None]
) -> SendResult:
    """Do one run: plan what is owed, and send it; `planned` hears of the plan.

    Raises `LeaseError` while another run sends, `StoppedError` where the run must not go on,
    `RelayError`, `DatabaseError`, and what reading the posts and writing the letters raises. The
    ledger is true in each case, and the next run goes on from there.
    """
    with _run(office) as run:
        outlook = look_up_posts(office.store, office.site, office.content, office.clock(), consent)
        if consent.plan:
            compare_with_plan(office.store, office.content, outlook, consent.plan)
        settle_log(office.store, run, outlook)
        made = plan_issues(office.store, run, office.content, outlook, anew=consent.anew)
        if consent.plan:
            compare_planned(office.store, run, consent.plan)
        planned(made)
        steady = _not_before(made.clock, office.clock)
        work = PlannedQueue(office.store, run, steady, office.sender, office.transport.write)
        return _deliver(office, work, made)


def send_again(office: SendContext, planned: Callable[[SendPlan], None]) -> SendResult:
    """Send the open uncertain letters once more, and nothing else.

    Raises the same as `send`.
    """
    store, now = office.store, office.clock()
    with _run(office) as run:
        release = store.post_log.state()
        clock = max(now, release.clock) if release else now
        news = office.content.visible_posts(clock)
        store.deliveries.sweep(run, clock)
        made = SendPlan(clock, 0, store.deliveries.count_uncertain())
        planned(made)
        steady = _not_before(clock, office.clock)
        work = UncertainQueue(
            store, run, steady, office.sender, office.transport.write, office.content, news
        )
        return _deliver(office, work, made)


def _deliver(office: SendContext, work: PlannedQueue, made: SendPlan) -> SendResult:
    """Deliver what was planned, and return what became of it."""
    ledger = office.store.deliveries
    if not made.subscribers:
        return SendResult(made, {}, {}, ledger.count_uncertain(), finished=True)
    delivering = Dispatcher(work, office.transport, stopped=office.stopped, tell=office.report)
    counts = delivering.run(made.subscribers)
    uncertain = ledger.count_uncertain()
    return SendResult(made, counts, delivering.refused, uncertain, finished=not office.stopped())


@contextmanager
def _run(office: SendContext) -> Iterator[int]:
    """Hold the lease for a block."""
    run = office.store.runs.begin(office.clock())
    try:
        yield run
    finally:
        # What happened is worth more than that the end cannot be written: the lease ends anyway.
        with suppress(DatabaseError):
            office.store.runs.end(run, office.clock())


def _not_before(start: datetime, clock: Clock) -> Clock:
    """Return a clock that never shows less than `start`, wherever it is set meanwhile (rule 1)."""
    return lambda: max(start, clock())
