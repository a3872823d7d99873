"""Opening the database, the errors when that fails, and migrations."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from postroom.db import migrate
from postroom.db.engine import Database, make_engine
from postroom.db.migrate import open_database, require_tables, upgrade
from postroom.db.schema import (
    VERSIONS,
    StringList,
    UtcDateTime,
    metadata,
    runs,
    subscribers,
    suppressions,
)
from postroom.errors import DatabaseError, PostroomError, SettingsError
from tests.support import postgresql
from tests.support.site import CommandResult, MakeSite

NEXT = f'''\
"""A column more."""
import sqlalchemy as sa
from alembic import op

revision = "9002"
down_revision = "{VERSIONS[-1]}"
branch_labels = None
depends_on = None


def upgrade():
    """Add it."""
    op.add_column("post_log", sa.Column("note", sa.Text()))
    {{then}}
'''


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """Open an empty database of each kind."""
    opened = open_database(database_url, tmp_path)
    yield opened
    opened.close()


def line_of(error: pytest.ExceptionInfo[PostroomError]) -> str:
    """Return the only line of an error."""
    (problem,) = error.value.problems
    assert "\n" not in str(problem)
    return str(problem)


def test_an_empty_database_gets_its_tables(database: Database) -> None:
    """The first use of an empty database creates all tables, and the second changes nothing."""
    require_tables(database)
    with database.reading() as connection:
        assert set(sa.inspect(connection).get_table_names()) == set(metadata.tables)


def test_several_programs_can_open_an_empty_database(database_url: str, tmp_path: Path) -> None:
    """If several programs open an empty database at once, one creates the tables and none fails."""
    failed: list[Exception] = []

    def open_it() -> None:
        try:
            open_database(database_url, tmp_path).close()
        except PostroomError as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_the_default_is_a_private_file(tmp_path: Path) -> None:
    """Without a URL the database is SQLite in .postroom, readable by its owner alone."""
    database = open_database(None, tmp_path)
    path = tmp_path / ".postroom/postroom.db"
    with database.writing() as connection:
        connection.execute(runs.insert().values(started=datetime.now(UTC)))
        files = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert files == dict.fromkeys(["postroom.db", "postroom.db-wal", "postroom.db-shm"], 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert database.name == ".postroom/postroom.db"
    database.close()


def test_a_relative_file_is_in_the_site(tmp_path: Path) -> None:
    """The path of an SQLite file is relative to the site, not to the current folder."""
    open_database("sqlite:///kept/news.db", tmp_path).close()
    assert (tmp_path / "kept/news.db").is_file()


def test_sqlite_is_durable(tmp_path: Path) -> None:
    """Each connection syncs to disk, enforces foreign keys and wipes deleted rows."""
    database = open_database(None, tmp_path)
    for _ in range(2):
        with database.reading() as connection:
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
            }
        assert found == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "secure_delete": 1,
        }
        database.close()


def test_a_writer_locks_at_once(tmp_path: Path) -> None:
    """A writing transaction on SQLite locks before it reads, so it never fails half-way."""
    database = make_engine(None, tmp_path, timeout=0.05)
    require_tables(database)
    with database.writing(), pytest.raises(DatabaseError, match="is locked"), database.writing():
        pass
    database.close()


def test_reading_is_possible_during_a_write(database: Database) -> None:
    """A reading connection sees the last committed state during a write."""
    with database.writing() as writer:
        writer.execute(runs.insert().values(started=datetime.now(UTC)))
        with database.reading() as reader:
            assert reader.execute(sa.select(runs)).all() == []


def test_a_failed_transaction_changes_nothing(database: Database) -> None:
    """A transaction takes effect wholly or not at all."""

    def write_and_fail() -> None:
        with database.writing() as connection:
            connection.execute(runs.insert().values(started=datetime.now(UTC)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    with database.reading() as connection:
        assert connection.execute(sa.select(runs)).all() == []


@pytest.mark.parametrize(
    "instant",
    [
        datetime(2026, 11, 22, 9, 0, 0, 123456, UTC),
        datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=1))),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
    ],
)
def test_instants_are_stored_exactly(database: Database, instant: datetime) -> None:
    """An instant is stored to the microsecond, in UTC, on either database."""
    with database.writing() as connection:
        connection.execute(runs.insert().values(started=instant))
        stored = connection.execute(sa.select(runs.c.started)).scalar_one()
    assert (stored, stored.utcoffset()) == (instant, timedelta(0))


@pytest.mark.parametrize("query", ["", "&options=-c%20lock_timeout%3D5000"])
def test_the_zone_of_the_server_changes_no_instant(
    postgresql_server: postgresql.Server, tmp_path: Path, query: str
) -> None:
    """The session uses UTC, whatever time zone the server or the URL sets."""
    url = postgresql_server.emptied()
    postgresql_server.execute("ALTER DATABASE postgres SET timezone TO 'Pacific/Auckland'")
    try:
        with (
            closing(open_database(url + query, tmp_path)) as database,
            database.reading() as connection,
        ):
            last = "SELECT TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'"
            stored = connection.exec_driver_sql(last).scalar_one()
            patience = connection.exec_driver_sql("SHOW lock_timeout").scalar_one()
    finally:
        postgresql_server.execute("ALTER DATABASE postgres RESET timezone")
    assert stored == datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
    assert patience == ("5s" if query else "10s")


def test_instants_are_ordered_and_need_a_zone(database: Database) -> None:
    """Instants written in several time zones are in order; one without a time zone is refused."""
    early = datetime(2026, 11, 22, 9, tzinfo=timezone(timedelta(hours=9)))
    late = datetime(2026, 11, 22, 1, tzinfo=UTC)
    with database.writing() as connection:
        connection.execute(runs.insert(), [{"started": late}, {"started": early}])
        stored = connection.scalars(sa.select(runs.c.started).order_by(runs.c.started)).all()
        after = sa.select(sa.func.count()).where(runs.c.started > early)
        assert connection.scalar(after) == 1
    assert stored == [early, late]
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(ValueError, match="needs a zone"):
        UtcDateTime().process_bind_param(naive, sa.create_engine("sqlite://").dialect)


def test_equal_sets_are_equal_texts(database: Database) -> None:
    """A set of topics has one stored form, so that equal sets are one group."""
    dialect = database.engine.dialect
    text = StringList().process_bind_param(frozenset({"Ünïcode", 'a "b", c', "A"}), dialect)
    assert text == '["A","a \\"b\\", c","Ünïcode"]'
    assert StringList().process_result_value(text, dialect) == frozenset(
        {"Ünïcode", 'a "b", c', "A"}
    )
    assert StringList().process_bind_param(None, dialect) is None
    assert StringList().process_result_value(None, dialect) is None


def test_ids_are_never_reused(database: Database) -> None:
    """The id of a deleted row is not reused, because a Message-ID is made of it."""
    with database.writing() as connection:
        first = connection.execute(
            runs.insert().values(started=datetime.now(UTC)).returning(runs.c.id)
        ).scalar_one()
        connection.execute(sa.delete(runs))
        second = connection.execute(
            runs.insert().values(started=datetime.now(UTC)).returning(runs.c.id)
        ).scalar_one()
    assert second > first


def test_unknown_states_are_refused(database: Database) -> None:
    """The database itself refuses an unknown state, and the error contains no value of the row."""
    row = {"hash": "secret", "reason": "whim", "at": datetime.now(UTC)}
    with pytest.raises(DatabaseError) as caught, database.writing() as connection:
        connection.execute(suppressions.insert().values(row))
    assert "secret" not in line_of(caught)
    assert "suppressions" in line_of(caught)


def test_errors_contain_no_address(database: Database) -> None:
    """The error of a violated constraint names the constraint, never the email address."""
    row = {
        "key": "reader@example.com",
        "address": "reader@example.com",
        "state": "active",
        "frequency": "month",
        "topics": frozenset[str](),
        "language": "",
        "cursor_date": date(2026, 11, 1),
        "cursor_seq": 0,
        "start": date(2026, 11, 1),
        "issues": 0,
        "token": "t",
    }
    with pytest.raises(DatabaseError) as caught, database.writing() as connection:
        connection.execute(subscribers.insert(), [row, row])
    assert "reader" not in line_of(caught)
    assert "reader@" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("news.db", "is not a database URL"),
        ("mysql://localhost/news", "found 'mysql'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql://user:secret@host:port/news", "is not a database URL"),
    ],
)
def test_refuses_a_url_that_names_no_database(url: str, what: str, tmp_path: Path) -> None:
    """The error of a URL for another database shows the form of a valid one."""
    with pytest.raises(SettingsError) as caught:
        open_database(url, tmp_path)
    assert line_of(caught).startswith(f"POSTROOM_DATABASE_URL: {what}; write sqlite:///")
    assert "secret" not in line_of(caught)


def test_an_absent_server_is_one_line_without_the_password(tmp_path: Path) -> None:
    """The error of an unreachable PostgreSQL server is one line without the password."""
    url = f"postgresql://user:secret@/news?host={tmp_path}"
    with pytest.raises(DatabaseError) as caught:
        open_database(url, tmp_path)
    assert line_of(caught).startswith("POSTROOM_DATABASE_URL: ")
    assert "secret" not in line_of(caught)


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    """A file of another kind is not changed, and the error is one line with its name."""
    path = tmp_path / "news.db"
    path.write_text("a diary, " * 500)
    with pytest.raises(DatabaseError) as caught:
        open_database("sqlite:///news.db", tmp_path)
    assert line_of(caught).startswith("POSTROOM_DATABASE_URL: is damaged, or is not a database; ")
    assert path.read_text() == "a diary, " * 500


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    """The error of a folder where no file can be created is one line with the reason."""
    (tmp_path / ".postroom").write_text("")
    with pytest.raises(DatabaseError) as caught:
        open_database(None, tmp_path)
    assert line_of(caught).startswith(".postroom/postroom.db: cannot be opened (")


def test_a_newer_database_is_refused(database: Database) -> None:
    """The tables of a newer Postroom are refused in one line, and are not changed."""
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE postroom_version SET version_num = '9999'")
    for refused in (require_tables, upgrade):
        with pytest.raises(SettingsError) as caught:
            refused(database)
        assert line_of(caught).endswith(
            ": is of a newer Postroom (version '9999'); upgrade Postroom"
        )


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that gives this program a second version of the tables."""

    def add_version(then: str) -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(migrate.MIGRATIONS, folder)
        (folder / "versions/v9002_note.py").write_text(NEXT.format(then=then))
        monkeypatch.setattr(migrate, "MIGRATIONS", folder)
        monkeypatch.setattr(migrate, "VERSIONS", (*VERSIONS, "9002"))

    return add_version


def test_an_older_database_waits_for_its_upgrade(
    database: Database, newer: Callable[[str], None]
) -> None:
    """Older tables are refused until `db upgrade`, which keeps their rows."""
    with database.writing() as connection:
        connection.execute(runs.insert().values(started=datetime.now(UTC)))
    newer("")
    with pytest.raises(SettingsError) as caught:
        require_tables(database)
    assert line_of(caught).endswith("is of an older Postroom; run: postroom db upgrade")
    assert upgrade(database) == "9002"
    require_tables(database)
    assert upgrade(database) == "9002"
    with database.reading() as connection:
        names = {column["name"] for column in sa.inspect(connection).get_columns("post_log")}
        assert "note" in names
        assert len(connection.execute(sa.select(runs)).all()) == 1


def test_a_failed_upgrade_changes_nothing(database: Database, newer: Callable[[str], None]) -> None:
    """An upgrade that fails half-way leaves the older database unchanged."""
    newer("op.execute('SELECT * FROM nothing')")
    with pytest.raises(DatabaseError) as caught:
        upgrade(database)
    assert "nothing" in line_of(caught)
    with database.reading() as connection:
        names = {column["name"] for column in sa.inspect(connection).get_columns("post_log")}
    assert "note" not in names
    with pytest.raises(SettingsError, match="older"):
        require_tables(database)


def test_migrations_make_the_same_tables(database_url: str, tmp_path: Path) -> None:
    """Migrated tables are the same as those of a new database."""
    database = make_engine(database_url, tmp_path)
    with database.writing() as connection:
        migrate.migrate(connection)
        options = {"version_table": "postroom_version", "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        left = [
            change
            for change in compare_metadata(context, metadata)
            if getattr(change[1], "name", "") != "postroom_version"
        ]
        assert left == []
        grown = _constraints(connection)
        for table in reversed(metadata.sorted_tables):
            table.drop(connection)
        metadata.create_all(connection)
        assert grown == _constraints(connection)
    database.close()


def _constraints(connection: sa.Connection) -> dict[str, object]:
    """Return what alembic does not compare: checks, keys and ON DELETE."""
    inspector = sa.inspect(connection)
    return {
        name: (
            sorted(
                (check["name"], check["sqltext"]) for check in inspector.get_check_constraints(name)
            ),
            inspector.get_pk_constraint(name),
            sorted(str(key) for key in inspector.get_foreign_keys(name)),
            sorted(str(index) for index in inspector.get_indexes(name)),
        )
        for name in inspector.get_table_names()
        if name != "postroom_version"
    }


def test_deleted_rows_are_wiped_from_the_log(tmp_path: Path) -> None:
    """Traces of deleted rows are wiped from SQLite's write-ahead log on request."""
    database = open_database(None, tmp_path)
    database.forget_traces()
    assert (tmp_path / ".postroom/postroom.db-wal").stat().st_size == 0
    database.close()


def test_building_imports_no_database(make_site: MakeSite) -> None:
    """`postroom build` imports neither SQLAlchemy nor any module of the database."""
    folder = make_site({"posts/2026-11-20-we-moved.md": "# We moved\n\nTo a new office.\n"})
    code = (
        "import sys; from postroom.cli.main import main; assert main(['build']) == 0;"
        "names = ('sqlalchemy', 'alembic', 'psycopg', 'email_validator', 'sqlite3',"
        " 'postroom.db', 'postroom.subscribers');"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_command_upgrades(make_site: MakeSite, postroom: Callable[..., CommandResult]) -> None:
    """`postroom db upgrade` names the database and its version, and can be repeated."""
    folder = make_site()
    for _ in range(2):
        outcome = postroom(folder, "db", "upgrade")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out == f".postroom/postroom.db: version {VERSIONS[-1]}\n"


def test_a_refused_database_is_closed(tmp_path: Path) -> None:
    """No connection stays open to a database of another version."""
    with closing(open_database(None, tmp_path)) as database, database.writing() as connection:
        connection.exec_driver_sql("UPDATE postroom_version SET version_num = '9999'")
    with pytest.raises(SettingsError):
        open_database(None, tmp_path)
    path = tmp_path / ".postroom/postroom.db"
    opened = [file for file in Path("/proc/self/fd").iterdir() if file.exists()]
    assert [file for file in opened if file.samefile(path)] == []


def test_the_command_refuses_a_newer_database(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """A newer database gives exit code 2 and one line."""
    folder = make_site()
    postroom(folder, "db", "upgrade")
    raw = sqlite3.connect(folder / ".postroom/postroom.db")
    raw.execute("UPDATE postroom_version SET version_num = '9999'")
    raw.commit()
    raw.close()
    outcome = postroom(folder, "subscribers", "list")
    assert outcome.code == 2
    assert len(outcome.errors) == 1
