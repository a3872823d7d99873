"""Create the tables of an empty database, and migrate older tables for `db upgrade`.

Migrations use alembic, which is imported only when a migration runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import sqlalchemy as sa

from postroom.db.engine import Database, make_engine
from postroom.db.ownership import LedgerPlace, add_claim
from postroom.db.schema import VERSIONS, metadata, version
from postroom.errors import Problem, SettingsError

MIGRATIONS = Path(__file__).parent / "migrations"
# The number of PostgreSQL's advisory lock while the tables are created.
_CREATE_LOCK = 7_670_001


Locate: TypeAlias = Callable[[Database], LedgerPlace | None]
"""Returns the place of a database, to claim it; None if the id of the site is not known."""


def open_database(url: str | None, site_dir: Path, locate: Locate = lambda _: None) -> Database:
    """Return the database at `url`; create its tables if it has none, and claim it.

    `locate` returns the place to claim it for, and is called only for new tables. Raises
    `SettingsError` if the tables are of another version than this program needs, and
    `DatabaseError` if the database does not answer.
    """
    database = make_engine(url, site_dir)
    try:
        require_tables(database, locate)
    except BaseException:
        database.close()
        raise
    return database


def require_tables(database: Database, locate: Locate = lambda _: None) -> None:
    """Create the tables if there are none, and claim the database for the place from `locate`.

    Raises `SettingsError` if there are tables of another version than this program needs.
    """
    with database.reading() as connection:
        found = _find_version(connection)
    if found is None:
        found = _create_tables(database, locate(database))
    if found == VERSIONS[-1]:
        return
    if found in VERSIONS:
        message, hint = "is of an older Postroom", "run: postroom db upgrade"
    else:
        message, hint = f"is of a newer Postroom (version '{found}')", "upgrade Postroom"
    raise SettingsError([Problem(database.name, message=message, hint=hint)])


def _find_version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(version.name):
        return None
    return connection.scalar(sa.select(version.c.version_num))


def _create_tables(database: Database, place: LedgerPlace | None) -> str:
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATE_LOCK)))
        # Another process may have created them before we had the lock.
        if (found := _find_version(connection)) is None:
            metadata.create_all(connection, checkfirst=False)
            connection.execute(version.insert().values(version_num=VERSIONS[-1]))
            if place:
                add_claim(connection, place)
            found = VERSIONS[-1]
    return found


def upgrade(database: Database) -> str:
    """Migrate the tables to the version of this program in one transaction; return the version.

    Raises `SettingsError` if the tables are of a newer Postroom.
    """
    with database.reading() as connection:
        found = _find_version(connection)
    if found in VERSIONS[:-1]:
        with database.writing() as connection:
            migrate(connection)
    require_tables(database)
    return VERSIONS[-1]


def migrate(connection: sa.Connection) -> None:
    """Run the migrations that the database lacks, within the transaction of `connection`."""
    from alembic import command  # noqa: PLC0415 - it takes 150 ms to import
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
