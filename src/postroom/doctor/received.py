"""A received letter → what receivers and readers will make of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr

from postroom.doctor.dkim import Verify, check_signatures
from postroom.doctor.dns import Resolver, domain_of, is_aligned
from postroom.doctor.findings import Diagnosis, DiagnosisSection, advice, ok, problem

LIMIT = 25_000_000
"""Bytes of a file that are read at most: no mailbox takes a longer letter."""
# RFC 5322 §3.6
_ONCE = ("From", "To", "Subject", "Date", "Message-ID")
_URI = re.compile(r"<\s*([^<>]*?)\s*>")
_ENCODED = re.compile(r"=\?[^?]+\?[BbQq]\?")
_COMMENT = re.compile(r"\((?:[^()\\]|\\.)*\)")
_RESULT = re.compile(r"\s*([A-Za-z0-9-]+)(?:/[0-9]+)?\s*=\s*([A-Za-z0-9-]+)")
_PASSING = frozenset("none neutral policy temperror softfail".split())


def check_received(data: bytes, resolver: Resolver, verify: Verify) -> Iterator[DiagnosisSection]:
    """Yield what there is to say about the received letter in `data`, in order.

    `verify` is asked whether a signature holds.
    """
    data = restore_line_ends(data)
    # The older parser: it keeps every field as it came.
    message = message_from_bytes(data, policy=policy.compat32)
    sender = domain_of(_value(message, "From"))
    yield DiagnosisSection("Fields", tuple(_fields(message)))
    yield DiagnosisSection("Leaving", tuple(_leaving(message)))
    yield DiagnosisSection("Parts", tuple(_parts(message)))
    yield DiagnosisSection(
        "Signature", tuple(check_signatures(data, message, sender, resolver, verify))
    )
    yield DiagnosisSection("Receiver", (*_returned(message, sender, resolver), *_results(message)))


def restore_line_ends(data: bytes) -> bytes:
    """Return the letter in a saved file as it was sent, its lines ended by CR LF."""
    # A file saved from a mailbox may begin with the line that parts letters there (RFC 4155).
    data = re.sub(rb"\AFrom [^\n]*\n", b"", data.removeprefix(b"\xef\xbb\xbf"))
    return re.sub(rb"\r?\n", b"\r\n", data)


def _fields(message: Message) -> Iterator[Diagnosis]:
    for name in _ONCE:
        values = message.get_all(name, [])
        if len(values) == 1 and str(values[0]).strip():
            yield ok(name, _shown(values[0]))
        elif values:
            what = f"stands {len(values)} times" if len(values) > 1 else "is empty"
            yield problem(name, what, "let nothing on the way add fields")
        else:
            yield problem(name, "is missing", "let nothing on the way take fields away")
    if not domain_of(_value(message, "From")):
        yield problem("From", "holds no address", "correct mail.from")


def _leaving(message: Message) -> Iterator[Diagnosis]:
    for name, fault in (
        ("List-Unsubscribe", _unsubscribe),
        ("List-Unsubscribe-Post", _one_click),
        ("List-Id", _list_id),
    ):
        values = message.get_all(name, [])
        if len(values) != 1:
            what = f"stands {len(values)} times" if values else "is missing"
            yield problem(name, what, "it must stand once; is this a letter of Postroom?")
            continue
        value = " ".join(str(values[0]).split())
        what = "is encoded, so no mail program reads it" if _ENCODED.search(value) else fault(value)
        if what:
            yield problem(name, f"{what}: {value[:200]}", "let nothing on the way rewrite it")
        else:
            # The address holds the reader's token, which lets anybody leave in their name.
            yield ok(name, "has an https address" if name == "List-Unsubscribe" else value)


def _unsubscribe(value: str) -> str:
    # RFC 8058 §3.1
    secure = [uri for uri in _URI.findall(value) if uri.lower().startswith("https://")]
    return "" if len(secure) == 1 else f"has {len(secure)} https addresses and must have one"


def _one_click(value: str) -> str:
    # RFC 8058 §3.1
    return "" if value == "List-Unsubscribe=One-Click" else "is not List-Unsubscribe=One-Click"


def _list_id(value: str) -> str:
    # RFC 2919 §3
    named = re.search(r"<[^<>@\s]+\.[^<>@\s]+>\Z", value)
    return "" if named else "holds no name such as <news.example.com>"


def _parts(message: Message) -> Iterator[Diagnosis]:
    kind = message.get_content_type()
    payload = message.get_payload()
    inner = payload if isinstance(payload, list) else []
    parts = [part.get_content_type() for part in inner if isinstance(part, Message)]
    if _value(message, "MIME-Version").partition("(")[0].strip() != "1.0":
        yield problem("MIME-Version", "is missing or not 1.0", "let nothing on the way change it")
    if (kind, parts) == ("multipart/alternative", ["text/plain", "text/html"]):
        yield ok("parts", "the text first, the HTML last")
    else:
        found = f"{kind} of {', '.join(parts)}" if parts else kind
        what = f"found {found}, and not text/plain and text/html in multipart/alternative"
        yield problem("parts", what, "let nothing on the way add or change parts")


def _returned(message: Message, sender: str, resolver: Resolver) -> Iterator[Diagnosis]:
    values = message.get_all("Return-Path", [])
    if not values:
        # RFC 5321 §4.4
        what = "is missing, so the envelope's sender is not known"
        yield advice("Return-Path", what, "save the letter where it was delivered")
        return
    address = parseaddr(str(values[0]))[1]
    domain = domain_of(address)
    if len(values) > 1:
        yield advice("Return-Path", f"stands {len(values)} times; the first counts")
    if not domain:
        yield problem("Return-Path", "is empty, so bounces are lost", "set mail.bounces")
    elif is_aligned(sender, domain, resolver):
        yield ok("Return-Path", f"{domain} goes with {sender}")
    else:
        what = f"{domain} does not go with {sender}, so SPF does not count for DMARC"
        repair = f"ask the mail server's operator for a return path at {sender}"
        yield advice("Return-Path", what, repair)


def _results(message: Message) -> Iterator[Diagnosis]:
    """Yield what the receiver found (RFC 8601)."""
    values = [_bare(str(value)) for value in message.get_all("Authentication-Results", [])]
    if not values:
        what = "is missing, so what the receiver found is not known"
        yield advice("Authentication-Results", what, "save the letter from another mailbox")
        return
    # RFC 8601 §5: what does not stand at the top under the receiver's name may be forged.
    receiver = values[0].partition(";")[0].split()[:1]
    texts = [value for value in values if value.partition(";")[0].split()[:1] == receiver]
    found: dict[str, set[str]] = {}
    for text in texts:
        for part in text.split(";")[1:]:
            if match := _RESULT.match(part):
                found.setdefault(match[1].lower(), set()).add(match[2].lower())
    for method in ("dkim", "spf", "dmarc"):
        yield _result(method, found.get(method, set()), " ".join(receiver))


def _result(method: str, results: set[str], receiver: str) -> Diagnosis:
    shown = ", ".join(sorted(results))
    if "pass" in results:
        return ok(method, f"passed at {receiver}")
    if not results:
        return advice(method, f"was not looked at by {receiver}")
    if results <= _PASSING:
        return advice(method, f"is {shown} at {receiver}", "run postroom doctor without --letter")
    return problem(method, f"is {shown} at {receiver}", "run postroom doctor without --letter")


def _bare(value: str) -> str:
    before = ""
    while before != value:
        before, value = value, _COMMENT.sub(" ", value)
    return " ".join(value.split())


def _value(message: Message, name: str) -> str:
    return " ".join(str(message.get(name, "")).split())


def _shown(value: object) -> str:
    text = " ".join(str(value).split())
    # What cannot be decoded is shown as it came.
    with contextlib.suppress(HeaderParseError, LookupError, ValueError):
        text = str(make_header(decode_header(text)))
    return "".join(c if c.isprintable() else "�" for c in text)[:200]
