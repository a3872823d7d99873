"""SMTP servers: their URLs, connections, and the meaning of their replies for an email."""

from __future__ import annotations

import base64
import errno
import os
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from postroom.errors import RelayError, SettingsError
from postroom.settings.urls import Scheme, SmtpServer, parse_smtp_url
from postroom.smtp.connection import Channel, SmtpConnection
from postroom.smtp.transaction import ServerFeatures, ServerReply, Timeouts, TransactionResult
from tests.support.smtp_server import CLOSE, SILENCE, Scripted, certificate, scripted

SHORT = Timeouts(connect=5, reply=5, end=5)
# A short timeout, only for servers that do not reply.
BRIEF = Timeouts(connect=0.3, reply=0.3, end=0.3)
FROM, TO = "bounces+7=a.example@example.com", "reader@example.net"
MESSAGE = b"From: news@example.com\r\nSubject: We moved\r\n\r\nTo a new office.\r\n"
PASSWORD = "p@ss/w:örd"


def read_problem(url: str | None) -> str:
    """Return the only problem of `url`."""
    with pytest.raises(SettingsError) as caught:
        parse_smtp_url(url)
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp+starttls://mail.example.com", SmtpServer("smtp+starttls", "mail.example.com", 587)),
        ("SMTPS://mail.example.com/", SmtpServer("smtps", "mail.example.com", 465)),
        (
            "smtps://u:p@mail.example.com:10465",
            SmtpServer("smtps", "mail.example.com", 10465, "u", "p"),
        ),
        ("smtp://localhost:2525", SmtpServer("smtp", "localhost", 2525)),
        ("smtp://127.0.0.9", SmtpServer("smtp", "127.0.0.9", 25)),
        ("smtp://[::1]:2525", SmtpServer("smtp", "::1", 2525)),
        ("smtps://münchen.example", SmtpServer("smtps", "xn--mnchen-3ya.example", 465)),
        (
            "smtps://a%40b.example:p%40ss%2Fw:%C3%B6rd@mail.example.com",
            SmtpServer("smtps", "mail.example.com", 465, "a@b.example", PASSWORD),
        ),
    ],
)
def test_url_is_parsed(url: str, server: SmtpServer) -> None:
    """Scheme, host, port, user and password are parsed, and percent-encoding is decoded."""
    assert parse_smtp_url(url) == server


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("mail.example.com", "is not the URL of an SMTP server"),
        ("http://u:hunter2@mail.example.com", "unknown scheme"),
        ("smtp://u:hunter2@mail.example.com", "unprotected"),
        ("smtps://u:hunter2@x@mail.example.com", "%40"),
        ("smtps://u:hunter2/x@mail.example.com", "%2F"),
        ("smtps://u:hunter2%@mail.example.com", "is not the URL"),
        ("smtps://u:hunter2%00@mail.example.com", "not text"),
        ("smtps://u:hunter2%ff@mail.example.com", "UTF-8"),
        ("smtps://u@mail.example.com", "without a password"),
        ("smtps://:hunter2@mail.example.com", "without a password"),
        ("smtps://u:hunter2@mail.example.com:0", "port"),
        ("smtps://u:hunter2@mail.example.com:hunter2", "is not the URL"),
        ("smtps://u:hunter2@[1::2::3]", "host"),
        ("smtps://u:hunter2@mail..example.com", "host"),
        ("hunter2://mail.example.com", "is not the URL"),
        ("smtps://u:hunter2@mail.example.com?x", "is not the URL"),
    ],
)
def test_malformed_url_is_not_repeated(url: str | None, expected: str) -> None:
    """A malformed URL is a one-line error that says what to write and repeats no part of it."""
    line = read_problem(url)
    assert line.startswith("POSTROOM_SMTP_URL: ")
    assert expected in line
    assert "hunter2" not in line
    assert "\n" not in line


def test_password_is_not_shown() -> None:
    """Neither `str` nor `repr` of a server contains its password."""
    server = parse_smtp_url("smtps://user:hunter2@mail.example.com")
    assert str(server) == "smtps://mail.example.com:465"
    assert "hunter2" not in repr(server)


@contextmanager
def connect_to_script(
    script: Mapping[str, bytes | list[bytes]], patience: Timeouts = SHORT
) -> Iterator[tuple[Scripted, SmtpConnection]]:
    """Run a scripted server and a connection to it."""
    with scripted(script) as server:
        connection = SmtpConnection(SmtpServer("smtp", "127.0.0.1", server.port), timeouts=patience)
        try:
            connection.open()
            yield server, connection
        finally:
            connection.close()


def test_email_is_one_transaction() -> None:
    """An email is one transaction with its size, and the connection ends with QUIT."""
    with scripted({}) as server:
        connection = SmtpConnection(SmtpServer("smtp", "127.0.0.1", server.port), timeouts=SHORT)
        assert connection.open() == ServerFeatures("", 1_000_000, frozenset({"size"}))
        assert connection.send(FROM, TO, MESSAGE) == TransactionResult(
            "accepted", 250, "ok", usable=True, command="end of data"
        )
        connection.close()
    assert server.messages == [MESSAGE]
    assert server.commands == [
        "ehlo [127.0.0.1]",
        f"MAIL FROM:<{FROM}> SIZE={len(MESSAGE)}",
        f"RCPT TO:<{TO}>",
        "DATA",
        "QUIT",
    ]


def test_connection_carries_several_emails() -> None:
    """A connection is used again, also after a refused recipient."""
    script: dict[str, bytes | list[bytes]] = {"RCPT": [b"550 5.1.1 nobody\r\n"]}
    with connect_to_script(script) as (server, connection):
        kinds = [connection.send(FROM, TO, MESSAGE).kind for _ in range(3)]
    assert kinds == ["refused", "accepted", "accepted"]
    assert sum(command.startswith("ehlo") for command in server.commands) == 1
    assert server.commands.count("RSET") == 1


def test_empty_sender_is_the_null_reverse_path() -> None:
    """An empty envelope sender is the null reverse-path (RFC 5321 §4.5.5)."""
    with connect_to_script({}) as (server, connection):
        assert connection.send("", TO, MESSAGE).kind == "accepted"
    assert server.commands[1].startswith("MAIL FROM:<> ")


_REPLIES = [
    ("MAIL", b"451 busy\r\n", ("deferred", 451, True, "MAIL")),
    ("MAIL", b"550 not you\r\n", ("refused", 550, True, "MAIL")),
    ("MAIL", b"421 going\r\n", ("deferred", 421, False, "MAIL")),
    ("MAIL", b"hello?\r\n", ("deferred", 0, False, "MAIL")),
    ("MAIL", CLOSE, ("deferred", 0, False, "MAIL")),
    ("MAIL", SILENCE, ("deferred", 0, False, "MAIL")),
    ("RCPT", b"251 forwarded\r\n", ("accepted", 250, True, "end of data")),
    ("RCPT", b"450 later\r\n", ("deferred", 450, True, "RCPT")),
    ("RCPT", b"550-5.1.1 no\r\n550 such user\r\n", ("refused", 550, True, "RCPT")),
    ("RCPT", b"421 going\r\n" + CLOSE, ("deferred", 421, False, "RCPT")),
    ("RCPT", CLOSE, ("deferred", 0, False, "RCPT")),
    ("DATA", b"452 full\r\n", ("deferred", 452, True, "DATA")),
    ("DATA", b"554 no\r\n", ("refused", 554, True, "DATA")),
    ("DATA", b"250 what\r\n", ("deferred", 250, False, "DATA")),
    ("DATA", CLOSE, ("deferred", 0, False, "DATA")),
    ("DATA", SILENCE, ("deferred", 0, False, "DATA")),
    (".", b"251 taken\r\n", ("accepted", 251, True, "end of data")),
    (".", b"450 later\r\n", ("deferred", 450, True, "end of data")),
    (".", b"421 going\r\n", ("deferred", 421, False, "end of data")),
    (".", b"554 spam\r\n", ("refused", 554, True, "end of data")),
    (".", b"354 more\r\n", ("uncertain", 354, False, "end of data")),
    (".", b"what?\r\n", ("uncertain", 0, False, "end of data")),
    (".", b"250-ok\r\n" + CLOSE, ("uncertain", 0, False, "end of data")),
    (".", b"250 " + b"x" * 9000 + b"\r\n", ("uncertain", 0, False, "end of data")),
    (".", CLOSE, ("uncertain", 0, False, "end of data")),
    (".", SILENCE, ("uncertain", 0, False, "end of data")),
]


@pytest.mark.parametrize(("command", "reply", "meant"), _REPLIES)
def test_each_reply_has_one_meaning(
    command: str, reply: bytes, meant: tuple[str, int, bool, str]
) -> None:
    """Each reply to each command has one meaning for the email and the connection."""
    with connect_to_script({command: reply}, BRIEF if reply == SILENCE else SHORT) as (
        _,
        connection,
    ):
        outcome = connection.send(FROM, TO, MESSAGE)
        found = (outcome.kind, outcome.code, outcome.usable, outcome.command)
        assert found == meant
        if not outcome.usable:
            assert connection.send(FROM, TO, MESSAGE).kind == "deferred"


def test_a_connection_lost_before_the_final_dot_defers() -> None:
    """An email whose data cannot be sent to its end is deferred."""
    long = MESSAGE + b"x" * 76 + b"\r\n"
    long += (b"y" * 76 + b"\r\n") * 300_000
    script: dict[str, bytes | list[bytes]] = {"EHLO": b"250 hello\r\n", "data": CLOSE}
    with connect_to_script(script, SHORT) as (_, connection):
        outcome = connection.send(FROM, TO, long)
    assert (outcome.kind, outcome.usable, outcome.command) == ("deferred", False, "DATA")


def test_connection_without_rset_is_unusable() -> None:
    """A connection on which RSET fails is unusable: the next email would have two senders."""
    with connect_to_script({"RCPT": b"550 no\r\n", "RSET": b"500 what\r\n"}) as (_, connection):
        assert connection.send(FROM, TO, MESSAGE) == TransactionResult(
            "refused", 550, "no", usable=False, command="RCPT"
        )


def test_lost_connection_can_be_opened_again() -> None:
    """A lost connection can be opened again."""
    with connect_to_script({".": [CLOSE]}) as (server, connection):
        assert connection.send(FROM, TO, MESSAGE).kind == "uncertain"
        connection.open()
        assert connection.send(FROM, TO, MESSAGE).kind == "accepted"
    assert len(server.messages) == 2


def test_replies_are_shown_without_control_characters() -> None:
    """A reply is shown as one line without control characters."""
    with connect_to_script({"RCPT": b"550-no\r\n550 \x1b[31m\xffred\r\n"}) as (_, connection):
        assert connection.send(FROM, TO, MESSAGE).text == "no �[31m�red"


def test_too_large_email_is_not_offered() -> None:
    """An email over the server's limit is refused before any command is sent."""
    with connect_to_script({"EHLO": b"250-hello\r\n250 SIZE 50\r\n"}) as (server, connection):
        outcome = connection.send(FROM, TO, MESSAGE)
    assert outcome == TransactionResult(
        "refused", 0, "the email has 63 bytes, and the server takes 50 at most", usable=True
    )
    assert server.commands[1:] == ["QUIT"]


@pytest.mark.parametrize("limit", [b"SIZE", b"SIZE 0", b"SIZE many"])
def test_size_zero_is_no_limit(limit: bytes) -> None:
    """SIZE without a number, or with 0, is no fixed limit (RFC 1870 §4)."""
    with connect_to_script({"EHLO": b"250-hello\r\n250 " + limit + b"\r\n"}) as (_, connection):
        assert connection.send(FROM, TO, MESSAGE).kind == "accepted"


def test_8_bit_text_needs_8bitmime() -> None:
    """8-bit text is announced (RFC 6152), or refused if the server does not support it."""
    message = MESSAGE + "Grüße\r\n".encode()
    with connect_to_script({}) as (_, connection):
        assert connection.send(FROM, TO, message).kind == "refused"
    with connect_to_script({"EHLO": b"250-hello\r\n250 8BITMIME\r\n"}) as (server, connection):
        assert connection.send(FROM, TO, message).kind == "accepted"
    assert server.commands[1].endswith(" BODY=8BITMIME")


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (b"Subject: a\r\n\r\n.\r\n..\r\n.x\r\n", b"Subject: a\r\n\r\n..\r\n...\r\n..x\r\n"),
        (b".a: b\r\n\r\n", b"..a: b\r\n\r\n"),
        (b"Subject: a\r\n\r\nend", b"Subject: a\r\n\r\nend\r\n"),
        (b"a: " + b"x" * 995 + b"\r\n", b"a: " + b"x" * 995 + b"\r\n"),
    ],
)
def test_dots_are_doubled_and_the_last_line_is_ended(message: bytes, sent: bytes) -> None:
    """Lines that begin with a dot get a second one (RFC 5321 §4.5.2); the last line is ended."""
    with connect_to_script({}) as (server, connection):
        assert connection.send(FROM, TO, message).kind == "accepted"
    assert server.messages == [sent]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"Subject: a\n\nb\r\n", "bare"),
        (b"Subject: a\r\n\r\nb\n.\r\n", "bare"),
        (b"Subject: a\r\n\r\nb\r.\r\n", "bare"),
        (b"Subject: a\r\n\r\nb\nc\rd\r\n", "bare"),
        (b"\nSubject: a\r\r\n", "bare"),
        (b"a: " + b"x" * 996 + b"\r\n", "998"),
        (b"a: " + b"x" * 996, "998"),
    ],
)
def test_invalid_lines_are_refused(message: bytes, expected: str) -> None:
    """A message with a bare CR or LF, or a line too long, is not sent to the server."""
    with connect_to_script({}) as (server, connection):
        with pytest.raises(ValueError, match=expected):
            connection.send(FROM, TO, message)
        assert connection.send(FROM, TO, MESSAGE).kind == "accepted"
    assert len(server.messages) == 1


@pytest.mark.parametrize(
    ("sender", "recipient"),
    [
        (FROM, "a@b.example>\r\nRCPT TO:<c@d.example"),
        (FROM, "a b@c.example"),
        (FROM, ""),
        (FROM, "jörg@example.com"),
        (FROM, "a" * 250 + "@example.com"),
        ("<x@example.com>", TO),
    ],
)
def test_invalid_address_is_not_sent(sender: str, recipient: str) -> None:
    """An address that MAIL or RCPT cannot contain is refused before any command is sent."""
    with connect_to_script({}) as (server, connection):
        outcome = connection.send(sender, recipient, MESSAGE)
        assert (outcome.kind, outcome.command, outcome.usable) == ("refused", "", True)
        assert connection.send(FROM, TO, MESSAGE).kind == "accepted"
    assert len(server.messages) == 1


AT_ONCE = b"250-hello\r\n250-PIPELINING\r\n250 SIZE 1000000\r\n"


@pytest.mark.parametrize(("command", "reply", "meant"), _REPLIES)
def test_reply_has_the_same_meaning_with_pipelining(
    command: str, reply: bytes, meant: tuple[str, int, bool, str]
) -> None:
    """Each reply has the same meaning with PIPELINING (RFC 2920) as without."""
    script = {"EHLO": AT_ONCE, command: reply}
    with connect_to_script(script, BRIEF if reply == SILENCE else SHORT) as (_, connection):
        outcome = connection.send(FROM, TO, MESSAGE)
        assert (outcome.kind, outcome.code, outcome.usable) == meant[:3]
        # Earlier replies may be lost when a connection is cut off.
        assert outcome.command == meant[3] or reply == CLOSE
        if outcome.usable:
            assert connection.send(FROM, TO, MESSAGE).kind == outcome.kind
        else:
            assert connection.send(FROM, TO, MESSAGE).kind == "deferred"


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_pipelined_commands_are_sent_together(tmp_path: Path, scheme: Scheme) -> None:
    """MAIL, RCPT and DATA are sent before the first reply, also over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, "127.0.0.1"))
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        tls = context if scheme == "smtps" else None
        heard = pool.submit(_commands_before_the_reply, listening, tls)
        server = SmtpServer(scheme, "127.0.0.1", listening.getsockname()[1])
        connection = SmtpConnection(server, timeouts=SHORT, trust=trusted_context(tmp_path))
        connection.open()
        assert [connection.send(FROM, TO, MESSAGE).kind for _ in range(3)] == ["accepted"] * 3
        connection.close()
    assert heard.result() == [b"MAIL", b"RCPT", b"DATA"] * 3


def _commands_before_the_reply(
    listening: socket.socket, context: ssl.SSLContext | None
) -> list[bytes]:
    """Return the three commands that a server receives before it replies."""
    connection, _ = listening.accept()
    connection.settimeout(SHORT.reply)
    if context:
        connection = context.wrap_socket(connection, server_side=True)
    together = []
    with connection, connection.makefile("rb") as lines:
        connection.sendall(b"220 ready\r\n")
        lines.readline()
        connection.sendall(AT_ONCE)
        while (line := lines.readline()) != b"QUIT\r\n":
            together += [word.split()[0] for word in (line, lines.readline(), lines.readline())]
            connection.sendall(b"250 ok\r\n250 ok\r\n354 go on\r\n")
            while lines.readline() != b".\r\n":
                pass
            connection.sendall(b"250 taken\r\n")
        connection.sendall(b"221 bye\r\n")
    return together


def test_data_without_a_recipient_is_empty() -> None:
    """A server that refuses the recipient but accepts DATA gets an empty message."""
    refusals = {"RCPT": [b"550 5.1.1 nobody\r\n"], ".": [b"554 nobody\r\n"]}
    with connect_to_script({"EHLO": AT_ONCE, **refusals}) as (server, connection):
        outcome = connection.send(FROM, TO, MESSAGE)
        assert (outcome.kind, outcome.code, outcome.command) == ("refused", 550, "RCPT")
        assert connection.send(FROM, TO, MESSAGE).kind == "accepted"
    assert server.messages == [b"", MESSAGE]


def test_endless_reply_is_no_reply() -> None:
    """A reply of endless lines, or one that is never complete, does not block an email."""
    with connect_to_script({".": b"250-more\r\n" * 20_000}) as (_, connection):
        assert connection.send(FROM, TO, MESSAGE).kind == "uncertain"
    with connect_to_script({"MAIL": b"250-more\r\n" * 20_000}) as (_, connection):
        assert connection.send(FROM, TO, MESSAGE).kind == "deferred"


def test_timeout_is_for_the_whole_reply() -> None:
    """The timeout is for the whole reply, not for each of its lines."""
    dripping = Timeouts(connect=5.0, reply=0.5, end=0.5)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        drips = pool.submit(_reply_slowly, listening)
        connection = SmtpConnection(
            SmtpServer("smtp", "127.0.0.1", listening.getsockname()[1]), timeouts=dripping
        )
        connection.open()
        began = time.monotonic()
        outcome = connection.send(FROM, TO, MESSAGE)
        assert (outcome.kind, outcome.text) == ("deferred", "no answer in time")
        assert time.monotonic() - began < 3
        connection.close()
        assert drips.result() < 40


def test_reply_in_tiny_pieces_takes_little_work() -> None:
    """A server that sends an endless reply in tiny pieces does not hold up other connections."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        channel = Channel(smtplib.SMTP(), ours)
        started, reply = time.thread_time(), None
        while reply is None and time.thread_time() - started < 10:
            theirs.sendall(b"250-\r\n")
            reply = channel.advance()
        assert reply == ServerReply(0, "the server's reply has no end")
        # Reading the reply again for each piece takes half a minute.
        assert time.thread_time() - started < 5


def _reply_slowly(listening: socket.socket) -> int:
    """Reply to MAIL with a line every tenth of a second; return the number of lines."""
    connection, _ = listening.accept()
    connection.settimeout(SHORT.reply)
    with connection, connection.makefile("rb") as lines:
        connection.sendall(b"220 ready\r\n")
        lines.readline()
        connection.sendall(b"250 hello\r\n")
        lines.readline()
        for number in range(40):
            try:
                connection.sendall(b"250-wait\r\n")
            except OSError:
                return number
            time.sleep(0.1)
    return 40


@pytest.mark.parametrize(
    ("script", "expected", "passing"),
    [
        ({"connect": b"554 go away\r\n"}, "connection: the server said 554 go away", False),
        ({"connect": b"421 too many\r\n"}, "said 421 too many; try again later", True),
        (
            {"connect": CLOSE},
            "connection: the server closed the connection during its greeting; check",
            True,
        ),
        ({"connect": SILENCE}, "did not finish its greeting within 0.3 seconds; check host", True),
        ({"EHLO": b"502 what\r\n"}, "said 502", False),
        ({"EHLO": b"451 later\r\n"}, "said 451", True),
        (
            {"EHLO": CLOSE},
            "connection: the server closed the connection during its greeting; check",
            True,
        ),
    ],
)
def test_failed_connection_has_a_reason(
    script: Mapping[str, bytes], expected: str, *, passing: bool
) -> None:
    """A refused connection is a one-line error that says whether a retry may help."""
    patience = BRIEF if SILENCE in script.values() else SHORT
    with pytest.raises(RelayError) as caught, connect_to_script(script, patience):
        pass
    (problem,) = caught.value.problems
    assert expected in str(problem)
    assert str(problem).startswith("smtp://127.0.0.1:")
    assert caught.value.passing is passing


def test_reset_while_connecting_has_the_same_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that closes at once gives the same line, whenever the client notices it."""

    def reset(*_args: object, **_options: object) -> socket.socket:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    # When the reset arrives before `connect` returns cannot be timed from outside.
    monkeypatch.setattr(socket, "create_connection", reset)
    with pytest.raises(RelayError, match="the server closed the connection during its greeting"):
        SmtpConnection(SmtpServer("smtp", "127.0.0.1", 1), timeouts=SHORT).open()


def test_refused_connection_may_be_temporary(unused_port: int) -> None:
    """A port where no server listens is a temporary problem."""
    with pytest.raises(
        RelayError, match="connection: cannot connect: Connection refused"
    ) as caught:
        SmtpConnection(SmtpServer("smtp", "127.0.0.1", unused_port), timeouts=SHORT).open()
    assert caught.value.passing


@pytest.fixture
def unused_port() -> int:
    """Return a port of 127.0.0.1 where nothing listens."""
    with scripted({}) as server:
        return server.port


class Mailbox:
    """Collect the messages that aiosmtpd accepts."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        """Accept every message."""
        self.envelopes.append(envelope)
        return "250 taken"


def login(_server: Any, _session: Any, _envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """Accept the one user with the right password."""
    known = isinstance(data, LoginPassword) and data == LoginPassword(b"user", PASSWORD.encode())
    return AuthResult(success=known, handled=mechanism not in {"PLAIN", "LOGIN"})


class _Relay(Controller):
    """A controller that finds out the port that the system has chosen."""

    def _trigger_server(self) -> None:
        listening: Any = self.server
        self.port = listening.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


RunRelay = Callable[..., tuple[SmtpServer, Mailbox]]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RunRelay]:
    """Return a function that runs a real server (aiosmtpd) and returns its URL and mailbox."""
    running: list[Controller] = []

    def run(
        scheme: Scheme, certified: str = "127.0.0.1", password: str = "", **options: Any
    ) -> tuple[SmtpServer, Mailbox]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(tmp_path, certified))
        if scheme == "smtps":
            options["ssl_context"] = context
        elif scheme == "smtp+starttls":
            options |= {"tls_context": context, "require_starttls": True}
        if password:
            options |= {"authenticator": login, "auth_required": True}
        mailbox = Mailbox()
        controller = _Relay(mailbox, hostname="127.0.0.1", port=0, **options)
        running.append(controller)
        controller.start()
        return SmtpServer(
            scheme, "127.0.0.1", controller.port, "user" if password else "", password
        ), mailbox

    yield run
    for controller in running:
        controller.stop()


def trusted_context(folder: Path) -> ssl.SSLContext:
    """Return a context that trusts the certificate in `folder`."""
    return ssl.create_default_context(cafile=str(next(folder.glob("*.crt"))))


# aiosmtpd allows no login over smtps, because it does not see the existing TLS layer.
@pytest.mark.parametrize(("scheme", "password"), [("smtp+starttls", PASSWORD), ("smtps", "")])
def test_email_is_sent_over_tls(
    relay: RunRelay, tmp_path: Path, scheme: Scheme, password: str
) -> None:
    """Both kinds of TLS transfer an email unchanged to a real server, with its dots."""
    server, mailbox = relay(scheme, password=password)
    connection = SmtpConnection(server, timeouts=SHORT, trust=trusted_context(tmp_path))
    greeting = connection.open()
    message = MESSAGE + b".\r\n..two\r\n.one\r\n"
    assert connection.send(FROM, TO, message).text == "taken"
    connection.close()
    assert greeting.tls == "TLSv1.3"
    assert greeting.size > 0
    (envelope,) = mailbox.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos, envelope.content) == (FROM, [TO], message)


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
@pytest.mark.parametrize(
    ("certified", "trusted", "expected"),
    [
        ("127.0.0.1", False, "TLS: the certificate is not trusted: self"),
        ("mail.example.com", True, "TLS: the certificate is not trusted: IP address mismatch"),
    ],
)
def test_unknown_certificate_is_refused(
    relay: RunRelay, tmp_path: Path, scheme: Scheme, certified: str, expected: str, *, trusted: bool
) -> None:
    """An untrusted certificate, or one for another host, ends the connection."""
    server, _ = relay(scheme, certified)
    connection = SmtpConnection(
        server, timeouts=SHORT, trust=trusted_context(tmp_path) if trusted else None
    )
    with pytest.raises(RelayError, match=expected) as caught:
        connection.open()
    assert not caught.value.passing


def test_environment_may_add_an_authority(
    relay: RunRelay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The advice for an untrusted certificate works."""
    server, _ = relay("smtp+starttls")
    monkeypatch.setenv("SSL_CERT_FILE", str(next(tmp_path.glob("*.crt"))))
    connection = SmtpConnection(server, timeouts=SHORT)
    assert connection.open().tls == "TLSv1.3"
    connection.close()


def test_nothing_is_sent_without_starttls() -> None:
    """A server without STARTTLS gets neither the password nor an email."""
    with scripted({}) as server:
        address = SmtpServer("smtp+starttls", "127.0.0.1", server.port, "user", PASSWORD)
        with pytest.raises(RelayError, match="TLS: the server does not offer STARTTLS"):
            SmtpConnection(address, timeouts=SHORT).open()
    assert [command.split()[0] for command in server.commands] == ["ehlo"]


def test_port_without_tls_is_a_tls_problem() -> None:
    """`smtps://` to a port without TLS is a problem of TLS."""
    with scripted({}) as server, pytest.raises(RelayError, match="TLS: the TLS handshake failed: "):
        SmtpConnection(SmtpServer("smtps", "127.0.0.1", server.port), timeouts=SHORT).open()


def test_a_refused_login_shows_no_password(relay: RunRelay, tmp_path: Path) -> None:
    """A wrong password is tried once and not shown."""
    server, _ = relay("smtp+starttls", password="wrong-hunter2")
    with pytest.raises(RelayError, match="login: the server said 535") as caught:
        SmtpConnection(server, timeouts=SHORT, trust=trusted_context(tmp_path)).open()
    assert "check user and password" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not caught.value.passing


def test_auth_login_is_used_without_auth_plain() -> None:
    """A server without AUTH PLAIN gets user and password by AUTH LOGIN, in UTF-8."""
    script: dict[str, bytes | list[bytes]] = {"EHLO": b"250-hello\r\n250 AUTH LOGIN\r\n"}
    user, password = (base64.b64encode(text.encode()).decode() for text in ("user", PASSWORD))
    script |= {"AUTH": b"334 VXNlcg==\r\n", user.upper(): b"334 UGFzcw==\r\n"}
    script |= {password.upper(): b"235 in\r\n"}
    with scripted(script) as server:
        connection = SmtpConnection(
            SmtpServer("smtp", "127.0.0.1", server.port, "user", PASSWORD), timeouts=SHORT
        )
        connection.open()
        connection.close()
    assert server.commands[1:4] == ["AUTH LOGIN", user, password]


def test_missing_login_mechanism_is_an_error() -> None:
    """A server without a known login mechanism is an error, and no password is sent."""
    with scripted({"EHLO": b"250-hello\r\n250 AUTH CRAM-MD5\r\n"}) as server:
        address = SmtpServer("smtp", "127.0.0.1", server.port, "user", PASSWORD)
        with pytest.raises(RelayError, match="neither AUTH PLAIN nor AUTH LOGIN"):
            SmtpConnection(address, timeouts=SHORT).open()
    assert len(server.commands) == 1


def test_interrupted_email_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent on a connection after Ctrl-C in the middle of an email."""
    go_on = Channel.advance

    def interrupt(talk: Channel) -> ServerReply | None:
        reply = go_on(talk)
        if reply and reply.text == "taken":
            raise KeyboardInterrupt
        return reply

    with connect_to_script({".": b"250 taken\r\n"}) as (server, connection):
        with monkeypatch.context() as patch:
            patch.setattr(Channel, "advance", interrupt)
            with pytest.raises(KeyboardInterrupt):
                connection.send(FROM, TO, MESSAGE)
        assert connection.send(FROM, TO, MESSAGE).kind == "deferred"
    assert len(server.messages) == 1
