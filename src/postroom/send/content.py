"""Read the visible posts, and freeze issues with their content."""

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


@define
class ContentSource:
    """The posts in the folder `site_dir`, and the issues that are rendered from them.

    `warn` receives the warnings about the posts.
    """

    site_dir: Path
    site: Site
    warn: Callable[[tuple[Problem, ...]], None]
    _posts: Mapping[str, Post] = field(factory=dict, init=False)
    _theme: Theme | None = field(default=None, init=False)

    def visible_posts(self, clock: datetime) -> Mapping[str, VisiblePost]:
        """Read the posts as they are at the instant `clock`; return the visible ones by id.

        Raises `ContentError` with every fault.
        """
        loaded = loader.load_posts(self.site_dir, self.site, clock)
        self.warn(loaded.warnings)
        self._posts = {post.id: post for post in loaded.posts}
        unnamed = {post_id for _, post_id in loaded.unnamed}
        return visible_posts(loaded.posts, self.site.language, unnamed)

    def render(self, issue: Issue, date: datetime) -> bytes:
        """Return the content of `issue`, dated `date`; its posts must have been read before.

        Raises `TemplateError`, `SettingsError` and `ContentError`.
        """
        if self._theme is None:
            self._theme = Theme(self.site_dir, self.site.language)
        rendered = render.render_issue(issue, self._posts, self.site, self._theme)
        return prepare_issue(rendered, self.site, date.astimezone(self.site.timezone)).content


RenderIssue: TypeAlias = Callable[[Issue, datetime], bytes]
"""Returns the content of an issue, dated an instant."""


class SnapshotStore(Protocol):
    """The issues that earlier runs froze."""

    def find_frozen(self, issue: IssueSnapshot, /) -> IssueSnapshot | None:
        """Return the snapshot of the same issue (delivery rules, rule 9), None if there is none."""

    def has_recipients(self, number: int, /) -> bool:
        """Tell whether any subscriber has, or may have, the issue with this id."""


@frozen
class ResolvedIssue:
    """An issue with its content; its id is 0 if it is not stored yet.

    `is_outdated`: a subscriber has the issue, so it keeps its content although the posts, the
    settings or the theme have changed since.
    """

    issue: IssueSnapshot
    is_outdated: bool = False


def freeze_issue(issue: Issue, clock: datetime, render_issue: RenderIssue) -> IssueSnapshot:
    """Return `issue` with its content, dated `clock`."""
    blank = IssueSnapshot(issue.frequency, issue.cutoff.date, issue.language, issue.posts, clock)
    return evolve(blank, content=render_issue(issue, clock))


def resolve_issue(
    snapshots: SnapshotStore,
    issue: Issue,
    clock: datetime,
    render_issue: RenderIssue,
    *,
    refresh: bool = False,
) -> ResolvedIssue:
    """Return `issue` with the content that a run at `clock` sends.

    An interrupted run may have frozen the issue. The remaining subscribers then receive the same
    content, unless no subscriber has it or `refresh` is set.
    """
    fresh = freeze_issue(issue, clock, render_issue)
    old = snapshots.find_frozen(fresh)
    if old is None:
        return ResolvedIssue(fresh)
    if content_digest(old.content) == content_digest(fresh.content):
        return ResolvedIssue(old)
    if refresh or not snapshots.has_recipients(old.id):
        return ResolvedIssue(fresh)
    return ResolvedIssue(old, is_outdated=True)
