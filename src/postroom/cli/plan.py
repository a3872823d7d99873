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

from postroom import config, planning, posts
from postroom.check import graded
from postroom.cli import complain, counted
from postroom.cli.instant import Instant, build_instant
from postroom.cli.opened import opened_store
from postroom.cli.progress import tell_outdated
from postroom.database import engine
from postroom.delivery.arrivals import visible
from postroom.errors import Problem, SettingsError, UseError
from postroom.letters.compose import Rendered
from postroom.letters.lint import lint
from postroom.letters.personal import TOKEN_PLACEHOLDER, Prepared, prepare
from postroom.model import (
    Arrival,
    Bookmark,
    Frequency,
    FrozenLetter,
    Group,
    Letter,
    LetterKind,
    Members,
    Post,
    Release,
    Site,
    State,
)
from postroom.planning import Book, Planned
from postroom.send.approval import Approval, Approved, Marks, approved, file_of, subject_of
from postroom.send.wording import Kept, Worded, worded
from postroom.theme import Theme

_SAMPLE = "reader@example.com"
_RHYTHM: Mapping[LetterKind, str] = {
    "post": "with every post",
    "day": "daily",
    "week": "weekly",
    "month": "monthly",
    "welcome": "welcome",
}


@frozen
class _Shown:
    """A planned letter as it would leave; two are None if the settings forbid that."""

    letter: Letter
    subscribers: int
    subject: str
    size: int
    message: bytes | None
    leaving: Worded | None
    problems: tuple[Problem, ...]


@click.command("plan")
@click.option("--json", "as_json", is_flag=True, help="For a program: counts, never addresses.")
@click.option(
    "--letter",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the first letter to this file, addressed to nobody real.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plan to this file, for: postroom send --plan FILE.",
)
@click.option("--at", type=Instant(), help="As of this instant, such as 2026-12-01T09:00Z.")
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
    newsroom = config.find_newsroom(Path.cwd())
    site = config.load(newsroom)
    with _rows(newsroom) as rows:
        run = planning.begin(rows.book, site, build_instant(at), yes=yes)
        loaded = posts.load(newsroom, site, run.release.clock)
        news = visible(loaded.posts, site.language, {each for _, each in loaded.unnamed})
        outlook = planning.look_ahead(rows.book, site, run, news, accept_missing=accept_missing)
        planned = list(planning.plan(rows.book, outlook))
        there, clock = {post.id: post for post in loaded.posts}, run.release.clock
        write, readers = _writer(newsroom, site, there), _readers(planned)
        shown = [
            _shown(letter, count, write(letter), site, kept=rows.letters, clock=clock)
            for letter, count in readers.items()
        ]
        if out:
            _write_out(out, Approval(site.id, clock, tuple(_approved(shown, planned, rows.book))))
    sample = shown[0].message if shown else None
    if file and sample:
        file.write_bytes(sample)
    nothing = [one for one in planned if one.letter is None]
    if as_json:
        click.echo(json.dumps(_as_json(run.release, shown, nothing, rows.states), indent=1))
    else:
        click.echo(f"Plan as of {clock.astimezone(site.timezone):%Y-%m-%d %H:%M %Z}")
        _print_letters(shown, there)
        _print_nothing(nothing, rows.states, run.release)
    _complain([*loaded.warnings, *_distinct(shown)], site)
    tell_outdated("plan", _outdated(shown), site.timezone)
    if file and not sample:
        repair = "see the plan" if not shown else "complete the settings"
        raise UseError([Problem("--letter", what="there is no letter to write", repair=repair)])


def _complain(problems: Sequence[Problem], site: Site) -> None:
    """Print problems, as severe as their rules; what the settings lack keeps no plan from view."""
    complain([problem for problem in problems if not problem.rule], "warning")
    found = graded((problem for problem in problems if problem.rule), site.checks)
    for severity in ("error", "warning"):
        complain([str(one) for one in found if one.severity == severity], severity)


class _Nobody:
    """The rows of a newsroom that has no database yet; to look must not make one."""

    def log(self) -> Iterator[Arrival]:
        yield from ()

    def release(self) -> Release | None:
        return None

    def every(self) -> Iterator[tuple[Group, int]]:
        yield from ()

    def divided(
        self, _group: Group, _returned: Sequence[Arrival], _to: Bookmark
    ) -> Iterator[tuple[Members, int]]:
        yield from ()

    def uses(self, _frequency: Frequency) -> bool:
        return False

    def kept(self, _letter: FrozenLetter) -> None:
        return None

    def has_readers(self, _number: int) -> bool:
        return False


@frozen
class _Rows:
    """What is read of the rows."""

    book: Book
    states: Mapping[State, int]
    letters: Kept


@contextmanager
def _rows(newsroom: Path) -> Iterator[_Rows]:
    if not os.environ.get(engine.VARIABLE) and not (newsroom / engine.FILE).exists():
        nobody: Any = _Nobody()
        yield _Rows(Book(nobody, nobody), {}, nobody)
        return
    with opened_store(newsroom) as store:
        book = Book(store.arrivals, store.groups)
        yield _Rows(book, store.subscribers.count(), store.letters)


def _writer(newsroom: Path, site: Site, there: Mapping[str, Post]) -> Callable[[Letter], Rendered]:
    theme = Theme(newsroom, site.language)
    return lambda letter: planning.write(letter, there, site, theme)


def _readers(planned: Iterable[Planned]) -> Counter[Letter]:
    """Return each distinct letter once, with the number of all who are sent it."""
    readers: Counter[Letter] = Counter()
    for one in planned:
        if one.letter:
            readers[one.letter] += one.count
    return readers


def _shown(  # noqa: PLR0913 - what a letter depends on
    letter: Letter, count: int, rendered: Rendered, site: Site, *, kept: Kept, clock: datetime
) -> _Shown:
    def written(_: Letter, date: datetime) -> bytes:
        return prepare(rendered, site, date.astimezone(site.timezone)).content

    try:
        leaving = worded(kept, letter, clock, written)
    except SettingsError as error:
        size = len((rendered.html + rendered.text).encode())
        return _Shown(letter, count, rendered.subject, size, None, None, error.problems)
    content = leaving.letter.content
    message, subject = _sample(Prepared(content)), subject_of(content)
    # An older letter is what it is; the rules hold it against the settings of today.
    problems = () if leaving.is_outdated else tuple(lint(message, site, subject))
    return _Shown(letter, count, subject, len(message), message, leaving, problems)


def _approved(
    shown: Iterable[_Shown], planned: Iterable[Planned], book: Book
) -> Iterator[Approved]:
    marks: defaultdict[Letter, Marks] = defaultdict(Marks)
    for one in planned:
        if one.letter:
            marks[one.letter].add(book.groups.readers(one.members, one.bookmark))
    for each in shown:
        if each.leaving is None:
            raise SettingsError(each.problems)
        yield approved(each.leaving.letter, marks[each.letter])


def _write_out(out: Path, approval: Approval) -> None:
    try:
        with out.open("wb") as file:
            file.writelines(file_of(approval))
    except OSError as error:
        what = (error.strerror or "cannot be written").lower()
        raise UseError([Problem(str(out), what=what, repair="name another file")]) from None


def _sample(prepared: Prepared) -> bytes:
    return prepared.message(_SAMPLE, "x" * len(TOKEN_PLACEHOLDER), prepared.message_id("0" * 64))


def _outdated(shown: Iterable[_Shown]) -> list[datetime]:
    leaving = [one.leaving for one in shown if one.leaving]
    return [one.letter.date for one in leaving if one.is_outdated]


def _distinct(shown: Iterable[_Shown]) -> list[Problem]:
    return sorted({problem for one in shown for problem in one.problems})


def _print_letters(shown: Sequence[_Shown], there: Mapping[str, Post]) -> None:
    total = sum(one.subscribers for one in shown)
    click.echo(f"{counted(len(shown), 'letter')} to {counted(total, 'subscriber')}")
    for one in shown:
        held = [there[each] for each in one.letter.posts]
        click.echo(f"\n{counted(one.subscribers, 'subscriber')}, {_RHYTHM[one.letter.frequency]}")
        click.echo(f"  {one.subject}")
        click.echo(f"  {counted(len(held), 'post')}, {one.size / 1000:.1f} KB")
        for post in held:
            click.echo(f"    {post.day}  {post.title}")


def _print_nothing(
    nothing: Iterable[Planned], states: Mapping[State, int], release: Release
) -> None:
    reasons = list(_reasons(nothing, states, release))
    if reasons:
        click.echo("\nNothing for")
    for line in reasons:
        click.echo(f"  {line}")
    if not states:
        click.echo("\nNobody subscribes yet; add people with: postroom subscribers import FILE")


def _reasons(
    nothing: Iterable[Planned], states: Mapping[State, int], release: Release
) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for one in nothing:
        frequency = one.members.group.frequency
        why = f"{_RHYTHM[frequency]}: {one.why}"
        if one.why in {"not due", "nothing new"} and frequency != "post":
            why += f"; the next boundary is {planning.next_boundary(frequency, release.released)}"
        counts[why] += one.count
    for state, number in states.items():
        if state != "active":
            counts[state] += number
    yield from (f"{counted(number, 'subscriber')}, {why}" for why, number in counts.items())


def _as_json(
    release: Release,
    shown: Sequence[_Shown],
    nothing: Sequence[Planned],
    states: Mapping[State, int],
) -> dict[str, Any]:
    return {
        "clock": release.clock.isoformat(),
        "released": release.released.isoformat(),
        "letters": [
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
                "frequency": one.members.group.frequency,
                "why": one.why,
                "subscribers": one.count,
            }
            for one in nothing
        ],
        "subscribers": dict(states),
    }
