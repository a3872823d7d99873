"""One connection to the mail server, which carries one letter after the other.

smtplib opens the connection. After that nothing here waits unless it is asked to, so that one
thread can hold many conversations.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable
from functools import partial

from postroom.smtp.conversation import Conversation, Envelope, Exchange, Outcome, conversation
from postroom.smtp.opening import Greeting, Patience, opened
from postroom.smtp.server import Server
from postroom.smtp.talk import Talk
from postroom.smtp.wire import wire

_STANDARD = Patience()
_CLOSED = Outcome("deferred", 0, "the connection is closed", usable=False)
# So many seconds a server has to say goodbye.
_GOODBYE = 5.0


class Mailer:
    """One connection to the mail server: open it, send letters through it, close it.

    `send` waits until it is known what became of a letter. Else `begin`, then `go_on` whenever the
    socket `fileno` is ready: to be written to where `wants_to_write`, else to be read from. When
    the steady clock reaches `until`, say `give_up`.
    """

    def __init__(
        self,
        server: Server,
        *,
        patience: Patience = _STANDARD,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """Talk to `server`; its certificate is checked by `trust`, else by the system's store."""
        self._server = server
        self._patience = patience
        self._trust = trust
        self._talk: Talk | None = None
        self._greeting = Greeting("", 0, frozenset())
        self._conversation: Conversation | None = None
        self._outcome = _CLOSED
        self._goodbye = min(_GOODBYE, patience.reply)

    def open(self) -> Greeting:
        """Connect, protect the connection, say hello and log in; return what the server offers.

        Raises `RelayError`, with the connection closed.
        """
        self.close()
        self._talk, self._greeting = opened(self._server, self._patience, self._trust)
        return self._greeting

    def send(self, envelope_from: str, recipient: str, data: bytes) -> Outcome:
        """Hand over the message `data`, lines ended by CR LF, and return what became of it.

        Both addresses are plain ASCII; an empty `envelope_from` is the null sender.
        Raises `ValueError`, before the server hears of it, for a message that cannot be written in
        SMTP; never because of the server.
        """
        written = wire(data)
        try:
            self.begin(envelope_from, recipient, written)
            while (outcome := self.go_on()) is None:
                if not self._is_ready():
                    return self.give_up()
        except BaseException:
            # Whoever interrupts leaves the conversation at a point that nobody knows.
            self._drop()
            raise
        return outcome

    def begin(self, envelope_from: str, recipient: str, written: bytes) -> None:
        """Begin to hand over a message that `wire` has written."""
        self._outcome = _CLOSED
        if self._talk and not self._talk.is_quiet:
            # What comes unasked is a goodbye; it must not be taken for an answer about this letter.
            self._drop()
        if self._talk:
            envelope = Envelope(envelope_from, recipient, written)
            self._conversation = conversation(envelope, self._greeting, self._patience)
            self._say(self._talk, partial(next, self._conversation))

    def go_on(self) -> Outcome | None:
        """Do what can be done without waiting; return what became of the letter, once known."""
        while self._talk and self._conversation:
            if (reply := self._talk.go_on()) is None:
                return None
            self._say(self._talk, partial(self._conversation.send, reply))
        return self._outcome

    def give_up(self) -> Outcome:
        """Wait no longer, and return what that means for the letter."""
        while self._talk and self._conversation:
            self._say(self._talk, partial(self._conversation.send, self._talk.expired()))
        return self._outcome

    def _say(self, talk: Talk, following: Callable[[], Exchange]) -> None:
        """Say what follows, or note what became of the letter."""
        try:
            step = following()
        except StopIteration as ended:
            self._conversation, self._outcome = None, ended.value
            if not self._outcome.usable:
                self._drop()
        else:
            talk.say(step.data, step.seconds)

    @property
    def until(self) -> float:
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
        return bool(waiting.poll(max(0.0, self.until - time.monotonic()) * 1000))

    def close(self) -> None:
        """Say goodbye (RFC 5321 §4.1.1.10) and close the connection, if there is one."""
        if talk := self._talk:
            talk.say(b"QUIT\r\n", self._goodbye)
            while (reply := talk.go_on()) is None and self._is_ready():
                pass
            if reply is None:
                # It would say nothing the next time either, and letters wait for this.
                self._goodbye = 0.0
            self._drop()

    def _drop(self) -> None:
        talk, self._talk, self._conversation = self._talk, None, None
        if talk is not None:
            talk.close()
