"""Whatever the mail server or the machine does, the ledger stays true and the next run goes on."""

from __future__ import annotations

import resource
import signal
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta

import pytest
import time_machine

from postroom.cli import send
from postroom.cli.main import main
from postroom.db import engine
from postroom.db.store import open_store
from postroom.send.pool import ConnectionOpened, PooledConnection
from postroom.smtp.connection import SmtpConnection
from postroom.smtp.transaction import Timeouts
from tests.support.processes import Process
from tests.support.sending import SEND, MakeRoom, recipients, surroundings, taken
from tests.support.site import AT
from tests.support.smtp_server import CLOSE, SILENCE, Scripted, scripted

Script = Mapping[str, bytes | list[bytes]]
OK = b"250 ok\r\n"


# The server answers badly once, then as servers do: script, states, exit code.
ANSWERS: dict[str, tuple[Script, dict[str, int], int]] = {
    "4xx at MAIL": ({"MAIL": [b"451 later\r\n"]}, {"deferred": 1, "sent": 2}, 1),
    "5xx at MAIL": ({"MAIL": [b"550 5.7.1 who?\r\n"]}, {"deferred": 1, "sent": 2}, 1),
    "4xx at RCPT": ({"RCPT": [b"450 4.2.0 greylisted\r\n"]}, {"deferred": 1, "sent": 2}, 1),
    "5xx at RCPT": ({"RCPT": [b"550 5.1.1 nobody\r\n"]}, {"bounced": 1, "sent": 2}, 0),
    "4xx at DATA": ({"DATA": [b"451 later\r\n"]}, {"deferred": 1, "sent": 2}, 1),
    "5xx at DATA": ({"DATA": [b"554 no\r\n"]}, {"bounced": 1, "sent": 2}, 1),
    "421 in mid-session": ({"MAIL": [OK, b"421 4.7.0 enough\r\n" + CLOSE]}, {"sent": 3}, 0),
    "cut at MAIL": ({"MAIL": [OK, CLOSE]}, {"sent": 3}, 0),
    "cut before the letter": ({"DATA": [CLOSE]}, {"sent": 3}, 0),
}


@pytest.mark.parametrize("fault", ANSWERS)
def test_a_bad_answer_is_one_letters_matter(make_room: MakeRoom, fault: str) -> None:
    """Before the letter's end each answer says what becomes of it; the others are sent."""
    script, states, code = ANSWERS[fault]
    room = make_room()
    with scripted(script) as server:
        outcome = room.send(server)
    assert (outcome.code, room.states()) == (code, states)
    room.heal(*taken(server, outcome))


# After the final dot the letter is with the server, whatever it says.
ENDS: dict[str, tuple[bytes, str, int]] = {
    "4xx": (b"452 4.3.1 later\r\n", "deferred", 1),
    "5xx": (b"554 5.6.0 no\r\n", "bounced", 1),
    "cut": (CLOSE, "uncertain", 1),
    "nonsense": (b"999 what?\r\n", "uncertain", 1),
    "421": (b"421 4.3.2 later\r\n" + CLOSE, "deferred", 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_answer_to_the_letters_end_decides(make_room: MakeRoom, end: str) -> None:
    """No answer, no knowledge: the letter is in doubt, named, and not sent again unasked."""
    answer, state, code = ENDS[end]
    room = make_room()
    with scripted({".": [answer]}) as server:
        outcome = room.send(server)
    assert (outcome.code, room.states()) == (code, {state: 1, "sent": 2})
    assert room.named() == ({"reader0@example.com"} if state == "uncertain" else set())
    room.heal("reader1@example.com", "reader2@example.com")


@pytest.mark.parametrize(("word", "states"), [("RCPT", {"sent": 3}), (".", {"uncertain": 1})])
def test_a_reply_that_never_comes_is_waited_for_so_long(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch, word: str, states: dict[str, int]
) -> None:
    """Before the end another connection is tried; after it the letter is in doubt."""
    short = Timeouts(connect=5, reply=0.5, end=0.5)
    monkeypatch.setattr(
        send, "SmtpConnection", lambda server: SmtpConnection(server, timeouts=short)
    )
    room = make_room()
    with scripted({word: [SILENCE]}) as server:
        room.send(server)
        assert {**room.states(), **states} == room.states()
        sure = [one for one in recipients(server) if one not in room.named()]
    room.heal(*sure)


def test_a_server_that_is_not_there(make_room: MakeRoom) -> None:
    """Nobody answers: nothing is lost, and one line says so."""
    room = make_room(connections=4)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    outcome = room.send(Scripted({}, port))
    assert (outcome.code, room.states()) == (1, {"planned": 3})
    assert [line.partition("; ")[2] for line in outcome.errors] == ["check host and port"]
    room.heal()


def test_a_refused_login_is_tried_once(make_room: MakeRoom) -> None:
    """A wrong password must not lock the account: one connection asks, not all of them."""
    script = {"EHLO": b"250-hello\r\n250 AUTH PLAIN\r\n", "AUTH": b"535 5.7.8 no\r\n"}
    room = make_room(connections=4)
    with scripted(script) as server:
        outcome = room.send(server, login="me:wrong@")
    assert (outcome.code, room.states()) == (1, {"planned": 3})
    assert sum(command.startswith("AUTH") for command in server.commands) == 1
    assert "wrong" not in outcome.err
    room.heal()


def test_a_run_that_stops_names_no_reader(make_room: MakeRoom) -> None:
    """The words of a server that refuses everybody are printed, without the addresses in them."""
    room = make_room(30)
    no = [f"550 5.7.1 <reader{one}@example.com>: denied\r\n".encode() for one in range(30)]
    with scripted({"RCPT": no}) as server:
        outcome = room.send(server)
    assert outcome.code == 1
    assert "last reply is: 550 5.7.1 <…@…>: denied; correct" in outcome.err
    assert "@example.com" not in outcome.out + outcome.err


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_without_tls_nothing_leaves(make_room: MakeRoom, scheme: str) -> None:
    """A server that does not protect the connection gets neither password nor letter."""
    room = make_room()
    with scripted({}) as server:
        outcome = room.send(server, scheme=scheme, login="me:secret@")
    assert (outcome.code, len(outcome.errors), room.states()) == (1, 1, {"planned": 3})
    assert not any("AUTH" in command or "MAIL" in command for command in server.commands)
    room.heal()


def test_twenty_letters_a_connection(make_room: MakeRoom) -> None:
    """A server that has had enough is called again, in the same run."""
    room = make_room(45)
    enough = [*[OK] * 20, b"421 4.7.0 enough\r\n" + CLOSE]
    with scripted({"MAIL": enough * 3}) as server:
        outcome = room.send(server)
    assert (outcome.code, room.states()) == (0, {"sent": 45})
    assert Counter(recipients(server)).most_common(1)[0][1] == 1


def test_two_connections_of_four(make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the server allows carry all letters."""
    monkeypatch.setattr("postroom.send.pool.RETRY_PAUSES", ())
    room = make_room(20, connections=4)
    busy = [b"421 4.7.0 too many\r\n" + CLOSE] * 50
    with scripted({"connect": [b"220 ready\r\n"] * 2 + busy}) as server:
        outcome = room.send(server)
    assert (outcome.code, room.states()) == (0, {"sent": 20})
    assert len(set(recipients(server))) == 20


def test_a_server_that_takes_nothing_stops_the_run(make_room: MakeRoom) -> None:
    """A relay that refuses everybody takes nobody off the list; the run stops and says why."""
    room = make_room(30)
    with scripted({"RCPT": b"550 5.7.1 relaying denied\r\n"}) as server:
        outcome = room.send(server)
    assert (outcome.code, room.states()) == (1, {"bounced": 20, "planned": 10})
    assert "20 emails; its last reply is: 550 5.7.1 relaying denied" in outcome.errors[0]
    store = open_store(None, room.folder)
    with closing(store.database):
        assert store.subscribers.count() == {"active": 30}


def test_a_server_that_never_answers_the_end_stops_the_run(make_room: MakeRoom) -> None:
    """Ten letters in doubt in a row are enough to ask a person."""
    room = make_room(30)
    with scripted({".": CLOSE}) as server:
        outcome = room.send(server)
    assert (outcome.code, room.states()) == (1, {"uncertain": 10, "planned": 20})


def test_two_sends_at_once(make_room: MakeRoom) -> None:
    """The second says so in one line and does nothing."""
    room = make_room()
    other = open_store(None, room.folder)
    with closing(other.database), scripted({}) as server:
        run = other.runs.begin(AT)
        outcome = room.send(server)
        assert (outcome.code, len(outcome.errors)) == (1, 1)
        assert "another run is sending" in outcome.errors[0]
        assert server.commands == []
        other.runs.end(run, AT)
    room.heal()


def test_a_locked_database(make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that writes for long is told in one line; nothing is sent."""
    room = make_room()
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.1)
    with (
        closing(sqlite3.connect(room.folder / engine.DEFAULT_PATH, isolation_level=None)) as other,
        scripted({}) as server,
    ):
        other.execute("BEGIN IMMEDIATE")
        outcome = room.send(server)
        other.execute("ROLLBACK")
    assert (outcome.code, server.commands) == (1, [])
    assert "is locked; another program is writing" in outcome.errors[0]
    room.heal()


def test_the_clock_set_back(make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yesterday comes again, and nobody gets the letter again."""
    room = make_room()
    with scripted({}) as server:
        assert room.send(server).code == 0
        with time_machine.travel(AT - timedelta(days=1)):
            monkeypatch.chdir(room.folder)
            assert main(["send", "--keep-ledger-here"]) == 0
    assert len(recipients(server)) == 3


# In processes of their own


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_is_on_its_way(make_room: MakeRoom, number: signal.Signals) -> None:
    """The open letter is recorded, the exit code names the signal, and the next run goes on."""
    room = make_room(40, rate=10)
    with scripted({}) as server:
        with Process[bytes](
            SEND, cwd=room.folder, env=surroundings(server), stderr=subprocess.PIPE
        ) as process:
            deadline = time.monotonic() + 30
            while len(server.messages) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 128 + number
        assert b"finishing the emails in flight" in said
        states = room.states()
        assert states["sent"] == len(server.messages) < 40
        assert set(states) == {"sent", "planned"}
        got = recipients(server)
    room.heal(*got)


@pytest.mark.slow
def test_a_full_disk(make_room: MakeRoom) -> None:
    """What cannot be written down stops the run; at most the open letters are in doubt."""
    room = make_room(200, connections=2)

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    with scripted({}) as server:
        done = subprocess.run(
            SEND,
            cwd=room.folder,
            env=surroundings(server),
            preexec_fn=little_room,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert room.states().get("sending", 0) <= 2
        got = recipients(server)
    assert 0 < len(got) < 200
    with scripted({}) as server:
        outcome = room.send(server)
        assert outcome.code in (0, 1)
        again = Counter([*got, *recipients(server)])
    assert max(again.values()) == 1
    assert len(room.named()) <= 2
    assert len(set(again) | room.named()) == 200


def test_a_connection_that_cannot_be_renewed_keeps_nobody_waiting(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine has no thread left for it, the run ends, and the letter is known."""
    room, opened = make_room(), PooledConnection.open

    def exhausted(connection: PooledConnection, said: Callable[[ConnectionOpened], None]) -> None:
        if connection.outgoing:
            raise RuntimeError("can't start new thread")
        opened(connection, said)

    with scripted({"RCPT": [b"421 later\r\n" + CLOSE]}) as server:
        with monkeypatch.context() as patch:
            patch.setattr(PooledConnection, "open", exhausted)
            with pytest.raises(RuntimeError, match="new thread"):
                room.send(server)
        assert room.states() == {"deferred": 1, "planned": 2}
    room.heal()
