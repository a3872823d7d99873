"""What a run finds → what it opens with, and the letters it plans, group by group.

`plan` shows this and `send` does it. The rows are only read here, so to show is safe, also before
the first run: what the opening would log is taken as logged. The order of a run that sends:

1. take the lease, `begin` on the state row, read the posts as they stand at the run's clock;
2. `look_ahead`, which may stop the run while nothing has been written;
3. sweep what a dead run left, and store the opening;
4. for each `Planned`: freeze and plan its letter, or raise the bookmarks of its members;
5. take up the welcome letters of `still_welcome`, and cancel what no plan took up.

A dry run leaves step 3 out: readers whose letter a dead run left on its way are in no `Planned`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import date, datetime, time, timedelta
from typing import Literal, Protocol, get_args
from zoneinfo import ZoneInfo

from attrs import evolve, frozen

from postroom.delivery.arrivals import News, Opening, opening
from postroom.delivery.clock import Run, advance, boundary, instant, local_date, reach
from postroom.delivery.owed import Owed, owed, welcome
from postroom.digest import digest_for
from postroom.letters.compose import Rendered, compose
from postroom.letters.personal import unsubscribe_page
from postroom.model import (
    Arrival,
    Bookmark,
    Frequency,
    FrozenLetter,
    Group,
    Letter,
    Members,
    Post,
    Release,
    Site,
    Subscriber,
)
from postroom.theme import Theme

Why = Literal["not due", "nothing new", "another language", "other topics", "had already"]
"""Why members are sent nothing: no boundary has come since their last letter, nothing came, none
of it is in their language or on their topics, or they have had all that returned."""


class Arrivals(Protocol):
    """What is needed of the log of arrivals and of the state row."""

    def log(self) -> Generator[Arrival, None, None]:
        """Yield every arrival, oldest first."""

    def release(self) -> Release | None:
        """Return the state row."""


class Groups(Protocol):
    """What is needed of the active subscribers, by what they are owed."""

    def every(self) -> Generator[tuple[Group, int], None, None]:
        """Yield each group that has members."""

    def divided(
        self, group: Group, returned: Sequence[Arrival], to: Bookmark
    ) -> Iterable[tuple[Members, int]]:
        """Divide the members whom `to` reaches by which of the `returned` posts they are owed."""

    def readers(self, members: Members, to: Bookmark) -> Generator[str, None, None]:
        """Yield the tokens of the members whom `to` reaches."""

    def uses(self, frequency: Frequency) -> bool:
        """Tell whether anybody who receives, or may again, chose `frequency`."""


@frozen
class Book:
    """The rows that planning reads."""

    arrivals: Arrivals
    groups: Groups


@frozen
class Outlook:
    """What a run goes by: its clock, the posts that are visible, and what it writes first.

    `log` is the log of arrivals as it stands after that.
    """

    run: Run
    news: Mapping[str, News]
    opening: Opening
    log: tuple[Arrival, ...]


@frozen
class Planned:
    """What a run does for some members of a group: a letter, or why there is none.

    `bookmark` is theirs once the letter is delivered; without one it is raised at once. `count` is
    how many of them the plan reaches, which are never none.
    """

    members: Members
    count: int
    bookmark: Bookmark
    letter: Letter | None
    why: Why | None = None


@frozen
class Late:
    """A run comes too late for the letters of `frequency`, which were due at the instant `due`."""

    frequency: Frequency
    due: datetime


def begin(book: Book, site: Site, now: datetime, *, yes: bool = False) -> Run:
    """Return the run that starts at the instant `now`; read the posts at `release.clock`.

    Raises `StoppedError` if the clock is far ahead of the last run's, unless `yes` (rule 15).
    """
    send_at = time.fromisoformat(site.digest.send_at)
    return advance(book.arrivals.release(), now, site.timezone, send_at, yes=yes)


def look_ahead(
    book: Book, site: Site, run: Run, news: Mapping[str, News], *, accept_missing: bool = False
) -> Outlook:
    """Return what `run` goes by where `news` are the posts that are visible at its clock.

    Raises `StoppedError` where in doubt (rule 8); nothing has been written then.
    """
    before = tuple(book.arrivals.log())
    frequencies = [
        each for each in get_args(Frequency) if each in site.digest.offer or book.groups.uses(each)
    ]
    first = opening(run, before, news, frequencies, accept_missing=accept_missing)
    return Outlook(run, news, first, first.log(before))


def plan(book: Book, outlook: Outlook) -> Iterator[Planned]:
    """Yield what is owed to each group of active subscribers, the letters and the bookmarks.

    What is yielded may be carried out before the next is asked for.
    """
    log, news = _Log(outlook.log), outlook.news
    with closing(book.groups.every()) as groups:
        for group, _ in groups:
            to = reach(group.frequency, outlook.run.release.released, log.last)
            whole = owed(group, to, log.ahead_of(group.bookmark), news)
            for members, count in book.groups.divided(group, whole.returned, whole.bookmark):
                part = whole.without({one.post_id for one in members.settled})
                why = None if part.letter else _why(whole, log, news)
                yield Planned(members, count, part.bookmark, part.letter, why)


def owing(book: Book, outlook: Outlook) -> frozenset[Frequency]:
    """Return the frequencies of which a run has letters to send."""
    return frozenset(one.members.group.frequency for one in plan(book, outlook) if one.letter)


def late(
    owing: Collection[Frequency], release: Release, send_at: time, window: timedelta
) -> Late | None:
    """Return what a run is too late for, or None where it is not.

    `owing` are the frequencies of which there are letters to send. The newest boundary of a week or
    a month among them counts; a day's is always new, so it counts only where there is no other, and
    who gets every post waits for no boundary.
    """
    zone, reached = ZoneInfo(release.zone), release.released
    periods: Sequence[Frequency] = [one for one in owing if one in {"week", "month"}]
    periods = periods or [one for one in owing if one == "day"]
    if not periods:
        return None
    newest, frequency = max((boundary(one, reached), one) for one in periods)
    due = instant(newest, zone, send_at)
    return Late(frequency, due) if release.clock - due > window else None


def next_boundary(frequency: Frequency, day: date) -> date:
    """Return the first boundary of `frequency` after `day`."""
    day += timedelta(days=1)
    while boundary(frequency, day) != day:
        day += timedelta(days=1)
    return day


def still_welcome(waiting: Iterable[FrozenLetter], news: Mapping[str, News]) -> Iterator[int]:
    """Yield the ids of the `waiting` welcome letters that may be sent: all their posts are visible.

    A welcome letter is planned when its reader confirms; a run that plans another letter for the
    reader has put that in its place (rule 13).
    """
    return (letter.id for letter in waiting if all(post in news for post in letter.posts))


class _Log:
    """The arrivals that are not struck, so that those of one group are found without reading all.

    A hundred thousand posts and a thousand groups would be a hundred million looks otherwise.
    """

    def __init__(self, log: Sequence[Arrival]) -> None:
        self.last = max((one.seq for one in log), default=0)
        self._live = sorted((one for one in log if not one.struck), key=lambda one: one.day)
        self._days = [one.day for one in self._live]

    def ahead_of(self, bookmark: Bookmark) -> Sequence[Arrival]:
        """Return the arrivals of the day `before` and later; some may be behind by seq."""
        return self._live[bisect_left(self._days, bookmark.before) :]


def _why(whole: Owed, log: _Log, news: Mapping[str, News]) -> Why:
    """Return why nothing of what the group is owed, if anything, makes a letter."""
    group = whole.group
    if whole.arrivals:
        return "had already"
    if group.frequency != "post" and whole.bookmark == group.bookmark:
        return "not due"
    due = log.ahead_of(group.bookmark)
    any_topic = evolve(group, topics=frozenset())
    if owed(any_topic, whole.reach, due, news).arrivals:
        return "other topics"
    if owed(evolve(any_topic, language=""), whole.reach, due, news).arrivals:
        return "another language"
    return "nothing new"


def write(letter: Letter, posts: Mapping[str, Post], site: Site, theme: Theme) -> Rendered:
    """Return `letter` in words, with the pages of the token's placeholder as its links.

    `posts` holds those of the letter by id. Raises `TemplateError`.
    """
    if letter.frequency == "post" and not site.digest.subject:
        # Who gets every post wants to know which; a period says nothing then.
        site = evolve(site, digest=evolve(site.digest, subject="{title}: {headline}"))
    leave = unsubscribe_page(site) if site.mail.unsubscribe else ""
    digest, greets = digest_for(letter, posts, site), letter.frequency == "welcome"
    return compose(digest, site, theme, unsubscribe=leave, welcome=greets)


def greeting(
    book: Book, site: Site, run: Run, news: Mapping[str, News], subscriber: Subscriber
) -> Letter | None:
    """Return the letter that welcomes who has just confirmed for the first time, or None.

    It holds what was new before they came, and nothing where `digest.welcome` is off or nothing
    was (rule 13). Its boundary is the day, so that nobody's welcome bears an old date.
    """
    if not site.digest.welcome:
        return None
    chosen = subscriber.frequency, subscriber.bookmark, subscriber.topics, subscriber.language
    letter = welcome(Group(*chosen), book.arrivals.log(), news)
    today = local_date(run.release.clock, site.timezone)
    return evolve(letter, reach=Bookmark(today)) if letter else None
