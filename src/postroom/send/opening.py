"""The first half of a run: what is owed, planned in the ledger, and nothing sent yet.

The order is that of `planning`. Whatever stops a run here, the rows are true: what is planned is
planned anew by the next run, and a bookmark was raised only where nothing was owed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeAlias

from attrs import evolve, frozen

from postroom import planning
from postroom.config import FILE_NAME
from postroom.errors import Problem
from postroom.letters import personal
from postroom.model import FrozenLetter, Letter, Site
from postroom.planning import Book, Outlook
from postroom.send.approval import Approval, Approved, differs
from postroom.send.rows import Desk, Store

Kept: TypeAlias = Callable[[FrozenLetter], bytes | None]
"""Returns the content as which the same letter was frozen before."""


@frozen
class Consent:
    """What a person has agreed to beforehand, where a run would otherwise stop and ask.

    `yes`: the clock is right although it is far ahead (rule 15). `accept_missing`: the posts that
    vanished are meant to be gone (rule 8). `plan`: nothing but these letters may be sent.
    """

    yes: bool = False
    accept_missing: bool = False
    plan: Approval | None = None


@frozen
class Plan:
    """What a run has planned: by which clock, how many different letters, and to how many.

    `waiting` letters were put off by the mail server, and it is not yet time to try them again. Of
    `swept` nobody can tell whether they arrived: an earlier run died over them.
    """

    clock: datetime
    letters: int
    subscribers: int
    waiting: int = 0
    swept: int = 0


def lacking(site: Site) -> Iterator[Problem]:
    """Yield what the settings lack for letters to be sent."""
    yield from personal.lacking(site)
    if not site.contact.address:
        # 16 CFR 316.2(p) and 15 USC 7704(a)(5) in the United States, and their kin elsewhere.
        what, repair = "letters need a postal address", "write where your company is"
        yield Problem(FILE_NAME, key="contact.address", what=what, repair=repair)


def look(store: Store, site: Site, desk: Desk, now: datetime, consent: Consent) -> Outlook:
    """Return what a run that starts at `now` goes by; nothing is written.

    Raises `StoppedError` where in doubt, and what reading the posts raises.
    """
    book = Book(store.arrivals, store.groups)
    this = planning.begin(book, site, now, yes=consent.yes)
    news = desk.news(this.release.clock)
    return planning.look_ahead(book, site, this, news, accept_missing=consent.accept_missing)


def compare(store: Store, desk: Desk, outlook: Outlook, approval: Approval) -> None:
    """Make sure that a run would send nothing that is not in the plan; nothing is written.

    Fewer readers, or fewer letters, are no fault: some have left, or have had theirs. Welcome
    letters are not looked at: they answer one person, with posts that an earlier run knew. Raises
    `StoppedError`.
    """
    approval.require_visible(outlook.news)
    found: dict[Letter, Approved] = {}
    strangers = 0
    for one in planning.plan(Book(store.arrivals, store.groups), outlook):
        if one.letter is None:
            continue
        if one.letter not in found:
            leaving = as_sent(store.letters.kept, one.letter, outlook.run.release.clock, desk.write)
            found[one.letter] = approval.find(leaving)
        may = found[one.letter]
        readers = store.groups.readers(one.members, one.bookmark)
        strangers += sum(not may.is_for(token) for token in readers)
    _require_none(strangers)


def compare_planned(store: Store, run: int, approval: Approval) -> None:
    """Do the same with what stands in the ledger as the plan of `run`, before a letter leaves.

    Readers come, and change their wishes, while a run plans. Raises `StoppedError`.
    """
    found: dict[int, Approved | None] = {}
    strangers = 0
    for number, token in store.letters.open_in(run):
        if number not in found:
            letter = store.letters.find(number)
            greets = letter is None or letter.frequency == "welcome"
            found[number] = None if letter is None or greets else approval.find(letter)
        may = found[number]
        strangers += may is not None and not may.is_for(token)
    _require_none(strangers)


def _require_none(strangers: int) -> None:
    if strangers:
        who = f"{strangers:,} reader{'s' * (strangers != 1)}"
        raise differs(f"{who} would get a letter that they do not get in the plan")


def settle(store: Store, run: int, outlook: Outlook) -> int:
    """Close what a dead run left, and store what `run`, which holds the lease, begins with.

    Returns of how many letters a dead run left the fate uncertain.
    """
    # Before anything is planned: a letter that may have arrived must not be planned again.
    swept = len(store.ledger.sweep(run, outlook.run.release.clock))
    first = outlook.opening
    store.arrivals.settle(first.arrivals, first.struck, first.release)
    return swept


def plan(store: Store, run: int, desk: Desk, outlook: Outlook) -> Plan:
    """Freeze the letters that are owed, and plan them for all who are owed them."""
    clock = outlook.run.release.clock
    letters = _plan(store, run, desk, outlook)
    for number in planning.still_welcome(store.letters.waiting("welcome"), outlook.news):
        store.ledger.take_up(run, number)
    store.ledger.cancel_stale(run, clock)
    store.ledger.wake(run, clock)
    # Every other deferred row was cancelled as stale.
    waiting = store.ledger.tally().get("deferred", 0)
    return Plan(clock, letters, store.ledger.planned(run), waiting)


def _plan(store: Store, run: int, desk: Desk, outlook: Outlook) -> int:
    """Carry out the plan, group by group; return how many different letters it has."""
    clock = outlook.run.release.clock
    frozen_as: dict[Letter, int] = {}
    for one in planning.plan(Book(store.arrivals, store.groups), outlook):
        if one.letter is None:
            store.groups.raise_bookmarks(one.members, one.bookmark)
            continue
        if one.letter not in frozen_as:
            frozen_as[one.letter] = store.letters.freeze(freeze(one.letter, desk, clock))
        store.ledger.plan(run, one.members, frozen_as[one.letter], one.bookmark, clock)
    return len(frozen_as)


def freeze(letter: Letter, desk: Desk, clock: datetime) -> FrozenLetter:
    """Return `letter` as all who are owed its posts get it, dated `clock`."""
    return evolve(_blank(letter, clock), content=desk.write(letter, clock))


def as_sent(
    kept: Kept, letter: Letter, clock: datetime, write: Callable[[Letter, datetime], bytes]
) -> FrozenLetter:
    """Return `letter` as a run at `clock` sends it: as it was frozen, if it was, else as written.

    An earlier run that was cut off may have frozen it, and who is left gets the same.
    """
    blank = _blank(letter, clock)
    return evolve(blank, content=kept(blank) or write(letter, clock))


def _blank(letter: Letter, clock: datetime) -> FrozenLetter:
    boundary = letter.reach.before
    return FrozenLetter(letter.frequency, boundary, letter.language, letter.posts, clock)
