"""`postroom bounces`."""

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

from postroom.cli.console import print_problems
from postroom.cli.context import load_keys, open_site_store
from postroom.db.store import Store
from postroom.errors import PostroomError, Problem, UseError
from postroom.inbox import mailbox
from postroom.inbox.bounces import (
    CAP,
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
    "stopped": "taken off the list",
    "noted": "written down",
    "known": "known before",
    "gone": "of nobody here",
}
_UNSIGNED = "names no letter of ours; it changed nothing"
_UNKNOWN = "was not understood; a person should read it"
_NOBODY = "is by a reader who is not here; a person should read it"


@define
class _Tally:
    """What became of the messages so far."""

    kinds: Counter[ReportKind] = field(factory=Counter)
    changes: Counter[Change] = field(factory=Counter)
    faults: int = 0


@click.command("bounces")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--json", "as_json", is_flag=True, help="For a program: counts, never addresses.")
def command(files: tuple[Path, ...], *, as_json: bool) -> int:
    """Read messages that came back, and do what they mean.

    A letter that failed for good takes its reader off the list if the address is bad, or after
    several letters in a row; a complaint does at once; a mail to the address in List-Unsubscribe
    unsubscribes. Answering machines and delays change nothing, and nothing is ever answered.

    Messages are read from FILEs; else one from standard input, as a mail server pipes it; else
    those in the mailbox that POSTROOM_MAILBOX_URL names and that nobody has seen. There they are
    marked as seen, or flagged if they were not understood, and stay. Needs POSTROOM_SECRET_KEY.

    Of a piped message that cannot be dealt with now, the exit code is 75: the server keeps it.

    \b
    postroom bounces
    postroom bounces returned.eml
    """
    if not files and (data := _piped()):
        return _one(data, as_json=as_json)
    tally = _Tally()
    with _opened() as (store, keys, desk), _source(files) as box:
        for one in box.waiting(CAP):
            if one.fault:
                print_problems([Problem(one.name, message=one.fault)])
                tally.faults += 1
            else:
                box.settle(one, understood=_taken(one, keys, desk, tally))
        _conclude(store, tally, as_json=as_json)
    return 1 if tally.faults else 0


def _piped() -> bytes:
    """Return the beginning of the message on standard input, which is read to its end.

    A terminal and /dev/null, which cron gives, hold none.
    """
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return b""
    if stat.S_ISCHR(mode):
        return b""
    data = sys.stdin.buffer.read(CAP)
    while sys.stdin.buffer.read(CAP):
        pass
    return data


def _one(data: bytes, *, as_json: bool) -> int:
    tally = _Tally()
    try:
        with _opened() as (store, keys, desk):
            _taken(MailboxMessage("standard input", data), keys, desk, tally)
            _conclude(store, tally, as_json=as_json)
    except PostroomError as error:
        print_problems(error.problems)
        return _TRY_AGAIN
    except OSError as error:
        print_problems(
            [Problem(str(error.filename or ""), message=str(error.strerror or error).lower())]
        )
        return _TRY_AGAIN
    return 0


@contextmanager
def _opened() -> Iterator[tuple[Store, tokens.Keys, BounceContext]]:
    with open_site_store(site.find_site(Path.cwd())) as store:
        keys = load_keys(store)
        leave = partial(unsubscribe.unsubscribe, store.subscribers, method="mail")
        whose = store.subscribers.with_token
        yield store, keys, BounceContext(store.bounces, leave, whose, keys.suppression)


@contextmanager
def _source(files: tuple[Path, ...]) -> Iterator[mailbox.Mailbox]:
    url = os.environ.get(urls.MAILBOX_URL_VAR)
    if files:
        yield _Files(files)
    elif url:
        with mailbox.open_mailbox(urls.parse_mailbox_url(url)) as box:
            yield box
    else:
        repair = f"name files, pipe a message, or set {urls.MAILBOX_URL_VAR}"
        raise UseError([Problem("bounces", message="there is nothing to read", hint=repair)])


class _Files:
    """Files that hold a message each; they are only read."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files = files

    def waiting(self, cap: int) -> Iterator[MailboxMessage]:
        for path in self._files:
            try:
                with path.open("rb") as file:
                    data = file.read(cap)
            except OSError as error:
                yield MailboxMessage(str(path), fault=f"cannot be read ({error.strerror})")
            else:
                yield MailboxMessage(str(path), data)

    def settle(self, one: MailboxMessage, *, understood: bool) -> None:
        pass


def _taken(one: MailboxMessage, keys: tokens.Keys, desk: BounceContext, tally: _Tally) -> bool:
    """Deal with one message; return whether no person needs to look at it."""
    report = parse_returned_message(one.data, keys)
    tally.kinds[report.kind] += 1
    change = apply_report(report, desk, datetime.now(UTC))
    if change:
        tally.changes[change] += 1
    if remark := _remark(report, change):
        print_problems([Problem(report.name or one.name, message=remark)], "warning")
    return not remark


def _remark(report: ReturnedMessage, change: Change | None) -> str:
    """Return why a person needs to look at a message, "" if nobody does."""
    if report.kind == "unknown":
        return _UNKNOWN
    if change is None and report.kind in {"hard", "soft", "refused", "complaint"}:
        return _UNSIGNED
    # Whoever wants no more letters must not get them because we fail to see whose wish it is.
    wishes = report.kind in {"leave", "complaint"}
    return _NOBODY if wishes and change == "gone" else ""


def _conclude(store: Store, tally: _Tally, *, as_json: bool) -> None:
    if tally.kinds["complaint"]:
        complaints, letters = store.bounces.complaints(datetime.now(UTC) - COMPLAINT_SPAN)
        if exceeds_complaint_limit(complaints, letters):
            what = f"{complaints} about {letters} letters in {COMPLAINT_SPAN.days} days"
            repair = "find out why before the next letter"
            print_problems([Problem("complaints", message=what, hint=repair)], "warning")
    total = tally.kinds.total()
    if as_json:
        counts = {"kinds": dict(tally.kinds), "changes": dict(tally.changes)}
        click.echo(json.dumps({"messages": total, **counts}, indent=1, sort_keys=True))
        return
    kinds = [f"{tally.kinds[kind]} {kind}" for kind in get_args(ReportKind) if tally.kinds[kind]]
    changes = [f"{tally.changes[each]} {words}" for each, words in _CHANGES.items()]
    click.echo(f"{total} message{'s' * (total != 1)}: {', '.join(kinds) or 'none'}")
    if told := [line for line in changes if not line.startswith("0 ")]:
        click.echo(", ".join(told))
