"""Open an SMTP connection: connect, receive the greeting, start TLS and log in.

smtplib makes the commands and parses the replies. It would wait without end for a server that
sends a byte now and then, and keep a reply of any length, so all that it receives is limited here.
"""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define

from postroom.errors import Problem, RelayError
from postroom.settings.urls import SMTP_URL_VAR, SmtpServer
from postroom.smtp.transaction import ServerFeatures, describe_error, printable_reply

# Bytes that a server may send before the first email. Real ones send less than 2,000.
_MAX_BYTES = 65_536
# Seconds to wait for one IP address; a host may have several, of which one may be down.
_DIAL_TIMEOUT = 30.0
_CHECK_SERVER = f"check host and port in {SMTP_URL_VAR}"
_CHECK_OR_RETRY = f"{_CHECK_SERVER}; if they are right, try again later"
_HINTS = {
    "login": f"check user and password in {SMTP_URL_VAR}",
    "TLS": f"check scheme and port in {SMTP_URL_VAR}",
}
_DURING = {"connection": "its greeting", "TLS": "the TLS handshake", "login": "the login"}


class _TooManyBytesError(OSError):
    """The server has sent more than `_MAX_BYTES`, or a line without end."""


@define
class _Allowance:
    """The time and the number of bytes that remain to a server until the connection is open."""

    seconds: float
    deadline: float
    bytes_left: int = _MAX_BYTES

    @classmethod
    def of(cls, seconds: float) -> _Allowance:
        """Return an allowance of `seconds` from now on."""
        return cls(seconds, time.monotonic() + seconds)

    @property
    def seconds_left(self) -> float:
        """The seconds until the deadline; raises `TimeoutError` once it has passed."""
        if (left := self.deadline - time.monotonic()) <= 0:
            raise TimeoutError
        return left

    def recv(self, sock: socket.socket) -> bytes:
        """Receive bytes; raises `TimeoutError` and `_TooManyBytesError`."""
        sock.settimeout(self.seconds_left)
        piece = sock.recv(4096)
        self.bytes_left -= len(piece)
        if self.bytes_left < 0:
            raise _TooManyBytesError
        return piece


class _ReplyLines:
    """The lines that a server sends, in place of the file from which smtplib reads replies."""

    def __init__(self, sock: socket.socket, allowance: _Allowance) -> None:
        self._sock = sock
        self._allowance = allowance
        self._received = b""

    def readline(self, size: int) -> bytes:
        """Return the next line; raises `_TooManyBytesError` if it has `size` bytes or more.

        Return what is left if the server has closed the connection.
        """
        while (end := self._received.find(b"\n", 0, size)) < 0:
            if len(self._received) >= size:
                raise _TooManyBytesError
            piece = self._allowance.recv(self._sock)
            if not piece:
                end = len(self._received)
                break
            self._received += piece
        line, self._received = self._received[: end + 1], self._received[end + 1 :]
        return line

    def close(self) -> None:
        """Do nothing: smtplib closes the socket itself."""


class _LimitedSmtp(smtplib.SMTP):
    """An SMTP client of smtplib for an open socket, which sends and receives within limits."""

    def __init__(self, sock: socket.socket, allowance: _Allowance) -> None:
        # The name is for EHLO. Without a host smtplib does not connect.
        super().__init__(local_hostname=_address_literal(sock.getsockname()[0]))
        self.sock = sock
        self._allowance = allowance

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Send a command within the time that is left."""
        if self.sock:
            self.sock.settimeout(self._allowance.seconds_left)
        super().putcmd(cmd, args)

    def getreply(self) -> tuple[int, bytes]:
        """Receive a reply within the time and the number of bytes that are left."""
        if self.file is None and self.sock:
            self.file = _ReplyLines(self.sock, self._allowance)
        return super().getreply()

    def wrap(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS on the socket and verify that its certificate is for `host`."""
        if self.sock:
            # Python counts this timeout for the handshake as a whole.
            self.sock.settimeout(self._allowance.seconds_left)
            self.sock = context.wrap_socket(self.sock, server_hostname=host)
            # RFC 3207 §4.2: what the server said before TLS does not count.
            self.file = None


def open_connection(
    server: SmtpServer, seconds: float, trust: ssl.SSLContext | None
) -> tuple[smtplib.SMTP, socket.socket, ServerFeatures]:
    """Connect, start TLS, greet the server and log in, all within `seconds`.

    Return the connection, which is ready for the first message, its socket, and the features of the
    server. `trust` verifies the server's certificate; None trusts the system's certificates. Raises
    `RelayError` after a failure; the connection is then closed.
    """
    allowance = _Allowance.of(seconds)
    smtp = _LimitedSmtp(_dial(server, allowance), allowance)
    try:
        if server.scheme == "smtps":
            with _step(server, "TLS", seconds):
                smtp.wrap(_tls_context(trust), server.host)
        with _step(server, "connection", seconds):
            _require(220, *smtp.getreply())
            _require(250, *smtp.ehlo())
        if server.scheme == "smtp+starttls":
            with _step(server, "TLS", seconds):
                _start_tls(smtp, server, trust)
        if server.user:
            with _step(server, "login", seconds):
                _log_in(smtp, server)
    except BaseException:
        smtp.close()
        raise
    if smtp.sock is None:
        message = "the server closed the connection"
        raise _relay_error(server, "connection", message, _CHECK_OR_RETRY, passing=True)
    return smtp, smtp.sock, _features(smtp)


def _dial(server: SmtpServer, allowance: _Allowance) -> socket.socket:
    """Connect to the first IP address of the server that answers.

    The time that is left is shared among them, so that many addresses cannot hold up a run.
    """
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        message = f"the host is unknown: {describe_error(error)}"
        raise _relay_error(server, "connection", message, _CHECK_SERVER, passing=True) from None
    first: OSError | None = None
    for tried, (*_, (host, port, *_)) in enumerate(found):
        try:
            seconds = min(_DIAL_TIMEOUT, allowance.seconds_left / (len(found) - tried))
            sock = socket.create_connection((str(host), port), timeout=seconds)
        except OSError as error:
            first = first or error
        else:
            # The last piece of a message must not wait for the acknowledgement of the one before.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    if isinstance(first, ConnectionResetError):
        # The server accepted the connection and closed it before `connect` returned.
        message, hint, passing = _describe_failure(first, "connection", allowance.seconds)
        raise _relay_error(server, "connection", message, hint, passing=passing)
    reason = describe_error(first) if first else "the host has no IP address"
    hint = f"{_CHECK_SERVER}, and that the server runs"
    raise _relay_error(server, "connection", f"cannot connect: {reason}", hint, passing=True)


def _tls_context(trust: ssl.SSLContext | None) -> ssl.SSLContext:
    """Return `trust`, or else a context that trusts the system's certificates.

    Making a context takes 20 ms, so call this only if TLS is used.
    """
    return trust or ssl.create_default_context()


def _require(expected: int, code: int, text: bytes) -> None:
    if code != expected:
        raise smtplib.SMTPResponseException(code, text)


def _start_tls(smtp: _LimitedSmtp, server: SmtpServer, trust: ssl.SSLContext | None) -> None:
    if not smtp.has_extn("starttls"):
        hint = "use smtps:// if the server has TLS on another port"
        raise _relay_error(server, "TLS", "the server does not offer STARTTLS", hint, passing=False)
    _require(220, *smtp.docmd("STARTTLS"))
    smtp.wrap(_tls_context(trust), server.host)
    # RFC 3207 §4.2: the server must be greeted again.
    _require(250, *smtp.ehlo())


def _log_in(smtp: smtplib.SMTP, server: SmtpServer) -> None:
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
        message = "the server offers neither AUTH PLAIN nor AUTH LOGIN"
        hint = "ask its operator how to log in"
        raise _relay_error(server, "login", message, hint, passing=False)
    _require(235, code, text)  # RFC 4954 §6


def _features(smtp: smtplib.SMTP) -> ServerFeatures:
    features = smtp.esmtp_features
    limit = features.get("size", "")
    tls = smtp.sock.version() if isinstance(smtp.sock, ssl.SSLSocket) else ""
    size = int(limit) if limit.isdecimal() and len(limit) <= 20 else 0
    return ServerFeatures(tls or "", size, frozenset(features))


@contextmanager
def _step(server: SmtpServer, name: str, seconds: float) -> Iterator[None]:
    """Turn the errors of a block into `RelayError`; `name` says what it does, such as "login".

    `seconds` is the time that the server had for everything.
    """
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        message = f"the certificate is not trusted: {error.verify_message}"
        hint = "correct the host name, or set SSL_CERT_FILE to the file of its authority"
        raise _relay_error(server, "TLS", message, hint, passing=False) from None
    except smtplib.SMTPResponseException as error:
        message, hint, passing = _describe_reply(error, name)
        raise _relay_error(server, name, message, hint, passing=passing) from None
    except OSError as error:
        message, hint, passing = _describe_failure(error, name, seconds)
        raise _relay_error(server, name, message, hint, passing=passing) from None


def _describe_reply(error: smtplib.SMTPResponseException, name: str) -> tuple[str, str, bool]:
    """Return a message and a hint about an unexpected reply, and whether a retry may help."""
    text = printable_reply(error.smtp_error)
    if not 200 <= error.smtp_code <= 599:
        return "the server there does not speak SMTP", _CHECK_SERVER, False
    passing = error.smtp_code // 100 != 5
    hint = "try again later" if passing else _HINTS.get(name, "ask its operator")
    return f"the server said {error.smtp_code} {text}".strip(), hint, passing


def _describe_failure(error: OSError, name: str, seconds: float) -> tuple[str, str, bool]:
    """Return a message and a hint about a lost connection, and whether a retry may help."""
    # smtplib reports every error of the socket as "disconnected".
    inner = error.__context__ if isinstance(error, smtplib.SMTPServerDisconnected) else None
    cause = inner or error
    during = _DURING[name]
    if isinstance(cause, _TooManyBytesError):
        message = f"the server sent more than {_MAX_BYTES:,} bytes, or a line without end"
        return f"{message}, during {during}", _CHECK_SERVER, True
    if isinstance(cause, TimeoutError):
        message = f"the server did not finish {during} within {seconds:g} seconds"
        return message, _CHECK_OR_RETRY, True
    is_closed = isinstance(
        cause,
        (smtplib.SMTPServerDisconnected, ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError),
    )
    if isinstance(cause, ssl.SSLError) and not is_closed:
        reason = (cause.reason or str(cause)).replace("_", " ").lower()
        return f"the TLS handshake failed: {reason}", _HINTS["TLS"], False
    reason = "" if is_closed else f": {describe_error(cause)}"
    message = f"the server closed the connection during {during}{reason}"
    return message, _HINTS["login"] if name == "login" else _CHECK_OR_RETRY, True


def _relay_error(
    server: SmtpServer, step: str, message: str, hint: str, *, passing: bool
) -> RelayError:
    problem = Problem(str(server), key=step, message=message, hint=hint)
    return RelayError([problem], passing=passing)


def _address_literal(ip: str) -> str:
    """Return the address literal of `ip`, which replaces a host name in EHLO (RFC 5321 §4.1.3)."""
    return f"[IPv6:{ip.partition('%')[0]}]" if ":" in ip else f"[{ip}]"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
