"""The target of a request → the path that is meant, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from postroom.model import Site

SERVICE = "/list/"
"""All pages of the service stand below this path."""
# Slashes and NUL in disguise, which another program might read otherwise (RFC 3986 §7.3).
_DISGUISED = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


def plain(raw: bytes) -> str | None:
    """Return the path that `raw` writes, decoded; nothing for one that leads astray.

    That is a path with a hidden slash or NUL, or with dotted steps, or one that is not UTF-8.
    """
    if _DISGUISED.search(raw):
        return None
    try:
        path = unquote(raw.decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        return None
    astray = not path.startswith("/") or _CONTROL.search(path)
    return None if astray or {".", ".."} & set(path.split("/")) else path


def prefixes(site: Site) -> tuple[str, ...]:
    """Return the paths below which newsroom and service are known outside, `/` among them."""
    known = (unquote(urlsplit(url).path) for url in (site.url, site.mail.unsubscribe))
    return tuple(dict.fromkeys(path.rstrip("/") + "/" for path in (*known, "")))


def readings(path: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return what `path` may mean: below each prefix of `known` that it has, longest first.

    A proxy may take the prefix away or leave it: both arrive at the same page.
    """
    fitting = [prefix for prefix in known if path.startswith(prefix)]
    return tuple("/" + path.removeprefix(one) for one in sorted(fitting, key=len, reverse=True))
