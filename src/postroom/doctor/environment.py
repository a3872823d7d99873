"""What letters need of the settings and the secret keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from postroom.doctor.findings import Diagnosis, advice, as_findings, ok, problem
from postroom.errors import PostroomError, SettingsError
from postroom.mail.tokens import SECRET_KEY_VAR, parse_keys
from postroom.models import Site
from postroom.newsletter.requirements import missing_settings

_NO_REPLY = re.compile(r"(do-?not|no)[-_.]?reply", re.IGNORECASE)


def check_settings(site: Site) -> tuple[Diagnosis, ...]:
    """Return the findings about the settings of mail and contact."""
    missing = {p.key: problem(p.key, p.message, p.hint) for p in missing_settings(site)}
    return (
        *_sender(site, missing),
        missing.get("mail.unsubscribe") or ok("mail.unsubscribe", site.mail.unsubscribe),
        *_contact(site, missing),
        *_selector(site),
    )


def _sender(site: Site, missing: Mapping[str, Diagnosis]) -> Iterator[Diagnosis]:
    mail = site.mail
    yield missing.get("mail.from") or ok("mail.from", mail.sender)
    replies = mail.reply_to or mail.sender
    if _NO_REPLY.search(replies.rpartition("@")[0].rpartition("<")[2]):
        hint = "set mail.reply_to to an email address that someone reads"
        yield advice("mail.reply_to", f"replies go to {replies}", hint)
    elif replies:
        yield ok("mail.reply_to", f"replies go to {replies}")
    if mail.bounces:
        yield missing.get("mail.bounces") or ok("mail.bounces", mail.bounces)
    else:
        message = "is missing, so bounces go to the sender and dead addresses stay on the list"
        hint = "set it to an email address that postroom bounces can read"
        yield advice("mail.bounces", message, hint)


def _contact(site: Site, missing: Mapping[str, Diagnosis]) -> Iterator[Diagnosis]:
    contact = site.contact
    postal = ", ".join(contact.address.splitlines())
    yield missing.get("contact.address") or ok("contact.address", postal)
    name = contact.organization or contact.name
    channels = [channel for channel in (contact.email, contact.phone, contact.message) if channel]
    if name and channels:
        yield ok("contact", f"{name}, {channels[0]}")
    elif name:
        yield advice("contact", "names nobody who can be reached", "add email, phone or message")
    else:
        yield advice("contact", "does not say whose news this is", "add organization or name")


def _selector(site: Site) -> Iterator[Diagnosis]:
    if site.mail.dkim_selector:
        yield ok("mail.dkim_selector", site.mail.dkim_selector)
    else:
        message = "is missing, so the key that signs your emails is not checked"
        hint = "set it to what follows s= in the DKIM-Signature of an email"
        yield advice("mail.dkim_selector", message, hint)


def check_secrets(value: str | None) -> tuple[Diagnosis, ...]:
    """Return the findings about `POSTROOM_SECRET_KEY`, without any part of its value."""
    try:
        parse_keys(value)
    except SettingsError as error:
        return as_findings(error.problems)
    keys = [key.strip() for key in (value or "").split(",")]
    if "" in keys:
        return (problem(SECRET_KEY_VAR, "holds an empty key", "remove the extra comma"),)
    if len(set(keys)) != len(keys):
        return (problem(SECRET_KEY_VAR, "holds a key twice", "keep each once; the oldest is last"),)
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
