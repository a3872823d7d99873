"""Write the list of all feeds as OPML 2.0, which feed readers can import."""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from postroom.models import Feed


def write_opml(title: str, feeds: Iterable[Feed]) -> bytes:
    """Return an OPML document with an outline for each of `feeds`."""
    root = etree.Element("opml", version="2.0")
    etree.SubElement(etree.SubElement(root, "head"), "title").text = title
    body = etree.SubElement(root, "body")
    for feed in feeds:
        etree.SubElement(
            body,
            "outline",
            type="rss",  # OPML 2.0 §"Subscription lists": for every format
            text=feed.title,
            title=feed.title,
            xmlUrl=feed.url,
            htmlUrl=feed.page_url,
        )
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True))
