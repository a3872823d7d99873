"""A connection to SQLite or PostgreSQL; what goes wrong there becomes one line."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from postroom.errors import DatabaseError, Problem, SettingsError

T = TypeVar("T")
DATABASE_URL_VAR = "POSTROOM_DATABASE_URL"
DEFAULT_PATH = ".postroom/postroom.db"
# How long one waits for another's transaction; ours are short, so this is generous.
BUSY_TIMEOUT = 10.0
_CHUNK = 1000
_WRITES = "postroom_writes"
# Any number, as long as it is ours: PostgreSQL's lock on the sender's turn.
_TURN = 7_670_002
# Without it psycopg does not tell how many rows an INSERT made, and a lease would seem taken.
_OPTIONS = {"preserve_rowcount": True}
_EXAMPLE = "write sqlite:///news.db or postgresql://user:password@host/name"


class Database:
    """A database whose errors say in one line what is wrong, and never hold a row's values.

    `reading` and `writing` are transactions: what happens in one happens wholly or not at all.
    """

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self._writer = engine.execution_options(**{_WRITES: True})
        self._turn = ExitStack()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a file of SQLite's."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads and sees one state of the database.

        Raises `DatabaseError`.
        """
        with self._translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    def stream(
        self, question: sa.Select[Any], make: Callable[[sa.Row[Any]], T]
    ) -> Generator[T, None, None]:
        """Yield what `make` makes of each row of the answer, a thousand rows at a time in memory.

        The transaction ends with the last row, or when the generator is closed.
        """
        with self.reading() as connection:
            options = {"yield_per": _CHUNK}
            rows = connection.execute(question, execution_options=options)
            with rows:
                for row in rows:
                    yield make(row)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes; it is durable when the block is left.

        On SQLite it takes the writer's place at once (BEGIN IMMEDIATE): a transaction that reads
        first and writes later cannot wait for another writer, it can only fail. Raises
        `DatabaseError`.
        """
        with self._translated(), self._writer.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeoutError, self.engine.dialect.loaded_dbapi.Error) as error:
            # PostgreSQL's own words may repeat a row's values: no trace may hold them.
            raise DatabaseError([_problem(self.name, error)]) from None

    def forget_traces(self) -> None:
        """Write SQLite's log back into the file and empty it: deleted rows stand in it still.

        Where another reads at the moment, this is done when the log is next written back.
        """
        if self.is_sqlite:
            with self._translated(), self.engine.connect() as connection:
                # Past SQLAlchemy's transaction: the log cannot be emptied inside one.
                connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def acquire_lock(self) -> bool:
        """Take the sender's turn, unless a living process has it; tell whether it is ours now.

        The turn ends with `give_turn_back`, and with the process, however that ends: it is a lock
        of the system's beside SQLite's file, and of the session on PostgreSQL. No clock decides.
        Raises `DatabaseError`.
        """
        with ExitStack() as taken:
            with self._translated():
                ours = self._lock_file(taken) if self.is_sqlite else self._lock_session(taken)
            if ours:
                self._turn = taken.pop_all()
            return ours

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Take the sender's turn for a block, as `take_turn`; yield whether it is ours."""
        is_ours = self.acquire_lock()
        try:
            yield is_ours
        finally:
            if is_ours:
                self.release_lock()

    def _lock_file(self, taken: ExitStack) -> bool:
        try:
            number = os.open(f"{self.engine.url.database}.turn", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            reason = error.strerror or "cannot be opened"
            raise DatabaseError(
                [Problem(self.name, message=f"cannot be locked ({reason})")]
            ) from None
        taken.callback(os.close, number)
        with suppress(BlockingIOError):
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _lock_session(self, taken: ExitStack) -> bool:
        connection = taken.enter_context(self.engine.connect())
        connection.execution_options(isolation_level="AUTOCOMMIT")
        turn = _TURN, sa.func.hashtext(sa.func.current_schema())
        for _ in range(10):
            if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(*turn))):
                unlock = sa.select(sa.func.pg_advisory_unlock(*turn))
                taken.callback(connection.execute, unlock)
                return True
            # The server needs a moment to notice that a process died.
            time.sleep(0.1)
        return False

    def release_lock(self) -> None:
        """Give the sender's turn back, if it is ours."""
        # A session that is lost has lost its lock, too.
        with suppress(DBAPIError):
            self._turn.close()

    def close(self) -> None:
        """Close all connections, and give the turn back."""
        self.release_lock()
        self.engine.dispose()


def _problem(name: str, error: Exception) -> Problem:
    """Return the one line for `error`: the server's first sentence, without the row's values."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    lines = str(primary or cause or "").strip().splitlines() or ["does not answer"]
    if "locked" in lines[0] or "lock timeout" in lines[0]:
        repair = "another program is writing; run this again when it has finished"
        return Problem(name, message="is locked", hint=repair)
    return Problem(name, message=lines[0])


def make_engine(url: str | None, site_dir: Path, *, patience: float | None = None) -> Database:
    """Return the database at `url`; without one, SQLite in the newsroom's `.postroom`.

    A relative file is relative to the newsroom. Nothing is opened yet, save that a new file is
    made, readable by its owner alone: it holds addresses. Raises `SettingsError` for a URL that
    names no database we know.
    """
    parsed = _parsed(url or f"sqlite:///{DEFAULT_PATH}")
    wait = BUSY_TIMEOUT if patience is None else patience
    if parsed.drivername.startswith("sqlite"):
        return _sqlite(parsed, site_dir, wait, shown=DATABASE_URL_VAR if url else DEFAULT_PATH)
    return _postgresql(parsed, wait)


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        problem = Problem(DATABASE_URL_VAR, message="is no database URL", hint=_EXAMPLE)
        raise SettingsError([problem]) from None
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    if kind in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    what = f"found '{parsed.drivername}'" if kind != "sqlite" else "names no file"
    raise SettingsError([Problem(DATABASE_URL_VAR, message=what, hint=_EXAMPLE)])


def _sqlite(url: sa.URL, site_dir: Path, patience: float, *, shown: str) -> Database:
    path = site_dir / str(url.database)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its log the mode of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        reason = error.strerror or "cannot be opened"
        raise DatabaseError([Problem(shown, message=f"cannot be opened ({reason})")]) from None
    engine = sa.create_engine(
        url.set(database=str(path)),
        hide_parameters=True,
        execution_options=_OPTIONS,
        max_overflow=-1,
        # One by turns would make each read again what another has written.
        pool_use_lifo=True,
        connect_args={"timeout": patience},
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return Database(engine, shown)


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # We begin transactions ourselves: the module of Python's library would not say IMMEDIATE.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        # 16 MiB: keys and tokens are random, so their indexes are touched all over.
        "cache_size=-16384",
        # What is deleted is overwritten: "forget me" leaves no address in a free page.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.connection.cursor().execute("BEGIN IMMEDIATE" if writes else "BEGIN").close()


def _postgresql(url: sa.URL, patience: float) -> Database:
    options = url.query.get("options") or f"-c lock_timeout={round(patience * 1000)}"
    if not isinstance(options, str):
        options = " ".join(options)
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, round(patience)),
        # In the server's zone an instant near the year 1 or 9999 would lie outside those years.
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
        repair = "install postroom[postgres]"
        problem = Problem(DATABASE_URL_VAR, message="needs the driver of PostgreSQL", hint=repair)
        raise SettingsError([problem]) from None
    return Database(engine, DATABASE_URL_VAR)
