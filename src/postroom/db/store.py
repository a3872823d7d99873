"""The store of a site: all tables of its database, on SQLite and PostgreSQL alike.

Each public method of a table is one transaction: when the method returns, its changes are durable,
and when it raises `DatabaseError`, nothing has changed. Methods that return a generator read the
rows while it is iterated, so that a million rows need little memory. Read a generator to its end or
close it, as its transaction stays open until then.
"""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from postroom.db.bounces import BounceTable, EventTable
from postroom.db.deliveries import DeliveryTable
from postroom.db.engine import Database
from postroom.db.issues import IssueTable
from postroom.db.migrate import Locate, open_database
from postroom.db.ownership import ClaimTable
from postroom.db.runs import PostLog, RunTable
from postroom.db.subscribers import SegmentTable, SubscriberTable, SuppressionTable


@frozen
class Store:
    """The tables of a site's database."""

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
    claim: ClaimTable


def make_store(database: Database) -> Store:
    """Return the store of `database`."""
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
        ClaimTable(database),
    )


def open_store(url: str | None, site_dir: Path, locate: Locate = lambda _: None) -> Store:
    """Open the store in the database at `url`, by default in the SQLite file of the site.

    If the tables must be made, claim the database for the place that `locate` returns. Raises
    `SettingsError` if the URL is unusable or the tables are of another version, `DatabaseError` if
    the database does not answer.
    """
    return make_store(open_database(url, site_dir, locate))
