"""The DKIM signature of a received letter: what it covers, and whether it holds (RFC 6376)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.message import Message
from typing import TypeAlias

from attrs import frozen

from postroom.doctor.domains import Resolver, aligned, tags
from postroom.doctor.finding import Finding, advice, problem, well
from postroom.signature import UnknowableError, Verdict

Verify: TypeAlias = Callable[[bytes, int, Callable[[str], str | None]], Verdict]
"""Tells whether the signature of that number holds; see `postroom.signature.verify`."""
# RFC 6376 §5.4 for From; RFC 8058 §4 for the fields by which readers leave.
_NEEDED = ("From", "List-Unsubscribe", "List-Unsubscribe-Post")
_WANTED = (
    *("To", "Subject", "Date", "Message-ID"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
)
_MOST = 10


@frozen
class _Signature:
    """One signature: its number from the top, who signed, and which fields, in lower case."""

    number: int
    domain: str
    selector: str
    fields: frozenset[str]
    partial: bool


def signatures(
    data: bytes, message: Message, sender: str, resolver: Resolver, verify: Verify
) -> Iterator[Finding]:
    """Yield what there is to say about the signatures of the letter `data`, parsed as `message`.

    Of several, those count that go with `sender`, the domain in From; a mail server's own beside
    them does no harm.
    """
    values = message.get_all("DKIM-Signature", [])
    read = [_read(number, str(value)) for number, value in enumerate(values[:_MOST])]
    if not values:
        yield problem("DKIM-Signature", "is missing", "let the mail server sign letters")
        return
    sound = [one for one in read if one]
    ours = [one for one in sound if aligned(sender, one.domain, resolver)]
    if not sound:
        yield problem("DKIM-Signature", "cannot be read", "ask the mail server's operator")
    elif not ours:
        signers = ", ".join(dict.fromkeys(one.domain for one in sound))
        what = f"is of {signers}, which does not go with {sender}"
        yield problem("DKIM-Signature", what, f"let the mail server sign as {sender}")
    for one in ours or sound:
        yield from _covers(one, message)
        yield _holds(one, data, resolver, verify)


def _read(number: int, value: str) -> _Signature | None:
    found = tags(" ".join(value.split())) or {}
    if not {"d", "s", "h", "b", "bh"} <= found.keys():
        return None
    fields = frozenset(name.strip().lower() for name in found["h"].split(":"))
    domain = found["d"].lower().rstrip(".")
    return _Signature(number, domain, found["s"], fields, partial="l" in found)


def _covers(one: _Signature, message: Message) -> Iterator[Finding]:
    subject = f"signature of {one.domain}"
    repair = "ask the mail server's operator to sign them"
    needed, wanted = (
        [name for name in names if name in message and name.lower() not in one.fields]
        for names in (_NEEDED, _WANTED)
    )
    if needed:
        what = f"does not cover {', '.join(needed)}"
        yield problem(subject, what, f"{repair}: without them no mailbox offers one-click leaving")
    if wanted:
        yield advice(subject, f"does not cover {', '.join(wanted)}", repair)
    if one.partial:
        # RFC 6376 §8.2
        yield problem(subject, "covers only the beginning (l=)", "sign the whole letter")
    if not needed and not wanted and not one.partial:
        yield well(subject, "covers the letter and every field that matters")


def _holds(one: _Signature, data: bytes, resolver: Resolver, verify: Verify) -> Finding:
    def txt(name: str) -> str | None:
        answer = resolver.lookup(name, "TXT")
        if answer.status == "failed":
            raise UnknowableError(f"{name} could not be looked up ({answer.reason})")
        return answer.records[0] if answer.records else None

    subject = f"signature of {one.domain}"
    verdict = verify(data, one.number, txt)
    if verdict.holds == "yes":
        return well(subject, f"holds, by the key {one.selector}")
    if verdict.holds == "no":
        repair = "save the letter unchanged, and see whether something on the way rewrites it"
        return problem(subject, f"does not hold: {verdict.reason}", repair)
    return advice(subject, "was not verified", verdict.reason)
