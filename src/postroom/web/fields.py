"""The header fields of every answer, and the limits of every request: one place for both."""

from __future__ import annotations

from collections.abc import Mapping

from postroom.web.paths import SERVICE

BODY_LIMIT = 16 * 1024
"""Bytes of a request's body; our forms have a few hundred."""
HEAD_LIMIT = 16 * 1024
"""Bytes of a request's line and fields."""
METHODS = ("GET", "HEAD", "POST")

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
DRAWING = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
_YEAR = 365 * 24 * 60 * 60


def fields(path: str, *, https: bool) -> Mapping[str, str]:
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
