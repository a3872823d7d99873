"""Posts → feed documents: one function a format, and a table of the formats."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from postroom.feeds import atom, jsonfeed, rss
from postroom.model import Feed, FormatName, Site


@frozen
class Format:
    """A feed format: its files' names, its media type and the function that writes it."""

    key: FormatName
    name: str
    file: str
    archive_ending: str
    media_type: str
    write: Callable[[Feed, Site], bytes]


FORMATS = (
    Format("atom", "Atom", "atom.xml", "atom.xml", atom.MEDIA_TYPE, atom.atom),
    Format("rss", "RSS", "rss.xml", "rss.xml", rss.MEDIA_TYPE, rss.rss),
    Format("json", "JSON Feed", "feed.json", "json", jsonfeed.MEDIA_TYPE, jsonfeed.json_feed),
)
