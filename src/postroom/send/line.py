"""One connection to the mail server, and the thread that speaks through it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Literal, TypeAlias

from attrs import field, frozen

from postroom.errors import RelayError
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
class Ready:
    """The line has an open connection and waits for a letter."""

    line: Line


@frozen
class Answered:
    """What became of a letter; if the line is not `ready`, it opens its connection anew."""

    line: Line
    outgoing: Outgoing
    reply: Reply
    ready: bool


@frozen
class Down:
    """The line could not open its connection."""

    line: Line
    error: RelayError


@frozen
class Broken:
    """The line's thread ended by a fault of ours, and of the letter it carried nobody can tell."""

    line: Line
    error: BaseException
    carried: bool


Said: TypeAlias = Ready | Answered | Down | Broken


class Line:
    """A connection that is opened, used for one letter after the other, and closed, in a thread.

    What happens is put into `said`. A letter that the server never judged, because the connection
    had ended, is tried once more on a new one: its row is in sending all the while.
    """

    def __init__(
        self, connect: Callable[[], Connection], per_connection: int, said: SimpleQueue[Said]
    ) -> None:
        """Renew the connection after `per_connection` letters; 0 is never."""
        self._connection = connect()
        self._per_connection = per_connection
        self._said = said
        self._orders: SimpleQueue[Outgoing | Literal["open", "close"]] = SimpleQueue()
        # How many letters the connection that is open has carried.
        self._carried = 0
        # The process need not wait for a server that says nothing.
        self._thread = threading.Thread(target=self._work, daemon=True)

    def open(self) -> None:
        """Begin to open the connection."""
        if not self._thread.is_alive():
            self._thread.start()
        self._orders.put("open")

    def carry(self, outgoing: Outgoing) -> None:
        """Hand over a letter; there is one at a time."""
        self._orders.put(outgoing)

    def close(self) -> None:
        """Close the connection and end the thread."""
        self._orders.put("close")

    def join(self) -> None:
        """Wait a little for the connection to be closed."""
        if self._thread.is_alive():
            self._thread.join(5)

    def _work(self) -> None:
        order: Outgoing | Literal["open", "close"] = "open"
        try:
            for order in iter(self._orders.get, "close"):
                if isinstance(order, Outgoing):
                    self._carry(order)
                else:
                    self._make_ready()
            self._connection.close()
        except BaseException as error:  # noqa: BLE001 - it is raised where the run is
            self._said.put(Broken(self, error, carried=isinstance(order, Outgoing)))

    def _make_ready(self) -> None:
        down = self._reopened()
        self._said.put(Down(self, down) if down else Ready(self))

    def _reopened(self) -> RelayError | None:
        """Open the connection anew; return why that failed, if it did."""
        try:
            self._connection.open()
        except RelayError as error:
            return error
        self._carried = 0
        return None

    def _carry(self, outgoing: Outgoing) -> None:
        reply, down = self._handed_over(outgoing), None
        if is_unheard(reply) and (down := self._reopened()) is None:
            reply = self._handed_over(outgoing)
        is_worn = self._carried == self._per_connection != 0
        ready = reply.usable and not is_worn
        # First of all: nothing may delay what the ledger is to know.
        self._said.put(Answered(self, outgoing, reply, ready=ready))
        if down:
            self._said.put(Down(self, down))
        elif not ready:
            self._make_ready()

    def _handed_over(self, outgoing: Outgoing) -> Reply:
        self._carried += 1
        return self._connection.send_written(
            outgoing.envelope_from, outgoing.claim.address, outgoing.message
        )
