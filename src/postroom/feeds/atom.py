"""Atom 1.0 (RFC 4287)."""

from __future__ import annotations

from html import escape

from postroom.feeds.extension import generator
from postroom.model import Feed, Site

MEDIA_TYPE = "application/atom+xml"


def atom(feed: Feed, site: Site) -> bytes:
    """Return `feed` as an Atom document."""
    made = generator(feed, site, MEDIA_TYPE)
    return styled(bytes(made.atom_str(pretty=True)), feed)


def styled(document: bytes, feed: Feed) -> bytes:
    """Return an XML document with the feed's stylesheet named before its root element."""
    declaration, _, rest = document.partition(b"\n")
    if not feed.stylesheet:
        return document + b"\n"
    # "Associating Style Sheets with XML documents 1.0" §2: before the root element.
    instruction = f'<?xml-stylesheet type="text/css" href="{escape(feed.stylesheet)}"?>'
    return b"\n".join((declaration, instruction.encode(), rest, b""))
