"""`postroom send`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import time, timedelta
from pathlib import Path

import click

from postroom import config, planning, send, smtp, tokens
from postroom.cli import complain, counted
from postroom.cli.duration import Duration
from postroom.cli.instant import present
from postroom.cli.opened import keys_for, opened_store
from postroom.cli.progress import Progress, erased, warn_of_uncertain
from postroom.cli.trial import send_trial
from postroom.database import engine
from postroom.errors import Problem, SettingsError, UseError
from postroom.model import DeliveryState, Site
from postroom.planning import Book
from postroom.send import Consent, Counts, NewsroomDesk, Office, Sent, Way
from postroom.send.approval import read
from postroom.smtp import Mailer, Server
from postroom.store import Store

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
    type=Duration(),
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
    newsroom = config.find_newsroom(Path.cwd())
    site = config.load(newsroom)
    planned = bool(plan_file or window)
    _require_sense(to=bool(recipient), test=test, planned=planned, again=resend_uncertain)
    if plan_file and anew:
        what = "exclude each other: a plan holds the words that it sends"
        raise _wrong("--plan and --anew", what, "only one of them")
    server = _ready(site, keeps_ledger=test or keep_ledger_here)
    if recipient:
        return send_trial(newsroom, site, Mailer(server), recipient)
    approval = read(plan_file, site.id) if plan_file else None
    consent = Consent(yes=yes, accept_missing=accept_missing, anew=anew, plan=approval)
    with opened_store(newsroom) as store, signals() as caught, Progress(site.timezone) as progress:
        if window and _is_too_late(store, site, newsroom, consent, window):
            return _report_late(store)
        if not despite_complaints:
            send.require_few_complaints(store.reports, present())
        office = _office(store, newsroom, site, server, tell=progress.show, caught=caught)
        if resend_uncertain:
            sent = send.send_again(office, progress.begin)
        else:
            sent = send.send(office, consent, progress.begin)
        progress.end(sent.counts)
    if approval and approval.letters and not sent.plan.subscribers:
        click.echo("of the plan nothing is left: it was sent before, or is not due yet")
    code = report(sent)
    return 128 + caught[0] if caught else code


def _require_sense(*, to: bool, test: bool, planned: bool, again: bool) -> None:
    """Raise `UseError` for options that go together in no run."""
    if to != test:
        raise _wrong("--test and --to", "go together", "postroom send --test --to me@example.com")
    if planned and (test or again):
        what = "are for a run of the plan, not for --test and --resend-uncertain"
        raise _wrong("--plan and --window", what, "postroom send, or leave them out")


def _wrong(key: str, what: str, right: str) -> UseError:
    return UseError([Problem("send", key=key, what=what, repair=f"write {right}")])


def _office(  # noqa: PLR0913 - a run works with all of it
    store: Store,
    newsroom: Path,
    site: Site,
    server: Server,
    *,
    tell: Callable[[Counts], None],
    caught: Sequence[int],
) -> Office:
    desk = NewsroomDesk(newsroom, site, lambda warnings: complain(warnings, "warning"))
    sender, way = send.sender_of(site, keys_for(store)), _way(site, server)
    return Office(store, site, desk, sender, way, present, lambda: bool(caught), tell)


def _is_too_late(
    store: Store, site: Site, newsroom: Path, consent: Consent, window: timedelta
) -> bool:
    """Tell whether a run would come too late, and say so."""
    # It warns of nothing: the run that follows reads the posts again, and does.
    desk = NewsroomDesk(newsroom, site, lambda _: None)
    outlook = send.look(store, site, desk, present(), consent)
    owing = planning.owing(Book(store.arrivals, store.groups), outlook)
    send_at = time.fromisoformat(site.digest.send_at)
    late = planning.late(owing, outlook.run.release, send_at, window)
    if late:
        due = late.due.astimezone(site.timezone)
        what = f"the letters of the {late.frequency} were due on {due:%Y-%m-%d at %H:%M %Z}"
        following = planning.next_boundary(late.frequency, due.date())
        repair = f"they wait until {following}, or for a run without --window"
        click.echo(f"too late for --window: {what}; {repair}")
    return late is not None


def _report_late(store: Store) -> int:
    """Report the open uncertain deliveries of a run that sends nothing; return the exit code."""
    open_ = store.ledger.count_uncertain()
    if not store.runs.is_under_way():
        open_ += store.ledger.tally().get("sending", 0)
    warn_of_uncertain(open_)
    return int(open_ > 0)


def _ready(site: Site, *, keeps_ledger: bool) -> Server:
    """Return the mail server, or raise `SettingsError` with all that is missing."""
    problems = list(send.lacking(site))
    server = None
    try:
        server = smtp.read_server(os.environ.get(smtp.VARIABLE))
    except SettingsError as error:
        problems += error.problems
    try:
        tokens.read_keys(os.environ.get(tokens.VARIABLE))
    except SettingsError as error:
        problems += error.problems
    if not keeps_ledger and os.environ.get("CI") and _is_file():
        what = "in CI the ledger would be lost with this machine, and letters be sent twice"
        repair = "name a PostgreSQL database, or say --keep-ledger-here if the file is kept"
        problems.append(Problem(engine.VARIABLE, what=what, repair=repair))
    if problems or server is None:
        raise SettingsError(problems)
    return server


def _is_file() -> bool:
    return (os.environ.get(engine.VARIABLE) or "sqlite").startswith("sqlite")


def _way(site: Site, server: Server) -> Way:
    mail = site.mail
    return Way(lambda: Mailer(server), smtp.wire, mail.connections, mail.rate, mail.per_connection)


@contextmanager
def signals() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM for a block, so that what is open can be finished; a second acts."""
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        # Past Python's buffers: the signal may have come while something was being written.
        said = b"finishing the letters that are on their way; again to leave at once\n"
        os.write(2, erased() + said)

    usual = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def report(sent: Sent) -> int:
    """Print what a run did and what is to do; return the exit code."""
    counts, refusals = sent.counts, sum(sent.refused.values())
    told = [f"{counts[state]:,} {state}" for state in _STATES if counts.get(state)]
    if told:
        click.echo(", ".join(told))
    if refusals:
        what = f"{counted(refusals, 'email')} refused"
        repair = "postroom status shows whose, and what the mail server said"
        complain([Problem("send", what=what, repair=repair)])
    if later := counts.get("deferred", 0) - sent.refused.get("deferred", 0):
        what = f"{counted(later, 'letter')} put off by the mail server"
        complain([Problem("send", what=what, repair="run this again later")], "warning")
    if sent.uncertain != sent.plan.uncertain:
        warn_of_uncertain(sent.uncertain)
    unfinished = refusals or later or sent.uncertain
    return int(bool(unfinished or not sent.finished))
