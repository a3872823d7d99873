"""`postroom plan`: show what a run would send."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from postroom.cli.console import pluralize, print_problems
from postroom.cli.context import InstantType, build_instant, open_site_store, warn_of_claim
from postroom.cli.progress import print_outdated
from postroom.db import engine
from postroom.errors import Problem, SettingsError, UseError
from postroom.files import link_fault
from postroom.lint.email import lint_email
from postroom.lint.runner import grade
from postroom.mail.unsubscribe import TOKEN_PLACEHOLDER
from postroom.models import (
    Cursor,
    Frequency,
    Group,
    Issue,
    IssueKind,
    IssueSnapshot,
    LogEntry,
    Post,
    RunState,
    Segment,
    Site,
    State,
)
from postroom.newsletter import render
from postroom.newsletter.personalize import PreparedIssue, prepare_issue
from postroom.newsletter.render import RenderedEmail
from postroom.posts import loader
from postroom.posts.loader import LoadedPosts
from postroom.scheduling import plan
from postroom.scheduling.plan import PlannedSegment, PlanningStore
from postroom.scheduling.rules import RunWindow, visible_posts
from postroom.send.content import ResolvedIssue, SnapshotStore, resolve_issue
from postroom.send.plan_file import (
    ApprovedIssue,
    ApprovedPlan,
    RecipientDigests,
    approve,
    issue_subject,
    write_plan,
)
from postroom.settings.site import find_site, load_settings
from postroom.theme.environment import Theme

_SAMPLE = "reader@example.com"
_RHYTHM: Mapping[IssueKind, str] = {
    "post": "with every post",
    "day": "daily",
    "week": "weekly",
    "month": "monthly",
    "welcome": "welcome",
}


@frozen
class _PreviewedIssue:
    """An issue as a run would send it.

    If settings for sending are missing, `resolved` and `message` are None.
    """

    issue: Issue
    subscribers: int
    subject: str
    size: int
    message: bytes | None
    resolved: ResolvedIssue | None
    problems: tuple[Problem, ...]


@click.command("plan")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs, without addresses.")
@click.option(
    "--email",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the first email to this file, addressed to a made-up subscriber.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plan to this file, for: postroom send --plan FILE.",
)
@click.option("--at", type=InstantType(), help="As of this instant, such as 2026-12-01T09:00Z.")
@click.option("--accept-missing", is_flag=True, help="Go on although many posts have vanished.")
@click.option("--yes", is_flag=True, help="Go on although the clock is far ahead.")
def command(  # noqa: PLR0913 - click's options are arguments
    *,
    as_json: bool,
    file: Path | None,
    out: Path | None,
    at: datetime | None,
    accept_missing: bool,
    yes: bool,
) -> None:
    """Show which subscribers would receive what, and why.

    It shows each issue with the number of its subscribers, its subject, its size and its posts,
    then how many subscribers would receive nothing, and why. Nothing is sent, and nothing is
    written but the files named here.

    \b
    Example:
      postroom plan
      postroom plan --at 2026-12-01T09:00:00Z --email first.eml
      postroom plan --out plan.json
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    with _open_data(site_dir, site.id) as data:
        run = plan.begin_run(data.planning, site, build_instant(at), yes=yes)
        loaded = loader.load_posts(site_dir, site, run.state.clock)
        segments = _plan_segments(data, site, run, loaded, accept_missing=accept_missing)
        posts, clock = {post.id: post for post in loaded.posts}, run.state.clock
        render_email = _renderer(site_dir, site, posts)
        previews = [
            _preview(issue, count, render_email(issue), site, snapshots=data.snapshots, clock=clock)
            for issue, count in _count_subscribers(segments).items()
        ]
        if out:
            approved = tuple(_approve(previews, segments, data.planning))
            _write_out(out, site_dir, write_plan(ApprovedPlan(site.id, clock, approved)))
    sample = previews[0].message if previews else None
    if file and sample:
        _write_out(file, site_dir, [sample])
    without = [segment for segment in segments if segment.issue is None]
    if as_json:
        click.echo(json.dumps(_as_json(run.state, previews, without, data.states), indent=1))
    else:
        click.echo(f"Plan as of {clock.astimezone(site.timezone):%Y-%m-%d %H:%M %Z}")
        _print_issues(previews, posts)
        _print_without(without, data.states, run.state)
    _print_problems([*loaded.warnings, *_problems(previews)], site)
    print_outdated("plan", _outdated_dates(previews), site.timezone)

    if file and not sample:
        hint = "see the plan" if not previews else "complete the settings"
        raise UseError([Problem("--email", message="there is no email to write", hint=hint)])


def _plan_segments(
    data: _PlanData, site: Site, run: RunWindow, loaded: LoadedPosts, *, accept_missing: bool
) -> list[PlannedSegment]:
    """Return what a run would send to each segment: subscribers who are due the same posts."""
    unnamed = {post_id for _, post_id in loaded.unnamed}
    visible = visible_posts(loaded.posts, site.language, unnamed)
    plan_input = plan.make_plan_input(
        data.planning, site, run, visible, accept_missing=accept_missing
    )
    return list(plan.plan_segments(data.planning, plan_input))


def _print_problems(problems: Sequence[Problem], site: Site) -> None:
    """Print problems with the severity of their rules; print missing settings as warnings."""
    print_problems([problem for problem in problems if not problem.rule], "warning")
    found = grade((problem for problem in problems if problem.rule), site.checks)
    for severity in ("error", "warning"):
        print_problems([str(f) for f in found if f.severity == severity], severity)


class _EmptyStore:
    """An empty store for a site without a database, because `plan` must not create one."""

    def entries(self) -> Iterator[LogEntry]:
        yield from ()

    def state(self) -> RunState | None:
        return None

    def groups(self) -> Iterator[tuple[Group, int]]:
        yield from ()

    def split_by_returned(
        self, _group: Group, _returned: Sequence[LogEntry], _to: Cursor
    ) -> Iterator[tuple[Segment, int]]:
        yield from ()

    def is_used(self, _frequency: Frequency) -> bool:
        return False

    def find_frozen(self, _issue: IssueSnapshot) -> None:
        return None

    def has_recipients(self, _number: int) -> bool:
        return False


@frozen
class _PlanData:
    """Everything that `plan` reads from the database."""

    planning: PlanningStore
    states: Mapping[State, int]
    snapshots: SnapshotStore


@contextmanager
def _open_data(site_dir: Path, site_id: str) -> Iterator[_PlanData]:
    if not (os.environ.get(engine.DATABASE_URL_VAR) or (site_dir / engine.DEFAULT_PATH).exists()):
        empty: Any = _EmptyStore()
        yield _PlanData(PlanningStore(empty, empty), {}, empty)
        return
    with open_site_store(site_dir) as store:
        warn_of_claim(store, site_id)
        planning = PlanningStore(store.post_log, store.segments)
        yield _PlanData(planning, store.subscribers.count(), store.issues)


def _renderer(
    site_dir: Path, site: Site, posts: Mapping[str, Post]
) -> Callable[[Issue], RenderedEmail]:
    theme = Theme(site_dir, site.language)
    return lambda issue: render.render_issue(issue, posts, site, theme)


def _count_subscribers(segments: Iterable[PlannedSegment]) -> Counter[Issue]:
    """Return the number of subscribers of each issue."""
    counts: Counter[Issue] = Counter()
    for segment in segments:
        if segment.issue:
            counts[segment.issue] += segment.count
    return counts


def _preview(  # noqa: PLR0913 - everything that an issue depends on
    issue: Issue,
    count: int,
    rendered: RenderedEmail,
    site: Site,
    *,
    snapshots: SnapshotStore,
    clock: datetime,
) -> _PreviewedIssue:
    def render_content(_: Issue, date: datetime) -> bytes:
        return prepare_issue(rendered, site, date.astimezone(site.timezone)).content

    try:
        resolved = resolve_issue(snapshots, issue, clock, render_content)
    except SettingsError as error:
        size = len((rendered.html + rendered.text).encode())
        return _PreviewedIssue(issue, count, rendered.subject, size, None, None, error.problems)
    content = resolved.issue.content
    message, subject = _sample(PreparedIssue(content)), issue_subject(content)
    # An outdated issue cannot change any more, and the rules would use the settings of today.
    problems = () if resolved.is_outdated else tuple(lint_email(message, site, subject))
    return _PreviewedIssue(issue, count, subject, len(message), message, resolved, problems)


def _approve(
    previews: Iterable[_PreviewedIssue], segments: Iterable[PlannedSegment], planning: PlanningStore
) -> Iterator[ApprovedIssue]:
    """Yield the issues to be written into a plan file.

    Raises `SettingsError` if settings for sending an issue are missing.
    """
    recipients: defaultdict[Issue, RecipientDigests] = defaultdict(RecipientDigests)
    for segment in segments:
        if segment.issue:
            recipients[segment.issue].add(planning.segments.tokens(segment.segment, segment.cursor))
    for preview in previews:
        if preview.resolved is None:
            raise SettingsError(preview.problems)
        yield approve(preview.resolved.issue, recipients[preview.issue])


def _write_out(out: Path, site_dir: Path, data: Iterable[bytes]) -> None:
    message = link_fault(site_dir, out)
    try:
        if not message:
            with out.open("wb") as file:
                file.writelines(data)
    except OSError as error:
        message = (error.strerror or "cannot be written").lower()
    if message:
        raise UseError([Problem(str(out), message=message, hint="name another file")])


def _sample(prepared: PreparedIssue) -> bytes:
    return prepared.message(_SAMPLE, "x" * len(TOKEN_PLACEHOLDER), prepared.message_id("0" * 64))


def _outdated_dates(previews: Iterable[_PreviewedIssue]) -> list[datetime]:
    resolved = [preview.resolved for preview in previews if preview.resolved]
    return [found.issue.date for found in resolved if found.is_outdated]


def _problems(previews: Iterable[_PreviewedIssue]) -> list[Problem]:
    return sorted({problem for preview in previews for problem in preview.problems})


def _print_issues(previews: Sequence[_PreviewedIssue], posts: Mapping[str, Post]) -> None:
    total = sum(preview.subscribers for preview in previews)
    click.echo(f"{pluralize(len(previews), 'issue')} to {pluralize(total, 'subscriber')}")
    for preview in previews:
        rhythm = _RHYTHM[preview.issue.frequency]
        size = f"{preview.size / 1000:.1f} KB"
        click.echo(f"\n{pluralize(preview.subscribers, 'subscriber')}, {rhythm}")
        click.echo(f"  {preview.subject}")
        click.echo(f"  {pluralize(len(preview.issue.posts), 'post')}, {size}")
        for post in (posts[post_id] for post_id in preview.issue.posts):
            click.echo(f"    {post.day}  {post.title}")


def _print_without(
    without: Iterable[PlannedSegment], states: Mapping[State, int], state: RunState
) -> None:
    """Print how many subscribers would receive nothing, and why."""
    reasons = list(_reasons(without, states, state))
    if reasons:
        click.echo("\nNothing for")
    for line in reasons:
        click.echo(f"  {line}")
    if not states:
        click.echo(
            "\nThere are no subscribers yet; add some with: postroom subscribers add ADDRESS"
        )


def _reasons(
    without: Iterable[PlannedSegment], states: Mapping[State, int], state: RunState
) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for segment in without:
        frequency = segment.segment.group.frequency
        reason = f"{_RHYTHM[frequency]}: {segment.reason}"
        if segment.reason in {"not due", "nothing new"} and frequency != "post":
            reason += f"; the next cutoff is {plan.next_cutoff(frequency, state.released)}"
        counts[reason] += segment.count
    for subscriber_state, number in states.items():
        if subscriber_state != "active":
            counts[subscriber_state] += number
    yield from (f"{pluralize(number, 'subscriber')}, {why}" for why, number in counts.items())


def _as_json(
    state: RunState,
    previews: Sequence[_PreviewedIssue],
    without: Sequence[PlannedSegment],
    states: Mapping[State, int],
) -> dict[str, Any]:
    return {
        "clock": state.clock.isoformat(),
        "released": state.released.isoformat(),
        "issues": [
            {
                "frequency": preview.issue.frequency,
                "language": preview.issue.language,
                "subscribers": preview.subscribers,
                "subject": preview.subject,
                "bytes": preview.size,
                "posts": list(preview.issue.posts),
                "problems": [str(problem) for problem in preview.problems],
            }
            for preview in previews
        ],
        "nothing": [
            {
                "frequency": segment.segment.group.frequency,
                "why": segment.reason,
                "subscribers": segment.count,
            }
            for segment in without
        ],
        "subscribers": dict(states),
    }
