"""Limit what one client may have open at a time, so that no client shuts out all others."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from attrs import Factory, define, field

MOST_PER_CLIENT = 64
"""Connections that a client may have open, and requests of it that are answered at a time.

A browser opens six connections, and many people may share one IP address.
"""


@define
class ClientLimit:
    """Counts what each client has open, and refuses more than `most`.

    `exempt` are networks of trusted proxies: many clients share their addresses.
    """

    exempt: Iterable[str] = ()
    most: int = MOST_PER_CLIENT
    _open: Counter[str] = Factory(Counter)
    _networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = field(init=False)

    @_networks.default
    def _parse_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        return tuple(map(ipaddress.ip_network, self.exempt))

    def enter(self, client: str) -> bool:
        """Count one more for `client`, an IP address; return whether it is within the limit.

        The caller must call `leave`, whatever this returns.
        """
        if key := self._key(client):
            self._open[key] += 1
        return not key or self._open[key] <= self.most

    def leave(self, client: str) -> None:
        """Count one less for `client`."""
        if key := self._key(client):
            self._open[key] -= 1
            if self._open[key] <= 0:
                del self._open[key]

    @contextmanager
    def counted(self, client: str) -> Iterator[bool]:
        """Count one more for `client` during a block; yield whether it is within the limit."""
        try:
            yield self.enter(client)
        finally:
            self.leave(client)

    def _key(self, client: str) -> str:
        """Return by what `client` is counted, or "" if it is not.

        That is the address, or the /64 of IPv6, from which one host may use any address.
        """
        try:
            address = ipaddress.ip_address(client.partition("%")[0])
        except ValueError:
            return ""
        mapped = getattr(address, "ipv4_mapped", None) or address
        if any(mapped in network for network in self._networks):
            return ""
        if mapped.version == 4:
            return str(mapped)
        return str(ipaddress.ip_network((mapped, 64), strict=False))
