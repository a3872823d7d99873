"""`postroom send --test`: the newest letter, to oneself."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import time, timedelta
from pathlib import Path

import click

from postroom.cli.console import pluralize, print_problems
from postroom.cli.context import DurationType, current_instant, load_keys, open_site_store
from postroom.cli.progress import Progress, clear_line, warn_of_uncertain
from postroom.db import engine
from postroom.db.store import Store
from postroom.errors import Problem, SettingsError, UseError
from postroom.mail import address, tokens
from postroom.mail.tokens import new_token
from postroom.models import Cursor, DeliveryState, Issue, Site
from postroom.newsletter import render
from postroom.newsletter.mime import split_address
from postroom.newsletter.personalize import prepare_issue
from postroom.newsletter.requirements import missing_settings
from postroom.posts import loader
from postroom.scheduling import plan
from postroom.scheduling.periods import group_by_period
from postroom.scheduling.plan import PlanningStore
from postroom.send import queue, run
from postroom.send.content import ContentSource
from postroom.send.dispatch import Counts
from postroom.send.plan_file import read_plan
from postroom.send.pool import Transport
from postroom.send.run import Overrides, SendContext, SendResult
from postroom.settings import urls
from postroom.settings.site import find_site, load_settings
from postroom.settings.urls import SmtpServer
from postroom.smtp import transaction
from postroom.smtp.connection import SmtpConnection
from postroom.theme.environment import Theme


def send_test_email(site_dir: Path, site: Site, mailer: SmtpConnection, recipient: str) -> int:
    """Send the letter of the newest period to `recipient`; nothing is read or written of the rows.

    Its links to leave are nobody's. Raises `UseError` for no possible address and no posts.
    """
    try:
        to = address.parse_address(recipient)
    except address.AddressError as error:
        raise UseError([Problem("--to", message=str(error))]) from None
    now = current_instant()
    loaded = loader.load_posts(site_dir, site, now)
    print_problems(loaded.warnings, "warning")
    found = group_by_period(loaded.posts, site)
    if not found:
        raise UseError([Problem("--test", message="there is no post to send", hint="write one")])
    held = {post.id: post for post in found[0].posts}
    # The boundary of a letter is the day after its period.
    letter = Issue(found[0].every, Cursor(found[0].last + timedelta(days=1)), tuple(held), "")
    rendered = render.render_issue(letter, held, site, Theme(site_dir, site.language))
    prepared = prepare_issue(rendered, site, now.astimezone(site.timezone))
    message = prepared.message(to.ascii, new_token(), prepared.message_id(new_token()))
    mailer.open()
    try:
        reply = mailer.send(
            split_address(site.mail.bounces or site.mail.sender)[1], to.ascii, message
        )
    finally:
        mailer.close()
    if reply.kind != "accepted":
        what = f"the mail server said: {reply.code} {reply.text}".strip()
        print_problems([Problem("send --test", message=what)])
        return 1
    click.echo(f"{rendered.subject}: sent to {to.display}; nothing is recorded")
    return 0


_STATES: tuple[DeliveryState, ...] = ("sent", "deferred", "bounced", "uncertain")


@click.command("send")
@click.option("--to", "recipient", metavar="ADDRESS", help="With --test: to whom.")
@click.option("--test", is_flag=True, help="Send the newest letter to one address; record nothing.")
@click.option(
    "--resend-uncertain",
    is_flag=True,
    help="Send again what may not have arrived, and nothing else.",
)
@click.option(
    "--plan",
    "plan_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Send what `postroom plan --out FILE` wrote, or nothing.",
)
@click.option(
    "--window",
    type=DurationType(),
    help="Send nothing if the letters were due longer ago, such as 90m, 6h or 2d.",
)
@click.option("--anew", is_flag=True, help="Send new words to who lacks a letter others have.")
@click.option("--accept-missing", is_flag=True, help="Go on although many posts have vanished.")
@click.option("--despite-complaints", is_flag=True, help="Go on although many have complained.")
@click.option("--keep-ledger-here", is_flag=True, help="In CI: this SQLite file will be kept.")
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
    """Send every subscriber the letter they are owed, once.

    Run it as often as you like: what is not due is not sent, and what was sent is not sent again,
    also if this is killed. `postroom plan` shows before what it would do, `postroom status`
    afterwards what it did. Letters that the mail server puts off are tried again by later runs.

    Ends with 1 if the mail server deferred or refused an email, if the run stopped, and as long as
    an earlier email may or may not have arrived: send it again with --resend-uncertain, or leave it
    with `postroom status --acknowledge`.

    Ctrl-C finishes the letters that are on their way; twice, it leaves at once, and those letters
    may or may not have arrived.

    \b
    postroom send
    postroom send --test --to me@example.com
    postroom send --window 6h --plan plan.json
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    planned = bool(plan_file or window)
    _check_options(to=bool(recipient), test=test, planned=planned, again=resend_uncertain)
    if plan_file and anew:
        what = "exclude each other: a plan holds the words that it sends"
        raise _wrong("--plan and --anew", what, "only one of them")
    server = _ready(site, keeps_ledger=test or keep_ledger_here)
    if recipient:
        return send_test_email(site_dir, site, SmtpConnection(server), recipient)
    approval = read_plan(plan_file, site.id) if plan_file else None
    consent = Overrides(yes=yes, accept_missing=accept_missing, refresh=anew, plan=approval)
    with (
        open_site_store(site_dir) as store,
        stop_on_signals() as caught,
        Progress(site.timezone) as progress,
    ):
        if window and _is_too_late(store, site, site_dir, consent, window):
            return _report_late(store)
        if not despite_complaints:
            run.require_few_complaints(store.bounces, current_instant())
        office = _send_context(store, site_dir, site, server, tell=progress.show, caught=caught)
        if resend_uncertain:
            sent = run.resend_uncertain(office, progress.begin)
        else:
            sent = run.send(office, consent, progress.begin)
        progress.end(sent.counts)
    if approval and approval.issues and not sent.plan.subscribers:
        click.echo("of the plan nothing is left: it was sent before, or is not due yet")
    code = print_report(sent)
    return 128 + caught[0] if caught else code


def _check_options(*, to: bool, test: bool, planned: bool, again: bool) -> None:
    """Raise `UseError` for options that go together in no run."""
    if to != test:
        raise _wrong("--test and --to", "go together", "postroom send --test --to me@example.com")
    if planned and (test or again):
        what = "are for a run of the plan, not for --test and --resend-uncertain"
        raise _wrong("--plan and --window", what, "postroom send, or leave them out")


def _wrong(key: str, what: str, right: str) -> UseError:
    return UseError([Problem("send", key=key, message=what, hint=f"write {right}")])


def _send_context(  # noqa: PLR0913 - a run works with all of it
    store: Store,
    site_dir: Path,
    site: Site,
    server: SmtpServer,
    *,
    tell: Callable[[Counts], None],
    caught: Sequence[int],
) -> SendContext:
    desk = ContentSource(site_dir, site, lambda warnings: print_problems(warnings, "warning"))
    sender, way = queue.make_sender(site, load_keys(store)), _transport(site, server)
    return SendContext(store, site, desk, sender, way, current_instant, lambda: bool(caught), tell)


def _is_too_late(
    store: Store, site: Site, site_dir: Path, consent: Overrides, window: timedelta
) -> bool:
    """Tell whether a run would come too late, and say so."""
    # It warns of nothing: the run that follows reads the posts again, and does.
    desk = ContentSource(site_dir, site, lambda _: None)
    outlook = run.look_up_posts(store, site, desk, current_instant(), consent)
    owing = plan.frequencies_due(PlanningStore(store.post_log, store.segments), outlook)
    send_at = time.fromisoformat(site.digest.send_at)
    late = plan.find_late_run(owing, outlook.run.state, send_at, window)
    if late:
        due = late.due.astimezone(site.timezone)
        what = f"the letters of the {late.frequency} were due on {due:%Y-%m-%d at %H:%M %Z}"
        following = plan.next_cutoff(late.frequency, due.date())
        repair = f"they wait until {following}, or for a run without --window"
        click.echo(f"too late for --window: {what}; {repair}")
    return late is not None


def _report_late(store: Store) -> int:
    """Report the open uncertain deliveries of a run that sends nothing; return the exit code."""
    open_ = store.deliveries.count_uncertain()
    if not store.runs.is_under_way():
        open_ += store.deliveries.count_by_state().get("sending", 0)
    warn_of_uncertain(open_)
    return int(open_ > 0)


def _ready(site: Site, *, keeps_ledger: bool) -> SmtpServer:
    """Return the mail server, or raise `SettingsError` with all that is missing."""
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
    if not keeps_ledger and os.environ.get("CI") and _is_file():
        what = "in CI the ledger would be lost with this machine, and letters be sent twice"
        repair = "name a PostgreSQL database, or say --keep-ledger-here if the file is kept"
        problems.append(Problem(engine.DATABASE_URL_VAR, message=what, hint=repair))
    if problems or server is None:
        raise SettingsError(problems)
    return server


def _is_file() -> bool:
    return (os.environ.get(engine.DATABASE_URL_VAR) or "sqlite").startswith("sqlite")


def _transport(site: Site, server: SmtpServer) -> Transport:
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
    """Note SIGINT and SIGTERM for a block, so that what is open can be finished; a second acts."""
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        # Past Python's buffers: the signal may have come while something was being written.
        said = b"finishing the letters that are on their way; again to leave at once\n"
        os.write(2, clear_line() + said)

    usual = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def print_report(sent: SendResult) -> int:
    """Print what a run did and what is to do; return the exit code."""
    counts, refusals = sent.counts, sum(sent.refused.values())
    told = [f"{counts[state]:,} {state}" for state in _STATES if counts.get(state)]
    if told:
        click.echo(", ".join(told))
    if refusals:
        what = f"{pluralize(refusals, 'email')} refused"
        repair = "postroom status shows whose, and what the mail server said"
        print_problems([Problem("send", message=what, hint=repair)])
    if later := counts.get("deferred", 0) - sent.refused.get("deferred", 0):
        what = f"{pluralize(later, 'letter')} put off by the mail server"
        print_problems([Problem("send", message=what, hint="run this again later")], "warning")
    if sent.uncertain != sent.plan.uncertain:
        warn_of_uncertain(sent.uncertain)
    unfinished = refusals or later or sent.uncertain
    return int(bool(unfinished or not sent.finished))
