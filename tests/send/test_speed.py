"""Emails are sent over several connections at the configured rate, whatever the server's speed."""

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
from tests.support.sending import SEND, MakeSendingSite, SendingSite, recipients, surroundings
from tests.support.smtp_server import CLOSE, DRIP, SILENCE, Scripted, scripted

pytestmark = pytest.mark.slow  # waits for slow servers

OK = b"250 ok\r\n"
LATER = b"421 4.7.0 later\r\n" + CLOSE
# Tolerance in seconds for a busy machine.
_LATE = 0.5
AUTH = b"250-hello\r\n250 AUTH PLAIN\r\n"


def assert_sent_once(site: SendingSite, server: Scripted) -> None:
    """Assert that every subscriber has one email, and that no email was tried twice."""
    assert site.states() == {"sent": site.subscribers}
    assert Counter(recipients(server)).most_common(1)[0][1] == 1
    assert len(recipients(server)) == site.subscribers


def connection_count(server: Scripted) -> int:
    """Return the number of connections that the server has greeted."""
    return sum(command.upper().startswith("EHLO") for command in server.commands)


def assert_pace(times: Sequence[float], rate: int) -> None:
    """Assert that at most a tenth of a second's emails came at once, then one after the other."""
    times = sorted(times)
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            most = rate * 0.1 + rate * (times[last] - start + _LATE)
            assert last - first + 1 <= most


# Rate


def test_rate_limits_all_connections_together(make_sending_site: MakeSendingSite) -> None:
    """At 20 emails a second over all connections, at most a tenth of a second's come at once."""
    site = make_sending_site(40, connections=4, rate=20)
    with scripted({}) as server:
        assert site.send(server).code == 0
    assert_sent_once(site, server)
    assert 1.9 <= server.times[-1] - server.times[0] + _LATE < 10
    assert_pace(server.times, 20)


def test_lost_time_is_not_made_up(make_sending_site: MakeSendingSite) -> None:
    """After a second in which all connections waited, emails are sent at the usual rate."""
    site = make_sending_site(30, connections=4, rate=20)
    with scripted({".": [DRIP + b"250 " + b"x" * 35 + b"\r\n"] * 4}) as server:
        assert site.send(server).code == 0
    assert_sent_once(site, server)
    assert_pace(server.times, 20)


def test_transactions_with_a_slow_server_overlap(make_sending_site: MakeSendingSite) -> None:
    """Four connections to a server with slow replies carry four emails at a time."""
    site = make_sending_site(8, connections=4)
    with scripted({}, pause=0.2) as server:
        began = time.monotonic()
        assert site.send(server).code == 0
        took = time.monotonic() - began
    assert_sent_once(site, server)
    replies = len(server.commands) + len(server.messages)
    assert took < 0.2 * replies * 0.6


def test_slow_reply_delays_its_own_email_only(make_sending_site: MakeSendingSite) -> None:
    """A reply that comes byte by byte delays no other connection."""
    site = make_sending_site(8, connections=4)
    with scripted({".": DRIP + b"250 taken, in my own time\r\n"}) as server:
        began = time.monotonic()
        assert site.send(server).code == 0
        took = time.monotonic() - began
    assert_sent_once(site, server)
    assert took < 8 * 27 * 0.03 * 0.6


def test_slow_connection_delays_no_other(make_sending_site: MakeSendingSite) -> None:
    """The other connections carry the remaining emails while one waits for a reply."""
    site = make_sending_site(30, connections=2)
    with scripted({".": [DRIP + b"250 " + b"x" * 100 + b"\r\n"]}) as server:
        assert site.send(server).code == 0
    assert_sent_once(site, server)
    assert server.times[-1] - server.times[0] < 100 * 0.03


# Replies at an unexpected time

UNASKED: Mapping[str, bytes] = {
    "421": b"421 4.4.2 idle for too long\r\n" + CLOSE,
    "451": b"451 timeout\r\n" + CLOSE,
    "nothing": CLOSE,
    "a reply too many": OK,
}


@pytest.mark.parametrize("unasked", UNASKED)
def test_unsolicited_reply_is_ignored(make_sending_site: MakeSendingSite, unasked: str) -> None:
    """A connection with an unsolicited reply or an early end is replaced for the next email."""
    site = make_sending_site(5)
    with scripted({".": OK + UNASKED[unasked]}) as server:
        outcome = site.send(server)
    assert outcome.code == 0, outcome.err
    assert_sent_once(site, server)
    assert connection_count(server) >= 5


def test_idle_connection_may_be_closed(make_sending_site: MakeSendingSite) -> None:
    """Connections that the server closes while they are idle are replaced without a warning."""
    site = make_sending_site(5, rate=3)
    with scripted({}, idle=0.1) as server:
        outcome = site.send(server)
    assert (outcome.code, outcome.err) == (0, "")
    assert_sent_once(site, server)
    assert connection_count(server) == 5


def test_email_refused_during_data_is_refused(make_sending_site: MakeSendingSite) -> None:
    """A refusal in the middle of the data counts for that email; the others are sent."""
    site = make_sending_site(3)
    with scripted({"data": [b"552 5.3.4 too big\r\n" + CLOSE]}) as server:
        outcome = site.send(server)
    assert (outcome.code, site.states()) == (1, {"bounced": 1, "sent": 2})
    site.heal(*recipients(server))


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [(b"552 5.3.4 too big\r\n", "refused", 552), (b"452 4.3.1 full\r\n", "deferred", 452)],
)
def test_reply_during_data_is_the_result(reply: bytes, kind: str, code: int) -> None:
    """An email that was not sent to its end has the server's early reply as its result."""
    large = (b"x" * 70 + b"\r\n") * 400_000
    script: dict[str, bytes | list[bytes]] = {"EHLO": b"250 hello\r\n", "data": reply + CLOSE}
    with scripted(script) as server:
        mailer = SmtpConnection(SmtpServer("smtp", "127.0.0.1", server.port))
        mailer.open()
        outcome = mailer.send("a@example.com", "b@example.com", large)
        mailer.close()
    assert (outcome.kind, outcome.code, outcome.usable) == (kind, code, False)
    assert server.messages == []


def test_broken_connection_is_not_used_again() -> None:
    """The reply on a broken connection counts for its email, and the connection is unusable."""
    envelope = Envelope("a@example.com", "b@example.com", to_wire(b"Subject: a\r\n\r\nb\r\n"))
    transaction = mail_transaction(envelope, ServerFeatures("", 0, frozenset()), Timeouts())
    assert next(transaction).data.startswith(b"MAIL")
    with pytest.raises(StopIteration) as ended:
        transaction.send(ServerReply(554, b"5.3.2 going down", unsent=True))
    outcome = ended.value.value
    assert (outcome.kind, outcome.command, outcome.usable) == ("refused", "MAIL", False)


# Ends of connections


@pytest.mark.parametrize("connections", [1, 3])
def test_login_that_stops_working_is_tried_once_per_connection(
    make_sending_site: MakeSendingSite, connections: int
) -> None:
    """A login that no longer works is tried once per connection, so no account is locked."""
    site = make_sending_site(20, connections=connections)
    script: dict[str, bytes | list[bytes]] = {
        "EHLO": AUTH,
        "AUTH": [b"235 welcome\r\n"] * connections + [b"535 5.7.8 no\r\n"] * 50,
        "MAIL": [OK] * connections + [LATER] * 50,
    }
    with scripted(script) as server:
        outcome = site.send(server, login="me:secret@")
    asked = sum(command.startswith("AUTH") for command in server.commands)
    assert asked == 2 * connections
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "535 5.7.8 no; check user and password" in outcome.errors[0]
    assert set(site.states()) == {"sent", "deferred", "planned"}
    site.heal(*recipients(server))


def test_last_result_is_recorded_before_quit(
    make_sending_site: MakeSendingSite,
) -> None:
    """A run that is killed while it waits for the reply to QUIT leaves nothing uncertain."""
    site = make_sending_site(2, per_connection=1)
    with scripted({"QUIT": SILENCE}) as server:
        with Process(SEND, cwd=site.folder, env=surroundings(server)) as process:
            deadline = time.monotonic() + 30
            while site.states() != {"sent": 1, "planned": 1} or "QUIT" not in server.commands:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert process.poll() is None
            process.kill()
        assert len(server.messages) == 1
        got = recipients(server)
    site.heal(*got)


def test_missing_reply_to_quit_delays_once(
    make_sending_site: MakeSendingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first of twelve successive connections waits for a missing reply to QUIT."""
    monkeypatch.setattr("postroom.smtp.connection._QUIT_TIMEOUT", 1.0)
    site = make_sending_site(12, per_connection=1)
    with scripted({"QUIT": SILENCE}) as server:
        began = time.monotonic()
        assert site.send(server).code == 0
        took = time.monotonic() - began
    assert_sent_once(site, server)
    assert took < 7


@pytest.mark.parametrize("then", [b"421 4.3.2 going down\r\n" + CLOSE, b"535 5.7.8 no\r\n"])
def test_no_connection_is_needed_after_the_last_email(
    make_sending_site: MakeSendingSite, then: bytes
) -> None:
    """A run succeeds although the server refuses new connections after the last email."""
    site = make_sending_site(3, per_connection=3)
    with scripted({"connect": [b"220 ready\r\n"] + [then] * 50}) as server:
        began = time.monotonic()
        outcome = site.send(server)
        took = time.monotonic() - began
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"^3 sent$", outcome.out, re.MULTILINE)
    assert_sent_once(site, server)
    assert took < 8


def test_interrupt_while_connecting_opens_no_more_connections(
    make_sending_site: MakeSendingSite,
) -> None:
    """Ctrl-C while the server does not greet opens no other connection."""
    site = make_sending_site(8, connections=4)
    waiting: list[bytes] = [SILENCE] * 8
    with scripted({"connect": waiting}) as server:
        with Process(SEND, cwd=site.folder, env=surroundings(server)) as process:
            deadline = time.monotonic() + 30
            while len(waiting) == 8:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        assert len(waiting) == 7
    assert site.states() == {"planned": 8}


# Uncertain deliveries of an earlier run


def test_email_of_a_killed_run_is_resent_on_request(make_sending_site: MakeSendingSite) -> None:
    """`--resend-uncertain` sends the email of a killed run again, with exit code 0."""
    site = make_sending_site(1)
    with (
        scripted({}) as server,
        server.holding() as came,
        Process(SEND, cwd=site.folder, env=surroundings(server)) as process,
    ):
        assert came.wait(30)
        process.send_signal(signal.SIGKILL)
    assert site.states() == {"sending": 1}
    with scripted({}) as server:
        outcome = site.send(server, "--resend-uncertain")
    assert (outcome.code, outcome.err, site.states()) == (0, "", {"sent": 1})
    assert recipients(server) == ["reader0@example.com"]
