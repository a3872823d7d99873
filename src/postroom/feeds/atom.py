"""Atom 1.0 (RFC 4287), written by feedgen.

feedgen 1.0.0 loses what an entry's links say and stamps what is not set with the present time; so
every time is set here, and an extension of ours writes the links again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from feedgen.ext.base import BaseEntryExtension, BaseExtension
from feedgen.feed import FeedGenerator
from lxml import etree

from postroom import __version__
from postroom.model import Feed, Post, Site

# An empty feed has no entry to take the time from (RFC 4287 §4.1.1 wants one all the same).
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def atom(feed: Feed, site: Site) -> bytes:
    """Return `feed` as an Atom document."""
    generator = FeedGenerator()
    generator.register_extension("postroom", BaseExtension, _EntryLinks, atom=True, rss=False)
    generator.id(feed.id)
    generator.title(feed.title)
    generator.language(site.language)
    generator.author(name=site.publisher)
    generator.link(href=feed.page_url, rel="alternate", type="text/html")
    generator.link(href=feed.url, rel="self", type="application/atom+xml")
    generator.generator("Postroom", version=__version__)
    if site.description:
        generator.subtitle(site.description)
    generator.updated(max((post.updated for post in feed.posts), default=_NEVER))
    for post in feed.posts:
        _add(post, generator, site)
    return bytes(generator.atom_str(pretty=True)) + b"\n"


def _add(post: Post, generator: FeedGenerator, site: Site) -> None:
    entry = generator.add_entry(order="append")
    entry.id(post.id)
    entry.title(post.title)
    entry.published(post.published)
    entry.updated(post.updated)
    entry.summary(post.summary or post.title)
    entry.content(post.html, type="html")
    for name in post.authors:
        entry.author(name=name)
    for topic in post.topics:
        entry.category(term=topic)
    entry.postroom.post(post, site)


class _EntryLinks(BaseEntryExtension):  # type: ignore[misc]
    """Writes an entry's links with all their attributes, and its language."""

    def post(self, post: Post, site: Site) -> None:
        self._post, self._site = post, site

    def extend_atom(self, entry: Any) -> Any:  # noqa: ANN401 - an lxml element
        for link in entry.findall("link"):
            entry.remove(link)
        etree.SubElement(entry, "link", href=self._post.url, rel="alternate", type="text/html")
        enclosure = self._post.enclosure
        if enclosure:
            etree.SubElement(
                entry,
                "link",
                href=enclosure.url,
                rel="enclosure",
                type=enclosure.type,
                length=str(enclosure.length),
            )
        if self._post.lang and self._post.lang != self._site.language:
            entry.set(_LANG, self._post.lang)
        return entry
