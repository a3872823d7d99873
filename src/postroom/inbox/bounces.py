"""Parse returned messages (bounces, complaints, unsubscribe emails), and apply them."""

from __future__ import annotations

import base64
import hashlib
import logging
import quopri
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from email import message_from_bytes, policy
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr
from typing import Literal, Protocol, TypeAlias

from attrs import evolve, field, frozen

from postroom.mail.bounce_policy import classify_refusal, enhanced_statuses, telling_statuses
from postroom.mail.refusal_words import MAX_WORDS
from postroom.mail.tokens import Keys, read_envelope_sender, read_unsubscribe_address
from postroom.mail.unsubscribe import UNSUBSCRIBE_PATH
from postroom.models import BounceTrace, Change, Subscriber

BounceKind: TypeAlias = Literal["hard", "soft", "refused", "delayed", "delivered"]
# RFC 3464 §2.3.6, §2.2.2: a type, then the server's reply, which begins with its code.
_DIAGNOSTIC = re.compile(r"(?:[^;]*;)?\s*(?:([245][0-9]{2})(?:[ -]|$))?\s*(.*)")
_STATUS = re.compile(r"\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.])")
# RFC 3464 §2.3.3. Any other action is a failure: OpenSMTPD writes "error".
_ACTIONS: dict[str, BounceKind] = {
    "delayed": "delayed",
    "delivered": "delivered",
    "relayed": "delivered",
    "expanded": "delivered",
}
# A character in an address that a server without SMTPUTF8 must not see (RFC 6533 §3).
_ENCODED_CHARACTER = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_MILDEST_FIRST: tuple[BounceKind, ...] = ("delivered", "delayed", "refused", "soft", "hard")
_RECIPIENTS = ("Original-Recipient", "Final-Recipient")
_MAX_LENGTH = 500


@frozen
class BounceVerdict:
    """The outcome of a delivery, as a bounce report states it.

    `status` is the enhanced status code (RFC 3463), `diagnostic` the server's reply on one line.
    `addresses` are the email addresses that failed, in lower case.
    """

    kind: BounceKind
    status: str = ""
    diagnostic: str = ""
    addresses: frozenset[str] = frozenset()


def classify(recipients: Iterable[Message]) -> BounceVerdict | None:
    """Return the verdict of a bounce report, None if the report has none for any recipient.

    `recipients` holds the report's fields, one group for each recipient (RFC 3464 §2.3). Each of
    our emails has one recipient; a report names several if a server forwarded the email. The email
    then failed only if it reached none of them, and the bounce is hard only if it is hard for all.
    """
    verdicts: dict[BounceKind, BounceVerdict] = {}
    addresses: set[str] = set()
    for fields in recipients:
        if verdict := _recipient_verdict(fields):
            verdicts.setdefault(verdict.kind, verdict)
            values = (_field_address(decode_text(fields, name)) for name in _RECIPIENTS)
            addresses |= set(filter(None, values))
    kind = next((kind for kind in _MILDEST_FIRST if kind in verdicts), None)
    return evolve(verdicts[kind], addresses=frozenset(addresses)) if kind else None


def _field_address(value: str) -> str:
    """Return the address of a field such as `rfc822; reader@example.com` (RFC 3464 §2.3.1)."""
    address = value.rpartition(";")[2].strip(" <>")
    return _ENCODED_CHARACTER.sub(_decode_character, address).casefold()


def _decode_character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number <= sys.maxunicode else match[0]


def _recipient_verdict(fields: Message) -> BounceVerdict | None:
    action = decode_text(fields, "Action").strip().lower()
    match = _STATUS.match(decode_text(fields, "Status"))
    if not action and not match:
        return None
    status = match[1] if match else ""
    diagnostic = decode_text(fields, "Diagnostic-Code", MAX_WORDS)
    # Some servers write the reply here, as "<192.0.2.9 #5.0.0 smtp; 550 no such user>".
    supplement = decode_text(fields, "X-Supplementary-Info", MAX_WORDS)
    reply = _DIAGNOSTIC.match(diagnostic or supplement.strip("<>"))
    code, text = (reply[1], reply[2]) if reply else (None, "")
    word = re.match(r"[a-z]*", action)
    if word and word[0] in _ACTIONS:
        return BounceVerdict(_ACTIONS[word[0]], status, text[:_MAX_LENGTH])
    # A temporary reply that repeated until the relay gave up is a permanent failure.
    number = int(code) if code and code[0] != "4" else 0
    statuses = (status, *enhanced_statuses(text))
    return pick_status(number, statuses, text, f"{text} {supplement}")


def pick_status(code: int, statuses: Iterable[str], diagnostic: str, words: str) -> BounceVerdict:
    """Return the verdict on a failure with this reply code and these enhanced status codes.

    `code` is 0 if there is none or it is temporary. `diagnostic` is the server's reply, `words` all
    words about the failure.
    """
    statuses = tuple(statuses)
    kind = classify_refusal(code, statuses, words)
    return BounceVerdict(kind, telling_statuses(statuses)[0], diagnostic[:_MAX_LENGTH])


def decode_text(fields: Message, name: str, length: int = _MAX_LENGTH) -> str:
    """Return the value of the header field `name` on one line, "" if there is no such field.

    The line has at most `length` characters, all printable, with encoded words (RFC 2047) decoded.
    """
    raw = next((str(value) for key, value in fields.raw_items() if key.lower() == name.lower()), "")
    data = raw[: 4 * length].encode("utf-8", "surrogateescape")
    try:
        value = data.decode()  # RFC 6532 §3.2
    except UnicodeDecodeError:
        value = data.decode("latin-1")
    if "=?" in value:
        # Malformed encoded words stay as they are.
        with suppress(LookupError, ValueError, MessageError):
            value = str(make_header(decode_header(value)))
    printable = "".join(c if c.isprintable() else " " for c in value)
    return " ".join(printable.split())[:length]


ReportKind: TypeAlias = Literal[
    "hard",
    "soft",
    "refused",
    "delayed",
    "delivered",
    "complaint",
    "unsubscribe",
    "auto-reply",
    "unknown",
]
MAX_BYTES = 1 << 20
"""How much of a message is read, in bytes; a report with a whole email has a third of that."""
# RFC 5322 §2.1.1: a line has 998 bytes at most. The time of the patterns that find addresses grows
# with the square of a line's length: a line of a million bytes would take weeks.
_LONG_LINE = re.compile(rb"([^\r\n]{998})[^\r\n]+")
_GLOBAL_STATUS = re.compile(rb"message/global-delivery-status", re.IGNORECASE)
_MAX_UNSTRUCTURED = 1 << 16
_MAX_PARTS = 200
_MAX_TEXT = 1 << 16
# The fields in which servers write the recipient of a message, most reliable first.
_SENT_TO = "Delivered-To X-Original-To X-Delivered-To Envelope-To X-Envelope-To To".split()
# The form of `mail.tokens` behind the + of an address; the signature is checked there.
_SIGNED_ADDRESS = re.compile(r"\+[0-9]{1,11}-[A-Za-z2-7]{16}@")
# The form of `mail.unsubscribe_url` in List-Unsubscribe; a test compares the two.
_UNSUBSCRIBE_URL = re.compile(
    rf"/{re.escape(UNSUBSCRIBE_PATH)}([A-Za-z0-9_-]{{22}})(?![A-Za-z0-9_-])"
)
# RFC 5965 §7.3; not-spam (RFC 6430), auth-failure (RFC 6591) and virus are no complaints.
_COMPLAINTS = frozenset("abuse fraud other opt-out opt-out-list".split())
_DAEMON = re.compile(r"(?:mail(?:er)?-?daemon|postmaster|mdaemon)\Z", re.IGNORECASE)
# RFC 3834 §2, and fields of programs that do not follow it.
_REPLY_FIELDS = "X-Autoreply X-Autorespond X-Autoresponse X-Autoreply-From".split()
# RFC 5321 §4.5.5; the second is how Postfix writes the first for a pipe.
_NULL_SENDERS = ("<>", "<MAILER-DAEMON>")
_AUTOMATIC_FIELDS = ("X-Auto-Response-Suppress", "List-Id")
_REPLY_SUBJECT = re.compile(
    r"(?:auto(?:matic|mated)?[ -]?(?:reply|response|answer)|auto:|out of (?:the )?office|ooo:"
    r"|abwesenheit|automatische antwort|réponse automatique|respuesta automática|自动回复|תשובה"
    r" אוטומטית|رد تلقائي)",
    re.IGNORECASE,
)
# An SMTP reply in plain text; the returned email begins with its header.
_SMTP_REPLY = re.compile(
    r"(?<![0-9.])(5[0-7][0-9])(?:[ -]|: )(?:#?(5\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.]))?"
)
_STATUS_IN_BRACKETS = re.compile(r"\(#?(5\.[0-9]{1,3}\.[0-9]{1,3})\)")
_RETURNED_HEADER = re.compile(
    r"(?im)^(?:(?:Return-Path|Received|Message-ID|List-Unsubscribe|MIME-Version|DKIM-Signature"
    r"|DomainKey-Signature|Authentication-Results|ARC-[a-z-]+|X-[a-z-]+):"
    r"|-{2,} ?(?:below this line|original message|this is a copy|returned message|unsent message))"
)


@frozen
class ReturnedMessage:
    """The kind of an incoming message, and the delivery or subscriber that it is about.

    `delivery` is the id of a delivery with our valid signature, or 0. `token` is a subscriber's
    token, or "". `fingerprint` identifies the message, so that it is applied only once;
    `message_id` names it in warnings. `addresses` are the email addresses that the message reports
    as failed; anyone can write them, so they prove nothing.
    """

    kind: ReportKind
    delivery: int = 0
    token: str = field(default="", repr=False)
    status: str = ""
    diagnostic: str = field(default="", repr=False)
    message_id: str = ""
    fingerprint: str = ""
    addresses: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def is_trusted(self) -> bool:
        """Whether the message has a signed delivery id or a token; only our emails contain them."""
        return bool(self.delivery or self.token)


def parse_returned_message(data: bytes, keys: Keys) -> ReturnedMessage:
    """Parse the first `MAX_BYTES` of an incoming message; never raises, even if it is malformed."""
    data = data[:MAX_BYTES]
    try:
        return _parse(data, keys)
    except Exception:  # noqa: BLE001 - a stranger wrote it, and the parsers promise nothing
        return ReturnedMessage("unknown", fingerprint=_fingerprint(data))


def _parse(data: bytes, keys: Keys) -> ReturnedMessage:
    data = _LONG_LINE.sub(rb"\1", data)
    # Both types have one structure (RFC 6533 §3), but the parser knows only the older one.
    data = _GLOBAL_STATUS.sub(b"message/delivery-status", data)
    message = message_from_bytes(data, policy=policy.compat32)
    message_id = decode_text(message, "Message-ID")
    kind, verdict = _classify_message(message, data)
    delivery, token = 0, ""
    if verdict or kind == "complaint":
        text = data.decode("latin-1")
        delivery = _find_delivery(message, text, keys)
        url = None if delivery else _UNSUBSCRIBE_URL.search(text)
        token = "" if delivery else url[1] if url else _find_token(text)
    elif address_token := next(filter(None, map(_find_token, _recipients(message))), ""):
        # Its text does not matter; but an auto-reply asks for nothing.
        kind = "auto-reply" if _is_auto_reply(message) else "unsubscribe"
        token = "" if kind == "auto-reply" else address_token
    return ReturnedMessage(
        kind=kind,
        delivery=delivery,
        token=token,
        status=verdict.status if verdict else "",
        diagnostic=verdict.diagnostic if verdict else "",
        message_id=message_id,
        fingerprint=_fingerprint(message_id.encode() or data),
        addresses=verdict.addresses if verdict else frozenset(),
    )


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _classify_message(message: Message, data: bytes) -> tuple[ReportKind, BounceVerdict | None]:
    """Return the kind of a message, and the verdict if it is a bounce.

    The caller has already recognised unsubscribe emails.
    """
    parts = list(_parts(message))
    if reports := _field_groups(parts, "message/feedback-report"):
        feedback = decode_text(reports[0], "Feedback-Type").lower()  # RFC 5965 §3.1
        return ("complaint" if feedback in _COMPLAINTS else "unknown"), None
    if any(decode_text(part, "X-HmXmrOriginalRecipient") for part in parts):
        return "complaint", None  # Outlook.com's feedback loop returns the email and nothing else
    if verdict := classify(_field_groups(parts, "message/delivery-status")):
        return verdict.kind, verdict
    is_daemon = _is_daemon(message)
    if _is_auto_reply(message) and not is_daemon:
        return "auto-reply", None
    text = _RETURNED_HEADER.split("\n".join(_plain_texts(parts)), maxsplit=1)[0]
    verdict = _parse_unstructured(data[:_MAX_UNSTRUCTURED], text)
    # RFC 3464 §2: a report has the null sender, but so have many auto-replies.
    if verdict is None and (is_daemon or _has_null_sender(message)):
        verdict = _parse_quoted_reply(text)
    if verdict:
        return verdict.kind, verdict
    return ("auto-reply" if _is_automatic(message) and not is_daemon else "unknown"), None


def _parts(message: Message) -> Iterator[Message]:
    """Yield the message and all its MIME parts, including those of an email returned inside it."""
    queue = [message]
    for _ in range(_MAX_PARTS):
        if not queue:
            return
        part = queue.pop(0)
        yield part
        payload = part.get_payload()
        if isinstance(payload, list):
            queue.extend(inner for inner in payload if isinstance(inner, Message))


def _field_groups(parts: list[Message], content_type: str) -> list[Message]:
    """Return the groups of fields in all parts of this content type.

    A report consists of such groups, each like a message header (RFC 3464 §2.1).
    """
    found: list[Message] = []
    for part in parts:
        payload = part.get_payload()
        if part.get_content_type() == content_type and isinstance(payload, list):
            groups = [group for group in payload if isinstance(group, Message)]
            found += [group for group in _decode_groups(part, groups) if group.keys()]
    return found


def _decode_groups(part: Message, groups: list[Message]) -> list[Message]:
    """Return the groups of fields in `part`, decoded if the part is encoded.

    RFC 6533 §3 allows it; for other reports it happens despite RFC 6522 §3.
    """
    match decode_text(part, "Content-Transfer-Encoding").lower():
        case "base64":
            plain = base64.b64decode("".join(str(group.get_payload()) for group in groups))
        case "quoted-printable":
            plain = quopri.decodestring("\n".join(map(_written, groups)).encode("utf-8", "replace"))
        case _:
            return groups
    return [
        message_from_bytes(group, policy=policy.compat32)
        for group in re.split(rb"(?:\r?\n){2,}", plain)
    ]


def _written(group: Message) -> str:
    fields = "".join(f"{name}: {value}\n" for name, value in group.raw_items())
    return f"{fields}\n{group.get_payload()}"


def _find_delivery(message: Message, text: str, keys: Keys) -> int:
    """Return the first delivery id with our valid signature, 0 if there is none.

    The fields with the recipient are searched first, then the whole text of the message.
    """
    for place in (*_recipients(message), text):
        for match in _SIGNED_ADDRESS.finditer(place):
            if (delivery := read_envelope_sender(match[0], keys)) is not None:
                return delivery
    return 0


def _find_token(text: str) -> str:
    """Return the token of the first unsubscribe address in `text` (RFC 2369 §3.2), or ""."""
    return read_unsubscribe_address(text) or ""


def _recipients(message: Message) -> list[str]:
    return [str(value) for name in _SENT_TO for value in message.get_all(name, [])]


def _is_daemon(message: Message) -> bool:
    local = parseaddr(decode_text(message, "From"))[1].rpartition("@")[0]
    return _DAEMON.match(local) is not None


def _is_auto_reply(message: Message) -> bool:
    """Tell whether a program sent the message as a reply (RFC 3834 §3).

    `Auto-Submitted: auto-generated` does not make it a reply: a mail program that unsubscribes its
    user may write it.
    """
    submitted = decode_text(message, "Auto-Submitted").partition(";")[0].strip().lower()
    if submitted.startswith("auto-replied") or any(message.get(name) for name in _REPLY_FIELDS):
        return True
    if decode_text(message, "Precedence").lower() == "auto_reply":
        return True
    is_receipt = str(message.get_param("report-type")).lower() == "disposition-notification"
    return is_receipt or bool(_REPLY_SUBJECT.match(decode_text(message, "Subject")))


def _is_automatic(message: Message) -> bool:
    """Tell whether a program wrote the message, by Auto-Submitted (RFC 3834 §5) or older fields."""
    submitted = decode_text(message, "Auto-Submitted").lower()
    if submitted not in {"", "no"} or any(message.get(name) for name in _AUTOMATIC_FIELDS):
        return True
    return decode_text(message, "Precedence").lower() in {"bulk", "junk", "list"}


def _has_null_sender(message: Message) -> bool:
    return decode_text(message, "Return-Path") in _NULL_SENDERS


def _parse_unstructured(data: bytes, text: str) -> BounceVerdict | None:
    """Return the verdict of a bounce that does not follow RFC 3464, None if it is not a bounce.

    `text` is its plain text without the returned email.
    """
    # Imported here because it is slow, and most bounces follow the standard.
    from flufl.bounce import all_failures  # noqa: PLC0415

    # It logs the exceptions that it catches, with a traceback.
    logging.getLogger("flufl.bounce").addHandler(logging.NullHandler())
    try:
        temporary, permanent = all_failures(message_from_bytes(data, policy=policy.compat32))
    except Exception:  # noqa: BLE001 - one of its parsers fails on a message without From
        return None
    if not temporary and not permanent:
        return None
    if not permanent:
        return BounceVerdict("delayed")
    addresses = frozenset(address.decode("ascii").casefold() for address in permanent)
    return evolve(_read_replies(text), addresses=addresses)


def _parse_quoted_reply(text: str) -> BounceVerdict | None:
    """Return the verdict of a report whose text quotes a reply with its code and its status.

    Exchange Online sends such reports without a part for programs. A number alone proves nothing:
    it may belong to a telephone.
    """
    is_reply = any(status for _, status in _SMTP_REPLY.findall(text))
    return _read_replies(text) if is_reply else None


def _read_replies(text: str) -> BounceVerdict:
    """Return the verdict of the SMTP replies that a report quotes."""
    replies = _SMTP_REPLY.findall(text)
    statuses = [status for _, status in replies if status] + _STATUS_IN_BRACKETS.findall(text)
    codes = [int(code) for code, _ in replies]
    # A bounce without a reason means as much as a bare 550.
    return pick_status(codes[0] if codes else 550, statuses, "", _reply_paragraphs(text))


def _reply_paragraphs(text: str) -> str:
    """Return the paragraphs of a report that quote an SMTP reply, or the whole text without one.

    The others give general advice, which blames nobody in this case.
    """
    paragraphs = re.split(r"\n\s*\n", text)
    replies = [part for part in paragraphs if _SMTP_REPLY.search(part)]
    return "\n\n".join(replies or paragraphs)


def _plain_texts(parts: list[Message]) -> Iterator[str]:
    remaining = _MAX_TEXT
    for part in parts:
        if part.get_content_type() == "text/plain" and remaining > 0:
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                yield content[:remaining].decode("utf-8", "replace")
                remaining -= len(content)


class BounceStore(Protocol):
    """The database operations for bounces and complaints; each method is one transaction."""

    def record_failure(
        self,
        trace: BounceTrace,
        *,
        hard: bool,
        detail: str,
        hashed: Callable[[str], str],
        at: datetime,
    ) -> Change:
        """Record a bounce: a hard one with `hard`, otherwise a soft one."""
        ...

    def record_refusal(self, trace: BounceTrace, detail: str, at: datetime) -> Change:
        """Record that an email was refused for a reason other than its recipient's address."""
        ...

    def record_complaint(
        self, trace: BounceTrace, hashed: Callable[[str], str], at: datetime
    ) -> Change:
        """Record that a subscriber marked an email as spam."""
        ...


@frozen
class BounceContext:
    """The dependencies of `apply_report`.

    `unsubscribe` takes a token and an instant, and returns whether anything changed.
    `find_subscriber` returns the subscriber with a token. `hash_address` takes an
    `EmailAddress.key` and returns the hash that the suppression list stores.
    """

    store: BounceStore
    unsubscribe: Callable[[str, datetime], bool]
    find_subscriber: Callable[[str], Subscriber | None]
    hash_address: Callable[[str], str] = field(repr=False)


def apply_report(report: ReturnedMessage, context: BounceContext, at: datetime) -> Change | None:
    """Apply a report to the database at the instant `at`; return None if it is ignored.

    The subscriber is found by a signed delivery id or a token, never by an email address that the
    report names. Applying the same report again changes nothing.
    """
    if not report.is_trusted:
        return None
    trace = BounceTrace(report.delivery, report.token, report.fingerprint, report.addresses)
    detail = f"{report.status} {report.diagnostic.removeprefix(report.status).strip()}".strip()
    match report.kind:
        case "unsubscribe":
            return _unsubscribe(report.token, context, at)
        case "complaint":
            return context.store.record_complaint(trace, context.hash_address, at)
        case "hard" | "soft":
            hard = report.kind == "hard"
            return context.store.record_failure(
                trace, hard=hard, detail=detail, hashed=context.hash_address, at=at
            )
        case "refused":
            return context.store.record_refusal(trace, detail, at)
        case _:
            return None


def _unsubscribe(token: str, context: BounceContext, at: datetime) -> Change:
    if context.unsubscribe(token, at):
        return "stopped"
    return "known" if context.find_subscriber(token) else "gone"
