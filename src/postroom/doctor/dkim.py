"""A DKIM signature → whether it holds (RFC 6376 §6.1.3); needs dkimpy, the extra `dkim`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Literal, TypeAlias

from attrs import Factory, define, frozen

from postroom.doctor.dns import Resolver, is_aligned, lookup_failed, parse_tags
from postroom.doctor.findings import Diagnosis, advice, ok, problem

SignatureState: TypeAlias = Literal["yes", "no", "unknown"]


@frozen
class SignatureVerdict:
    """Whether a signature holds; `reason` says why it does not, or why nobody can tell."""

    holds: SignatureState
    reason: str = ""


class VerificationError(Exception):
    """The key of a signature could not be asked for; its text says why."""


def verify_signatures(
    message: bytes, number: int, txt: Callable[[str], str | None]
) -> SignatureVerdict:
    """Return whether the signature `number` of `message`, counted from 0 at the top, holds.

    `message` has lines ended by CR LF; `txt` returns the key record of a name, nothing if there is
    none, and raises `UnknowableError` where it cannot know.
    """
    try:
        import dkim  # noqa: PLC0415 - an extra
    except ImportError:
        return SignatureVerdict(
            "unknown", "dkimpy is not installed; add it with: pip install dkimpy"
        )

    def record(name: bytes, **_: object) -> bytes | None:
        found = txt(name.decode("ascii").rstrip("."))
        return None if found is None else found.encode()

    log = _Log()
    try:
        # RFC 8301 §3.2: a shorter RSA key proves nothing.
        holds = dkim.DKIM(message, logger=log, minkey=1024).verify(idx=number, dnsfunc=record)
    except (VerificationError, dkim.NaClNotFoundError, dkim.UnknownKeyTypeError) as error:
        return SignatureVerdict("unknown", str(error))
    # A hostile signature or key brings dkimpy to errors that are not its own.
    except (dkim.DKIMException, ValueError, LookupError, TypeError) as error:
        return SignatureVerdict("no", " ".join(str(error).split()))
    if holds:
        return SignatureVerdict("yes")
    return SignatureVerdict(
        "no", " ".join(log.errors) or "a signed field was changed, or the key is another"
    )


@define
class _Log:
    """What dkimpy says of a key that it cannot use, instead of raising it."""

    errors: list[str] = Factory(list)

    def error(self, text: object) -> None:
        self.errors.append(" ".join(str(text).split()))

    def debug(self, *_: object) -> None:
        """Forget it."""


# RFC 8301 §3.2
_SHORTEST, _ADVISED = 1024, 2048
_COPY = "copy it again, whole"
_SEQUENCE, _INTEGER, _BITS = 0x30, 0x02, 0x03


def check_dkim_key(domain: str, selector: str, resolver: Resolver) -> tuple[Diagnosis, ...]:
    """Return what there is to say about the key `selector` of `domain`."""
    name = f"{selector}._domainkey.{domain}"
    subject = f"DKIM key {name}"
    answer = resolver.lookup(name, "TXT")
    if answer.status == "failed":
        return (lookup_failed(subject, name, answer),)
    if not answer.records:
        repair = "publish the key that your mail server signs with, or correct mail.dkim_selector"
        return (problem(subject, "is not there", repair),)
    if len(answer.records) > 1:
        # RFC 6376 §3.6.2.2
        what = f"there are {len(answer.records)} records, and which one counts is not defined"
        return (problem(subject, what, "keep one"),)
    found = parse_tags(answer.records[0])
    if not found or "p" not in found or found.get("v", "DKIM1") != "DKIM1":
        repair = "publish it as v=DKIM1; k=rsa; p=…"
        return (problem(subject, "is not the record of a key", repair),)
    return tuple(_key(subject, found))


def _key(subject: str, found: dict[str, str]) -> Iterator[Diagnosis]:
    if not found["p"]:
        repair = "sign with another key and name its selector"
        yield problem(subject, "was withdrawn (p= is empty)", repair)
        return
    if "y" in found.get("t", "").replace(" ", "").split(":"):
        what = "is marked as a test (t=y), so that failed signatures count for nothing"
        yield advice(subject, what, "take t=y out")
    if not {"*", "email"} & set(found.get("s", "*").replace(" ", "").split(":")):
        yield problem(subject, f"is not for email (s={found['s']})", "take s= out")
    if "sha256" not in found.get("h", "sha256"):
        yield problem(subject, f"does not allow sha256 (h={found['h']})", "take h= out")
    yield _strength(subject, found.get("k", "rsa").lower(), found["p"])


def _strength(subject: str, kind: str, written: str) -> Diagnosis:
    if kind not in {"rsa", "ed25519"}:
        return problem(subject, f"is of an unknown kind (k={kind})", "use rsa or ed25519")
    try:
        key = base64.b64decode("".join(written.split()), validate=True)
        return _rsa(subject, rsa_bits(key)) if kind == "rsa" else _ed25519(subject, len(key))
    except (binascii.Error, ValueError):
        return problem(subject, "holds a key that cannot be read", _COPY)


def _ed25519(subject: str, size: int) -> Diagnosis:
    # RFC 8463 §4.1: the bare bytes.
    if size == 32:
        return ok(subject, "Ed25519")
    return problem(subject, f"holds {size} bytes, and an Ed25519 key has 32", _COPY)


def _rsa(subject: str, bits: int) -> Diagnosis:
    if bits < _SHORTEST:
        what = f"is an RSA key of {bits} bits, and under {_SHORTEST} it counts as none"
        return problem(subject, what, f"sign with one of {_ADVISED}")
    if bits < _ADVISED:
        return advice(subject, f"is an RSA key of {bits} bits", f"sign with one of {_ADVISED}")
    return ok(subject, f"RSA, {bits} bits")


def rsa_bits(der: bytes) -> int:
    """Return the length of the modulus of an RSA public key, in bits.

    `der` is a SubjectPublicKeyInfo (RFC 5280 §4.1), as everybody publishes it, or the RSAPublicKey
    that RFC 6376 §3.6.1 asks for. Raises `ValueError` if it is neither.
    """
    body, _ = _element(der, _SEQUENCE)
    if body[:1] == bytes([_SEQUENCE]):
        _, rest = _element(body, _SEQUENCE)
        bits, _ = _element(rest, _BITS)
        # The first byte counts unused bits, of which there are none.
        body, _ = _element(bits[1:], _SEQUENCE)
    modulus, _ = _element(body, _INTEGER)
    return int.from_bytes(modulus, "big").bit_length()


def _element(der: bytes, wanted: int) -> tuple[bytes, bytes]:
    """Return the contents of the element that `der` begins with, and what follows it (X.690 §8)."""
    if len(der) < 2 or der[0] != wanted:
        raise ValueError("not the element that was expected")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if len(der) < start + length:
        raise ValueError("the key is cut off")
    return der[start : start + length], der[start + length :]


Verify: TypeAlias = Callable[[bytes, int, Callable[[str], str | None]], SignatureVerdict]
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


def check_signatures(
    data: bytes, message: Message, sender: str, resolver: Resolver, verify: Verify
) -> Iterator[Diagnosis]:
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
    ours = [one for one in sound if is_aligned(sender, one.domain, resolver)]
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
    found = parse_tags(" ".join(value.split())) or {}
    if not {"d", "s", "h", "b", "bh"} <= found.keys():
        return None
    fields = frozenset(name.strip().lower() for name in found["h"].split(":"))
    domain = found["d"].lower().rstrip(".")
    return _Signature(number, domain, found["s"], fields, partial="l" in found)


def _covers(one: _Signature, message: Message) -> Iterator[Diagnosis]:
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
        yield ok(subject, "covers the letter and every field that matters")


def _holds(one: _Signature, data: bytes, resolver: Resolver, verify: Verify) -> Diagnosis:
    def txt(name: str) -> str | None:
        answer = resolver.lookup(name, "TXT")
        if answer.status == "failed":
            raise VerificationError(f"{name} could not be looked up ({answer.reason})")
        return answer.records[0] if answer.records else None

    subject = f"signature of {one.domain}"
    verdict = verify(data, one.number, txt)
    if verdict.holds == "yes":
        return ok(subject, f"holds, by the key {one.selector}")
    if verdict.holds == "no":
        repair = "save the letter unchanged, and see whether something on the way rewrites it"
        return problem(subject, f"does not hold: {verdict.reason}", repair)
    return advice(subject, "was not verified", verdict.reason)
