"""Rules for every request: default response headers, size limits, and decoding of paths."""

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
    """The dependencies of the application.

    `clock` returns the current time; `log` writes one line of the access log.
    """

    store: UnsubscribeStore
    clock: Callable[[], datetime]
    log: Callable[[str], None]


BODY_LIMIT = 16 * 1024
"""Largest request body, in bytes; the forms of Postroom send a few hundred."""
HEAD_LIMIT = 16 * 1024
"""Largest request line and headers together, in bytes."""
METHODS = ("GET", "HEAD", "POST")
SERVICE = f"/{SERVICE_PATH}"
"""Prefix of the paths of all pages for subscribers."""
PATH_VARIANTS = "postroom.path_variants"
"""Key of the ASGI scope for the variants of the path, see `path_variants`."""

# Only our own stylesheet and images; no scripts and no frames around the page.
_SERVICE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# Posts may show images, audio and video from other hosts and align table cells; the email of a
# digest has inline styles. Scripts stay forbidden.
_SITE_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' https: data:; "
    "media-src 'self' https:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# An SVG image that is opened by itself is a document; it may have styles of its own.
SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
_YEAR = 365 * 24 * 60 * 60


def default_headers(path: str, *, https: bool) -> Mapping[str, str]:
    """Return the default headers for responses at `path`; a header of the response itself wins."""
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    if https:
        # RFC 6797 §7.2: it must not be sent over plain HTTP.
        headers["Strict-Transport-Security"] = f"max-age={_YEAR}"
    if not path.startswith(SERVICE):
        return {**headers, "Content-Security-Policy": _SITE_POLICY}
    return {
        **headers,
        "Content-Security-Policy": _SERVICE_POLICY,
        # The URL holds a token: no cache, other host or search index may learn it.
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex",
    }


# Encoded slashes and NUL, which another program might read differently (RFC 3986 §7.3).
_ENCODED_SEPARATOR = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


# The absolute form of a request target (RFC 9112 §3.2.2), which clients send to a proxy.
_ABSOLUTE_FORM = re.compile(rb"https?://[^/?#]+(?=/|$)", re.IGNORECASE)


def _without_host(raw: bytes) -> bytes:
    found = _ABSOLUTE_FORM.match(raw)
    return (raw[found.end() :] or b"/") if found else raw


def decode_path(raw: bytes) -> str | None:
    """Return the URL path `raw` decoded, or None for a path that could lead out of the site.

    `raw` may begin with scheme and host, which are removed: the site is the same under each name.
    Such a path has an encoded slash or NUL, a control character, a `.` or `..` segment, or bytes
    that are not UTF-8.
    """
    raw = _without_host(raw)
    if _ENCODED_SEPARATOR.search(raw):
        return None
    try:
        path = unquote(raw.decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        return None
    is_unsafe = not path.startswith("/") or _CONTROL.search(path)
    return None if is_unsafe or {".", ".."} & set(path.split("/")) else path


def url_prefixes(site: Site) -> tuple[str, ...]:
    """Return the prefixes with which the path of a request may begin.

    They are the paths of the two URLs in the settings `url` and `mail.unsubscribe`, and `/`.
    """
    paths = (unquote(urlsplit(url).path) for url in (site.url, site.mail.unsubscribe))
    return tuple(dict.fromkeys(path.rstrip("/") + "/" for path in (*paths, "")))


def path_variants(path: str, prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return the variants of `path`: one for each matching prefix, with that prefix removed.

    The variant without the longest prefix is first. A proxy may remove the prefix or keep it; with
    the variants, both lead to the same page.
    """
    matching = [prefix for prefix in prefixes if path.startswith(prefix)]
    return tuple("/" + path.removeprefix(p) for p in sorted(matching, key=len, reverse=True))
