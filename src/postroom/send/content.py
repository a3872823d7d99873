"""Read the visible posts, and render the issues of a run.

An issue is *frozen*: it is stored with its content when it is first planned, so that later changes
of the posts do not alter the email for some of its subscribers.
"""

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
from postroom.newsletter.render import RenderedEmail
from postroom.posts import loader
from postroom.scheduling.periods import issues_by_period
from postroom.scheduling.rules import VisiblePost, visible_posts
from postroom.send.plan_file import content_digest
from postroom.theme.environment import Theme


@define
class ContentSource:
    """Reads the posts of the site in the folder `site_dir`, and renders issues from them.

    The function `warn` receives the warnings about the posts.
    """

    site_dir: Path
    site: Site
    warn: Callable[[tuple[Problem, ...]], None]
    posts: Mapping[str, Post] = field(factory=dict, init=False)
    """All published posts by id, once `visible_posts` has read them."""
    _theme: Theme | None = field(default=None, init=False)

    def visible_posts(self, clock: datetime) -> Mapping[str, VisiblePost]:
        """Read the posts as they are at the instant `clock`; return the visible posts by id.

        Raises `ContentError` with all errors of the posts.
        """
        loaded = loader.load_posts(self.site_dir, self.site, clock)
        self.warn(loaded.warnings)
        self.posts = {post.id: post for post in loaded.posts}
        unnamed = {post_id for _, post_id in loaded.unnamed}
        return visible_posts(loaded.posts, self.site.language, unnamed)

    def render(self, issue: Issue, date: datetime) -> bytes:
        """Return the content of `issue`: an email dated `date`, with a placeholder for the token.

        Call `visible_posts` first, which reads the posts. Raises `TemplateError`, `SettingsError`
        and `ContentError`.
        """
        date = date.astimezone(self.site.timezone)
        return prepare_issue(self.render_email(issue), self.site, date).content

    def render_email(self, issue: Issue) -> RenderedEmail:
        """Return subject, HTML and text of `issue`, with a placeholder for the token.

        Call `visible_posts` first. Raises `TemplateError`.
        """
        if self._theme is None:
            self._theme = Theme(self.site_dir, self.site.language)
        return render.render_issue(issue, self.posts, self.site, self._theme)

    def issues_by_period(self, clock: datetime) -> tuple[Issue, ...]:
        """Read the posts as `visible_posts` does; return the issue of each period, newest first."""
        self.visible_posts(clock)
        return issues_by_period(self.posts.values(), self.site)


RenderIssue: TypeAlias = Callable[[Issue, datetime], bytes]
"""Returns the content of an issue; the instant becomes the Date of the email."""


class SnapshotStore(Protocol):
    """Access to the issues that earlier runs stored; `db.issues.IssueTable` implements it."""

    def find_frozen(self, issue: IssueSnapshot, /) -> IssueSnapshot | None:
        """Return the stored snapshot of the same issue, None if there is none.

        Equal frequency, cutoff, language and posts make two issues the same (delivery rules,
        rule 9); their content may differ.
        """

    def has_recipients(self, number: int, /) -> bool:
        """Tell whether a subscriber has received the issue with this id, or may have."""


@frozen
class ResolvedIssue:
    """An issue with the content to send; its id is 0 if it is not stored yet.

    `is_outdated` tells that the posts, the settings or the theme have changed since the issue was
    stored, and that it keeps its old content because a subscriber has received it already.
    """

    issue: IssueSnapshot
    is_outdated: bool = False


def freeze_issue(issue: Issue, clock: datetime, render_issue: RenderIssue) -> IssueSnapshot:
    """Render `issue`, dated `clock`, and return it with its content; store nothing."""
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

    If an interrupted run has stored the same issue and some subscribers have received it, the
    others are sent the stored content. If nobody has received it yet, or `refresh` is set, the
    issue is sent as the posts are now.
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
