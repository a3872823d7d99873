"""What letters need of the settings and the secret keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from postroom.doctor.finding import Finding, advice, problem, well
from postroom.model import Site

SECRETS = "POSTROOM_SECRET_KEY"
_SHORTEST = 16
_NO_REPLY = re.compile(r"(do-?not|no)[-_.]?reply", re.IGNORECASE)
_FILE = "in postroom.yaml"


def settings(site: Site) -> tuple[Finding, ...]:
    """Return what there is to say about the settings of mail and contact."""
    return (*_sender(site), *_leaving(site), *_contact(site), *_selector(site))


def _sender(site: Site) -> Iterator[Finding]:
    mail = site.mail
    if mail.sender:
        yield well("mail.from", mail.sender)
    else:
        repair = f"write from: {site.title} <news@…> {_FILE}"
        yield problem("mail.from", "is missing, and letters need a sender", repair)
    replies = mail.reply_to or mail.sender
    if _NO_REPLY.search(replies.rpartition("@")[0].rpartition("<")[2]):
        repair = "let answers reach a person: set mail.reply_to to an address that is read"
        yield advice("mail.reply_to", f"answers go to {replies}", repair)
    elif replies:
        yield well("mail.reply_to", f"answers go to {replies}")
    if mail.bounces:
        yield well("mail.bounces", mail.bounces)
    else:
        what = "is missing, so failed letters are reported to the sender and nobody is taken off"
        yield advice("mail.bounces", what, "set it to an address that postroom bounces can read")


def _leaving(site: Site) -> Iterator[Finding]:
    address = site.mail.unsubscribe
    if not address:
        what = "is missing, and letters without a way to leave are not sent"
        yield problem("mail.unsubscribe", what, "set it to the address where postroom serve is")
    elif urlsplit(address).scheme != "https":
        # RFC 8058 §3.1
        what = f"{address} is not https, so that one-click leaving does not count"
        yield problem("mail.unsubscribe", what, f"write https {_FILE}")
    else:
        yield well("mail.unsubscribe", address)


def _contact(site: Site) -> Iterator[Finding]:
    contact = site.contact
    if contact.address:
        yield well("contact.address", ", ".join(contact.address.splitlines()))
    else:
        what = "is missing, and letters without a postal address are not sent"
        yield problem("contact.address", what, f"write it {_FILE}")
    name = contact.organization or contact.name
    ways = [way for way in (contact.email, contact.phone, contact.message) if way]
    if name and ways:
        yield well("contact", f"{name}, {ways[0]}")
    elif name:
        yield advice("contact", "names nobody who can be reached", "add email, phone or message")
    else:
        yield advice("contact", "does not say whose news this is", "add organization or name")


def _selector(site: Site) -> Iterator[Finding]:
    if site.mail.dkim_selector:
        yield well("mail.dkim_selector", site.mail.dkim_selector)
    else:
        what = "is missing, so the key that letters are signed with is not looked at"
        yield advice(
            "mail.dkim_selector", what, "set it to what follows s= in a letter's signature"
        )


_MAKE = 'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'


def secrets(value: str | None) -> tuple[Finding, ...]:
    """Return what there is to say about `POSTROOM_SECRET_KEY`, of which nothing is repeated."""
    keys = [key.strip() for key in (value or "").split(",")]
    if keys == [""]:
        repair = f"set what this newsroom had; if it had none yet, {_MAKE}"
        return (problem(SECRETS, "is not set", repair),)
    if "" in keys:
        return (problem(SECRETS, "holds an empty key", "take out the comma too many"),)
    if len(set(keys)) != len(keys):
        return (problem(SECRETS, "holds a key twice", "keep each once; the oldest stands last"),)
    shortest = min(map(len, keys))
    if shortest < _SHORTEST:
        what = f"holds a key of {shortest} characters, and {_SHORTEST} are needed"
        # The last one makes hashes that cannot be made again.
        return (problem(SECRETS, what, f"put a longer one before it; {_MAKE}"),)
    return (well(SECRETS, "one key" if len(keys) == 1 else f"{len(keys)} keys"),)
