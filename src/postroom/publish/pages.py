"""Render the pages of the web archive."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from attrs import evolve, field, frozen
from markupsafe import Markup

from postroom.markdown.html import highlight
from postroom.models import Contact, Digest, Html, Image, Post, Site, Topic
from postroom.theme.environment import Theme, theme_colours
from postroom.theme.icon import Icon

T = TypeVar("T")

NEWEST = 10
"""The number of posts on the index page."""
# The sanitiser puts every value in double quotes and leaves no < outside tags.
_TAG = re.compile(r'<[^"<>]*(?:"[^"]*"[^"<>]*)*>')
_SHORT_CELL = re.compile(r'<(t[dh])((?: style="[^"]*")?)>(?=[^<]{1,16}</t)')


@frozen
class FeedLink:
    """A link to a feed for autodiscovery."""

    title: str
    url: str
    media_type: str
    format: str


@frozen
class PageData:
    """The metadata of a page; `data` is JSON-LD, `lang` a language tag (RFC 5646)."""

    kind: str
    url: str
    title: str
    description: str = ""
    lang: str = ""
    image: Image | None = None
    data: str = ""


@frozen
class MadePage:
    """A rendered page; `maker` says in messages what the page was made for, such as a topic."""

    path: str
    text: str
    maker: str


@frozen
class PageBuilder:
    """Renders every page of one build; `posts` and `digests` are sorted, newest first."""

    site: Site
    theme: Theme
    icon: Icon
    feeds: tuple[FeedLink, ...]
    posts: tuple[Post, ...]
    topics: tuple[Topic, ...]
    digests: tuple[Digest, ...]
    years: tuple[int, ...] = field(init=False)
    discovery: Markup = field(init=False)
    _topic_urls: Mapping[str, str] = field(init=False)

    @years.default
    def _years_of_posts(self) -> tuple[int, ...]:
        return tuple(sorted({post.day.year for post in self.posts}, reverse=True))

    @discovery.default
    def _links_to_feeds(self) -> Markup:
        # The same on every page, and long if there are many topics, so it is rendered once.
        return Markup(self.theme.render("partials/discovery.html", {"feeds": self.feeds}).rstrip())  # noqa: S704 - our own template escapes

    @_topic_urls.default
    def _find_topic_urls(self) -> Mapping[str, str]:
        listed = self.topics if self.site.pages.enabled else ()
        return {topic.name: topic.url for topic in listed}

    def all(self) -> Iterator[MadePage]:
        """Yield every page.

        With `pages.enabled: false`, these are only the digests, the subscribe page and the
        stylesheet.
        """
        for digest, newer, older in find_neighbours(self.digests):
            yield self._digest(digest, newer, older)
        yield self._subscribe()
        yield MadePage("style.css", self._style(), "the stylesheet")
        if self.site.pages.enabled:
            yield from self._archive()

    def _archive(self) -> Iterator[MadePage]:
        site, translations = self.site, self.theme.translations
        index = PageData("index", site.url, site.title, site.description, data=_site_data(site))
        yield self._render(index, "index.html", "the index", posts=self.posts[:NEWEST])
        for post, newer, older in find_neighbours(self.posts):
            yield self._post(post, newer, older)
        for topic in self.topics:
            page = PageData("topic", topic.url, topic.name)
            own = tuple(link for link in self.feeds if link.url.startswith(topic.url))
            yield self._render(page, "", f"topic {topic.name}", topic=topic, topic_feeds=own)
        for year in self.years:
            page = PageData("year", self._url(f"archive/{year}/"), str(year))
            of_year = tuple(post for post in self.posts if post.day.year == year)
            yield self._render(page, "", f"the archive of {year}", posts=of_year, year=year)
        if self.site.contact != Contact():
            yield self._named("contact")
        missing = PageData("404", self._url("404.html"), translations.not_found)
        yield self._render(missing, "404.html", "the page for missing pages")
        urls = {"posts": self.posts, "pages": self._permanent_urls(), "site": site}
        yield MadePage("sitemap.xml", self.theme.render("pages/sitemap.xml", urls), "the sitemap")
        yield MadePage("robots.txt", self.theme.render("pages/robots.txt", urls), "robots.txt")

    def _post(self, post: Post, newer: Post | None, older: Post | None) -> MadePage:
        page = PageData(
            "post",
            post.url,
            post.title,
            post.summary,
            post.lang,
            post.image,
            "" if post.withdrawn else _post_data(post, self.site),
        )
        body = wrap_short_cells(highlight(post.html))
        return self._render(page, "", post.path, post=post, body=body, newer=newer, older=older)

    def _digest(self, digest: Digest, newer: Digest | None, older: Digest | None) -> MadePage:
        title = self.theme.translations.period(digest.every, digest.first, digest.last)
        page = PageData("digest", digest.url, title, self.site.digest.intro)
        values = {"digest": digest, "posts": digest.posts, "newer": newer, "older": older}
        return self._render(page, "", f"the digest {digest.period}", **values)

    def _subscribe(self) -> MadePage:
        # Feeds are in order: neighbours with one title are one feed in several formats.
        rows = [tuple(links) for _, links in groupby(self.feeds, key=lambda link: link.title)]
        parts = {
            name: [row for row in rows if row[0].url.startswith(self._url(folder))]
            for name, folder in (("by_topic", "topics/"), ("by_language", "lang/"))
        }
        return self._named("subscribe", main=rows[0] if rows else (), **parts)

    def _named(self, kind: str, **values: object) -> MadePage:
        page = PageData(kind, self._url(f"{kind}/"), self.theme.translations.texts[kind])
        return self._render(page, "", f"the {kind} page", **values)

    def _style(self) -> str:
        values = {"site": self.site, "colours": theme_colours(self.site.theme)}
        return self.theme.render("style.css", values)

    def _url(self, path: str) -> str:
        return urljoin(self.site.url, path)

    def _permanent_urls(self) -> tuple[str, ...]:
        archive = (self._url(f"archive/{year}/") for year in self.years)
        topics = (topic.url for topic in self.topics)
        digests = (digest.url for digest in self.digests)
        named = [self._url("subscribe/")]
        if self.site.contact != Contact():
            named.append(self._url("contact/"))
        return (self.site.url, *topics, *archive, *digests, *named)

    def _render(self, page: PageData, path: str, maker: str, **values: object) -> MadePage:
        # The 404 page is shown at any URL, so its links begin at the root of the host.
        is_anywhere = page.kind == "404"
        site_path = urlsplit(self.site.url).path
        root = site_path if is_anywhere else relative_root(page.url, self.site)
        shared: Mapping[str, object] = {
            "site": self.site,
            "contact": self.site.contact,
            "t": self.theme.translations,
            "direction": self.theme.translations.direction,
            "icon": self.icon,
            "feeds": self.feeds,
            "discovery": self.discovery,
            "topics": self.topics,
            "topic_urls": self._topic_urls,
            "digests": self.digests,
            "years": self.years,
            "page": evolve(page, lang=page.lang or self.site.language),
            "relative_url": lambda url: relative_url(url, self.site, root),
            "relative_html": lambda html: relative_html(html, self.site, root),
        }
        text = self.theme.render(f"pages/{page.kind}.html", {**shared, **values})
        return MadePage(path or output_path(page.url, self.site), text, maker)


def _site_data(site: Site) -> str:
    return _json_ld(
        {
            "@type": "WebSite",
            "name": site.title,
            "url": site.url,
            "inLanguage": site.language,
            "publisher": {"@type": "Organization", "name": site.publisher, "url": site.url},
        }
    )


def _post_data(post: Post, site: Site) -> str:
    authors = [{"@type": "Person", "name": name} for name in post.authors]
    publisher = {"@type": "Organization", "name": site.publisher, "url": site.url}
    return _json_ld(
        {
            "@type": "NewsArticle",
            "headline": post.title,
            "description": post.summary,
            "url": post.url,
            "mainEntityOfPage": post.url,
            "datePublished": post.published.isoformat(),
            "dateModified": post.updated.isoformat(),
            "inLanguage": post.lang or site.language,
            "image": [post.image.src] if post.image else [],
            "author": authors or [publisher],
            "publisher": publisher,
            "keywords": list(post.topics),
        }
    )


def _json_ld(values: Mapping[str, object]) -> str:
    known = {name: value for name, value in values.items() if value}
    data = {"@context": "https://schema.org", **known}
    # JSON-LD 1.1 §7: a script element holds nothing that looks like markup.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def find_neighbours(items: Sequence[T]) -> Iterator[tuple[T, T | None, T | None]]:
    """Yield each of `items`, which are newest first, with its newer and its older neighbour."""
    for index, item in enumerate(items):
        newer = items[index - 1] if index else None
        older = items[index + 1] if index + 1 < len(items) else None
        yield item, newer, older


def output_path(url: str, site: Site) -> str:
    """Return the path in the output of the page at `url`.

    The path for the URL of a folder is that of its index.html.
    """
    path = unquote(urlsplit(url).path.removeprefix(urlsplit(site.url).path))
    return path + "index.html" if path.endswith("/") or not path else path


def relative_root(url: str, site: Site) -> str:
    """Return the relative path from the page at `url` to the root of the output: `../../`."""
    depth = posixpath.dirname(output_path(url, site)).strip("/")
    return "../" * (depth.count("/") + 1 if depth else 0)


def relative_url(url: str, site: Site, root: str) -> str:
    """Return `url` relative to a page if it belongs to the site.

    With relative URLs the pages work wherever the output is served. `root` is the relative path
    from the page to the root of the output.
    """
    if not url.startswith(site.url):
        return url
    return root + url.removeprefix(site.url) or "./"


def wrap_short_cells(html: Html) -> Html:
    """Return `html` with a CSS class on each table cell whose text is short enough for one line."""
    return Html(_SHORT_CELL.sub(r'<\1\2 class="short">', html)) if "<table" in html else html


def relative_html(html: Html, site: Site, root: str) -> Html:
    """Return `html` with URLs of the site made relative, as by `relative_url`."""
    if f'="{site.url}' not in html:
        return html
    attribute = re.compile(r' ((?:href|src|srcset|poster|cite)=")' + re.escape(site.url))
    return Html(_TAG.sub(lambda tag: attribute.sub(rf" \1{root or './'}", tag[0]), html))
