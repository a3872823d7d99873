"""Recognise a database that was copied, or that another site uses: its claim says where it is used.

The claim is one row: the id of the site, the machine and the path of the file. Two copies of an
SQLite file would send every email twice, so `send` refuses the copy that lies elsewhere. A
PostgreSQL database is reached from any machine, so there only the site counts.
"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import sqlalchemy as sa
from attrs import frozen

from postroom.db.compiled import insert
from postroom.db.engine import Database
from postroom.db.schema import ledger_claim
from postroom.errors import Problem, StoppedError

# machine-id(5): systemd and D-Bus make it when the system is installed.
MACHINE_ID = Path("/etc/machine-id")
_ID_LENGTH = 32
_HINT = "if no other copy sends any more, run: postroom db claim"


@frozen
class LedgerPlace:
    """The site, machine and path that a database is used by.

    `machine` is a hash that recognises the machine, and `host` its name for messages. `machine`,
    `host` and `path` are empty for PostgreSQL, and for a file that moves from machine to machine.
    """

    site: str
    machine: str = ""
    host: str = ""
    path: str = ""


def make_place(database: Database, site_id: str, *, moves: bool) -> LedgerPlace:
    """Return the place of `database` when the site with this id uses it on this machine.

    `moves` says that the file is kept somewhere else between two runs, as in CI; then machine and
    path do not count.
    """
    if moves or not database.is_sqlite:
        return LedgerPlace(site_id)
    # Names of files may hold bytes that are not UTF-8, which no database can store.
    path = database.path.encode("utf-8", "replace").decode()
    return LedgerPlace(site_id, identify_machine(), socket.gethostname(), path)


def identify_machine() -> str:
    """Return a hash that recognises this machine: of its machine id, else of its host name.

    The machine id itself is confidential (machine-id(5)).
    """
    try:
        found = MACHINE_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        found = ""
    # While a system starts for the first time, the file says "uninitialized".
    identity = found if len(found) == _ID_LENGTH else socket.gethostname()
    return hashlib.sha256(f"postroom ledger\0{identity}".encode()).hexdigest()


def find_difference(name: str, claim: LedgerPlace | None, here: LedgerPlace) -> Problem | None:
    """Return why the database called `name` must not send from `here`, None if it may.

    `claim` is the place where it was claimed, None if nobody has claimed it yet.
    """
    if claim is None:
        return None
    if claim.site != here.site:
        message = f"belongs to the site '{claim.site}', and the id of this site is '{here.site}'"
        hint = "correct POSTROOM_DATABASE_URL or the id; if the site has a new id, "
        return Problem(name, message=message, hint=f"{hint}run: postroom db claim")
    if not here.machine:
        return None
    message, hint = _moved(claim, here), _HINT
    if not claim.machine:
        message = "was used with --keep-ledger-here, so another machine may have a newer copy"
        hint = f"pass it again; or, {_HINT}"
    return Problem(name, message=message, hint=hint) if message else None


def _moved(claim: LedgerPlace, here: LedgerPlace) -> str:
    """Return how the machine or the path differs, "" if both are the same."""
    if claim.machine != here.machine:
        return f"belongs to the machine '{claim.host}', and is a copy or was moved here"
    if claim.path != here.path:
        return f"belongs at {claim.path}, and is a copy or was moved to {here.path}"
    return ""


class ClaimTable:
    """The table of the claim."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self) -> LedgerPlace | None:
        """Return the place where the database was claimed, None if nobody has claimed it yet."""
        with self._database.reading() as connection:
            return _find(connection)

    def find_difference(self, here: LedgerPlace) -> Problem | None:
        """Return why the database must not send from `here`, None if it may."""
        return find_difference(self._database.name, self.find(), here)

    def replace(self, here: LedgerPlace) -> None:
        """Claim the database for `here`, whoever has claimed it before."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(ledger_claim))
            add_claim(connection, here)


def add_claim(connection: sa.Connection, here: LedgerPlace) -> None:
    """Claim an unclaimed database for `here` within the caller's transaction."""
    values = {
        "site": here.site,
        "machine": here.machine,
        "host": here.host,
        "path": here.path,
    }
    statement = insert(connection, ledger_claim).values(id=1, **values)
    connection.execute(statement.on_conflict_do_nothing())


def require_claim(connection: sa.Connection, name: str, here: LedgerPlace) -> None:
    """Claim the database for `here` if nobody has; raise `StoppedError` if it belongs elsewhere."""
    claim = _find(connection)
    if problem := find_difference(name, claim, here):
        raise StoppedError([problem])
    if claim is None:
        add_claim(connection, here)


def _find(connection: sa.Connection) -> LedgerPlace | None:
    row = connection.execute(sa.select(ledger_claim)).one_or_none()
    return LedgerPlace(row.site, row.machine, row.host, row.path) if row else None
