"""Tokens and keys."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import SettingsError
from postroom.mail.tokens import (
    Keys,
    envelope_sender,
    hash_token,
    is_equal,
    new_token,
    parse_keys,
    read_envelope_sender,
    read_unsubscribe_address,
    unsubscribe_address,
)

OLD, NEW = "the oldest key of all", "a newer key for signing"


def test_mints_tokens_for_urls() -> None:
    """A token is 22 characters that need no quoting in a URL, and no two are alike."""
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", token) for token in tokens)


def test_mints_from_the_source_it_is_given() -> None:
    """The source of randomness is an argument, and 128 bits are asked of it."""
    assert new_token(lambda size: bytes(range(size))) == "AAECAwQFBgcICQoLDA0ODw"


def test_keeps_a_token_by_its_hash() -> None:
    """What is kept of a single-use token is a hash that differs by purpose and tells nothing."""
    token = new_token()
    assert re.fullmatch(r"[0-9a-f]{64}", hash_token(token, "confirm"))
    assert hash_token(token, "confirm") != hash_token(token, "unsubscribe")
    assert token not in hash_token(token, "confirm")


def test_compares_tokens() -> None:
    """Tokens are compared whole, also where one is not ASCII."""
    assert is_equal("abc", "abc")
    assert not is_equal("abc", "abd")
    assert not is_equal("abc", "äbc")


def test_suppression_survives_new_keys() -> None:
    """The hash is made with the last key of the list, so a newer one in front changes nothing."""
    alone, rotated = parse_keys(OLD), parse_keys(f"{NEW}, {OLD}")
    assert alone.suppression("a@example.com") == rotated.suppression("a@example.com")
    assert alone.proof == rotated.proof
    assert rotated.newest == NEW.encode()


def test_suppression_needs_the_key() -> None:
    """Another key makes other hashes, so nobody finds addresses by trying them."""
    one, other = parse_keys(OLD), parse_keys(NEW)
    assert one.suppression("a@example.com") != other.suppression("a@example.com")
    assert one.suppression("a@example.com") != one.suppression("b@example.com")
    assert one.proof != other.proof


@pytest.mark.parametrize("text", [None, "", " , ,", "short", f"{OLD},short"])
def test_refuses_what_is_no_secret(text: str | None) -> None:
    """Without a key, or with one too short, it is refused with the way to make one."""
    with pytest.raises(SettingsError) as caught:
        parse_keys(text)
    (problem,) = caught.value.problems
    assert "POSTROOM_SECRET_KEY: " in str(problem)
    assert "secrets.token_urlsafe" in problem.hint
    assert OLD not in str(problem)


def test_never_shows_a_key() -> None:
    """The keys do not stand in what a debugger or a log prints of them."""
    assert OLD not in repr(Keys((OLD.encode(),)))


# Addresses that carry a token or a signed number.

KEYS = parse_keys(OLD)


@given(st.integers(0, 99_999_999_999))
def test_a_report_names_its_delivery(number: int) -> None:
    """What a report of failure is sent to tells the delivery, and is a local part of 64 at most."""
    address = envelope_sender(f"{'b' * 35}@example.com", number, KEYS)
    assert read_envelope_sender(address, KEYS) == number
    assert len(address.partition("@")[0]) <= 64


@pytest.mark.parametrize(
    "spoil",
    [
        str.upper,
        lambda address: f"<{address}>",
        lambda address: f"prvs=1234567890={address}",
        lambda address: address.replace("bounces", "returns"),
        lambda address: address.replace("example.com", "old.example"),
    ],
    ids=["in capitals", "in brackets", "with a mark in front", "of another user", "moved"],
)
def test_a_report_is_known_however_it_comes_back(spoil: Callable[[str], str]) -> None:
    """A server that writes the address otherwise, or settings changed since, do no harm."""
    assert read_envelope_sender(spoil(envelope_sender("bounces@example.com", 42, KEYS)), KEYS) == 42


def test_a_report_is_known_after_a_new_key() -> None:
    """A letter sent with an older key is known while that key is kept, and by no other."""
    address = envelope_sender("bounces@example.com", 42, KEYS)
    assert read_envelope_sender(address, parse_keys(f"{NEW}, {OLD}")) == 42
    assert read_envelope_sender(address, parse_keys(NEW)) is None


@given(st.integers(0, 99_999_999_999), st.integers(0, 99_999_999_999))
def test_nobody_reports_what_they_were_not_sent(one: int, other: int) -> None:
    """A signature counts for its own number alone."""
    address = envelope_sender("bounces@example.com", one, KEYS)
    forged = address.replace(f"+{one}-", f"+{other}-")
    assert read_envelope_sender(forged, KEYS) == (one if one == other else None)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "bounces@example.com",
        "bounces+42@example.com",
        "bounces+42-@example.com",
        "bounces+42-aaaaaaaaaaaaaaaa@example.com",
        "bounces+999999999999-aaaaaaaaaaaaaaaa@example.com",
        "bounces+٤٢-aaaaaaaaaaaaaaaa@example.com",
        "bounces+leave-AAAAAAAAAAAAAAAAAAAAAA@example.com",
    ],
)
def test_other_addresses_report_nothing(address: str) -> None:
    """An address without a signed number is about no delivery."""
    assert read_envelope_sender(address, KEYS) is None


@given(st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True))
def test_an_address_to_leave_at_carries_the_token(token: str) -> None:
    """A mail to the address of List-Unsubscribe tells whose it was."""
    address = unsubscribe_address("bounces@example.com", token)
    assert address == f"bounces+leave-{token}@example.com"
    assert read_unsubscribe_address(address) == token


@pytest.mark.parametrize(
    "address",
    ["", "bounces@example.com", "bounces+leave-@example.com", "bounces+leave-short@example.com"],
)
def test_other_addresses_carry_no_token(address: str) -> None:
    """A mail to any other address takes nobody off."""
    assert read_unsubscribe_address(address) is None
    assert read_unsubscribe_address(envelope_sender("bounces@example.com", 42, KEYS)) is None
