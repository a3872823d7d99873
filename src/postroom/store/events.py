"""Events: what must be provable later, such as who consented when, and to what."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import sqlalchemy as sa

from postroom.database.engine import Database
from postroom.database.schema import events
from postroom.model import Event


class Events:
    """The rows of events; those of a subscriber go with the subscriber."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, happened: Sequence[Event]) -> None:
        """Write events."""
        rows = [
            {"at": e.at, "kind": e.kind, "detail": e.detail, "subscriber": e.subscriber}
            for e in happened
        ]
        if rows:
            with self._database.writing() as connection:
                connection.execute(events.insert(), rows)

    def of(self, subscriber: int | None) -> Generator[Event, None, None]:
        """Yield the events of a subscriber, or those of the list as a whole, oldest first."""
        asked = sa.select(events).where(events.c.subscriber == subscriber).order_by(events.c.id)
        return self._database.stream(
            asked, lambda row: Event(row.at, row.kind, row.detail, row.subscriber)
        )
