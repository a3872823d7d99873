"""Validation, normal forms and comparison of email addresses."""

from __future__ import annotations

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from postroom.mail.address import AddressError, display_address, mask_address, parse_address


def test_keeps_a_plain_address() -> None:
    """All forms of a plain address are the address itself."""
    address = parse_address("reader@example.com")
    assert {address.ascii, address.display, address.key} == {"reader@example.com"}


def test_keeps_dots_and_tags() -> None:
    """Dots and +tags are significant: only the owner's server knows what they mean."""
    assert parse_address("a.reader+news@example.com").key == "a.reader+news@example.com"


def test_the_key_ignores_case() -> None:
    """The key folds case; the ASCII form keeps the case of the local part."""
    address = parse_address("A.Reader@EXAMPLE.com")
    assert (address.ascii, address.key) == ("A.Reader@example.com", "a.reader@example.com")


@pytest.mark.parametrize("text", ["reader@münchen.example", "reader@xn--mnchen-3ya.example"])
def test_turns_a_domain_into_ascii(text: str) -> None:
    """A domain in another script is stored as A-labels and displayed in its script."""
    address = parse_address(text)
    assert (address.ascii, address.key) == ("reader@xn--mnchen-3ya.example",) * 2
    assert address.display == "reader@münchen.example"


def test_displays_a_stored_address() -> None:
    """The display form can be made from the stored form, even from an invalid A-label."""
    assert display_address("reader@xn--mnchen-3ya.example") == "reader@münchen.example"
    assert display_address("reader@example.com") == "reader@example.com"
    assert display_address("reader@xn--zzzzzz99.example") == "reader@xn--zzzzzz99.example"


def test_accepts_an_address_up_to_the_limits() -> None:
    """A local part has at most 64 characters, an address at most 254 (RFC 5321 §4.5.3.1)."""
    domain = ".".join(["a" * 60] * 3) + ".example"
    rest = 254 - len(domain) - 1
    assert parse_address("l" * 64 + "@example.com")
    assert parse_address("l" * rest + "@" + domain)
    for text in ("l" * 65 + "@example.com", "l" * (rest + 1) + "@" + domain):
        with pytest.raises(AddressError, match="too long"):
            parse_address(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the email address is missing"),
        ("reader", "an email address must have an @-sign"),
        ("reader@example", "period"),
        ("réader@example.com", "only ASCII characters are allowed before the @-sign"),
        ("\uff52eader@example.com", "only ASCII characters are allowed before the @-sign"),
        ("\u0130@example.com", "only ASCII characters are allowed before the @-sign"),
        ("reader@example.com\r\nBcc: other@example.com", "control character"),
        ("reader@example.com\n", "control character"),
        ("reader@exam\0ple.com", "control character"),
        ("reader\u2028@example.com", "control character"),
        ("A Reader <reader@example.com>", "more than the email address"),
        ("reader@example.com, other@example.com", "@"),
        ("reader@localhost", "period"),
        ("reader@printer.local", "special-use"),
        ("reader@example.test", "special-use"),
        ("reader@[127.0.0.1]", "bracketed"),
        ('"a reader"@example.com', "quoting"),
        ("reader..x@example.com", "two periods"),
        (".reader@example.com", "period"),
        ("reader@exam_ple.com", "'_'"),
        ("reader@1.2.3.4", "top-level"),
        (" reader@example.com", "SPACE"),
        ("reader\u200b@example.com", "only ASCII"),
    ],
)
def test_rejects_an_invalid_address(text: str, reason: str) -> None:
    """The error of an invalid address says why, on one line without a full stop."""
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(".")


_labels = st.text("abcxyz0129-", min_size=1, max_size=6)
_domains = st.lists(_labels, min_size=1, max_size=4).map(".".join)
_endings = st.sampled_from("com test local de c x1 1x co-m onion localhost".split())
_locals = st.text("abz09.+_-!'/=?^`{|}~*#$%&@\"( ", max_size=8)


@given(st.builds("{}@{}.{}".format, _locals, _domains, _endings))
@example("a@xn--a.example")
@example("a@ab--cd.example")
@example("a@test")
@example("a@x.test.example")
@example("postmaster@example.com")
@example("a" * 64 + "@" + ".".join(["b" * 62] * 3) + ".cc")
@example("a@" + "b" * 64 + ".example")
def test_agrees_with_the_library_on_plain_addresses(text: str) -> None:
    """The fast path for plain addresses accepts exactly what the library accepts unchanged."""
    try:
        valid = validate_email(text, check_deliverability=False, strict=True)
    except EmailNotValidError:
        with pytest.raises(AddressError):
            parse_address(text)
    else:
        assert (parse_address(text).ascii, parse_address(text).display) == (
            valid.ascii_email,
            valid.normalized,
        )


@given(st.text(max_size=40))
def test_accepts_nothing_that_could_break_a_header(text: str) -> None:
    """An accepted address is printable ASCII without spaces, and parses to itself."""
    try:
        address = parse_address(text + "@example.com")
    except AddressError:
        return
    assert address.ascii.isascii()
    assert address.ascii.isprintable()
    assert " " not in address.ascii
    assert parse_address(address.ascii) == address


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("550 5.1.1 <o'brien+news@example.com>: no such user", "550 5.1.1 <…@…>: no such user"),
        ("450 reader@example.com,other@xn--bcher-kva.example later", "450 …@…,…@… later"),
        ("Relaying denied for reader@[192.0.2.1]", "Relaying denied for …@…"),
        ("421 4.7.0 Try again later", "421 4.7.0 Try again later"),
    ],
)
def test_masks_every_address_in_a_text(text: str, masked: str) -> None:
    """A masked reply of a mail server names no subscriber."""
    assert mask_address(text) == masked
