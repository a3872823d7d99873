"""`postroom subscribers`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, time
from pathlib import Path
from typing import TextIO, get_args

import click
from attrs import evolve

from postroom.cli.console import print_problems
from postroom.cli.context import current_instant, load_keys, open_site_store
from postroom.db.store import Store
from postroom.errors import Problem, UseError
from postroom.mail import address
from postroom.models import Cursor, Frequency, Site, State, Subscriber, SubscriberEvent
from postroom.scheduling.rules import advance_run, confirmation_cursor
from postroom.send.content import ContentSource
from postroom.send.run import send_welcome
from postroom.settings.site import find_site, load_settings
from postroom.settings.validation import is_language
from postroom.subscribers import importer

_often = click.option(
    "--frequency",
    type=click.Choice(get_args(Frequency)),
    help="How often they get a letter; the newsroom's `digest.every` by default.",
)
_from = click.option(
    "--from",
    "start",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="They are owed the posts from this day on, not only those of the current period.",
)


@click.group("subscribers")
def command() -> None:
    """List, add, import, export and forget subscribers.

    They are kept in .postroom/postroom.db, or in the database that POSTROOM_DATABASE_URL names.
    Adding and forgetting need POSTROOM_SECRET_KEY: the addresses that must never get mail again
    are kept as hashes made with it.

    \b
    postroom subscribers import people.csv
    postroom subscribers list --state active
    """


@command.command("list")
@click.option("--state", type=click.Choice(get_args(State)), help="Only those in this state.")
def list_(state: State | None) -> None:
    """List subscribers: address, state, frequency, topics and language.

    \b
    postroom subscribers list
    postroom subscribers list --state bounced
    """
    with open_site_store(find_site(Path.cwd())) as store:
        with closing(store.subscribers.every(state)) as subscribers:
            for subscriber in subscribers:
                click.echo(_line(subscriber))
        counts = store.subscribers.count()
    parts = [f"{counts[known]} {known}" for known in get_args(State) if counts.get(known)]
    total = sum(counts.values())
    click.echo(f"{total} subscriber{'s' * (total != 1)}: {', '.join(parts) or 'none'}", err=True)


def _line(subscriber: Subscriber) -> str:
    topics = ", ".join(sorted(subscriber.topics)) or "all topics"
    parts = (subscriber.state, subscriber.frequency, topics, subscriber.language)
    return "  ".join(
        (address.display_address(subscriber.address), *(part for part in parts if part))
    )


@command.command("add")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@click.option("--confirmed", is_flag=True, help="You answer for it that they agreed to get mail.")
@_often
@click.option("--topic", "topics", multiple=True, help="Only this topic; may be repeated.")
@click.option("--language", default="", help="Only posts in this language, such as en.")
@_from
def add(  # noqa: PLR0913 - click's options are arguments
    addresses: tuple[str, ...],
    frequency: Frequency | None,
    topics: tuple[str, ...],
    language: str,
    start: datetime | None,
    *,
    confirmed: bool,
) -> int:
    """Add people who agreed to get mail, by their addresses.

    They start at the current period: what was news before it is not sent to them. Who left,
    bounced, complained or was forgotten comes back only by a confirmation of their own; who is
    known already stays as they are.

    \b
    postroom subscribers add --confirmed reader@example.com
    postroom subscribers add --confirmed --frequency week --topic Products reader@example.com
    """
    if not confirmed:
        repair = "say --confirmed if they agreed to get mail"
        raise UseError([Problem("subscribers add", message="nobody says so", hint=repair)])
    if language and not is_language(language):
        what, repair = f"found '{language}'", "write a language tag such as en or en-US"
        raise UseError([Problem("--language", message=what, hint=repair)])
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    with open_site_store(site_dir) as store:
        consent = "the operator answers for it: subscribers add --confirmed"
        terms = evolve(
            _terms(store, site, frequency, start, consent),
            topics=frozenset(topics),
            language=language,
        )
        keys = [found.key for text in addresses if (found := _possible(text))]
        known = store.subscribers.known(keys)
        tally = importer.import_addresses(
            addresses,
            importer.SubscriberStore(store.subscribers, store.suppressions),
            terms,
            lambda remark: _complain("subscribers add", remark, line=False),
        )
        click.echo(_summary(tally))
        newcomers = (store.subscribers.find(key) for key in keys if key not in known)
        active = [one for one in newcomers if one and one.state == "active"]
        desk = ContentSource(site_dir, site, lambda warnings: print_problems(warnings, "warning"))
        if greeted := send_welcome(store, site, desk, current_instant(), active):
            click.echo(f"{greeted} will be welcomed by the next: postroom send")
    return 1 if tally.faulty or tally.kept_out else 0


def _possible(text: str) -> address.EmailAddress | None:
    try:
        return address.parse_address(text.strip())
    except address.AddressError:
        return None


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--confirmed",
    is_flag=True,
    help="You answer for it that those agreed of whom the file does not tell.",
)
@_often
@_from
def import_(
    file: Path, frequency: Frequency | None, start: datetime | None, *, confirmed: bool
) -> int:
    """Import subscribers from the CSV file FILE, '-' for standard input.

    Taken as they are: the exports of listmonk, Mailchimp, Ghost and Buttondown, our own, and any
    file whose first line names a column 'email'. Who unsubscribed, bounced or complained there
    gets no mail from here either, and nobody who stopped here starts again. Names, notes and tags
    are not read. Each line that is not taken is named, and why; the same file may be imported
    again. Nothing is imported from a file that cannot be read with certainty, for instance where
    a quote does not end or a row has too few cells; its lines are named.

    \b
    postroom subscribers import members.csv
    postroom subscribers import --confirmed --from 2026-11-01 list.csv
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    name = "standard input" if str(file) == "-" else file.name
    with open_site_store(site_dir) as store, _source(file) as source:
        consent = f"the operator answers for it: import of {name} with --confirmed"
        terms = _terms(store, site, frequency, start, consent if confirmed else "")
        tally = importer.import_csv(
            source,
            name,
            importer.SubscriberStore(store.subscribers, store.suppressions),
            terms,
            lambda remark: _complain(name, remark),
        )
        store.events.add([SubscriberEvent(terms.at, "import", f"{name}: {_summary(tally)}")])
    click.echo(_summary(tally))
    return 1 if tally.faulty else 0


def _source(file: Path) -> io.BufferedReader:
    if str(file) == "-":
        return io.BufferedReader(sys.stdin.buffer)  # type: ignore[arg-type]
    try:
        return file.open("rb")
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise UseError([Problem(str(file), message=what)]) from None


@command.command("export")
@click.option("--output", type=click.Path(path_type=Path), help="Write this new file.")
def export(output: Path | None) -> None:
    """Export all subscribers as CSV with all that is known of them; `import` takes it back whole.

    The column 'token' opens each one's unsubscribe page: keep the file as you keep the database.

    \b
    postroom subscribers export > subscribers.csv
    postroom subscribers export --output subscribers.csv
    """
    with (
        open_site_store(find_site(Path.cwd())) as store,
        _target(output) as target,
        closing(store.subscribers.every()) as subscribers,
    ):
        number = importer.export_csv(subscribers, target)
    if output:
        click.echo(f"{number} subscriber{'s' * (number != 1)} → {output}")


def _target(output: Path | None) -> TextIO:
    if output is None:
        return io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), "utf-8", newline="")
    try:
        # Readable by its owner alone: it is full of addresses.
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise UseError([Problem(str(output), message=what)]) from None
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="")


@command.command("forget")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
def forget(addresses: tuple[str, ...]) -> int:
    """Delete all that is known of ADDRESS; only a keyed hash stays.

    By it the address stays suppressed: no import and no `add` brings it back, only a confirmation
    of its owner. Deliveries and the record of consent go, too.

    \b
    postroom subscribers forget reader@example.com
    """
    faulty = 0
    with open_site_store(find_site(Path.cwd())) as store:
        keys = load_keys(store)
        at = current_instant()
        for text in addresses:
            try:
                key = address.parse_address(text.strip()).key
            except address.AddressError as error:
                print_problems([Problem("subscribers forget", key=text, message=str(error))])
                faulty += 1
                continue
            known = store.suppressions.forget(key, keys.suppression(key), at)
            click.echo("forgotten" if known else "was not known; is suppressed from now on")
    return 1 if faulty else 0


def _terms(
    store: Store,
    site: Site,
    frequency: Frequency | None,
    start: datetime | None,
    consent: str,
) -> importer.ImportTerms:
    at = current_instant()
    if start and start.date() > at.astimezone(site.timezone).date():
        what, repair = "is in the future", "leave it out, or give an earlier date"
        raise UseError([Problem("--from", message=what, hint=repair)])
    return importer.ImportTerms(
        at=at,
        frequency=frequency or site.digest.every,
        bookmark_for=_bookmark_for(store, site, at),
        hashed=load_keys(store).suppression,
        start=start.date() if start else None,
        consent=consent,
    )


def _bookmark_for(store: Store, site: Site, at: datetime) -> Callable[[Frequency], Cursor]:
    send_at = time.fromisoformat(site.digest.send_at)
    # As if a run began now, which is not stored; nor does it matter here how long the last is ago.
    release = advance_run(store.post_log.state(), at, site.timezone, send_at, yes=True).state
    last = store.post_log.last()
    return lambda frequency: confirmation_cursor(frequency, release, last)


def _complain(name: str, remark: importer.ImportRemark, *, line: bool = True) -> None:
    number = remark.line if line else 0
    problem = Problem(name, number, key=remark.address, message=remark.why)
    print_problems([problem], "error" if remark.is_fault else "warning")


def _summary(tally: importer.ImportSummary) -> str:
    counts = (
        (tally.added, "added"),
        (tally.known, "known already"),
        (tally.stopped, "stopped"),
        (tally.kept_out, "kept out"),
        (tally.faulty, "with a fault"),
    )
    return ", ".join(f"{count} {what}" for count, what in counts if count) or "nothing to take"
