"""The addresses that can be written to, and what makes two the same."""

from __future__ import annotations

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from postroom.mail.address import AddressError, display_address, mask_address, parse_address


def test_keeps_a_plain_address() -> None:
    """A plain address is its own ASCII form, its own shown form and its own key."""
    address = parse_address("reader@example.com")
    assert {address.ascii, address.display, address.key} == {"reader@example.com"}


def test_keeps_dots_and_tags() -> None:
    """Dots and +tags belong to the address: only the owner's server knows what they mean."""
    assert parse_address("a.reader+news@example.com").key == "a.reader+news@example.com"


def test_knows_an_address_in_any_case() -> None:
    """The key folds case; the form that mail is sent to keeps the local part as it was written."""
    address = parse_address("A.Reader@EXAMPLE.com")
    assert (address.ascii, address.key) == ("A.Reader@example.com", "a.reader@example.com")


@pytest.mark.parametrize("text", ["reader@münchen.example", "reader@xn--mnchen-3ya.example"])
def test_turns_a_domain_into_ascii(text: str) -> None:
    """A domain of another script is kept as A-labels and shown as its owner writes it."""
    address = parse_address(text)
    assert (address.ascii, address.key) == ("reader@xn--mnchen-3ya.example",) * 2
    assert address.display == "reader@münchen.example"


def test_shows_a_stored_address() -> None:
    """The shown form can be made of the stored one, whatever stands there."""
    assert display_address("reader@xn--mnchen-3ya.example") == "reader@münchen.example"
    assert display_address("reader@example.com") == "reader@example.com"
    assert display_address("reader@xn--zzzzzz99.example") == "reader@xn--zzzzzz99.example"


def test_takes_the_longest_address_and_no_longer() -> None:
    """A local part has at most 64 characters, an address at most 254 (RFC 5321 §4.5.3.1)."""
    domain = ".".join(["a" * 60] * 3) + ".example"
    rest = 254 - len(domain) - 1
    assert parse_address("l" * 64 + "@example.com")
    assert parse_address("l" * rest + "@" + domain)
    for text in ("l" * 65 + "@example.com", "l" * (rest + 1) + "@" + domain):
        with pytest.raises(AddressError, match="too long"):
            parse_address(text)


@pytest.mark.parametrize(
    ("text", "why"),
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
def test_refuses_what_is_no_address(text: str, why: str) -> None:
    """What cannot be written to, or could write a header of its own, is refused in words."""
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert why in str(caught.value)
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
def test_judges_plain_addresses_as_the_library_does(text: str) -> None:
    """The short way for plain addresses takes what the library takes, unchanged, and no more."""
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
def test_takes_nothing_that_could_break_a_header(text: str) -> None:
    """Whatever is taken is printable ASCII without blanks, and is taken again as it is."""
    try:
        address = parse_address(text + "@example.com")
    except AddressError:
        return
    assert address.ascii.isascii()
    assert address.ascii.isprintable()
    assert " " not in address.ascii
    assert parse_address(address.ascii) == address


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("550 5.1.1 <o'brien+news@example.com>: no such user", "550 5.1.1 <…@…>: no such user"),
        ("450 reader@example.com,other@xn--bcher-kva.example later", "450 …@…,…@… later"),
        ("Relaying denied for reader@[192.0.2.1]", "Relaying denied for …@…"),
        ("421 4.7.0 Try again later", "421 4.7.0 Try again later"),
    ],
)
def test_hides_every_address_in_a_text(text: str, left: str) -> None:
    """What a mail server said can be printed where many read, and names no reader."""
    assert mask_address(text) == left
