"""All queries, a file for each noun, written once for SQLite and PostgreSQL.

Each public method is one transaction: when it returns, what it did is durable, and when it raises
`DatabaseError` it did nothing. Those that return an iterator read as they are read from, so a
million rows need no more memory than one; let them run to their end, or close them.
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from postroom.database.engine import Database
from postroom.database.versions import open_database
from postroom.store.arrivals import Arrivals
from postroom.store.events import Events
from postroom.store.groups import Groups
from postroom.store.ledger import Ledger
from postroom.store.letters import Letters
from postroom.store.reports import Reports
from postroom.store.runs import Runs
from postroom.store.subscribers import Subscribers
from postroom.store.suppression import Suppressions


@frozen
class Store:
    """The rows of a newsroom, by noun."""

    database: Database
    subscribers: Subscribers
    suppressions: Suppressions
    arrivals: Arrivals
    groups: Groups
    letters: Letters
    ledger: Ledger
    runs: Runs
    events: Events
    reports: Reports


def store_in(database: Database) -> Store:
    """Return the store whose rows are in `database`."""
    return Store(
        database,
        Subscribers(database),
        Suppressions(database),
        Arrivals(database),
        Groups(database),
        Letters(database),
        Ledger(database),
        Runs(database),
        Events(database),
        Reports(database),
    )


def open_store(url: str | None, newsroom: Path) -> Store:
    """Open the store at the database `url`, by default the newsroom's own file.

    Raises `SettingsError` if the URL or the version of the tables is not ours, `DatabaseError` if
    the database does not answer.
    """
    return store_in(open_database(url, newsroom))
