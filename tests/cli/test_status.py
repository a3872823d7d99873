"""`postroom status`: runs, deliveries, subscribers with uncertain emails, and advice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine

from postroom.cli.main import main
from postroom.db.store import open_store
from postroom.models import BounceTrace, Cursor, IssueSnapshot, Segment
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import CLOSE, scripted

SETTINGS = """\
contact: {name: Press office, address: 1 Example Street}
mail:
  from: Example News <news@example.com>
  unsubscribe: https://news.example.com
  connections: 1
  rate: 1000
"""


@pytest.fixture
def site_dir(
    make_site: MakeSite,
    postroom: Callable[..., CommandResult],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Return a site with four subscribers who are due one post each."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", "a secret key of the tests")
    folder = make_site({"posts/a.md": POST}, SETTINGS)
    addresses = [f"reader{number}@example.com" for number in range(4)]
    options = ("--confirmed", "--frequency", "post", "--from", "2026-11-01")
    assert postroom(folder, "subscribers", "add", *options, *addresses).code == 0
    return folder


def send(
    folder: Path,
    postroom: Callable[..., CommandResult],
    monkeypatch: pytest.MonkeyPatch,
    script: dict[str, bytes | list[bytes]],
) -> CommandResult:
    """Run `send` with a server that answers as scripted."""
    with scripted(script) as server:
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        return postroom(folder, "send", "--keep-ledger-here")


def test_a_new_site_has_no_status(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """`status` creates no database."""
    folder = make_site({"posts/a.md": POST})
    assert postroom(folder, "status").out == "Nothing was sent yet, and there are no subscribers.\n"
    assert postroom(folder, "status", "--json").out == "{}\n"
    assert not (folder / ".postroom").exists()


def test_every_delivery_is_counted(
    site_dir: Path, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each delivery is counted by its state, and subscribers with uncertain emails are named."""
    script: dict[str, bytes | list[bytes]] = {
        "RCPT": [b"250 ok\r\n", b"451 4.3.0 later\r\n", b"550 5.1.1 no such user\r\n"],
        ".": [b"250 2.0.0 taken\r\n", CLOSE],
    }
    assert send(site_dir, postroom, monkeypatch, script).code == 1
    shown = re.sub(r"to 13:00:\d\d", "to 13:00:00", postroom(site_dir, "status").out)
    assert shown == (
        "Runs\n"
        "  2026-11-22 13:00:00 to 13:00:00: 1 sent, 1 deferred, 1 bounced, 1 uncertain\n"
        "Emails\n"
        "  1 sent, 1 deferred, 1 bounced, 1 uncertain\n"
        "May or may not have arrived\n"
        "  reader3@example.com, 2026-11-22 13:00: Connection reset by peer\n"
        "Deferred by the mail server\n"
        "  reader1@example.com, 2026-11-22 13:00, again from 13:15: 451 4.3.0 later\n"
        "Subscribers\n"
        "  3 active, 1 bounced\n"
        "Bounces and complaints in 30 days\n"
        "  1 hard bounce\n"
        "What to do\n"
        "  postroom send: 1 email not sent yet\n"
        "  postroom send --resend-uncertain: send the uncertain emails again; "
        "a subscriber whose email did arrive receives it twice\n"
        "  postroom status --acknowledge: or count them as delivered; until then send ends with "
        "exit code 1\n"
    )
    status = json.loads(postroom(site_dir, "status", "--json").out)
    assert [delivery["address"] for delivery in status["uncertain"]] == ["reader3@example.com"]
    assert status["emails"] == {"sent": 1, "deferred": 1, "bounced": 1, "uncertain": 1}
    assert (status["sending"], len(status["runs"]), len(status["advice"])) == (False, 1, 3)


def test_a_deferred_email_is_sent_by_a_later_run(
    site_dir: Path, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deferred email is sent after its retry time, and then there is no advice."""
    assert send(site_dir, postroom, monkeypatch, {"RCPT": b"451 later\r\n"}).code == 1
    early = send(site_dir, postroom, monkeypatch, {})
    must_wait = "nothing is due; 4 deferred emails must wait for a retry\n"
    assert (early.code, early.out) == (0, must_wait)
    with scripted({}) as server, time_machine.travel(AT + timedelta(minutes=16)):
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        monkeypatch.chdir(site_dir)
        assert main(["send", "--keep-ledger-here"]) == 0
    assert "What to do" not in postroom(site_dir, "status").out


def test_an_interrupted_run_is_distinguished_from_a_live_run(
    site_dir: Path, postroom: Callable[..., CommandResult]
) -> None:
    """A run is under way while its process lives, and interrupted afterwards."""
    store = open_store(None, site_dir)
    run = store.runs.begin(AT)
    ((group, _),) = store.segments.groups()
    issue = store.issues.freeze(IssueSnapshot("post", AT.date(), "", ("p",), AT, b"x"))
    store.deliveries.plan(run, Segment(group), issue, Cursor(AT.date(), 9), AT)
    store.deliveries.record_and_claim(run, [], 1, AT, str)
    alive = postroom(site_dir, "status").out
    assert "13:00:00 is under way: 3 planned, 1 sending" in alive
    assert "  wait: a run is under way\n" in alive
    store.database.close()
    dead = postroom(site_dir, "status").out
    assert "13:00:00 was interrupted: 3 planned, 1 sending" in dead
    (named,) = re.findall(r"May or may not have arrived\n  (\S+),.*\n", dead)
    assert named == "reader0@example.com"
    assert named not in alive
    assert "  postroom send: 3 emails not sent yet\n" in dead


def test_many_complaints_stop_the_next_run(
    site_dir: Path, postroom: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two or more complaints of 0.3 % stop `send` unless `--despite-complaints` is given."""
    assert send(site_dir, postroom, monkeypatch, {}).code == 0
    store = open_store(None, site_dir)
    subscribers = list(store.subscribers.every())
    for number, subscriber in enumerate(subscribers[:2], 1):
        assert "spam" not in postroom(site_dir, "status").out
        assert send(site_dir, postroom, monkeypatch, {}).code == 0
        trace = BounceTrace(token=subscriber.token, report=f"{number:016}")
        assert store.bounces.record_complaint(trace, str, AT) == "stopped"
    store.database.close()
    assert "  find out why 2 of 4 emails were reported as spam;" in postroom(site_dir, "status").out
    refused = send(site_dir, postroom, monkeypatch, {})
    assert (refused.code, refused.out) == (1, "")
    assert refused.errors[0].startswith("send: 2 complaints about 4 emails in 30 days")
    with scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        assert postroom(site_dir, "send", "--keep-ledger-here", "--despite-complaints").code == 0
