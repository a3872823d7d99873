"""The command `postroom bounces`."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args

import click
from attrs import define, field

from postroom.cli.console import pluralize, print_problems
from postroom.cli.context import load_keys, open_site_store
from postroom.db.store import Store
from postroom.errors import PostroomError, Problem, UseError
from postroom.inbox import mailbox
from postroom.inbox.bounces import (
    MAX_BYTES,
    BounceContext,
    ReportKind,
    ReturnedMessage,
    apply_report,
    parse_returned_message,
)
from postroom.inbox.mailbox import MailboxMessage
from postroom.mail import tokens, unsubscribe
from postroom.mail.bounce_policy import COMPLAINT_SPAN, exceeds_complaint_limit
from postroom.models import Change
from postroom.settings import site, urls

# sysexits.h: the mail server keeps the message and tries again.
_TRY_AGAIN = 75
_CHANGES: Mapping[Change, str] = {
    "stopped": "removed from the list",
    "noted": "recorded",
    "known": "already known",
    "gone": "for an unknown subscriber",
}
_UNSIGNED = "refers to no email that this site sent, so it was ignored"
_UNKNOWN = "is not recognised; read it yourself"
_NO_SUBSCRIBER = "is from an unknown subscriber; read it yourself"


@define
class _Tally:
    """Counts of the messages by kind, of the changes by kind, and of messages that failed."""

    kinds: Counter[ReportKind] = field(factory=Counter)
    changes: Counter[Change] = field(factory=Counter)
    errors: int = 0


@click.command("bounces")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def command(files: tuple[Path, ...], *, as_json: bool) -> int:
    """Process bounces, complaints and unsubscribe emails.

    A hard bounce, several soft bounces in a row or a complaint removes the subscriber from the
    list. An email to the address in List-Unsubscribe unsubscribes its sender. Auto-replies and
    delays change nothing. Nothing is ever sent.

    Messages come from FILEs, else from standard input (one message, piped by a mail server), else
    from the mailbox in POSTROOM_MAILBOX_URL. Only unread messages of the mailbox are processed;
    they are then marked as seen, or flagged if they were not recognised, and never deleted.
    POSTROOM_SECRET_KEY must be set.

    If a piped message cannot be processed now, the exit code is 75 and the mail server keeps it.

    \b
    Example:
        postroom bounces
        postroom bounces returned.eml
    """
    if not files and (data := _read_stdin()):
        return _process_piped(data, as_json=as_json)
    tally = _Tally()
    with _open_context() as (store, keys, context), _open_source(files) as source:
        for message in source.unread(MAX_BYTES):
            if message.error:
                print_problems([Problem(message.name, message=message.error)])
                tally.errors += 1
            else:
                source.mark(message, understood=_process(message, keys, context, tally))
        _print_summary(store, tally, as_json=as_json)
    return 1 if tally.errors else 0


def _read_stdin() -> bytes:
    """Return the first bytes of the message on standard input; read and drop the rest.

    Return b"" if standard input is a terminal, or /dev/null as under cron.
    """
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return b""
    if stat.S_ISCHR(mode):
        return b""
    data = sys.stdin.buffer.read(MAX_BYTES)
    while sys.stdin.buffer.read(MAX_BYTES):
        pass
    return data


def _process_piped(data: bytes, *, as_json: bool) -> int:
    tally = _Tally()
    try:
        with _open_context() as (store, keys, context):
            _process(MailboxMessage("standard input", data), keys, context, tally)
            _print_summary(store, tally, as_json=as_json)
    except PostroomError as error:
        print_problems(error.problems)
        return _TRY_AGAIN
    except OSError as error:
        message = str(error.strerror or error).lower()
        print_problems([Problem(str(error.filename or ""), message=message)])
        return _TRY_AGAIN
    return 0


@contextmanager
def _open_context() -> Iterator[tuple[Store, tokens.Keys, BounceContext]]:
    with open_site_store(site.find_site(Path.cwd())) as store:
        keys = load_keys(store)
        by_email = partial(unsubscribe.unsubscribe, store.subscribers, method="mail")
        find = store.subscribers.with_token
        yield store, keys, BounceContext(store.bounces, by_email, find, keys.suppression)


@contextmanager
def _open_source(files: tuple[Path, ...]) -> Iterator[mailbox.Mailbox]:
    url = os.environ.get(urls.MAILBOX_URL_VAR)
    if files:
        yield _Files(files)
    elif url:
        with mailbox.open_mailbox(urls.parse_mailbox_url(url)) as opened:
            yield opened
    else:
        hint = f"name files, pipe a message, or set {urls.MAILBOX_URL_VAR}"
        raise UseError([Problem("bounces", message="there is no message to read", hint=hint)])


class _Files:
    """A `Mailbox` of files with one message each, which are read and never changed."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files = files

    def unread(self, max_bytes: int) -> Iterator[MailboxMessage]:
        for path in self._files:
            try:
                with path.open("rb") as file:
                    data = file.read(max_bytes)
            except OSError as error:
                yield MailboxMessage(str(path), error=f"cannot be read ({error.strerror})")
            else:
                yield MailboxMessage(str(path), data)

    def mark(self, message: MailboxMessage, *, understood: bool) -> None:
        pass


def _process(
    message: MailboxMessage, keys: tokens.Keys, context: BounceContext, tally: _Tally
) -> bool:
    """Apply one message to the database; return False if a person needs to read it."""
    report = parse_returned_message(message.data, keys)
    tally.kinds[report.kind] += 1
    change = apply_report(report, context, datetime.now(UTC))
    if change:
        tally.changes[change] += 1
    if warning := _warning(report, change):
        name = report.message_id or message.name
        print_problems([Problem(name, message=warning)], "warning")
    return not warning


def _warning(report: ReturnedMessage, change: Change | None) -> str:
    """Return why a person needs to read the message, "" if no person needs to."""
    if report.kind == "unknown":
        return _UNKNOWN
    if change is None and report.kind in {"hard", "soft", "refused", "complaint"}:
        return _UNSIGNED
    # A subscriber who wants no more email must not get any because their token is unknown.
    wants_no_email = report.kind in {"unsubscribe", "complaint"}
    return _NO_SUBSCRIBER if wants_no_email and change == "gone" else ""


def _print_summary(store: Store, tally: _Tally, *, as_json: bool) -> None:
    if tally.kinds["complaint"]:
        _warn_about_complaints(store)
    total = tally.kinds.total()
    if as_json:
        counts = {"kinds": dict(tally.kinds), "changes": dict(tally.changes)}
        click.echo(json.dumps({"messages": total, **counts}, indent=1, sort_keys=True))
        return
    kinds = [f"{tally.kinds[kind]} {kind}" for kind in get_args(ReportKind) if tally.kinds[kind]]
    click.echo(f"{pluralize(total, 'message')}: {', '.join(kinds) or 'none'}")
    changes = [f"{tally.changes[c]} {text}" for c, text in _CHANGES.items() if tally.changes[c]]
    if changes:
        click.echo(", ".join(changes))


def _warn_about_complaints(store: Store) -> None:
    complaints, emails = store.bounces.complaints(datetime.now(UTC) - COMPLAINT_SPAN)
    if exceeds_complaint_limit(complaints, emails):
        counts = f"{pluralize(complaints, 'complaint')} about {pluralize(emails, 'email')}"
        message = f"{counts} in {COMPLAINT_SPAN.days} days"
        hint = "find out why before you send the next issue"
        print_problems([Problem("bounces", message=message, hint=hint)], "warning")
