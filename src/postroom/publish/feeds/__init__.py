"""Posts → feed documents: one function a format, and a table of the formats."""

from __future__ import annotations

from postroom.models import FeedFormat
from postroom.publish.feeds import atom, json_feed, rss

FORMATS = (
    FeedFormat("atom", "Atom", "atom.xml", "atom.xml", atom.MEDIA_TYPE, atom.write_atom),
    FeedFormat("rss", "RSS", "rss.xml", "rss.xml", rss.MEDIA_TYPE, rss.write_rss),
    FeedFormat(
        "json", "JSON Feed", "feed.json", "json", json_feed.MEDIA_TYPE, json_feed.write_json_feed
    ),
)
