"""`postroom plan`."""

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
from postroom.cli.context import InstantType, build_instant, open_site_store
from postroom.cli.progress import print_outdated
from postroom.db import engine
from postroom.errors import Problem, SettingsError, UseError
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
from postroom.scheduling import plan
from postroom.scheduling.plan import PlannedSegment, PlanningStore
from postroom.scheduling.rules import visible_posts
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
class _Shown:
    """A planned letter as it would leave; two are None if the settings forbid that."""

    letter: Issue
    subscribers: int
    subject: str
    size: int
    message: bytes | None
    leaving: ResolvedIssue | None
    problems: tuple[Problem, ...]


@click.command("plan")
@click.option("--json", "as_json", is_flag=True, help="For a program: counts, never addresses.")
@click.option(
    "--email",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the first letter to this file, addressed to nobody real.",
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
    """Show who would get what, and why; nothing is sent, and only files named here are written.

    One line for each letter: to how many subscribers it goes, its subject, its size, and the posts
    it holds; then how many get nothing, and why.

    \b
    postroom plan
    postroom plan --at 2026-12-01T09:00:00Z --letter first.eml
    postroom plan --out plan.json
    """
    site_dir = find_site(Path.cwd())
    site = load_settings(site_dir)
    with _rows(site_dir) as rows:
        run = plan.begin_run(rows.book, site, build_instant(at), yes=yes)
        loaded = loader.load_posts(site_dir, site, run.state.clock)
        news = visible_posts(loaded.posts, site.language, {each for _, each in loaded.unnamed})
        outlook = plan.make_plan_input(rows.book, site, run, news, accept_missing=accept_missing)
        planned = list(plan.plan_segments(rows.book, outlook))
        there, clock = {post.id: post for post in loaded.posts}, run.state.clock
        write, readers = _writer(site_dir, site, there), _readers(planned)
        shown = [
            _shown(letter, count, write(letter), site, kept=rows.letters, clock=clock)
            for letter, count in readers.items()
        ]
        if out:
            _write_out(
                out, ApprovedPlan(site.id, clock, tuple(_approved(shown, planned, rows.book)))
            )
    sample = shown[0].message if shown else None
    if file and sample:
        file.write_bytes(sample)
    nothing = [one for one in planned if one.issue is None]
    if as_json:
        click.echo(json.dumps(_as_json(run.state, shown, nothing, rows.states), indent=1))
    else:
        click.echo(f"Plan as of {clock.astimezone(site.timezone):%Y-%m-%d %H:%M %Z}")
        _print_letters(shown, there)
        _print_nothing(nothing, rows.states, run.state)
    _complain([*loaded.warnings, *_distinct(shown)], site)
    print_outdated("plan", _outdated(shown), site.timezone)
    if file and not sample:
        repair = "see the plan" if not shown else "complete the settings"
        raise UseError([Problem("--email", message="there is no letter to write", hint=repair)])


def _complain(problems: Sequence[Problem], site: Site) -> None:
    """Print problems, as severe as their rules; what the settings lack keeps no plan from view."""
    print_problems([problem for problem in problems if not problem.rule], "warning")
    found = grade((problem for problem in problems if problem.rule), site.checks)
    for severity in ("error", "warning"):
        print_problems([str(one) for one in found if one.severity == severity], severity)


class _Nobody:
    """The rows of a newsroom that has no database yet; to look must not make one."""

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

    def find_frozen(self, _letter: IssueSnapshot) -> None:
        return None

    def has_recipients(self, _number: int) -> bool:
        return False


@frozen
class _Rows:
    """What is read of the rows."""

    book: PlanningStore
    states: Mapping[State, int]
    letters: SnapshotStore


@contextmanager
def _rows(site_dir: Path) -> Iterator[_Rows]:
    if (
        not os.environ.get(engine.DATABASE_URL_VAR)
        and not (site_dir / engine.DEFAULT_PATH).exists()
    ):
        nobody: Any = _Nobody()
        yield _Rows(PlanningStore(nobody, nobody), {}, nobody)
        return
    with open_site_store(site_dir) as store:
        book = PlanningStore(store.post_log, store.segments)
        yield _Rows(book, store.subscribers.count(), store.issues)


def _writer(
    site_dir: Path, site: Site, there: Mapping[str, Post]
) -> Callable[[Issue], RenderedEmail]:
    theme = Theme(site_dir, site.language)
    return lambda letter: render.render_issue(letter, there, site, theme)


def _readers(planned: Iterable[PlannedSegment]) -> Counter[Issue]:
    """Return each distinct letter once, with the number of all who are sent it."""
    readers: Counter[Issue] = Counter()
    for one in planned:
        if one.issue:
            readers[one.issue] += one.count
    return readers


def _shown(  # noqa: PLR0913 - what a letter depends on
    letter: Issue,
    count: int,
    rendered: RenderedEmail,
    site: Site,
    *,
    kept: SnapshotStore,
    clock: datetime,
) -> _Shown:
    def written(_: Issue, date: datetime) -> bytes:
        return prepare_issue(rendered, site, date.astimezone(site.timezone)).content

    try:
        leaving = resolve_issue(kept, letter, clock, written)
    except SettingsError as error:
        size = len((rendered.html + rendered.text).encode())
        return _Shown(letter, count, rendered.subject, size, None, None, error.problems)
    content = leaving.issue.content
    message, subject = _sample(PreparedIssue(content)), issue_subject(content)
    # An older letter is what it is; the rules hold it against the settings of today.
    problems = () if leaving.is_outdated else tuple(lint_email(message, site, subject))
    return _Shown(letter, count, subject, len(message), message, leaving, problems)


def _approved(
    shown: Iterable[_Shown], planned: Iterable[PlannedSegment], book: PlanningStore
) -> Iterator[ApprovedIssue]:
    marks: defaultdict[Issue, RecipientDigests] = defaultdict(RecipientDigests)
    for one in planned:
        if one.issue:
            marks[one.issue].add(book.segments.tokens(one.segment, one.cursor))
    for each in shown:
        if each.leaving is None:
            raise SettingsError(each.problems)
        yield approve(each.leaving.issue, marks[each.letter])


def _write_out(out: Path, approval: ApprovedPlan) -> None:
    try:
        with out.open("wb") as file:
            file.writelines(write_plan(approval))
    except OSError as error:
        what = (error.strerror or "cannot be written").lower()
        raise UseError([Problem(str(out), message=what, hint="name another file")]) from None


def _sample(prepared: PreparedIssue) -> bytes:
    return prepared.message(_SAMPLE, "x" * len(TOKEN_PLACEHOLDER), prepared.message_id("0" * 64))


def _outdated(shown: Iterable[_Shown]) -> list[datetime]:
    leaving = [one.leaving for one in shown if one.leaving]
    return [one.issue.date for one in leaving if one.is_outdated]


def _distinct(shown: Iterable[_Shown]) -> list[Problem]:
    return sorted({problem for one in shown for problem in one.problems})


def _print_letters(shown: Sequence[_Shown], there: Mapping[str, Post]) -> None:
    total = sum(one.subscribers for one in shown)
    click.echo(f"{pluralize(len(shown), 'letter')} to {pluralize(total, 'subscriber')}")
    for one in shown:
        held = [there[each] for each in one.letter.posts]
        click.echo(f"\n{pluralize(one.subscribers, 'subscriber')}, {_RHYTHM[one.letter.frequency]}")
        click.echo(f"  {one.subject}")
        click.echo(f"  {pluralize(len(held), 'post')}, {one.size / 1000:.1f} KB")
        for post in held:
            click.echo(f"    {post.day}  {post.title}")


def _print_nothing(
    nothing: Iterable[PlannedSegment], states: Mapping[State, int], release: RunState
) -> None:
    reasons = list(_reasons(nothing, states, release))
    if reasons:
        click.echo("\nNothing for")
    for line in reasons:
        click.echo(f"  {line}")
    if not states:
        click.echo("\nNobody subscribes yet; add people with: postroom subscribers import FILE")


def _reasons(
    nothing: Iterable[PlannedSegment], states: Mapping[State, int], release: RunState
) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for one in nothing:
        frequency = one.segment.group.frequency
        why = f"{_RHYTHM[frequency]}: {one.reason}"
        if one.reason in {"not due", "nothing new"} and frequency != "post":
            why += f"; the next boundary is {plan.next_cutoff(frequency, release.released)}"
        counts[why] += one.count
    for state, number in states.items():
        if state != "active":
            counts[state] += number
    yield from (f"{pluralize(number, 'subscriber')}, {why}" for why, number in counts.items())


def _as_json(
    release: RunState,
    shown: Sequence[_Shown],
    nothing: Sequence[PlannedSegment],
    states: Mapping[State, int],
) -> dict[str, Any]:
    return {
        "clock": release.clock.isoformat(),
        "released": release.released.isoformat(),
        "issues": [
            {
                "frequency": one.letter.frequency,
                "language": one.letter.language,
                "subscribers": one.subscribers,
                "subject": one.subject,
                "bytes": one.size,
                "posts": list(one.letter.posts),
                "problems": [str(problem) for problem in one.problems],
            }
            for one in shown
        ],
        "nothing": [
            {
                "frequency": one.segment.group.frequency,
                "why": one.reason,
                "subscribers": one.count,
            }
            for one in nothing
        ],
        "subscribers": dict(states),
    }
