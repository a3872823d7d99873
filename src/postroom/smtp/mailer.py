"""One connection to the mail server, and what its replies mean for a letter.

smtplib opens the connection. The conversation about a letter is held here, because of a lost one
it must be known whether the final dot had been sent: before it the server cannot have taken the
letter, after it nobody can tell (RFC 1047).
"""

from __future__ import annotations

import ssl
from typing import Literal, TypeAlias

from attrs import frozen

from postroom.smtp.opening import Greeting, Patience, opened
from postroom.smtp.server import Server
from postroom.smtp.talk import Talk
from postroom.smtp.wire import Reply, is_writable, wire

Kind: TypeAlias = Literal["accepted", "deferred", "refused", "uncertain"]
Command: TypeAlias = Literal["", "MAIL", "RCPT", "DATA", "end of data"]
# By which digit a reply lets the conversation go on (RFC 5321 §4.3.2).
_STEPS: tuple[tuple[Command, int], ...] = (("MAIL", 2), ("RCPT", 2), ("DATA", 3))
_STANDARD = Patience()
# So many seconds a server has to say goodbye.
_GOODBYE = 5.0


@frozen
class Outcome:
    """What became of one letter.

    `accepted`: the server took it. `deferred`: it did not, and may later. `refused`: it did not
    and will not. `uncertain`: the final dot was sent and no answer understood.
    `command` is what the server answered to, so that a refused recipient (RCPT) can be told from a
    refused sender (MAIL) or content; it is empty where the server was not asked. `code` is the
    reply's, 0 if there was none. `usable` tells whether the connection can carry the next letter.
    """

    kind: Kind
    code: int
    text: str
    usable: bool
    command: Command = ""


class Mailer:
    """One connection to the mail server: open it, send letters through it, close it."""

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
        return self.send_written(envelope_from, recipient, wire(data))

    def send_written(self, envelope_from: str, recipient: str, written: bytes) -> Outcome:
        """Do the same with a message that `wire` has written; raises nothing."""
        if self._talk is None:
            return Outcome("deferred", 0, "the connection is closed", usable=False)
        if fault := self._unfit(envelope_from, recipient, written):
            return Outcome("refused", 0, fault, usable=True)
        sender = f"MAIL FROM:<{envelope_from}>{self._parameters(written)}"
        try:
            refused = self._announce(self._talk, (sender, f"RCPT TO:<{recipient}>", "DATA"))
            return self._stopped(*refused) if refused else self._finished(self._talk, written)
        except BaseException:
            # Whoever interrupts leaves the conversation at a point that nobody knows.
            self._drop()
            raise

    def close(self) -> None:
        """Say goodbye (RFC 5321 §4.1.1.10) and close the connection, if there is one."""
        if talk := self._talk:
            seconds = min(_GOODBYE, self._patience.reply)
            if talk.say(["QUIT"], seconds) is None:
                talk.hear(seconds)
            self._drop()

    def _parameters(self, written: bytes) -> str:
        # RFC 1870 §6: without the final dot. It may be an estimate, so doubled dots do not matter.
        size = f" SIZE={len(written) - 3}" if "size" in self._greeting.extensions else ""
        return size + ("" if written.isascii() else " BODY=8BITMIME")  # RFC 6152 §2

    def _unfit(self, envelope_from: str, recipient: str, written: bytes) -> str:
        """Return why the server need not hear of a letter, or nothing."""
        limit, size = self._greeting.size, len(written) - 3
        if not (is_writable(recipient) and (is_writable(envelope_from) or not envelope_from)):
            return "an address is not plain ASCII, or holds blanks or angle brackets"
        if limit and size > limit:
            return f"the letter has {size} bytes, and the server takes {limit} at most"
        if not written.isascii() and "8bitmime" not in self._greeting.extensions:
            return "the letter has 8-bit text, which the server does not take"
        return ""

    def _announce(self, talk: Talk, lines: tuple[str, str, str]) -> tuple[Command, Reply] | None:
        """Say MAIL, RCPT and DATA; return what was not answered well, None if the data may come.

        Where the server takes them at once, all go in one piece: one way there and back for the
        three of them (RFC 2920 §3.1).
        """
        at_once = "pipelining" in self._greeting.extensions
        lost = talk.say(lines, self._patience.reply) if at_once else None
        refused: tuple[Command, Reply] | None = None
        reply = Reply(0, "")
        for line, (command, good) in zip(lines, _STEPS, strict=True):
            if not at_once:
                lost = talk.say([line], self._patience.reply)
            reply = lost or talk.hear(self._patience.reply)
            if reply.digit != good:
                refused = refused or (command, reply)
            if reply.digit == 0 or reply.code == 421 or (refused and not at_once):
                return refused
        if refused and reply.digit == 3:
            # RFC 2920 §3.1: invited to send data for nobody, we send none.
            talk.hand_over(b".\r\n", self._patience.reply)
            talk.hear(self._patience.end)
        return refused

    def _stopped(self, command: Command, reply: Reply) -> Outcome:
        """Return the outcome of a letter whose data the server did not want."""
        usable = reply.digit in {4, 5} and reply.code != 421
        if usable and command != "MAIL":
            # RFC 5321 §4.1.1.5: the sender that was taken must go before the next can come.
            usable = self._is_cleared()
        if not usable:
            self._drop()
        kind: Kind = "refused" if reply.digit == 5 else "deferred"
        return Outcome(kind, reply.code, reply.text, usable, command)

    def _is_cleared(self) -> bool:
        talk, seconds = self._talk, self._patience.reply
        if talk is None or talk.say(["RSET"], seconds):
            return False
        return talk.hear(seconds).digit == 2

    def _finished(self, talk: Talk, written: bytes) -> Outcome:
        """Send the data and the final dot, and return what the server made of it."""
        # In one piece: if it fails, not all of it has left, and the dot is the last of it.
        if lost := talk.hand_over(written, self._patience.reply):
            self._drop()
            return Outcome("deferred", 0, lost.text, usable=False, command="DATA")
        reply = talk.hear(self._patience.end)
        kinds: dict[int, Kind] = {2: "accepted", 4: "deferred", 5: "refused"}
        kind = kinds.get(reply.digit, "uncertain")
        # RFC 5321 §3.8: whoever says 421 closes.
        usable = kind != "uncertain" and reply.code != 421
        if not usable:
            self._drop()
        return Outcome(kind, reply.code, reply.text, usable, "end of data")

    def _drop(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.close()
