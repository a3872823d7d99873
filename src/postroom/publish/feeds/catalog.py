"""The whole history in archive documents that never change again (RFC 5005 §4).

Full chunks of entries are counted from the oldest post, so a new post touches the head and, once a
chunk is full, adds one document. The head shows the newest entries and so always covers what is
not archived yet; head and archives overlap, and readers merge by id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pkgutil import resolve_name
from urllib.parse import quote, urljoin

from attrs import evolve, frozen

from postroom.models import FORMATS, Feed, FeedFormat, Post, Site, Topic

_NOTICE = timedelta(days=30)


def history_chunks(posts: Sequence[Post], size: int) -> list[tuple[Post, ...]]:
    """Return the archive documents of `posts` (newest first), the oldest document first.

    Each holds `size` posts, newest first. While one document holds everything there are none.
    """
    if len(posts) <= size:
        return []
    oldest_first = list(reversed(posts))
    full = len(posts) // size
    return [tuple(reversed(oldest_first[n * size : (n + 1) * size])) for n in range(full)]


def feed_head(posts: Sequence[Post], size: int) -> tuple[Post, ...]:
    """Return the newest `size` of `posts` (newest first) and the older ones lately withdrawn.

    A withdrawn post stands in the head until a post is dated more than 30 days after the
    withdrawal, so that every reader that polls learns of it.
    """
    if not posts:
        return ()
    newest = posts[0].day
    noticed = [
        post for post in posts[size:] if post.withdrawn and newest <= post.withdrawn + _NOTICE
    ]
    return (*posts[:size], *noticed)


STYLESHEET = "feed.css"


@frozen
class FeedDocument:
    """One feed document and its format; archives are not listed anywhere."""

    format: FeedFormat
    feed: Feed
    listed: bool = True

    def write(self, site: Site) -> bytes:
        """Return the bytes of the document."""
        writer: Callable[[Feed, Site], bytes] = resolve_name(self.format.writer)
        return writer(self.feed, site)


@frozen
class FeedCatalog:
    """Makes the feeds of one newsroom.

    `note` is shown to people who open a feed in a browser; `name_of` names a language.
    """

    site: Site
    note: str
    name_of: Callable[[str], str]

    def documents(self, posts: Sequence[Post], topics: Sequence[Topic]) -> Iterator[FeedDocument]:
        """Yield every feed document for `posts`, newest first: the main feeds before the others."""
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
        for tag, spoken in self._by_language(posts):
            folder = f"lang/{tag}/"
            title = f"{site.title} ({self.name_of(tag)})"
            feed = self._feed(site.id + folder[:-1], title, folder, site.url, spoken)
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
            note=self.note,
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
        addresses = [
            urljoin(self.site.url, f"history/{number}.{form.archive_ending}")
            for number in range(1, len(archives) + 1)
        ]
        complete = self.site.feeds.history and len(posts) <= size
        yield FeedDocument(form, evolve(feed, previous="".join(addresses[-1:]), complete=complete))
        for number, held in enumerate(archives):
            previous = addresses[number - 1] if number else ""
            archive = evolve(
                feed,
                url=addresses[number],
                posts=held,
                previous=previous,
                current=feed.url,
                stylesheet="../" + STYLESHEET,
            )
            yield FeedDocument(form, archive, listed=False)

    def _by_language(self, posts: Sequence[Post]) -> list[tuple[str, list[Post]]]:
        if not self.site.feeds.languages:
            return []
        spoken: dict[str, list[Post]] = {}
        # RFC 5646 §2.1.1: `zh-Hant` and `zh-hant` are one language, spelled as the settings do.
        spelled = {self.site.language.casefold(): self.site.language}
        for post in posts:
            tag = post.lang or self.site.language
            spoken.setdefault(spelled.setdefault(tag.casefold(), tag), []).append(post)
        return sorted(spoken.items()) if len(spoken) > 1 else []
