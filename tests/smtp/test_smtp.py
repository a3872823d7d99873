"""The mail server: its address, the connection, and what its replies mean for a letter."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
# For servers that say nothing: only they may be waited for in vain.
BRIEF = Timeouts(connect=0.3, reply=0.3, end=0.3)
FROM, TO = "bounces+7=a.example@example.com", "reader@example.net"
LETTER = b"From: news@example.com\r\nSubject: We moved\r\n\r\nTo a new office.\r\n"
PASSWORD = "p@ss/w:örd"


def read_problem(url: str | None) -> str:
    """Return the one problem that `read_server` has with `url`."""
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
def test_reads_an_address(url: str, server: SmtpServer) -> None:
    """Scheme, host, port, user and password are read, percent-encoded or not given."""
    assert parse_smtp_url(url) == server


@pytest.mark.parametrize(
    ("url", "said"),
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
def test_refuses_an_address_without_repeating_it(url: str | None, said: str) -> None:
    """A wrong address is one line that says how to write it, and shows none of its parts."""
    line = read_problem(url)
    assert line.startswith("POSTROOM_SMTP_URL: ")
    assert said in line
    assert "hunter2" not in line
    assert "\n" not in line


def test_never_shows_the_password() -> None:
    """Neither the text nor the representation of a server holds its password."""
    server = parse_smtp_url("smtps://user:hunter2@mail.example.com")
    assert str(server) == "smtps://mail.example.com:465"
    assert "hunter2" not in repr(server)


@contextmanager
def talking(
    script: Mapping[str, bytes | list[bytes]], patience: Timeouts = SHORT
) -> Iterator[tuple[Scripted, SmtpConnection]]:
    """Run a scripted server and a mailer that is connected to it."""
    with scripted(script) as server:
        mailer = SmtpConnection(SmtpServer("smtp", "127.0.0.1", server.port), timeouts=patience)
        try:
            mailer.open()
            yield server, mailer
        finally:
            mailer.close()


def test_hands_over_a_letter() -> None:
    """A letter is one transaction, its size is announced, and the connection is said goodbye to."""
    with scripted({}) as server:
        mailer = SmtpConnection(SmtpServer("smtp", "127.0.0.1", server.port), timeouts=SHORT)
        assert mailer.open() == ServerFeatures("", 1_000_000, frozenset({"size"}))
        assert mailer.send(FROM, TO, LETTER) == TransactionResult(
            "accepted", 250, "ok", usable=True, command="end of data"
        )
        mailer.close()
    assert server.messages == [LETTER]
    assert server.commands == [
        "ehlo [127.0.0.1]",
        f"MAIL FROM:<{FROM}> SIZE={len(LETTER)}",
        f"RCPT TO:<{TO}>",
        "DATA",
        "QUIT",
    ]


def test_sends_letter_after_letter_on_one_connection() -> None:
    """The connection is used again, also after a recipient was refused."""
    script: dict[str, bytes | list[bytes]] = {"RCPT": [b"550 5.1.1 nobody\r\n"]}
    with talking(script) as (server, mailer):
        kinds = [mailer.send(FROM, TO, LETTER).kind for _ in range(3)]
    assert kinds == ["refused", "accepted", "accepted"]
    assert sum(command.startswith("ehlo") for command in server.commands) == 1
    assert server.commands.count("RSET") == 1


def test_sends_a_report_from_nobody() -> None:
    """An empty envelope sender is the null reverse-path (RFC 5321 §4.5.5)."""
    with talking({}) as (server, mailer):
        assert mailer.send("", TO, LETTER).kind == "accepted"
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
def test_knows_what_a_reply_means(
    command: str, reply: bytes, meant: tuple[str, int, bool, str]
) -> None:
    """Each reply, or none, at each command has one meaning for the letter and the connection."""
    with talking({command: reply}, BRIEF if reply == SILENCE else SHORT) as (_, mailer):
        outcome = mailer.send(FROM, TO, LETTER)
        found = (outcome.kind, outcome.code, outcome.usable, outcome.command)
        assert found == meant
        if not outcome.usable:
            assert mailer.send(FROM, TO, LETTER).kind == "deferred"


def test_a_connection_lost_before_the_final_dot_defers() -> None:
    """If the data cannot be sent to its end, the server cannot have taken the letter."""
    long = LETTER + b"x" * 76 + b"\r\n"
    long += (b"y" * 76 + b"\r\n") * 300_000
    script: dict[str, bytes | list[bytes]] = {"EHLO": b"250 hello\r\n", "data": CLOSE}
    with talking(script, SHORT) as (_, mailer):
        outcome = mailer.send(FROM, TO, long)
    assert (outcome.kind, outcome.usable, outcome.command) == ("deferred", False, "DATA")


def test_a_connection_that_cannot_be_cleared_is_given_up() -> None:
    """Without RSET the refused letter's sender would stand before the next one's."""
    with talking({"RCPT": b"550 no\r\n", "RSET": b"500 what\r\n"}) as (_, mailer):
        assert mailer.send(FROM, TO, LETTER) == TransactionResult(
            "refused", 550, "no", usable=False, command="RCPT"
        )


def test_can_be_opened_again() -> None:
    """A mailer whose connection was lost opens another."""
    with talking({".": [CLOSE]}) as (server, mailer):
        assert mailer.send(FROM, TO, LETTER).kind == "uncertain"
        mailer.open()
        assert mailer.send(FROM, TO, LETTER).kind == "accepted"
    assert len(server.messages) == 2


def test_shows_replies_as_harmless_lines() -> None:
    """What the server says is shown as one line without control characters."""
    with talking({"RCPT": b"550-no\r\n550 \x1b[31m\xffred\r\n"}) as (_, mailer):
        assert mailer.send(FROM, TO, LETTER).text == "no �[31m�red"


def test_does_not_offer_what_is_too_long() -> None:
    """A letter over the server's limit is refused before the server hears of it."""
    with talking({"EHLO": b"250-hello\r\n250 SIZE 50\r\n"}) as (server, mailer):
        outcome = mailer.send(FROM, TO, LETTER)
    assert outcome == TransactionResult(
        "refused", 0, "the email has 63 bytes, and the server takes 50 at most", usable=True
    )
    assert server.commands[1:] == ["QUIT"]


@pytest.mark.parametrize("limit", [b"SIZE", b"SIZE 0", b"SIZE many"])
def test_takes_an_unknown_limit_for_none(limit: bytes) -> None:
    """SIZE without a number, or with 0, is no fixed limit (RFC 1870 §4)."""
    with talking({"EHLO": b"250-hello\r\n250 " + limit + b"\r\n"}) as (_, mailer):
        assert mailer.send(FROM, TO, LETTER).kind == "accepted"


def test_8_bit_text_needs_a_server_that_takes_it() -> None:
    """8-bit text is announced (RFC 6152), or refused where the server does not take it."""
    letter = LETTER + "Grüße\r\n".encode()
    with talking({}) as (_, mailer):
        assert mailer.send(FROM, TO, letter).kind == "refused"
    with talking({"EHLO": b"250-hello\r\n250 8BITMIME\r\n"}) as (server, mailer):
        assert mailer.send(FROM, TO, letter).kind == "accepted"
    assert server.commands[1].endswith(" BODY=8BITMIME")


@pytest.mark.parametrize(
    ("letter", "sent"),
    [
        (b"Subject: a\r\n\r\n.\r\n..\r\n.x\r\n", b"Subject: a\r\n\r\n..\r\n...\r\n..x\r\n"),
        (b".a: b\r\n\r\n", b"..a: b\r\n\r\n"),
        (b"Subject: a\r\n\r\nend", b"Subject: a\r\n\r\nend\r\n"),
        (b"a: " + b"x" * 995 + b"\r\n", b"a: " + b"x" * 995 + b"\r\n"),
    ],
)
def test_doubles_dots_and_ends_the_last_line(letter: bytes, sent: bytes) -> None:
    """Lines that begin with a dot get a second one (RFC 5321 §4.5.2); the last line has its end."""
    with talking({}) as (server, mailer):
        assert mailer.send(FROM, TO, letter).kind == "accepted"
    assert server.messages == [sent]


@pytest.mark.parametrize(
    ("letter", "said"),
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
def test_refuses_what_smtp_cannot_say(letter: bytes, said: str) -> None:
    """A message with a bare CR or LF, or a line too long, never reaches the server."""
    with talking({}) as (server, mailer):
        with pytest.raises(ValueError, match=said):
            mailer.send(FROM, TO, letter)
        assert mailer.send(FROM, TO, LETTER).kind == "accepted"
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
def test_never_says_a_strange_address(sender: str, recipient: str) -> None:
    """An address that MAIL or RCPT cannot take is refused before the server hears of it."""
    with talking({}) as (server, mailer):
        outcome = mailer.send(sender, recipient, LETTER)
        assert (outcome.kind, outcome.command, outcome.usable) == ("refused", "", True)
        assert mailer.send(FROM, TO, LETTER).kind == "accepted"
    assert len(server.messages) == 1


AT_ONCE = b"250-hello\r\n250-PIPELINING\r\n250 SIZE 1000000\r\n"


@pytest.mark.parametrize(("command", "reply", "meant"), _REPLIES)
def test_a_reply_means_the_same_to_commands_sent_at_once(
    command: str, reply: bytes, meant: tuple[str, int, bool, str]
) -> None:
    """With PIPELINING (RFC 2920) each reply has the meaning that it has without."""
    script = {"EHLO": AT_ONCE, command: reply}
    with talking(script, BRIEF if reply == SILENCE else SHORT) as (_, mailer):
        outcome = mailer.send(FROM, TO, LETTER)
        assert (outcome.kind, outcome.code, outcome.usable) == meant[:3]
        # Of a connection that is cut off, earlier replies may be lost on the way.
        assert outcome.command == meant[3] or reply == CLOSE
        if outcome.usable:
            assert mailer.send(FROM, TO, LETTER).kind == outcome.kind
        else:
            assert mailer.send(FROM, TO, LETTER).kind == "deferred"


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_commands_leave_in_one_piece_where_the_server_takes_that(
    tmp_path: Path, scheme: Scheme
) -> None:
    """MAIL, RCPT and DATA are on their way before the first of them is answered, also over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, "127.0.0.1"))
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        tls = context if scheme == "smtps" else None
        heard = pool.submit(_heard_before_answering, listening, tls)
        server = SmtpServer(scheme, "127.0.0.1", listening.getsockname()[1])
        mailer = SmtpConnection(server, timeouts=SHORT, trust=trusting(tmp_path))
        mailer.open()
        assert [mailer.send(FROM, TO, LETTER).kind for _ in range(3)] == ["accepted"] * 3
        mailer.close()
    assert heard.result() == [b"MAIL", b"RCPT", b"DATA"] * 3


def _heard_before_answering(
    listening: socket.socket, context: ssl.SSLContext | None
) -> list[bytes]:
    """Be a server that answers three commands together; return them."""
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


def test_data_for_nobody_is_empty() -> None:
    """A server that refuses the recipient and invites the data all the same gets none of it."""
    refusals = {"RCPT": [b"550 5.1.1 nobody\r\n"], ".": [b"554 nobody\r\n"]}
    with talking({"EHLO": AT_ONCE, **refusals}) as (server, mailer):
        outcome = mailer.send(FROM, TO, LETTER)
        assert (outcome.kind, outcome.code, outcome.command) == ("refused", 550, "RCPT")
        assert mailer.send(FROM, TO, LETTER).kind == "accepted"
    assert server.messages == [b"", LETTER]


def test_a_reply_without_an_end_is_none() -> None:
    """Neither a reply of endless lines nor one that drips holds a letter for ever."""
    with talking({".": b"250-more\r\n" * 20_000}) as (_, mailer):
        assert mailer.send(FROM, TO, LETTER).kind == "uncertain"
    with talking({"MAIL": b"250-more\r\n" * 20_000}) as (_, mailer):
        assert mailer.send(FROM, TO, LETTER).kind == "deferred"


def test_a_reply_that_drips_is_waited_for_so_long() -> None:
    """The time for a reply is for all of it: a server that sends a line now and then runs out."""
    dripping = Timeouts(connect=5.0, reply=0.5, end=0.5)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        drips = pool.submit(_drip, listening)
        mailer = SmtpConnection(
            SmtpServer("smtp", "127.0.0.1", listening.getsockname()[1]), timeouts=dripping
        )
        mailer.open()
        began = time.monotonic()
        outcome = mailer.send(FROM, TO, LETTER)
        assert (outcome.kind, outcome.text) == ("deferred", "no answer in time")
        assert time.monotonic() - began < 3
        mailer.close()
        assert drips.result() < 40


def _drip(listening: socket.socket) -> int:
    """Be a server that answers MAIL with a line every tenth of a second; return how many."""
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
    ("script", "said", "passing"),
    [
        ({"connect": b"554 go away\r\n"}, "connection: the server said 554 go away", False),
        ({"connect": b"421 too many\r\n"}, "said 421 too many; try again later", True),
        ({"connect": CLOSE}, "no connection", True),
        ({"connect": SILENCE}, "no answer in time", True),
        ({"EHLO": b"502 what\r\n"}, "said 502", False),
        ({"EHLO": b"451 later\r\n"}, "said 451", True),
        ({"EHLO": CLOSE}, "no connection", True),
    ],
)
def test_says_why_there_is_no_connection(
    script: Mapping[str, bytes], said: str, *, passing: bool
) -> None:
    """A server that does not let us in is one line, which tells whether waiting may help."""
    patience = BRIEF if SILENCE in script.values() else SHORT
    with pytest.raises(RelayError) as caught, talking(script, patience):
        pass
    (problem,) = caught.value.problems
    assert said in str(problem)
    assert str(problem).startswith("smtp://127.0.0.1:")
    assert caught.value.passing is passing


def test_says_that_nobody_listens(unused_port: int) -> None:
    """A port where nothing listens is a problem that may pass."""
    with pytest.raises(RelayError, match="no connection: Connection refused") as caught:
        SmtpConnection(SmtpServer("smtp", "127.0.0.1", unused_port), timeouts=SHORT).open()
    assert caught.value.passing


@pytest.fixture
def unused_port() -> int:
    """Return a port of 127.0.0.1 where nothing listens."""
    with scripted({}) as server:
        return server.port


class Mailbox:
    """Keeps what aiosmtpd takes."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        """Take every letter."""
        self.envelopes.append(envelope)
        return "250 taken"


def login(_server: Any, _session: Any, _envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """Let the one user in who knows the password."""
    known = isinstance(data, LoginPassword) and data == LoginPassword(b"user", PASSWORD.encode())
    return AuthResult(success=known, handled=mechanism not in {"PLAIN", "LOGIN"})


class _Relay(Controller):
    """Listens on a port that the system chooses, which Controller alone does not find out."""

    def _trigger_server(self) -> None:
        listening: Any = self.server
        self.port = listening.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


RunRelay = Callable[..., tuple[SmtpServer, Mailbox]]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RunRelay]:
    """Return a function that runs a real server (aiosmtpd) and returns its address and mailbox."""
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


def trusting(folder: Path) -> ssl.SSLContext:
    """Return a context that trusts the certificate made in `folder`."""
    return ssl.create_default_context(cafile=str(next(folder.glob("*.crt"))))


# aiosmtpd lets nobody log in over smtps: it does not see that TLS is there already.
@pytest.mark.parametrize(("scheme", "password"), [("smtp+starttls", PASSWORD), ("smtps", "")])
def test_sends_over_tls(relay: RunRelay, tmp_path: Path, scheme: Scheme, password: str) -> None:
    """Over both kinds of TLS a letter reaches a real server byte for byte, dots and all."""
    server, mailbox = relay(scheme, password=password)
    mailer = SmtpConnection(server, timeouts=SHORT, trust=trusting(tmp_path))
    greeting = mailer.open()
    letter = LETTER + b".\r\n..two\r\n.one\r\n"
    assert mailer.send(FROM, TO, letter).text == "taken"
    mailer.close()
    assert greeting.tls == "TLSv1.3"
    assert greeting.size > 0
    (envelope,) = mailbox.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos, envelope.content) == (FROM, [TO], letter)


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
@pytest.mark.parametrize(
    ("certified", "trusted", "said"),
    [
        ("127.0.0.1", False, "TLS: the certificate is not trusted: self"),
        ("mail.example.com", True, "TLS: the certificate is not trusted: IP address mismatch"),
    ],
)
def test_trusts_no_unknown_certificate(
    relay: RunRelay, tmp_path: Path, scheme: Scheme, certified: str, said: str, *, trusted: bool
) -> None:
    """A certificate signed by nobody known, or for another host, ends the connection."""
    server, _ = relay(scheme, certified)
    mailer = SmtpConnection(server, timeouts=SHORT, trust=trusting(tmp_path) if trusted else None)
    with pytest.raises(RelayError, match=said) as caught:
        mailer.open()
    assert not caught.value.passing


def test_trusts_the_authority_that_the_environment_names(
    relay: RunRelay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy that the message of an untrusted certificate names is one."""
    server, _ = relay("smtp+starttls")
    monkeypatch.setenv("SSL_CERT_FILE", str(next(tmp_path.glob("*.crt"))))
    mailer = SmtpConnection(server, timeouts=SHORT)
    assert mailer.open().tls == "TLSv1.3"
    mailer.close()


def test_does_not_speak_without_tls() -> None:
    """A server that offers no STARTTLS gets neither password nor letter."""
    with scripted({}) as server:
        address = SmtpServer("smtp+starttls", "127.0.0.1", server.port, "user", PASSWORD)
        with pytest.raises(RelayError, match="TLS: the server does not offer STARTTLS"):
            SmtpConnection(address, timeouts=SHORT).open()
    assert [command.split()[0] for command in server.commands] == ["ehlo"]


def test_names_a_port_that_speaks_no_tls() -> None:
    """`smtps://` to a port without TLS is a problem of TLS."""
    with scripted({}) as server, pytest.raises(RelayError, match="TLS: no TLS: "):
        SmtpConnection(SmtpServer("smtps", "127.0.0.1", server.port), timeouts=SHORT).open()


def test_a_refused_login_shows_no_password(relay: RunRelay, tmp_path: Path) -> None:
    """A wrong password is tried once and shown nowhere."""
    server, _ = relay("smtp+starttls", password="wrong-hunter2")
    with pytest.raises(RelayError, match="login: the server said 535") as caught:
        SmtpConnection(server, timeouts=SHORT, trust=trusting(tmp_path)).open()
    assert "check user and password" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not caught.value.passing


def test_logs_in_by_auth_login() -> None:
    """Where AUTH PLAIN is not offered, AUTH LOGIN carries user and password in UTF-8."""
    script: dict[str, bytes | list[bytes]] = {"EHLO": b"250-hello\r\n250 AUTH LOGIN\r\n"}
    user, password = (base64.b64encode(text.encode()).decode() for text in ("user", PASSWORD))
    script |= {"AUTH": b"334 VXNlcg==\r\n", user.upper(): b"334 UGFzcw==\r\n"}
    script |= {password.upper(): b"235 in\r\n"}
    with scripted(script) as server:
        mailer = SmtpConnection(
            SmtpServer("smtp", "127.0.0.1", server.port, "user", PASSWORD), timeouts=SHORT
        )
        mailer.open()
        mailer.close()
    assert server.commands[1:4] == ["AUTH LOGIN", user, password]


def test_knows_when_it_cannot_log_in() -> None:
    """A server that offers no known way to log in is named; no password is sent."""
    with scripted({"EHLO": b"250-hello\r\n250 AUTH CRAM-MD5\r\n"}) as server:
        address = SmtpServer("smtp", "127.0.0.1", server.port, "user", PASSWORD)
        with pytest.raises(RelayError, match="neither AUTH PLAIN nor AUTH LOGIN"):
            SmtpConnection(address, timeouts=SHORT).open()
    assert len(server.commands) == 1


def test_an_interrupted_letter_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C in the middle of a letter nothing more is sent on that connection."""
    go_on = Channel.advance

    def interrupt(talk: Channel) -> ServerReply | None:
        reply = go_on(talk)
        if reply and reply.text == "taken":
            raise KeyboardInterrupt
        return reply

    with talking({".": b"250 taken\r\n"}) as (server, mailer):
        with monkeypatch.context() as patch:
            patch.setattr(Channel, "advance", interrupt)
            with pytest.raises(KeyboardInterrupt):
                mailer.send(FROM, TO, LETTER)
        assert mailer.send(FROM, TO, LETTER).kind == "deferred"
    assert len(server.messages) == 1
