"""Check a received email: fields, parts, signatures, and the results of the receiver's checks."""

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

MAX_BYTES = 25_000_000
"""Largest file that is read, in bytes; hardly a mail server accepts larger emails."""
# RFC 5322 §3.6: at most one of each; our emails have all of them.
_REQUIRED = ("From", "To", "Subject", "Date", "Message-ID")
_URI = re.compile(r"<\s*([^<>]*?)\s*>")
_ENCODED = re.compile(r"=\?[^?]+\?[BbQq]\?")
_COMMENT = re.compile(r"\((?:[^()\\]|\\.)*\)")
_RESULT = re.compile(r"\s*([A-Za-z0-9-]+)(?:/[0-9]+)?\s*=\s*([A-Za-z0-9-]+)")
_NEUTRAL = frozenset("none neutral policy temperror softfail".split())


def check_received(data: bytes, resolver: Resolver, verify: Verify) -> Iterator[DiagnosisSection]:
    """Yield the findings about the received email `data`, section by section.

    `verify` is called to verify a DKIM signature, as `dkim.verify_signatures` does.
    """
    data = restore_line_ends(data)
    # The compat32 policy keeps every field unchanged.
    message = message_from_bytes(data, policy=policy.compat32)
    sender = domain_of(_value(message, "From"))
    yield DiagnosisSection("Fields", tuple(_check_fields(message)))
    yield DiagnosisSection("Unsubscribe", tuple(_check_unsubscribe(message)))
    yield DiagnosisSection("Parts", tuple(_check_parts(message)))
    yield DiagnosisSection(
        "Signature", tuple(check_signatures(data, message, sender, resolver, verify))
    )
    receiver = (*_check_return_path(message, sender, resolver), *_check_results(message))
    yield DiagnosisSection("Receiver", receiver)


def restore_line_ends(data: bytes) -> bytes:
    """Return the email in a saved file with CR LF at the end of each line, as it was sent."""
    # A file saved from an mbox may begin with its separator line (RFC 4155).
    data = re.sub(rb"\AFrom [^\n]*\n", b"", data.removeprefix(b"\xef\xbb\xbf"))
    return re.sub(rb"\r?\n", b"\r\n", data)


def _check_fields(message: Message) -> Iterator[Diagnosis]:
    for name in _REQUIRED:
        values = message.get_all(name, [])
        if len(values) == 1 and str(values[0]).strip():
            yield ok(name, _decode(values[0]))
        elif values:
            text = f"occurs {len(values)} times" if len(values) > 1 else "is empty"
            yield problem(name, text, "find the server that changes it on the way")
        else:
            yield problem(name, "is missing", "find the server that removes it on the way")
    if not domain_of(_value(message, "From")):
        yield problem("From", "has no email address", "correct mail.from")


def _check_unsubscribe(message: Message) -> Iterator[Diagnosis]:
    for name, find_error in (
        ("List-Unsubscribe", _unsubscribe_error),
        ("List-Unsubscribe-Post", _one_click_error),
        ("List-Id", _list_id_error),
    ):
        values = message.get_all(name, [])
        if len(values) != 1:
            text = f"occurs {len(values)} times" if values else "is missing"
            yield problem(name, text, "check that this is an email of Postroom")
            continue
        value = " ".join(str(values[0]).split())
        encoded = "is encoded, so mail programs cannot read it"
        if error := encoded if _ENCODED.search(value) else find_error(value):
            hint = "find the server that changes it on the way"
            yield problem(name, f"{error}: {value[:200]}", hint)
        else:
            # The URL holds the subscriber's token, which lets anybody unsubscribe them.
            yield ok(name, "has an https URL" if name == "List-Unsubscribe" else value)


def _unsubscribe_error(value: str) -> str:
    # RFC 8058 §3.1
    secure = [uri for uri in _URI.findall(value) if uri.lower().startswith("https://")]
    return "" if len(secure) == 1 else f"has {len(secure)} https URLs and must have one"


def _one_click_error(value: str) -> str:
    # RFC 8058 §3.1
    return "" if value == "List-Unsubscribe=One-Click" else "is not List-Unsubscribe=One-Click"


def _list_id_error(value: str) -> str:
    # RFC 2919 §3
    match = re.search(r"<[^<>@\s]+\.[^<>@\s]+>\Z", value)
    return "" if match else "has no identifier such as <news.example.com>"


def _check_parts(message: Message) -> Iterator[Diagnosis]:
    kind = message.get_content_type()
    payload = message.get_payload()
    inner = payload if isinstance(payload, list) else []
    parts = [part.get_content_type() for part in inner if isinstance(part, Message)]
    if _value(message, "MIME-Version").partition("(")[0].strip() != "1.0":
        hint = "find the server that changes it on the way"
        yield problem("MIME-Version", "is missing or not 1.0", hint)
    if (kind, parts) == ("multipart/alternative", ["text/plain", "text/html"]):
        yield ok("parts", "the text first, the HTML last")
    else:
        found = f"{kind} of {', '.join(parts)}" if parts else kind
        text = f"found {found} instead of multipart/alternative of text/plain, text/html"
        yield problem("parts", text, "find the server that changes them on the way")


def _check_return_path(message: Message, sender: str, resolver: Resolver) -> Iterator[Diagnosis]:
    values = message.get_all("Return-Path", [])
    if not values:
        # RFC 5321 §4.4
        text = "is missing, so the envelope sender is unknown"
        yield advice("Return-Path", text, "save the email from the mailbox it was delivered to")
        return
    domain = domain_of(parseaddr(str(values[0]))[1])
    if len(values) > 1:
        yield advice("Return-Path", f"occurs {len(values)} times; the first one counts")
    if not domain:
        yield problem("Return-Path", "is empty, so bounces are lost", "set mail.bounces")
    elif is_aligned(sender, domain, resolver):
        yield ok("Return-Path", f"{domain} is aligned with {sender}")
    else:
        text = f"{domain} is not aligned with {sender}, so SPF does not count for DMARC"
        hint = f"ask the mail server's operator for a return path at {sender}"
        yield advice("Return-Path", text, hint)


def _check_results(message: Message) -> Iterator[Diagnosis]:
    """Yield findings about the Authentication-Results that the receiver added (RFC 8601)."""
    values = [
        _remove_comments(str(value)) for value in message.get_all("Authentication-Results", [])
    ]
    if not values:
        text = "is missing, so the receiver's results are unknown"
        yield advice("Authentication-Results", text, "use a mailbox at another provider")
        return
    # RFC 8601 §5: only fields with the name of the topmost one are from the receiver.
    receiver = values[0].partition(";")[0].split()[:1]
    texts = [value for value in values if value.partition(";")[0].split()[:1] == receiver]
    results: dict[str, set[str]] = {}
    for text in texts:
        for part in text.split(";")[1:]:
            if match := _RESULT.match(part):
                results.setdefault(match[1].lower(), set()).add(match[2].lower())
    for method in ("dkim", "spf", "dmarc"):
        yield _check_result(method, results.get(method, set()), " ".join(receiver))


def _check_result(method: str, results: set[str], receiver: str) -> Diagnosis:
    if "pass" in results:
        return ok(method, f"passed at {receiver}")
    if not results:
        return advice(method, f"was not checked by {receiver}")
    message = f"is {', '.join(sorted(results))} at {receiver}"
    hint = "run postroom doctor without --received"
    return (advice if results <= _NEUTRAL else problem)(method, message, hint)


def _remove_comments(value: str) -> str:
    before = ""
    while before != value:
        before, value = value, _COMMENT.sub(" ", value)
    return " ".join(value.split())


def _value(message: Message, name: str) -> str:
    return " ".join(str(message.get(name, "")).split())


def _decode(value: object) -> str:
    text = " ".join(str(value).split())
    # A value that cannot be decoded stays as it is.
    with contextlib.suppress(HeaderParseError, LookupError, ValueError):
        text = str(make_header(decode_header(text)))
    return "".join(c if c.isprintable() else "�" for c in text)[:200]
