"""A pool of SMTP connections: idle, busy, being opened or backing off.

Each connection is opened and closed in a thread of its own; one thread, that of the run, sends the
messages over all of them. If a connection ends before the server has accepted or refused a message,
the message is submitted once more on a new connection; its delivery stays in `sending` meanwhile.
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
    """Tell whether the connection ended before the server accepted or refused the message.

    The final dot was not sent, so the message may be submitted at once on another connection.
    """
    # RFC 5321 §3.8: 421 is about the connection, whichever command it answers.
    lost = not reply.usable and reply.code in (0, 421)
    return lost and reply.kind == "deferred" and reply.command != "end of data"


@frozen
class OutgoingMessage:
    """A claimed delivery with its envelope sender, and its message as the DATA command takes it."""

    claim: ClaimedDelivery
    envelope_from: str
    message: bytes = field(repr=False)


@frozen
class ConnectionOpened:
    """The result of an attempt to open a connection: it is ready, unless `error` is set."""

    connection: PooledConnection
    error: BaseException | None = None


@frozen
class CompletedReply:
    """A message and the server's reply to it."""

    outgoing: OutgoingMessage
    reply: TransactionResult


@define(eq=False)
class PooledConnection:
    """A connection of the pool, with the message that it carries now (`outgoing`).

    It carries one message at a time and is renewed after `per_connection` messages; 0 means never.
    """

    smtp: SmtpConnection
    per_connection: int
    outgoing: OutgoingMessage | None = None
    watched: int = 0
    """The selector events for which the socket is registered; 0 for none."""
    _unanswered: TransactionResult | None = None
    _submitted: int = 0
    _thread: threading.Thread | None = None

    def open(self, notify: Callable[[ConnectionOpened], None]) -> None:
        """Begin to open the connection; another thread calls `notify` with the result."""

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
        """Begin to submit a message; the one before must be complete."""
        self.outgoing, self._unanswered = outgoing, None
        self._begin(outgoing)

    def resubmit(self) -> None:
        """Begin to submit the current message again, after the connection was opened anew."""
        if self.outgoing:
            self._begin(self.outgoing)

    def _begin(self, outgoing: OutgoingMessage) -> None:
        self._submitted += 1
        self.smtp.begin(outgoing.envelope_from, outgoing.claim.address, outgoing.message)

    def should_retry(self, reply: TransactionResult) -> bool:
        """Tell whether to submit the current message again on a new connection.

        That is done once, and only if `reply` shows that the server has not judged the message.
        """
        if self._unanswered or not is_unanswered(reply):
            return False
        self._unanswered = reply
        return True

    def complete(self, reply: TransactionResult | None = None) -> CompletedReply | None:
        """Release the current message, and return it with its reply.

        Call it without `reply` if the connection could not be opened again: the reply of the first
        attempt counts then. Return None if there is no message or no reply.
        """
        outgoing, self.outgoing = self.outgoing, None
        reply = reply or self._unanswered
        return CompletedReply(outgoing, reply) if outgoing and reply else None

    @property
    def is_used_up(self) -> bool:
        """Whether the connection has carried `per_connection` messages and must be renewed."""
        return 0 < self.per_connection <= self._submitted

    def close(self) -> None:
        """Begin to close the connection; if it is being opened, wait until that has ended."""
        opening = self._thread

        def work() -> None:
            if opening:
                opening.join()
            self.smtp.close()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until the connection is closed, but no longer than `seconds`."""
        if self._thread:
            self._thread.join(seconds)


@frozen
class Transport:
    """The settings of sending: how to reach the relay, with how many connections, at what rate.

    `connect` makes a connection that is not open yet. `to_wire` converts a message to the form for
    the DATA command, or raises `ValueError` if SMTP cannot carry it. `rate` is in emails a second.
    A connection is renewed after `per_connection` emails; 0 means never.
    """

    connect: Callable[[], SmtpConnection]
    to_wire: Callable[[bytes], bytes]
    connections: int
    rate: float
    per_connection: int = 0


class ConnectionPool:
    """The connections of one run; its methods may be called only from the thread of the run."""

    def __init__(self, transport: Transport, ticks: Callable[[], float] = time.monotonic) -> None:
        """Prepare the pool; `ticks` is the monotonic clock, in seconds, that measures pauses."""
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
        """The error of the last failed attempt to open a connection."""

    @property
    def in_flight(self) -> int:
        """The number of submitted messages whose replies `poll` has not returned yet."""
        return len(self._busy) + len(self._completed)

    @property
    def idle(self) -> int:
        """The number of open connections that wait for a message."""
        return len(self._idle)

    @property
    def is_dead(self) -> bool:
        """Whether no connection is open and none is being opened or will be opened again."""
        return not (self._idle or self.in_flight or self._opening or self._backing_off)

    def open(self, emails: int, is_stopped: Callable[[], bool], interval: float) -> None:
        """Open the first connection and wait for it, then begin to open the others.

        There are never more connections than `emails`. While waiting, call `is_stopped` every
        `interval` seconds, and open no more connections once it returns true. Raises `RelayError`
        if the first connection cannot be opened.
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
        """Hand the result of an attempt to open a connection to the thread of the run.

        The thread that opened the connection calls this.
        """
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

        Internal errors of the connections are raised here; the next call then returns the replies.
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
        """Open the connections whose pause is over, and give up on servers past their deadline."""
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
        """Wait up to `seconds` for a socket to be ready, then serve the connections that are."""
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
        """Collect the current message of `connection` with its reply, if it has both."""
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
        """Register the socket with the selector, for reading or for writing as needed."""
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
