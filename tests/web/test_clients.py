"""The limit of what one client may have open."""

from __future__ import annotations

import pytest

from postroom.web.clients import ClientLimit


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_a_client_is_an_address_or_a_network(first: str, second: str, *, is_one: bool) -> None:
    """An address of IPv4 is one client, and so is a /64 of IPv6, of which a host may use all."""
    limit = ClientLimit(most=1)
    assert limit.enter(first)
    assert limit.enter(second) is not is_one


def test_a_client_that_leaves_does_not_count() -> None:
    """Only what is open counts, and refused ones that left do not."""
    limit = ClientLimit(most=2)
    assert [limit.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    limit.leave("192.0.2.1")
    limit.leave("192.0.2.1")
    assert limit.enter("192.0.2.1")
    with limit.counted("192.0.2.1") as is_within:
        assert not is_within


@pytest.mark.parametrize("client", ["10.1.2.3", "::ffff:10.1.2.3", "", "unix"])
def test_proxies_and_unknown_clients_have_no_limit(client: str) -> None:
    """Many clients share the address of a trusted proxy, and those of a Unix socket have none."""
    limit = ClientLimit(("10.0.0.0/8", "::1/128"), most=0)
    assert limit.enter(client)
    assert not limit.enter("192.0.2.1")
