"""What a run needs of the rows of a newsroom, and of the way to the mail server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeAlias

from attrs import define, evolve, field, frozen

from postroom.errors import Problem
from postroom.models import Issue, IssueSnapshot, Post, Site
from postroom.newsletter import render
from postroom.newsletter.personalize import prepare_issue
from postroom.posts import loader
from postroom.scheduling.rules import VisiblePost, visible_posts
from postroom.send.plan_file import content_digest
from postroom.theme.environment import Theme

"""Makes the hash under which the address with a key is suppressed."""


class ContentSource(Protocol):
    """Where letters are written: the posts as they stand, and a letter in words."""

    def visible_posts(self, clock: datetime) -> Mapping[str, VisiblePost]:
        """Read the posts as they stand at the instant `clock`; return those that are visible."""

    def render(self, letter: Issue, date: datetime) -> bytes:
        """Return the content of `letter`, dated `date`, as it is frozen."""


RenderIssue: TypeAlias = Callable[[Issue, datetime], bytes]
"""Writes a letter, dated an instant, as it is frozen."""


class SnapshotStore(Protocol):
    """The letters that were frozen before."""

    def find_frozen(self, letter: IssueSnapshot) -> IssueSnapshot | None:
        """Return the same letter as it was frozen before (delivery rules, rule 9)."""

    def has_recipients(self, number: int) -> bool:
        """Tell whether somebody has, or may have, the letter with this id."""


@frozen
class ResolvedIssue:
    """A letter with its words; its id is 0 if they are to be frozen yet.

    `is_outdated`: somebody has the letter, so it keeps the words that it had then, and the posts,
    the settings or the theme would give it others now.
    """

    issue: IssueSnapshot
    is_outdated: bool = False


def freeze_issue(letter: Issue, clock: datetime, write: RenderIssue) -> IssueSnapshot:
    """Return `letter` as all who are owed its posts get it, dated `clock`."""
    boundary = letter.cutoff.date
    blank = IssueSnapshot(letter.frequency, boundary, letter.language, letter.posts, clock)
    return evolve(blank, content=write(letter, clock))


def resolve_issue(
    kept: SnapshotStore, letter: Issue, clock: datetime, write: RenderIssue, *, anew: bool = False
) -> ResolvedIssue:
    """Return `letter` as a run at `clock` sends it.

    A run that was cut off may have frozen it; who is left gets the same, unless nobody has it, or
    a person wants it `anew`.
    """
    fresh = freeze_issue(letter, clock, write)
    old = kept.find_frozen(fresh)
    if old is None:
        return ResolvedIssue(fresh)
    if content_digest(old.content) == content_digest(fresh.content):
        return ResolvedIssue(old)
    if anew or not kept.has_recipients(old.id):
        return ResolvedIssue(fresh)
    return ResolvedIssue(old, is_outdated=True)


@define
class SiteContentSource:
    """Reads the posts in the folder `site_dir` and writes letters of them.

    `warn` hears of what is odd in the posts.
    """

    site_dir: Path
    site: Site
    warn: Callable[[tuple[Problem, ...]], None]
    _posts: Mapping[str, Post] = field(factory=dict)
    _theme: Theme | None = None

    def visible_posts(self, clock: datetime) -> Mapping[str, VisiblePost]:
        """Read the posts as they stand at the instant `clock`; return those that are visible.

        Raises `ContentError` with every fault.
        """
        loaded = loader.load_posts(self.site_dir, self.site, clock)
        self.warn(loaded.warnings)
        self._posts = {post.id: post for post in loaded.posts}
        return visible_posts(loaded.posts, self.site.language, {each for _, each in loaded.unnamed})

    def render(self, letter: Issue, date: datetime) -> bytes:
        """Return the content of `letter`, of posts read before, as it is frozen.

        Raises `TemplateError`, `SettingsError` and `ContentError`.
        """
        if self._theme is None:
            self._theme = Theme(self.site_dir, self.site.language)
        rendered = render.render_issue(letter, self._posts, self.site, self._theme)
        return prepare_issue(rendered, self.site, date.astimezone(self.site.timezone)).content
