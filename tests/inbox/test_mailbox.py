"""Mailboxes: their URLs, Maildir, and a real IMAP server."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from postroom.errors import MailboxError, SettingsError
from postroom.inbox import mailbox
from postroom.inbox import mailbox as imap
from postroom.inbox.mailbox import MailboxMessage, Maildir, open_imap
from postroom.settings.urls import MailboxServer, parse_mailbox_url
from tests.support.imap_server import (
    PASSWORD,
    PROGRAM,
    USER,
    Scripted,
    Server,
    run_script,
    run_server,
)

MESSAGE = b"Subject: a\n\nbody\n"


class TestUrl:
    """The value of POSTROOM_MAILBOX_URL."""

    def test_names_a_server(self) -> None:
        """User, password and folder may be percent-encoded."""
        found = parse_mailbox_url(
            "imaps://news%40example.com:p%2F%C3%A4@Mail.Example.com/Sub%2Ffolder"
        )
        assert found == MailboxServer(
            tls=True,
            host="mail.example.com",
            port=993,
            user="news@example.com",
            password="p/ä",
            folder="Sub/folder",
        )

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("imaps://u:p@host", "imaps://host:993/INBOX"),
            ("imaps://u:p@host:994/", "imaps://host:994/INBOX"),
            ("IMAPS://u:p@[2001:db8::1]/Reports", "imaps://[2001:db8::1]:993/Reports"),
            ("imap://u:p@localhost", "imap://localhost:143/INBOX"),
            ("imap://u:p@127.0.0.1:1143", "imap://127.0.0.1:1143/INBOX"),
        ],
    )
    def test_has_defaults(self, url: str, shown: str) -> None:
        """Port and folder have defaults; user and password are not shown."""
        assert str(parse_mailbox_url(url)) == shown
        assert "'p'" not in repr(parse_mailbox_url(url))

    @pytest.mark.parametrize("url", ["maildir:/var/mail/x y", "maildir:///var/mail/x y"])
    def test_names_a_maildir(self, url: str) -> None:
        """The path of a Maildir is not decoded."""
        assert parse_mailbox_url(url) == Path("/var/mail/x y")

    @pytest.mark.parametrize(
        ("url", "what"),
        [
            ("imap://user:secret@mail.example.com", "would send the password unprotected"),
            ("pop3://user:secret@host", "is not the URL of a mailbox"),
            ("imaps://user@host", "is not the URL of a mailbox"),
            ("imaps://user:sec/ret@host", "is not the URL of a mailbox"),
            ("imaps://user:secret%@host", "is not the URL of a mailbox"),
            ("imaps://user:secret%ff@host", "has percent-encoded bytes that are not text"),
            ("imaps://user:secret%0d%0aNOOP@host", "has percent-encoded bytes that are not text"),
            ("imaps://user:secret@host:0", "has an impossible port"),
            ("imaps://user:secret@host:70000", "has an impossible port"),
            ("imaps://user:secret@[1:2]", "has an impossible host"),
            ("imaps://user:secret@host/%C3%A4", "has a mailbox name that is not ASCII"),
            ("maildir:secret", "has no absolute path"),
            ("maildir:/secret\n", "has a line break or control character"),
            ("secret", "is not the URL of a mailbox"),
        ],
    )
    def test_malformed_url_is_one_line_without_secrets(self, url: str, what: str) -> None:
        """The error repeats no part of the value and says what to write."""
        with pytest.raises(SettingsError) as raised:
            parse_mailbox_url(url)
        (problem,) = raised.value.problems
        assert str(problem).startswith(f"POSTROOM_MAILBOX_URL: {what}; ")
        assert "secret" not in str(problem)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make an empty Maildir."""
    for name in ("new", "cur", "tmp"):
        (tmp_path / "mail" / name).mkdir(parents=True)
    return tmp_path / "mail"


class TestMaildir:
    """A Maildir."""

    def test_yields_unread_messages(self, folder: Path) -> None:
        """New messages, and those in cur that are neither seen, flagged nor trashed."""
        for name in ("new/1", "cur/2:2,", "cur/3:2,S", "cur/4:2,F", "cur/5:2,T", "cur/6:2,R"):
            (folder / name).write_bytes(MESSAGE)
        (folder / "new/.hidden").write_bytes(MESSAGE)
        (folder / "tmp/7").write_bytes(MESSAGE)
        found = list(Maildir(folder).unread(8))
        assert found == [
            MailboxMessage(name, b"Subject:") for name in ("new/1", "cur/2:2,", "cur/6:2,R")
        ]

    def test_keeps_every_message(self, folder: Path) -> None:
        """Understood messages become seen, others flagged; other flags stay."""
        for name in ("new/1", "new/2", "cur/3:2,R"):
            (folder / name).write_bytes(MESSAGE)
        box = Maildir(folder)
        for message in box.unread(100):
            box.mark(message, understood=message.name != "new/2")
        left = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))
        assert left == ["cur/1:2,S", "cur/2:2,F", "cur/3:2,RS"]
        assert list(box.unread(100)) == []

    def test_skips_removed_messages(self, folder: Path) -> None:
        """A message that another program removes is skipped."""
        (folder / "new/1").write_bytes(MESSAGE)
        (folder / "new/2").write_bytes(MESSAGE)
        box = Maildir(folder)
        unread = box.unread(100)
        first = next(unread)
        (folder / "new/1").unlink()
        (folder / "new/2").unlink()
        assert list(unread) == []
        box.mark(first, understood=True)

    def test_missing_maildir_is_an_error(self, tmp_path: Path) -> None:
        """A folder that is not a Maildir is a settings error, and none is created."""
        with pytest.raises(SettingsError, match="there is no Maildir at this path"):
            Maildir(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_message_that_cannot_be_moved_is_one_line(self, folder: Path) -> None:
        """The run ends with the name of the message."""
        (folder / "new/1").write_bytes(MESSAGE)
        box = Maildir(folder)
        (message,) = box.unread(100)
        (folder / "cur").rmdir()
        (folder / "cur").write_text("no folder")
        with pytest.raises(MailboxError, match=r"new/1: cannot be moved \(Not a directory\)"):
            box.mark(message, understood=True)


@pytest.fixture(scope="module")
def imap_server(program: Callable[[str], str]) -> Iterator[Server]:
    """Run an IMAP server."""
    with run_server(program(PROGRAM)) as server:
        yield server


def server_url(server: Server, password: str = PASSWORD, **parts: str) -> MailboxServer:
    """Return the parsed URL of the server."""
    scheme, folder = parts.get("scheme", "imaps"), parts.get("folder", "INBOX")
    port = server.tls if scheme == "imaps" else server.plain
    user, password = quote(USER, safe=""), quote(password, safe="")
    found = parse_mailbox_url(f"{scheme}://{user}:{password}@127.0.0.1:{port}/{folder}")
    assert isinstance(found, MailboxServer)
    return found


@pytest.fixture
def server(imap_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Trust the server, and empty its mailbox afterwards."""
    monkeypatch.setenv("SSL_CERT_FILE", str(imap_server.authority))
    yield imap_server
    for path in imap_server.folder.glob("mail/[nc][eu][wr]/*"):
        path.unlink()


class TestImap:
    """A mailbox on a real IMAP server."""

    @pytest.mark.parametrize("scheme", ["imaps", "imap"])
    def test_yields_unread_messages_and_keeps_them(self, server: Server, scheme: str) -> None:
        """Reading marks nothing; afterwards messages are seen or flagged, none deleted."""
        server.put(dict.fromkeys("abc", MESSAGE))
        with mailbox.open_mailbox(server_url(server, scheme=scheme)) as box:
            unread = box.unread(7)
            first = next(unread)
            assert first.data == b"Subject"
            assert set(server.flags().values()) <= {""}
            box.mark(first, understood=True)
            box.mark(next(unread), understood=False)
        assert sorted(server.flags().values()) == ["", "F", "S"]
        with mailbox.open_mailbox(server_url(server, scheme=scheme)) as box:
            assert len(list(box.unread(100))) == 1

    def test_is_searched_in_batches(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """A search covers a limited number of messages."""
        monkeypatch.setattr(imap, "_SEARCH_SIZE", 3)
        server.put({f"m{number}": MESSAGE for number in range(10)})
        with mailbox.open_mailbox(server_url(server)) as box:
            names = []
            for message in box.unread(100):
                box.mark(message, understood=True)
                names.append(message.name)
        assert len(set(names)) == 10

    def test_skips_removed_messages(self, server: Server) -> None:
        """A message that another program removes is skipped."""
        server.put({"a": MESSAGE, "b": MESSAGE})
        with mailbox.open_mailbox(server_url(server)) as box:
            unread = box.unread(100)
            next(unread)
            for path in server.folder.glob("mail/[nc][eu][wr]/b*"):
                path.unlink()
            assert [message.data for message in unread] == []

    def test_wrong_password_is_one_line(self, server: Server) -> None:
        """The server's words are shown; user and password are not."""
        with (
            pytest.raises(MailboxError) as raised,
            mailbox.open_mailbox(server_url(server, "wrong secret")),
        ):
            pass
        (problem,) = raised.value.problems
        assert str(problem).startswith(f"imaps://127.0.0.1:{server.tls}/INBOX: the server said: ")
        assert "secret" not in str(problem)
        assert USER not in str(problem)

    def test_missing_folder_is_one_line(self, server: Server) -> None:
        """The folder must exist; none is created."""
        with (
            pytest.raises(MailboxError, match="the server said: "),
            mailbox.open_mailbox(server_url(server, folder='No "such" folder'.replace(" ", "%20"))),
        ):
            pass

    def test_untrusted_server_gets_no_password(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without a trusted certificate there is no login."""
        monkeypatch.delenv("SSL_CERT_FILE")
        with (
            pytest.raises(MailboxError, match="the certificate is not trusted"),
            mailbox.open_mailbox(server_url(server)),
        ):
            pass

    def test_trust_is_an_argument(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """A caller can pass the trusted certificates."""
        monkeypatch.delenv("SSL_CERT_FILE")
        trust = ssl.create_default_context(cafile=server.authority)
        with open_imap(server_url(server), trust) as box:
            assert list(box.unread(100)) == []

    def test_no_server_is_one_line(self, server: Server) -> None:
        """A refused connection is reported with host and port."""
        nowhere = MailboxServer(tls=True, host="127.0.0.1", port=1, user="u", password="p")
        del server
        with (
            pytest.raises(MailboxError, match="the connection failed: Connection refused"),
            mailbox.open_mailbox(nowhere),
        ):
            pass


def plain_url(server: Scripted, word: str = "p") -> MailboxServer:
    """Return the URL of a scripted server."""
    return MailboxServer(tls=False, host="127.0.0.1", port=server.port, user="u", password=word)


class TestOtherServers:
    """Servers that behave otherwise than Dovecot."""

    def test_login_is_used_without_auth_plain(self) -> None:
        """LOGIN is used without AUTH=PLAIN, and accepts only ASCII."""
        with run_script({}) as server:
            with mailbox.open_mailbox(plain_url(server, 'p "q')) as box:
                assert list(box.unread(100)) == []
            assert r'LOGIN u "p \"q"' in server.commands
        with (
            run_script({}) as server,
            pytest.raises(MailboxError, match="accepts only ASCII user names and passwords"),
            mailbox.open_mailbox(plain_url(server, "ä")),
        ):
            pass

    def test_refused_message_is_skipped(self) -> None:
        """A message that the server refuses is reported; the others are read."""
        script = {
            "SELECT": b"* 2 EXISTS\r\n% OK done\r\n",
            "UID SEARCH": b"* SEARCH 7 9\r\n% OK done\r\n",
            "UID FETCH": b"% NO the message is\x1b[31m broken\r\n",
        }
        with run_script(script) as server, mailbox.open_mailbox(plain_url(server)) as box:
            found = list(box.unread(100))
        assert [message.name for message in found] == ["7", "9"]
        assert all(message.error.startswith("cannot be read (the message is") for message in found)

    @pytest.mark.parametrize(
        ("command", "answer"),
        [
            ("UID SEARCH", b"% BAD what?\r\n"),
            ("UID SEARCH", b"nonsense\r\n"),
            ("UID SEARCH", b"* BYE too many\r\n"),
            ("SELECT", b"% NO no\r\n"),
        ],
    )
    def test_unexpected_answer_is_one_line(self, command: str, answer: bytes) -> None:
        """An unexpected answer of the server is an error of one line."""
        script = {"SELECT": b"* 2 EXISTS\r\n% OK done\r\n", command: answer}
        with (
            run_script(script) as server,
            pytest.raises(MailboxError, match=r"the server said: |the connection failed: "),
            mailbox.open_mailbox(plain_url(server)) as box,
        ):
            list(box.unread(100))
