"""Connect to SQLite or PostgreSQL, open transactions, and report errors as one-line problems."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from postroom.db.faults import (
    DamagedValueError,
    driver_problem,
    empty_file_problem,
    open_problem,
)
from postroom.errors import DatabaseError, Problem, SettingsError
from postroom.files import link_fault

T = TypeVar("T")
DATABASE_URL_VAR = "POSTROOM_DATABASE_URL"
DEFAULT_PATH = ".postroom/postroom.db"
# Seconds to wait for the transaction of another process; ours are short.
BUSY_TIMEOUT = 10.0
_CHUNK = 1000
_WRITES = "postroom_writes"
# The number of the advisory lock of a run on PostgreSQL; it only has to be unlike other numbers.
_RUN_LOCK = 7_670_002
# Without it, psycopg does not count the rows of an INSERT.
_OPTIONS = {"preserve_rowcount": True}
_EXAMPLE = "write sqlite:///news.db or postgresql://user:password@host/name"


class Database:
    """A database with its transactions (`reading`, `writing`) and the lock of a run.

    Errors of the database driver become `DatabaseError`. Its message is one line and never repeats
    the values of a row, as these may be email addresses.
    """

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self._writer = engine.execution_options(**{_WRITES: True})
        self._lock = ExitStack()

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite, not PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @property
    def path(self) -> str:
        """The path of the SQLite file, without symbolic links; empty for PostgreSQL."""
        return str(self.engine.url.database) if self.is_sqlite else ""

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction for reading only.

        Raises `DatabaseError`.
        """
        with self._translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    def stream(
        self, query: sa.Select[Any], make: Callable[[sa.Row[Any]], T]
    ) -> Generator[T, None, None]:
        """Yield `make(row)` for each row of `query`, with a thousand rows at a time in memory.

        The transaction ends after the last row, or when the generator is closed.
        """
        with self.reading() as connection:
            options = {"yield_per": _CHUNK}
            rows = connection.execute(query, execution_options=options)
            with rows:
                for row in rows:
                    yield make(row)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction for writing; its changes are durable at the end of the block.

        On SQLite the transaction locks the database against other writers at once
        (BEGIN IMMEDIATE). A transaction that reads first and locks later could not wait for
        another writer; SQLite would let it fail. Raises `DatabaseError`.
        """
        with self._translated(), self._writer.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (
            DBAPIError,
            PoolTimeoutError,
            self.engine.dialect.loaded_dbapi.Error,
            DamagedValueError,
            # The sqlite3 module decodes messages that quote a damaged file.
            UnicodeDecodeError,
        ) as error:
            # PostgreSQL's messages may repeat a row's values, which no traceback may show.
            raise DatabaseError([driver_problem(self.name, error)]) from None

    def forget_traces(self) -> None:
        """Empty SQLite's write-ahead log, which still holds deleted rows.

        If another process is reading, SQLite empties the log at a later checkpoint. PostgreSQL
        needs nothing.
        """
        if self.is_sqlite:
            with self._translated(), self.engine.connect() as connection:
                # Without SQLAlchemy's transaction, inside which the log cannot be emptied.
                connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def find_damage(self) -> bool:
        """Tell whether an SQLite file is damaged; read all of it.

        For PostgreSQL return False, as its server checks its files itself.
        """
        if not self.is_sqlite:
            return False
        try:
            with self.reading() as connection:
                return connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar() != "ok"
        except DatabaseError:
            return True

    def acquire_lock(self) -> bool:
        """Acquire the lock that keeps two runs apart; return False if another process holds it.

        `release_lock` releases the lock. The end of the process releases it, too, even after a
        crash: on SQLite the lock is an operating system lock on a file beside the database, on
        PostgreSQL an advisory lock of the session. Raises `DatabaseError`.
        """
        with ExitStack() as stack:
            with self._translated():
                is_ours = self._lock_file(stack) if self.is_sqlite else self._lock_session(stack)
            if is_ours:
                self._lock = stack.pop_all()
            return is_ours

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Acquire the lock for a block; yield False if another process holds it."""
        is_ours = self.acquire_lock()
        try:
            yield is_ours
        finally:
            if is_ours:
                self.release_lock()

    def _lock_file(self, stack: ExitStack) -> bool:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        try:
            descriptor = os.open(f"{self.engine.url.database}.lock", flags, 0o600)
        except OSError as error:
            raise DatabaseError([open_problem(self.name, error)]) from None
        stack.callback(os.close, descriptor)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _lock_session(self, stack: ExitStack) -> bool:
        connection = stack.enter_context(self.engine.connect())
        connection.execution_options(isolation_level="AUTOCOMMIT")
        key = _RUN_LOCK, sa.func.hashtext(sa.func.current_schema())
        for _ in range(10):
            if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(*key))):
                unlock = sa.select(sa.func.pg_advisory_unlock(*key))
                stack.callback(connection.execute, unlock)
                return True
            # The server needs a moment to notice that a process has died.
            time.sleep(0.1)
        return False

    def release_lock(self) -> None:
        """Release the lock if this object holds it."""
        # A lost session has lost its lock, too.
        with suppress(DBAPIError):
            self._lock.close()

    def close(self) -> None:
        """Release the lock and close all connections."""
        self.release_lock()
        self.engine.dispose()


def make_engine(url: str | None, site_dir: Path, *, timeout: float | None = None) -> Database:
    """Return the database at `url`, by default the SQLite file `DEFAULT_PATH` in the site.

    A relative file name is relative to the site. No connection is opened yet, but a missing file is
    created; only its owner can read it, because it will hold email addresses. `timeout` is the time
    in seconds to wait for another writer. Raises `SettingsError` for an unusable URL, and
    `DatabaseError` if the file cannot be created.
    """
    parsed = _parsed(url or f"sqlite:///{DEFAULT_PATH}")
    timeout = BUSY_TIMEOUT if timeout is None else timeout
    if parsed.drivername.startswith("sqlite"):
        return _sqlite(parsed, site_dir, timeout, name=DATABASE_URL_VAR if url else DEFAULT_PATH)
    return _postgresql(parsed, timeout)


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        problem = Problem(DATABASE_URL_VAR, message="is not a database URL", hint=_EXAMPLE)
        raise SettingsError([problem]) from None
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    if kind in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    message = f"found '{parsed.drivername}'" if kind != "sqlite" else "names no file"
    raise SettingsError([Problem(DATABASE_URL_VAR, message=message, hint=_EXAMPLE)])


def _sqlite(url: sa.URL, site_dir: Path, timeout: float, *, name: str) -> Database:
    # An operator may link the folder to another disk, but a pull request may link the file.
    where = site_dir / str(url.database)
    if name == DEFAULT_PATH and (message := link_fault(where.parent, where)):
        hint = f"set {DATABASE_URL_VAR} to the file that it leads to"
        raise SettingsError([Problem(name, message=message, hint=hint)])
    try:
        # With symbolic links resolved: SQLite's other files, and our lock, stand beside the file.
        path = where.resolve()
        _require_file(path, name)
    except OSError as error:
        raise DatabaseError([open_problem(name, error)]) from None
    except RuntimeError:
        problem = Problem(name, message="is a loop of symbolic links", hint="correct its path")
        raise DatabaseError([problem]) from None
    engine = sa.create_engine(
        url.set(database=str(path)),
        hide_parameters=True,
        execution_options=_OPTIONS,
        max_overflow=-1,
        # With the last connection first, its page cache is more often still valid.
        pool_use_lifo=True,
        connect_args={"timeout": timeout},
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return Database(engine, name)


def _require_file(path: Path, name: str) -> None:
    """Create the file of a database if it is missing; raise an error if it cannot be one.

    The file is looked at without opening it. To close a file that another thread uses with SQLite
    would end that thread's locks (sqlite.org/howtocorrupt.html §2.2).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        if not path.exists():
            _create_file(path)
    if not path.is_file():
        raise DatabaseError([Problem(name, message="is not a file", hint="correct its path")])
    if path.stat().st_size == 0:
        raise DatabaseError([empty_file_problem(name)])
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _create_file(path: Path) -> None:
    """Create a database without tables, at once and whole; only its owner can read it.

    SQLite gives its other files the same mode. An empty file, as SQLite itself would create, could
    not be told from one that has lost its content. Raises `FileExistsError` if another process is
    first.
    """
    with closing(sqlite3.connect(":memory:")) as memory:
        # The first change of an empty database makes its first page.
        memory.execute("PRAGMA user_version=0").close()
        content = memory.serialize()
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
        file.write(content)
        file.flush()
        try:
            os.link(file.name, path)
        except FileExistsError:
            raise
        except OSError:
            # The file system has no hard links.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as other:  # noqa: PTH123 - a file that is open
                other.write(content)


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # We begin transactions ourselves, because the sqlite3 module would not use IMMEDIATE.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        # 16 MiB: keys and tokens are random, so all pages of their indexes are used.
        "cache_size=-16384",
        # Overwrite deleted rows, so that `forget` leaves no email address in a free page.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.connection.cursor().execute("BEGIN IMMEDIATE" if writes else "BEGIN").close()


def _postgresql(url: sa.URL, timeout: float) -> Database:
    options = url.query.get("options") or f"-c lock_timeout={round(timeout * 1000)}"
    if not isinstance(options, str):
        options = " ".join(options)
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, round(timeout)),
        # In the server's zone an instant near the year 1 or 9999 could be outside of those years.
        "options": f"{options} -c timezone=UTC",
    }
    try:
        engine = sa.create_engine(
            url,
            hide_parameters=True,
            execution_options=_OPTIONS,
            max_overflow=-1,
            connect_args=arguments,
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        message, hint = "the PostgreSQL driver is not installed", "install postroom[postgres]"
        problem = Problem(DATABASE_URL_VAR, message=message, hint=hint)
        raise SettingsError([problem]) from None
    return Database(engine, DATABASE_URL_VAR)
