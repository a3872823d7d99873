"""Faults of the SMTP server or the machine leave the delivery ledger correct."""

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
from tests.support.sending import SEND, MakeSendingSite, recipients, surroundings, taken
from tests.support.site import AT
from tests.support.smtp_server import CLOSE, SILENCE, Scripted, scripted

Script = Mapping[str, bytes | list[bytes]]
OK = b"250 ok\r\n"


# Servers that give one bad answer, then normal ones: script, states, exit code.
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
def test_bad_answer_affects_one_email(make_sending_site: MakeSendingSite, fault: str) -> None:
    """A bad answer before the end of an email decides about that email only."""
    script, states, code = ANSWERS[fault]
    site = make_sending_site()
    with scripted(script) as server:
        outcome = site.send(server)
    assert (outcome.code, site.states()) == (code, states)
    site.heal(*taken(server, outcome))


# After the final dot the server may have accepted the email, whatever it replies.
ENDS: dict[str, tuple[bytes, str, int]] = {
    "4xx": (b"452 4.3.1 later\r\n", "deferred", 1),
    "5xx": (b"554 5.6.0 no\r\n", "bounced", 1),
    "cut": (CLOSE, "uncertain", 1),
    "nonsense": (b"999 what?\r\n", "uncertain", 1),
    "421": (b"421 4.3.2 later\r\n" + CLOSE, "deferred", 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_answer_to_the_end_of_data_decides(make_sending_site: MakeSendingSite, end: str) -> None:
    """An email without a valid answer to its end is uncertain, and is not resent automatically."""
    answer, state, code = ENDS[end]
    site = make_sending_site()
    with scripted({".": [answer]}) as server:
        outcome = site.send(server)
    assert (outcome.code, site.states()) == (code, {state: 1, "sent": 2})
    assert site.uncertain_addresses() == (
        {"reader0@example.com"} if state == "uncertain" else set()
    )
    site.heal("reader1@example.com", "reader2@example.com")


@pytest.mark.parametrize(("word", "states"), [("RCPT", {"sent": 3}), (".", {"uncertain": 1})])
def test_missing_reply_times_out(
    make_sending_site: MakeSendingSite,
    monkeypatch: pytest.MonkeyPatch,
    word: str,
    states: dict[str, int],
) -> None:
    """A timeout before the end of an email leads to a new connection; later it is uncertain."""
    short = Timeouts(connect=5, reply=0.5, end=0.5)
    monkeypatch.setattr(
        send, "SmtpConnection", lambda server: SmtpConnection(server, timeouts=short)
    )
    site = make_sending_site()
    with scripted({word: [SILENCE]}) as server:
        site.send(server)
        assert {**site.states(), **states} == site.states()
        sure = [
            address for address in recipients(server) if address not in site.uncertain_addresses()
        ]
    site.heal(*sure)


def test_unreachable_server_loses_nothing(make_sending_site: MakeSendingSite) -> None:
    """An unreachable server is a one-line error, and no delivery is lost."""
    site = make_sending_site(connections=4)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    outcome = site.send(Scripted({}, port))
    assert (outcome.code, site.states()) == (1, {"planned": 3})
    hint = "check host and port in POSTROOM_SMTP_URL, and that the server runs"
    assert [line.partition("; ")[2] for line in outcome.errors] == [hint]
    site.heal()


def test_a_refused_login_is_tried_once(make_sending_site: MakeSendingSite) -> None:
    """A refused login is tried once, so that a wrong password does not lock the account."""
    script = {"EHLO": b"250-hello\r\n250 AUTH PLAIN\r\n", "AUTH": b"535 5.7.8 no\r\n"}
    site = make_sending_site(connections=4)
    with scripted(script) as server:
        outcome = site.send(server, login="me:wrong@")
    assert (outcome.code, site.states()) == (1, {"planned": 3})
    assert sum(command.startswith("AUTH") for command in server.commands) == 1
    assert "wrong" not in outcome.err
    site.heal()


def test_stopped_run_prints_no_address(make_sending_site: MakeSendingSite) -> None:
    """A stopped run prints the server's reply without the email addresses in it."""
    site = make_sending_site(30)
    no = [f"550 5.7.1 <reader{number}@example.com>: denied\r\n".encode() for number in range(30)]
    with scripted({"RCPT": no}) as server:
        outcome = site.send(server)
    assert outcome.code == 1
    assert "last reply is: 550 5.7.1 <…@…>: denied; correct" in outcome.err
    assert "@example.com" not in outcome.out + outcome.err


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_without_tls_nothing_is_sent(make_sending_site: MakeSendingSite, scheme: str) -> None:
    """A server without TLS gets neither the password nor an email."""
    site = make_sending_site()
    with scripted({}) as server:
        outcome = site.send(server, scheme=scheme, login="me:secret@")
    assert (outcome.code, len(outcome.errors), site.states()) == (1, 1, {"planned": 3})
    assert not any("AUTH" in command or "MAIL" in command for command in server.commands)
    site.heal()


def test_closed_connection_is_replaced(make_sending_site: MakeSendingSite) -> None:
    """A run replaces connections that the server closes after some emails."""
    site = make_sending_site(45)
    enough = [*[OK] * 20, b"421 4.7.0 enough\r\n" + CLOSE]
    with scripted({"MAIL": enough * 3}) as server:
        outcome = site.send(server)
    assert (outcome.code, site.states()) == (0, {"sent": 45})
    assert Counter(recipients(server)).most_common(1)[0][1] == 1


def test_allowed_connections_carry_all_emails(
    make_sending_site: MakeSendingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connections that the server allows carry all emails."""
    monkeypatch.setattr("postroom.send.pool.RETRY_PAUSES", ())
    site = make_sending_site(20, connections=4)
    busy = [b"421 4.7.0 too many\r\n" + CLOSE] * 50
    with scripted({"connect": [b"220 ready\r\n"] * 2 + busy}) as server:
        outcome = site.send(server)
    assert (outcome.code, site.states()) == (0, {"sent": 20})
    assert len(set(recipients(server))) == 20


def test_relay_that_refuses_everybody_stops_the_run(make_sending_site: MakeSendingSite) -> None:
    """A relay that refuses all emails stops the run with a reason and unsubscribes nobody."""
    site = make_sending_site(30)
    with scripted({"RCPT": b"550 5.7.1 relaying denied\r\n"}) as server:
        outcome = site.send(server)
    assert (outcome.code, site.states()) == (1, {"bounced": 20, "planned": 10})
    assert "20 emails; its last reply is: 550 5.7.1 relaying denied" in outcome.errors[0]
    store = open_store(None, site.folder)
    with closing(store.database):
        assert store.subscribers.count() == {"active": 30}


def test_ten_uncertain_emails_stop_the_run(make_sending_site: MakeSendingSite) -> None:
    """Ten uncertain emails in succession stop the run."""
    site = make_sending_site(30)
    with scripted({".": CLOSE}) as server:
        outcome = site.send(server)
    assert (outcome.code, site.states()) == (1, {"uncertain": 10, "planned": 20})


def test_second_run_at_once_is_refused(make_sending_site: MakeSendingSite) -> None:
    """A second `send` at the same time prints a one-line error and sends nothing."""
    site = make_sending_site()
    other = open_store(None, site.folder)
    with closing(other.database), scripted({}) as server:
        run = other.runs.begin(AT)
        outcome = site.send(server)
        assert (outcome.code, len(outcome.errors)) == (1, 1)
        assert "another run is sending" in outcome.errors[0]
        assert server.commands == []
        other.runs.end(run, AT)
    site.heal()


def test_locked_database_is_one_line(
    make_sending_site: MakeSendingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that another program has locked is a one-line error, and nothing is sent."""
    site = make_sending_site()
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.1)
    with (
        closing(sqlite3.connect(site.folder / engine.DEFAULT_PATH, isolation_level=None)) as other,
        scripted({}) as server,
    ):
        other.execute("BEGIN IMMEDIATE")
        outcome = site.send(server)
        other.execute("ROLLBACK")
    assert (outcome.code, server.commands) == (1, [])
    assert "is locked; another program is writing" in outcome.errors[0]
    site.heal()


def test_wrong_clock_sends_nothing_twice(
    make_sending_site: MakeSendingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is set back by a day causes no second email."""
    site = make_sending_site()
    with scripted({}) as server:
        assert site.send(server).code == 0
        with time_machine.travel(AT - timedelta(days=1)):
            monkeypatch.chdir(site.folder)
            assert main(["send", "--keep-ledger-here"]) == 0
    assert len(recipients(server)) == 3


# Runs in separate processes


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_emails_in_flight(
    make_sending_site: MakeSendingSite, number: signal.Signals
) -> None:
    """A run that gets a signal records the email in flight, and the next run sends the rest."""
    site = make_sending_site(40, rate=10)
    with scripted({}) as server:
        with Process[bytes](
            SEND, cwd=site.folder, env=surroundings(server), stderr=subprocess.PIPE
        ) as process:
            deadline = time.monotonic() + 30
            while len(server.messages) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 128 + number
        assert b"finishing the emails in flight" in said
        states = site.states()
        assert states["sent"] == len(server.messages) < 40
        assert set(states) == {"sent", "planned"}
        got = recipients(server)
    site.heal(*got)


@pytest.mark.slow
def test_full_disk_stops_the_run(make_sending_site: MakeSendingSite) -> None:
    """A run that cannot write to its ledger stops; at most the emails in flight are uncertain."""
    site = make_sending_site(200, connections=2)

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    with scripted({}) as server:
        done = subprocess.run(
            SEND,
            cwd=site.folder,
            env=surroundings(server),
            preexec_fn=limit_file_size,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert site.states().get("sending", 0) <= 2
        got = recipients(server)
    assert 0 < len(got) < 200
    with scripted({}) as server:
        outcome = site.send(server)
        assert outcome.code in (0, 1)
        again = Counter([*got, *recipients(server)])
    assert max(again.values()) == 1
    assert len(site.uncertain_addresses()) <= 2
    assert len(set(again) | site.uncertain_addresses()) == 200


def test_missing_thread_ends_the_run(
    make_sending_site: MakeSendingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that cannot start a thread ends, and the result of its last email is recorded."""
    site, opened = make_sending_site(), PooledConnection.open

    def fail_to_open(
        connection: PooledConnection, said: Callable[[ConnectionOpened], None]
    ) -> None:
        if connection.outgoing:
            raise RuntimeError("can't start new thread")
        opened(connection, said)

    with scripted({"RCPT": [b"421 later\r\n" + CLOSE]}) as server:
        with monkeypatch.context() as patch:
            patch.setattr(PooledConnection, "open", fail_to_open)
            with pytest.raises(RuntimeError, match="new thread"):
                site.send(server)
        assert site.states() == {"deferred": 1, "planned": 2}
    site.heal()
