"""The key that letters are signed with, as the DNS publishes it (RFC 6376 §3.6)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from postroom.doctor.domains import Resolver, tags, unanswered
from postroom.doctor.finding import Finding, advice, problem, well

# RFC 8301 §3.2
_SHORTEST, _ADVISED = 1024, 2048
_COPY = "copy it again, whole"
_SEQUENCE, _INTEGER, _BITS = 0x30, 0x02, 0x03


def dkim_key(domain: str, selector: str, resolver: Resolver) -> tuple[Finding, ...]:
    """Return what there is to say about the key `selector` of `domain`."""
    name = f"{selector}._domainkey.{domain}"
    subject = f"DKIM key {name}"
    answer = resolver.lookup(name, "TXT")
    if answer.status == "failed":
        return (unanswered(subject, name, answer),)
    if not answer.records:
        repair = "publish the key that your mail server signs with, or correct mail.dkim_selector"
        return (problem(subject, "is not there", repair),)
    if len(answer.records) > 1:
        # RFC 6376 §3.6.2.2
        what = f"there are {len(answer.records)} records, and which one counts is not defined"
        return (problem(subject, what, "keep one"),)
    found = tags(answer.records[0])
    if not found or "p" not in found or found.get("v", "DKIM1") != "DKIM1":
        repair = "publish it as v=DKIM1; k=rsa; p=…"
        return (problem(subject, "is not the record of a key", repair),)
    return tuple(_key(subject, found))


def _key(subject: str, found: dict[str, str]) -> Iterator[Finding]:
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


def _strength(subject: str, kind: str, written: str) -> Finding:
    if kind not in {"rsa", "ed25519"}:
        return problem(subject, f"is of an unknown kind (k={kind})", "use rsa or ed25519")
    try:
        key = base64.b64decode("".join(written.split()), validate=True)
        return _rsa(subject, rsa_bits(key)) if kind == "rsa" else _ed25519(subject, len(key))
    except (binascii.Error, ValueError):
        return problem(subject, "holds a key that cannot be read", _COPY)


def _ed25519(subject: str, size: int) -> Finding:
    # RFC 8463 §4.1: the bare bytes.
    if size == 32:
        return well(subject, "Ed25519")
    return problem(subject, f"holds {size} bytes, and an Ed25519 key has 32", _COPY)


def _rsa(subject: str, bits: int) -> Finding:
    if bits < _SHORTEST:
        what = f"is an RSA key of {bits} bits, and under {_SHORTEST} it counts as none"
        return problem(subject, what, f"sign with one of {_ADVISED}")
    if bits < _ADVISED:
        return advice(subject, f"is an RSA key of {bits} bits", f"sign with one of {_ADVISED}")
    return well(subject, f"RSA, {bits} bits")


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
