"""One line to the mail server: its connection, opened in a thread, and the letter that it carries.

A letter that the server never judged, because the connection had ended, is tried once more on a
new one: its row is in sending all the while.
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
from typing import Literal, Protocol

from attrs import define, field, frozen

from postroom.errors import RelayError
from postroom.models import ClaimedDelivery


class SmtpReply(Protocol):
    """What became of one letter that was handed to the mail server."""

    @property
    def kind(self) -> Literal["accepted", "deferred", "refused", "uncertain"]:
        """What the server made of it."""

    @property
    def code(self) -> int:
        """The reply's code, 0 if there was none."""

    @property
    def text(self) -> str:
        """What the server said."""

    @property
    def usable(self) -> bool:
        """Whether the connection can carry the next letter."""

    @property
    def command(self) -> str:
        """What the server answered to: MAIL, RCPT, DATA, `end of data`, or nothing."""


class SmtpConnection(Protocol):
    """One connection to the mail server.

    `open` and `close` take their time. A letter does not: after `begin`, `go_on` whenever the
    socket is ready, to be written to where `wants_to_write`, else to be read from; `give_up` when
    the steady clock reaches `until`.
    """

    @property
    def wants_to_write(self) -> bool:
        """Whether the socket is to be waited for to write, not to read."""

    @property
    def deadline(self) -> float:
        """The instant of the steady clock up to which the server may take its time."""

    def fileno(self) -> int:
        """Return the number of the socket, -1 if the connection is closed."""

    def open(self) -> object:
        """Connect and log in; raises `RelayError`."""

    def begin(self, envelope_from: str, recipient: str, written: bytes) -> None:
        """Begin to hand over one message, written as it goes over the wire."""

    def advance(self) -> SmtpReply | None:
        """Do what can be done without waiting; return what became of it, once known."""

    def time_out(self) -> SmtpReply:
        """Wait no longer, and return what that means for the letter."""

    def close(self) -> None:
        """Say goodbye."""


def is_unanswered(reply: SmtpReply) -> bool:
    """Tell whether the server never judged the letter: the connection ended before its final dot.

    Then the letter may be tried at once on another connection.
    """
    # RFC 5321 §3.8: 421 is about the connection, whatever it answers.
    lost = not reply.usable and reply.code in (0, 421)
    return lost and reply.kind == "deferred" and reply.command != "end of data"


@frozen
class OutgoingMessage:
    """A claimed letter with its envelope and its message, as it goes over the wire."""

    claim: ClaimedDelivery
    envelope_from: str
    message: bytes = field(repr=False)


@frozen
class ConnectionOpened:
    """An attempt to open a line's connection is over; without `error` it can carry letters."""

    line: PooledConnection
    error: BaseException | None = None


@frozen
class CompletedReply:
    """What became of a letter."""

    outgoing: OutgoingMessage
    reply: SmtpReply


@define(eq=False)
class PooledConnection:
    """A connection that carries one letter after the other.

    It is renewed after `per_connection` letters; 0 is never.
    """

    connection: SmtpConnection
    per_connection: int
    outgoing: OutgoingMessage | None = None
    watched: int = 0
    """For which events its socket is waited for, 0 for none."""
    _unanswered: SmtpReply | None = None
    _submitted: int = 0
    _thread: threading.Thread | None = None

    def open(self, said: Callable[[ConnectionOpened], None]) -> None:
        """Begin to open the connection; `said` hears, in another thread, how that went."""

        def work() -> None:
            try:
                self.connection.open()
            except BaseException as error:  # noqa: BLE001 - it is raised where the run is
                said(ConnectionOpened(self, error))
            else:
                said(ConnectionOpened(self))

        # The process need not wait for a server that says nothing.
        self._submitted = 0
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def submit(self, outgoing: OutgoingMessage) -> None:
        """Take a letter; there is one at a time."""
        self.outgoing, self._unanswered = outgoing, None
        self._begin(outgoing)

    def resubmit(self) -> None:
        """Begin once more with the letter at hand, on the new connection."""
        if self.outgoing:
            self._begin(self.outgoing)

    def _begin(self, outgoing: OutgoingMessage) -> None:
        self._submitted += 1
        to = outgoing.claim.address
        self.connection.begin(outgoing.envelope_from, to, outgoing.message)

    def should_retry(self, reply: SmtpReply) -> bool:
        """Tell whether the letter is to be tried on a new connection: once, if it was unheard."""
        if self._unanswered or not is_unanswered(reply):
            return False
        self._unanswered = reply
        return True

    def complete(self, reply: SmtpReply | None = None) -> CompletedReply | None:
        """Let go of the letter, which had this reply, or none on a connection that was lost."""
        outgoing, self.outgoing = self.outgoing, None
        reply = reply or self._unanswered
        return CompletedReply(outgoing, reply) if outgoing and reply else None

    @property
    def is_used_up(self) -> bool:
        """Whether the connection has carried as many letters as it may."""
        return 0 < self.per_connection <= self._submitted

    def close(self) -> None:
        """Begin to close the connection, once it is no longer being opened."""
        before = self._thread

        def work() -> None:
            if before:
                before.join()
            self.connection.close()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait so long for the connection to be closed."""
        if self._thread:
            self._thread.join(seconds)


# A line that is down tries again after these seconds; then it is given up.
RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
# Once an answer has come, so many are waited for together, and for so many seconds.
_TOGETHER, _WINDOW = 4, 0.001
# How often, in seconds, it is looked whether a server has let its time go by.
_LOOK = 0.1
# So many seconds all servers together have to say goodbye.
_GOODBYE = 5.0


@frozen
class Transport:
    """How letters may leave: by whom, in what form, over how many connections, and how fast.

    `write` writes a message as it goes over the wire, or raises `ValueError` if it cannot. `rate`
    is in letters a second; a connection is renewed after `per_connection` letters, 0 is never.
    """

    connect: Callable[[], SmtpConnection]
    write: Callable[[bytes], bytes]
    connections: int
    rate: float
    per_connection: int = 0


class ConnectionPool:
    """The lines of one run. Only the run's own thread calls it."""

    def __init__(self, way: Transport, ticks: Callable[[], float] = time.monotonic) -> None:
        """Count pauses by `ticks`, a steady clock in seconds."""
        self._transport = way
        self._ticks = ticks
        self._connections: list[PooledConnection] = []
        self._idle: list[PooledConnection] = []
        self._opening: set[PooledConnection] = set()
        self._backing_off: dict[PooledConnection, float] = {}
        self._tries: Counter[PooledConnection] = Counter()
        self._busy: set[PooledConnection] = set()
        self._completed: list[CompletedReply] = []
        self._opened: SimpleQueue[ConnectionOpened] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        # A byte through it wakes whoever waits for the sockets.
        self._wakeup_r, self._wakeup_w = socket.socketpair()
        self._selector.register(self._wakeup_r, selectors.EVENT_READ)
        self._looked = ticks()
        self.lost: RelayError | None = None
        """Why the line that was last given up was down."""

    @property
    def in_flight(self) -> int:
        """How many letters are on their way, or have an answer that was not told yet."""
        return len(self._busy) + len(self._completed)

    @property
    def idle(self) -> int:
        """How many open connections wait for a letter."""
        return len(self._idle)

    @property
    def is_dead(self) -> bool:
        """Whether no line is open, nor will be."""
        return not (self._idle or self.in_flight or self._opening or self._backing_off)

    def open(self, letters: int, stopped: Callable[[], bool], glance: float) -> None:
        """Open as many lines as `letters` need: the first one, and the others if that can be had.

        Raises `RelayError` if it cannot.
        """
        for _ in range(min(letters, self._transport.connections)):
            self._connections.append(
                PooledConnection(self._transport.connect(), self._transport.per_connection)
            )
        # One wrong password must not count as several.
        self._open(self._connections[0])
        while self._opening and not stopped():
            self.poll(glance)
        # No pause here: whoever started the run learns at once that it cannot be done now.
        if self.lost:
            raise self.lost
        if not stopped():
            for line in self._connections[1:]:
                self._open(line)

    def _open(self, line: PooledConnection) -> None:
        self._unwatch(line)
        self._opening.add(line)
        try:
            line.open(self._note)
        except BaseException:
            # Nobody will tell of it, and a letter at hand was not heard by the server.
            self._opening.discard(line)
            self._release(line)
            raise

    def _note(self, opened: ConnectionOpened) -> None:
        """Hear of a connection, in the thread that opened it."""
        self._opened.put(opened)
        with suppress(OSError):
            self._wakeup_w.send(b".")

    def submit(self, outgoing: OutgoingMessage) -> None:
        """Give a letter to a line that is ready."""
        line = self._idle.pop()
        self._busy.add(line)
        line.submit(outgoing)
        self._advance(line)

    def poll(self, seconds: float) -> list[CompletedReply]:
        """Return the answers that have come; wait up to `seconds` for one, if there is none.

        Raises what a fault of ours raises; the next call then returns the answers.
        """
        self._retry_due()
        self._serve(0.0 if self._completed else seconds)
        # Others are about to answer: to write several down at once costs hardly more.
        until = self._ticks() + _WINDOW
        while (
            0 < len(self._completed) < _TOGETHER
            and self._busy
            and (left := until - self._ticks()) > 0
        ):
            self._serve(left)
        answers, self._completed = self._completed, []
        return answers

    def _retry_due(self) -> None:
        """Open the lines that have rested, and end the waits that are too long."""
        now = self._ticks()
        for line in [line for line, then in self._backing_off.items() if then <= now]:
            del self._backing_off[line]
            self._open(line)
        if now - self._looked >= _LOOK:
            self._looked = now
            for line in self._busy - self._opening:
                if line.connection.deadline <= now:
                    self._answer(line, line.connection.time_out())

    def _serve(self, seconds: float) -> None:
        """Wait for the sockets once, and let the conversations go on that can."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._wakeup_r.recv(4096)
            elif key.data in self._busy:
                self._advance(key.data)
            else:
                # Whatever the server says unasked, the next letter will find out.
                self._unwatch(key.data)
        with suppress(Empty):
            while True:
                self._receive(self._opened.get_nowait())

    def _advance(self, line: PooledConnection) -> None:
        try:
            reply = line.connection.advance()
        except BaseException:
            # Of its letter nobody can tell.
            self._busy.discard(line)
            raise
        if reply:
            self._answer(line, reply)
        else:
            self._watch(line)

    def _answer(self, line: PooledConnection, reply: SmtpReply) -> None:
        if line.should_retry(reply):
            self._open(line)
            return
        self._release(line, reply)
        if reply.usable and not line.is_used_up:
            self._idle.append(line)
        else:
            self._open(line)

    def _release(self, line: PooledConnection, reply: SmtpReply | None = None) -> None:
        """Note the answer to the line's letter, if it has one at hand."""
        self._busy.discard(line)
        if answered := line.complete(reply):
            self._completed.append(answered)

    def _receive(self, opened: ConnectionOpened) -> None:
        line, error = opened.line, opened.error
        self._opening.discard(line)
        if error:
            self._release(line)
            self._back_off(line, error)
            return
        self._tries.pop(line, None)
        if line.outgoing:
            line.resubmit()
            self._advance(line)
        else:
            self._idle.append(line)

    def _back_off(self, line: PooledConnection, error: BaseException) -> None:
        if not isinstance(error, RelayError):
            raise RuntimeError("a connection could not be opened") from error  # noqa: TRY004 - a fault of ours
        tries = self._tries[line]
        self._tries[line] += 1
        self.lost = error
        if error.passing and tries < len(RETRY_PAUSES):
            self._backing_off[line] = self._ticks() + RETRY_PAUSES[tries]

    def _watch(self, line: PooledConnection) -> None:
        """Wait for the line's socket, in the direction that it needs."""
        writes = line.connection.wants_to_write
        events = selectors.EVENT_WRITE if writes else selectors.EVENT_READ
        if not line.watched:
            self._selector.register(line.connection, events, line)
        elif line.watched != events:
            self._selector.modify(line.connection, events, line)
        line.watched = events

    def _unwatch(self, line: PooledConnection) -> None:
        if line.watched:
            self._selector.unregister(line.connection)
        line.watched = 0

    def close(self) -> None:
        """Close all connections."""
        for line in self._connections:
            self._unwatch(line)
            line.close()
        until = time.monotonic() + _GOODBYE
        for line in self._connections:
            line.join(max(0.0, until - time.monotonic()))
        self._selector.close()
        self._wakeup_r.close()
        self._wakeup_w.close()
