"""A run that loses its database records what it knows, and no email is sent twice."""

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
from tests.support.sending import MakeSendingSite, recipients
from tests.support.site import AT
from tests.support.smtp_server import scripted

pytestmark = pytest.mark.slow  # a database server is stopped and started

CONNECTIONS = 4


def test_restart_of_the_database_server_stops_the_run(
    make_sending_site: MakeSendingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run stops with a one-line error, and the next run sends the rest without duplicates."""
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(postgresql.cluster(durable=True))
        except postgresql.MissingError as error:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
        life = stack.enter_context(ExitStack())
        monkeypatch.setenv("POSTROOM_DATABASE_URL", life.enter_context(cluster.running()).url)
        site = make_sending_site(60, connections=CONNECTIONS, rate=100)
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
        outcome = site.send(server)
        restarting.join(60)
        assert (outcome.code, len(outcome.errors)) == (1, 1)
        assert "Traceback" not in outcome.err
        assert 20 <= len(server.messages) < 60
        got = recipients(server)
        site.heal(*got)
        assert len(site.uncertain_addresses()) <= CONNECTIONS
        assert site.states()["sent"] >= 60 - CONNECTIONS


def test_locked_database_loses_no_result(
    make_sending_site: MakeSendingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run stops, but the result of the email in flight is recorded after the lock ends."""
    site = make_sending_site(3)
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.1)
    with (
        closing(
            sqlite3.connect(
                site.folder / engine.DEFAULT_PATH, isolation_level=None, check_same_thread=False
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
        outcome = site.send(server)
        writing.join(30)
        assert (outcome.code, len(outcome.errors)) == (1, 1)
        assert "is locked" in outcome.errors[0]
        assert site.states() == {"sent": 1, "planned": 2}
        got = recipients(server)
    site.heal(*got)


def test_unreadable_issue_is_not_uncertain(
    make_sending_site: MakeSendingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claimed deliveries that were not offered to a server are due at once."""
    site = make_sending_site(12, connections=CONNECTIONS)
    find, calls = IssueTable.find, Counter[str]()

    def find_or_fail(self: IssueTable, number: int) -> IssueSnapshot | None:
        calls["find"] += 1
        if calls["find"] == 1:
            raise DatabaseError([Problem("database", message="is away", hint="wait")])
        return find(self, number)

    monkeypatch.setattr(IssueTable, "find", find_or_fail)
    with scripted({}, pause=0.01) as server:
        outcome = site.send(server)
        assert outcome.code == 1
        assert outcome.errors == ["database: is away; wait"]
        states = site.states()
        assert set(states) == {"deferred", "planned"}
        assert states["deferred"] >= 1
        # No server refused these emails, so their retry needs no delay.
        outcome = site.send(server, at=AT + timedelta(seconds=1))
    assert (outcome.code, site.states()) == (0, {"sent": 12})
    assert Counter(recipients(server)).most_common(1)[0][1] == 1
