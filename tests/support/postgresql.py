"""Run a real PostgreSQL server in a temporary folder, reachable by a socket only."""

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
    """PostgreSQL is missing on this machine, or the tests may not start it."""


@frozen
class Server:
    """A running server with one database."""

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
        """Empty the database and return its URL; a new database would take ten times as long."""
        self.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return self.url


def programs() -> Path:
    """Return the folder of the server's programs, on PATH or in Debian's folder."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not versions:
        raise MissingError("PostgreSQL is not installed")
    return versions[-1].parent


def _identity() -> dict[str, Any]:
    """Return the user to run as: the server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise MissingError("there is no user 'postgres' to run the server as") from None
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@frozen
class Cluster:
    """The files of a server, which can run over them several times."""

    folder: Path
    durable: bool
    identity: dict[str, Any]

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Run the server for a block, and stop it at once, without a checkpoint."""
        # Most tests need no durability, and are faster without it.
        fsync = "on" if self.durable else "off"
        options = (
            f"-D {self.folder / 'data'} -k {self.folder} -c listen_addresses= -c jit=off "
            f"-c fsync={fsync}"
        )
        with subprocess.Popen(
            [programs() / "postgres", *options.split()],
            # The server's user may lack access to the folder that the tests run in.
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
                    # The server's other processes end by themselves within seconds.
                    process.kill()
                    raise


@contextmanager
def cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """Make the files of a server for a block; data survive a crash if it is `durable`.

    Raises `MissingError`.
    """
    bin_, identity = programs(), _identity()
    # pytest's folder is too long: the path of a socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="postroom-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        arguments = f"-D {folder / 'data'} -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync"
        subprocess.run(
            [bin_ / "initdb", *arguments.split()],
            cwd=folder,
            check=True,
            capture_output=True,
            **identity,
        )
        yield Cluster(folder, durable, identity)


@contextmanager
def running(*, durable: bool = False) -> Iterator[Server]:
    """Run a new server for a block.

    Raises `MissingError`.
    """
    with cluster(durable=durable) as files, files.running() as server:
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
