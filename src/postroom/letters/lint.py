"""A finished letter → what is wrong with it, each fault with the number of its rule.

Nothing is sent or fixed here. What the rules say stands in `rules.RULES`.
"""

from __future__ import annotations

import re
from collections import Counter
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.message import Message
from email.utils import getaddresses, parseaddr, parsedate_to_datetime
from urllib.parse import unquote

from postroom.errors import Problem
from postroom.letters import headers
from postroom.letters.compose import Rendered
from postroom.letters.footlint import foot_findings
from postroom.letters.htmllint import html_findings
from postroom.letters.personal import list_id, unsubscribe_page
from postroom.letters.rules import Findings, Parts
from postroom.model import Site

_ONCE = ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version")
_LIST = ("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post")
_FIELDS = frozenset(
    name.lower()
    for name in (*_ONCE, *_LIST, "Reply-To", "Content-Type", "DKIM-Signature", "Return-Path")
)
_PLAIN = (*_LIST, "Message-ID", "Date", "References", "In-Reply-To", "MIME-Version")
# RFC 8058 §3.1 asks for the list's fields, the others are what a forger would change.
_SIGNED = frozenset(name.lower() for name in (*_ONCE, *_LIST, "Content-Type"))
_URI = re.compile(r"<([^<>]*)>")
_OPAQUE = re.compile(r"[A-Za-z0-9_-]{22,}")
_NO_REPLY = re.compile(r"(?:do-?not|no)[-_.]?reply", re.IGNORECASE)
_REPORT = "report it"


def lint(message: bytes, site: Site, path: str = "letter") -> list[Problem]:
    """Return every problem of one subscriber's finished message; `path` is where it lies."""
    read = message_from_bytes(message, policy=policy.compat32)
    findings = [*_bytes(message), *(one for rule in _RULES for one in rule(read, site))]
    text, html = _contents(read)
    if html or text:
        parts = Parts(html, text, site, personal=True)
        findings += [*html_findings(parts), *foot_findings(parts), *_one_reader(read, parts)]
    return [_problem(path, *finding) for finding in dict.fromkeys(findings)]


def lint_rendered(letter: Rendered, site: Site, path: str = "letter") -> list[Problem]:
    """Return every problem of the letter as everyone sees it, without a subscriber's links."""
    parts = Parts(letter.html, letter.text, site)
    findings = dict.fromkeys((*html_findings(parts), *foot_findings(parts)))
    return [_problem(path, *finding) for finding in findings]


def _problem(path: str, rule: str, what: str, repair: str) -> Problem:
    return Problem(path, key=rule, what=what, repair=repair)


def _values(message: Message, name: str) -> list[str]:
    return [headers.unfolded(str(value)) for value in message.get_all(name, [])]


def _value(message: Message, name: str) -> str:
    return next(iter(_values(message, name)), "")


def _decoded(value: str) -> str:
    try:
        return headers.decoded(value)
    except (HeaderParseError, LookupError, ValueError):
        return value  # what nobody can decode is shown as it came


def _mailbox(value: str) -> tuple[str, str]:
    display, address = parseaddr(value)
    return _decoded(display), address


def _bytes(data: bytes) -> Findings:
    head, _, body = data.partition(b"\r\n\r\n")
    if re.search(rb"\r(?!\n)|(?<!\r)\n|\0", data):
        yield "N22", "a line break stands alone, or there is NUL", _REPORT
    # RFC 5322 §2.1.1
    if any(len(line) > 998 for line in head.split(b"\r\n")):
        yield "N10", "a line of the head is longer than 998 bytes", "shorten mail.unsubscribe"
    if any(len(line) > 78 for line in body.split(b"\r\n")):
        yield "M5", "a line of the body is longer than 78 bytes", "write it as quoted-printable"


def _known(message: Message, _site: Site) -> Findings:
    for name in dict.fromkeys(message.keys()):
        if name.lower() in {"bcc", "cc", "resent-bcc"}:
            yield "M6", f"{name} gives somebody a copy", _REPORT
        elif name.lower() not in _FIELDS:
            yield "M1", f"{name} is no field of a letter", _REPORT


def _decodes(message: Message, _site: Site) -> Findings:
    for name in ("From", "Reply-To", "To", "Subject"):
        for value in _values(message, name):
            words = _decoded(value)
            if any(ord(character) < 32 or ord(character) == 127 for character in words):
                yield "M2", f"{name} decodes to a control character", "take it out"


def _stays_plain(message: Message, _site: Site) -> Findings:
    for name in _PLAIN:
        if any("=?" in value for value in _values(message, name)):
            yield "M3", f"{name} is encoded, so no program reads it", _REPORT


def _sender(message: Message, site: Site) -> Findings:
    for value in _values(message, "From"):
        if _mailbox(value) != headers.parted(site.mail.sender):
            what = f"From is '{_decoded(value)}' and not mail.from"
            yield "M4", what, _REPORT
        if len(getaddresses([value])) != 1:
            yield "N10", "From holds several mailboxes", "name one in mail.from"
    answers = _value(message, "Reply-To") or _value(message, "From")
    if _NO_REPLY.search(_mailbox(answers)[1]):
        yield "N16", "answers reach nobody", "set mail.reply_to to an address that is read"


def _structure(message: Message, _site: Site) -> Findings:
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
        yield "M5", f"found {found}", "write the text, then the HTML, in multipart/alternative"
    for part in parts:
        if str(part.get_content_charset()) != "utf-8":
            yield "M5", f"the {part.get_content_type()} part is not UTF-8", "write it in UTF-8"


def _identity(message: Message, _site: Site) -> Findings:
    count = Counter(name.lower() for name, _ in message.items())
    for name in _ONCE:
        if count[name.lower()] != 1:
            yield "M6", f"{name} stands {count[name.lower()]} times", _REPORT
    if len(getaddresses(_values(message, "To"))) != 1:
        yield "M6", "To holds not exactly one address", "write to each subscriber alone"


def _origin(message: Message, _site: Site) -> Findings:
    domain = _mailbox(_value(message, "From"))[1].rpartition("@")[2]
    if not re.fullmatch(rf"<[^<>@\s]+@{re.escape(domain)}>", _value(message, "Message-ID")):
        yield "M7", f"Message-ID is not <…@{domain}>", _REPORT
    try:
        parsedate_to_datetime(_value(message, "Date"))
    except ValueError:
        yield "M7", "Date cannot be read", _REPORT


def _list(message: Message, site: Site) -> Findings:
    for name in _LIST:
        if (number := len(_values(message, name))) != 1:
            yield "M8", f"{name} stands {number} times", _REPORT
    if (value := _value(message, "List-Id")) != list_id(site):
        yield "N12", f"List-Id is '{value}' and not {list_id(site)}", _REPORT


def _one_click(message: Message, _site: Site) -> Findings:
    secure = _pages(message)
    if len(secure) != 1:
        what = f"List-Unsubscribe has {len(secure)} https addresses"
        yield "N3", what, "set mail.unsubscribe to an https address"
    for page in secure:
        if not _OPAQUE.fullmatch(page.rpartition("/")[2]):
            yield "N3", "List-Unsubscribe ends with no opaque token", _REPORT
    reader = _mailbox(_value(message, "To"))[1]
    if reader and reader in unquote(_value(message, "List-Unsubscribe")):
        yield "N3", "List-Unsubscribe holds the reader's address", _REPORT
    if _value(message, "List-Unsubscribe-Post") != "List-Unsubscribe=One-Click":
        yield "N3", "List-Unsubscribe-Post is not List-Unsubscribe=One-Click", _REPORT


def _pages(message: Message) -> list[str]:
    uris = _URI.findall(_value(message, "List-Unsubscribe"))
    return [uri for uri in uris if uri.lower().startswith("https://")]


def _signature(message: Message, _site: Site) -> Findings:
    # An unsigned letter is well: signing is the relay's work.
    for value in _values(message, "DKIM-Signature"):
        covered = re.search(r"(?:^|;)\s*h\s*=([^;]*)", value)
        names = re.sub(r"\s", "", covered[1]).lower().split(":") if covered else []
        if missing := sorted(_SIGNED - set(names)):
            yield "M9", f"the signature leaves out {', '.join(missing)}", "let the relay sign them"


def _one_reader(message: Message, parts: Parts) -> Findings:
    """Yield whether the page that the parts show is the one of List-Unsubscribe."""
    page = re.escape(unsubscribe_page(parts.site, ""))
    found = {*re.findall(rf"{page}[\w-]*", f"{parts.html}\n{parts.text}")}
    if found - set(_pages(message)):
        yield "N7", "the page to leave at is not that of List-Unsubscribe", _REPORT


def _contents(message: Message) -> tuple[str, str]:
    found = {"text/plain": "", "text/html": ""}
    for part in message.walk():
        payload = part.get_payload(decode=True)
        if part.get_content_type() in found and isinstance(payload, bytes):
            text = payload.decode("utf-8", "replace").replace("\r\n", "\n")
            found[part.get_content_type()] = text
    return found["text/plain"], found["text/html"]


_RULES = (
    _known,
    _decodes,
    _stays_plain,
    _sender,
    _structure,
    _identity,
    _origin,
    _list,
    _one_click,
    _signature,
)
