"""Validation, normal forms and comparison of email addresses.

An email address is stored in its ASCII form, which every mail server accepts: the domain as
A-labels (RFC 5891), the local part as its owner wrote it. Two email addresses belong to the same
subscriber if their ASCII forms differ only in case; dots and `+tags` are significant, because only
the owner's server knows what they mean (RFC 5321 §2.3.11).
"""

from __future__ import annotations

import re

import idna
from attrs import frozen

"""Characters of an email address at most (RFC 5321 §4.5.3.1.3, less two angle brackets)."""
MAX_LENGTH = 254
# Special-use top-level names (RFC 6761 and others), which receive no email.
_SPECIAL_USE = "arpa|invalid|local|localhost|onion|test"
# Addresses that email-validator accepts unchanged, matched twelve times faster: the dot-atom of
# RFC 5322 and the host names of RFC 1123, in lower case, without A-labels. A test compares the two.
_PLAIN = re.compile(
    r"(?=.{3,254}\Z)(?=[^@]{1,64}@)"
    r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    rf"@(?!(?:[a-z0-9.-]+\.)?(?:{_SPECIAL_USE})\Z)(?!.*--)"
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+"
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z])?\Z"
)
_DISPLAY_NAME = re.compile(r".*<[^<>]*>\s*\Z", re.DOTALL)
# Text that people would recognise as an email address, whatever punctuation surrounds it.
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"]+@(?:\[[^\s\]]*\]|[^\s<>()\[\],;:\"]+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class AddressError(ValueError):
    """Raised for an invalid email address; the error text says why it is invalid."""


@frozen
class EmailAddress:
    """A valid email address: as stored, as people read it, and as a key for comparison."""

    ascii: str
    """The form for headers, envelopes and the database."""
    display: str
    """The form for people, with the domain in its own script."""
    key: str
    """The form for comparison: two addresses are the same if their keys are equal."""


def address_key(ascii_form: str) -> str:
    """Return the key by which a valid address, given in its ASCII form, is compared with others."""
    return ascii_form.casefold()


def parse_address(text: str) -> EmailAddress:
    """Parse `text` as an email address, without any DNS query.

    Raises `AddressError` if it is invalid; the error never repeats the address.
    """
    if len(text) < 255 and _PLAIN.match(text) and not text[-1].isdigit():
        return EmailAddress(text, text, text)
    if not text:
        raise AddressError("the email address is missing")
    if _CONTROL.search(text):
        raise AddressError("it contains a line break or another control character")
    if _DISPLAY_NAME.match(text):
        raise AddressError(
            "it contains more than the email address; leave out the name and the < >"
        )
    if not text.rpartition("@")[0].isascii():
        raise AddressError("only ASCII characters are allowed before the @-sign")
    return _validate(text)


def _validate(text: str) -> EmailAddress:
    # Imported here because it is slow to load and most addresses do not need it.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415

    try:
        valid = validate_email(text, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise AddressError(_sentence(str(error))) from None
    if valid.smtputf8 or valid.ascii_email is None:
        raise AddressError("only ASCII characters are allowed before the @-sign")
    if len(valid.ascii_email) > MAX_LENGTH:
        raise AddressError(f"it is longer than {MAX_LENGTH} characters")
    return EmailAddress(valid.ascii_email, valid.normalized, address_key(valid.ascii_email))


def _sentence(message: str) -> str:
    """Return an error message of email-validator in our style: no capital letter, no full stop."""
    return message[:1].lower() + message[1:].rstrip(".")


def display_address(ascii_form: str) -> str:
    """Return the address in the form that people read, from its stored ASCII form."""
    local, _, domain = ascii_form.rpartition("@")
    if "xn--" not in domain:
        return ascii_form
    try:
        return f"{local}@{idna.decode(domain)}"
    except idna.IDNAError:
        return ascii_form


def mask_address(text: str) -> str:
    """Replace every email address in `text` by `…@…`, so that logs name no subscriber."""
    return _ADDRESS.sub("…@…", text)
