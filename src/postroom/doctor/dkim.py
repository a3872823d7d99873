"""Check DKIM (RFC 6376): the public key in the DNS, and the signatures of a received email.

Verifying a signature needs the package dkimpy, which the optional dependencies `dkim` install.
"""

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
    """Whether a signature is valid; `reason` says why it is not, or why that is unknown."""

    valid: SignatureState
    reason: str = ""


class VerificationError(Exception):
    """The public key of a signature could not be looked up; the error text says why."""


def verify_signatures(
    message: bytes, number: int, txt: Callable[[str], str | None]
) -> SignatureVerdict:
    """Verify one DKIM signature of `message` (RFC 6376 §6.1.3).

    `number` selects the DKIM-Signature field, counted from 0 at the top. The lines of `message`
    must end with CR LF. `txt` takes a domain name and returns its TXT record, or None if there is
    none; it raises `VerificationError` if the DNS does not answer.
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
        valid = dkim.DKIM(message, logger=log, minkey=1024).verify(idx=number, dnsfunc=record)
    except (VerificationError, dkim.NaClNotFoundError, dkim.UnknownKeyTypeError) as error:
        return SignatureVerdict("unknown", str(error))
    # A malformed signature or key makes dkimpy raise other errors than its own.
    except (dkim.DKIMException, ValueError, LookupError, TypeError) as error:
        return SignatureVerdict("no", " ".join(str(error).split()))
    if valid:
        return SignatureVerdict("yes")
    return SignatureVerdict(
        "no", " ".join(log.errors) or "a signed field was changed, or another key signed it"
    )


@define
class _Log:
    """A logger for dkimpy that collects the errors which dkimpy logs instead of raising."""

    errors: list[str] = Factory(list)

    def error(self, text: object) -> None:
        self.errors.append(" ".join(str(text).split()))

    def debug(self, *_: object) -> None:
        """Ignore debug messages."""


# RFC 8301 §3.2
_MIN_BITS, _ADVISED_BITS = 1024, 2048
_COPY = "publish the whole key again"
_SEQUENCE, _INTEGER, _BITS = 0x30, 0x02, 0x03


def check_dkim_key(domain: str, selector: str, resolver: Resolver) -> tuple[Diagnosis, ...]:
    """Return the findings about the DKIM key that `domain` publishes under `selector`."""
    name = f"{selector}._domainkey.{domain}"
    subject = f"DKIM key {name}"
    answer = resolver.lookup(name, "TXT")
    if answer.status == "failed":
        return (lookup_failed(subject, name, answer),)
    if not answer.records:
        hint = "publish the key that your mail server signs with, or correct mail.dkim_selector"
        return (problem(subject, "does not exist", hint),)
    if len(answer.records) > 1:
        # RFC 6376 §3.6.2.2
        message = f"has {len(answer.records)} records, and receivers may use any of them"
        return (problem(subject, message, "keep one"),)
    tags = parse_tags(answer.records[0])
    if not tags or "p" not in tags or tags.get("v", "DKIM1") != "DKIM1":
        return (problem(subject, "is not a key record", "publish it as v=DKIM1; k=rsa; p=…"),)
    return tuple(_check_key(subject, tags))


def _check_key(subject: str, tags: dict[str, str]) -> Iterator[Diagnosis]:
    if not tags["p"]:
        hint = "sign with another key and set mail.dkim_selector to its selector"
        yield problem(subject, "is revoked (p= is empty)", hint)
        return
    if "y" in tags.get("t", "").replace(" ", "").split(":"):
        message = "is in test mode (t=y), so receivers ignore failed signatures"
        yield advice(subject, message, "remove t=y")
    if not {"*", "email"} & set(tags.get("s", "*").replace(" ", "").split(":")):
        yield problem(subject, f"is not for email (s={tags['s']})", "remove s=")
    if "sha256" not in tags.get("h", "sha256"):
        yield problem(subject, f"does not allow sha256 (h={tags['h']})", "remove h=")
    yield _check_strength(subject, tags.get("k", "rsa").lower(), tags["p"])


def _check_strength(subject: str, algorithm: str, text: str) -> Diagnosis:
    if algorithm not in {"rsa", "ed25519"}:
        message = f"has an unknown algorithm (k={algorithm})"
        return problem(subject, message, "use rsa or ed25519")
    try:
        key = base64.b64decode("".join(text.split()), validate=True)
        return _rsa(subject, rsa_bits(key)) if algorithm == "rsa" else _ed25519(subject, len(key))
    except (binascii.Error, ValueError):
        return problem(subject, "cannot be decoded", _COPY)


def _ed25519(subject: str, size: int) -> Diagnosis:
    # RFC 8463 §4.1: the record holds the raw key.
    if size == 32:
        return ok(subject, "Ed25519")
    return problem(subject, f"has {size} bytes, and an Ed25519 key has 32", _COPY)


def _rsa(subject: str, bits: int) -> Diagnosis:
    if bits < _MIN_BITS:
        message = f"is an RSA key of {bits} bits; receivers ignore keys under {_MIN_BITS} bits"
        return problem(subject, message, f"sign with a key of {_ADVISED_BITS} bits")
    if bits < _ADVISED_BITS:
        message = f"is an RSA key of {bits} bits"
        return advice(subject, message, f"sign with a key of {_ADVISED_BITS} bits")
    return ok(subject, f"RSA, {bits} bits")


def rsa_bits(der: bytes) -> int:
    """Return the length of the modulus of an RSA public key, in bits.

    `der` is the key in DER: as a SubjectPublicKeyInfo (RFC 5280 §4.1), which is usual, or as an
    RSAPublicKey, which RFC 6376 §3.6.1 specifies. Raises `ValueError` if it is neither.
    """
    body, _ = _element(der, _SEQUENCE)
    if body[:1] == bytes([_SEQUENCE]):
        _, rest = _element(body, _SEQUENCE)
        bits, _ = _element(rest, _BITS)
        # The first byte is the number of unused bits, here zero.
        body, _ = _element(bits[1:], _SEQUENCE)
    modulus, _ = _element(body, _INTEGER)
    return int.from_bytes(modulus, "big").bit_length()


def _element(der: bytes, wanted: int) -> tuple[bytes, bytes]:
    """Return the contents of the first DER element of `der`, and the rest of `der` (X.690 §8)."""
    if len(der) < 2 or der[0] != wanted:
        raise ValueError("unexpected element")
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if len(der) < start + length:
        raise ValueError("the key is truncated")
    return der[start : start + length], der[start + length :]


Verify: TypeAlias = Callable[[bytes, int, Callable[[str], str | None]], SignatureVerdict]
"""Verifies a signature; see `verify_signatures`."""
# RFC 6376 §5.4 for From; RFC 8058 §4 for the unsubscribe fields.
_REQUIRED_FIELDS = ("From", "List-Unsubscribe", "List-Unsubscribe-Post")
_ADVISED_FIELDS = (
    *("To", "Subject", "Date", "Message-ID"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
)
_MAX_SIGNATURES = 10


@frozen
class _Signature:
    """A parsed DKIM-Signature field.

    `number` counts such fields from 0 at the top; `domain` is the signer; `fields` are the names of
    the signed header fields, in lower case.
    """

    number: int
    domain: str
    selector: str
    fields: frozenset[str]
    partial: bool


def check_signatures(
    data: bytes, message: Message, sender: str, resolver: Resolver, verify: Verify
) -> Iterator[Diagnosis]:
    """Yield the findings about the DKIM signatures of the email `data`, parsed as `message`.

    `sender` is the domain of From. If at least one signature is aligned with it, the signatures
    that are not are ignored, because mail servers may add their own.
    """
    values = message.get_all("DKIM-Signature", [])
    if not values:
        yield problem("DKIM-Signature", "is missing", "let the mail server sign emails")
        return
    parsed = [_parse(number, str(v)) for number, v in enumerate(values[:_MAX_SIGNATURES])]
    signatures = [signature for signature in parsed if signature]
    aligned = [s for s in signatures if is_aligned(sender, s.domain, resolver)]
    if not signatures:
        yield problem("DKIM-Signature", "is malformed", "ask the mail server's operator")
    elif not aligned:
        signers = ", ".join(dict.fromkeys(signature.domain for signature in signatures))
        message_text = f"is of {signers}, which is not aligned with {sender}"
        yield problem("DKIM-Signature", message_text, f"let the mail server sign as {sender}")
    for signature in aligned or signatures:
        yield from _check_coverage(signature, message)
        yield _check_validity(signature, data, resolver, verify)


def _parse(number: int, value: str) -> _Signature | None:
    tags = parse_tags(" ".join(value.split())) or {}
    if not {"d", "s", "h", "b", "bh"} <= tags.keys():
        return None
    fields = frozenset(name.strip().lower() for name in tags["h"].split(":"))
    domain = tags["d"].lower().rstrip(".")
    return _Signature(number, domain, tags["s"], fields, partial="l" in tags)


def _check_coverage(signature: _Signature, message: Message) -> Iterator[Diagnosis]:
    subject = f"signature of {signature.domain}"
    hint = "ask the mail server's operator to sign them"
    required, advised = (
        [name for name in names if name in message and name.lower() not in signature.fields]
        for names in (_REQUIRED_FIELDS, _ADVISED_FIELDS)
    )
    if required:
        reason = "without them mail programs offer no one-click unsubscribing"
        yield problem(subject, f"does not cover {', '.join(required)}", f"{hint}: {reason}")
    if advised:
        yield advice(subject, f"does not cover {', '.join(advised)}", hint)
    if signature.partial:
        # RFC 6376 §8.2
        yield problem(subject, "covers only the beginning (l=)", "sign the whole email")
    if not required and not advised and not signature.partial:
        yield ok(subject, "covers the body and every important field")


def _check_validity(
    signature: _Signature, data: bytes, resolver: Resolver, verify: Verify
) -> Diagnosis:
    def txt(name: str) -> str | None:
        answer = resolver.lookup(name, "TXT")
        if answer.status == "failed":
            raise VerificationError(f"{name} could not be looked up ({answer.reason})")
        return answer.records[0] if answer.records else None

    subject = f"signature of {signature.domain}"
    verdict = verify(data, signature.number, txt)
    if verdict.valid == "yes":
        return ok(subject, f"is valid, with the key {signature.selector}")
    if verdict.valid == "no":
        hint = "save the email unchanged; if it is, find the server that changes it on the way"
        return problem(subject, f"is not valid: {verdict.reason}", hint)
    return advice(subject, "was not verified", verdict.reason)
