"""The lines to the mail server: which wait for a letter, which carry one, and which are down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from queue import Empty, SimpleQueue

from attrs import frozen

from postroom.errors import RelayError
from postroom.send.line import Answered, Broken, Down, Line, Outgoing, Ready, Said
from postroom.send.rows import Connection

# A line that is down tries again after these seconds; then it is given up.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)


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
        self._said: SimpleQueue[Said] = SimpleQueue()
        self._lines: list[Line] = []
        self._ready: list[Line] = []
        self._opening: set[Line] = set()
        self._resting: dict[Line, float] = {}
        self._tries: Counter[Line] = Counter()
        self.out = 0
        """How many letters are on their way."""
        self.window = 0.0
        """For how many seconds to wait for more answers once one has come."""
        self.lost: RelayError | None = None
        """Why the line that was last given up was down."""
        self.broken: BaseException | None = None
        """The fault of ours by which a line ended, if one did."""

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
            self._lines.append(Line(self._way.connect, self._way.per_connection, self._said))
        # One wrong password must not count as several.
        self._open(self._lines[0])
        while self._opening and not stopped():
            self.listen(glance)
        # No pause here: whoever started the run learns at once that it cannot be done now.
        if self.lost:
            raise self.lost
        for line in self._lines[1:]:
            self._open(line)

    def _open(self, line: Line) -> None:
        self._opening.add(line)
        line.open()

    def hand_out(self, outgoing: Outgoing) -> None:
        """Give a letter to a line that is ready."""
        self.out += 1
        self._ready.pop().carry(outgoing)

    def listen(self, seconds: float) -> list[Answered]:
        """Return the answers that have come; wait up to `seconds` for one, if there is none."""
        now = self._ticks()
        for line in [line for line, then in self._resting.items() if then <= now]:
            del self._resting[line]
            self._open(line)
        answers: list[Answered] = []
        try:
            self._hear(
                self._said.get(timeout=seconds) if seconds else self._said.get_nowait(), answers
            )
            # Others are about to answer: to write several down at once costs hardly more.
            until = self._ticks() + self.window
            while answers and self.out and (left := until - self._ticks()) > 0:
                self._hear(self._said.get(timeout=left), answers)
            while True:
                self._hear(self._said.get_nowait(), answers)
        except Empty:
            return answers

    def _hear(self, said: Said, answers: list[Answered]) -> None:
        match said:
            case Ready(line):
                self._opening.discard(line)
                self._tries.pop(line, None)
                self._ready.append(line)
            case Answered(line, ready=ready):
                self.out -= 1
                answers.append(said)
                if ready:
                    self._ready.append(line)
                else:
                    self._opening.add(line)
            case Down(line, error):
                self._opening.discard(line)
                self._rest(line, error)
            case Broken(line, error, carried):
                self._opening.discard(line)
                self.out -= carried
                self.broken = error

    def _rest(self, line: Line, error: RelayError) -> None:
        tries = self._tries[line]
        self._tries[line] += 1
        self.lost = error
        if error.passing and tries < len(PAUSES):
            self._resting[line] = self._ticks() + PAUSES[tries]

    def close(self) -> None:
        """Close all connections."""
        for line in self._lines:
            line.close()
        for line in self._lines:
            line.join()
