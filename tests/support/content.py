"""A content source with fixed posts and empty emails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from postroom.models import Issue, Site
from postroom.scheduling.rules import VisiblePost
from postroom.send.content import ContentSource


class FixedContentSource(ContentSource):
    """Posts that a function returns instead of a folder; the content of every issue is empty."""

    def __init__(self, posts: Callable[[datetime], Mapping[str, VisiblePost]], site: Site) -> None:
        super().__init__(Path(), site, lambda _: None)
        self._visible = posts

    def visible_posts(self, clock: datetime) -> Mapping[str, VisiblePost]:
        """Return the posts."""
        return self._visible(clock)

    def render(self, _issue: Issue, _date: datetime) -> bytes:
        """Return nothing: the content does not matter here."""
        return b""
