"""The commands `postroom subscribers …`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import date, datetime, time
from pathlib import Path
from typing import TextIO, get_args

import click
from attrs import evolve

from postroom.cli.console import pluralize, print_problems
from postroom.cli.context import current_instant, load_keys, open_site_store
from postroom.db.store import Store
from postroom.errors import ContentError, Problem, UseError
from postroom.files import link_fault
from postroom.mail import address
from postroom.models import Cursor, Frequency, Site, State, Subscriber, SubscriberEvent
from postroom.posts.loader import load_posts
from postroom.scheduling.rules import (
    advance_run,
    confirmation_cursor,
    find_unmet_languages,
    find_unmet_topics,
    start_cursor,
)
from postroom.send.content import ContentSource
from postroom.send.run import send_welcome
from postroom.settings.site import find_site, load_settings
from postroom.settings.validation import is_language
from postroom.subscribers import importer

_frequency = click.option(
    "--frequency",
    type=click.Choice(get_args(Frequency)),
    help="How often they get an email; by default, `digest.every` of the settings.",
)
_start = click.option(
    "--from",
    "start",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Send them the posts since this date, not only those of the current period.",
)


@click.group("subscribers")
def command() -> None:
    """List, add, import, export and forget subscribers.

    They are stored in .postroom/postroom.db, or in the database at POSTROOM_DATABASE_URL. Adding,
    importing and forgetting need POSTROOM_SECRET_KEY, because suppressed email addresses are stored
    as hashes made with it.

    \b
    Example:
      postroom subscribers import people.csv
      postroom subscribers list --state active
    """


@command.command("list")
@click.option(
    "--state", type=click.Choice(get_args(State)), help="List only subscribers in this state."
)
def list_(state: State | None) -> None:
    """List subscribers with email address, state, frequency, topics and language.

    \b
    Example:
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
    click.echo(f"{pluralize(total, 'subscriber')}: {', '.join(parts) or 'none'}", err=True)


def _line(subscriber: Subscriber) -> str:
    topics = ", ".join(sorted(subscriber.topics)) or "all topics"
    parts = (subscriber.state, subscriber.frequency, topics, subscriber.language)
    return "  ".join(
        (address.display_address(subscriber.address), *(part for part in parts if part))
    )


@command.command("add")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@click.option("--confirmed", is_flag=True, help="Confirm that these people opted in.")
@_frequency
@click.option(
    "--topic", "topics", multiple=True, help="Send only posts on this topic; may be repeated."
)
@click.option("--language", default="", help="Send only posts in this language, such as en.")
@_start
def add(  # noqa: PLR0913 - click's options are arguments
    addresses: tuple[str, ...],
    frequency: Frequency | None,
    topics: tuple[str, ...],
    language: str,
    start: datetime | None,
    *,
    confirmed: bool,
) -> int:
    """Add people who opted in, by email address.

    They get the posts of the current period and later ones. An address that is unsubscribed,
    bounced, complained or forgotten is not added; only its owner can subscribe again. Known
    subscribers stay as they are.

    \b
    Example:
      postroom subscribers add --confirmed reader@example.com
      postroom subscribers add --confirmed --frequency week --topic Products reader@example.com
    """
    if not confirmed:
        message, hint = "consent is not confirmed", "pass --confirmed if these people opted in"
        raise UseError([Problem("subscribers add", message=message, hint=hint)])
    if language and not is_language(language):
        message, hint = f"found '{language}'", "write a language tag such as en or en-US"
        raise UseError([Problem("--language", message=message, hint=hint)])
    names = _topic_names(topics)
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    with open_site_store(site_dir) as store:
        consent = "confirmed by the operator: subscribers add --confirmed"
        terms = evolve(
            _terms(store, site, frequency, start, consent),
            topics=names,
            language=language,
        )
        keys = [found.key for text in addresses if (found := _parse(text))]
        known = store.subscribers.known(keys)
        summary = importer.import_addresses(
            addresses,
            importer.SubscriberStore(store.subscribers, store.suppressions),
            terms,
            lambda remark: _print_remark("subscribers add", remark, line=False),
        )
        click.echo(_summary(summary))
        _warn_of_unmet(site_dir, site, summary)
        newcomers = (store.subscribers.find(key) for key in keys if key not in known)
        active = [newcomer for newcomer in newcomers if newcomer and newcomer.state == "active"]
        _plan_welcome(store, site_dir, site, active)
    return 1 if summary.faulty or summary.suppressed else 0


def _topic_names(topics: Sequence[str]) -> frozenset[str]:
    names = frozenset(" ".join(topic.split()) for topic in topics)
    if "" in names:
        message, hint = "is empty", "name a topic, or leave the option out"
        raise UseError([Problem("--topic", message=message, hint=hint)])
    return names


def _plan_welcome(
    store: Store, site_dir: Path, site: Site, newcomers: Sequence[Subscriber]
) -> None:
    """Plan a welcome issue for each of the `newcomers`, and print how many will get one."""
    content = ContentSource(site_dir, site, lambda warnings: print_problems(warnings, "warning"))
    if welcomed := send_welcome(store, site, content, current_instant(), newcomers):
        click.echo(f"the next postroom send will send {pluralize(welcomed, 'welcome email')}")


def _parse(text: str) -> address.EmailAddress | None:
    try:
        return address.parse_address(text.strip())
    except address.AddressError:
        return None


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--confirmed",
    is_flag=True,
    help="Confirm that people opted in of whom the file does not say so.",
)
@click.option(
    "--ignore-column",
    "ignored",
    multiple=True,
    metavar="NAME",
    help="Do not read the column NAME, because it does not tell who gets emails; may be repeated.",
)
@_frequency
@_start
def import_(
    file: Path,
    ignored: tuple[str, ...],
    frequency: Frequency | None,
    start: datetime | None,
    *,
    confirmed: bool,
) -> int:
    """Import subscribers from the CSV file FILE, or from standard input if it is '-'.

    Exports of other newsletter programs and of Postroom are read as they are, and any file whose
    first line names a column 'email'. People who unsubscribed, bounced, complained or did not
    confirm there get no emails from here, and nobody who stopped here starts again. Names, notes
    and tags are not imported. Each row that is not imported is printed with the reason; the same
    file can be imported again. A file is refused as a whole if it is malformed, or if it has a
    column that may tell who must not get emails, in a way that is not known.

    \b
    Example:
      postroom subscribers import members.csv
      postroom subscribers import --confirmed --from 2026-11-01 list.csv
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    name = "standard input" if str(file) == "-" else file.name
    with open_site_store(site_dir) as store, _source(file) as source:
        consent = f"confirmed by the operator: import of {name} with --confirmed"
        terms = evolve(
            _terms(store, site, frequency, start, consent if confirmed else ""),
            ignored_columns=ignored,
        )
        summary = importer.import_csv(
            source,
            name,
            importer.SubscriberStore(store.subscribers, store.suppressions),
            terms,
            lambda remark: _print_remark(name, remark),
        )
        store.events.add([SubscriberEvent(terms.at, "import", f"{name}: {_summary(summary)}")])
    click.echo(_summary(summary))
    _warn_of_unmet(site_dir, site, summary)
    return 1 if summary.faulty else 0


def _warn_of_unmet(site_dir: Path, site: Site, summary: importer.ImportSummary) -> None:
    """Warn of each topic and language that added subscribers chose and no post has."""
    if not (summary.topics or summary.languages):
        return
    try:
        posts = load_posts(site_dir, site, current_instant(), drafts=True).posts
    except ContentError:
        return  # `build` and `check` report it
    if not posts:
        return
    topics = {*site.topics, *(topic for post in posts for topic in post.topics)}
    languages = {post.lang or site.language for post in posts}
    unmet = [("topic", name) for name in find_unmet_topics(summary.topics, topics)]
    unmet += [("language", tag) for tag in find_unmet_languages(summary.languages, languages)]
    hint = "correct it, or publish such a post; until then they get no emails for it"
    print_problems(
        [Problem(kind, message=f"no post has '{name}'", hint=hint) for kind, name in unmet],
        "warning",
    )


def _source(file: Path) -> io.BufferedReader:
    if str(file) == "-":
        return io.BufferedReader(sys.stdin.buffer)  # type: ignore[arg-type]
    try:
        return file.open("rb")
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
        raise UseError([Problem(str(file), message=message)]) from None


@command.command("export")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write to this file, which must not exist."
)
def export(output: Path | None) -> None:
    """Export all subscribers as CSV with all their data, which `import` reads back.

    The column 'token' opens the unsubscribe pages, so keep the file as safe as the database.

    \b
    Example:
      postroom subscribers export > subscribers.csv
      postroom subscribers export --output subscribers.csv
    """
    folder = find_site(Path.cwd())
    with (
        open_site_store(folder) as store,
        _target(output, folder) as target,
        closing(store.subscribers.every()) as subscribers,
    ):
        number = importer.export_csv(subscribers, target)
    if output:
        click.echo(f"{pluralize(number, 'subscriber')} → {output}")


def _target(output: Path | None, folder: Path) -> TextIO:
    if output is None:
        return io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), "utf-8", newline="")
    if fault := link_fault(folder, output):
        raise UseError([Problem(str(output), message=fault, hint="name another file")])
    try:
        # Readable by its owner alone, because it contains email addresses.
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        message = f"cannot be written ({error.strerror})"
        raise UseError([Problem(str(output), message=message)]) from None
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="")


@command.command("forget")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
def forget(addresses: tuple[str, ...]) -> int:
    """Delete all data of the email address ADDRESS, and suppress it.

    Only a keyed hash stays, so that neither `import` nor `add` brings the address back. Deliveries
    and the record of consent are deleted, too.

    \b
    Example:
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
            click.echo("forgotten" if known else "unknown; suppressed from now on")
    return 1 if faulty else 0


def _terms(
    store: Store,
    site: Site,
    frequency: Frequency | None,
    start: datetime | None,
    consent: str,
) -> importer.ImportTerms:
    at = current_instant()
    return importer.ImportTerms(
        at=at,
        frequency=frequency or site.digest.every,
        cursor_for=_cursor_for(store, site, at, start.date() if start else None),
        hashed=load_keys(store).suppression,
        consent=consent,
    )


def _cursor_for(
    store: Store, site: Site, at: datetime, start: date | None
) -> Callable[[Frequency], Cursor]:
    send_at = time.fromisoformat(site.digest.send_at)
    # As if a run began now; it is not stored, and the time since the last run does not matter.
    state = advance_run(store.post_log.state(), at, site.timezone, send_at, yes=True).state
    if start:
        cursor = start_cursor(start, state)
        return lambda _: cursor
    last = store.post_log.last()
    return lambda frequency: confirmation_cursor(frequency, state, last)


def _print_remark(name: str, remark: importer.ImportRemark, *, line: bool = True) -> None:
    number = remark.line if line else 0
    problem = Problem(name, number, key=remark.address, message=remark.reason)
    print_problems([problem], "error" if remark.is_fault else "warning")


def _summary(summary: importer.ImportSummary) -> str:
    counts = (
        (summary.added, "added"),
        (summary.known, "known already"),
        (summary.stopped, "stopped"),
        (summary.suppressed, "suppressed"),
        (summary.faulty, "with a fault"),
    )
    return (
        ", ".join(f"{count} {result}" for count, result in counts if count) or "nothing to import"
    )
