"""The first half of a run: what is owed, planned in the ledger, and nothing sent yet.

The order is that of `planning`. Whatever stops a run here, the rows are true: what is planned is
planned anew by the next run, and a bookmark was raised only where nothing was owed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from attrs import frozen

from postroom import planning
from postroom.config import FILE_NAME
from postroom.errors import Problem
from postroom.letters import personal
from postroom.model import Letter, Site
from postroom.planning import Book, Outlook
from postroom.send.approval import Approval, Approved, differs
from postroom.send.rows import Desk, Store
from postroom.send.wording import Worded, worded


@frozen
class Consent:
    """What a person has agreed to beforehand, where a run would otherwise stop and ask.

    `yes`: the clock is right although it is far ahead (rule 15). `accept_missing`: the posts that
    vanished are meant to be gone (rule 8). `plan`: nothing but these letters may be sent. `anew`:
    letters that some have already may say something else to the others.
    """

    yes: bool = False
    accept_missing: bool = False
    anew: bool = False
    plan: Approval | None = None


@frozen
class Plan:
    """What a run has planned: by which clock, how many different letters, and to how many.

    `waiting` letters were put off by the mail server, and it is not yet time to try them again.
    `uncertain` deliveries of earlier runs are open. `outdated` are the instants at which letters
    were written that keep their words, since some have them already.
    """

    clock: datetime
    letters: int
    subscribers: int
    waiting: int = 0
    uncertain: int = 0
    outdated: tuple[datetime, ...] = ()


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
            clock = outlook.run.release.clock
            found[one.letter] = approval.find(
                worded(store.letters, one.letter, clock, desk.write).letter
            )
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


def settle(store: Store, run: int, outlook: Outlook) -> None:
    """Close what a dead run left, and store what `run`, which holds the lease, begins with."""
    # Before anything is planned: a letter that may have arrived must not be planned again.
    store.ledger.sweep(run, outlook.run.release.clock)
    first = outlook.opening
    store.arrivals.settle(first.arrivals, first.struck, first.release)


def plan(store: Store, run: int, desk: Desk, outlook: Outlook, *, anew: bool = False) -> Plan:
    """Freeze the letters that are owed, and plan them for all who are owed them.

    `anew` is that of `Consent`.
    """
    clock = outlook.run.release.clock
    letters = _plan(store, run, desk, outlook, anew=anew)
    for number in planning.still_welcome(store.letters.waiting("welcome"), outlook.news):
        store.ledger.take_up(run, number)
    store.ledger.cancel_stale(run, clock)
    store.ledger.wake(run, clock)
    # Every other deferred row was cancelled as stale.
    waiting = store.ledger.tally().get("deferred", 0)
    outdated = tuple(sorted(one.letter.date for one in letters.values() if one.is_outdated))
    uncertain = store.ledger.count_uncertain()
    return Plan(clock, len(letters), store.ledger.planned(run), waiting, uncertain, outdated)


def _plan(
    store: Store, run: int, desk: Desk, outlook: Outlook, *, anew: bool
) -> Mapping[Letter, Worded]:
    """Carry out the plan, group by group; return its letters."""
    clock = outlook.run.release.clock
    letters: dict[Letter, Worded] = {}
    numbers: dict[Letter, int] = {}
    for one in planning.plan(Book(store.arrivals, store.groups), outlook):
        if one.letter is None:
            store.groups.raise_bookmarks(one.members, one.bookmark)
            continue
        if one.letter not in letters:
            new = worded(store.letters, one.letter, clock, desk.write, anew=anew)
            letters[one.letter] = new
            numbers[one.letter] = new.letter.id or store.letters.freeze_anew(new.letter)
        store.ledger.plan(run, one.members, numbers[one.letter], one.bookmark, clock)
    return letters
