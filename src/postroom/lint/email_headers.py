"""A finished message → what is wrong with its bytes, its fields and its structure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.message import Message
from email.utils import getaddresses, parseaddr, parsedate_to_datetime
from urllib.parse import unquote

from postroom.errors import Problem
from postroom.lint.context import file_problem
from postroom.lint.email_parts import EmailParts, find_addresses
from postroom.mail.unsubscribe import preferences_url, unsubscribe_url
from postroom.models import Site
from postroom.newsletter import mime
from postroom.newsletter.personalize import list_id

_ONCE = ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version")
_LIST = ("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post")
_FIELDS = frozenset(
    name.lower()
    for name in (*_ONCE, *_LIST, "Reply-To", "Content-Type", "DKIM-Signature", "Return-Path")
)
_COPIES = frozenset({"bcc", "cc", "resent-bcc", "resent-cc", "resent-to"})
_PLAIN = (*_LIST, "Message-ID", "Date", "References", "In-Reply-To", "MIME-Version")
# RFC 8058 §3.1 asks for the list's fields, the others are what a forger would change.
_SIGNED = frozenset(name.lower() for name in (*_ONCE, *_LIST, "Content-Type"))
_URI = re.compile(r"<([^<>]*)>")
_OPAQUE = re.compile(r"[A-Za-z0-9_-]{22,}")
_NO_REPLY = re.compile(r"(?:do-?not|no)[-_.]?reply", re.IGNORECASE)
_REPORT = "report it"


def lint_bytes(data: bytes) -> Iterator[Problem]:
    """Yield what is wrong with the lines of a message."""
    head, _, body = data.partition(b"\r\n\r\n")
    if not data.count(b"\r\n") == data.count(b"\r") == data.count(b"\n") or b"\0" in data:
        yield file_problem(
            "email-line-breaks", "a line break stands alone, or there is NUL", _REPORT
        )
    # RFC 5322 §2.1.1
    if any(len(line) > 998 for line in head.split(b"\r\n")):
        what = "a line of the head is longer than 998 bytes"
        yield file_problem("email-head-lines", what, "shorten mail.unsubscribe")
    if any(len(line) > 78 for line in body.split(b"\r\n")):
        what = "a line of the body is longer than 78 bytes"
        yield file_problem("email-body-lines", what, "write it as quoted-printable")


def read_parts(message: Message) -> tuple[str, str]:
    """Return the text and the HTML of a message, each empty if it has none."""
    found = {"text/plain": "", "text/html": ""}
    for part in message.walk():
        payload = part.get_payload(decode=True)
        if part.get_content_type() in found and isinstance(payload, bytes):
            text = payload.decode("utf-8", "replace").replace("\r\n", "\n")
            found[part.get_content_type()] = text
    return found["text/plain"], found["text/html"]


def lint_recipient(message: Message, parts: EmailParts) -> Iterator[Problem]:
    """Yield whether the links of both parts tell on the reader, or are another's."""
    page = re.escape(unsubscribe_url(parts.site, ""))
    found = {*re.findall(rf"{page}[\w-]*", f"{parts.html}\n{parts.text}")}
    pages = _pages(message)
    if found - {*pages}:
        yield file_problem(
            "email-own-page", "the page to leave at is not that of List-Unsubscribe", _REPORT
        )
    token = next(iter(pages), "").rpartition("/")[2]
    own = {*pages, preferences_url(parts.site, token)}
    reader = _mailbox(_value(message, "To"))[1]
    for address in dict.fromkeys(_led_to(parts)):
        told = [one for one in (token, reader) if one and one in unquote(address)]
        if told and address not in own:
            yield file_problem(
                "email-tracking",
                f"{address} tells who reads the letter",
                "let all get the same link",
            )


def _led_to(parts: EmailParts) -> list[str]:
    loaded = [one.get(name, "") for one in parts.elements for name in ("href", "src")]
    every = [*loaded, *find_addresses(parts.text)]
    return [one for one in every if one and not one.startswith("mailto:")]


def _values(message: Message, name: str) -> list[str]:
    return [mime.unfold(str(value)) for value in message.get_all(name, [])]


def _value(message: Message, name: str) -> str:
    return next(iter(_values(message, name)), "")


def _decoded(value: str) -> str:
    try:
        return mime.decode_field(value)
    except (HeaderParseError, LookupError, ValueError):
        return value  # what nobody can decode is shown as it came


def _mailbox(value: str) -> tuple[str, str]:
    display, address = parseaddr(value)
    return _decoded(display), address


def _known(message: Message, _site: Site) -> Iterator[Problem]:
    for name in dict.fromkeys(message.keys()):
        if name.lower() in _COPIES:
            yield file_problem("email-one-recipient", f"{name} gives somebody a copy", _REPORT)
        elif name.lower() not in _FIELDS:
            yield file_problem("email-fields", f"{name} is no field of a letter", _REPORT)


def _decodes(message: Message, _site: Site) -> Iterator[Problem]:
    for name in ("From", "Reply-To", "To", "Subject"):
        for value in _values(message, name):
            words = _decoded(value)
            if any(ord(character) < 32 or ord(character) == 127 for character in words):
                what = f"{name} decodes to a control character"
                yield file_problem("email-control-characters", what, "take it out")


def _stays_plain(message: Message, _site: Site) -> Iterator[Problem]:
    for name in _PLAIN:
        if any("=?" in value for value in _values(message, name)):
            yield file_problem(
                "email-encoded-fields", f"{name} is encoded, so no program reads it", _REPORT
            )


def _sender(message: Message, site: Site) -> Iterator[Problem]:
    for value in _values(message, "From"):
        if _mailbox(value) != mime.split_address(site.mail.sender):
            what = f"From is '{_decoded(value)}' and not mail.from"
            yield file_problem("email-sender", what, _REPORT)
        if len(getaddresses([value])) != 1:
            yield file_problem(
                "email-one-sender", "From holds several mailboxes", "name one in mail.from"
            )
    answers = _value(message, "Reply-To") or _value(message, "From")
    if _NO_REPLY.search(_mailbox(answers)[1]):
        repair = "set mail.reply_to to an address that is read"
        yield file_problem("email-reply-address", "answers reach nobody", repair)


def _structure(message: Message, _site: Site) -> Iterator[Problem]:
    payload = message.get_payload()
    parts = (
        [part for part in payload if isinstance(part, Message)] if message.is_multipart() else []
    )
    kinds = [part.get_content_type() for part in parts]
    if (message.get_content_type(), kinds) != (
        "multipart/alternative",
        ["text/plain", "text/html"],
    ):
        found = ", ".join([message.get_content_type(), *kinds])
        yield file_problem(
            "email-parts",
            f"found {found}",
            "write the text, then the HTML, in multipart/alternative",
        )
    for part in parts:
        if str(part.get_content_charset()) != "utf-8":
            yield file_problem(
                "email-parts",
                f"the {part.get_content_type()} part is not UTF-8",
                "write it in UTF-8",
            )


def _identity(message: Message, _site: Site) -> Iterator[Problem]:
    count = Counter(name.lower() for name, _ in message.items())
    for name in _ONCE:
        if count[name.lower()] != 1:
            yield file_problem(
                "email-identity", f"{name} stands {count[name.lower()]} times", _REPORT
            )
    if len(getaddresses(_values(message, "To"))) != 1:
        what = "To holds not exactly one address"
        yield file_problem("email-one-recipient", what, "write to each subscriber alone")
    if count["subject"] and not _decoded(_value(message, "Subject")).strip():
        yield file_problem("email-subject", "Subject is empty", "set digest.subject")


def _origin(message: Message, _site: Site) -> Iterator[Problem]:
    domain = _mailbox(_value(message, "From"))[1].rpartition("@")[2]
    if not re.fullmatch(rf"<[^<>@\s]+@{re.escape(domain)}>", _value(message, "Message-ID")):
        yield file_problem("email-message-id", f"Message-ID is not <…@{domain}>", _REPORT)


def _date(message: Message, _site: Site) -> Iterator[Problem]:
    try:
        parsedate_to_datetime(_value(message, "Date"))
    except (ValueError, TypeError, OverflowError, IndexError):
        yield file_problem("email-date", "Date cannot be read", _REPORT)


def _list(message: Message, site: Site) -> Iterator[Problem]:
    for name in _LIST:
        if (number := len(_values(message, name))) != 1:
            yield file_problem("email-list-fields", f"{name} stands {number} times", _REPORT)
    value = _value(message, "List-Id")
    if value and value != list_id(site):
        yield file_problem(
            "email-list-id", f"List-Id is '{value}' and not {list_id(site)}", _REPORT
        )


def _one_click(message: Message, _site: Site) -> Iterator[Problem]:
    leave, post = _value(message, "List-Unsubscribe"), _value(message, "List-Unsubscribe-Post")
    secure = _pages(message)
    if leave and len(secure) != 1:
        what = f"List-Unsubscribe has {len(secure)} https addresses"
        yield file_problem("email-one-click", what, "set mail.unsubscribe to an https address")
    if post and post != "List-Unsubscribe=One-Click":
        what = "List-Unsubscribe-Post is not List-Unsubscribe=One-Click"
        yield file_problem("email-one-click", what, _REPORT)
    for page in secure:
        if not _OPAQUE.fullmatch(page.rpartition("/")[2]):
            yield file_problem(
                "email-opaque-token", "List-Unsubscribe ends with no opaque token", _REPORT
            )
    reader = _mailbox(_value(message, "To"))[1]
    if reader and reader in unquote(leave):
        yield file_problem(
            "email-opaque-token", "List-Unsubscribe holds the reader's address", _REPORT
        )


def _pages(message: Message) -> list[str]:
    uris = _URI.findall(_value(message, "List-Unsubscribe"))
    return [uri for uri in uris if uri.lower().startswith("https://")]


def _signature(message: Message, _site: Site) -> Iterator[Problem]:
    # An unsigned letter is well: signing is the relay's work.
    for value in _values(message, "DKIM-Signature"):
        covered = re.search(r"(?:^|;)\s*h\s*=([^;]*)", value)
        names = re.sub(r"\s", "", covered[1]).lower().split(":") if covered else []
        if missing := sorted(_SIGNED - set(names)):
            what = f"the signature leaves out {', '.join(missing)}"
            yield file_problem("email-signature", what, "let the relay sign them")


MESSAGE_RULES = (
    _known,
    _decodes,
    _stays_plain,
    _sender,
    _structure,
    _identity,
    _origin,
    _date,
    _list,
    _one_click,
    _signature,
)
