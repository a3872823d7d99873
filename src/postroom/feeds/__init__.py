"""Posts → feed documents: one function a format, and a table of the formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from postroom.feeds.atom import atom
from postroom.model import Feed, FormatName, Site


@frozen
class Format:
    """A feed format: its file's ending, its media type and the function that writes it."""

    ending: str
    media_type: str
    write: Callable[[Feed, Site], bytes]


FORMATS: Mapping[FormatName, Format] = {
    "atom": Format("atom.xml", "application/atom+xml", atom),
}
