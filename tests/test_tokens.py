"""Tokens and keys."""

from __future__ import annotations

import re

import pytest

from postroom.errors import SettingsError
from postroom.tokens import Keys, mint, read_keys, same, stored

OLD, NEW = "the oldest key of all", "a newer key for signing"


def test_mints_tokens_for_urls() -> None:
    """A token is 22 characters that need no quoting in a URL, and no two are alike."""
    tokens = {mint() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", token) for token in tokens)


def test_mints_from_the_source_it_is_given() -> None:
    """The source of randomness is an argument, and 128 bits are asked of it."""
    assert mint(lambda size: bytes(range(size))) == "AAECAwQFBgcICQoLDA0ODw"


def test_keeps_a_token_by_its_hash() -> None:
    """What is kept of a single-use token is a hash that differs by purpose and tells nothing."""
    token = mint()
    assert re.fullmatch(r"[0-9a-f]{64}", stored(token, "confirm"))
    assert stored(token, "confirm") != stored(token, "unsubscribe")
    assert token not in stored(token, "confirm")


def test_compares_tokens() -> None:
    """Tokens are compared whole, also where one is not ASCII."""
    assert same("abc", "abc")
    assert not same("abc", "abd")
    assert not same("abc", "äbc")


def test_suppression_survives_new_keys() -> None:
    """The hash is made with the last key of the list, so a newer one in front changes nothing."""
    alone, rotated = read_keys(OLD), read_keys(f"{NEW}, {OLD}")
    assert alone.suppression("a@example.com") == rotated.suppression("a@example.com")
    assert alone.proof == rotated.proof
    assert rotated.newest == NEW.encode()


def test_suppression_needs_the_key() -> None:
    """Another key makes other hashes, so nobody finds addresses by trying them."""
    one, other = read_keys(OLD), read_keys(NEW)
    assert one.suppression("a@example.com") != other.suppression("a@example.com")
    assert one.suppression("a@example.com") != one.suppression("b@example.com")
    assert one.proof != other.proof


@pytest.mark.parametrize("text", [None, "", " , ,", "short", f"{OLD},short"])
def test_refuses_what_is_no_secret(text: str | None) -> None:
    """Without a key, or with one too short, it is refused with the way to make one."""
    with pytest.raises(SettingsError) as caught:
        read_keys(text)
    (problem,) = caught.value.problems
    assert "POSTROOM_SECRET_KEY: " in str(problem)
    assert "secrets.token_urlsafe" in problem.repair
    assert OLD not in str(problem)


def test_never_shows_a_key() -> None:
    """The keys do not stand in what a debugger or a log prints of them."""
    assert OLD not in repr(Keys((OLD.encode(),)))
