"""When a run stops because the mail server takes nothing from us, and when it goes on."""

from __future__ import annotations

import pytest

from postroom.send.outcomes import CircuitBreaker
from postroom.smtp.transaction import ReplyKind, SmtpCommand
from postroom.smtp.transaction import TransactionResult as Reply
from tests.support.sending import MakeRoom
from tests.support.smtp_server import scripted


def reply(kind: ReplyKind, code: int = 0, text: str = "", command: SmtpCommand = "RCPT") -> Reply:
    """Return what became of a letter on a connection that goes on."""
    return Reply(kind, code, text, usable=True, command=command)


def streak(*replies: Reply) -> CircuitBreaker:
    """Return the streak after these."""
    told = CircuitBreaker()
    for one in replies:
        told = told.after(one)
    return told


NOBODY = reply("refused", 550, "5.1.1 no such user")
DENIED = reply("refused", 550, "5.7.1 relaying denied")
LATER = reply("deferred", 451, "4.7.1 later")
SILENT = reply("uncertain", 0, "no answer in time", "end of data")
TAKEN = reply("accepted", 250, "ok", "end of data")


@pytest.mark.parametrize(
    ("one", "most"),
    [(NOBODY, 100), (DENIED, 20), (LATER, 100), (SILENT, 10)],
    ids=["recipients given up", "other refusals", "deferrals", "unanswered"],
)
def test_so_many_in_a_row_are_too_many(one: Reply, most: int) -> None:
    """One fewer is not; what the server said last is kept."""
    assert not streak(*[one] * (most - 1)).is_open
    told = streak(*[one] * most)
    assert told.is_open
    assert told.affected == most
    assert told.last_reply == (f"{one.code} {one.text}" if one.code else one.text)


@pytest.mark.parametrize("one", [NOBODY, DENIED, LATER, SILENT])
def test_a_letter_that_is_taken_ends_the_streak(one: Reply) -> None:
    """A server that takes one letter takes letters."""
    assert streak(*[one] * 9, TAKEN) == CircuitBreaker()


def test_each_kind_is_counted_for_itself() -> None:
    """A list with many bad addresses, at a server that is slow besides, is no broken relay."""
    mixed = streak(*[NOBODY] * 99, *[DENIED] * 19, *[LATER] * 99, *[SILENT] * 9)
    assert not mixed.is_open
    assert mixed.after(SILENT).is_open


def test_what_the_server_was_not_asked_counts_for_nothing() -> None:
    """A letter that is too large for it says nothing of the server."""
    never = reply("refused", 0, "the email has 9 bytes, and the server takes 8 at most", "")
    assert streak(*[never] * 500) == CircuitBreaker()
    assert streak(*[DENIED] * 19, never, DENIED).is_open


def test_a_refused_sender_is_a_refusal_like_others() -> None:
    """Our own sender is refused to everybody, and the run stops soon."""
    assert streak(*[reply("refused", 550, "5.7.1 who?", "MAIL")] * 20).is_open


def test_a_relay_that_knows_nobody_stops_the_run(make_room: MakeRoom) -> None:
    """After a hundred it is not the list that is bad; what it said is told."""
    room = make_room(110, connections=4)
    with scripted({"RCPT": b"550 5.1.1 no such user\r\n"}) as server:
        outcome = room.send(server)
    states = room.states()
    assert outcome.code == 1
    # A letter may be on its way over each other connection.
    assert 100 <= states["bounced"] <= 103
    assert states["planned"] == 110 - states["bounced"]
    assert len(outcome.errors) == 1
    assert f"none of the last {states['bounced']} emails" in outcome.errors[0]
    assert "550 5.1.1 no such user" in outcome.errors[0]


def test_a_letter_too_large_for_the_server_is_not_offered(make_room: MakeRoom) -> None:
    """Thirty such letters wait for a server that takes them; the run comes to its end."""
    room = make_room(30)
    with scripted({"EHLO": b"250-hello\r\n250 SIZE 100\r\n"}) as server:
        outcome = room.send(server)
    assert (outcome.code, len(outcome.errors), room.states()) == (1, 1, {"deferred": 30})
    assert outcome.errors[0].startswith("send: 30 emails refused; ")
    assert not any(command.startswith("MAIL") for command in server.commands)
    room.heal()


def test_what_is_resent_and_put_off_is_not_unanswered(make_room: MakeRoom) -> None:
    """It stays in doubt, but the server answers: ten such do not stop the run."""
    room = make_room(12)
    with scripted({".": b"(closes)"}) as server:
        assert room.send(server).code == 1
        room.send(server)
    assert room.states() == {"uncertain": 12}
    with scripted({"RCPT": b"451 4.7.1 later\r\n"}) as server:
        outcome = room.send(server, "--resend-uncertain")
    asked = sum(command.startswith("RCPT") for command in server.commands)
    assert (outcome.code, outcome.errors, asked) == (1, [], 12)
    assert "12 uncertain" in outcome.out.splitlines()
    assert room.states() == {"uncertain": 12}
