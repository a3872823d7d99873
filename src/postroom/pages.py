"""Posts and digests → the pages of the archive, as (path, text) pairs."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from attrs import frozen

from postroom.model import Digest, Html, Post, Site
from postroom.theme import Theme, colours

T = TypeVar("T")

NEWEST = 20
"""Posts on the index."""


@frozen
class FeedLink:
    """A feed as autodiscovery knows it."""

    title: str
    url: str
    media_type: str
    format: str


@frozen
class Page:
    """What the head of a page says of it."""

    title: str
    url: str
    description: str
    kind: str
    lang: str


@frozen
class Pages:
    """Renders every page of one build."""

    site: Site
    theme: Theme
    feeds: tuple[FeedLink, ...]

    def index(self, posts: tuple[Post, ...], digests: tuple[Digest, ...]) -> str:
        """Return the front page: the newest posts, and the way to the digests."""
        page = self._page(self.site.title, self.site.url, self.site.description, "index")
        return self._render(page, posts=posts[:NEWEST], digests=digests)

    def post(self, post: Post, newer: Post | None, older: Post | None) -> str:
        """Return the page of one post."""
        page = self._page(post.title, post.url, post.summary, "post", post.lang)
        return self._render(page, post=post, newer=newer, older=older)

    def digest(self, digest: Digest, newer: Digest | None, older: Digest | None) -> str:
        """Return the page of one digest."""
        title = self.theme.words.period(digest.every, digest.first, digest.last)
        page = self._page(title, digest.url, self.site.digest.intro, "digest")
        return self._render(page, digest=digest, posts=digest.posts, newer=newer, older=older)

    def style(self) -> str:
        """Return the stylesheet of all pages."""
        values = {"site": self.site, "colours": colours(self.site.theme)}
        return self.theme.render("style.css", values)

    def _page(self, title: str, url: str, description: str, kind: str, lang: str = "") -> Page:
        return Page(title, url, description, kind, lang or self.site.language)

    def _render(self, page: Page, **values: object) -> str:
        root = relative_root(page.url, self.site)
        shared: Mapping[str, object] = {
            "site": self.site,
            "contact": self.site.contact,
            "words": self.theme.words,
            "direction": self.theme.words.direction,
            "feeds": self.feeds,
            "page": page,
            "here": lambda url: near(url, self.site, root),
            "here_html": lambda html: near_html(html, self.site, root),
        }
        return self.theme.render(f"pages/{page.kind}.html", {**shared, **values})


def neighbours(items: Sequence[T]) -> Iterator[tuple[T, T | None, T | None]]:
    """Yield each item of a newest-first row with the newer and the older one beside it."""
    for index, item in enumerate(items):
        newer = items[index - 1] if index else None
        older = items[index + 1] if index + 1 < len(items) else None
        yield item, newer, older


def output_path(url: str, site: Site) -> str:
    """Return where in the output the page at `url` lies; a folder's page is its index.html."""
    path = unquote(urlsplit(url).path.removeprefix(urlsplit(site.url).path))
    return path + "index.html" if path.endswith("/") or not path else path


def relative_root(url: str, site: Site) -> str:
    """Return the way from the page at `url` to the root of the output: `../../`, or nothing."""
    depth = posixpath.dirname(output_path(url, site)).strip("/")
    return "../" * (depth.count("/") + 1 if depth else 0)


def near(url: str, site: Site, root: str) -> str:
    """Return an address of the newsroom as seen from a page, so that pages work anywhere."""
    if not url.startswith(site.url):
        return url
    return root + url.removeprefix(site.url) or "./"


def near_html(html: Html, site: Site, root: str) -> Html:
    """Return `html` with its addresses of the newsroom as seen from a page."""
    return Html(html.replace(f'="{site.url}', f'="{root or "./"}'))
