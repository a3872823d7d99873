"""Runs report refused and uncertain emails by message and exit code."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.support.sending import SEND, MakeSendingSite, SendingSite, recipients, surroundings
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import CLOSE, Scripted, scripted

LATER = AT + timedelta(minutes=20)
FIRST = "reader0@example.com"
NEWS = POST.replace("We moved", "We moved again").replace(":we-moved", ":we-moved-again")


@pytest.fixture
def each_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the ledger in SQLite once, and once in PostgreSQL."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)


def section(shown: str, title: str) -> list[str]:
    """Return the lines of `status` under a title, or none."""
    found = re.search(rf"^{re.escape(title)}\n((?:  .*\n)+)", shown, re.MULTILINE)
    return [line.strip() for line in found[1].splitlines()] if found else []


def send_later(site: SendingSite, *options: str) -> tuple[CommandResult, list[str]]:
    """Run `send` later against a server without faults; return the result and the recipients."""
    with scripted({}) as server:
        return site.send(server, *options, at=LATER), recipients(server)


# The mail server's answer to the first email: at which command, its words, their status, and
# whether the email is tried again with the next issue or before.
REFUSALS: dict[str, tuple[str, str, str, str]] = {
    "policy at RCPT": ("RCPT", "550 5.7.1 relaying denied", "5.7.1", "bounced"),
    "words against the status": ("RCPT", "550 5.1.1 your IP is blacklisted", "5.1.1", "bounced"),
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
def test_refusal_fails_the_run_and_is_shown(make_sending_site: MakeSendingSite, kind: str) -> None:
    """A refusal gives exit code 1 and one line without an address; `status` shows it in full."""
    command, words, status, state = REFUSALS[kind]
    site = make_sending_site()
    with scripted({command: [f"{words}\r\n".encode()]}) as server:
        outcome = site.send(server)
    assert outcome.code == 1
    assert outcome.errors == [
        (
            "send: 1 email refused; postroom status shows the subscribers and the replies of the "
            "mail server"
        )
    ]
    assert (outcome.warnings, "@example.com" in outcome.out + outcome.err) == ([], False)
    assert site.states() == {state: 1, "sent": 2}
    again = ", again from 13:15" if state == "deferred" else ""
    shown = site.status().out
    assert section(shown, "Refused") == [f"{FIRST}, 2026-11-22 13:00{again}: {words}"]
    assert section(shown, "Deferred by the mail server") == []
    assert "correct the cause of the 1 refused email" in shown
    (refused,) = site.status_json()["refused"]
    assert refused.pop("since").startswith("2026-11-22T12:00:")
    assert bool(refused.pop("due")) == (state == "deferred")
    issue = {"id": 1, "frequency": "post", "cutoff": "2026-11-22", "language": ""}
    assert refused == {
        "address": FIRST,
        "status": status,
        "reply": words,
        "issue": {**issue, "cutoff": refused["issue"]["cutoff"]},
    }


def test_email_that_cannot_be_offered_is_refused(make_sending_site: MakeSendingSite) -> None:
    """An email that the server cannot accept is not offered, and counts as a refusal."""
    site = make_sending_site()
    with scripted({"EHLO": b"250-hello\r\n250 SIZE 100\r\n"}) as server:
        outcome = site.send(server)
    assert (outcome.code, len(outcome.errors), outcome.warnings) == (1, 1, [])
    assert len(section(site.status().out, "Refused")) == 3
    assert {entry["status"] for entry in site.status_json()["refused"]} == {""}


@pytest.mark.parametrize("words", ["550 5.1.1 no such user", "550 5.1.2 no such domain", "556 no"])
def test_an_unknown_mailbox_does_not_fail_the_run(
    make_sending_site: MakeSendingSite, words: str
) -> None:
    """An unknown mailbox bounces the subscriber, so no due email is left unsent."""
    site = make_sending_site()
    with scripted({"RCPT": [f"{words}\r\n".encode()]}) as server:
        outcome = site.send(server)
    assert (outcome.code, outcome.err, site.states()) == (0, "", {"bounced": 1, "sent": 2})
    assert site.status_json()["refused"] == []
    assert send_later(site)[0].code == 0


def test_a_deferral_is_no_refusal(make_sending_site: MakeSendingSite) -> None:
    """A deferral is not listed as a refusal, and the run reports its retry."""
    site = make_sending_site()
    with scripted({"RCPT": [b"450 4.7.1 greylisted\r\n"]}) as server:
        outcome = site.send(server)
    assert (outcome.code, outcome.errors, len(outcome.warnings)) == (1, [], 1)
    assert site.status_json()["refused"] == []
    assert len(section(site.status().out, "Deferred by the mail server")) == 1


@pytest.mark.usefixtures("each_database")
def test_refused_sender_is_shown_until_the_retry(make_sending_site: MakeSendingSite) -> None:
    """A refused sender is shown until the retry, with the time of the first refusal."""
    site = make_sending_site()
    with scripted({"MAIL": [b"550 5.7.1 who?\r\n"]}) as server:
        assert site.send(server).code == 1
        before = site.status_json()["refused"]
        waiting = site.send(server)
    assert (waiting.code, waiting.err) == (0, "")
    assert site.status_json()["refused"] == before
    assert len(before) == 1
    outcome, got = send_later(site)
    assert (outcome.code, got) == (0, [FIRST])
    assert site.status_json()["refused"] == []
    assert "Refused" not in site.status().out


@pytest.mark.usefixtures("each_database")
def test_the_next_issue_resolves_a_refusal(make_sending_site: MakeSendingSite) -> None:
    """A refusal is resolved by the next issue, which contains the missed posts."""
    site = make_sending_site()
    with scripted({".": [b"554 no\r\n"]}) as server:
        assert site.send(server).code == 1
    assert (send_later(site)[0].code, len(site.status_json()["refused"])) == (0, 1)
    (site.folder / "posts/b.md").write_text(NEWS, "utf-8")
    with scripted({".": [b"554 5.7.1 still no\r\n"]}) as server:
        assert site.send(server, at=LATER).code == 1
    (refused,) = site.status_json()["refused"]
    assert (refused["reply"], refused["since"][:16]) == ("554 5.7.1 still no", "2026-11-22T12:20")
    more = NEWS.replace("moved again", "moved for good").replace("moved-again", "moved-for-good")
    (site.folder / "posts/c.md").write_text(more, "utf-8")
    assert send_later(site)[0].code == 0
    assert site.status_json()["refused"] == []


@pytest.mark.usefixtures("each_database")
def test_unsubscribed_subscribers_are_not_shown(make_sending_site: MakeSendingSite) -> None:
    """Refusals of unsubscribed subscribers are not shown: nothing is due to them."""
    site = make_sending_site()
    with scripted({"RCPT": [b"550 5.7.1 no\r\n"]}) as server:
        assert site.send(server).code == 1
    store = site.store()
    with closing(store.database):
        store.subscribers.stop([FIRST], "unsubscribed")
    assert site.status_json()["refused"] == []


def test_many_refusals_are_counted(make_sending_site: MakeSendingSite) -> None:
    """The text shows twenty refusals and a count; JSON has all of them."""
    site = make_sending_site(26)
    answers = [b"250 ok\r\n", *[b"550 5.7.1 no\r\n"] * 12, b"250 ok\r\n", *[b"554 no\r\n"] * 12]
    with scripted({"RCPT": answers}) as server:
        outcome = site.send(server)
    assert (outcome.code, site.states()) == (1, {"bounced": 24, "sent": 2})
    assert outcome.errors[0].startswith("send: 24 emails refused; ")
    assert section(site.status().out, "Refused")[20:] == ["and 4 more"]
    assert len(site.status_json()["refused"]) == 24


# Uncertain


@pytest.fixture
def uncertain(make_sending_site: MakeSendingSite) -> SendingSite:
    """Return a site whose first email may or may not have arrived."""
    site = make_sending_site()
    with scripted({".": [CLOSE]}) as server:
        outcome = site.send(server)
    assert (outcome.code, site.states()) == (1, {"uncertain": 1, "sent": 2})
    return site


OPEN = (
    "send: 1 email may or may not have arrived; postroom status names the "
    "subscribers; postroom send --resend-uncertain sends the emails again, postroom status "
    "--acknowledge counts them as delivered"
)


def test_uncertain_email_fails_every_run(uncertain: SendingSite) -> None:
    """Every run ends with 1 and one line of advice, even if nothing is due."""
    for _ in range(2):
        outcome, got = send_later(uncertain)
        assert (outcome.code, outcome.errors, outcome.warnings, got) == (1, [], [OPEN], [])
        assert outcome.out.startswith("nothing is due; ")
    (uncertain.folder / "posts/b.md").write_text(NEWS, "utf-8")
    outcome, got = send_later(uncertain)
    assert (outcome.code, outcome.warnings, len(got)) == (1, [OPEN], 3)
    (entry,) = uncertain.status_json()["uncertain"]
    assert (entry["address"], entry["status"], entry["reply"]) == (
        FIRST,
        "",
        "Connection reset by peer",
    )
    assert (entry["issue"]["id"], entry["issue"]["frequency"]) == (1, "post")
    shown = uncertain.status().out
    assert "  postroom status --acknowledge: or count them as delivered; " in shown


def test_warning_is_repeated_with_the_new_count(uncertain: SendingSite) -> None:
    """The warning is repeated with the new count when more emails become uncertain."""
    (uncertain.folder / "posts/b.md").write_text(NEWS, "utf-8")
    with scripted({".": [CLOSE]}) as server:
        outcome = uncertain.send(server, at=LATER)
    counts = [line.partition(" may or may not ")[0] for line in outcome.warnings]
    assert counts == ["send: 1 email", "send: 2 emails"]
    assert (outcome.code, len(uncertain.status_json()["uncertain"])) == (1, 2)


@pytest.mark.usefixtures("each_database")
def test_acknowledged_email_is_closed(uncertain: SendingSite) -> None:
    """An acknowledged email counts as delivered, is not resent, and fails no run."""
    done = uncertain.status("--acknowledge")
    line = f"  {FIRST}, 2026-11-22 13:00: Connection reset by peer\n"
    assert (done.code, done.err) == (0, "")
    assert done.out == f"1 email acknowledged; not sent again\n{line}"
    for options in ((), ("--resend-uncertain",), ()):
        outcome, got = send_later(uncertain, *options)
        assert (outcome.code, outcome.err, got) == (0, "", [])
    shown_status = uncertain.status_json()
    assert (shown_status["uncertain"], shown_status["acknowledged"], shown_status["advice"]) == (
        [],
        1,
        [],
    )
    assert shown_status["emails"] == {"uncertain": 1, "sent": 2}
    shown = section(uncertain.status().out, "Emails")
    assert shown == ["2 sent, 1 uncertain", "1 of the uncertain acknowledged"]
    (uncertain.folder / "posts/b.md").write_text(NEWS, "utf-8")
    with scripted({}) as server:
        assert uncertain.send(server, at=LATER).code == 0
    assert sorted(recipients(server)) == [f"reader{number}@example.com" for number in range(3)]
    assert [message.count(b"We moved again") > 0 for message in server.messages] == [True] * 3
    assert all(b"We moved\r\n" not in message for message in server.messages)


@pytest.mark.usefixtures("each_database")
def test_time_of_acknowledgement_stays(uncertain: SendingSite) -> None:
    """The time of the acknowledgement is recorded, and a second one does not change it."""
    assert uncertain.status("--acknowledge").code == 0
    before = acknowledgements(uncertain)
    again = uncertain.status("--acknowledge")
    assert (again.code, again.out) == (0, "nothing to acknowledge: no email is uncertain\n")
    assert uncertain.status("--acknowledge", "--json").out == '{\n "acknowledged": []\n}\n'
    assert acknowledgements(uncertain) == before
    assert [state for state, at in before if at] == ["uncertain"]


def acknowledgements(site: SendingSite) -> list[tuple[str, str]]:
    """Return the state of each delivery and when it was acknowledged."""
    store = site.store()
    with closing(store.database), store.database.reading() as connection:
        asked = sa.text("SELECT state, acknowledged FROM deliveries ORDER BY id")
        return [(state, str(at or "")) for state, at in connection.execute(asked)]


def test_later_uncertain_email_is_open(uncertain: SendingSite) -> None:
    """An acknowledgement does not include emails that become uncertain later."""
    assert uncertain.status("--acknowledge").code == 0
    (uncertain.folder / "posts/b.md").write_text(NEWS, "utf-8")
    with scripted({".": [CLOSE]}) as server:
        assert uncertain.send(server, at=LATER).code == 1
    assert len(uncertain.status_json()["uncertain"]) == 1
    outcome, got = send_later(uncertain, "--resend-uncertain")
    assert (outcome.code, got) == (0, [FIRST])


@pytest.mark.usefixtures("each_database")
def test_resending_closes_uncertain_emails(uncertain: SendingSite) -> None:
    """A resent email stays open if it is refused, and is closed if it is accepted."""
    with scripted({".": [b"554 5.7.1 no\r\n"]}) as server:
        outcome = uncertain.send(server, "--resend-uncertain", at=LATER)
    assert (outcome.code, outcome.warnings, outcome.errors) == (1, [OPEN], [])
    shown_status = uncertain.status_json()
    assert ([entry["status"] for entry in shown_status["uncertain"]], shown_status["refused"]) == (
        ["5.7.1"],
        [],
    )
    outcome, got = send_later(uncertain, "--resend-uncertain")
    assert (outcome.code, outcome.err, got) == (0, "", [FIRST])
    assert send_later(uncertain)[0].code == 0


def kill_send(site: SendingSite, server: Scripted) -> None:
    """Kill a `send` while one email is with the server."""
    with (
        server.holding() as came,
        subprocess.Popen(SEND, cwd=site.folder, env=surroundings(server)) as process,
    ):
        assert came.wait(30)
        process.send_signal(signal.SIGKILL)


@pytest.mark.usefixtures("each_database")
def test_email_in_flight_of_a_killed_run_is_acknowledged(
    make_sending_site: MakeSendingSite,
) -> None:
    """The email that a killed run had in flight can be acknowledged before the next run."""
    site = make_sending_site()
    with scripted({}) as server:
        kill_send(site, server)
    assert site.states() == {"sending": 1, "planned": 2}
    assert site.status("--acknowledge").out.splitlines()[0] == (
        "1 email acknowledged; not sent again"
    )
    assert site.states() == {"uncertain": 1, "planned": 2}
    outcome, got = send_later(site)
    assert (outcome.code, outcome.err) == (0, "")
    assert got == ["reader1@example.com", "reader2@example.com"]


@pytest.mark.usefixtures("each_database")
def test_email_in_flight_of_a_running_send_is_not_acknowledged(
    make_sending_site: MakeSendingSite,
) -> None:
    """An acknowledgement while a run sends does not close the run's emails."""
    site = make_sending_site()
    nothing = "nothing to acknowledge: no email is uncertain\n"
    with scripted({}) as server, ExitStack() as at_last:
        with server.holding() as came:
            process = at_last.enter_context(
                subprocess.Popen(SEND, cwd=site.folder, env=surroundings(server))
            )
            assert came.wait(30)
            assert site.status("--acknowledge").out == nothing
            assert site.states() == {"sending": 1, "planned": 2}
        assert process.wait(30) == 0
    assert site.states() == {"sent": 3}


def test_without_a_database_there_is_nothing_to_acknowledge(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """`status --acknowledge` without a database succeeds and creates none."""
    folder = make_site()
    for options, expected in (
        ((), "nothing to acknowledge: no email is uncertain\n"),
        (("--json",), '{\n "acknowledged": []\n}\n'),
    ):
        outcome = postroom(folder, "status", "--acknowledge", *options)
        assert (outcome.code, outcome.out) == (0, expected)
    assert not (folder / ".postroom").exists()
