"""A welcome for who has just come: planned now, sent by the run that is under way or the next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from postroom import planning
from postroom.model import Site, Subscriber
from postroom.planning import Book
from postroom.send.rows import Desk, Store
from postroom.send.wording import freeze


def greet(
    store: Store, site: Site, desk: Desk, now: datetime, newcomers: Iterable[Subscriber]
) -> int:
    """Plan a welcome letter for each of `newcomers`, active since their first confirmation.

    Returns for how many. Before the first run there is nothing to welcome with. Raises what
    reading the posts and writing the letter raises.
    """
    if not site.digest.welcome:
        return 0
    book = Book(store.arrivals, store.groups)
    # As if a run began now, which is not stored; nor does it matter how long the last is ago.
    run = planning.begin(book, site, now, yes=True)
    news = desk.news(run.release.clock)
    greeted = 0
    for newcomer in newcomers:
        letter = planning.greeting(book, site, run, news, newcomer)
        if letter:
            number = store.letters.freeze(freeze(letter, run.release.clock, desk.write))
            greeted += store.ledger.greet(newcomer.id, number, run.release.clock)
    return greeted
