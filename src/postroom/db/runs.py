"""Store the post log, the runs of `send`, and the state that a run leaves to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from postroom.db.compiled import CompiledSelect, insert
from postroom.db.engine import Database
from postroom.db.ownership import LedgerPlace, require_claim
from postroom.db.schema import deliveries, lease, post_log, run_state, runs
from postroom.errors import LeaseError, Problem
from postroom.models import DeliveryState, LogEntry, PastRun, RunState


class PostLog:
    """The tables of the post log and of the state row, which holds the last run's `RunState`.

    A run changes both in one transaction.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def entries(self) -> Generator[LogEntry, None, None]:
        """Yield all entries, oldest first, including retracted ones."""
        query = sa.select(post_log).order_by(post_log.c.seq)
        return self._database.stream(query, _entry)

    def last(self) -> int:
        """Return the `seq` of the last entry, 0 if the log is empty."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.func.max(post_log.c.seq))) or 0

    def state(self) -> RunState | None:
        """Return the state row that the last run stored, None before the first run."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(run_state)).one_or_none()
            return RunState(row.clock, row.released, row.zone, row.floor) if row else None

    def apply(self, new: Sequence[LogEntry], retracted: Sequence[int], state: RunState) -> None:
        """Append the entries `new`, retract those with a `seq` in `retracted`, and store `state`.

        Raises `DatabaseError` and changes nothing if the `seq` of a new entry is in the log
        already: another run has appended entries since this run read the log.
        """
        rows = [
            {
                "seq": entry.seq,
                "day": entry.day,
                "post": entry.post_id,
                "first_day": entry.first_day,
                "retracted": entry.retracted,
                "returned": entry.returned,
            }
            for entry in new
        ]
        with self._database.writing() as connection:
            if rows:
                connection.execute(post_log.insert(), rows)
            if retracted:
                chosen = sa.update(post_log).where(post_log.c.seq.in_(retracted))
                connection.execute(chosen.values(retracted=True))
            _set_state(connection, state)


def _entry(row: sa.Row[Any]) -> LogEntry:
    return LogEntry(row.seq, row.day, row.post, row.first_day, row.retracted, row.returned)


def _set_state(connection: sa.Connection, state: RunState) -> None:
    values = {
        "clock": state.clock,
        "released": state.released,
        "zone": state.zone,
        "floor": state.floor,
    }
    statement = insert(connection, run_state).values(id=1, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


class RunTable:
    """The table of runs, and the lease: a row that names the only run that may send."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, now: datetime, here: LedgerPlace | None = None) -> int:
        """Acquire the lock and the lease, and return the id of the new run.

        Claim the database for `here` if nobody has; raise `StoppedError` and change nothing if it
        belongs elsewhere. Without `here`, the claim is not looked at. A crashed run leaves its
        lease behind, but no lock (see `Database.acquire_lock`); the new run takes over the lease.
        Raises `LeaseError` while another run is sending.
        """
        if not self._database.acquire_lock():
            raise lost_lease()
        with self._unlocked_on_error(), self._database.writing() as connection:
            if here:
                require_claim(connection, self._database.name, here)
            new = runs.insert().values(started=now).returning(runs.c.id)
            run: int = connection.execute(new).scalar_one()
            statement = insert(connection, lease).values(id=1, run=run)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["id"], set_={"run": run})
            )
            return run

    @contextmanager
    def _unlocked_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._database.release_lock()
            raise

    def last(self, most: int) -> tuple[PastRun, ...]:
        """Return up to `most` runs, newest first."""
        query = sa.select(runs).order_by(runs.c.id.desc()).limit(most)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            counts = _counts(connection, rows[-1].id) if rows else {}
        return tuple(
            PastRun(row.id, row.started, row.ended, counts.get(row.id, {})) for row in rows
        )

    def is_under_way(self) -> bool:
        """Tell whether a run is sending now.

        If no end of the last run is recorded, it has crashed or is still sending. To find out,
        try to acquire the lock for a moment.
        """
        last = self.last(1)
        if not last or last[0].ended:
            return False
        with self._database.locked() as is_ours:
            return not is_ours

    def end(self, run: int, now: datetime) -> None:
        """Record that `run` ended at `now`; release the lock, and the lease if `run` holds it."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(lease).where(lease.c.run == run))
            connection.execute(sa.update(runs).where(runs.c.id == run).values(ended=now))
        self._database.release_lock()


def _counts(connection: sa.Connection, first: int) -> dict[int, dict[DeliveryState, int]]:
    """Return the number of deliveries by run and state, for the run `first` and later ones."""
    columns = deliveries.c.run, deliveries.c.state
    query = sa.select(*columns, sa.func.count().label("number")).where(deliveries.c.run >= first)
    counts: dict[int, dict[DeliveryState, int]] = defaultdict(dict)
    for row in connection.execute(query.group_by(*columns)):
        counts[row.run][row.state] = row.number
    return counts


_LEASE_HOLDER = CompiledSelect(lambda _: sa.select(lease.c.run).with_for_update(read=True), int)


def holds_lease(connection: sa.Connection, run: int) -> bool:
    """Tell whether `run` holds the lease.

    The lease is locked, so that no other run can take it over before this transaction ends.
    """
    return _LEASE_HOLDER.all(connection, {}) == [run]


def require_lease(connection: sa.Connection, run: int) -> None:
    """Raise `LeaseError` unless `run` holds the lease.

    A run loses its lease if the database server takes its connection for dead, releases its lock,
    and another run begins.
    """
    if not holds_lease(connection, run):
        raise lost_lease()


def lost_lease() -> LeaseError:
    """Return the error for a run that cannot get, or has lost, the lease."""
    hint = "wait until it has ended, and run this again"
    return LeaseError([Problem("send", message="another run is sending", hint=hint)])
