"""Email addresses: whether one can be written to, its forms, and what makes two of them the same.

An address is kept in its ASCII form, the one that every mail server takes: the domain as A-labels
(RFC 5891), the local part as its owner wrote it. Two addresses are the same subscriber if their
ASCII forms differ in nothing but case; dots and `+tags` are kept, because only the owner's server
knows what they mean (RFC 5321 §2.3.11).
"""

from __future__ import annotations

import re

import idna
from attrs import frozen

# RFC 5321 §4.5.3.1.1; §4.5.3.1.3 less the two angle brackets of a path.
LOCAL_LIMIT = 64
LIMIT = 254
# The top-level names of RFC 6761 and its kin, to which no mail goes.
_NOT_OF_THE_INTERNET = "arpa|invalid|local|localhost|onion|test"
# What email-validator finds nothing to change in, twelve times faster: RFC 5322's dot-atom and the
# host names of RFC 1123, in lower case, without A-labels. A test holds the two together.
_PLAIN = re.compile(
    r"(?=.{3,254}\Z)(?=[^@]{1,64}@)"
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    rf"@(?!(?:[a-z0-9.-]+\.)?(?:{_NOT_OF_THE_INTERNET})\Z)(?!.*--)"
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+"
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z])?\Z"
)
_DISPLAY_NAME = re.compile(r".*<[^<>]*>\s*\Z", re.DOTALL)
# What a reader may take for an address, whatever a mail server put around it.
_LOOKS_LIKE_ONE = re.compile(r"[^\s<>()\[\],;:\"]+@(?:\[[^\s\]]*\]|[^\s<>()\[\],;:\"]+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class AddressError(ValueError):
    """An address to which no mail can be sent; its text is a sentence that says why."""


@frozen
class EmailAddress:
    """An address that mail can be sent to.

    `ascii` is what stands in headers and envelopes and in the database, `shown` what a person
    reads (the domain in its own script), `key` what makes two addresses the same.
    """

    ascii: str
    shown: str
    key: str


def address_key(ascii_form: str) -> str:
    """Return what makes two addresses the same, for the ASCII form of a checked one."""
    return ascii_form.casefold()


def parse_address(text: str) -> EmailAddress:
    """Return the forms of the address `text`.

    Raises `AddressError` with one sentence, which never repeats the address. Nothing is looked up:
    whether the domain exists is not asked.
    """
    if len(text) < 255 and _PLAIN.match(text) and not text[-1].isdigit():
        return EmailAddress(text, text, text)
    if not text:
        raise AddressError("there is no address")
    if _CONTROL.search(text):
        raise AddressError("it holds a line break or another control character")
    if _DISPLAY_NAME.match(text):
        raise AddressError("it holds more than the address; leave the name and the < > out")
    if not text.rpartition("@")[0].isascii():
        raise AddressError("only ASCII letters may stand before the @-sign")
    return _checked(text)


def _checked(text: str) -> EmailAddress:
    # Imported when it is wanted: most addresses are plain.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415

    try:
        valid = validate_email(text, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise AddressError(_sentence(str(error))) from None
    if valid.smtputf8 or valid.ascii_email is None:
        raise AddressError("only ASCII letters may stand before the @-sign")
    if len(valid.ascii_email) > LIMIT:
        raise AddressError(f"it is longer than {LIMIT} characters")
    return EmailAddress(valid.ascii_email, valid.normalized, address_key(valid.ascii_email))


def _sentence(message: str) -> str:
    """Return the library's words in the form of ours: no capital, no full stop."""
    return message[:1].lower() + message[1:].rstrip(".")


def display_address(ascii_form: str) -> str:
    """Return what a person reads for an address in its stored ASCII form."""
    local, _, domain = ascii_form.rpartition("@")
    if "xn--" not in domain:
        return ascii_form
    try:
        return f"{local}@{idna.decode(domain)}"
    except idna.IDNAError:
        return ascii_form


def mask_address(text: str) -> str:
    """Return `text` with `…@…` for every address in it: what others may read names no reader."""
    return _LOOKS_LIKE_ONE.sub("…@…", text)
