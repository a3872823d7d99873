"""The header rules against the email package of the Python that runs the tests.

Python's email package folds and encodes header fields differently from version to version, so CI
runs this with every supported Python.
"""

from __future__ import annotations

from email import policy
from email.message import EmailMessage
from types import SimpleNamespace

from postroom.newsletter import mime
from tests.support import header_cases


def test_m1_m2_m3_m4_names_come_back_and_nothing_is_injected() -> None:
    """Every name reads back as written, and no value adds a header field."""
    assert list(header_cases.faults(mime)) == []


def test_the_check_finds_what_the_email_package_does() -> None:
    """The same check fails where the standard library writes List-Unsubscribe."""
    usual = SimpleNamespace(**vars(mime))
    usual.encode_plain = write_with_email_package
    expected = [f"{case}: another List-Unsubscribe" for case in header_cases.NAMES]
    assert list(header_cases.faults(usual))[: len(expected)] == expected


def write_with_email_package(name: str, value: str) -> str:
    """Return a field as the email package folds and encodes it."""
    mail = EmailMessage(policy=policy.SMTP)
    mail[name] = value
    return mail.as_bytes().decode("ascii", "replace").replace("\ufffd", "?").removesuffix("\r\n")
