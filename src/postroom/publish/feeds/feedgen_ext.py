"""Extend feedgen: links, archives, hubs, licences and languages.

feedgen 1.0.0 drops the attributes of an entry's links. It has no archives, hubs in RSS, licences or
languages of entries. It writes plain text where RSS has HTML, and gives elements without a date the
current time. In its XML trees, elements of Atom or RSS itself have no namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from typing import Any

from attrs import frozen
from feedgen.ext.base import BaseEntryExtension, BaseExtension
from feedgen.feed import FeedGenerator
from lxml import etree

from postroom import __version__
from postroom.markdown.anchors import without_anchors
from postroom.media_types import media_type
from postroom.models import Feed, Html, Post, Site

# RFC 4287 §4.1.1: every feed has a time. A feed without entries gets this one.
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)
_ATOM = "http://www.w3.org/2005/Atom"
_DC = "http://purl.org/dc/elements/1.1/"
_HISTORY = "http://purl.org/syndication/history/1.0"
_MEDIA = "http://search.yahoo.com/mrss/"
# RSS 2.0, image: the URL is that of a GIF, JPEG or PNG image.
_RSS_IMAGES = frozenset({"image/gif", "image/jpeg", "image/png"})
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_ENTRY_ORDER = ("id", "title", "link", "published", "updated", "author", "category", "summary")


@frozen
class AtomLink:
    """A link of a feed or entry, with its relation (RFC 4287 §4.2.7.2; RFC 8288)."""

    rel: str
    href: str
    type: str = ""
    length: int = 0

    def attributes(self) -> dict[str, str]:
        """Return the XML attributes of the link; empty ones are left out."""
        known = {"href": self.href, "rel": self.rel, "type": self.type}
        known["length"] = str(self.length or "")
        return {name: value for name, value in known.items() if value}


def make_generator(feed: Feed, site: Site, feed_type: str) -> FeedGenerator:
    """Return a feedgen generator with the elements that Atom and RSS share."""
    generator = FeedGenerator()
    generator.register_extension("postroom", _FeedExtension, _EntryExtension)
    generator.postroom.describe(feed, site, feed_type)
    generator.id(feed.id)
    generator.title(feed.title)
    generator.language(feed.language)
    generator.author(name=site.publisher)
    generator.description(feed.description or feed.title)
    # The alternate comes last, since feedgen uses the last link as that of the channel.
    generator.link(href=feed.url, rel="self", type=feed_type)
    generator.link(href=feed.page_url, rel="alternate", type="text/html")
    generator.generator("Postroom", version=__version__)
    generator.rights(site.feeds.rights or None)
    _add_images(generator, feed, feed_type)
    updated = max((post.updated for post in feed.posts), default=_NEVER)
    generator.updated(updated)
    generator.lastBuildDate(updated)
    for post in feed.posts:
        _add_entry(generator, post, feed, site)
    return generator


def _add_images(generator: FeedGenerator, feed: Feed, feed_type: str) -> None:
    if feed_type == "application/atom+xml":
        generator.icon(feed.icon or None)
        generator.logo(feed.logo or None)
    elif media_type(feed.logo) in _RSS_IMAGES:
        # RSS 2.0, image: title and link are those of the channel.
        generator.image(feed.logo, title=feed.title, link=feed.page_url)


def _add_entry(generator: FeedGenerator, post: Post, feed: Feed, site: Site) -> None:
    entry = generator.add_entry(order="append")
    entry.postroom.describe(post, site, feed.language)
    entry.id(post.id)
    entry.title(post.title)
    entry.link(href=post.url, rel="alternate")
    entry.published(post.published)
    entry.updated(post.updated)
    # summary() comes before content(), which feedgen's description() would replace.
    entry.summary(post.summary or post.title)
    if feed.content == "full":
        entry.content(entry_content(post), type="html")
    for name in post.authors:
        entry.author(name=name)
    for topic in post.topics:
        entry.category(term=topic)
    if post.enclosure:
        enclosure = post.enclosure
        entry.enclosure(enclosure.url, str(enclosure.length), enclosure.type)


class _FeedExtension(BaseExtension):  # type: ignore[misc]
    """Adds to a feed its links and its archive elements."""

    def describe(self, feed: Feed, site: Site, feed_type: str) -> None:
        self._feed, self._site, self._feed_type = feed, site, feed_type

    def extend_ns(self) -> dict[str, str]:
        spaces = {}
        if self._feed.complete or self._feed.current:
            spaces["fh"] = _HISTORY
        if any(post.image for post in self._feed.posts):
            spaces["media"] = _MEDIA
        if "rss" in self._feed_type and any(
            post.authors or _is_foreign(post, self._feed.language) for post in self._feed.posts
        ):
            spaces["dc"] = _DC
        return spaces

    def extend_atom(self, root: Any) -> Any:  # noqa: ANN401 - an lxml element
        for link in root.findall("link"):
            root.remove(link)
        for link in self._links():
            etree.SubElement(root, "link", link.attributes())
        self._add_archive_elements(root)
        return root

    def extend_rss(self, root: Any) -> Any:  # noqa: ANN401 - an lxml element
        channel = root.find("channel")
        for link in channel.findall(f"{{{_ATOM}}}link"):
            channel.remove(link)
        for link in self._links():
            if link.rel != "alternate":
                etree.SubElement(channel, f"{{{_ATOM}}}link", link.attributes())
        _write_description_as_html(channel)
        self._add_archive_elements(channel)
        return root

    def _links(self) -> Iterator[AtomLink]:
        feed, settings = self._feed, self._site.feeds
        yield AtomLink("alternate", feed.page_url, "text/html")
        yield AtomLink("self", feed.url, self._feed_type)
        for rel, href in (
            ("hub", settings.hub),  # WebSub §4
            ("license", settings.license),  # RFC 4946 §2
            ("prev-archive", feed.previous),  # RFC 5005 §4
            ("current", feed.current),
        ):
            if href:
                yield AtomLink(rel, href, "" if rel in {"hub", "license"} else self._feed_type)

    def _add_archive_elements(self, parent: Any) -> None:  # noqa: ANN401 - an lxml element
        if self._feed.complete:
            etree.SubElement(parent, f"{{{_HISTORY}}}complete")  # RFC 5005 §2
        if self._feed.current:
            etree.SubElement(parent, f"{{{_HISTORY}}}archive")  # RFC 5005 §4


class _EntryExtension(BaseEntryExtension):  # type: ignore[misc]
    """Adds to an entry its links with all attributes, its image, authors and language."""

    def describe(self, post: Post, site: Site, language: str) -> None:
        self._post, self._site, self._language = post, site, language

    def extend_atom(self, entry: Any) -> Any:  # noqa: ANN401 - an lxml element
        for link in entry.findall("link"):
            entry.remove(link)
        links = [AtomLink("alternate", self._post.url, "text/html")]
        if self._post.enclosure:
            enclosure = self._post.enclosure
            links.append(AtomLink("enclosure", enclosure.url, enclosure.type, enclosure.length))
        for link in links:
            etree.SubElement(entry, "link", link.attributes())
        self._add_image(entry)
        if _is_foreign(self._post, self._language):
            entry.set(_LANG, self._post.lang)
        rank = {name: number for number, name in enumerate(_ENTRY_ORDER)}
        entry[:] = sorted(entry, key=lambda child: rank.get(child.tag, len(rank)))
        return entry

    def extend_rss(self, item: Any) -> Any:  # noqa: ANN401 - an lxml element
        for author in self._post.authors:
            # RSS's <author> is an email address; Dublin Core's creator is a name.
            etree.SubElement(item, f"{{{_DC}}}creator").text = author
        if _is_foreign(self._post, self._language):
            etree.SubElement(item, f"{{{_DC}}}language").text = self._post.lang
        _write_description_as_html(item)
        self._add_image(item)
        return item

    def _add_image(self, parent: Any) -> None:  # noqa: ANN401 - an lxml element
        if self._post.image:
            media = etree.SubElement(
                parent, f"{{{_MEDIA}}}content", url=self._post.image.src, medium="image"
            )
            etree.SubElement(media, f"{{{_MEDIA}}}thumbnail", url=self._post.image.src)


def _write_description_as_html(parent: Any) -> None:  # noqa: ANN401 - an lxml element
    """Escape the plain text of an RSS description, since feed readers show it as HTML."""
    # RSS 2.0, item: "entity-encoded HTML is allowed", so plain text must be escaped.
    description = parent.find("description")
    description.text = escape(description.text or "", quote=False)


def _is_foreign(post: Post, language: str) -> bool:
    return bool(post.lang) and post.lang != language


def entry_content(post: Post) -> Html:
    """Return the full content of a feed entry: the lead image, if any, and the text."""
    html = without_anchors(post.html)
    if not post.image:
        return html
    source, alt = escape(post.image.src), escape(post.image.alt)
    return Html(f'<p><img src="{source}" alt="{alt}"></p>\n{html}')
