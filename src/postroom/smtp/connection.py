"""What is said and heard over an open connection, without waiting: many of them fit in a thread."""

from __future__ import annotations

import base64
import select
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from attrs import evolve

from postroom.errors import Problem, RelayError
from postroom.settings.urls import SmtpServer
from postroom.smtp.transaction import (
    Envelope,
    Exchange,
    MailTransaction,
    ServerFeatures,
    ServerReply,
    Timeouts,
    TransactionResult,
    mail_transaction,
    printable_reply,
    reply_reason,
    retry_hint,
    to_wire,
)

# RFC 5321 §4.5.3.1.5 gives a line of a reply 512 bytes; servers say more.
_LONGEST_LINE, _LONGEST_REPLY = 8192, 65_536
_CLOSED, _ENDLESS = "the server closed the connection", "the server's reply has no end"


class Channel:
    """A connection that smtplib has opened, from there on.

    Say something, then `go_on` until there is a reply; in between wait for the socket, to write
    where `wants_to_write`, else to read, and until the instant `until` of the steady clock at most.
    Whatever goes wrong becomes a `Reply` with code 0. After such a one nobody knows what the server
    will say next, so close the connection.
    """

    def __init__(self, smtp: smtplib.SMTP, sock: socket.socket) -> None:
        """Take over the socket of `smtp`."""
        self._smtp = smtp
        self._sock = sock
        sock.settimeout(0)
        self._unsent = memoryview(b"")
        self._heard = b""
        self.until = 0.0
        self.wants_to_write = False

    def send(self, data: bytes, seconds: float) -> None:
        """Begin to send `data`; the server has so many seconds to take it and to reply."""
        self._unsent = memoryview(data)
        self.until = time.monotonic() + seconds

    def advance(self) -> ServerReply | None:
        """Send and hear what can be without waiting; return the reply, once it is whole."""
        try:
            if self._unsent:
                self._send()
                # The server needs its time; the socket will tell.
                if not self._has_heard_more:
                    return None
            while (reply := self._take_reply()) is None:
                self._recv()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            # TLS may have to read before it can write, and the other way round.
            if isinstance(error, ssl.SSLError):
                self.wants_to_write = isinstance(error, ssl.SSLWantWriteError)
            return None
        except OSError as error:
            return self._last_words() or self._lost(reply_reason(error))
        return reply

    def _send(self) -> None:
        self.wants_to_write = True
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        self.wants_to_write = False

    @property
    def _has_heard_more(self) -> bool:
        """Whether there is something at hand of which the socket will not tell."""
        return bool(self._heard or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()))

    def expired(self) -> ServerReply:
        """Return the reply of a server whose time is up."""
        return self._lost("no answer in time")

    def _last_words(self) -> ServerReply | None:
        """Return what a server said that did not let us finish, and left (RFC 5321 §3.8)."""
        if self._unsent:
            with suppress(OSError):
                while (reply := self._take_reply()) is None:
                    self._recv()
                return evolve(reply, unsent=True)
        return None

    @property
    def is_quiet(self) -> bool:
        """Whether the server has said nothing unasked, be it that it closes the connection."""
        try:
            self._recv()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return not self._heard
        except OSError:
            return False
        return False

    def _lost(self, why: str) -> ServerReply:
        return ServerReply(0, why, unsent=bool(self._unsent))

    def _recv(self) -> None:
        piece = self._sock.recv(4096)
        if not piece:
            raise ConnectionError(_CLOSED)
        self._heard += piece

    def _take_reply(self) -> ServerReply | None:
        """Take the reply from what was heard, if it is whole (RFC 5321 §4.2.1)."""
        lines, start = [], 0
        while (end := self._heard.find(b"\n", start, start + _LONGEST_LINE)) >= 0:
            lines.append(self._heard[start:end])
            start = end + 1
            if lines[-1][3:4] != b"-":
                self._heard = self._heard[start:]
                return _reply(lines)
        if len(self._heard) - start >= _LONGEST_LINE or start > _LONGEST_REPLY:
            raise OSError(_ENDLESS)
        return None

    def fileno(self) -> int:
        """Return the number of the socket, for who waits for it."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._smtp.close()


def _reply(lines: list[bytes]) -> ServerReply:
    code, following = lines[-1][:3], lines[-1][3:4]
    is_code = len(code) == 3 and code.isdigit() and not following.isdigit()
    said = lines[0][4:] if len(lines) == 1 else b" ".join(line[4:] for line in lines)
    return ServerReply(int(code) if is_code else 0, said)


_REPAIRS = {"login": "check user and password", "TLS": "check scheme and port"}


def open_channel(
    server: SmtpServer, patience: Timeouts, trust: ssl.SSLContext | None
) -> tuple[Channel, ServerFeatures]:
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
    return Channel(smtp, smtp.sock), _greeting(smtp)


def _connected(
    server: SmtpServer, patience: Timeouts, trust: ssl.SSLContext | None
) -> smtplib.SMTP:
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
    retry_hint(smtp, patience.reply)
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


def _start_tls(smtp: smtplib.SMTP, server: SmtpServer, trust: ssl.SSLContext | None) -> None:
    if not smtp.has_extn("starttls"):
        repair = "use smtps:// if the server has TLS on another port"
        raise _failed(server, "TLS", "the server does not offer STARTTLS", repair, passing=False)
    smtp.starttls(context=_checking(trust))
    # RFC 3207 §4.2: what was said before TLS does not count.
    _hello(smtp)


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
        what = "the server offers neither AUTH PLAIN nor AUTH LOGIN"
        raise _failed(server, "login", what, "ask its operator how to log in", passing=False)
    if code != 235:  # RFC 4954 §6
        raise smtplib.SMTPResponseException(code, text)


def _greeting(smtp: smtplib.SMTP) -> ServerFeatures:
    features = smtp.esmtp_features
    limit = features.get("size", "")
    tls = smtp.sock.version() if isinstance(smtp.sock, ssl.SSLSocket) else ""
    size = int(limit) if limit.isdecimal() and len(limit) <= 20 else 0
    return ServerFeatures(tls or "", size, frozenset(features))


@contextmanager
def _step(server: SmtpServer, name: str) -> Iterator[None]:
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
        what = f"the server said {error.smtp_code} {printable_reply(error.smtp_error)}".strip()
        repair = "try again later" if passing else _REPAIRS.get(name, "ask its operator")
        raise _failed(server, name, what, repair, passing=passing) from None
    except OSError as error:
        what, repair = f"no connection: {reply_reason(error)}", "check host and port"
        raise _failed(server, name, what, repair, passing=True) from None


def _failed(server: SmtpServer, step: str, what: str, repair: str, *, passing: bool) -> RelayError:
    problem = Problem(str(server), key=step, message=what, hint=repair)
    return RelayError([problem], passing=passing)


def _literal(own: str) -> str:
    """Return our own address as EHLO wants it from those who have no name (RFC 5321 §4.1.3)."""
    return f"[IPv6:{own.partition('%')[0]}]" if ":" in own else f"[{own}]"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_STANDARD = Timeouts()
_CLOSED_BY_SERVER = TransactionResult("deferred", 0, "the connection is closed", usable=False)
# So many seconds a server has to say goodbye.
_GOODBYE = 5.0


class SmtpConnection:
    """One connection to the mail server: open it, send letters through it, close it.

    `send` waits until it is known what became of a letter. Else `begin`, then `go_on` whenever the
    socket `fileno` is ready: to be written to where `wants_to_write`, else to be read from. When
    the steady clock reaches `until`, say `give_up`.
    """

    def __init__(
        self,
        server: SmtpServer,
        *,
        patience: Timeouts = _STANDARD,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """Talk to `server`; its certificate is checked by `trust`, else by the system's store."""
        self._server = server
        self._patience = patience
        self._trust = trust
        self._talk: Channel | None = None
        self._greeting = ServerFeatures("", 0, frozenset())
        self._conversation: MailTransaction | None = None
        self._outcome = _CLOSED_BY_SERVER
        self._goodbye = min(_GOODBYE, patience.reply)

    def open(self) -> ServerFeatures:
        """Connect, protect the connection, say hello and log in; return what the server offers.

        Raises `RelayError`, with the connection closed.
        """
        self.close()
        self._talk, self._greeting = open_channel(self._server, self._patience, self._trust)
        return self._greeting

    def send(self, envelope_from: str, recipient: str, data: bytes) -> TransactionResult:
        """Hand over the message `data`, lines ended by CR LF, and return what became of it.

        Both addresses are plain ASCII; an empty `envelope_from` is the null sender.
        Raises `ValueError`, before the server hears of it, for a message that cannot be written in
        SMTP; never because of the server.
        """
        written = to_wire(data)
        try:
            self.begin(envelope_from, recipient, written)
            while (outcome := self.advance()) is None:
                if not self._is_ready():
                    return self.time_out()
        except BaseException:
            # Whoever interrupts leaves the conversation at a point that nobody knows.
            self._drop()
            raise
        return outcome

    def begin(self, envelope_from: str, recipient: str, written: bytes) -> None:
        """Begin to hand over a message that `wire` has written."""
        self._outcome = _CLOSED_BY_SERVER
        if self._talk and not self._talk.is_quiet:
            # What comes unasked is a goodbye; it must not be taken for an answer about this letter.
            self._drop()
        if self._talk:
            envelope = Envelope(envelope_from, recipient, written)
            self._conversation = mail_transaction(envelope, self._greeting, self._patience)
            self._send_command(self._talk, partial(next, self._conversation))

    def advance(self) -> TransactionResult | None:
        """Do what can be done without waiting; return what became of the letter, once known."""
        while self._talk and self._conversation:
            if (reply := self._talk.advance()) is None:
                return None
            self._send_command(self._talk, partial(self._conversation.send, reply))
        return self._outcome

    def time_out(self) -> TransactionResult:
        """Wait no longer, and return what that means for the letter."""
        while self._talk and self._conversation:
            self._send_command(self._talk, partial(self._conversation.send, self._talk.expired()))
        return self._outcome

    def _send_command(self, talk: Channel, following: Callable[[], Exchange]) -> None:
        """Say what follows, or note what became of the letter."""
        try:
            step = following()
        except StopIteration as ended:
            self._conversation, self._outcome = None, ended.value
            if not self._outcome.usable:
                self._drop()
        else:
            talk.send(step.data, step.seconds)

    @property
    def deadline(self) -> float:
        """The instant of the steady clock up to which the server may take its time."""
        return self._talk.until if self._talk else 0.0

    @property
    def wants_to_write(self) -> bool:
        """Whether the socket is to be waited for to write, not to read."""
        return self._talk is not None and self._talk.wants_to_write

    def fileno(self) -> int:
        """Return the number of the socket, -1 if the connection is closed."""
        return self._talk.fileno() if self._talk else -1

    def _is_ready(self) -> bool:
        """Wait for the socket; tell whether it was in time."""
        waiting = select.poll()
        waiting.register(self.fileno(), select.POLLOUT if self.wants_to_write else select.POLLIN)
        return bool(waiting.poll(max(0.0, self.deadline - time.monotonic()) * 1000))

    def close(self) -> None:
        """Say goodbye (RFC 5321 §4.1.1.10) and close the connection, if there is one."""
        if talk := self._talk:
            talk.send(b"QUIT\r\n", self._goodbye)
            while (reply := talk.advance()) is None and self._is_ready():
                pass
            if reply is None:
                # It would say nothing the next time either, and letters wait for this.
                self._goodbye = 0.0
            self._drop()

    def _drop(self) -> None:
        talk, self._talk, self._conversation = self._talk, None, None
        if talk is not None:
            talk.close()
