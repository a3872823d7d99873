"""The posts as their authors wrote them, for the lints to look at."""

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

ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|/")
"""How an address begins that does not count from the file it stands in."""


@frozen
class LintContext:
    """A newsroom's posts at the instant `at`: the folder, its drafts, and what is published."""

    site: Site
    at: datetime
    folder: SourceFolder = field(repr=False)
    loaded: LoadedPosts = field(repr=False)
    drafts: tuple[SourcePost, ...] = field(repr=False)
    by_path: Mapping[str, SourcePost] = field(init=False, repr=False)
    by_page: Mapping[str, SourcePost] = field(init=False, repr=False)
    published: Mapping[str, Post] = field(init=False, repr=False)

    @by_path.default
    def _drafts_by_path(self) -> Mapping[str, SourcePost]:
        return {one.path: one for one in self.drafts}

    @by_page.default
    def _drafts_by_page(self) -> Mapping[str, SourcePost]:
        # What is published comes last: where a draft claims its page, the page is not the draft's.
        in_order = sorted(self.drafts, key=lambda one: not self.is_held(one))
        return {output_path(one.url, self.site): one for one in in_order}

    @published.default
    def _posts_by_path(self) -> Mapping[str, Post]:
        cut = len(paths.below(self.site.posts, ""))
        return {post.path[cut:]: post for post in self.loaded.posts}

    def name(self, one: SourcePost) -> str:
        """Return the path of a post as it counts from the site."""
        return paths.below(self.site.posts, one.path)

    def is_held(self, one: SourcePost) -> bool:
        """Tell whether a post is a draft, or has expired."""
        return one.head.draft or one.has_expired(self.at)

    def going_out(self) -> Iterator[SourcePost]:
        """Yield what is published or waits for its date, and was not taken back."""
        for one in self.drafts:
            post = self.published.get(one.path)
            if not self.is_held(one) and not (post and post.withdrawn):
                yield one

    def beside(self, one: SourcePost, address: str) -> str:
        """Return the path below posts/ that a relative address names, else nothing."""
        if not address or address[0] in "#?" or ELSEWHERE.match(address):
            return ""
        folder = posixpath.dirname(one.path)
        return posixpath.normpath(posixpath.join(folder, unquote(urlsplit(address).path)))

    def in_head(self, one: SourcePost, key: str, what: str, repair: str, rule: str) -> Problem:
        """Return a problem of a draft's head, on the line of its key."""
        line = one.head.lines.get(key, 1)
        return Problem(self.name(one), line, 0, key, what, repair, rule)
