"""`postroom doctor`: each check with a good and a bad case, without the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve

from postroom.doctor import environment
from postroom.errors import OutputError, Problem
from postroom.models import Contact, Site
from postroom.settings.urls import SmtpServer
from postroom.smtp.connection import SmtpConnection
from postroom.smtp.transaction import Timeouts
from tests.support.dns_records import WHOLE, Offline, lines, only
from tests.support.site import AT, POST, CommandResult, MakeSite
from tests.support.smtp_server import scripted


@pytest.fixture
def complete(site: Site) -> Site:
    """Return settings without findings."""
    contact = Contact(name="Press", email="press@example.com", address="1 Example Street\nTown")
    return evolve(site, mail=WHOLE, contact=contact)


def test_complete_settings_are_ok(complete: Site) -> None:
    """Complete settings have only ok findings."""
    assert {finding.level for finding in environment.check_settings(complete)} == {"ok"}


@pytest.mark.parametrize(
    ("part", "changes", "expected"),
    [
        ("mail", {"sender": ""}, "problem: mail.from: is missing"),
        ("mail", {"unsubscribe": ""}, "problem: mail.unsubscribe: is missing"),
        (
            "mail",
            {"unsubscribe": "http://a.example"},
            "problem: mail.unsubscribe: 'http://a.example' is not https",
        ),
        ("mail", {"bounces": ""}, "advice: mail.bounces: is missing"),
        ("mail", {"dkim_selector": ""}, "advice: mail.dkim_selector: is missing"),
        (
            "mail",
            {"reply_to": "noreply@example.com"},
            "advice: mail.reply_to: replies go to noreply",
        ),
        (
            "mail",
            {"reply_to": "A <no-reply@example.com>"},
            "advice: mail.reply_to: replies go to A",
        ),
        ("contact", {"address": ""}, "problem: contact.address: is missing"),
        ("contact", {"name": ""}, "advice: contact: does not name a company"),
        ("contact", {"email": ""}, "advice: contact: has no way to reach you"),
    ],
)
def test_incomplete_settings_are_found(
    complete: Site, part: str, changes: Mapping[str, str], expected: str
) -> None:
    """Each missing or wrong setting is a finding."""
    parts = {part: evolve(getattr(complete, part), **changes)}
    (found,) = (
        finding
        for finding in environment.check_settings(evolve(complete, **parts))
        if finding.level != "ok"
    )
    assert lines([found])[0].startswith(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("k" * 22, "ok: POSTROOM_SECRET_KEY: one key"),
        (f"{'k' * 22}, {'l' * 22}", "ok: POSTROOM_SECRET_KEY: 2 keys"),
        (None, "problem: POSTROOM_SECRET_KEY: is not set; set it to the key of this site; "),
        (" ", "problem: POSTROOM_SECRET_KEY: is not set; set it to the key of this site; "),
        (f"{'k' * 22},", "problem: POSTROOM_SECRET_KEY: holds an empty key"),
        (f"{'k' * 22},{'k' * 22}", "problem: POSTROOM_SECRET_KEY: holds a key twice"),
        (
            f"hunter2,{'k' * 22}",
            "problem: POSTROOM_SECRET_KEY: key 1 is shorter than 16 characters",
        ),
    ],
)
def test_secret_keys_are_checked(value: str | None, expected: str) -> None:
    """Secret keys must exist, be long enough and differ; they are never shown."""
    line = only(environment.check_secrets(value))
    assert line.startswith(expected)
    assert "hunter2" not in line
    assert "kkk" not in line


SHORT = Timeouts(connect=1, reply=1, end=1)


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        (
            b"250-hello\r\n250 SIZE 10000000\r\n",
            ["ok: connection: smtp://", "ok: size: accepts ema"],
        ),
        (b"250 hello\r\n", ["ok: connection: smtp://", "ok: size: has no limit"]),
        (
            b"250-hello\r\n250 SIZE 1000\r\n",
            ["ok: connection: smtp://", "advice: size: accepts at most 1000"],
        ),
        (b"554 go away\r\n", ["problem: smtp://127.0.0.1:"]),
    ],
)
def test_smtp_server_is_checked(hello: bytes, expected: list[str]) -> None:
    """The SMTP server is connected to, and no email is sent."""
    with scripted({"EHLO": hello}) as server:
        address = SmtpServer("smtp", "127.0.0.1", server.port)
        found = lines(
            environment.check_relay(SmtpConnection(address, timeouts=SHORT), str(address))
        )
    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected
    assert not server.messages


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changed", "due", "waiting", "expected"),
    [
        (NOW - timedelta(days=1), 3, 2, "ok: clock: shows 2026-11-22T12:00:00+00:00"),
        (NOW + timedelta(minutes=1), 1, 0, "ok: clock"),
        (NOW, 0, 0, "ok: clock"),
        (NOW, 0, 2, "problem: clock: shows 2026-11-22T12:00:00+00:00, and every post has"),
        (NOW + timedelta(hours=1), 3, 0, "problem: clock: shows 2026-11-22T12:00:00+00:00, but a"),
    ],
)
def test_wrong_clock_is_found(changed: datetime, due: int, waiting: int, expected: str) -> None:
    """A clock before every post, or before the change of a file, is a problem."""
    assert only(environment.check_clock(NOW, changed, due, waiting)).startswith(expected)


def _full() -> str:
    raise OSError(28, "No space left on device", "ledger.db")


def _foreign() -> str:
    raise OutputError([Problem("ledger.db", message="is another program's", hint="move it")])


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        (lambda: "ledger.db", "ok: database: ledger.db can be written"),
        (_full, "problem: database: ledger.db cannot be written (no space left on device)"),
        (_foreign, "problem: ledger.db: is another program's; move it"),
    ],
)
def test_database_is_checked(writes: Callable[[], str], expected: str) -> None:
    """A database that cannot be written is a problem."""
    assert only(environment.check_database(writes)).startswith(expected)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the settings from the environment, and block DNS queries."""
    for name in ("SMTP_URL", "SECRET_KEY", "DATABASE_URL"):
        monkeypatch.delenv(f"POSTROOM_{name}", raising=False)
    resolver = Offline({"TXT example.com": "v=spf1 ip4:192.0.2.1 ~all"})
    monkeypatch.setattr("postroom.cli.doctor.SystemResolver", lambda: resolver)
    return monkeypatch


SENDER = """\
mail:
  from: Example News <news@example.com>
"""


def test_prints_a_line_for_each_finding(
    make_site: MakeSite,
    postroom: Callable[..., CommandResult],
    offline: pytest.MonkeyPatch,
) -> None:
    """The command prints sections of marked lines; its exit code depends on problems."""
    folder = make_site({"posts/2026-11-20-we-moved.md": POST}, SENDER)
    for file in (folder / "postroom.yaml", folder / "posts/2026-11-20-we-moved.md"):
        # The files are older than the current time of the command.
        os.utime(file, times=(AT.timestamp() - 60,) * 2)
    with scripted({}) as server:
        offline.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        offline.setenv("POSTROOM_SECRET_KEY", "k" * 22)
        outcome = postroom(folder, "doctor")
    assert outcome.code == 1
    printed = outcome.out.splitlines()
    titles = [line for line in printed if not line.startswith("  ")]
    assert titles[:-1] == ["Settings", "Secrets", "Mail server", "Domains", "This machine"]
    assert titles[-1] == "4 problems, 3 recommendations"
    assert "  ✓ mail.from: Example News <news@example.com>" in printed
    assert "  ✗ MX of example.com: is missing, so replies are lost; add an MX record" in printed
    assert "  ✓ database: .postroom/postroom.db can be written" in printed
    assert not (folder / ".postroom").exists()
    assert outcome.err == ""


def test_missing_smtp_server_is_a_finding(
    make_site: MakeSite, postroom: Callable[..., CommandResult], offline: pytest.MonkeyPatch
) -> None:
    """Without POSTROOM_SMTP_URL the other checks are still made."""
    offline.setenv("POSTROOM_DATABASE_URL", "postgresql://db.example/news")
    outcome = postroom(make_site({"posts/2026-11-20-a.md": "no title"}), "doctor")
    assert outcome.code == 1
    assert "✗ POSTROOM_SMTP_URL: is not set; set it to smtp+starttls://" in outcome.out
    assert "✗ posts/2026-11-20-a.md" in outcome.out
    assert "database:" not in outcome.out


@pytest.mark.usefixtures("offline")
def test_damaged_database_is_found(
    make_site: MakeSite, postroom: Callable[..., CommandResult]
) -> None:
    """A file that is not a database is a problem."""
    folder = make_site({".postroom/postroom.db": b"not a database at all" * 100})
    damage = "✗ .postroom/postroom.db: is damaged, or is not a database"
    assert damage in postroom(folder, "doctor").out
    ledger = folder / ".postroom/postroom.db"
    ledger.unlink()
    assert postroom(folder, "db", "upgrade").code == 0
    assert "✓ database: .postroom/postroom.db can be" in postroom(folder, "doctor").out


def test_needs_a_site(tmp_path: Path, postroom: Callable[..., CommandResult]) -> None:
    """Outside a site the command ends with exit code 2."""
    outcome = postroom(tmp_path, "doctor")
    assert outcome.code == 2
    assert "postroom.yaml: is neither in this folder" in outcome.err
