"""Arrivals, an append-only log, and the release, the one state row of the sender."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import sqlalchemy as sa

from postroom.database.engine import Database
from postroom.database.schema import arrivals, release
from postroom.database.statements import insert
from postroom.model import Arrival, Release


class Arrivals:
    """The rows of arrivals and the state row, which change together or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def log(self) -> Generator[Arrival, None, None]:
        """Yield every arrival, the struck ones too, in the order of the log."""
        asked = sa.select(arrivals).order_by(arrivals.c.seq)
        return self._database.stream(asked, _arrival)

    def last(self) -> int:
        """Return the last seq of the log, 0 for an empty one."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.func.max(arrivals.c.seq))) or 0

    def release(self) -> Release | None:
        """Return the state row as the last run left it; there is none before the first run."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(release)).one_or_none()
            return Release(row.clock, row.released, row.zone, row.floor) if row else None

    def settle(self, new: Sequence[Arrival], struck: Sequence[int], state: Release) -> None:
        """Append `new` to the log, strike the arrivals with the seqs `struck`, set the state row.

        A seq that is in the log already is refused (`DatabaseError`), with nothing changed: two
        runs have read the same end of the log.
        """
        rows = [
            {
                "seq": arrival.seq,
                "day": arrival.day,
                "post": arrival.post_id,
                "first_day": arrival.first_day,
                "struck": arrival.struck,
                "returned": arrival.returned,
            }
            for arrival in new
        ]
        with self._database.writing() as connection:
            if rows:
                connection.execute(arrivals.insert(), rows)
            if struck:
                chosen = sa.update(arrivals).where(arrivals.c.seq.in_(struck))
                connection.execute(chosen.values(struck=True))
            _set_release(connection, state)


def _arrival(row: sa.Row[Any]) -> Arrival:
    return Arrival(row.seq, row.day, row.post, row.first_day, row.struck, row.returned)


def _set_release(connection: sa.Connection, state: Release) -> None:
    values = {
        "clock": state.clock,
        "released": state.released,
        "zone": state.zone,
        "floor": state.floor,
    }
    statement = insert(connection, release).values(id=1, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
