"""The posts and the settings of a site, in the form in which lint rules use them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from urllib.parse import unquote, urlsplit

from attrs import field, frozen

from postroom.errors import Problem
from postroom.models import Post, Site
from postroom.posts.loader import LoadedPosts
from postroom.posts.source import SourceFolder, SourcePost
from postroom.publish.pages import output_path
from postroom.settings import paths

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|/")
"""Matches the beginning of a URL that is not relative to the file that contains the URL."""


def file_problem(rule: str, message: str, hint: str, path: str = "") -> Problem:
    """Return a problem that concerns a whole file and has no line.

    The key of the problem is the rule's name without its first word: `contact` for `email-contact`.
    """
    return Problem(path, 0, 0, rule.partition("-")[2], message, hint, rule)


@frozen
class LintContext:
    """The posts of a site at the instant `at`, as input of the lint rules.

    `sources` are all posts, drafts and expired ones included. `published` are the posts that are
    due at `at`, by their paths below posts/. `by_page` maps paths of pages in the output to posts.
    """

    site: Site
    at: datetime
    folder: SourceFolder = field(repr=False)
    loaded: LoadedPosts = field(repr=False)
    sources: tuple[SourcePost, ...] = field(repr=False)
    by_path: Mapping[str, SourcePost] = field(init=False, repr=False)
    by_page: Mapping[str, SourcePost] = field(init=False, repr=False)
    published: Mapping[str, Post] = field(init=False, repr=False)

    @by_path.default
    def _sources_by_path(self) -> Mapping[str, SourcePost]:
        return {source.path: source for source in self.sources}

    @by_page.default
    def _sources_by_page(self) -> Mapping[str, SourcePost]:
        # Published posts come last: a page belongs to them, even if a draft has the same URL.
        in_order = sorted(self.sources, key=lambda source: not self.is_hidden(source))
        return {output_path(source.url, self.site): source for source in in_order}

    @published.default
    def _posts_by_path(self) -> Mapping[str, Post]:
        cut = len(paths.below(self.site.posts, ""))
        return {post.path[cut:]: post for post in self.loaded.posts}

    def source_path(self, post: SourcePost) -> str:
        """Return the path of a post relative to the site."""
        return paths.below(self.site.posts, post.path)

    def is_hidden(self, post: SourcePost) -> bool:
        """Tell whether a post is a draft, or has expired."""
        return post.head.draft or post.has_expired(self.at)

    def visible_posts(self) -> Iterator[SourcePost]:
        """Yield the source of each published or scheduled post that is not withdrawn."""
        for source in self.sources:
            post = self.published.get(source.path)
            if not self.is_hidden(source) and not (post and post.withdrawn):
                yield source

    def resolve_path(self, post: SourcePost, url: str) -> str:
        """Return the path below posts/ to which the relative URL `url` in `post` leads.

        The path is empty if `url` is not relative.
        """
        if not url or url[0] in "#?" or _ABSOLUTE.match(url):
            return ""
        folder = posixpath.dirname(post.path)
        path = posixpath.normpath(posixpath.join(folder, unquote(urlsplit(url).path)))
        return self.folder.find(path)

    def key_problem(
        self, post: SourcePost, key: str, message: str, hint: str, rule: str
    ) -> Problem:
        """Return a problem with `key` in the front matter of `post`, on the line of the key."""
        line = post.head.lines.get(key, 1)
        return Problem(self.source_path(post), line, 0, key, message, hint, rule)
