"""Letters leave as fast as they may and no faster, over several connections, whoever is slow."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from postroom.settings.urls import SmtpServer
from postroom.smtp.connection import SmtpConnection
from postroom.smtp.transaction import (
    Envelope,
    ServerFeatures,
    ServerReply,
    Timeouts,
    mail_transaction,
    to_wire,
)
from tests.support.processes import Process
from tests.support.sending import SEND, MakeRoom, Room, recipients, surroundings
from tests.support.smtp_server import CLOSE, DRIP, SILENCE, Scripted, scripted

pytestmark = pytest.mark.slow  # slow servers are waited for

OK = b"250 ok\r\n"
LATER = b"421 4.7.0 later\r\n" + CLOSE
# By how many seconds a busy machine may look at its clock too late.
_LATE = 0.5
AUTH = b"250-hello\r\n250 AUTH PLAIN\r\n"


def once(room: Room, server: Scripted) -> None:
    """Make sure that every reader has the letter once, and that no letter was tried twice."""
    assert room.states() == {"sent": room.subscribers}
    assert Counter(recipients(server)).most_common(1)[0][1] == 1
    assert len(recipients(server)) == room.subscribers


def openings(server: Scripted) -> int:
    """Return how many connections it has greeted."""
    return sum(command.upper().startswith("EHLO") for command in server.commands)


def assert_pace(times: Sequence[float], rate: int) -> None:
    """Make sure that a tenth of a second's letters came at once at most, then one by one."""
    times = sorted(times)
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            most = rate * 0.1 + rate * (times[last] - start + _LATE)
            assert last - first + 1 <= most


# How fast


def test_the_rate_holds_over_all_connections(make_room: MakeRoom) -> None:
    """Forty letters at twenty a second: a tenth of a second's may leave at once, never more."""
    room = make_room(40, connections=4, rate=20)
    with scripted({}) as server:
        assert room.send(server).code == 0
    once(room, server)
    assert 1.9 <= server.times[-1] - server.times[0] + _LATE < 10
    assert_pace(server.times, 20)


def test_what_could_not_leave_in_time_is_not_made_up_for(make_room: MakeRoom) -> None:
    """All connections wait a second for the server, then letters leave at the same rate as ever."""
    room = make_room(30, connections=4, rate=20)
    with scripted({".": [DRIP + b"250 " + b"x" * 35 + b"\r\n"] * 4}) as server:
        assert room.send(server).code == 0
    once(room, server)
    assert_pace(server.times, 20)


def test_conversations_with_a_slow_server_overlap(make_room: MakeRoom) -> None:
    """It thinks a fifth of a second about each reply; the run waits for four at a time."""
    room = make_room(8, connections=4)
    with scripted({}, pause=0.2) as server:
        began = time.monotonic()
        assert room.send(server).code == 0
        took = time.monotonic() - began
    once(room, server)
    replies = len(server.commands) + len(server.messages)
    assert took < 0.2 * replies * 0.6


def test_a_reply_that_drips_holds_up_its_own_letter_alone(make_room: MakeRoom) -> None:
    """It comes a byte at a time, on each connection at the same time."""
    room = make_room(8, connections=4)
    with scripted({".": DRIP + b"250 taken, in my own time\r\n"}) as server:
        began = time.monotonic()
        assert room.send(server).code == 0
        took = time.monotonic() - began
    once(room, server)
    assert took < 8 * 27 * 0.03 * 0.6


def test_one_slow_connection_holds_up_no_other(make_room: MakeRoom) -> None:
    """While it answers one letter the others carry the rest."""
    room = make_room(30, connections=2)
    with scripted({".": [DRIP + b"250 " + b"x" * 100 + b"\r\n"]}) as server:
        assert room.send(server).code == 0
    once(room, server)
    assert server.times[-1] - server.times[0] < 100 * 0.03


# What the server says at the wrong moment

UNASKED: Mapping[str, bytes] = {
    "421": b"421 4.4.2 idle for too long\r\n" + CLOSE,
    "451": b"451 timeout\r\n" + CLOSE,
    "nothing": CLOSE,
    "a reply too many": OK,
}


@pytest.mark.parametrize("unasked", UNASKED)
def test_what_comes_unasked_is_no_answer(make_room: MakeRoom, unasked: str) -> None:
    """A server that says more after a letter, or leaves, is called again for the next one."""
    room = make_room(5)
    with scripted({".": OK + UNASKED[unasked]}) as server:
        outcome = room.send(server)
    assert outcome.code == 0, outcome.err
    once(room, server)
    assert openings(server) >= 5


def test_a_connection_that_is_closed_while_it_waits_costs_nothing(make_room: MakeRoom) -> None:
    """The rate is slow, the server's patience short: each letter goes over a new connection."""
    room = make_room(5, rate=3)
    with scripted({}, idle=0.1) as server:
        outcome = room.send(server)
    assert (outcome.code, outcome.err) == (0, "")
    once(room, server)
    assert openings(server) == 5


def test_a_letter_refused_in_the_middle_is_refused(make_room: MakeRoom) -> None:
    """The server will not hear the end of it: that is its answer, and the others are sent."""
    room = make_room(3)
    with scripted({"data": [b"552 5.3.4 too big\r\n" + CLOSE]}) as server:
        outcome = room.send(server)
    assert (outcome.code, room.states()) == (1, {"bounced": 1, "sent": 2})
    room.heal(*recipients(server))


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [(b"552 5.3.4 too big\r\n", "refused", 552), (b"452 4.3.1 full\r\n", "deferred", 452)],
)
def test_why_a_large_letter_was_broken_off_is_known(said: bytes, kind: str, code: int) -> None:
    """Of a letter whose last byte never left it is sure that it was not taken."""
    large = (b"x" * 70 + b"\r\n") * 400_000
    script: dict[str, bytes | list[bytes]] = {"EHLO": b"250 hello\r\n", "data": said + CLOSE}
    with scripted(script) as server:
        mailer = SmtpConnection(SmtpServer("smtp", "127.0.0.1", server.port))
        mailer.open()
        outcome = mailer.send("a@example.com", "b@example.com", large)
        mailer.close()
    assert (outcome.kind, outcome.code, outcome.usable) == (kind, code, False)
    assert server.messages == []


def test_a_connection_that_broke_off_carries_no_other_letter() -> None:
    """What the server still said decides about this letter, whatever its code."""
    envelope = Envelope("a@example.com", "b@example.com", to_wire(b"Subject: a\r\n\r\nb\r\n"))
    talk = mail_transaction(envelope, ServerFeatures("", 0, frozenset()), Timeouts())
    assert next(talk).data.startswith(b"MAIL")
    with pytest.raises(StopIteration) as ended:
        talk.send(ServerReply(554, b"5.3.2 going down", unsent=True))
    outcome = ended.value.value
    assert (outcome.kind, outcome.command, outcome.usable) == ("refused", "MAIL", False)


# Connections that end


@pytest.mark.parametrize("connections", [1, 3])
def test_a_login_that_stops_working_is_tried_once_a_connection(
    make_room: MakeRoom, connections: int
) -> None:
    """Who was let in before, and is not now, asks once: accounts are locked for less."""
    room = make_room(20, connections=connections)
    script: dict[str, bytes | list[bytes]] = {
        "EHLO": AUTH,
        "AUTH": [b"235 welcome\r\n"] * connections + [b"535 5.7.8 no\r\n"] * 50,
        "MAIL": [OK] * connections + [LATER] * 50,
    }
    with scripted(script) as server:
        outcome = room.send(server, login="me:secret@")
    asked = sum(command.startswith("AUTH") for command in server.commands)
    assert asked == 2 * connections
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "535 5.7.8 no; check user and password" in outcome.errors[0]
    assert set(room.states()) == {"sent", "deferred", "planned"}
    room.heal(*recipients(server))


def test_the_last_answer_of_a_connection_is_written_down_before_its_end(
    make_room: MakeRoom,
) -> None:
    """Killed while the server says nothing at QUIT, the run leaves nothing in doubt."""
    room = make_room(2, per_connection=1)
    with scripted({"QUIT": SILENCE}) as server:
        with Process(SEND, cwd=room.folder, env=surroundings(server)) as process:
            deadline = time.monotonic() + 30
            while room.states() != {"sent": 1, "planned": 1} or "QUIT" not in server.commands:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert process.poll() is None
            process.kill()
        assert len(server.messages) == 1
        got = recipients(server)
    room.heal(*got)


def test_a_server_that_says_no_goodbye_is_waited_for_once(
    make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve connections, one after the other: only the first waits for the reply to QUIT."""
    monkeypatch.setattr("postroom.smtp.connection._QUIT_TIMEOUT", 1.0)
    room = make_room(12, per_connection=1)
    with scripted({"QUIT": SILENCE}) as server:
        began = time.monotonic()
        assert room.send(server).code == 0
        took = time.monotonic() - began
    once(room, server)
    assert took < 7


@pytest.mark.parametrize("then", [b"421 4.3.2 going down\r\n" + CLOSE, b"535 5.7.8 no\r\n"])
def test_after_the_last_letter_no_connection_is_missed(make_room: MakeRoom, then: bytes) -> None:
    """The server closes behind the last letter and lets nobody in: all is sent all the same."""
    room = make_room(3, per_connection=3)
    with scripted({"connect": [b"220 ready\r\n"] + [then] * 50}) as server:
        began = time.monotonic()
        outcome = room.send(server)
        took = time.monotonic() - began
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"^3 sent$", outcome.out, re.MULTILINE)
    once(room, server)
    assert took < 8


def test_who_stops_while_it_is_connecting_asks_for_no_more(make_room: MakeRoom) -> None:
    """A server that does not even greet, then Ctrl-C: no other connection is tried."""
    room = make_room(8, connections=4)
    waiting: list[bytes] = [SILENCE] * 8
    with scripted({"connect": waiting}) as server:
        with Process(SEND, cwd=room.folder, env=surroundings(server)) as process:
            deadline = time.monotonic() + 30
            while len(waiting) == 8:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        assert len(waiting) == 7
    assert room.states() == {"planned": 8}


# What an earlier run left


def test_what_a_dead_run_left_in_doubt_is_sent_again_when_asked(make_room: MakeRoom) -> None:
    """All of it arrives now, so nothing is left to say: exit 0."""
    room = make_room(1)
    with (
        scripted({}) as server,
        server.holding() as came,
        Process(SEND, cwd=room.folder, env=surroundings(server)) as process,
    ):
        assert came.wait(30)
        process.send_signal(signal.SIGKILL)
    assert room.states() == {"sending": 1}
    with scripted({}) as server:
        outcome = room.send(server, "--resend-uncertain")
    assert (outcome.code, outcome.err, room.states()) == (0, "", {"sent": 1})
    assert recipients(server) == ["reader0@example.com"]
