"""Opening a connection to a hostile SMTP server: its time and its bytes are limited."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from attrs import frozen

from postroom.doctor.environment import check_relay
from postroom.errors import RelayError
from postroom.settings.urls import Scheme, SmtpServer
from postroom.smtp.connection import SmtpConnection
from postroom.smtp.transaction import Timeouts
from tests.support.smtp_server import certificate, scripted

_GREETING = b"220 ready\r\n"
_WITH_LOGIN = b"250-hello\r\n250 AUTH PLAIN\r\n"
_WITH_TLS = b"250-hello\r\n250 STARTTLS\r\n"
# The header of a TLS record that has 16,384 bytes (RFC 8446 §5.1).
_RECORD = b"\x16\x03\x03\x40\x00"
# A hostile server gives up after this many seconds, so that a failing test ends.
_ENOUGH = 6.0


@frozen
class Hostility:
    """A server that gives `replies`, one to each command, and then sends `piece` for ever."""

    replies: tuple[bytes, ...]
    piece: bytes
    begin: bytes = b""
    pause: float = 0.0
    scheme: Scheme = "smtp"
    user: str = ""

    def play(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Serve one connection until its client closes it."""
        connection, _ = listening.accept()
        until = time.monotonic() + _ENOUGH
        with suppress(OSError), connection:
            connection.settimeout(_ENOUGH)
            with tls.wrap_socket(connection, server_side=True) if tls else connection as stream:
                for reply in self.replies:
                    stream.sendall(reply)
                    stream.recv(4096)
                stream.sendall(self.begin)
                while time.monotonic() < until:
                    stream.sendall(self.piece)
                    time.sleep(self.pause)


@contextmanager
def hostile_server(hostility: Hostility, tls: ssl.SSLContext | None = None) -> Iterator[SmtpServer]:
    """Run the server on a port of 127.0.0.1 for a block."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=hostility.play, args=(listening, tls), daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        yield SmtpServer(hostility.scheme, "127.0.0.1", port, hostility.user, hostility.user)
        thread.join(2 * _ENOUGH)
        assert not thread.is_alive()


def refusal(
    server: SmtpServer, seconds: float, trust: ssl.SSLContext | None = None
) -> tuple[str, float, int]:
    """Open a connection; return the error, the seconds it took and the most bytes of memory."""
    tracemalloc.start()
    began = time.monotonic()
    try:
        timeouts = Timeouts(connect=seconds, reply=30, end=30)
        with pytest.raises(RelayError) as caught:
            SmtpConnection(server, timeouts=timeouts, trust=trust).open()
        took, (_, most) = time.monotonic() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.passing
    (problem,) = caught.value.problems
    return str(problem), took, most


def assert_helpful(line: str, server: SmtpServer) -> None:
    """Assert that an error is one line that names the server and says what to do."""
    assert line.startswith(f"{server}: ")
    assert "POSTROOM_SMTP_URL" in line.partition("; ")[2]
    assert "\n" not in line


@pytest.mark.parametrize(
    ("hostility", "during"),
    [
        (Hostility((), b"220-hello\r\n" * 100), "its greeting"),
        (Hostility((), b"220-\r\n" * 500), "its greeting"),
        (Hostility((), b"2" * 4096), "its greeting"),
        (Hostility((_GREETING,), b"250-X-FEATURE\r\n" * 100), "its greeting"),
        (Hostility((_GREETING,), b"\0" * 4096), "its greeting"),
        (Hostility((_GREETING, _WITH_TLS), b"220-go\r\n" * 100, scheme="smtp+starttls"), "TLS"),
        (Hostility((_GREETING, _WITH_LOGIN), b"235-in\r\n" * 100, user="user"), "the login"),
    ],
)
def test_endless_replies_are_cut_off(hostility: Hostility, during: str) -> None:
    """An endless reply or line ends the attempt at once, and is not kept in memory."""
    with hostile_server(hostility) as server:
        line, took, most = refusal(server, 30)
    assert took < _ENOUGH / 2
    assert most < 2_000_000
    assert "more than 65,536 bytes" in line
    assert during in line
    assert_helpful(line, server)


@pytest.mark.parametrize(
    ("hostility", "during"),
    [
        (Hostility((), b"2", pause=0.05), "its greeting"),
        (Hostility((), b"220-\r\n", pause=0.05), "its greeting"),
        (Hostility((_GREETING,), b"250-x\r\n", pause=0.05), "its greeting"),
        (Hostility((_GREETING, _WITH_LOGIN), b"2", pause=0.05, user="user"), "the login"),
        (Hostility((), b"\0", _RECORD, 0.05, "smtps"), "the TLS handshake"),
        (
            Hostility((_GREETING, _WITH_TLS, b"220 go\r\n"), b"\0", _RECORD, 0.05, "smtp+starttls"),
            "the TLS handshake",
        ),
        (Hostility((_GREETING, _WITH_TLS), b"2", pause=0.05, scheme="smtp+starttls"), "TLS"),
    ],
)
def test_dripping_bytes_do_not_extend_the_time(hostility: Hostility, during: str) -> None:
    """The time is for the whole opening, whatever the server sends now and then."""
    with hostile_server(hostility) as server:
        line, took, _ = refusal(server, 0.6)
    assert took < _ENOUGH / 2
    assert f"did not finish {during}" in line or during == "TLS"
    assert "within 0.6 seconds" in line
    assert_helpful(line, server)


def test_each_step_uses_up_the_same_time() -> None:
    """A server that is slow at each step has no more time than one that is slow at one."""
    script = {"EHLO": _WITH_LOGIN, "AUTH": b"235 in\r\n"}
    with scripted(script, pause=0.3) as slow:
        server = SmtpServer("smtp", "127.0.0.1", slow.port, "user", "password")
        line, took, _ = refusal(server, 0.5)
    assert "did not finish its greeting within 0.5 seconds" in line
    assert took < 1


def test_limits_hold_inside_tls(tmp_path: Path) -> None:
    """The limits hold for replies over TLS as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = certificate(tmp_path, "127.0.0.1")
    context.load_cert_chain(*files)
    trust = ssl.create_default_context(cafile=str(files[0]))
    endless = Hostility((_GREETING,), b"250-X-FEATURE\r\n" * 100, scheme="smtps")
    with hostile_server(endless, context) as server:
        line, took, most = refusal(server, 30, trust)
    assert "more than 65,536 bytes" in line
    assert took < _ENOUGH / 2
    assert most < 2_000_000
    dripping = Hostility((_GREETING,), b"250-x\r\n", pause=0.05, scheme="smtps")
    with hostile_server(dripping, context) as server:
        line, took, _ = refusal(server, 0.6, trust)
    assert "did not finish its greeting within 0.6 seconds" in line
    assert took < _ENOUGH / 2


def test_doctor_reports_a_hostile_server() -> None:
    """The doctor reports an endless reply as a finding and goes on."""
    with hostile_server(Hostility((_GREETING,), b"250-X-FEATURE\r\n" * 100)) as server:
        (finding,) = check_relay(SmtpConnection(server), str(server))
    assert finding.level == "problem"
    assert "more than 65,536 bytes" in str(finding)


def test_other_protocol_is_named() -> None:
    """A server of another protocol is not quoted as if it had replied."""
    ssh = Hostility((b"SSH-2.0-OpenSSH_9.2\r\n",), b"?", pause=0.01)
    with hostile_server(ssh) as server, closing(SmtpConnection(server)) as connection:
        with pytest.raises(RelayError) as caught:
            connection.open()
        (problem,) = caught.value.problems
    assert problem.message == "the server there does not speak SMTP"
    assert_helpful(str(problem), server)


def test_unknown_host_is_named() -> None:
    """A host name that does not exist is an error that says so."""
    server = SmtpServer("smtp", "no.such.host.invalid", 25)
    line, *_ = refusal(server, 30)
    assert "connection: the host is unknown: " in line
    assert_helpful(line, server)
