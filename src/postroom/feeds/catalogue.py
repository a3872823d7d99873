"""Settings and posts → every feed document of a newsroom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote, urljoin

from attrs import evolve, frozen

from postroom.feeds import FORMATS, Format
from postroom.feeds.history import chunks, head
from postroom.model import Feed, Post, Site, Topic

STYLESHEET = "feed.css"


@frozen
class Document:
    """One feed document and its format; archives are not listed anywhere."""

    format: Format
    feed: Feed
    listed: bool = True


@frozen
class Catalogue:
    """Makes the feeds of one newsroom.

    `note` is shown to people who open a feed in a browser; `name_of` names a language.
    """

    site: Site
    note: str
    name_of: Callable[[str], str]

    def documents(self, posts: Sequence[Post], topics: Sequence[Topic]) -> Iterator[Document]:
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
            yield from (Document(form, self._in(form, feed, folder)) for form in self._formats())
        for tag, spoken in self._by_language(posts):
            folder = f"lang/{tag}/"
            title = f"{site.title} ({self.name_of(tag)})"
            feed = self._feed(site.id + folder[:-1], title, folder, site.url, spoken)
            feed = evolve(feed, language=tag)
            yield from (Document(form, self._in(form, feed, folder)) for form in self._formats())

    def _formats(self) -> Iterator[Format]:
        return (form for form in FORMATS if form.key in self.site.feeds.formats)

    def _feed(
        self, identity: str, title: str, folder: str, page_url: str, posts: Sequence[Post]
    ) -> Feed:
        return Feed(
            id=identity,
            title=title,
            url="",
            page_url=page_url,
            posts=head(posts, self.site.feeds.entries),
            language=self.site.language,
            description=self.site.description,
            note=self.note,
            stylesheet="../" * folder.count("/") + STYLESHEET,
        )

    def _in(self, form: Format, feed: Feed, folder: str) -> Feed:
        content = self.site.feeds.content.get(form.key, "full")
        return evolve(feed, url=urljoin(self.site.url, folder + form.file), content=content)

    def _with_history(self, feed: Feed, form: Format, posts: Sequence[Post]) -> Iterator[Document]:
        size = self.site.feeds.entries
        archives = chunks(posts, size) if self.site.feeds.history else []
        addresses = [
            urljoin(self.site.url, f"history/{number}.{form.archive_ending}")
            for number in range(1, len(archives) + 1)
        ]
        complete = self.site.feeds.history and len(posts) <= size
        yield Document(form, evolve(feed, previous="".join(addresses[-1:]), complete=complete))
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
            yield Document(form, archive, listed=False)

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
