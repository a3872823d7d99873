"""Refused emails and uncertain ones are named, and the run's exit code says that they are there."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.support.sending import SEND, MakeRoom, Room, recipients, surroundings
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import CLOSE, Scripted, scripted

LATER = AT + timedelta(minutes=20)
FIRST = "reader0@example.com"
NEWS = POST.replace("We moved", "We moved again").replace(":we-moved", ":we-moved-again")


@pytest.fixture
def either(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the ledger in SQLite once, and once in PostgreSQL."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)


def section(shown: str, title: str) -> list[str]:
    """Return the lines of `status` under a title, or none."""
    found = re.search(rf"^{re.escape(title)}\n((?:  .*\n)+)", shown, re.MULTILINE)
    return [line.strip() for line in found[1].splitlines()] if found else []


def resent(room: Room, *options: str) -> tuple[CommandResult, list[str]]:
    """Run `send` later against a server that takes everything; return to whom it went."""
    with scripted({}) as server:
        return room.send(server, *options, at=LATER), recipients(server)


# The mail server's answer to the first email: at which command, its words, their status, and
# whether the email is tried again with the next issue or before.
REFUSALS: dict[str, tuple[str, str, str, str]] = {
    "policy at RCPT": ("RCPT", "550 5.7.1 relaying denied", "5.7.1", "bounced"),
    "no reason at RCPT": ("RCPT", "550 no", "", "bounced"),
    "mailbox full": ("RCPT", "552 5.2.2 mailbox full", "5.2.2", "bounced"),
    "sender refused": ("MAIL", "550 5.7.1 who are you?", "5.7.1", "deferred"),
    "login wanted": ("MAIL", "530 5.7.0 authentication required", "5.7.0", "deferred"),
    "DATA refused": ("DATA", "554 no", "", "bounced"),
    "554 after the dot": (".", "554 no thanks", "", "bounced"),
    "content after the dot": (".", "554 5.6.0 bad content", "5.6.0", "bounced"),
    "spam after the dot": (".", "550 5.7.26 unauthenticated sender", "5.7.26", "bounced"),
    "too large": (".", "552 5.3.4 message too big", "5.3.4", "bounced"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_fails_the_run_and_is_named(make_room: MakeRoom, kind: str) -> None:
    """Exit 1 and one line without an address; `status` has address, words, status and issue."""
    command, words, status, state = REFUSALS[kind]
    room = make_room()
    with scripted({command: [f"{words}\r\n".encode()]}) as server:
        outcome = room.send(server)
    assert outcome.code == 1
    assert outcome.errors == [
        (
            "send: 1 email refused; postroom status shows the subscribers and the replies of the "
            "mail server"
        )
    ]
    assert (outcome.warnings, "@example.com" in outcome.out + outcome.err) == ([], False)
    assert room.states() == {state: 1, "sent": 2}
    again = ", again from 13:15" if state == "deferred" else ""
    shown = room.status().out
    assert section(shown, "Refused") == [f"{FIRST}, 2026-11-22 13:00{again}: {words}"]
    assert section(shown, "Deferred by the mail server") == []
    assert "correct the cause of the 1 refused email" in shown
    (refused,) = room.told()["refused"]
    assert refused.pop("since").startswith("2026-11-22T12:00:")
    assert bool(refused.pop("due")) == (state == "deferred")
    issue = {"id": 1, "frequency": "post", "cutoff": "2026-11-22", "language": ""}
    assert refused == {
        "address": FIRST,
        "status": status,
        "reply": words,
        "issue": {**issue, "cutoff": refused["issue"]["cutoff"]},
    }


def test_an_email_that_the_server_cannot_take_is_refused(make_room: MakeRoom) -> None:
    """It is never offered, and counts as a refusal all the same."""
    room = make_room()
    with scripted({"EHLO": b"250-hello\r\n250 SIZE 100\r\n"}) as server:
        outcome = room.send(server)
    assert (outcome.code, len(outcome.errors), outcome.warnings) == (1, 1, [])
    assert len(section(room.status().out, "Refused")) == 3
    assert {one["status"] for one in room.told()["refused"]} == {""}


@pytest.mark.parametrize("words", ["550 5.1.1 no such user", "550 5.1.2 no such domain", "556 no"])
def test_an_unknown_mailbox_does_not_fail_the_run(make_room: MakeRoom, words: str) -> None:
    """The subscriber is off the list, so nothing is due that did not leave."""
    room = make_room()
    with scripted({"RCPT": [f"{words}\r\n".encode()]}) as server:
        outcome = room.send(server)
    assert (outcome.code, outcome.err, room.states()) == (0, "", {"bounced": 1, "sent": 2})
    assert room.told()["refused"] == []
    assert resent(room)[0].code == 0


def test_a_deferral_is_no_refusal(make_room: MakeRoom) -> None:
    """It waits for its retry, and the run says so as before."""
    room = make_room()
    with scripted({"RCPT": [b"450 4.7.1 greylisted\r\n"]}) as server:
        outcome = room.send(server)
    assert (outcome.code, outcome.errors, len(outcome.warnings)) == (1, [], 1)
    assert room.told()["refused"] == []
    assert len(section(room.status().out, "Deferred by the mail server")) == 1


@pytest.mark.usefixtures("either")
def test_a_refused_sender_is_named_until_the_retry(make_room: MakeRoom) -> None:
    """A run that only waits refuses nothing: exit 0. The first refusal's instant stays."""
    room = make_room()
    with scripted({"MAIL": [b"550 5.7.1 who?\r\n"]}) as server:
        assert room.send(server).code == 1
        before = room.told()["refused"]
        waiting = room.send(server)
    assert (waiting.code, waiting.err) == (0, "")
    assert room.told()["refused"] == before
    assert len(before) == 1
    outcome, got = resent(room)
    assert (outcome.code, got) == (0, [FIRST])
    assert room.told()["refused"] == []
    assert "Refused" not in room.status().out


@pytest.mark.usefixtures("either")
def test_the_next_issue_resolves_a_refusal(make_room: MakeRoom) -> None:
    """Its posts come with the next issue; a run in between has nothing refused: exit 0."""
    room = make_room()
    with scripted({".": [b"554 no\r\n"]}) as server:
        assert room.send(server).code == 1
    assert (resent(room)[0].code, len(room.told()["refused"])) == (0, 1)
    (room.folder / "posts/b.md").write_text(NEWS, "utf-8")
    with scripted({".": [b"554 5.7.1 still no\r\n"]}) as server:
        assert room.send(server, at=LATER).code == 1
    (refused,) = room.told()["refused"]
    assert (refused["reply"], refused["since"][:16]) == ("554 5.7.1 still no", "2026-11-22T12:20")
    more = NEWS.replace("moved again", "moved for good").replace("moved-again", "moved-for-good")
    (room.folder / "posts/c.md").write_text(more, "utf-8")
    assert resent(room)[0].code == 0
    assert room.told()["refused"] == []


@pytest.mark.usefixtures("either")
def test_subscribers_who_left_are_not_named(make_room: MakeRoom) -> None:
    """Nothing is due to them any more."""
    room = make_room()
    with scripted({"RCPT": [b"550 5.7.1 no\r\n"]}) as server:
        assert room.send(server).code == 1
    store = room.store()
    with closing(store.database):
        store.subscribers.stop([FIRST], "unsubscribed")
    assert room.told()["refused"] == []


def test_many_refusals_are_counted(make_room: MakeRoom) -> None:
    """On a screen there are twenty; JSON has all."""
    room = make_room(26)
    answers = [b"250 ok\r\n", *[b"550 5.7.1 no\r\n"] * 12, b"250 ok\r\n", *[b"554 no\r\n"] * 12]
    with scripted({"RCPT": answers}) as server:
        outcome = room.send(server)
    assert (outcome.code, room.states()) == (1, {"bounced": 24, "sent": 2})
    assert outcome.errors[0].startswith("send: 24 emails refused; ")
    assert section(room.status().out, "Refused")[20:] == ["and 4 more"]
    assert len(room.told()["refused"]) == 24


# Uncertain


@pytest.fixture
def uncertain(make_room: MakeRoom) -> Room:
    """Return a room in which the first email may or may not have arrived."""
    room = make_room()
    with scripted({".": [CLOSE]}) as server:
        outcome = room.send(server)
    assert (outcome.code, room.states()) == (1, {"uncertain": 1, "sent": 2})
    return room


OPEN = (
    "send: 1 email may or may not have arrived; postroom status names the "
    "subscribers; postroom send --resend-uncertain sends the emails again, postroom status "
    "--acknowledge counts them as delivered"
)


def test_while_one_is_uncertain_no_run_is_fine(uncertain: Room) -> None:
    """Each run ends with 1 and one line that says what to do, also where nothing is due."""
    for _ in range(2):
        outcome, got = resent(uncertain)
        assert (outcome.code, outcome.errors, outcome.warnings, got) == (1, [], [OPEN], [])
        assert outcome.out.startswith("nothing is due; ")
    (uncertain.folder / "posts/b.md").write_text(NEWS, "utf-8")
    outcome, got = resent(uncertain)
    assert (outcome.code, outcome.warnings, len(got)) == (1, [OPEN], 3)
    (named,) = uncertain.told()["uncertain"]
    assert (named["address"], named["status"], named["reply"]) == (
        FIRST,
        "",
        "Connection reset by peer",
    )
    assert (named["issue"]["id"], named["issue"]["frequency"]) == (1, "post")
    shown = uncertain.status().out
    assert "  postroom status --acknowledge: or count them as delivered; " in shown


def test_the_line_is_said_anew_where_more_become_uncertain(uncertain: Room) -> None:
    """First how many there were, then how many there are."""
    (uncertain.folder / "posts/b.md").write_text(NEWS, "utf-8")
    with scripted({".": [CLOSE]}) as server:
        outcome = uncertain.send(server, at=LATER)
    said = [line.partition(" may or may not ")[0] for line in outcome.warnings]
    assert said == ["send: 1 email", "send: 2 emails"]
    assert (outcome.code, len(uncertain.told()["uncertain"])) == (1, 2)


@pytest.mark.usefixtures("either")
def test_what_is_acknowledged_is_closed(uncertain: Room) -> None:
    """Runs are fine again; it stays counted as delivered, and is never sent again."""
    done = uncertain.status("--acknowledge")
    line = f"  {FIRST}, 2026-11-22 13:00: Connection reset by peer\n"
    assert (done.code, done.err) == (0, "")
    assert done.out == f"1 email acknowledged; not sent again\n{line}"
    for options in ((), ("--resend-uncertain",), ()):
        outcome, got = resent(uncertain, *options)
        assert (outcome.code, outcome.err, got) == (0, "", [])
    told = uncertain.told()
    assert (told["uncertain"], told["acknowledged"], told["advice"]) == ([], 1, [])
    assert told["emails"] == {"uncertain": 1, "sent": 2}
    shown = section(uncertain.status().out, "Emails")
    assert shown == ["2 sent, 1 uncertain", "1 of the uncertain acknowledged"]
    (uncertain.folder / "posts/b.md").write_text(NEWS, "utf-8")
    with scripted({}) as server:
        assert uncertain.send(server, at=LATER).code == 0
    assert sorted(recipients(server)) == [f"reader{number}@example.com" for number in range(3)]
    assert [message.count(b"We moved again") > 0 for message in server.messages] == [True] * 3
    assert all(b"We moved\r\n" not in message for message in server.messages)


@pytest.mark.usefixtures("either")
def test_the_instant_is_recorded_and_stays(uncertain: Room) -> None:
    """The row says when; to acknowledge once more changes nothing."""
    assert uncertain.status("--acknowledge").code == 0
    before = acknowledged(uncertain)
    again = uncertain.status("--acknowledge")
    assert (again.code, again.out) == (0, "nothing to acknowledge: no email is uncertain\n")
    assert uncertain.status("--acknowledge", "--json").out == '{\n "acknowledged": []\n}\n'
    assert acknowledged(uncertain) == before
    assert [state for state, at in before if at] == ["uncertain"]


def acknowledged(room: Room) -> list[tuple[str, str]]:
    """Return the state of each row and when it was acknowledged."""
    store = room.store()
    with closing(store.database), store.database.reading() as connection:
        asked = sa.text("SELECT state, acknowledged FROM deliveries ORDER BY id")
        return [(state, str(at or "")) for state, at in connection.execute(asked)]


def test_one_that_becomes_uncertain_later_is_open(uncertain: Room) -> None:
    """What is acknowledged is what was uncertain then."""
    assert uncertain.status("--acknowledge").code == 0
    (uncertain.folder / "posts/b.md").write_text(NEWS, "utf-8")
    with scripted({".": [CLOSE]}) as server:
        assert uncertain.send(server, at=LATER).code == 1
    assert len(uncertain.told()["uncertain"]) == 1
    outcome, got = resent(uncertain, "--resend-uncertain")
    assert (outcome.code, got) == (0, [FIRST])


@pytest.mark.usefixtures("either")
def test_sending_again_closes_them_too(uncertain: Room) -> None:
    """Refused once more, it stays open; accepted, it is sent."""
    with scripted({".": [b"554 5.7.1 no\r\n"]}) as server:
        outcome = uncertain.send(server, "--resend-uncertain", at=LATER)
    assert (outcome.code, outcome.warnings, outcome.errors) == (1, [OPEN], [])
    told = uncertain.told()
    assert ([one["status"] for one in told["uncertain"]], told["refused"]) == (["5.7.1"], [])
    outcome, got = resent(uncertain, "--resend-uncertain")
    assert (outcome.code, outcome.err, got) == (0, "", [FIRST])
    assert resent(uncertain)[0].code == 0


def killed(room: Room, server: Scripted) -> None:
    """Kill a `send` while one email is with the server."""
    with (
        server.holding() as came,
        subprocess.Popen(SEND, cwd=room.folder, env=surroundings(server)) as process,
    ):
        assert came.wait(30)
        process.send_signal(signal.SIGKILL)


@pytest.mark.usefixtures("either")
def test_what_a_dead_run_had_in_hand_is_acknowledged(make_room: MakeRoom) -> None:
    """`status` names it as uncertain before the next run does, so it is closed like others."""
    room = make_room()
    with scripted({}) as server:
        killed(room, server)
    assert room.states() == {"sending": 1, "planned": 2}
    assert room.status("--acknowledge").out.splitlines()[0] == (
        "1 email acknowledged; not sent again"
    )
    assert room.states() == {"uncertain": 1, "planned": 2}
    outcome, got = resent(room)
    assert (outcome.code, outcome.err) == (0, "")
    assert got == ["reader1@example.com", "reader2@example.com"]


@pytest.mark.usefixtures("either")
def test_what_a_living_run_has_in_hand_is_left_to_it(make_room: MakeRoom) -> None:
    """To acknowledge while a run sends closes nothing of its emails."""
    room = make_room()
    nothing = "nothing to acknowledge: no email is uncertain\n"
    with scripted({}) as server, ExitStack() as at_last:
        with server.holding() as came:
            process = at_last.enter_context(
                subprocess.Popen(SEND, cwd=room.folder, env=surroundings(server))
            )
            assert came.wait(30)
            assert room.status("--acknowledge").out == nothing
            assert room.states() == {"sending": 1, "planned": 2}
        assert process.wait(30) == 0
    assert room.states() == {"sent": 3}


def test_without_a_database_there_is_nothing_to_acknowledge(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """Nor does it make one."""
    folder = make_site()
    for options, said in (
        ((), "nothing to acknowledge: no email is uncertain\n"),
        (("--json",), '{\n "acknowledged": []\n}\n'),
    ):
        outcome = postroom(folder, "status", "--acknowledge", *options)
        assert (outcome.code, outcome.out) == (0, said)
    assert not (folder / ".postroom").exists()
