"""Send what is owed: plan it, hand it over letter by letter, and know of each what became of it.

A run is safe to repeat. Whatever kills it, the next one finds in the ledger which letters left,
which did not, and the few, one for each open connection, of which nobody can tell (RFC 1047).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from attrs import frozen

from postroom import planning
from postroom.errors import DatabaseError
from postroom.model import Site
from postroom.planning import Book
from postroom.send.delivering import Counts, Delivering
from postroom.send.desk import NewsroomDesk
from postroom.send.opening import Consent, Opened, look, open_run
from postroom.send.rows import Clock, Desk, Store
from postroom.send.switchboard import Way
from postroom.send.work import Planned, Sender, Uncertain, sender_of

__all__ = [
    "Consent",
    "Counts",
    "Desk",
    "NewsroomDesk",
    "Opened",
    "Sender",
    "Sent",
    "Way",
    "send",
    "send_again",
    "sender_of",
]


@frozen
class Sent:
    """What a run did: how it opened, and what became of its letters."""

    opened: Opened
    counts: Counts
    finished: bool


@frozen
class Office:
    """All that a run works with."""

    store: Store
    site: Site
    desk: Desk
    sender: Sender
    way: Way
    clock: Clock
    stopped: Callable[[], bool]
