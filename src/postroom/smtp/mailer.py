"""One connection to the mail server, and what its replies mean for a letter.

smtplib moves the bytes. The conversation about a letter is held here, because of a lost connection
it must be known whether the final dot had been sent: before it the server cannot have taken the
letter, after it nobody can tell (RFC 1047).
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from typing import Literal, TypeAlias

from attrs import frozen

from postroom.smtp.opening import Greeting, Patience, opened
from postroom.smtp.server import Server
from postroom.smtp.wire import Reply, path, reason, wait, wire, words

Kind: TypeAlias = Literal["accepted", "deferred", "refused", "uncertain"]
Command: TypeAlias = Literal["", "MAIL", "RCPT", "DATA", "end of data"]
_STANDARD = Patience()


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
        self._smtp: smtplib.SMTP | None = None
        self._greeting = Greeting("", 0, frozenset())

    def open(self) -> Greeting:
        """Connect, protect the connection, say hello and log in; return what the server offers.

        Raises `RelayError`, with the connection closed.
        """
        self.close()
        self._smtp, self._greeting = opened(self._server, self._patience, self._trust)
        return self._greeting

    def send(self, envelope_from: str, recipient: str, data: bytes) -> Outcome:
        """Hand over the message `data`, lines ended by CR LF, and return what became of it.

        Both addresses are plain ASCII; an empty `envelope_from` is the null sender.
        Raises `ValueError`, before the server hears of it, for an address or a message that cannot
        be written in SMTP; never because of the server.
        """
        written = wire(data)
        sender = f"MAIL FROM:{path(envelope_from) if envelope_from else '<>'}"
        steps: tuple[tuple[Command, int, str], ...] = (
            ("MAIL", 2, sender + self._parameters(data)),
            ("RCPT", 2, f"RCPT TO:{path(recipient)}"),
            ("DATA", 3, "DATA"),
        )
        if self._smtp is None:
            return Outcome("deferred", 0, "the connection is closed", usable=False)
        if fault := self._too_much(data):
            return Outcome("refused", 0, fault, usable=True)
        try:
            for command, good, line in steps:
                reply = self._asked(line)
                if reply.digit != good:
                    return self._stopped(command, reply)
            return self._finished(self._smtp, written)
        except BaseException:
            # Whoever interrupts leaves the conversation at a point that nobody knows.
            self._drop()
            raise

    def close(self) -> None:
        """Say goodbye (RFC 5321 §4.1.1.10) and close the connection, if there is one."""
        smtp, self._smtp = self._smtp, None
        if smtp is None:
            return
        with contextlib.suppress(OSError, ValueError):
            wait(smtp, min(5.0, self._patience.reply))
            smtp.docmd("QUIT")
        smtp.close()

    def _parameters(self, data: bytes) -> str:
        size = f" SIZE={len(data)}" if "size" in self._greeting.extensions else ""  # RFC 1870 §6
        return size + ("" if data.isascii() else " BODY=8BITMIME")  # RFC 6152 §2

    def _too_much(self, data: bytes) -> str:
        limit = self._greeting.size
        if limit and len(data) > limit:
            return f"the letter has {len(data)} bytes, and the server takes {limit} at most"
        if not data.isascii() and "8bitmime" not in self._greeting.extensions:
            return "the letter has 8-bit text, which the server does not take"
        return ""

    def _asked(self, line: str) -> Reply:
        """Return the reply to one command, with code 0 if the connection is lost."""
        smtp = self._smtp
        if smtp is None:
            return Reply(0, "the connection is closed")
        try:
            smtp.putcmd(line)
        except OSError as error:
            return Reply(0, reason(error))
        return self._answer(smtp)

    def _answer(self, smtp: smtplib.SMTP) -> Reply:
        try:
            code, text = smtp.getreply()
        except OSError as error:  # also smtplib's own
            return Reply(0, reason(error))
        return Reply(code, words(text))

    def _stopped(self, command: Command, reply: Reply) -> Outcome:
        """Return the outcome of a letter whose data the server did not want."""
        usable = reply.digit in {4, 5} and reply.code != 421
        if usable and command != "MAIL":
            # RFC 5321 §4.1.1.5: the sender that was taken must go before the next can come.
            usable = self._asked("RSET").digit == 2
        if not usable:
            self._drop()
        kind: Kind = "refused" if reply.digit == 5 else "deferred"
        return Outcome(kind, max(0, reply.code), reply.text, usable, command)

    def _finished(self, smtp: smtplib.SMTP, written: bytes) -> Outcome:
        """Send the data and the final dot, and return what the server made of it."""
        try:
            # In one piece: if it fails, not all of it has left, and the dot is the last of it.
            smtp.send(written)
        except OSError as error:
            self._drop()
            return Outcome("deferred", 0, reason(error), usable=False, command="DATA")
        wait(smtp, self._patience.end)
        reply = self._answer(smtp)
        kinds: dict[int, Kind] = {2: "accepted", 4: "deferred", 5: "refused"}
        kind = kinds.get(reply.digit, "uncertain")
        # RFC 5321 §3.8: whoever says 421 closes.
        usable = kind != "uncertain" and reply.code != 421
        if usable:
            wait(smtp, self._patience.reply)
        else:
            self._drop()
        return Outcome(kind, max(0, reply.code), reply.text, usable, "end of data")

    def _drop(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()
