"""RSS 2.0 with the modules that readers expect: content, Dublin Core, Atom links, media."""

from __future__ import annotations

import re

from postroom.feeds.atom import styled
from postroom.feeds.extension import generator
from postroom.model import Feed, Site

MEDIA_TYPE = "application/rss+xml"
_TITLE = re.compile(rb"<title>[^<]*</title>")


def rss(feed: Feed, site: Site) -> bytes:
    """Return `feed` as an RSS document."""
    made = generator(feed, site, MEDIA_TYPE)
    document = bytes(made.rss_str(pretty=True))
    return styled(_TITLE.sub(_hex_references, document), feed)


def _hex_references(title: re.Match[bytes]) -> bytes:
    # RSS Best Practices Profile §"Title": readers disagree on &amp;, and agree on &#x26;.
    return (
        title[0]
        .replace(b"&amp;", b"&#x26;")
        .replace(b"&lt;", b"&#x3C;")
        .replace(b"&gt;", b"&#x3E;")
    )
