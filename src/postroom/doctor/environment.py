"""Checks of settings, secrets, domains, the SMTP server, the clock and the database.

The checks change nothing and send no email. They receive the resolver, the SMTP server, the time
and the database access as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from postroom.doctor.dkim import check_dkim_key
from postroom.doctor.dns import Resolver, check_dmarc, check_mx, check_spf, domain_of
from postroom.doctor.findings import Diagnosis, advice, as_findings, ok, problem
from postroom.errors import PostroomError, SettingsError
from postroom.mail.tokens import SECRET_KEY_VAR, parse_keys
from postroom.models import MailSettings, Site
from postroom.newsletter.requirements import missing_settings

_NO_REPLY = re.compile(r"(do-?not|no)[-_.]?reply", re.IGNORECASE)


def check_settings(site: Site) -> tuple[Diagnosis, ...]:
    """Return the findings about the settings under `mail` and `contact`."""
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
        yield advice("contact", "has no way to reach you", "add email, phone or message")
    else:
        yield advice("contact", "does not name a company or a person", "add organization or name")


def _selector(site: Site) -> Iterator[Diagnosis]:
    if site.mail.dkim_selector:
        yield ok("mail.dkim_selector", site.mail.dkim_selector)
    else:
        message = "is missing, so the key that signs your emails is not checked"
        hint = "set it to what follows s= in the DKIM-Signature of an email"
        yield advice("mail.dkim_selector", message, hint)


def check_secrets(value: str | None) -> tuple[Diagnosis, ...]:
    """Return the findings about `value`, the content of `POSTROOM_SECRET_KEY`.

    No finding contains any part of the keys.
    """
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


def check_domains(mail: MailSettings, resolver: Resolver) -> Iterator[Diagnosis]:
    """Yield the findings about the SPF, DKIM, DMARC and MX records of the domains in `mail`."""
    sender = domain_of(mail.sender)
    envelope = domain_of(mail.bounces) or sender
    if not sender:
        return
    # RFC 7208 §2.4: SPF is checked for the domain of the envelope, not for that of From.
    yield from check_spf(envelope, resolver)
    signer = ""
    if mail.dkim_selector:
        findings = check_dkim_key(sender, mail.dkim_selector, resolver)
        yield from findings
        signer = "" if any(finding.level == "problem" for finding in findings) else sender
    yield from check_dmarc(sender, envelope, signer, resolver)
    uses = {envelope: "bounces"} if mail.bounces else {}
    replies = domain_of(mail.reply_to) or sender
    for domain in dict.fromkeys((sender, replies)):
        uses[domain] = "bounces and replies" if domain in uses else "replies"
    for domain, use in uses.items():
        yield from check_mx(domain, use, resolver)


# The HTML of an email is at most 90 KB; quoted-printable may treble it, and the text is added.
_LARGEST_EMAIL = 500_000


class RelayFeatures(Protocol):
    """The features of an SMTP server after the login."""

    @property
    def tls(self) -> str:
        """The version of TLS in use, "" without TLS."""

    @property
    def size(self) -> int:
        """The largest message that the server accepts, in bytes; 0 if it states no limit."""


class RelayProbe(Protocol):
    """An SMTP server that the doctor can connect to."""

    def open(self) -> RelayFeatures:
        """Connect and log in; raises `RelayError`."""

    def close(self) -> None:
        """End the connection."""


def check_relay(server: RelayProbe, name: str) -> tuple[Diagnosis, ...]:
    """Connect to the SMTP server called `name` and log in; return the findings."""
    try:
        features = server.open()
    except PostroomError as error:
        return as_findings(error.problems)
    finally:
        server.close()
    security = f"over {features.tls}" if features.tls else "without TLS, on this machine"
    connected = ok("connection", f"{name} accepts the login, {security}")
    if 0 < features.size < _LARGEST_EMAIL:
        message = f"accepts at most {features.size} bytes; a long email may have {_LARGEST_EMAIL}"
        return (connected, advice("size", message, "ask its operator for a higher limit"))
    limit = f"accepts emails of up to {features.size} bytes" if features.size else "has no limit"
    return (connected, ok("size", limit))


def check_clock(now: datetime, changed: datetime, due: int, waiting: int) -> tuple[Diagnosis, ...]:
    """Return a finding that says whether the clock, which shows `now`, may be wrong.

    `changed` is the time of the last change to the settings file or a published post. `due` is the
    number of published posts, `waiting` the number of posts that are dated later than `now`.
    """
    time = f"shows {now.isoformat(timespec='seconds')}"
    if waiting and not due:
        hint = "set the clock, or correct the dates of the posts"
        return (problem("clock", f"{time}, and every post has a later date", hint),)
    # Other machines may be a little ahead, and some file systems round up.
    if changed > now + timedelta(minutes=5):
        when = changed.isoformat(timespec="seconds")
        return (problem("clock", f"{time}, but a post was changed at {when}", "set the clock"),)
    return (ok("clock", time),)


def check_database(try_write: Callable[[], str]) -> tuple[Diagnosis, ...]:
    """Return a finding that says whether the database can be written to.

    `try_write` tries it and returns the name of the database, or raises `PostroomError` or
    `OSError`.
    """
    try:
        return (ok("database", f"{try_write()} can be written"),)
    except PostroomError as error:
        return as_findings(error.problems)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        message = f"{error.filename or 'it'} cannot be written ({reason})"
        return (problem("database", message, "correct its owner or permissions"),)
