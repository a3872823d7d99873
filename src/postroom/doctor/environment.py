"""What letters need of the settings and the secret keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

from postroom.doctor.findings import Diagnosis, advice, as_findings, ok, problem
from postroom.errors import PostroomError
from postroom.mail.tokens import (
    MIN_KEY_LENGTH,
    NEW_KEY_HINT,
    NO_KEY_HINT,
    NO_KEY_MESSAGE,
    SECRET_KEY_VAR,
)
from postroom.models import Site

_NO_REPLY = re.compile(r"(do-?not|no)[-_.]?reply", re.IGNORECASE)
_FILE = "in postroom.yaml"


def check_settings(site: Site) -> tuple[Diagnosis, ...]:
    """Return what there is to say about the settings of mail and contact."""
    return (*_sender(site), *_leaving(site), *_contact(site), *_selector(site))


def _sender(site: Site) -> Iterator[Diagnosis]:
    mail = site.mail
    if mail.sender:
        yield ok("mail.from", mail.sender)
    else:
        repair = f"write from: {site.title} <news@…> {_FILE}"
        yield problem("mail.from", "is missing, and letters need a sender", repair)
    replies = mail.reply_to or mail.sender
    if _NO_REPLY.search(replies.rpartition("@")[0].rpartition("<")[2]):
        repair = "let answers reach a person: set mail.reply_to to an address that is read"
        yield advice("mail.reply_to", f"answers go to {replies}", repair)
    elif replies:
        yield ok("mail.reply_to", f"answers go to {replies}")
    if mail.bounces:
        yield ok("mail.bounces", mail.bounces)
    else:
        what = "is missing, so failed letters are reported to the sender and nobody is taken off"
        yield advice("mail.bounces", what, "set it to an address that postroom bounces can read")


def _leaving(site: Site) -> Iterator[Diagnosis]:
    address = site.mail.unsubscribe
    if not address:
        what = "is missing, and letters without a way to leave are not sent"
        yield problem("mail.unsubscribe", what, "set it to the address where postroom serve is")
    elif urlsplit(address).scheme != "https":
        # RFC 8058 §3.1
        what = f"{address} is not https, so that one-click leaving does not count"
        yield problem("mail.unsubscribe", what, f"write https {_FILE}")
    else:
        yield ok("mail.unsubscribe", address)


def _contact(site: Site) -> Iterator[Diagnosis]:
    contact = site.contact
    if contact.address:
        yield ok("contact.address", ", ".join(contact.address.splitlines()))
    else:
        what = "is missing, and letters without a postal address are not sent"
        yield problem("contact.address", what, f"write it {_FILE}")
    name = contact.organization or contact.name
    ways = [way for way in (contact.email, contact.phone, contact.message) if way]
    if name and ways:
        yield ok("contact", f"{name}, {ways[0]}")
    elif name:
        yield advice("contact", "names nobody who can be reached", "add email, phone or message")
    else:
        yield advice("contact", "does not say whose news this is", "add organization or name")


def _selector(site: Site) -> Iterator[Diagnosis]:
    if site.mail.dkim_selector:
        yield ok("mail.dkim_selector", site.mail.dkim_selector)
    else:
        what = "is missing, so the key that letters are signed with is not looked at"
        yield advice(
            "mail.dkim_selector", what, "set it to what follows s= in a letter's signature"
        )


def check_secrets(value: str | None) -> tuple[Diagnosis, ...]:
    """Return what there is to say about `POSTROOM_SECRET_KEY`, of which nothing is repeated."""
    keys = [key.strip() for key in (value or "").split(",")]
    if keys == [""]:
        return (problem(SECRET_KEY_VAR, NO_KEY_MESSAGE, NO_KEY_HINT),)
    if "" in keys:
        return (problem(SECRET_KEY_VAR, "holds an empty key", "take out the comma too many"),)
    if len(set(keys)) != len(keys):
        return (
            problem(SECRET_KEY_VAR, "holds a key twice", "keep each once; the oldest stands last"),
        )
    shortest = min(map(len, keys))
    if shortest < MIN_KEY_LENGTH:
        what = f"holds a key of {shortest} characters, and {MIN_KEY_LENGTH} are needed"
        # The last one makes hashes that cannot be made again.
        return (problem(SECRET_KEY_VAR, what, f"put a longer one before it; {NEW_KEY_HINT}"),)
    return (ok(SECRET_KEY_VAR, "one key" if len(keys) == 1 else f"{len(keys)} keys"),)


# The HTML of a letter is cut at 90 KB; quoted-printable can treble it, and the text comes to it.
_LARGEST_LETTER = 500_000


class RelayFeatures(Protocol):
    """What a mail server offers to those it has let in."""

    @property
    def tls(self) -> str:
        """The version of TLS in use, or nothing."""

    @property
    def size(self) -> int:
        """The longest message it takes, in bytes; 0 if there is no known limit."""


class RelayProbe(Protocol):
    """A mail server that can be connected to."""

    def open(self) -> RelayFeatures:
        """Connect and log in; raises `RelayError`."""

    def close(self) -> None:
        """End the connection."""


def check_relay(server: RelayProbe, name: str) -> tuple[Diagnosis, ...]:
    """Connect to the mail server called `name`, log in, send nothing, and return what was found."""
    try:
        offer = server.open()
    except PostroomError as error:
        return as_findings(error.problems)
    finally:
        server.close()
    protected = f"over {offer.tls}" if offer.tls else "without TLS, on this machine"
    reached = ok("connection", f"{name} lets us in, {protected}")
    if 0 < offer.size < _LARGEST_LETTER:
        what = f"takes {offer.size} bytes at most, and a long letter may have {_LARGEST_LETTER}"
        return (reached, advice("size", what, "ask its operator for a higher limit"))
    limit = f"takes letters of up to {offer.size} bytes" if offer.size else "sets no limit"
    return (reached, ok("size", limit))


def check_clock(now: datetime, changed: datetime, due: int, waiting: int) -> tuple[Diagnosis, ...]:
    """Return whether the clock can be right.

    `changed` is when a file of the newsroom was changed last; `due` posts are published and
    `waiting` posts are dated later than `now`.
    """
    shown = f"shows {now.isoformat(timespec='seconds')}"
    if waiting and not due:
        repair = "set the clock, or correct the dates of the posts"
        return (problem("clock", f"{shown}, and every post waits for a later date", repair),)
    # Other machines, and file systems that round, may be a little ahead.
    if changed > now + timedelta(minutes=5):
        when = changed.isoformat(timespec="seconds")
        return (problem("clock", f"{shown}, but a post was changed at {when}", "set the clock"),)
    return (ok("clock", shown),)


def check_database(writes: Callable[[], str]) -> tuple[Diagnosis, ...]:
    """Return whether the ledger can be kept: `writes` tries it and returns where it is.

    It raises `PostroomError` or `OSError` if it cannot.
    """
    try:
        return (ok("database", f"{writes()} can be written"),)
    except PostroomError as error:
        return as_findings(error.problems)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        what = f"{error.filename or 'it'} cannot be written ({reason})"
        return (problem("database", what, "correct its owner or its rights"),)
