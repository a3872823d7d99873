"""Delivery reports (RFC 3464) → what became of a letter."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from email import message_from_bytes, policy
from email.message import Message
from email.utils import parseaddr
from typing import Literal, Protocol, TypeAlias

from attrs import evolve, field, frozen

from postroom.mail.bounce_policy import enhanced_status, is_hard, is_soft
from postroom.mail.tokens import Keys, read_envelope_sender, read_unsubscribe_address
from postroom.mail.unsubscribe import UNSUBSCRIBE_PATH
from postroom.models import BounceTrace, Change, Subscriber

BounceKind: TypeAlias = Literal["hard", "soft", "refused", "delayed", "delivered"]
# RFC 3464 §2.3.6, §2.2.2: a type, then what the server said, reply code first.
_DIAGNOSTIC = re.compile(r"(?:[^;]*;)?\s*(?:([245][0-9]{2})(?:[ -]|$))?\s*(.*)")
_STATUS = re.compile(r"\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.])")
# RFC 3464 §2.3.3. OpenSMTPD writes "error"; comments behind the word have been seen.
_FATES: dict[str, BounceKind] = {
    "delayed": "delayed",
    "delivered": "delivered",
    "relayed": "delivered",
    "expanded": "delivered",
}
_MILDEST_FIRST: tuple[BounceKind, ...] = ("delivered", "delayed", "refused", "soft", "hard")
_RECIPIENTS = ("Original-Recipient", "Final-Recipient")
_LONGEST = 500


@frozen
class BounceVerdict:
    """What a report says: `status` is RFC 3463's, `words` what the server said, on one line.

    `named` are the addresses of which it says so, in small letters.
    """

    fate: BounceKind
    status: str = ""
    words: str = ""
    named: frozenset[str] = frozenset()


def classify(recipients: Iterable[Message]) -> BounceVerdict | None:
    """Return what a report says by its fields about each recipient; None if it says nothing.

    A letter has one recipient. Where the report has several, that one's server sent it on, and it
    failed only if it reached none of them, and hard only if it failed hard for all.
    """
    each: dict[BounceKind, BounceVerdict] = {}
    named: set[str] = set()
    for fields in recipients:
        if found := _one(fields):
            each.setdefault(found.fate, found)
            named |= {key for name in _RECIPIENTS if (key := _address(decode_text(fields, name)))}
    fate = next((fate for fate in _MILDEST_FIRST if fate in each), None)
    return evolve(each[fate], named=frozenset(named)) if fate else None


def _address(value: str) -> str:
    """Return the address of a field such as `rfc822; reader@example.com` (RFC 3464 §2.3.1)."""
    return value.rpartition(";")[2].strip(" <>").casefold()


def _one(fields: Message) -> BounceVerdict | None:
    action = decode_text(fields, "Action").strip().lower()
    status = _STATUS.match(decode_text(fields, "Status"))
    if not action and not status:
        return None
    given = status[1] if status else ""
    diagnostic = _DIAGNOSTIC.match(_line(decode_text(fields, "Diagnostic-Code")))
    code, said = (diagnostic[1], diagnostic[2]) if diagnostic else (None, "")
    word = re.match(r"[a-z]*", action)
    if word and word[0] in _FATES:
        return BounceVerdict(_FATES[word[0]], given, said)
    return pick_status(int(code or 0), (given, enhanced_status(said)), said)


def pick_status(code: int, statuses: Iterable[str], words: str) -> BounceVerdict:
    """Return what a failure is that was told by a reply's code and by statuses.

    Where they differ, the mildest counts: the relay's word is not worth more than the words of the
    server that refused.
    """
    # A passing reply that came until the relay gave up is a failure all the same.
    code = 0 if code // 100 == 4 else code
    given = [status for status in statuses if status and not status.endswith(".0.0")] or [""]
    shown = given[0]
    if all(is_hard(code, status) for status in given):
        return BounceVerdict("hard", shown, words)
    if all(is_hard(code, status) or is_soft(code, status) for status in given):
        return BounceVerdict("soft", shown, words)
    return BounceVerdict("refused", shown, words)


def decode_text(fields: Message, name: str) -> str:
    """Return the value of a field as one line, "" if there is none."""
    return _line(str(fields.get(name) or ""))


def _line(value: str) -> str:
    """Return a value on one line without what cannot be shown."""
    shown = "".join(c if c.isprintable() else " " for c in value[: 4 * _LONGEST])
    return " ".join(shown.split())[:_LONGEST]


ReportKind: TypeAlias = Literal[
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
_PAGE = re.compile(rf"/{re.escape(UNSUBSCRIBE_PATH)}([A-Za-z0-9_-]{{22}})(?![A-Za-z0-9_-])")
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
class ReturnedMessage:
    """What a message means, and of which letter it speaks.

    `delivery` is the number that we signed, 0 for none; `token` the reader's, "" for none. `name`
    is by what a person finds the message: its Message-ID. `fingerprint` tells it from others.
    `named` are the addresses that it says have failed: they prove nothing.
    """

    kind: ReportKind
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


def parse_returned_message(data: bytes, keys: Keys) -> ReturnedMessage:
    """Return what the message `data` means; whatever it holds, nothing is raised.

    Of a longer message the first `CAP` bytes are read.
    """
    data = data[:CAP]
    try:
        return _read(data, keys)
    except Exception:  # noqa: BLE001 - a message is anything, and the parsers promise nothing
        return ReturnedMessage("unknown", fingerprint=_digest(data))


def _read(data: bytes, keys: Keys) -> ReturnedMessage:
    data = _LONG_LINE.sub(rb"\1", data)
    message = message_from_bytes(data, policy=policy.compat32)
    name = decode_text(message, "Message-ID")
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
    return ReturnedMessage(
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


def _meaning(message: Message, data: bytes) -> tuple[ReportKind, BounceVerdict | None]:
    parts = list(_parts(message))
    if feedback := _fields(parts, "message/feedback-report"):
        kind = decode_text(feedback[0], "Feedback-Type").lower()  # RFC 5965 §3.1
        return ("complaint" if kind in _COMPLAINTS else "unknown"), None
    if any(decode_text(part, "X-HmXmrOriginalRecipient") for part in parts):
        return "complaint", None  # Outlook.com's programme returns the letter and nothing else
    if said := classify(_fields(parts, "message/delivery-status")):
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
    if decode_text(part, "Content-Transfer-Encoding").lower() != "base64":
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
            if (number := read_envelope_sender(found[0], keys)) is not None:
                return number
    return 0


def _token(place: str) -> str:
    """Return the first token of an address by which a mail to it leaves (RFC 2369 §3.2)."""
    found = _LEAVES.search(place)
    return (read_unsubscribe_address(found[0]) or "") if found else ""


def _sent_to(message: Message) -> list[str]:
    return [str(value) for name in _SENT_TO for value in message.get_all(name, [])]


def _is_daemon(message: Message) -> bool:
    local = parseaddr(decode_text(message, "From"))[1].rpartition("@")[0]
    return _DAEMON.match(local) is not None


def _answers(message: Message) -> bool:
    """Tell whether a message answers another by itself (RFC 3834 §3).

    A program that leaves the list for its owner may say "auto-generated", and is heard.
    """
    submitted = decode_text(message, "Auto-Submitted").partition(";")[0].strip().lower()
    if submitted.startswith("auto-replied") or any(message.get(name) for name in _ANSWERS):
        return True
    if decode_text(message, "Precedence").lower() == "auto_reply":
        return True
    is_report = message.get_content_type() == "multipart/report"  # also RFC 8098's
    return is_report or bool(_AWAY.match(decode_text(message, "Subject")))


def _is_automatic(message: Message) -> bool:
    """Tell whether no person wrote a message (RFC 3834 §5 and older habits)."""
    submitted = decode_text(message, "Auto-Submitted").lower()
    if submitted not in {"", "no"} or any(message.get(name) for name in _MACHINES):
        return True
    if decode_text(message, "Precedence").lower() in {"bulk", "junk", "list"}:
        return True
    return decode_text(message, "Return-Path") in _NULL_SENDERS


def _recognised(data: bytes, parts: list[Message]) -> BounceVerdict | None:
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
        return BounceVerdict("delayed")
    # Where nothing more is told than that it came back, that is what 550 alone says.
    said = pick_status(codes[0] if codes else 550, statuses, "")
    return evolve(said, named=frozenset(each.decode("ascii").casefold() for each in permanent))


def _texts(parts: list[Message]) -> Iterator[str]:
    left = _MOST_TEXT
    for part in parts:
        if part.get_content_type() == "text/plain" and left > 0:
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                yield content[:left].decode("utf-8", "replace")
                left -= len(content)


class BounceStore(Protocol):
    """Where what reports say is written down; each method is one transaction."""

    def record_failure(
        self,
        trace: BounceTrace,
        *,
        hard: bool,
        detail: str,
        hashed: Callable[[str], str],
        at: datetime,
    ) -> Change:
        """Note that a letter did not arrive."""
        ...

    def record_refusal(self, trace: BounceTrace, detail: str, at: datetime) -> Change:
        """Note that a letter was refused, and not for its address."""
        ...

    def record_complaint(
        self, trace: BounceTrace, hashed: Callable[[str], str], at: datetime
    ) -> Change:
        """Note that a reader called a letter spam."""
        ...


@frozen
class BounceContext:
    """What acting needs: the book, how a subscriber leaves by token, and the hash of a key.

    `leave` tells whether it was news, and `with_token` whose the token is, or None.
    """

    store: BounceStore
    unsubscribe: Callable[[str, datetime], bool]
    with_token: Callable[[str], Subscriber | None]
    hash_address: Callable[[str], str] = field(repr=False)


def apply_report(report: ReturnedMessage, desk: BounceContext, at: datetime) -> Change | None:
    """Do what a report asks for, at the instant `at`; return None if it asks for nothing.

    Only what bears a number that we signed, or a reader's token, is acted on: the address that a
    report names proves nothing. Doing it twice changes nothing more.
    """
    if not report.is_ours:
        return None
    trace = BounceTrace(report.delivery, report.token, report.fingerprint, report.named)
    said = f"{report.status} {report.words.removeprefix(report.status).strip()}".strip()
    match report.kind:
        case "leave":
            return _left(report.token, desk, at)
        case "complaint":
            return desk.store.record_complaint(trace, desk.hash_address, at)
        case "hard" | "soft":
            hard = report.kind == "hard"
            return desk.store.record_failure(
                trace, hard=hard, detail=said, hashed=desk.hash_address, at=at
            )
        case "refused":
            return desk.store.record_refusal(trace, said, at)
        case _:
            return None


def _left(token: str, desk: BounceContext, at: datetime) -> Change:
    if desk.unsubscribe(token, at):
        return "stopped"
    return "known" if desk.with_token(token) else "gone"
