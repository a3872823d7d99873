"""Send what is owed: plan it, hand it over letter by letter, and know of each what became of it.

A run is safe to repeat. Whatever kills it, the next one finds in the ledger which letters left,
which did not, and the few, one for each open connection, of which nobody can tell (RFC 1047).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from attrs import frozen

from postroom.errors import DatabaseError
from postroom.model import Site
from postroom.send.complaints import require_few_complaints
from postroom.send.delivering import Counts, Delivering
from postroom.send.desk import NewsroomDesk
from postroom.send.greeting import greet
from postroom.send.opening import (
    Consent,
    Plan,
    compare,
    compare_planned,
    lacking,
    look,
    plan,
    settle,
)
from postroom.send.rows import Clock, Desk, Store
from postroom.send.switchboard import Way
from postroom.send.work import Planned, Sender, Uncertain, sender_of

__all__ = [
    "Consent",
    "Counts",
    "Desk",
    "NewsroomDesk",
    "Office",
    "Plan",
    "Sender",
    "Sent",
    "Way",
    "greet",
    "lacking",
    "look",
    "require_few_complaints",
    "send",
    "send_again",
    "sender_of",
]


@frozen
class Sent:
    """What a run did, and whether it came to its end.

    Of the emails in `counts`, `refused` were refused, by the state that their deliveries are in.
    `uncertain` deliveries, of this run and of earlier ones, are open at the end.
    """

    plan: Plan
    counts: Counts
    refused: Counts
    uncertain: int
    finished: bool


@frozen
class Office:
    """All that a run works with; `stopped` tells whether a signal asks it to end."""

    store: Store
    site: Site
    desk: Desk
    sender: Sender
    way: Way
    clock: Clock
    stopped: Callable[[], bool] = lambda: False
    tell: Callable[[Counts], None] = lambda _: None


def send(office: Office, consent: Consent, planned: Callable[[Plan], None]) -> Sent:
    """Do one run: plan what is owed, and send it; `planned` hears of the plan.

    Raises `LeaseError` while another run sends, `StoppedError` where the run must not go on,
    `RelayError`, `DatabaseError`, and what reading the posts and writing the letters raises. The
    ledger is true in each case, and the next run goes on from there.
    """
    with _run(office) as run:
        outlook = look(office.store, office.site, office.desk, office.clock(), consent)
        if consent.plan:
            compare(office.store, office.desk, outlook, consent.plan)
        settle(office.store, run, outlook)
        made = plan(office.store, run, office.desk, outlook, anew=consent.anew)
        if consent.plan:
            compare_planned(office.store, run, consent.plan)
        planned(made)
        steady = _not_before(made.clock, office.clock)
        work = Planned(office.store, run, steady, office.sender, office.way.write)
        return _deliver(office, work, made)


def send_again(office: Office, planned: Callable[[Plan], None]) -> Sent:
    """Send the open uncertain letters once more, and nothing else.

    Raises the same as `send`.
    """
    store, now = office.store, office.clock()
    with _run(office) as run:
        release = store.arrivals.release()
        clock = max(now, release.clock) if release else now
        news = office.desk.news(clock)
        store.ledger.sweep(run, clock)
        made = Plan(clock, 0, store.ledger.count_uncertain())
        planned(made)
        steady = _not_before(clock, office.clock)
        work = Uncertain(store, run, steady, office.sender, office.way.write, office.desk, news)
        return _deliver(office, work, made)


def _deliver(office: Office, work: Planned, made: Plan) -> Sent:
    """Deliver what was planned, and return what became of it."""
    ledger = office.store.ledger
    if not made.subscribers:
        return Sent(made, {}, {}, ledger.count_uncertain(), finished=True)
    delivering = Delivering(work, office.way, stopped=office.stopped, tell=office.tell)
    counts = delivering.run(made.subscribers)
    uncertain = ledger.count_uncertain()
    return Sent(made, counts, delivering.refused, uncertain, finished=not office.stopped())


@contextmanager
def _run(office: Office) -> Iterator[int]:
    """Hold the lease for a block."""
    run = office.store.runs.begin(office.clock())
    try:
        yield run
    finally:
        # What happened is worth more than that the end cannot be written: the lease ends anyway.
        with suppress(DatabaseError):
            office.store.runs.end(run, office.clock())


def _not_before(start: datetime, clock: Clock) -> Clock:
    """Return a clock that never shows less than `start`, wherever it is set meanwhile (rule 1)."""
    return lambda: max(start, clock())
