"""Write feeds as RSS 2.0 with the extensions that feed readers expect.

The extensions are content, Dublin Core, Atom links and Media RSS.
"""

from __future__ import annotations

import re

from postroom.models import Feed, Site
from postroom.publish.feeds.atom import add_stylesheet
from postroom.publish.feeds.feedgen_ext import make_generator

_PLAIN_TEXT = re.compile(rb"<(title|copyright|category|dc:creator)>[^<]*</\1>")


def write_rss(feed: Feed, site: Site) -> bytes:
    """Return `feed` as an RSS document."""
    generator = make_generator(feed, site, "application/rss+xml")
    document = bytes(generator.rss_str(pretty=True))
    return add_stylesheet(_PLAIN_TEXT.sub(_use_hex_references, document), feed)


def _use_hex_references(element: re.Match[bytes]) -> bytes:
    # RSS Best Practices Profile §"Character Data": feed readers disagree on &amp; in plain text
    # and agree on &#x26;.
    return (
        element[0]
        .replace(b"&amp;", b"&#x26;")
        .replace(b"&lt;", b"&#x3C;")
        .replace(b"&gt;", b"&#x3E;")
    )
