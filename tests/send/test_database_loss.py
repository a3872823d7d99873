"""The database goes away while letters leave: what is known is written down, no letter twice."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest

from postroom.db import engine
from postroom.db.issues import IssueTable
from postroom.errors import DatabaseError, Problem
from postroom.models import IssueSnapshot
from tests.support import postgresql
from tests.support.sending import MakeRoom, recipients
from tests.support.site import AT
from tests.support.smtp_server import scripted

pytestmark = pytest.mark.slow  # a database server is stopped and started

CONNECTIONS = 4


def test_a_database_server_that_is_restarted_in_mid_run(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run stops with one line; the next one sends the rest, and nobody has it twice."""
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(postgresql.cluster(durable=True))
        except postgresql.MissingError as error:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
        life = stack.enter_context(ExitStack())
        monkeypatch.setenv("POSTROOM_DATABASE_URL", life.enter_context(cluster.running()).url)
        room = make_room(60, connections=CONNECTIONS, rate=100)
        server = stack.enter_context(scripted({}))

        def restart() -> None:
            deadline = time.monotonic() + 30
            while len(server.messages) < 20 and time.monotonic() < deadline:
                time.sleep(0.005)
            life.close()
            time.sleep(0.5)
            life.enter_context(cluster.running())

        restarting = threading.Thread(target=restart)
        restarting.start()
        outcome = room.send(server)
        restarting.join(60)
        assert (outcome.code, len(outcome.errors)) == (1, 1)
        assert "Traceback" not in outcome.err
        assert 20 <= len(server.messages) < 60
        got = recipients(server)
        room.heal(*got)
        assert len(room.named()) <= CONNECTIONS
        assert room.states()["sent"] >= 60 - CONNECTIONS


def test_a_database_that_is_busy_for_a_while_costs_no_knowledge(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run stops, but what became of the open letter is written down once that can be done."""
    room = make_room(3)
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.1)
    with (
        closing(
            sqlite3.connect(
                room.folder / engine.DEFAULT_PATH, isolation_level=None, check_same_thread=False
            )
        ) as other,
        scripted({}) as server,
    ):

        def write() -> None:
            with server.holding() as came:
                came.wait(30)
                other.execute("BEGIN IMMEDIATE")
            time.sleep(1.5)
            other.execute("ROLLBACK")

        writing = threading.Thread(target=write)
        writing.start()
        outcome = room.send(server)
        writing.join(30)
        assert (outcome.code, len(outcome.errors)) == (1, 1)
        assert "is locked" in outcome.errors[0]
        assert room.states() == {"sent": 1, "planned": 2}
        got = recipients(server)
    room.heal(*got)


def test_a_letter_that_cannot_be_read_is_not_in_doubt(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows were claimed, no server heard of them: they are due at once, and the run says why."""
    room = make_room(12, connections=CONNECTIONS)
    find, calls = IssueTable.find, Counter[str]()

    def failing(self: IssueTable, number: int) -> IssueSnapshot | None:
        calls["find"] += 1
        if calls["find"] == 1:
            raise DatabaseError([Problem("database", message="is away", hint="wait")])
        return find(self, number)

    monkeypatch.setattr(IssueTable, "find", failing)
    with scripted({}, pause=0.01) as server:
        outcome = room.send(server)
        assert outcome.code == 1
        assert outcome.errors == ["database: is away; wait"]
        states = room.states()
        assert set(states) == {"deferred", "planned"}
        assert states["deferred"] >= 1
        # Nobody need wait for what was no server's doing.
        outcome = room.send(server, at=AT + timedelta(seconds=1))
    assert (outcome.code, room.states()) == (0, {"sent": 12})
    assert Counter(recipients(server)).most_common(1)[0][1] == 1
