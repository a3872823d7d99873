"""Write feeds as Atom 1.0 (RFC 4287)."""

from __future__ import annotations

from html import escape

from postroom.models import Feed, Site
from postroom.publish.feeds.feedgen_ext import make_generator


def write_atom(feed: Feed, site: Site) -> bytes:
    """Return `feed` as an Atom document."""
    generator = make_generator(feed, site, "application/atom+xml")
    return add_stylesheet(bytes(generator.atom_str(pretty=True)), feed)


def add_stylesheet(document: bytes, feed: Feed) -> bytes:
    """Return an XML document with a reference to the feed's stylesheet before its root element."""
    declaration, _, rest = document.partition(b"\n")
    if not feed.stylesheet:
        return document + b"\n"
    # "Associating Style Sheets with XML documents 1.0" §2: before the root element.
    instruction = f'<?xml-stylesheet type="text/css" href="{escape(feed.stylesheet)}"?>'
    return b"\n".join((declaration, instruction.encode(), rest, b""))
