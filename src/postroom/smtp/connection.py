"""A non-blocking SMTP connection, so that one thread can send over many connections.

Connecting, TLS and login do block; `smtp.opening` does them.
"""

from __future__ import annotations

import select
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from attrs import evolve

from postroom.settings.urls import SmtpServer
from postroom.smtp.opening import open_connection
from postroom.smtp.transaction import (
    Envelope,
    Exchange,
    MailTransaction,
    ServerFeatures,
    ServerReply,
    Timeouts,
    TransactionResult,
    describe_error,
    mail_transaction,
    to_wire,
)

# RFC 5321 §4.5.3.1.5 gives a line of a reply 512 bytes; servers send more.
_LONGEST_LINE, _LONGEST_REPLY = 8192, 65_536
_CLOSED, _ENDLESS = "the server closed the connection", "the server's reply has no end"


class Channel:
    """An open connection that smtplib has established, used without blocking.

    Call `send`, then `advance` until it returns a reply. Between two calls of `advance`, wait until
    the socket can be written to (if `wants_to_write`) or read from. If the monotonic clock reaches
    `deadline` first, call `time_out`. A failure is not raised but returned as a `ServerReply` with
    code 0. After a failure the state of the server is unknown, so close the connection.
    """

    def __init__(self, smtp: smtplib.SMTP, sock: socket.socket) -> None:
        """Take over the socket of `smtp`."""
        self._smtp = smtp
        self._sock = sock
        sock.settimeout(0)
        self._unsent = memoryview(b"")
        self._received = b""
        # The complete lines of a reply whose last line has not come yet, and their bytes.
        self._lines: list[bytes] = []
        self._lines_size = 0
        self.deadline = 0.0
        self.wants_to_write = False

    def send(self, data: bytes, seconds: float) -> None:
        """Begin to send `data`; the server must accept it and reply within `seconds`."""
        self._unsent = memoryview(data)
        self.deadline = time.monotonic() + seconds

    def advance(self) -> ServerReply | None:
        """Send and receive as much as is possible without waiting.

        Return the server's reply, or None while it is not complete.
        """
        try:
            if self._unsent:
                self._send()
                # The server needs time to reply; the socket becomes readable then.
                if not self._has_buffered_input:
                    return None
            while (reply := self._take_reply()) is None:
                self._recv()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            # TLS may have to read before it can write, and the other way round.
            if isinstance(error, ssl.SSLError):
                self.wants_to_write = isinstance(error, ssl.SSLWantWriteError)
            return None
        except OSError as error:
            return self._early_reply() or self._lost(describe_error(error))
        return reply

    def _send(self) -> None:
        self.wants_to_write = True
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        self.wants_to_write = False

    @property
    def _has_buffered_input(self) -> bool:
        """Whether input waits in a buffer, so that the socket need not become readable."""
        pending = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        return bool(self._received or pending)

    def time_out(self) -> ServerReply:
        """Return the reply, with code 0, for a server that has not replied before `deadline`."""
        return self._lost("no answer in time")

    def _early_reply(self) -> ServerReply | None:
        """Return the reply of a server that replied and closed before all data was sent.

        RFC 5321 §3.8 allows that. Return None if there is no such reply.
        """
        if self._unsent:
            with suppress(OSError):
                while (reply := self._take_reply()) is None:
                    self._recv()
                return evolve(reply, unsent=True)
        return None

    @property
    def is_quiet(self) -> bool:
        """Whether the connection is still open and the server has sent nothing unexpected."""
        try:
            self._recv()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return not self._received
        except OSError:
            return False
        return False

    def _lost(self, reason: str) -> ServerReply:
        return ServerReply(0, reason, unsent=bool(self._unsent))

    def _recv(self) -> None:
        piece = self._sock.recv(4096)
        if not piece:
            raise ConnectionError(_CLOSED)
        self._received += piece

    def _take_reply(self) -> ServerReply | None:
        """Remove a reply from the received bytes and return it; None if it is not complete.

        The last line of a reply has no hyphen after its code (RFC 5321 §4.2.1).
        """
        # Each line is read once: a server that sends a reply in tiny pieces must not make the
        # thread of the run, which serves all connections, read the whole reply for each piece.
        while (end := self._received.find(b"\n", 0, _LONGEST_LINE)) >= 0:
            line, self._received = self._received[:end], self._received[end + 1 :]
            self._lines.append(line)
            self._lines_size += end + 1
            if line[3:4] != b"-":
                lines, self._lines, self._lines_size = self._lines, [], 0
                return _parse_reply(lines)
        if len(self._received) >= _LONGEST_LINE or self._lines_size > _LONGEST_REPLY:
            raise OSError(_ENDLESS)
        return None

    def fileno(self) -> int:
        """Return the file descriptor of the socket."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._smtp.close()


def _parse_reply(lines: list[bytes]) -> ServerReply:
    code, following = lines[-1][:3], lines[-1][3:4]
    is_code = len(code) == 3 and code.isdigit() and not following.isdigit()
    text = lines[0][4:] if len(lines) == 1 else b" ".join(line[4:] for line in lines)
    return ServerReply(int(code) if is_code else 0, text)


_DEFAULT_TIMEOUTS = Timeouts()
_NOT_CONNECTED = TransactionResult("deferred", 0, "the connection is closed", usable=False)
# Seconds that a server has to answer QUIT.
_QUIT_TIMEOUT = 5.0


class SmtpConnection:
    """One connection to the relay: open it, send messages through it, close it.

    `send` sends a message and waits for its result. To send without waiting, call `begin`, then
    `advance` whenever the socket (`fileno`) is ready, for writing if `wants_to_write`, else for
    reading. Call `time_out` if the monotonic clock reaches `deadline`.
    """

    def __init__(
        self,
        server: SmtpServer,
        *,
        timeouts: Timeouts = _DEFAULT_TIMEOUTS,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare a connection to `server` without opening it.

        `trust` verifies the server's certificate; the default trusts the system's certificates.
        """
        self._server = server
        self._timeouts = timeouts
        self._trust = trust
        self._channel: Channel | None = None
        self._features = ServerFeatures("", 0, frozenset())
        self._transaction: MailTransaction | None = None
        self._result = _NOT_CONNECTED
        self._quit_timeout = min(_QUIT_TIMEOUT, timeouts.reply)

    def open(self) -> ServerFeatures:
        """Connect, start TLS, greet the server and log in; return the features of the server.

        Raises `RelayError` after a failure; the connection is then closed.
        """
        self.close()
        smtp, sock, self._features = open_connection(
            self._server, self._timeouts.connect, self._trust
        )
        self._channel = Channel(smtp, sock)
        return self._features

    def send(self, envelope_from: str, recipient: str, data: bytes) -> TransactionResult:
        """Send the message `data`, whose lines end with CR LF, and return the result.

        Both email addresses are plain ASCII; an empty `envelope_from` is the null sender. Raises
        `ValueError`, before anything is sent, for a message that SMTP cannot carry. Failures of the
        server or the connection are not raised; they are part of the result.
        """
        message = to_wire(data)
        try:
            self.begin(envelope_from, recipient, message)
            while (result := self.advance()) is None:
                if not self._is_ready():
                    return self.time_out()
        except BaseException:
            # An interrupt leaves the transaction in an unknown state.
            self._drop()
            raise
        return result

    def begin(self, envelope_from: str, recipient: str, message: bytes) -> None:
        """Begin to send `message`, which has the form that `to_wire` returns."""
        self._result = _NOT_CONNECTED
        if self._channel and not self._channel.is_quiet:
            # An unexpected reply announces the end; it must not be taken for one to this message.
            self._drop()
        if self._channel:
            envelope = Envelope(envelope_from, recipient, message)
            self._transaction = mail_transaction(envelope, self._features, self._timeouts)
            self._send_command(self._channel, partial(next, self._transaction))

    def advance(self) -> TransactionResult | None:
        """Send and receive as much as is possible without waiting.

        Return the result of the message, or None while it is not known.
        """
        while self._channel and self._transaction:
            if (reply := self._channel.advance()) is None:
                return None
            self._send_command(self._channel, partial(self._transaction.send, reply))
        return self._result

    def time_out(self) -> TransactionResult:
        """Give up waiting for the server, and return the result of the message."""
        while self._channel and self._transaction:
            reply = self._channel.time_out()
            self._send_command(self._channel, partial(self._transaction.send, reply))
        return self._result

    def _send_command(self, channel: Channel, next_step: Callable[[], Exchange]) -> None:
        """Send the next command of the transaction, or store its result if it has ended.

        `next_step` resumes the generator of the transaction.
        """
        try:
            step = next_step()
        except StopIteration as ended:
            self._transaction, self._result = None, ended.value
            if not self._result.usable:
                self._drop()
        else:
            channel.send(step.data, step.seconds)

    @property
    def deadline(self) -> float:
        """The time of the monotonic clock, in seconds, until which to wait for the server."""
        return self._channel.deadline if self._channel else 0.0

    @property
    def wants_to_write(self) -> bool:
        """Whether to wait until the socket can be written to; otherwise, until it can be read."""
        return self._channel is not None and self._channel.wants_to_write

    def fileno(self) -> int:
        """Return the file descriptor of the socket, -1 if the connection is closed."""
        return self._channel.fileno() if self._channel else -1

    def _is_ready(self) -> bool:
        """Wait until the socket is ready or the deadline has passed; tell whether it is ready."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT if self.wants_to_write else select.POLLIN)
        return bool(poll.poll(max(0.0, self.deadline - time.monotonic()) * 1000))

    def close(self) -> None:
        """Send QUIT (RFC 5321 §4.1.1.10) and close the connection, if there is one."""
        if channel := self._channel:
            channel.send(b"QUIT\r\n", self._quit_timeout)
            while (reply := channel.advance()) is None and self._is_ready():
                pass
            if reply is None:
                # It would not answer the next QUIT either, and emails wait for this.
                self._quit_timeout = 0.0
            self._drop()

    def _drop(self) -> None:
        channel, self._channel, self._transaction = self._channel, None, None
        if channel is not None:
            channel.close()
