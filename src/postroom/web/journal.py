"""One line for each request, in which nobody can be found again.

No address, no token and no query string stands in it, and of the client only the network: /24 of
IPv4, /64 of IPv6, which is what a household or an office has.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from urllib.parse import quote

from attrs import frozen

from postroom.web.paths import SERVICE

_HIDDEN = "…"
# Longer than any name of ours; of a path that is not there, nobody knows what it holds.
_LONGEST_NAME = 15


@frozen
class Entry:
    """A request and its answer; `path` is nothing where it was refused for what it is.

    `status` 0 means that the client went away, or was cut off, before there was an answer.
    """

    at: datetime
    client: str
    method: str
    path: str | None
    status: int
    milliseconds: float

    def __str__(self) -> str:
        """Return `2026-11-22T09:00:00Z 192.0.2.0/24 POST /list/leave/… 200 4 ms`."""
        at = self.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        path = shown(self.path, there=self.status in {200, 301, 304, 410})
        answer = self.status or "gone"
        took = f"{self.milliseconds:.0f} ms"
        return f"{at} {network(self.client)} {self.method} {path} {answer} {took}"


def network(client: str) -> str:
    """Return the network that `client`, an address, is part of: /24 or /64; `-` for no address."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return "-"
    mapped = getattr(address, "ipv4_mapped", None) or address
    length = 24 if mapped.version == 4 else 64
    return str(ipaddress.ip_network((mapped, length), strict=False))


def shown(path: str | None, *, there: bool) -> str:
    """Return `path` without what could be a token or an address.

    Below `/list/` only the name of the page is left. A file that is `there` has a public name; of
    any other path, whatever is long or holds an `@` is hidden.
    """
    if path is None:
        return _HIDDEN
    if path.startswith(SERVICE):
        name, slash, rest = path.removeprefix(SERVICE).partition("/")
        return f"{SERVICE}{_short(name)}{slash}{_HIDDEN if rest else ''}"
    steps = path.split("/")
    return "/".join(quote(step) if there else _short(step) for step in steps)


def _short(step: str) -> str:
    hidden = len(step) > _LONGEST_NAME or "@" in step
    return _HIDDEN if hidden else quote(step)
