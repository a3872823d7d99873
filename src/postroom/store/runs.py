"""Runs, and the lease that keeps two of them from sending at once."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from postroom.database.engine import Database
from postroom.database.schema import lease, runs
from postroom.database.statements import insert
from postroom.errors import LeaseError, Problem


class Runs:
    """The rows of runs and the one of the lease."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, now: datetime, until: datetime) -> int:
        """Take the lease up to the instant `until` and return the id of the new run.

        A lease whose instant has passed is taken over: its holder is dead, or has to stop. Raises
        `LeaseError` while another run holds it.
        """
        with self._database.writing() as connection:
            new = runs.insert().values(started=now).returning(runs.c.id)
            run: int = connection.execute(new).scalar_one()
            statement = insert(connection, lease).values(id=1, run=run, until=until)
            taken = connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["id"],
                    set_={"run": run, "until": until},
                    where=lease.c.until <= now,
                )
            )
            if not taken.rowcount:
                raise lost()
            return run

    def renew(self, run: int, until: datetime) -> None:
        """Hold the lease up to the instant `until`.

        Raises `LeaseError` if another run has taken it over.
        """
        statement = sa.update(lease).where(lease.c.run == run).values(until=until)
        with self._database.writing() as connection:
            if not connection.execute(statement).rowcount:
                raise lost()

    def end(self, run: int, now: datetime) -> None:
        """Give the lease back, if it is still the run's, and note when the run ended."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(lease).where(lease.c.run == run))
            connection.execute(sa.update(runs).where(runs.c.id == run).values(ended=now))


def holds_lease(connection: sa.Connection, run: int) -> bool:
    """Tell whether `run` holds the lease; if so, it keeps it until this transaction ends."""
    return connection.scalar(sa.select(lease.c.run).with_for_update(read=True)) == run


def require_lease(connection: sa.Connection, run: int) -> None:
    """Make sure that `run` holds the lease, as `holds_lease`.

    Raises `LeaseError`: a run that slept past its lease must not go on.
    """
    if not holds_lease(connection, run):
        raise lost()


def lost() -> LeaseError:
    """Return the error of a run that is not the one that sends."""
    repair = "wait until it has ended, and run this again"
    return LeaseError([Problem("send", what="another run is sending", repair=repair)])
