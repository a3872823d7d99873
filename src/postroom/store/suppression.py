"""Suppressions: keyed hashes of the addresses to which nothing may be sent again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from postroom.database.engine import Database
from postroom.database.schema import subscribers, suppression_key, suppressions
from postroom.database.statements import insert
from postroom.errors import Problem, SettingsError
from postroom.model import Reason


class Suppressions:
    """The rows of suppressions; the hashes are made elsewhere, from the oldest secret key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def require_key(self, proof: str) -> None:
        """Remember by `proof` which key makes the hashes; later, refuse another.

        With another key every suppressed address would look new. Raises `SettingsError`.
        """
        with self._database.writing() as connection:
            statement = insert(connection, suppression_key).on_conflict_do_nothing()
            connection.execute(statement.values(id=1, proof=proof))
            kept = connection.scalar(sa.select(suppression_key.c.proof))
        if kept != proof:
            what = "its last key is not the one that this database's suppressions were made with"
            repair = "put that key back, as the last of the list"
            raise SettingsError([Problem("POSTROOM_SECRET_KEY", what=what, repair=repair)])

    def among(self, hashes: Sequence[str]) -> frozenset[str]:
        """Return those of `hashes` that are suppressed."""
        asked = sa.select(suppressions.c.hash).where(suppressions.c.hash.in_(hashes))
        with self._database.reading() as connection:
            return frozenset(connection.scalars(asked))

    def suppress(self, reasons: Mapping[str, Reason], at: datetime) -> None:
        """Suppress these hashes; one that is suppressed already keeps its first reason."""
        if reasons:
            with self._database.writing() as connection:
                suppress(connection, reasons, at)

    def lift(self, hashed: str) -> bool:
        """Lift one suppression: its owner has confirmed anew."""
        statement = sa.delete(suppressions).where(suppressions.c.hash == hashed)
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1

    def forget(self, key: str, hashed: str, at: datetime) -> bool:
        """Delete all that is known of the address with this key, and suppress its hash.

        Deliveries and events go with the subscriber. Returns whether it was known.
        """
        with self._database.writing() as connection:
            suppress(connection, {hashed: "forgotten"}, at)
            gone = connection.execute(sa.delete(subscribers).where(subscribers.c.key == key))
        self._database.forget_traces()
        return gone.rowcount == 1


def suppress(connection: sa.Connection, reasons: Mapping[str, Reason], at: datetime) -> None:
    """Suppress these hashes within a transaction that writes; the first reason stays."""
    statement = insert(connection, suppressions).on_conflict_do_nothing()
    rows = [{"hash": hashed, "reason": reason, "at": at} for hashed, reason in reasons.items()]
    connection.execute(statement, rows)
