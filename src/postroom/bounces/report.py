"""A message that came back → what it means, and whose letter it is about.

Anybody can write to the address of reports, and name any address in what they write. What counts
is what only the receiver of a letter, and the servers on its way, can know: the signed number of
its envelope's sender, or its token. A report without either changes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import Message
from email.utils import parseaddr
from typing import Literal, TypeAlias

from attrs import evolve, field, frozen

from postroom.bounces.status import Verdict, text, verdict, weighed
from postroom.tokens import Keys, leaving, reported

Kind: TypeAlias = Literal[
    "hard",
    "soft",
    "refused",
    "delayed",
    "delivered",
    "complaint",
    "leave",
    "auto-reply",
    "unknown",
]
CAP = 1 << 20
"""Bytes of a message that are read: a report with a whole letter in it has a third of that."""
# RFC 5322 §2.1.1: a line has 998 bytes at most. Patterns that look for addresses take the square of
# a line's length, which a line of a million bytes would make weeks.
_LONG_LINE = re.compile(rb"([^\r\n]{998})[^\r\n]+")
_MOST_RECOGNISED = 1 << 16
_MOST_PARTS = 200
_MOST_TEXT = 1 << 16
# Where servers write down to whom a message was sent, in the order of trust.
_SENT_TO = "Delivered-To X-Original-To X-Delivered-To Envelope-To X-Envelope-To To".split()
# What `tokens` writes behind the + of an address; whether we signed it is asked there.
_SIGNED = re.compile(r"\+[0-9]{1,11}-[A-Za-z2-7]{16}@")
_LEAVES = re.compile(r"\+leave-[A-Za-z0-9_-]{22}@")
# `letters` writes the page's address into List-Unsubscribe; a test holds the two together.
_PAGE = re.compile(r"/list/leave/([A-Za-z0-9_-]{22})(?![A-Za-z0-9_-])")
# RFC 5965 §7.3; not-spam (RFC 6430), auth-failure (RFC 6591) and virus are no complaints.
_COMPLAINTS = frozenset("abuse fraud other opt-out opt-out-list".split())
_DAEMON = re.compile(r"(?:mail(?:er)?-?daemon|postmaster|mdaemon)\Z", re.IGNORECASE)
# RFC 3834 §2 and what programs write that are older, or know it not.
_ANSWERS = "X-Autoreply X-Autorespond X-Autoresponse X-Autoreply-From".split()
# RFC 5321 §4.5.5; the second is how Postfix writes the first for a pipe.
_NULL_SENDERS = ("<>", "<MAILER-DAEMON>")
_MACHINES = ("X-Auto-Response-Suppress", "List-Id")
_AWAY = re.compile(
    r"(?:auto(?:matic|mated)?[ -]?(?:reply|response|answer)|auto:|out of (?:the )?office|ooo:"
    r"|abwesenheit|automatische antwort|réponse automatique|respuesta automática|自动回复|תשובה"
    r" אוטומטית|رد تلقائي)",
    re.IGNORECASE,
)
# What a reply looks like where no field holds it; the returned letter begins with its header.
_REPLY = re.compile(r"(?<![0-9.])(5[0-9]{2})[ -](?:#?(5\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.]))?")
_BRACKETS = re.compile(r"\(#?(5\.[0-9]{1,3}\.[0-9]{1,3})\)")
_RETURNED = re.compile(r"(?im)^(?:Return-Path|Received|Message-ID|List-Unsubscribe):")


@frozen
class Report:
    """What a message means, and of which letter it speaks.

    `delivery` is the number that we signed, 0 for none; `token` the reader's, "" for none. `name`
    is by what a person finds the message: its Message-ID. `fingerprint` tells it from others.
    `named` are the addresses that it says have failed: they prove nothing.
    """

    kind: Kind
    delivery: int = 0
    token: str = field(default="", repr=False)
    status: str = ""
    words: str = field(default="", repr=False)
    name: str = ""
    fingerprint: str = ""
    named: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def is_ours(self) -> bool:
        """Whether it names a letter or a reader so that nobody else could have."""
        return bool(self.delivery or self.token)


def read_report(data: bytes, keys: Keys) -> Report:
    """Return what the message `data` means; whatever it holds, nothing is raised.

    Of a longer message the first `CAP` bytes are read.
    """
    data = data[:CAP]
    try:
        return _read(data, keys)
    except Exception:  # noqa: BLE001 - a message is anything, and the parsers promise nothing
        return Report("unknown", fingerprint=_digest(data))


def _read(data: bytes, keys: Keys) -> Report:
    data = _LONG_LINE.sub(rb"\1", data)
    message = message_from_bytes(data, policy=policy.compat32)
    name = text(message, "Message-ID")
    found, said = _meaning(message, data)
    if found in {"auto-reply", "unknown", "leave"}:
        number = 0
        if token := next(filter(None, map(_token, _sent_to(message))), ""):
            # Whatever is written in it; but an answering machine asks for nothing.
            found = "auto-reply" if _answers(message) else "leave"
    else:
        raw = data.decode("latin-1")
        number = _number(message, raw, keys)
        page = None if number else _PAGE.search(raw)
        token = "" if number else page[1] if page else _token(raw)
    return Report(
        kind=found,
        delivery=number,
        token=token if found != "auto-reply" else "",
        status=said.status if said else "",
        words=said.words if said else "",
        name=name,
        fingerprint=_digest(name.encode() or data),
        named=said.named if said else frozenset(),
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _meaning(message: Message, data: bytes) -> tuple[Kind, Verdict | None]:
    parts = list(_parts(message))
    if feedback := _fields(parts, "message/feedback-report"):
        kind = text(feedback[0], "Feedback-Type").lower()  # RFC 5965 §3.1
        return ("complaint" if kind in _COMPLAINTS else "unknown"), None
    if any(text(part, "X-HmXmrOriginalRecipient") for part in parts):
        return "complaint", None  # Outlook.com's programme returns the letter and nothing else
    if said := verdict(_fields(parts, "message/delivery-status")):
        return said.fate, said
    if _answers(message) and not _is_daemon(message):
        return "auto-reply", None
    if said := _recognised(data[:_MOST_RECOGNISED], parts):
        return said.fate, said
    return ("auto-reply" if _is_automatic(message) else "unknown"), None


def _parts(message: Message) -> Iterator[Message]:
    """Yield the parts of a message, itself first; of what it returns, the header's fields too."""
    waiting = [message]
    for _ in range(_MOST_PARTS):
        if not waiting:
            return
        part = waiting.pop(0)
        yield part
        payload = part.get_payload()
        if isinstance(payload, list):
            waiting.extend(each for each in payload if isinstance(each, Message))


def _fields(parts: list[Message], kind: str) -> list[Message]:
    """Return the groups of fields that parts of the type `kind` hold."""
    found: list[Message] = []
    for part in parts:
        groups = part.get_payload()
        if part.get_content_type() == kind and isinstance(groups, list):
            given = [group for group in groups if isinstance(group, Message)]
            found += [group for group in _decoded(part, given) if group.keys()]
    return found


def _decoded(part: Message, groups: list[Message]) -> list[Message]:
    """Return the groups of fields of a part; some encode them, though RFC 6522 §3 forbids it."""
    if text(part, "Content-Transfer-Encoding").lower() != "base64":
        return groups
    encoded = "".join(str(group.get_payload()) for group in groups)
    plain = base64.b64decode(encoded)
    return [
        message_from_bytes(group, policy=policy.compat32)
        for group in re.split(rb"(?:\r?\n){2,}", plain)
    ]


def _number(message: Message, raw: str, keys: Keys) -> int:
    """Return the first number signed by us: of whom it was sent to, else of what it returns."""
    for place in (*_sent_to(message), raw):
        for found in _SIGNED.finditer(place):
            if (number := reported(found[0], keys)) is not None:
                return number
    return 0


def _token(place: str) -> str:
    """Return the first token of an address by which a mail to it leaves (RFC 2369 §3.2)."""
    found = _LEAVES.search(place)
    return (leaving(found[0]) or "") if found else ""


def _sent_to(message: Message) -> list[str]:
    return [str(value) for name in _SENT_TO for value in message.get_all(name, [])]


def _is_daemon(message: Message) -> bool:
    local = parseaddr(text(message, "From"))[1].rpartition("@")[0]
    return _DAEMON.match(local) is not None


def _answers(message: Message) -> bool:
    """Tell whether a message answers another by itself (RFC 3834 §3).

    A program that leaves the list for its owner may say "auto-generated", and is heard.
    """
    submitted = text(message, "Auto-Submitted").partition(";")[0].strip().lower()
    if submitted.startswith("auto-replied") or any(message.get(name) for name in _ANSWERS):
        return True
    if text(message, "Precedence").lower() == "auto_reply":
        return True
    is_report = message.get_content_type() == "multipart/report"  # also RFC 8098's
    return is_report or bool(_AWAY.match(text(message, "Subject")))


def _is_automatic(message: Message) -> bool:
    """Tell whether no person wrote a message (RFC 3834 §5 and older habits)."""
    submitted = text(message, "Auto-Submitted").lower()
    if submitted not in {"", "no"} or any(message.get(name) for name in _MACHINES):
        return True
    if text(message, "Precedence").lower() in {"bulk", "junk", "list"}:
        return True
    return text(message, "Return-Path") in _NULL_SENDERS


def _recognised(data: bytes, parts: list[Message]) -> Verdict | None:
    """Return what a report says that follows no standard, if it is one of the known kinds."""
    # Imported when it is wanted: most reports follow the standard.
    from flufl.bounce import all_failures  # noqa: PLC0415

    # It logs the exceptions that it passes on, with a trace.
    logging.getLogger("flufl.bounce").addHandler(logging.NullHandler())
    try:
        temporary, permanent = all_failures(message_from_bytes(data, policy=policy.compat32))
    except Exception:  # noqa: BLE001 - one of them stumbles over a message without From
        return None
    if not temporary and not permanent:
        return None
    words = _RETURNED.split("\n".join(_texts(parts)), maxsplit=1)[0]
    replies = _REPLY.findall(words)
    statuses = [status for _, status in replies if status] + _BRACKETS.findall(words)
    codes = [int(code) for code, _ in replies]
    if not permanent:
        return Verdict("delayed")
    # Where nothing more is told than that it came back, that is what 550 alone says.
    said = weighed(codes[0] if codes else 550, statuses, "")
    return evolve(said, named=frozenset(each.decode("ascii").casefold() for each in permanent))


def _texts(parts: list[Message]) -> Iterator[str]:
    left = _MOST_TEXT
    for part in parts:
        if part.get_content_type() == "text/plain" and left > 0:
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                yield content[:left].decode("utf-8", "replace")
                left -= len(content)
