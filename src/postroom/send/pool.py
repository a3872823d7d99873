"""A pool of SMTP connections: idle, busy, being opened or backing off.

A connection is opened and closed in a thread of its own; messages go over all of them in one
thread. A message that the server did not judge before its connection ended is submitted once more
on a new connection; its delivery stays in `sending` meanwhile.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from attrs import define, field, frozen

from postroom.errors import RelayError
from postroom.models import ClaimedDelivery
from postroom.smtp.connection import SmtpConnection
from postroom.smtp.transaction import TransactionResult

# Pauses in seconds between attempts to open a connection; after the last it is given up.
RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
# Once a reply has come, `poll` waits for so many together, for at most so many seconds.
_BATCH, _BATCH_WINDOW = 4, 0.001
# Seconds between two looks at the deadlines of servers.
_DEADLINE_INTERVAL = 0.1
# Seconds that all servers together have to answer QUIT.
_QUIT_TIMEOUT = 5.0


def is_unanswered(reply: TransactionResult) -> bool:
    """Tell whether the connection ended before the final dot, so the server judged nothing.

    The message may then be submitted at once on another connection.
    """
    # RFC 5321 §3.8: 421 is about the connection, whichever command it answers.
    lost = not reply.usable and reply.code in (0, 421)
    return lost and reply.kind == "deferred" and reply.command != "end of data"


@frozen
class OutgoingMessage:
    """A claimed delivery with its envelope sender and its message in the form for DATA."""

    claim: ClaimedDelivery
    envelope_from: str
    message: bytes = field(repr=False)


@frozen
class ConnectionOpened:
    """The end of an attempt to open a connection; without `error` it can carry messages."""

    connection: PooledConnection
    error: BaseException | None = None


@frozen
class CompletedReply:
    """A message and the server's reply to it."""

    outgoing: OutgoingMessage
    reply: TransactionResult


@define(eq=False)
class PooledConnection:
    """A connection that carries one message after the other.

    It is renewed after `per_connection` messages; 0 means never.
    """

    smtp: SmtpConnection
    per_connection: int
    outgoing: OutgoingMessage | None = None
    watched: int = 0
    """The selector events that its socket is registered for; 0 for none."""
    _unanswered: TransactionResult | None = None
    _submitted: int = 0
    _thread: threading.Thread | None = None

    def open(self, notify: Callable[[ConnectionOpened], None]) -> None:
        """Begin to open the connection; `notify` receives the result, in another thread."""

        def work() -> None:
            try:
                self.smtp.open()
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread of the run
                notify(ConnectionOpened(self, error))
            else:
                notify(ConnectionOpened(self))

        # A daemon thread: the process need not wait for a server that says nothing.
        self._submitted = 0
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def submit(self, outgoing: OutgoingMessage) -> None:
        """Begin to submit a message; there is one at a time."""
        self.outgoing, self._unanswered = outgoing, None
        self._begin(outgoing)

    def resubmit(self) -> None:
        """Begin to submit the current message again, on the new connection."""
        if self.outgoing:
            self._begin(self.outgoing)

    def _begin(self, outgoing: OutgoingMessage) -> None:
        self._submitted += 1
        self.smtp.begin(outgoing.envelope_from, outgoing.claim.address, outgoing.message)

    def should_retry(self, reply: TransactionResult) -> bool:
        """Tell whether to submit the message on a new connection: once, if it is unanswered."""
        if self._unanswered or not is_unanswered(reply):
            return False
        self._unanswered = reply
        return True

    def complete(self, reply: TransactionResult | None = None) -> CompletedReply | None:
        """Release the current message and return it with its reply, if it has both.

        Without `reply`, the connection could not be opened again and the first reply counts.
        """
        outgoing, self.outgoing = self.outgoing, None
        reply = reply or self._unanswered
        return CompletedReply(outgoing, reply) if outgoing and reply else None

    @property
    def is_used_up(self) -> bool:
        """Whether the connection has carried as many messages as it may."""
        return 0 < self.per_connection <= self._submitted

    def close(self) -> None:
        """Begin to close the connection, once it is no longer being opened."""
        opening = self._thread

        def work() -> None:
            if opening:
                opening.join()
            self.smtp.close()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait up to so many seconds until the connection is closed."""
        if self._thread:
            self._thread.join(seconds)


@frozen
class Transport:
    """The way to open connections to the relay, their number, and the rate.

    `to_wire` converts a message for DATA, or raises `ValueError` if SMTP cannot carry it. `rate` is
    in emails a second; a connection is renewed after `per_connection` emails, 0 means never.
    """

    connect: Callable[[], SmtpConnection]
    to_wire: Callable[[bytes], bytes]
    connections: int
    rate: float
    per_connection: int = 0


class ConnectionPool:
    """The connections of one run. Only the thread of the run may call it."""

    def __init__(self, transport: Transport, ticks: Callable[[], float] = time.monotonic) -> None:
        """Measure pauses with `ticks`, a monotonic clock in seconds."""
        self._transport = transport
        self._ticks = ticks
        self._connections: list[PooledConnection] = []
        self._idle: list[PooledConnection] = []
        self._opening: set[PooledConnection] = set()
        self._backing_off: dict[PooledConnection, float] = {}
        self._attempts: Counter[PooledConnection] = Counter()
        self._busy: set[PooledConnection] = set()
        self._completed: list[CompletedReply] = []
        self._opened: SimpleQueue[ConnectionOpened] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        # A self-pipe: a byte through it wakes the selector.
        self._wakeup_r, self._wakeup_w = socket.socketpair()
        self._selector.register(self._wakeup_r, selectors.EVENT_READ)
        self._deadlines_checked = ticks()
        self.last_error: RelayError | None = None
        """The error of the last connection that could not be opened."""

    @property
    def in_flight(self) -> int:
        """The number of messages without a reply, or with one that `poll` has not returned yet."""
        return len(self._busy) + len(self._completed)

    @property
    def idle(self) -> int:
        """The number of open connections that wait for a message."""
        return len(self._idle)

    @property
    def is_dead(self) -> bool:
        """Whether no connection is open, nor will be."""
        return not (self._idle or self.in_flight or self._opening or self._backing_off)

    def open(self, emails: int, is_stopped: Callable[[], bool], interval: float) -> None:
        """Open the first connection, then begin to open as many as `emails` need.

        Look every `interval` seconds whether the run `is_stopped`. Raises `RelayError` if the first
        connection cannot be opened.
        """
        for _ in range(min(emails, self._transport.connections)):
            self._connections.append(
                PooledConnection(self._transport.connect(), self._transport.per_connection)
            )
        # Alone: a wrong password must not count as several failed logins.
        self._open(self._connections[0])
        while self._opening and not is_stopped():
            self.poll(interval)
        # Without a retry: whoever started the run sees at once that it cannot send now.
        if self.last_error:
            raise self.last_error
        if not is_stopped():
            for connection in self._connections[1:]:
                self._open(connection)

    def _open(self, connection: PooledConnection) -> None:
        self._unwatch(connection)
        self._opening.add(connection)
        try:
            connection.open(self._notify)
        except BaseException:
            # No notification will come, and the server never got the current message.
            self._opening.discard(connection)
            self._release(connection)
            raise

    def _notify(self, opened: ConnectionOpened) -> None:
        """Pass on the result of opening a connection, from the thread that opened it."""
        self._opened.put(opened)
        with suppress(OSError):
            self._wakeup_w.send(b".")

    def submit(self, outgoing: OutgoingMessage) -> None:
        """Submit a message on an idle connection."""
        connection = self._idle.pop()
        self._busy.add(connection)
        connection.submit(outgoing)
        self._advance(connection)

    def poll(self, seconds: float) -> list[CompletedReply]:
        """Return the completed replies; wait up to `seconds` for one, if there is none.

        Re-raise internal errors; the next call then returns the completed replies.
        """
        self._retry_due()
        self._serve(0.0 if self._completed else seconds)
        # Other replies are about to come, and to record several at once costs hardly more.
        deadline = self._ticks() + _BATCH_WINDOW
        while (
            0 < len(self._completed) < _BATCH
            and self._busy
            and (left := deadline - self._ticks()) > 0
        ):
            self._serve(left)
        replies, self._completed = self._completed, []
        return replies

    def _retry_due(self) -> None:
        """Open connections whose pause is over, and time out servers past their deadline."""
        now = self._ticks()
        for connection in [c for c, due in self._backing_off.items() if due <= now]:
            del self._backing_off[connection]
            self._open(connection)
        if now - self._deadlines_checked >= _DEADLINE_INTERVAL:
            self._deadlines_checked = now
            for connection in self._busy - self._opening:
                if connection.smtp.deadline <= now:
                    self._complete(connection, connection.smtp.time_out())

    def _serve(self, seconds: float) -> None:
        """Wait for the sockets once, and advance the connections that are ready."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._wakeup_r.recv(4096)
            elif key.data in self._busy:
                self._advance(key.data)
            else:
                # The server spoke without being asked; the next submission reads it.
                self._unwatch(key.data)
        with suppress(Empty):
            while True:
                self._receive(self._opened.get_nowait())

    def _advance(self, connection: PooledConnection) -> None:
        try:
            reply = connection.smtp.advance()
        except BaseException:
            # Nobody knows whether its message was accepted; the next run marks it as uncertain.
            self._busy.discard(connection)
            raise
        if reply:
            self._complete(connection, reply)
        else:
            self._watch(connection)

    def _complete(self, connection: PooledConnection, reply: TransactionResult) -> None:
        if connection.should_retry(reply):
            self._open(connection)
            return
        self._release(connection, reply)
        if reply.usable and not connection.is_used_up:
            self._idle.append(connection)
        else:
            self._open(connection)

    def _release(
        self, connection: PooledConnection, reply: TransactionResult | None = None
    ) -> None:
        """Note the reply to the current message, if there is one."""
        self._busy.discard(connection)
        if completed := connection.complete(reply):
            self._completed.append(completed)

    def _receive(self, opened: ConnectionOpened) -> None:
        connection, error = opened.connection, opened.error
        self._opening.discard(connection)
        if error:
            self._release(connection)
            self._back_off(connection, error)
            return
        self._attempts.pop(connection, None)
        if connection.outgoing:
            connection.resubmit()
            self._advance(connection)
        else:
            self._idle.append(connection)

    def _back_off(self, connection: PooledConnection, error: BaseException) -> None:
        if not isinstance(error, RelayError):
            raise RuntimeError("a connection could not be opened") from error  # noqa: TRY004 - an internal error
        attempts = self._attempts[connection]
        self._attempts[connection] += 1
        self.last_error = error
        if error.passing and attempts < len(RETRY_PAUSES):
            self._backing_off[connection] = self._ticks() + RETRY_PAUSES[attempts]

    def _watch(self, connection: PooledConnection) -> None:
        """Register the socket with the selector, for the direction that it needs."""
        writes = connection.smtp.wants_to_write
        events = selectors.EVENT_WRITE if writes else selectors.EVENT_READ
        if not connection.watched:
            self._selector.register(connection.smtp, events, connection)
        elif connection.watched != events:
            self._selector.modify(connection.smtp, events, connection)
        connection.watched = events

    def _unwatch(self, connection: PooledConnection) -> None:
        if connection.watched:
            self._selector.unregister(connection.smtp)
        connection.watched = 0

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            self._unwatch(connection)
            connection.close()
        deadline = time.monotonic() + _QUIT_TIMEOUT
        for connection in self._connections:
            connection.join(max(0.0, deadline - time.monotonic()))
        self._selector.close()
        self._wakeup_r.close()
        self._wakeup_w.close()
