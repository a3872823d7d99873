"""The newsroom's posts as a run sees them, and its letters in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from attrs import define, field

from postroom import planning, posts
from postroom.delivery.arrivals import News, visible
from postroom.errors import Problem
from postroom.letters.personal import prepare
from postroom.model import Letter, Post, Site
from postroom.theme import Theme


@define
class NewsroomDesk:
    """Reads the posts in the folder `newsroom` and writes letters of them.

    `warn` hears of what is odd in the posts.
    """

    newsroom: Path
    site: Site
    warn: Callable[[tuple[Problem, ...]], None]
    _posts: Mapping[str, Post] = field(factory=dict)
    _theme: Theme | None = None

    def news(self, clock: datetime) -> Mapping[str, News]:
        """Read the posts as they stand at the instant `clock`; return those that are visible.

        Raises `ContentError` with every fault.
        """
        loaded = posts.load(self.newsroom, self.site, clock)
        self.warn(loaded.warnings)
        self._posts = {post.id: post for post in loaded.posts}
        return visible(loaded.posts, self.site.language, {each for _, each in loaded.unnamed})

    def write(self, letter: Letter, date: datetime) -> bytes:
        """Return the content of `letter`, of posts read before, as it is frozen.

        Raises `TemplateError`, `SettingsError` and `ContentError`.
        """
        if self._theme is None:
            self._theme = Theme(self.newsroom, self.site.language)
        rendered = planning.write(letter, self._posts, self.site, self._theme)
        return prepare(rendered, self.site, date.astimezone(self.site.timezone)).content
