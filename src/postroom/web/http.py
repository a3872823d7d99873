"""The header fields of every answer, and the limits of every request: one place for both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from urllib.parse import unquote, urlsplit

from attrs import frozen

from postroom.mail.unsubscribe import SERVICE_PATH, UnsubscribeStore
from postroom.models import Site


@frozen
class AppDeps:
    """`clock` tells the present, `write` takes the lines of the journal, one a call."""

    book: UnsubscribeStore
    clock: Callable[[], datetime]
    write: Callable[[str], None]


BODY_LIMIT = 16 * 1024
"""Bytes of a request's body; our forms have a few hundred."""
HEAD_LIMIT = 16 * 1024
"""Bytes of a request's line and fields."""
METHODS = ("GET", "HEAD", "POST")
PATH_VARIANTS = "postroom.path_variants"
"""The key of a scope under which the meanings of its path stand, likeliest first."""

# Nothing but our own styles and pictures; no script anywhere, no frame around us.
_STRICT = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# Posts may show pictures, sounds and films of other hosts, and align the cells of their tables; a
# digest's letter has its styles inside. Still no script.
_OPEN = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' https: data:; "
    "media-src 'self' https:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A drawing that is opened by itself is a document; as a picture it may style itself.
SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
_YEAR = 365 * 24 * 60 * 60


def default_headers(path: str, *, https: bool) -> Mapping[str, str]:
    """Return the fields for an answer at `path`, where it does not say otherwise itself."""
    always = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    if https:
        # RFC 6797 §7.2: over plain HTTP it must not be sent.
        always["Strict-Transport-Security"] = f"max-age={_YEAR}"
    if not path.startswith(SERVICE):
        return {**always, "Content-Security-Policy": _OPEN}
    return {
        **always,
        "Content-Security-Policy": _STRICT,
        # A token stands in the address: no cache keeps it, no other host and no index learns it.
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex",
    }


SERVICE = f"/{SERVICE_PATH}"
"""All pages of the service stand below this path."""
# Slashes and NUL in disguise, which another program might read otherwise (RFC 3986 §7.3).
_DISGUISED = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


def decode_path(raw: bytes) -> str | None:
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


def path_variants(path: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return what `path` may mean: below each prefix of `known` that it has, longest first.

    A proxy may take the prefix away or leave it: both arrive at the same page.
    """
    fitting = [prefix for prefix in known if path.startswith(prefix)]
    return tuple("/" + path.removeprefix(one) for one in sorted(fitting, key=len, reverse=True))
