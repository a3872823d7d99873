"""Rules for the bytes, header fields and structure of a message."""

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
from postroom.lint.email_parts import EmailParts, find_urls
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
# RFC 8058 §3.1 requires the List fields; the others are worth forging.
_SIGNED = frozenset(name.lower() for name in (*_ONCE, *_LIST, "Content-Type"))
_URI = re.compile(r"<([^<>]*)>")
_OPAQUE = re.compile(r"[A-Za-z0-9_-]{22,}")
_NO_REPLY = re.compile(r"(?:do-?not|no)[-_.]?reply", re.IGNORECASE)
_REPORT = "report this as a bug of Postroom"


def lint_bytes(data: bytes) -> Iterator[Problem]:
    """Yield what is wrong with the lines of a message."""
    head, _, body = data.partition(b"\r\n\r\n")
    if not data.count(b"\r\n") == data.count(b"\r") == data.count(b"\n") or b"\0" in data:
        yield file_problem("email-line-breaks", "there is a bare CR or LF, or NUL", _REPORT)
    # RFC 5322 §2.1.1
    if any(len(line) > 998 for line in head.split(b"\r\n")):
        fault = "a line of the header is longer than 998 bytes"
        yield file_problem("email-head-lines", fault, "shorten mail.unsubscribe")
    if any(len(line) > 78 for line in body.split(b"\r\n")):
        fault = "a line of the body is longer than 78 bytes"
        yield file_problem("email-body-lines", fault, "encode it as quoted-printable")


def read_parts(message: Message) -> tuple[str, str]:
    """Return the text and the HTML of a message; a missing part is empty."""
    found = {"text/plain": "", "text/html": ""}
    for part in message.walk():
        payload = part.get_payload(decode=True)
        if part.get_content_type() in found and isinstance(payload, bytes):
            text = payload.decode("utf-8", "replace").replace("\r\n", "\n")
            found[part.get_content_type()] = text
    return found["text/plain"], found["text/html"]


def lint_recipient(message: Message, parts: EmailParts) -> Iterator[Problem]:
    """Yield a problem for each link that identifies this subscriber or belongs to another one."""
    page = re.escape(unsubscribe_url(parts.site, ""))
    found = {*re.findall(rf"{page}[\w-]*", f"{parts.html}\n{parts.text}")}
    pages = _pages(message)
    if found - {*pages}:
        yield file_problem(
            "email-own-page", "the unsubscribe link is not that of List-Unsubscribe", _REPORT
        )
    token = next(iter(pages), "").rpartition("/")[2]
    own = {*pages, preferences_url(parts.site, token)}
    recipient = _mailbox(_value(message, "To"))[1]
    for url in dict.fromkeys(_linked_urls(parts)):
        secrets = [value for value in (token, recipient) if value and value in unquote(url)]
        if secrets and url not in own:
            yield file_problem(
                "email-tracking",
                f"{url} identifies the subscriber",
                "use the same link for all subscribers",
            )


def _linked_urls(parts: EmailParts) -> list[str]:
    in_html = [element.get(name, "") for element in parts.elements for name in ("href", "src")]
    urls = [*in_html, *find_urls(parts.text)]
    return [url for url in urls if url and not url.startswith("mailto:")]


def _values(message: Message, name: str) -> list[str]:
    return [mime.unfold(str(value)) for value in message.get_all(name, [])]


def _value(message: Message, name: str) -> str:
    return next(iter(_values(message, name)), "")


def _decoded(value: str) -> str:
    try:
        return mime.decode_field(value)
    except (HeaderParseError, LookupError, ValueError):
        return value  # mail programs show an invalid encoded word as it is


def _mailbox(value: str) -> tuple[str, str]:
    display, address = parseaddr(value)
    return _decoded(display), address


def _known_fields(message: Message, _site: Site) -> Iterator[Problem]:
    for name in dict.fromkeys(message.keys()):
        if name.lower() in _COPIES:
            yield file_problem("email-one-recipient", f"{name} sends somebody a copy", _REPORT)
        elif name.lower() not in _FIELDS:
            yield file_problem(
                "email-fields", f"{name} is not a field that Postroom writes", _REPORT
            )


def _no_control_characters(message: Message, _site: Site) -> Iterator[Problem]:
    for name in ("From", "Reply-To", "To", "Subject"):
        for value in _values(message, name):
            text = _decoded(value)
            if any(ord(character) < 32 or ord(character) == 127 for character in text):
                fault = f"{name} contains an encoded control character"
                yield file_problem("email-control-characters", fault, "remove it")


def _no_encoded_words(message: Message, _site: Site) -> Iterator[Problem]:
    for name in _PLAIN:
        if any("=?" in value for value in _values(message, name)):
            yield file_problem(
                "email-encoded-fields", f"{name} is encoded, so programs cannot read it", _REPORT
            )


def _sender(message: Message, site: Site) -> Iterator[Problem]:
    for value in _values(message, "From"):
        if _mailbox(value) != mime.split_address(site.mail.sender):
            fault = f"From is '{_decoded(value)}', not mail.from"
            yield file_problem("email-sender", fault, _REPORT)
        if len(getaddresses([value])) != 1:
            yield file_problem(
                "email-one-sender", "From has several addresses", "write one into mail.from"
            )
    answers = _value(message, "Reply-To") or _value(message, "From")
    if _NO_REPLY.search(_mailbox(answers)[1]):
        hint = "set mail.reply_to to an address that someone reads"
        yield file_problem("email-reply-address", "replies reach nobody", hint)


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
            "write text/plain, then text/html, into multipart/alternative",
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
                "email-identity", f"{name} occurs {_times(count[name.lower()])}", _REPORT
            )
    if len(getaddresses(_values(message, "To"))) != 1:
        fault = "To does not have exactly one address"
        yield file_problem(
            "email-one-recipient", fault, "send a separate message to each subscriber"
        )
    if count["subject"] and not _decoded(_value(message, "Subject")).strip():
        yield file_problem("email-subject", "Subject is empty", "set digest.subject")


def _message_id(message: Message, _site: Site) -> Iterator[Problem]:
    domain = _mailbox(_value(message, "From"))[1].rpartition("@")[2]
    if not re.fullmatch(rf"<[^<>@\s]+@{re.escape(domain)}>", _value(message, "Message-ID")):
        yield file_problem("email-message-id", f"Message-ID is not <…@{domain}>", _REPORT)


def _date(message: Message, _site: Site) -> Iterator[Problem]:
    try:
        parsedate_to_datetime(_value(message, "Date"))
    except (ValueError, TypeError, OverflowError, IndexError):
        yield file_problem("email-date", "Date cannot be parsed", _REPORT)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _list_fields(message: Message, site: Site) -> Iterator[Problem]:
    for name in _LIST:
        if (number := len(_values(message, name))) != 1:
            yield file_problem("email-list-fields", f"{name} occurs {_times(number)}", _REPORT)
    value = _value(message, "List-Id")
    if value and value != list_id(site):
        yield file_problem("email-list-id", f"List-Id is '{value}', not {list_id(site)}", _REPORT)


def _one_click(message: Message, _site: Site) -> Iterator[Problem]:
    unsubscribe, post = (
        _value(message, "List-Unsubscribe"),
        _value(message, "List-Unsubscribe-Post"),
    )
    secure = _pages(message)
    if unsubscribe and len(secure) != 1:
        fault = f"List-Unsubscribe has {len(secure)} https URLs, not 1"
        yield file_problem("email-one-click", fault, "set mail.unsubscribe to an https URL")
    if post and post != "List-Unsubscribe=One-Click":
        fault = "List-Unsubscribe-Post is not List-Unsubscribe=One-Click"
        yield file_problem("email-one-click", fault, _REPORT)
    for page in secure:
        if not _OPAQUE.fullmatch(page.rpartition("/")[2]):
            yield file_problem(
                "email-opaque-token", "List-Unsubscribe does not end with an opaque token", _REPORT
            )
    recipient = _mailbox(_value(message, "To"))[1]
    if recipient and recipient in unquote(unsubscribe):
        yield file_problem(
            "email-opaque-token",
            "List-Unsubscribe contains the email address of the subscriber",
            _REPORT,
        )


def _pages(message: Message) -> list[str]:
    uris = _URI.findall(_value(message, "List-Unsubscribe"))
    return [uri for uri in uris if uri.lower().startswith("https://")]


def _signature(message: Message, _site: Site) -> Iterator[Problem]:
    # A message without a signature is fine, because the relay signs it.
    for value in _values(message, "DKIM-Signature"):
        covered = re.search(r"(?:^|;)\s*h\s*=([^;]*)", value)
        names = re.sub(r"\s", "", covered[1]).lower().split(":") if covered else []
        if missing := sorted(_SIGNED - set(names)):
            fault = f"the DKIM signature does not cover {', '.join(missing)}"
            yield file_problem("email-signature", fault, "configure the relay to sign them")


MESSAGE_RULES = (
    _known_fields,
    _no_control_characters,
    _no_encoded_words,
    _sender,
    _structure,
    _identity,
    _message_id,
    _date,
    _list_fields,
    _one_click,
    _signature,
)
