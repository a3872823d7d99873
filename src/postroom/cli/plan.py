"""`postroom plan`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from postroom import config, planning, posts
from postroom.cli import complain
from postroom.cli.instant import Instant, build_instant
from postroom.cli.opened import opened_store
from postroom.database import engine
from postroom.delivery.arrivals import visible
from postroom.delivery.clock import boundary
from postroom.errors import Problem, SettingsError, UseError
from postroom.letters.compose import Rendered
from postroom.letters.lint import lint
from postroom.letters.personal import TOKEN_PLACEHOLDER, Prepared, prepare
from postroom.model import (
    Arrival,
    Bookmark,
    Frequency,
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
    """A planned letter as it would leave; `message` is None where the settings do not let it."""

    letter: Letter
    subscribers: int
    subject: str
    size: int
    message: bytes | None
    problems: tuple[Problem, ...]


@click.command("plan")
@click.option("--json", "as_json", is_flag=True, help="For a program: counts, never addresses.")
@click.option(
    "--letter",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the first letter to this file, addressed to nobody real.",
)
@click.option("--at", type=Instant(), help="As of this instant, such as 2026-12-01T09:00Z.")
@click.option("--accept-missing", is_flag=True, help="Go on although many posts have vanished.")
@click.option("--yes", is_flag=True, help="Go on although the clock is far ahead.")
def command(
    *, as_json: bool, file: Path | None, at: datetime | None, accept_missing: bool, yes: bool
) -> None:
    """Show who would get what, and why; nothing is sent and nothing is written.

    One line for each letter: to how many subscribers it goes, its subject, its size, and the posts
    it holds; then how many get nothing, and why.

    \b
    postroom plan
    postroom plan --at 2026-12-01T09:00:00Z --letter first.eml
    """
    newsroom = config.find_newsroom(Path.cwd())
    site = config.load(newsroom)
    with _book(newsroom) as (book, states):
        run = planning.begin(book, site, build_instant(at), yes=yes)
        loaded = posts.load(newsroom, site, run.release.clock)
        news = visible(loaded.posts, site.language, {each for _, each in loaded.unnamed})
        outlook = planning.look_ahead(book, site, run, news, accept_missing=accept_missing)
        planned = list(planning.plan(book, outlook))
    theme, there = Theme(newsroom, site.language), {post.id: post for post in loaded.posts}
    shown = [
        _shown(letter, count, planning.write(letter, there, site, theme), site, run.release.clock)
        for letter, count in _readers(planned).items()
    ]
    sample = shown[0].message if shown else None
    if file and sample:
        file.write_bytes(sample)
    nothing = [one for one in planned if one.letter is None]
    if as_json:
        click.echo(json.dumps(_as_json(run.release, shown, nothing, states), indent=1))
    else:
        click.echo(f"Plan as of {run.release.clock.astimezone(site.timezone):%Y-%m-%d %H:%M %Z}")
        _print_letters(shown, there)
        _print_nothing(nothing, states, run.release)
    complain([*loaded.warnings, *_distinct(shown)], "warning")
    if file and not sample:
        repair = "see the plan" if not shown else "complete the settings"
        raise UseError([Problem("--letter", what="there is no letter to write", repair=repair)])


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


@contextmanager
def _book(newsroom: Path) -> Iterator[tuple[Book, Mapping[State, int]]]:
    if not os.environ.get(engine.VARIABLE) and not (newsroom / engine.FILE).exists():
        nobody: Any = _Nobody()
        yield Book(nobody, nobody), {}
        return
    with opened_store(newsroom) as store:
        yield Book(store.arrivals, store.groups), store.subscribers.count()


def _readers(planned: Iterable[Planned]) -> Counter[Letter]:
    """Return each distinct letter once, with the number of all who are sent it."""
    readers: Counter[Letter] = Counter()
    for one in planned:
        if one.letter:
            readers[one.letter] += one.count
    return readers


def _shown(letter: Letter, count: int, rendered: Rendered, site: Site, date: datetime) -> _Shown:
    try:
        message = _sample(prepare(rendered, site, date.astimezone(site.timezone)))
    except SettingsError as error:
        size = len((rendered.html + rendered.text).encode())
        return _Shown(letter, count, rendered.subject, size, None, error.problems)
    problems = tuple(lint(message, site, rendered.subject))
    return _Shown(letter, count, rendered.subject, len(message), message, problems)


def _sample(prepared: Prepared) -> bytes:
    return prepared.message(_SAMPLE, "x" * len(TOKEN_PLACEHOLDER), prepared.message_id("0" * 64))


def _distinct(shown: Iterable[_Shown]) -> list[Problem]:
    return sorted({problem for one in shown for problem in one.problems})


def _print_letters(shown: Sequence[_Shown], there: Mapping[str, Post]) -> None:
    total = sum(one.subscribers for one in shown)
    click.echo(f"{_counted(len(shown), 'letter')} to {_counted(total, 'subscriber')}")
    for one in shown:
        held = [there[each] for each in one.letter.posts]
        click.echo(f"\n{_counted(one.subscribers, 'subscriber')}, {_RHYTHM[one.letter.frequency]}")
        click.echo(f"  {one.subject}")
        click.echo(f"  {_counted(len(held), 'post')}, {one.size / 1000:.1f} KB")
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
            why += f"; the next boundary is {_next(frequency, release)}"
        counts[why] += one.count
    for state, number in states.items():
        if state != "active":
            counts[state] += number
    yield from (f"{_counted(number, 'subscriber')}, {why}" for why, number in counts.items())


def _next(frequency: Frequency, release: Release) -> str:
    """Return the next boundary: the first later day that is a boundary itself."""
    day = release.released + timedelta(days=1)
    while boundary(frequency, day) != day:
        day += timedelta(days=1)
    return day.isoformat()


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


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
