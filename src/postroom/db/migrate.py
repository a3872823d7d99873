"""The version of a database's tables: an empty one gets them, an older one waits for `db upgrade`.

Migrations are alembic's, which is imported only to run them.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from postroom.db.engine import Database, make_engine
from postroom.db.schema import VERSIONS, metadata, version
from postroom.errors import Problem, SettingsError

MIGRATIONS = Path(__file__).parent / "migrations"
# Any number, as long as it is ours: PostgreSQL's lock while the tables are made.
_LOCK = 7_670_001


def open_database(url: str | None, site_dir: Path) -> Database:
    """Return the database at `url`, with its tables there and of our version.

    Raises `SettingsError` if they are of another version, `DatabaseError` if it does not answer.
    """
    database = make_engine(url, site_dir)
    try:
        require_tables(database)
    except BaseException:
        database.close()
        raise
    return database


def require_tables(database: Database) -> None:
    """Make the tables if there are none, and refuse those of another version.

    Raises `SettingsError`.
    """
    with database.reading() as connection:
        found = _found(connection)
    if found is None:
        found = _made(database)
    if found == VERSIONS[-1]:
        return
    if found in VERSIONS:
        what, repair = "is of an older Postroom", "run: postroom db upgrade"
    else:
        what, repair = f"is of a newer Postroom (version '{found}')", "upgrade Postroom"
    raise SettingsError([Problem(database.name, message=what, hint=repair)])


def _found(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(version.name):
        return None
    return connection.scalar(sa.select(version.c.version_num))


def _made(database: Database) -> str:
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        # Another may have made them between the look and the lock.
        if (found := _found(connection)) is None:
            metadata.create_all(connection, checkfirst=False)
            connection.execute(version.insert().values(version_num=VERSIONS[-1]))
            found = VERSIONS[-1]
    return found


def upgrade(database: Database) -> str:
    """Bring the tables up to our version, whole or not at all, and return it.

    Raises `SettingsError` for those of a newer Postroom.
    """
    with database.reading() as connection:
        found = _found(connection)
    if found in VERSIONS[:-1]:
        with database.writing() as connection:
            migrate(connection)
    require_tables(database)
    return VERSIONS[-1]


def migrate(connection: sa.Connection) -> None:
    """Run the migrations that the database has not seen, within the connection's transaction."""
    from alembic import command  # noqa: PLC0415 - 150 ms that only this needs
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
