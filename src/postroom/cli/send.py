"""`postroom send`: send what is due, or a test email."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import time, timedelta
from pathlib import Path

import click
from click.core import ParameterSource

from postroom.cli.console import pluralize, print_problems
from postroom.cli.context import (
    DurationType,
    current_instant,
    load_keys,
    moves_ledger,
    open_site_store,
)
from postroom.cli.progress import Progress, clear_line, warn_of_uncertain
from postroom.db import engine
from postroom.db.ownership import LedgerPlace, make_place
from postroom.db.store import Store
from postroom.errors import Problem, SettingsError, UseError
from postroom.mail import address, tokens
from postroom.mail.tokens import new_token
from postroom.models import DeliveryState, Frequency, Site
from postroom.newsletter.mime import split_address
from postroom.newsletter.personalize import PreparedIssue
from postroom.newsletter.requirements import missing_settings
from postroom.scheduling import plan
from postroom.scheduling.plan import PlanningStore
from postroom.send import queue, run
from postroom.send.content import ContentSource
from postroom.send.dispatch import Counts
from postroom.send.plan_file import ApprovedPlan, issue_subject, read_plan
from postroom.send.pool import Transport
from postroom.send.run import Overrides, SendContext, SendResult
from postroom.settings import urls
from postroom.settings.site import find_site, load_settings
from postroom.settings.urls import SmtpServer
from postroom.smtp import transaction
from postroom.smtp.connection import SmtpConnection

_STATES: tuple[DeliveryState, ...] = ("sent", "deferred", "bounced", "uncertain")
# A test, a resend and a run send different emails, and a plan fixes the content of its issues.
_EXCLUSIONS = (
    *(("--test", each) for each in ("--resend-uncertain", "--plan", "--window", "--anew")),
    *(("--resend-uncertain", each) for each in ("--plan", "--window", "--anew")),
    ("--plan", "--anew"),
)
_ADJECTIVES: dict[Frequency, str] = {"day": "daily", "week": "weekly", "month": "monthly"}


@click.command("send")
@click.option("--to", "recipient", metavar="ADDRESS", help="With --test: the recipient.")
@click.option("--test", is_flag=True, help="Send the newest issue to one address; record nothing.")
@click.option(
    "--resend-uncertain",
    is_flag=True,
    help="Send emails again that may or may not have arrived, and nothing else.",
)
@click.option(
    "--plan",
    "plan_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Send exactly what `postroom plan --out FILE` wrote, or nothing.",
)
@click.option(
    "--window",
    type=DurationType(),
    help="Send nothing if the issues were due longer ago than 90m, 6h, 2d or the like.",
)
@click.option(
    "--anew",
    is_flag=True,
    help="Use the edited posts for subscribers who have not received an issue yet.",
)
@click.option("--accept-missing", is_flag=True, help="Go on although many posts have vanished.")
@click.option("--despite-complaints", is_flag=True, help="Go on although many people complained.")
@click.option(
    "--keep-ledger-here",
    is_flag=True,
    help="In CI: the SQLite file is kept; do not compare machine and path.",
)
@click.option("--yes", is_flag=True, help="Go on although the clock is far ahead.")
def command(  # noqa: PLR0913 - click's options are arguments
    recipient: str | None,
    *,
    test: bool,
    resend_uncertain: bool,
    plan_file: Path | None,
    window: timedelta | None,
    anew: bool,
    accept_missing: bool,
    despite_complaints: bool,
    keep_ledger_here: bool,
    yes: bool,
) -> int:
    """Send each subscriber what is due, once.

    Run it as often as you like: it sends only what is due, and nothing twice, even if it is killed.
    `postroom plan` shows in advance what it would send, `postroom status` what it did. Later runs
    try deferred emails again.

    The exit code is 1 if the mail server deferred or refused an email, if the run stopped, and
    while any email may or may not have arrived: send it again with --resend-uncertain, or count it
    as delivered with `postroom status --acknowledge`.

    Ctrl-C finishes the emails in flight; a second one stops at once, and those emails may or may
    not have arrived.

    \b
    Example:
      postroom send
      postroom send --test --to me@example.com
      postroom send --window 6h --plan plan.json
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    _check_options(_given_options())
    keeps_ledger = keep_ledger_here or moves_ledger()
    server = _require_settings(site, keeps_ledger=test or keeps_ledger)
    if recipient is not None:
        return send_test_email(site_dir, site, SmtpConnection(server), recipient)
    approved = read_plan(plan_file, site.id) if plan_file else None
    overrides = Overrides(yes=yes, accept_missing=accept_missing, refresh=anew, plan=approved)
    with (
        open_site_store(site_dir) as store,
        stop_on_signals() as caught,
        Progress(site.timezone) as progress,
    ):
        if window and _is_too_late(store, site, site_dir, overrides, window):
            return _report_late(store)
        if not despite_complaints:
            run.require_few_complaints(store.bounces, current_instant())
        place = make_place(store.database, site.id, moves=keeps_ledger)
        context = _make_context(
            store, site_dir, site, server, place, report=progress.show, caught=caught
        )
        result = _run(context, overrides, progress, resend=resend_uncertain)
    code = print_report(result, approved)
    return 128 + caught[0] if caught else code


def _run(
    context: SendContext, overrides: Overrides, progress: Progress, *, resend: bool
) -> SendResult:
    """Execute one run; show its progress and, at its end, its counts."""
    if resend:
        result = run.resend_uncertain(context, progress.begin)
    else:
        result = run.send(context, overrides, progress.begin)
    progress.end(result.counts)
    return result


def send_test_email(site_dir: Path, site: Site, connection: SmtpConnection, recipient: str) -> int:
    """Send the issue of the newest period to `recipient`, without the database.

    Its unsubscribe link belongs to no subscriber. Raises `UseError` for an invalid address, and if
    there are no posts.
    """
    try:
        to = address.parse_address(recipient)
    except address.AddressError as error:
        raise UseError([Problem("--to", message=str(error))]) from None
    now = current_instant()
    content = ContentSource(site_dir, site, lambda warnings: print_problems(warnings, "warning"))
    issues = content.issues_by_period(now)
    if not issues:
        raise UseError([Problem("--test", message="there is no post to send", hint="write one")])
    data = content.render(issues[0], now)
    prepared = PreparedIssue(data)
    message = prepared.message(to.ascii, new_token(), prepared.message_id(new_token()))
    sender = split_address(site.mail.bounces or site.mail.sender)[1]
    connection.open()
    try:
        reply = connection.send(sender, to.ascii, message)
    finally:
        connection.close()
    if reply.kind != "accepted":
        text = f"the mail server said: {reply.code} {reply.text}".strip()
        print_problems([Problem("send --test", message=text)])
        return 1
    click.echo(f"{issue_subject(data)}: sent to {to.display}; nothing is recorded")
    return 0


def _given_options() -> set[str]:
    """Return the names of the options on the command line.

    An option with an empty value counts: a variable that is empty by mistake must not turn a test
    into a run.
    """
    context = click.get_current_context()
    return {
        option.opts[0]
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) == ParameterSource.COMMANDLINE
    }


def _check_options(given: Collection[str]) -> None:
    """Raise `UseError` if the options that are given exclude or need each other."""
    problems = [
        Problem(
            "send",
            key=f"{first} and {second}",
            message="exclude each other",
            hint="write only one of them",
        )
        for first, second in _EXCLUSIONS
        if first in given and second in given
    ]
    if ("--test" in given) != ("--to" in given):
        hint = "write postroom send --test --to me@example.com"
        problems.append(Problem("send", key="--test and --to", message="go together", hint=hint))
    if problems:
        raise UseError(problems)


def _make_context(  # noqa: PLR0913 - a run works with all of it
    store: Store,
    site_dir: Path,
    site: Site,
    server: SmtpServer,
    place: LedgerPlace,
    *,
    report: Callable[[Counts], None],
    caught: Sequence[int],
) -> SendContext:
    return SendContext(
        store,
        site,
        ContentSource(site_dir, site, lambda warnings: print_problems(warnings, "warning")),
        queue.make_sender(site, load_keys(store)),
        _make_transport(site, server),
        current_instant,
        place,
        lambda: bool(caught),
        report,
    )


def _is_too_late(
    store: Store, site: Site, site_dir: Path, overrides: Overrides, window: timedelta
) -> bool:
    """Tell whether it is too late for `--window`; if so, print the reason."""
    # Without warnings: the run that follows reads the posts again and prints them.
    content = ContentSource(site_dir, site, lambda _: None)
    plan_input = run.look_up_posts(store, site, content, current_instant(), overrides)
    due = plan.frequencies_due(PlanningStore(store.post_log, store.segments), plan_input)
    send_at = time.fromisoformat(site.digest.send_at)
    late = plan.find_late_run(due, plan_input.run.state, send_at, window)
    if late:
        due_at = late.due.astimezone(site.timezone)
        issues = f"the {_ADJECTIVES[late.frequency]} issues"
        cutoff = plan.next_cutoff(late.frequency, due_at.date())
        click.echo(
            f"too late for --window: {issues} were due on {due_at:%Y-%m-%d at %H:%M %Z}; "
            f"they wait until {cutoff}, or for a run without --window"
        )
    return late is not None


def _report_late(store: Store) -> int:
    """Warn of open uncertain deliveries if it is too late for a run; return the exit code."""
    uncertain = store.deliveries.count_uncertain()
    if not store.runs.is_under_way():
        uncertain += store.deliveries.count_by_state().get("sending", 0)
    warn_of_uncertain(uncertain)
    return int(uncertain > 0)


def _require_settings(site: Site, *, keeps_ledger: bool) -> SmtpServer:
    """Return the mail server; raises `SettingsError` with everything that is missing."""
    problems = list(missing_settings(site))
    server = None
    try:
        server = urls.parse_smtp_url(os.environ.get(urls.SMTP_URL_VAR))
    except SettingsError as error:
        problems += error.problems
    try:
        tokens.parse_keys(os.environ.get(tokens.SECRET_KEY_VAR))
    except SettingsError as error:
        problems += error.problems
    if not keeps_ledger and os.environ.get("CI") and _is_sqlite():
        message = "in CI the ledger is lost with the machine, and emails would be sent twice"
        hint = "set it to a PostgreSQL database, or pass --keep-ledger-here if the file is kept"
        problems.append(Problem(engine.DATABASE_URL_VAR, message=message, hint=hint))
    if problems or server is None:
        raise SettingsError(problems)
    return server


def _is_sqlite() -> bool:
    return (os.environ.get(engine.DATABASE_URL_VAR) or "sqlite").startswith("sqlite")


def _make_transport(site: Site, server: SmtpServer) -> Transport:
    mail = site.mail
    return Transport(
        lambda: SmtpConnection(server),
        transaction.to_wire,
        mail.connections,
        mail.rate,
        mail.per_connection,
    )


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """End a run in order at the first SIGINT or SIGTERM in a block, and at once at the second."""
    caught: list[int] = []

    def catch(number: int, _frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        # Past Python's buffers: the signal may have come while something was being written.
        text = b"finishing the emails in flight; interrupt again to stop at once\n"
        os.write(2, clear_line() + text)

    previous = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def print_report(result: SendResult, approved: ApprovedPlan | None = None) -> int:
    """Print what a run did and what to do next; return the exit code."""
    if approved and approved.issues and not result.plan.subscribers:
        click.echo("nothing of the plan is left to send: it was sent before, or is not due yet")
    counts, refused = result.counts, sum(result.refused.values())
    summary = [f"{counts[state]:,} {state}" for state in _STATES if counts.get(state)]
    if summary:
        click.echo(", ".join(summary))
    if refused:
        message = f"{pluralize(refused, 'email')} refused"
        hint = "postroom status shows the subscribers and the replies of the mail server"
        print_problems([Problem("send", message=message, hint=hint)])
    if deferred := counts.get("deferred", 0) - result.refused.get("deferred", 0):
        message = f"{pluralize(deferred, 'email')} deferred by the mail server"
        print_problems([Problem("send", message=message, hint="run send again later")], "warning")
    if result.uncertain != result.plan.uncertain:
        warn_of_uncertain(result.uncertain)
    unfinished = refused or deferred or result.uncertain
    return int(bool(unfinished or not result.finished))
