"""A connection to the mail server, protected and logged in, or the reason why there is none."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from postroom.errors import Problem, RelayError
from postroom.smtp.server import Server
from postroom.smtp.talk import Talk
from postroom.smtp.wire import reason, wait, words

_REPAIRS = {"login": "check user and password", "TLS": "check scheme and port"}


@frozen
class Patience:
    """How many seconds the server may take: to connect, for a reply, and after the final dot.

    The times are those of RFC 5321 §4.5.3.2. The last is the longest on purpose: a letter given up
    too early after its final dot is an uncertain one.
    """

    connect: float = 30.0
    reply: float = 300.0
    end: float = 600.0


@frozen
class Greeting:
    """What the server offered: TLS version in use (or nothing) and its extensions, in lower case.

    `size` is the longest message it takes, in bytes; 0 is no known limit (RFC 1870 §4).
    """

    tls: str
    size: int
    extensions: frozenset[str]


def opened(
    server: Server, patience: Patience, trust: ssl.SSLContext | None
) -> tuple[Talk, Greeting]:
    """Return a connection that can take the first letter, and what the server offered.

    Raises `RelayError`, with the connection closed.
    """
    with _step(server, "connection"):
        smtp = _connected(server, patience, trust)
    try:
        with _step(server, "connection"):
            _hello(smtp)
        if server.scheme == "smtp+starttls":
            with _step(server, "TLS"):
                _start_tls(smtp, server, trust)
        if server.user:
            with _step(server, "login"):
                _log_in(smtp, server)
    except BaseException:
        smtp.close()
        raise
    if smtp.sock is None:
        raise _failed(server, "connection", "it was closed", "try again later", passing=True)
    return Talk(smtp, smtp.sock), _greeting(smtp)


def _connected(server: Server, patience: Patience, trust: ssl.SSLContext | None) -> smtplib.SMTP:
    # Any name will do until the socket knows its own; smtplib would ask the DNS for one.
    name, seconds = "localhost", patience.connect
    if server.scheme == "smtps":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(
            server.host,
            server.port,
            local_hostname=name,
            timeout=seconds,
            context=_checking(trust),
        )
    else:
        smtp = smtplib.SMTP(server.host, server.port, local_hostname=name, timeout=seconds)
    wait(smtp, patience.reply)
    if smtp.sock is not None:
        # The last piece of a letter must not wait for the acknowledgement of the one before.
        smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        smtp.local_hostname = _literal(smtp.sock.getsockname()[0])
    return smtp


def _checking(trust: ssl.SSLContext | None) -> ssl.SSLContext:
    """Return what checks certificates; made only where there is one, for it takes 20 ms."""
    return trust or ssl.create_default_context()


def _hello(smtp: smtplib.SMTP) -> None:
    code, text = smtp.ehlo()
    if code != 250:
        raise smtplib.SMTPResponseException(code, text)


def _start_tls(smtp: smtplib.SMTP, server: Server, trust: ssl.SSLContext | None) -> None:
    if not smtp.has_extn("starttls"):
        repair = "use smtps:// if the server has TLS on another port"
        raise _failed(server, "TLS", "the server does not offer STARTTLS", repair, passing=False)
    smtp.starttls(context=_checking(trust))
    # RFC 3207 §4.2: what was said before TLS does not count.
    _hello(smtp)


def _log_in(smtp: smtplib.SMTP, server: Server) -> None:
    # smtplib's login tries every method in turn, so that one wrong password counts as several
    # and may lock the account; and it cannot write a password that is not ASCII.
    offered = smtp.esmtp_features.get("auth", "").upper().split()
    user, password = server.user.encode(), server.password.encode()
    if "PLAIN" in offered:  # RFC 4616 §2
        code, text = smtp.docmd("AUTH", "PLAIN " + _base64(b"\0%b\0%b" % (user, password)))
    elif "LOGIN" in offered:
        code, text = smtp.docmd("AUTH", "LOGIN")
        for answer in (user, password):
            if code == 334:
                code, text = smtp.docmd(_base64(answer))
    else:
        what = "the server offers neither AUTH PLAIN nor AUTH LOGIN"
        raise _failed(server, "login", what, "ask its operator how to log in", passing=False)
    if code != 235:  # RFC 4954 §6
        raise smtplib.SMTPResponseException(code, text)


def _greeting(smtp: smtplib.SMTP) -> Greeting:
    features = smtp.esmtp_features
    limit = features.get("size", "")
    tls = smtp.sock.version() if isinstance(smtp.sock, ssl.SSLSocket) else ""
    size = int(limit) if limit.isdecimal() and len(limit) <= 20 else 0
    return Greeting(tls or "", size, frozenset(features))


@contextmanager
def _step(server: Server, name: str) -> Iterator[None]:
    """Turn what can go wrong before the first letter into `RelayError`."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        what = f"the certificate is not trusted: {error.verify_message}"
        repair = "correct the host's name, or name its authority's file in SSL_CERT_FILE"
        raise _failed(server, "TLS", what, repair, passing=False) from None
    except ssl.SSLError as error:
        what, repair = f"no TLS: {error.reason or error}", _REPAIRS["TLS"]
        raise _failed(server, "TLS", what, repair, passing=False) from None
    except smtplib.SMTPResponseException as error:
        passing = error.smtp_code // 100 != 5
        what = f"the server said {error.smtp_code} {words(error.smtp_error)}".strip()
        repair = "try again later" if passing else _REPAIRS.get(name, "ask its operator")
        raise _failed(server, name, what, repair, passing=passing) from None
    except OSError as error:
        what, repair = f"no connection: {reason(error)}", "check host and port"
        raise _failed(server, name, what, repair, passing=True) from None


def _failed(server: Server, step: str, what: str, repair: str, *, passing: bool) -> RelayError:
    problem = Problem(str(server), key=step, what=what, repair=repair)
    return RelayError([problem], passing=passing)


def _literal(own: str) -> str:
    """Return our own address as EHLO wants it from those who have no name (RFC 5321 §4.1.3)."""
    return f"[IPv6:{own.partition('%')[0]}]" if ":" in own else f"[{own}]"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
