"""The lines to the mail server: which wait for a letter, which carry one, and which are down.

One thread holds all the conversations. Only to open a connection, and to close it, takes threads.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from attrs import frozen

from postroom.errors import RelayError
from postroom.send.line import Answered, Line, Opened, Outgoing
from postroom.send.rows import Connection, Reply

# A line that is down tries again after these seconds; then it is given up.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
# Once an answer has come, so many are waited for together, and for so many seconds.
_TOGETHER, _WINDOW = 4, 0.001
# How often, in seconds, it is looked whether a server has let its time go by.
_LOOK = 0.1
# So many seconds all servers together have to say goodbye.
_GOODBYE = 5.0


@frozen
class Way:
    """How letters may leave: by whom, in what form, over how many connections, and how fast.

    `write` writes a message as it goes over the wire, or raises `ValueError` if it cannot. `rate`
    is in letters a second; a connection is renewed after `per_connection` letters, 0 is never.
    """

    connect: Callable[[], Connection]
    write: Callable[[bytes], bytes]
    connections: int
    rate: float
    per_connection: int = 0


class Switchboard:
    """The lines of one run. Only the run's own thread calls it."""

    def __init__(self, way: Way, ticks: Callable[[], float] = time.monotonic) -> None:
        """Count pauses by `ticks`, a steady clock in seconds."""
        self._way = way
        self._ticks = ticks
        self._lines: list[Line] = []
        self._ready: list[Line] = []
        self._opening: set[Line] = set()
        self._resting: dict[Line, float] = {}
        self._tries: Counter[Line] = Counter()
        self._carrying: set[Line] = set()
        self._answers: list[Answered] = []
        self._opened: SimpleQueue[Opened] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        # A byte through it wakes whoever waits for the sockets.
        self._bell, self._rope = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._looked = ticks()
        self.lost: RelayError | None = None
        """Why the line that was last given up was down."""

    @property
    def out(self) -> int:
        """How many letters are on their way, or have an answer that was not told yet."""
        return len(self._carrying) + len(self._answers)

    @property
    def ready(self) -> int:
        """How many open connections wait for a letter."""
        return len(self._ready)

    @property
    def is_dead(self) -> bool:
        """Whether no line is open, nor will be."""
        return not (self._ready or self.out or self._opening or self._resting)

    def open(self, letters: int, stopped: Callable[[], bool], glance: float) -> None:
        """Open as many lines as `letters` need: the first one, and the others if that can be had.

        Raises `RelayError` if it cannot.
        """
        for _ in range(min(letters, self._way.connections)):
            self._lines.append(Line(self._way.connect(), self._way.per_connection))
        # One wrong password must not count as several.
        self._open(self._lines[0])
        while self._opening and not stopped():
            self.listen(glance)
        # No pause here: whoever started the run learns at once that it cannot be done now.
        if self.lost:
            raise self.lost
        if not stopped():
            for line in self._lines[1:]:
                self._open(line)

    def _open(self, line: Line) -> None:
        self._unwatch(line)
        self._opening.add(line)
        try:
            line.open(self._note)
        except BaseException:
            # Nobody will tell of it, and a letter at hand was not heard by the server.
            self._opening.discard(line)
            self._let_go(line)
            raise

    def _note(self, opened: Opened) -> None:
        """Hear of a connection, in the thread that opened it."""
        self._opened.put(opened)
        with suppress(OSError):
            self._rope.send(b".")

    def hand_out(self, outgoing: Outgoing) -> None:
        """Give a letter to a line that is ready."""
        line = self._ready.pop()
        self._carrying.add(line)
        line.carry(outgoing)
        self._go_on(line)

    def listen(self, seconds: float) -> list[Answered]:
        """Return the answers that have come; wait up to `seconds` for one, if there is none.

        Raises what a fault of ours raises; the next call then returns the answers.
        """
        self._rouse()
        self._serve(0.0 if self._answers else seconds)
        # Others are about to answer: to write several down at once costs hardly more.
        until = self._ticks() + _WINDOW
        while (
            0 < len(self._answers) < _TOGETHER
            and self._carrying
            and (left := until - self._ticks()) > 0
        ):
            self._serve(left)
        answers, self._answers = self._answers, []
        return answers

    def _rouse(self) -> None:
        """Open the lines that have rested, and end the waits that are too long."""
        now = self._ticks()
        for line in [line for line, then in self._resting.items() if then <= now]:
            del self._resting[line]
            self._open(line)
        if now - self._looked >= _LOOK:
            self._looked = now
            for line in self._carrying - self._opening:
                if line.connection.until <= now:
                    self._answer(line, line.connection.give_up())

    def _serve(self, seconds: float) -> None:
        """Wait for the sockets once, and let the conversations go on that can."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._bell.recv(4096)
            elif key.data in self._carrying:
                self._go_on(key.data)
            else:
                # Whatever the server says unasked, the next letter will find out.
                self._unwatch(key.data)
        with suppress(Empty):
            while True:
                self._hear(self._opened.get_nowait())

    def _go_on(self, line: Line) -> None:
        try:
            reply = line.connection.go_on()
        except BaseException:
            # Of its letter nobody can tell.
            self._carrying.discard(line)
            raise
        if reply:
            self._answer(line, reply)
        else:
            self._watch(line)

    def _answer(self, line: Line, reply: Reply) -> None:
        if line.is_to_be_tried_again(reply):
            self._open(line)
            return
        self._let_go(line, reply)
        if reply.usable and not line.is_worn:
            self._ready.append(line)
        else:
            self._open(line)

    def _let_go(self, line: Line, reply: Reply | None = None) -> None:
        """Note the answer to the line's letter, if it has one at hand."""
        self._carrying.discard(line)
        if answered := line.answered(reply):
            self._answers.append(answered)

    def _hear(self, opened: Opened) -> None:
        line, error = opened.line, opened.error
        self._opening.discard(line)
        if error:
            self._let_go(line)
            self._rest(line, error)
            return
        self._tries.pop(line, None)
        if line.outgoing:
            line.again()
            self._go_on(line)
        else:
            self._ready.append(line)

    def _rest(self, line: Line, error: BaseException) -> None:
        if not isinstance(error, RelayError):
            raise RuntimeError("a connection could not be opened") from error  # noqa: TRY004 - a fault of ours
        tries = self._tries[line]
        self._tries[line] += 1
        self.lost = error
        if error.passing and tries < len(PAUSES):
            self._resting[line] = self._ticks() + PAUSES[tries]

    def _watch(self, line: Line) -> None:
        """Wait for the line's socket, in the direction that it needs."""
        writes = line.connection.wants_to_write
        events = selectors.EVENT_WRITE if writes else selectors.EVENT_READ
        if not line.watched:
            self._selector.register(line.connection, events, line)
        elif line.watched != events:
            self._selector.modify(line.connection, events, line)
        line.watched = events

    def _unwatch(self, line: Line) -> None:
        if line.watched:
            self._selector.unregister(line.connection)
        line.watched = 0

    def close(self) -> None:
        """Close all connections."""
        for line in self._lines:
            self._unwatch(line)
            line.close()
        until = time.monotonic() + _GOODBYE
        for line in self._lines:
            line.join(max(0.0, until - time.monotonic()))
        self._selector.close()
        self._bell.close()
        self._rope.close()
