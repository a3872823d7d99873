"""A real PostgreSQL server for the tests, in a temporary folder, reached by a socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from attrs import frozen


class MissingError(Exception):
    """There is no PostgreSQL server on this machine that we may start."""


@frozen
class Server:
    """A running server, and the one database of the tests."""

    folder: Path

    @property
    def url(self) -> str:
        """The URL of the database."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def execute(self, statement: str) -> None:
        """Run one statement."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def emptied(self) -> str:
        """Empty the database, which takes a tenth of the time that a new one takes."""
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url


def programs() -> Path:
    """Return the folder of the server's programs, on the path or where Debian puts them."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not versions:
        raise MissingError("PostgreSQL is not installed")
    return versions[-1].parent


def _identity() -> dict[str, Any]:
    """Return as whom to run: the server refuses to be root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise MissingError("there is no user 'postgres' to run the server as") from None
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@frozen
class Cluster:
    """A server's files, and how to run it over them, once or again."""

    folder: Path
    durable: bool
    identity: dict[str, Any]

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Run the server for a block; it ends at once, without tidying up."""
        # What is durable is no question of most tests; it is faster to promise nothing.
        fsync = "on" if self.durable else "off"
        options = (
            f"-D {self.folder / 'data'} -k {self.folder} -c listen_addresses= -c jit=off "
            f"-c fsync={fsync}"
        )
        with subprocess.Popen(
            [programs() / "postgres", *options.split()],
            # The server's user may not be allowed to look at the folder that the tests run in.
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self.identity,
        ) as process:
            try:
                yield _ready(Server(self.folder), process)
            finally:
                process.send_signal(signal.SIGQUIT)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    # Its parts notice within seconds that it is gone, and go, too.
                    process.kill()
                    raise


@contextmanager
def cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """Make the files of a server for a block; what it was told outlives a crash if it is `durable`.

    Raises `MissingError`.
    """
    bin_, identity = programs(), _identity()
    # Not pytest's folder: the path of a socket may have no more than 107 characters.
    with tempfile.TemporaryDirectory(prefix="postroom-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        words = f"-D {folder / 'data'} -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync"
        subprocess.run(
            [bin_ / "initdb", *words.split()],
            cwd=folder,
            check=True,
            capture_output=True,
            **identity,
        )
        yield Cluster(folder, durable, identity)


@contextmanager
def running(*, durable: bool = False) -> Iterator[Server]:
    """Run a server of its own for a block.

    Raises `MissingError`.
    """
    with cluster(durable=durable) as made, made.running() as server:
        yield server


def _ready(server: Server, process: subprocess.Popen[bytes]) -> Server:
    deadline = time.monotonic() + 30
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return server
