"""Arrivals, an append-only log, and the release, the one state row of the sender."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from postroom.db.compiled import CompiledSelect, insert
from postroom.db.engine import Database
from postroom.db.schema import deliveries, lease, post_log, run_state, runs
from postroom.errors import LeaseError, Problem
from postroom.models import DeliveryState, LogEntry, PastRun, RunState


class PostLog:
    """The rows of arrivals and the state row, which change together or not at all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def entries(self) -> Generator[LogEntry, None, None]:
        """Yield every arrival, the struck ones too, in the order of the log."""
        asked = sa.select(post_log).order_by(post_log.c.seq)
        return self._database.stream(asked, _arrival)

    def last(self) -> int:
        """Return the last seq of the log, 0 for an empty one."""
        with self._database.reading() as connection:
            return connection.scalar(sa.select(sa.func.max(post_log.c.seq))) or 0

    def state(self) -> RunState | None:
        """Return the state row as the last run left it; there is none before the first run."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(run_state)).one_or_none()
            return RunState(row.clock, row.released, row.zone, row.floor) if row else None

    def apply(self, new: Sequence[LogEntry], struck: Sequence[int], state: RunState) -> None:
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
                "retracted": arrival.retracted,
                "returned": arrival.returned,
            }
            for arrival in new
        ]
        with self._database.writing() as connection:
            if rows:
                connection.execute(post_log.insert(), rows)
            if struck:
                chosen = sa.update(post_log).where(post_log.c.seq.in_(struck))
                connection.execute(chosen.values(retracted=True))
            _set_release(connection, state)


def _arrival(row: sa.Row[Any]) -> LogEntry:
    return LogEntry(row.seq, row.day, row.post, row.first_day, row.retracted, row.returned)


def _set_release(connection: sa.Connection, state: RunState) -> None:
    values = {
        "clock": state.clock,
        "released": state.released,
        "zone": state.zone,
        "floor": state.floor,
    }
    statement = insert(connection, run_state).values(id=1, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


class RunTable:
    """The rows of runs and the one of the lease."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, now: datetime) -> int:
        """Take the lease and return the id of the new run.

        A run that died holds its lease no more, whatever the clock says, and one that lives does:
        see `Database.take_turn`. Raises `LeaseError` while another run sends.
        """
        if not self._database.acquire_lock():
            raise lost_lease()
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
        self._database.release_lock()


def _counts(connection: sa.Connection, first: int) -> dict[int, dict[DeliveryState, int]]:
    """Return how many letters of the run `first` and of later ones are in each state."""
    columns = deliveries.c.run, deliveries.c.state
    asked = sa.select(*columns, sa.func.count().label("number")).where(deliveries.c.run >= first)
    counts: dict[int, dict[DeliveryState, int]] = defaultdict(dict)
    for row in connection.execute(asked.group_by(*columns)):
        counts[row.run][row.state] = row.number
    return counts


_HOLDER = CompiledSelect(lambda _: sa.select(lease.c.run).with_for_update(read=True), int)


def holds_lease(connection: sa.Connection, run: int) -> bool:
    """Tell whether `run` holds the lease; if so, it keeps it until this transaction ends."""
    return _HOLDER.all(connection, {}) == [run]


def require_lease(connection: sa.Connection, run: int) -> None:
    """Make sure that `run` holds the lease, as `holds_lease`.

    Raises `LeaseError`: a run whose connection to the database was
    taken for dead must not go on.
    """
    if not holds_lease(connection, run):
        raise lost_lease()


def lost_lease() -> LeaseError:
    """Return the error of a run that is not the one that sends."""
    repair = "wait until it has ended, and run this again"
    return LeaseError([Problem("send", message="another run is sending", hint=repair)])
