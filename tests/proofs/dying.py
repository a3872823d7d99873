"""Run `postroom` and kill it at a point between two ledger writes.

`python dying.py POINT ARGUMENTS...` counts points from 1: each writing transaction has one
before it begins and one after it is durable. POSTROOM_MUTANT names a fault for the proof to find.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import sqlalchemy as sa

from postroom.cli.main import main
from postroom.db.deliveries import DeliveryTable
from postroom.db.engine import Database
from postroom.db.schema import deliveries
from postroom.models import ClaimedDelivery, DeliveryOutcome
from postroom.send.queue import PlannedQueue

_last, _passed = int(sys.argv[1]), 0
_writing, _claim = Database.writing, PlannedQueue.claim


def _point() -> None:
    global _passed  # noqa: PLW0603 - the process is about to die
    _passed += 1
    if _passed == _last:
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _watched(database: Database) -> Iterator[sa.Connection]:
    _point()
    with _writing(database) as connection:
        yield connection
    _point()


def _no_sweep(_ledger: DeliveryTable, _run: int, _now: datetime) -> tuple[int, ...]:
    """Leave the deliveries of a crashed run in `sending`."""
    return ()


def _sweep_to_planned(ledger: DeliveryTable, run: int, now: datetime) -> tuple[int, ...]:
    """Send uncertain emails again, as most senders do."""
    gone = sa.update(deliveries).where(deliveries.c.state == "sending", deliveries.c.run != run)
    with ledger._database.writing() as connection:  # noqa: SLF001 - broken on purpose
        connection.execute(gone.values(state="planned", changed=now))
    return ()


def _sent_too_early(
    work: PlannedQueue, outcomes: Sequence[DeliveryOutcome], limit: int
) -> Sequence[ClaimedDelivery]:
    """Record emails as sent before they are sent."""
    claims = _claim(work, outcomes, limit)
    work.record([DeliveryOutcome(claim.id, "sent") for claim in claims])
    return claims


MUTANTS = {
    "no sweep": (DeliveryTable, "sweep", _no_sweep),
    "sweep to planned": (DeliveryTable, "sweep", _sweep_to_planned),
    "sent too early": (PlannedQueue, "claim", _sent_too_early),
}

if __name__ == "__main__":
    setattr(Database, "writing", _watched)  # noqa: B010 - types forbid what is done on purpose
    if mutant := os.environ.get("POSTROOM_MUTANT"):
        setattr(*MUTANTS[mutant])
    sys.exit(main(sys.argv[2:]))
