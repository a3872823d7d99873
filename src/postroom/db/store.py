"""All queries, a file for each noun, written once for SQLite and PostgreSQL.

Each public method is one transaction: when it returns, what it did is durable, and when it raises
`DatabaseError` it did nothing. Those that return an iterator read as they are read from, so a
million rows need no more memory than one; let them run to their end, or close them.
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from postroom.db.bounces import BounceTable, EventTable
from postroom.db.deliveries import DeliveryTable
from postroom.db.engine import Database
from postroom.db.issues import IssueTable
from postroom.db.migrate import open_database
from postroom.db.runs import PostLog, RunTable
from postroom.db.subscribers import SegmentTable, SubscriberTable, SuppressionTable


@frozen
class Store:
    """The rows of a newsroom, by noun."""

    database: Database
    subscribers: SubscriberTable
    suppressions: SuppressionTable
    post_log: PostLog
    segments: SegmentTable
    issues: IssueTable
    deliveries: DeliveryTable
    runs: RunTable
    events: EventTable
    bounces: BounceTable


def make_store(database: Database) -> Store:
    """Return the store whose rows are in `database`."""
    return Store(
        database,
        SubscriberTable(database),
        SuppressionTable(database),
        PostLog(database),
        SegmentTable(database),
        IssueTable(database),
        DeliveryTable(database),
        RunTable(database),
        EventTable(database),
        BounceTable(database),
    )


def open_store(url: str | None, site_dir: Path) -> Store:
    """Open the store at the database `url`, by default the newsroom's own file.

    Raises `SettingsError` if the URL or the version of the tables is not ours, `DatabaseError` if
    the database does not answer.
    """
    return make_store(open_database(url, site_dir))
