"""A run stops when the SMTP server accepts no more emails."""

from __future__ import annotations

import pytest

from postroom.send.outcomes import CircuitBreaker
from postroom.smtp.transaction import ReplyKind, SmtpCommand
from postroom.smtp.transaction import TransactionResult as Reply
from tests.support.sending import MakeSendingSite
from tests.support.smtp_server import scripted


def reply(kind: ReplyKind, code: int = 0, text: str = "", command: SmtpCommand = "RCPT") -> Reply:
    """Return the result of a transaction whose connection stays usable."""
    return Reply(kind, code, text, usable=True, command=command)


def breaker_after(*replies: Reply) -> CircuitBreaker:
    """Return the circuit breaker after these results."""
    breaker = CircuitBreaker()
    for result in replies:
        breaker = breaker.after(result)
    return breaker


NOBODY = reply("refused", 550, "5.1.1 no such user")
DENIED = reply("refused", 550, "5.7.1 relaying denied")
LATER = reply("deferred", 451, "4.7.1 later")
SILENT = reply("uncertain", 0, "no answer in time", "end of data")
TAKEN = reply("accepted", 250, "ok", "end of data")


@pytest.mark.parametrize(
    ("result", "most"),
    [(NOBODY, 100), (DENIED, 20), (LATER, 100), (SILENT, 10)],
    ids=["recipients given up", "other refusals", "deferrals", "unanswered"],
)
def test_circuit_breaker_opens_at_the_limit(result: Reply, most: int) -> None:
    """The circuit breaker opens at the limit and keeps the server's last reply."""
    assert not breaker_after(*[result] * (most - 1)).is_open
    breaker = breaker_after(*[result] * most)
    assert breaker.is_open
    assert breaker.affected == most
    assert breaker.last_reply == (f"{result.code} {result.text}" if result.code else result.text)


@pytest.mark.parametrize("result", [NOBODY, DENIED, LATER, SILENT])
def test_accepted_email_resets_the_circuit_breaker(result: Reply) -> None:
    """An accepted email resets the circuit breaker."""
    assert breaker_after(*[result] * 9, TAKEN) == CircuitBreaker()


def test_each_kind_has_its_own_limit() -> None:
    """Each kind of result has a limit of its own, so a mixture below all limits stops no run."""
    mixed = breaker_after(*[NOBODY] * 99, *[DENIED] * 19, *[LATER] * 99, *[SILENT] * 9)
    assert not mixed.is_open
    assert mixed.after(SILENT).is_open


def test_email_that_was_not_offered_is_not_counted() -> None:
    """An email that is too large to be offered does not change the circuit breaker."""
    never = reply("refused", 0, "the email has 9 bytes, and the server takes 8 at most", "")
    assert breaker_after(*[never] * 500) == CircuitBreaker()
    assert breaker_after(*[DENIED] * 19, never, DENIED).is_open


def test_refused_sender_opens_the_circuit_breaker() -> None:
    """Refusals of the sender open the circuit breaker like other refusals."""
    assert breaker_after(*[reply("refused", 550, "5.7.1 who?", "MAIL")] * 20).is_open


def test_relay_without_known_recipients_stops_the_run(make_sending_site: MakeSendingSite) -> None:
    """A run stops after a hundred unknown recipients and prints the server's reply."""
    site = make_sending_site(110, connections=4)
    with scripted({"RCPT": b"550 5.1.1 no such user\r\n"}) as server:
        outcome = site.send(server)
    states = site.states()
    assert outcome.code == 1
    # Each other connection may have an email in flight.
    assert 100 <= states["bounced"] <= 103
    assert states["planned"] == 110 - states["bounced"]
    assert len(outcome.errors) == 1
    assert f"none of the last {states['bounced']} emails" in outcome.errors[0]
    assert "550 5.1.1 no such user" in outcome.errors[0]


def test_too_large_email_is_not_offered(make_sending_site: MakeSendingSite) -> None:
    """Emails over the server's limit are deferred without an attempt, and the run ends normally."""
    site = make_sending_site(30)
    with scripted({"EHLO": b"250-hello\r\n250 SIZE 100\r\n"}) as server:
        outcome = site.send(server)
    assert (outcome.code, len(outcome.errors), site.states()) == (1, 1, {"deferred": 30})
    assert outcome.errors[0].startswith("send: 30 emails refused; ")
    assert not any(command.startswith("MAIL") for command in server.commands)
    site.heal()


def test_deferral_of_a_resent_email_is_an_answer(make_sending_site: MakeSendingSite) -> None:
    """A deferred email that was uncertain stays uncertain, but counts as answered."""
    site = make_sending_site(12)
    with scripted({".": b"(closes)"}) as server:
        assert site.send(server).code == 1
        site.send(server)
    assert site.states() == {"uncertain": 12}
    with scripted({"RCPT": b"451 4.7.1 later\r\n"}) as server:
        outcome = site.send(server, "--resend-uncertain")
    asked = sum(command.startswith("RCPT") for command in server.commands)
    assert (outcome.code, outcome.errors, asked) == (1, [], 12)
    assert "12 uncertain" in outcome.out.splitlines()
    assert site.states() == {"uncertain": 12}
