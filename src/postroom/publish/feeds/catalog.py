"""List the feed documents of a site: feeds by topic and language, and archives (RFC 5005 §4).

An archive is a document with a fixed number of posts; the first archive has the oldest posts. A new
post never changes an archive: it changes the feed and, when enough posts have come, adds an
archive. The feed always has the posts that are not archived yet. Feed and archives overlap, and
feed readers merge them by id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pkgutil import resolve_name
from urllib.parse import quote, urljoin

from attrs import evolve, frozen

from postroom.models import FORMATS, Feed, FeedFormat, Post, Site, Topic

_CHANGED_FOR = timedelta(days=30)


def logo_url(site: Site) -> str:
    """Return the URL of the site's logo, "" if it has none."""
    return urljoin(site.url, quote(site.theme.logo)) if site.theme.logo else ""


def history_chunks(posts: Sequence[Post], size: int) -> list[tuple[Post, ...]]:
    """Return the posts of each archive document, the oldest document first.

    Posts are newest first, in `posts` and in each document. A document has `size` posts. No
    archive is made as long as the feed has room for all posts.
    """
    if len(posts) <= size:
        return []
    oldest_first = list(reversed(posts))
    full = len(posts) // size
    return [tuple(reversed(oldest_first[n * size : (n + 1) * size])) for n in range(full)]


def feed_head(posts: Sequence[Post], size: int) -> tuple[Post, ...]:
    """Return the newest `size` of `posts` (newest first), then older posts changed recently.

    A change is an `updated` or `withdrawn` date in the front matter. The post returns to the feed
    until a post is dated more than 30 days after the change, so that every feed reader that polls
    learns of it: archive documents need not be fetched again (RFC 5005 §4).
    """
    if not posts:
        return ()
    newest = posts[0].day
    changed = [
        post
        for post in posts[size:]
        # Without a change, the two times are equal.
        if post.updated != post.published and newest <= post.updated_day + _CHANGED_FOR
    ]
    return (*posts[:size], *changed)


STYLESHEET = "feed.css"


@frozen
class FeedDocument:
    """A feed document in one format; `listed` is true for a feed and false for an archive."""

    format: FeedFormat
    feed: Feed
    listed: bool = True

    def write(self, site: Site) -> bytes:
        """Return the bytes of the document."""
        writer: Callable[[Feed, Site], bytes] = resolve_name(self.format.writer)
        return writer(self.feed, site)


@frozen
class FeedCatalog:
    """The feeds of a site; `name_of` returns the name of a language, `icon` is the icon's URL."""

    site: Site
    name_of: Callable[[str], str]
    icon: str = ""

    def documents(self, posts: Sequence[Post], topics: Sequence[Topic]) -> Iterator[FeedDocument]:
        """Yield every feed document, the main feeds first; `posts` are newest first."""
        site = self.site
        main = self._feed(site.id, site.title, "", site.url, posts)
        for form in self._formats():
            yield from self._with_history(self._in(form, main, ""), form, posts)
        for topic in topics if site.feeds.topics else ():
            folder = f"topics/{quote(topic.slug)}/"
            title = f"{site.title}: {topic.name}"
            # Where another program makes the pages, there may be none for the topic.
            page_url = topic.url if site.pages.enabled else site.url
            feed = self._feed(site.id + folder[:-1], title, folder, page_url, topic.posts)
            yield from (
                FeedDocument(form, self._in(form, feed, folder)) for form in self._formats()
            )
        for tag, translated in self._by_language(posts):
            folder = f"lang/{tag}/"
            title = f"{site.title} ({self.name_of(tag)})"
            feed = self._feed(site.id + folder[:-1], title, folder, site.url, translated)
            feed = evolve(feed, language=tag)
            yield from (
                FeedDocument(form, self._in(form, feed, folder)) for form in self._formats()
            )

    def _formats(self) -> Iterator[FeedFormat]:
        return (form for form in FORMATS if form.key in self.site.feeds.formats)

    def _feed(
        self, identity: str, title: str, folder: str, page_url: str, posts: Sequence[Post]
    ) -> Feed:
        return Feed(
            id=identity,
            title=title,
            url="",
            page_url=page_url,
            posts=feed_head(posts, self.site.feeds.entries),
            language=self.site.language,
            description=self.site.description,
            icon=self.icon,
            logo=logo_url(self.site),
            stylesheet="../" * folder.count("/") + STYLESHEET,
        )

    def _in(self, form: FeedFormat, feed: Feed, folder: str) -> Feed:
        content = self.site.feeds.content.get(form.key, "full")
        return evolve(feed, url=urljoin(self.site.url, folder + form.file), content=content)

    def _with_history(
        self, feed: Feed, form: FeedFormat, posts: Sequence[Post]
    ) -> Iterator[FeedDocument]:
        size = self.site.feeds.entries
        archives = history_chunks(posts, size) if self.site.feeds.history else []
        urls = [
            urljoin(self.site.url, f"history/{number}.{form.archive_ending}")
            for number in range(1, len(archives) + 1)
        ]
        complete = self.site.feeds.history and len(posts) <= size
        yield FeedDocument(form, evolve(feed, previous="".join(urls[-1:]), complete=complete))
        for number, chunk in enumerate(archives):
            previous = urls[number - 1] if number else ""
            archive = evolve(
                feed,
                url=urls[number],
                posts=chunk,
                previous=previous,
                current=feed.url,
                stylesheet="../" + STYLESHEET,
            )
            yield FeedDocument(form, archive, listed=False)

    def _by_language(self, posts: Sequence[Post]) -> list[tuple[str, list[Post]]]:
        if not self.site.feeds.languages:
            return []
        by_tag: dict[str, list[Post]] = {}
        # RFC 5646 §2.1.1: `zh-Hant` and `zh-hant` are one language, spelled as the settings do.
        spellings = {self.site.language.casefold(): self.site.language}
        for post in posts:
            tag = post.lang or self.site.language
            by_tag.setdefault(spellings.setdefault(tag.casefold(), tag), []).append(post)
        return sorted(by_tag.items()) if len(by_tag) > 1 else []
