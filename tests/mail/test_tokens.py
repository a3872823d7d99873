"""Tokens, keys, and the email addresses that carry them."""

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


def test_makes_tokens_for_urls() -> None:
    """A token has 22 characters that need no quoting in a URL, and no two are equal."""
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", token) for token in tokens)


def test_takes_the_source_of_randomness_as_an_argument() -> None:
    """A token is made of 128 bits from the given source."""
    assert new_token(lambda size: bytes(range(size))) == "AAECAwQFBgcICQoLDA0ODw"


def test_stores_a_token_as_its_hash() -> None:
    """The hash of a single-use token differs by purpose and does not contain the token."""
    token = new_token()
    assert re.fullmatch(r"[0-9a-f]{64}", hash_token(token, "confirm"))
    assert hash_token(token, "confirm") != hash_token(token, "unsubscribe")
    assert token not in hash_token(token, "confirm")


def test_compares_tokens() -> None:
    """Only equal tokens are equal, even if one is not ASCII."""
    assert is_equal("abc", "abc")
    assert not is_equal("abc", "abd")
    assert not is_equal("abc", "äbc")


def test_suppression_survives_new_keys() -> None:
    """The hash uses the last key of the list, so adding a newer key changes nothing."""
    alone, rotated = parse_keys(OLD), parse_keys(f"{NEW}, {OLD}")
    assert alone.suppression("a@example.com") == rotated.suppression("a@example.com")
    assert alone.proof == rotated.proof
    assert rotated.newest == NEW.encode()


def test_suppression_needs_the_key() -> None:
    """Another key makes other hashes, so addresses cannot be found by trying."""
    key, other = parse_keys(OLD), parse_keys(NEW)
    assert key.suppression("a@example.com") != other.suppression("a@example.com")
    assert key.suppression("a@example.com") != key.suppression("b@example.com")
    assert key.proof != other.proof


@pytest.mark.parametrize("text", [None, "", " , ,", "short", f"{OLD},short"])
def test_rejects_a_missing_or_short_key(text: str | None) -> None:
    """The error of a missing or short key says how to make one, and shows no key."""
    with pytest.raises(SettingsError) as caught:
        parse_keys(text)
    (problem,) = caught.value.problems
    assert "POSTROOM_SECRET_KEY: " in str(problem)
    assert "secrets.token_urlsafe" in problem.hint
    assert OLD not in str(problem)


def test_never_shows_a_key() -> None:
    """The representation of keys in logs and debuggers does not contain them."""
    assert OLD not in repr(Keys((OLD.encode(),)))


# Email addresses that carry a token or a signed number.

KEYS = parse_keys(OLD)


@given(st.integers(0, 99_999_999_999))
def test_a_report_names_its_delivery(number: int) -> None:
    """An envelope sender names its delivery, and its local part has at most 64 characters."""
    address = envelope_sender(f"{'b' * 35}@example.com", number, KEYS)
    assert read_envelope_sender(address, KEYS) == number
    assert len(address.partition("@")[0]) <= 64


@pytest.mark.parametrize(
    "rewrite",
    [
        str.upper,
        lambda address: f"<{address}>",
        lambda address: f"prvs=1234567890={address}",
        lambda address: address.replace("bounces", "returns"),
        lambda address: address.replace("example.com", "old.example"),
    ],
    ids=["in capitals", "in brackets", "with a mark in front", "of another user", "moved"],
)
def test_a_report_to_a_rewritten_address_is_recognised(rewrite: Callable[[str], str]) -> None:
    """Rewriting by a mail server, or a change of settings, does not hide the delivery."""
    assert (
        read_envelope_sender(rewrite(envelope_sender("bounces@example.com", 42, KEYS)), KEYS) == 42
    )


def test_a_report_is_recognised_after_a_new_key() -> None:
    """A signature is valid as long as its key is in the list."""
    address = envelope_sender("bounces@example.com", 42, KEYS)
    assert read_envelope_sender(address, parse_keys(f"{NEW}, {OLD}")) == 42
    assert read_envelope_sender(address, parse_keys(NEW)) is None


@given(st.integers(0, 99_999_999_999), st.integers(0, 99_999_999_999))
def test_a_signature_is_valid_for_its_own_number_only(number: int, other: int) -> None:
    """Nobody can report another delivery with a signature they received."""
    address = envelope_sender("bounces@example.com", number, KEYS)
    forged = address.replace(f"+{number}-", f"+{other}-")
    assert read_envelope_sender(forged, KEYS) == (number if number == other else None)


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
def test_other_addresses_name_no_delivery(address: str) -> None:
    """An address without a signed number names no delivery."""
    assert read_envelope_sender(address, KEYS) is None


any_token = st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True)


@given(any_token, st.sampled_from([str, str.lower, str.upper, str.swapcase, str.title]))
def test_an_unsubscribe_address_carries_the_token(
    token: str, rewrite: Callable[[str], str]
) -> None:
    """The token is read back in any case in which a mail server writes the unsubscribe address."""
    address = unsubscribe_address("bounces@example.com", token)
    assert re.fullmatch(r"bounces\+leave-[a-z2-7]{27}@example\.com", address)
    assert read_unsubscribe_address(f"To: <{rewrite(address)}>") == token


@given(any_token, any_token)
def test_no_two_tokens_have_one_address(token: str, other: str) -> None:
    """Addresses of different tokens differ, whatever their case."""
    addresses = {
        unsubscribe_address("bounces@example.com", each).lower() for each in (token, other)
    }
    assert len(addresses) == len({token, other})


@given(any_token)
def test_an_address_of_an_earlier_version_carries_the_token(token: str) -> None:
    """Unsubscribe addresses in emails that were sent before keep working."""
    assert read_unsubscribe_address(f"bounces+leave-{token}@example.com") == token


@pytest.mark.parametrize(
    "address",
    [
        "",
        "bounces@example.com",
        "bounces+leave-@example.com",
        "bounces+leave-short@example.com",
        f"bounces+leave-{'a' * 26}@example.com",
        f"bounces+leave-{'a' * 28}@example.com",
        f"bounces+leave-{'a' * 26}8@example.com",
        f"bounces+leave-{'a' * 26}\N{KELVIN SIGN}@example.com",
        f"bounces+leave-{'a' * 26}\N{LATIN SMALL LETTER LONG S}@example.com",
    ],
)
def test_other_addresses_carry_no_token(address: str) -> None:
    """An email to any other address unsubscribes nobody."""
    assert read_unsubscribe_address(address) is None
    assert read_unsubscribe_address(envelope_sender("bounces@example.com", 42, KEYS)) is None
