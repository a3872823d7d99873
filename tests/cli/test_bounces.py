"""`postroom bounces`: its input, changes, output and errors."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import time_machine
from attrs import frozen

from postroom.db import engine
from postroom.db.store import open_store
from postroom.inbox.mailbox import Maildir
from postroom.models import Cursor, IssueSnapshot, Segment
from postroom.models import DeliveryOutcome as Sent
from tests.support import imap_server, smtp_server
from tests.support.bounce_messages import KEY, KEYS, NAMES, begin, claim_all, returned
from tests.support.processes import plain
from tests.support.site import ROOT, CommandResult, MakeSite

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
NEXT = Cursor(date(2026, 12, 1))
UNKNOWN = "is not recognised; read it yourself"
UNSIGNED = "refers to no email that this site sent, so it was ignored"

Run = Callable[..., CommandResult]


@pytest.fixture
def here(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a site with a secret key and no mailbox."""
    monkeypatch.setenv("POSTROOM_SECRET_KEY", KEY)
    for name in ("POSTROOM_DATABASE_URL", "POSTROOM_MAILBOX_URL"):
        monkeypatch.delenv(name, raising=False)
    return make_site()


@pytest.fixture
def run(here: Path, postroom: Callable[..., CommandResult]) -> Run:
    """Return a function that runs `postroom bounces` in the site."""
    return lambda *arguments: postroom(here, "bounces", *arguments)


@frozen
class Subscribers:
    """The subscribers of a site."""

    here: Path
    postroom: Callable[..., CommandResult]

    def __call__(self, *names: str) -> dict[str, int]:
        """Add subscribers, send each an email and return their deliveries."""
        addresses = [f"{name}@example.net" for name in names]
        assert self.postroom(self.here, "subscribers", "add", "--confirmed", *addresses).code == 0
        store = open_store(os.environ.get("POSTROOM_DATABASE_URL"), self.here)
        run = begin(store, NOW)
        issue = store.issues.freeze(IssueSnapshot("month", NEXT.date, "en", ("p",), NOW, b"x"))
        for group, _ in list(store.segments.groups()):
            store.deliveries.plan(run, Segment(group), issue, NEXT, NOW)
        claims = claim_all(store, run, NOW)
        store.deliveries.record(run, [Sent(claim.id, "sent") for claim in claims], NOW)
        store.runs.end(run, NOW)
        store.database.close()
        return {claim.address.partition("@")[0]: claim.id for claim in claims}

    @property
    def states(self) -> dict[str, str]:
        """The state of each subscriber by name."""
        lines = self.postroom(self.here, "subscribers", "list").out.splitlines()
        return {line.partition("@")[0]: line.split()[1] for line in lines}


@pytest.fixture
def subscribers(here: Path, postroom: Callable[..., CommandResult]) -> Subscribers:
    """Return the subscribers of the site, which has none yet."""
    return Subscribers(here, postroom)


def write_files(folder: Path, **messages: bytes) -> list[str]:
    """Write messages as files and return their names."""
    for name, data in messages.items():
        (folder / f"{name}.eml").write_bytes(data)
    return [f"{name}.eml" for name in messages]


def test_files_are_read_and_counted(
    run: Run,
    here: Path,
    subscribers: Subscribers,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kinds and changes are counted, on either database; no email address is printed."""
    monkeypatch.setenv("POSTROOM_DATABASE_URL", database_url)
    sent = subscribers("a", "b", "c", "d", "e")
    files = write_files(
        here,
        hard=returned("postfix-no-such-user", sent["a"], reader="a"),
        soft=returned("exchange-over-quota", sent["b"], reader="b"),
        complaint=returned("complaint-by-number", sent["c"], reader="c"),
        refused=returned("postfix-relay-denied", sent["d"], reader="d"),
        delayed=returned("postfix-delayed", sent["e"], reader="e"),
        vacation=returned("vacation", sent["e"], reader="e"),
        elsewhere=returned("gmail-not-found", 4711),
    )
    outcome = run(*files)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "7 messages: 2 hard, 1 soft, 1 refused, 1 delayed, 1 complaint, 1 auto-reply",
        "2 removed from the list, 2 recorded, 1 for an unknown subscriber",
    ]
    assert subscribers.states == {
        "a": "bounced",
        "b": "active",
        "c": "complained",
        "d": "active",
        "e": "active",
    }
    again = run("--json", *files)
    assert json.loads(again.out) == {
        "messages": 7,
        "kinds": {
            "hard": 2,
            "soft": 1,
            "refused": 1,
            "delayed": 1,
            "complaint": 1,
            "auto-reply": 1,
        },
        "changes": {"known": 4, "gone": 1},
    }


def test_email_to_unsubscribe_address_unsubscribes(
    run: Run,
    here: Path,
    subscribers: Subscribers,
) -> None:
    """RFC 2369 §3.2: any email to it unsubscribes, but an auto-reply does not."""
    subscribers("a", "b")
    store = open_store(None, here)
    tokens = {entry.address[0]: entry.token for entry in store.subscribers.every()}
    store.database.close()
    files = write_files(
        here,
        unsubscribe=returned("unsubscribe-by-program", token=tokens["a"]),
        machine=returned("unsubscribe-auto-reply", token=tokens["b"]),
    )
    outcome = run(*files)
    assert outcome.out == ("2 messages: 1 unsubscribe, 1 auto-reply\n1 removed from the list\n")
    assert subscribers.states == {"a": "unsubscribed", "b": "active"}
    assert tokens["a"] not in outcome.out + outcome.err


def test_unrecognised_messages_are_reported(run: Run, here: Path) -> None:
    """Unrecognised messages are reported by Message-ID or file name, and files stay."""
    files = write_files(
        here,
        person=returned("person"),
        forged=returned("forged"),
        nameless=b"\xff\xfe\0",
        fine=returned("vacation"),
    )
    outcome = run(*files, "absent.eml")
    assert outcome.code == 1
    assert outcome.errors == ["absent.eml: cannot be read (No such file or directory)"]
    assert outcome.warnings == [
        f"<person-1@mail.example.net>: {UNKNOWN}",
        f"<forged@mail.example.com>: {UNSIGNED}",
        f"nameless.eml: {UNKNOWN}",
    ]
    assert outcome.out == "4 messages: 1 hard, 1 auto-reply, 2 unknown\n"
    assert all((here / name).is_file() for name in files)


def test_control_characters_are_not_printed(run: Run, here: Path) -> None:
    """Control characters of a Message-ID are replaced by spaces."""
    (name,) = write_files(here, odd=b"Message-ID: <a\x1b[31m\x07@b>\nSubject: x\n\n")
    assert run(name).warnings == [f"<a [31m @b>: {UNKNOWN}"]


def test_events_have_the_current_time(here: Path, subscribers: Subscribers) -> None:
    """SOURCE_DATE_EPOCH does not change the time of events."""
    began = datetime.now(UTC)
    assert (
        pipe_message(
            here, returned("qmail-no-mailbox", subscribers("a")["a"], reader="a")
        ).returncode
        == 0
    )
    store = open_store(None, here)
    events = [(event.kind, event.at >= began) for event in store.events.of(1)]
    store.database.close()
    assert events[-1] == ("hard bounce", True)
    assert os.environ["SOURCE_DATE_EPOCH"]


def test_unknown_subscriber_is_reported(run: Run, here: Path) -> None:
    """An unsubscribe email or complaint of an unknown subscriber is reported."""
    files = write_files(
        here, a=returned("unsubscribe"), b=returned("opt-out"), c=returned("person")
    )
    outcome = run(*files)
    assert outcome.code == 0
    unknown = "is from an unknown subscriber; read it yourself"
    assert outcome.warnings == [
        f"<unsubscribe-1@mail.example.net>: {unknown}",
        f"<arf-4@example.net>: {unknown}",
        f"<person-1@mail.example.net>: {UNKNOWN}",
    ]
    assert outcome.out.splitlines()[1] == "2 for an unknown subscriber"


def test_too_many_complaints_are_a_warning(run: Run, here: Path, subscribers: Subscribers) -> None:
    """Two or more complaints of 0.3 % or more are a warning (rule 9)."""
    sent = subscribers("a", "b", "c")
    complaints = {
        name: returned("complaint-by-number", sent[name]).replace(b"arf-2", name.encode())
        for name in "ab"
    }
    with time_machine.travel(NOW + timedelta(days=1)):
        first, second = (run(name) for name in write_files(here, **complaints))
    assert first.warnings == []
    assert second.warnings == [
        (
            "bounces: 2 complaints about 3 emails in 30 days;"
            " find out why before you send the next issue"
        )
    ]


@pytest.mark.parametrize("name", NAMES)
def test_no_email_is_sent(
    run: Run,
    here: Path,
    subscribers: Subscribers,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """No message causes an email (rule 13)."""
    (file,) = write_files(here, one=returned(name, subscribers("a")["a"]))
    with smtp_server.scripted({}) as server:
        monkeypatch.setenv("POSTROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        assert run(file).code == 0
        assert server.commands == []


def pipe_message(here: Path, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Pipe a message as a mail server does."""
    command = [sys.executable, "-m", "postroom", "bounces", *arguments]
    return subprocess.run(command, cwd=here, input=data, capture_output=True, check=False)


class TestPipe:
    """A message from a mail server's pipe."""

    def test_is_read(
        self,
        here: Path,
        subscribers: Subscribers,
    ) -> None:
        """Postfix adds an mbox separator; standard input is read to its end."""
        data = returned("postfix-no-such-user", subscribers("a")["a"], reader="a")
        data = b"From MAILER-DAEMON  Sun Nov 22 09:00:05 2026\n" + data + b"more\n" * 600_000
        outcome = pipe_message(here, data)
        assert (outcome.returncode, outcome.stderr) == (0, b"")
        assert outcome.stdout == b"1 message: 1 hard\n1 removed from the list\n"
        assert subscribers.states == {"a": "bounced"}

    def test_unrecognised_message_is_no_failure(self, here: Path) -> None:
        """The exit code is 0, so that the mail server does not return the message."""
        outcome = pipe_message(here, returned("person"))
        assert outcome.returncode == 0
        assert UNKNOWN.encode() in outcome.stderr

    def test_is_retried_while_the_database_is_locked(
        self, here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Exit code 75 (EX_TEMPFAIL) makes the mail server try again."""
        del run
        open_store(None, here).database.close()
        monkeypatch.setenv("PYTHONPATH", str(here))
        # The interpreter imports this file first; it shortens the timeout of ten seconds.
        (here / "sitecustomize.py").write_text(
            f"import {engine.__name__} as engine\nengine.BUSY_TIMEOUT = 0.05\n"
        )
        other = sqlite3.connect(here / ".postroom/postroom.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        outcome = pipe_message(here, returned("vacation"))
        other.close()
        assert outcome.returncode == 75
        assert b"postroom.db: is locked; " in outcome.stderr
        assert b"Traceback" not in outcome.stderr

    def test_is_retried_while_settings_are_wrong(
        self, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A missing site or key has exit code 75, too."""
        assert pipe_message(tmp_path, returned("vacation")).returncode == 75
        monkeypatch.delenv("POSTROOM_SECRET_KEY")
        outcome = pipe_message(here, returned("vacation"))
        assert outcome.returncode == 75
        assert b"POSTROOM_SECRET_KEY: is not set" in outcome.stderr

    def test_empty_pipe_is_no_message(self, here: Path) -> None:
        """An empty pipe, as some schedulers give, means the mailbox."""
        outcome = pipe_message(here, b"")
        assert outcome.returncode == 2
        assert b"there is no message to read; name files, pipe a message, or set" in outcome.stderr


class TestMailbox:
    """The mailbox that POSTROOM_MAILBOX_URL names."""

    def test_maildir_is_read_once(
        self,
        run: Run,
        here: Path,
        subscribers: Subscribers,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Recognised messages become seen, others flagged, and none is lost."""
        mail = here / "mail"
        for name in ("new", "cur", "tmp"):
            (mail / name).mkdir(parents=True)
        sent = subscribers("a")
        (mail / "new/1").write_bytes(returned("exim-no-such-user", sent["a"], reader="a"))
        (mail / "new/2").write_bytes(returned("person"))
        monkeypatch.setenv("POSTROOM_MAILBOX_URL", f"maildir:{mail}")
        outcome = run()
        assert outcome.code == 0
        assert outcome.out == "2 messages: 1 hard, 1 unknown\n1 removed from the list\n"
        assert subscribers.states == {"a": "bounced"}
        assert sorted(path.name for path in mail.glob("*/*")) == ["1:2,S", "2:2,F"]
        assert run().out == "0 messages: none\n"

    @pytest.mark.parametrize("name", ["exim-no-such-user", "exim-bare-550", "complaint-by-number"])
    def test_may_be_interrupted(
        self,
        run: Run,
        here: Path,
        subscribers: Subscribers,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
    ) -> None:
        """A run after an interruption between change and mark changes nothing twice."""
        mail = here / "mail"
        for folder in ("new", "cur", "tmp"):
            (mail / folder).mkdir(parents=True)
        (mail / "new/1").write_bytes(returned(name, subscribers("a")["a"], reader="a"))
        monkeypatch.setenv("POSTROOM_MAILBOX_URL", f"maildir:{mail}")

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Maildir, "mark", interrupted)
            assert run().code == 130
        states, there = subscribers.states, [path.name for path in mail.glob("*/*")]
        assert there == ["1"]
        assert run().out.endswith("\n1 already known\n")
        assert subscribers.states == states
        assert [path.name for path in mail.glob("*/*")] == ["1:2,S"]

    def test_imap_is_read_once(
        self,
        run: Run,
        here: Path,
        subscribers: Subscribers,
        program: Callable[[str], str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The mailbox is read over TLS, with /dev/null as standard input as under cron."""
        sent = subscribers("a", "b")
        with imap_server.run_server(program(imap_server.PROGRAM)) as server:
            user, password = (quote(x, safe="") for x in (imap_server.USER, imap_server.PASSWORD))
            url = f"imaps://{user}:{password}@127.0.0.1:{server.tls}/INBOX"
            monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
            monkeypatch.setenv("POSTROOM_MAILBOX_URL", url)
            server.put(
                {"1": returned("ses-suppressed", sent["a"], reader="a"), "2": returned("forged")}
            )
            command = [sys.executable, "-m", "postroom", "bounces"]
            first = subprocess.run(
                command, cwd=here, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
            assert (first.returncode, first.stdout) == (
                0,
                b"2 messages: 2 hard\n1 removed from the list\n",
            )
            assert server.flags() == {"1": "S", "2": "F"}
            assert run().out == "0 messages: none\n"
            server.put({"3": returned("ses-suppressed", sent["a"], reader="a")})
            assert run().out == "1 message: 1 hard\n1 already known\n"
            assert subscribers.states == {"a": "bounced", "b": "active"}
            monkeypatch.setenv("POSTROOM_MAILBOX_URL", url.replace(password, "secret"))
            failed = run()
        assert failed.code == 1
        assert re.search(r"imaps://127\.0\.0\.1:\d+/INBOX: the server said: ", failed.err)
        assert "secret" not in failed.err

    def test_malformed_url_is_wrong_use(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """A malformed URL is an error of one line that does not repeat it: exit code 2."""
        monkeypatch.setenv("POSTROOM_MAILBOX_URL", "imap://user:secret@mail.example.com")
        outcome = run()
        assert outcome.code == 2
        assert outcome.errors == [
            (
                "POSTROOM_MAILBOX_URL: would send the password unprotected;"
                " write imaps://; imap:// is for this machine alone"
            )
        ]

    def test_is_not_marked_while_the_database_is_locked(
        self, run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A message whose change failed is not marked, so the next run reads it."""
        mail = here / "mail"
        for name in ("new", "cur", "tmp"):
            (mail / name).mkdir(parents=True)
        (mail / "new/1").write_bytes(returned("complaint-by-number", 1))
        monkeypatch.setenv("POSTROOM_MAILBOX_URL", f"maildir:{mail}")
        store = open_store(None, here)
        store.suppressions.require_key(KEYS.proof)
        store.database.close()
        monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.05)
        other = sqlite3.connect(here / ".postroom/postroom.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        outcome = run()
        other.close()
        assert outcome.code == 1
        assert "is locked" in outcome.err
        assert [path.name for path in mail.glob("*/*")] == ["1"]


def test_help_shows_an_example(run: Run) -> None:
    """The help shows an example."""
    outcome = run("--help")
    assert outcome.code == 0
    assert re.search(r"^ +postroom bounces returned.eml", outcome.out, re.MULTILINE)


# The page of the docs


def fenced(mark: str) -> str:
    """Return the block of docs/bounces.md with this mark."""
    page = (ROOT / "docs/bounces.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```{mark}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(block)


def run_installed(
    command: str, here: Path, message: bytes | None, **secrets: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the docs in an empty environment, with the paths of this machine."""
    environment = here / "env"
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in secrets.items()]
    environment.write_text("".join(lines))
    places = {"/etc/postroom.env": environment, "/srv/news": here, "/opt/postroom": sys.prefix}
    for place, path in places.items():
        assert place in command
        command = command.replace(place, str(path))
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env=plain(PATH="/usr/bin:/bin"),
        input=b"" if message is None else message,
        capture_output=True,
        check=False,
    )


def test_cron_line_of_the_docs_reads_the_mailbox(here: Path, subscribers: Subscribers) -> None:
    """The cron line passes the environment file to the program."""
    sent = subscribers("a")
    box = here / "box"
    for name in ("new", "cur", "tmp"):
        (box / name).mkdir(parents=True)
    (box / "new/1").write_bytes(returned("postfix-no-such-user", sent["a"], reader="a"))
    *when, command = fenced("cron").split(maxsplit=5)
    secrets = {"POSTROOM_SECRET_KEY": KEY, "POSTROOM_MAILBOX_URL": f"maildir:{box}"}
    done = run_installed(command, here, None, **secrets)
    assert (when, done.returncode, done.stderr) == (["*/10", "*", "*", "*", "*"], 0, b"")
    assert subscribers.states == {"a": "bounced"}


def test_postfix_program_of_the_docs_reads_a_message(here: Path, subscribers: Subscribers) -> None:
    """The pipe passes environment file and message to the program."""
    sent = subscribers("a")
    message = returned("postfix-no-such-user", sent["a"], reader="a")
    done = run_installed(fenced("sh pipe"), here, message, POSTROOM_SECRET_KEY=KEY)
    assert (done.returncode, done.stderr) == (0, b"")
    assert subscribers.states == {"a": "bounced"}


def test_postfix_program_of_the_docs_asks_for_a_retry(here: Path) -> None:
    """A missing environment file or site has exit code 75."""
    (here / "postroom.yaml").unlink()
    assert run_installed(fenced("sh pipe"), here, b"x", POSTROOM_SECRET_KEY=KEY).returncode == 75
    command = fenced("sh pipe").replace("/etc/postroom.env", str(here / "nothing"))
    done = subprocess.run(["/bin/sh", "-c", command], env=plain(), input=b"x", check=False)
    assert done.returncode == 75
