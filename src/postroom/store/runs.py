"""Runs, and the lease that keeps two of them from sending at once."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

import sqlalchemy as sa

from postroom.database.engine import Database
from postroom.database.ready import Question
from postroom.database.schema import deliveries, lease, runs
from postroom.database.statements import insert
from postroom.errors import LeaseError, Problem
from postroom.model import DeliveryState, PastRun


class Runs:
    """The rows of runs and the one of the lease."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, now: datetime) -> int:
        """Take the lease and return the id of the new run.

        A run that died holds its lease no more, whatever the clock says, and one that lives does:
        see `Database.take_turn`. Raises `LeaseError` while another run sends.
        """
        if not self._database.take_turn():
            raise lost()
        with self._database.writing() as connection:
            new = runs.insert().values(started=now).returning(runs.c.id)
            run: int = connection.execute(new).scalar_one()
            statement = insert(connection, lease).values(id=1, run=run)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["id"], set_={"run": run})
            )
            return run

    def last(self, most: int) -> tuple[PastRun, ...]:
        """Return the last runs, the newest first."""
        asked = sa.select(runs).order_by(runs.c.id.desc()).limit(most)
        with self._database.reading() as connection:
            rows = connection.execute(asked).all()
            counts = _counts(connection, rows[-1].id) if rows else {}
        return tuple(
            PastRun(row.id, row.started, row.ended, counts.get(row.id, {})) for row in rows
        )

    def is_under_way(self) -> bool:
        """Tell whether a run sends at this moment.

        Where the last run has not ended, the turn is taken for an instant to find out.
        """
        last = self.last(1)
        if not last or last[0].ended:
            return False
        with self._database.turn() as is_ours:
            return not is_ours

    def end(self, run: int, now: datetime) -> None:
        """Give the lease back, if it is still the run's, and note when the run ended."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(lease).where(lease.c.run == run))
            connection.execute(sa.update(runs).where(runs.c.id == run).values(ended=now))
        self._database.give_turn_back()


def _counts(connection: sa.Connection, first: int) -> dict[int, dict[DeliveryState, int]]:
    """Return how many letters of the run `first` and of later ones are in each state."""
    columns = deliveries.c.run, deliveries.c.state
    asked = sa.select(*columns, sa.func.count().label("number")).where(deliveries.c.run >= first)
    counts: dict[int, dict[DeliveryState, int]] = defaultdict(dict)
    for row in connection.execute(asked.group_by(*columns)):
        counts[row.run][row.state] = row.number
    return counts


_HOLDER = Question(lambda _: sa.select(lease.c.run).with_for_update(read=True), int)


def holds_lease(connection: sa.Connection, run: int) -> bool:
    """Tell whether `run` holds the lease; if so, it keeps it until this transaction ends."""
    return _HOLDER.ask(connection, {}) == [run]


def require_lease(connection: sa.Connection, run: int) -> None:
    """Make sure that `run` holds the lease, as `holds_lease`.

    Raises `LeaseError`: a run whose connection to the database was
    taken for dead must not go on.
    """
    if not holds_lease(connection, run):
        raise lost()


def lost() -> LeaseError:
    """Return the error of a run that is not the one that sends."""
    repair = "wait until it has ended, and run this again"
    return LeaseError([Problem("send", what="another run is sending", repair=repair)])
