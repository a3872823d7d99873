"""One line to the mail server: its connection, opened in a thread, and the letter that it carries.

A letter that the server never judged, because the connection had ended, is tried once more on a
new one: its row is in sending all the while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from attrs import define, field, frozen

from postroom.model import Claim
from postroom.send.replies import is_unheard
from postroom.send.rows import Connection, Reply


@frozen
class Outgoing:
    """A claimed letter with its envelope and its message, as it goes over the wire."""

    claim: Claim
    envelope_from: str
    message: bytes = field(repr=False)


@frozen
class Opened:
    """An attempt to open a line's connection is over; without `error` it can carry letters."""

    line: Line
    error: BaseException | None = None


@frozen
class Answered:
    """What became of a letter."""

    outgoing: Outgoing
    reply: Reply


@define(eq=False)
class Line:
    """A connection that carries one letter after the other.

    It is renewed after `per_connection` letters; 0 is never.
    """

    connection: Connection
    per_connection: int
    outgoing: Outgoing | None = None
    watched: int = 0
    """For which events its socket is waited for, 0 for none."""
    _unheard: Reply | None = None
    _carried: int = 0
    _thread: threading.Thread | None = None

    def open(self, said: Callable[[Opened], None]) -> None:
        """Begin to open the connection; `said` hears, in another thread, how that went."""

        def work() -> None:
            try:
                self.connection.open()
            except BaseException as error:  # noqa: BLE001 - it is raised where the run is
                said(Opened(self, error))
            else:
                said(Opened(self))

        # The process need not wait for a server that says nothing.
        self._carried = 0
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def carry(self, outgoing: Outgoing) -> None:
        """Take a letter; there is one at a time."""
        self.outgoing, self._unheard = outgoing, None
        self._begin(outgoing)

    def again(self) -> None:
        """Begin once more with the letter at hand, on the new connection."""
        if self.outgoing:
            self._begin(self.outgoing)

    def _begin(self, outgoing: Outgoing) -> None:
        self._carried += 1
        to = outgoing.claim.address
        self.connection.begin(outgoing.envelope_from, to, outgoing.message)

    def is_to_be_tried_again(self, reply: Reply) -> bool:
        """Tell whether the letter is to be tried on a new connection: once, if it was unheard."""
        if self._unheard or not is_unheard(reply):
            return False
        self._unheard = reply
        return True

    def answered(self, reply: Reply | None = None) -> Answered | None:
        """Let go of the letter, which had this reply, or none on a connection that was lost."""
        outgoing, self.outgoing = self.outgoing, None
        reply = reply or self._unheard
        return Answered(outgoing, reply) if outgoing and reply else None

    @property
    def is_worn(self) -> bool:
        """Whether the connection has carried as many letters as it may."""
        return 0 < self.per_connection <= self._carried

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
