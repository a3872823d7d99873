"""What is said to the mail server about one letter, and what its replies mean for the letter.

Nothing is sent here: a conversation yields what is to be said and gets the reply. Of a lost
connection it must be known whether the final dot had been sent: before it the server cannot have
taken the letter, after it nobody can tell (RFC 1047).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal, TypeAlias

from attrs import field, frozen

from postroom.smtp.opening import Greeting, Patience
from postroom.smtp.wire import Reply, is_writable

Kind: TypeAlias = Literal["accepted", "deferred", "refused", "uncertain"]
Command: TypeAlias = Literal["", "MAIL", "RCPT", "DATA", "end of data"]
# By which digit a reply lets the conversation go on (RFC 5321 §4.3.2).
_STEPS: tuple[tuple[Command, int], ...] = (("MAIL", 2), ("RCPT", 2), ("DATA", 3))
_KINDS: dict[int, Kind] = {2: "accepted", 4: "deferred", 5: "refused"}


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


@frozen
class Envelope:
    """A message, written for the wire, and whom it is from and to, as MAIL and RCPT say it."""

    sender: str
    recipient: str
    written: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """The bytes of the message without its final dot (RFC 1870 §3), doubled dots counted."""
        return len(self.written) - 3


@frozen
class Exchange:
    """Bytes to send, and how many seconds the server has to take them and to reply."""

    data: bytes = field(repr=False)
    seconds: float


Conversation: TypeAlias = Generator[Exchange, Reply, Outcome]


def conversation(envelope: Envelope, greeting: Greeting, patience: Patience) -> Conversation:
    """Hand over one message to a server that gave this `greeting`; return what became of it."""
    if fault := _unfit(envelope, greeting):
        return Outcome("refused", 0, fault, usable=True)
    refused = yield from _announced(envelope, greeting, patience)
    if refused:
        return (yield from _stopped(*refused, patience))
    # In one piece: if not all of it has left, the final dot has not.
    reply = yield Exchange(envelope.written, patience.end)
    if reply.unsent:
        return Outcome(_refusal(reply), reply.code, reply.text, usable=False, command="DATA")
    kind = _KINDS.get(reply.digit, "uncertain")
    # RFC 5321 §3.8: whoever says 421 closes.
    usable = kind != "uncertain" and reply.code != 421
    return Outcome(kind, reply.code, reply.text, usable, "end of data")


def _unfit(envelope: Envelope, greeting: Greeting) -> str:
    """Return why the server need not hear of a letter, or nothing."""
    sender, recipient, size = envelope.sender, envelope.recipient, envelope.size
    if not (is_writable(recipient) and (is_writable(sender) or not sender)):
        return "an address is not plain ASCII, or holds blanks or angle brackets"
    if greeting.size and size > greeting.size:
        return f"the letter has {size} bytes, and the server takes {greeting.size} at most"
    if not envelope.written.isascii() and "8bitmime" not in greeting.extensions:
        return "the letter has 8-bit text, which the server does not take"
    return ""


def _announced(
    envelope: Envelope, greeting: Greeting, patience: Patience
) -> Generator[Exchange, Reply, tuple[Command, Reply] | None]:
    """Say MAIL, RCPT and DATA; return what was not answered well, None if the data may come.

    Where the server takes them at once, all go in one piece: one way there and back for the three
    of them (RFC 2920 §3.1).
    """
    lines, at_once = _lines(envelope, greeting), "pipelining" in greeting.extensions
    refused, reply, said = None, Reply(0, ""), b"".join(lines)
    for line, (command, good) in zip(lines, _STEPS, strict=True):
        reply = yield Exchange(said if at_once else line, patience.reply)
        said = b""
        if reply.digit != good:
            refused = refused or (command, reply)
        if reply.digit == 0 or reply.code == 421 or (refused and not at_once):
            return refused
    if refused and reply.digit == 3:
        # RFC 2920 §3.1: invited to send data for nobody, we send none.
        yield Exchange(b".\r\n", patience.end)
    return refused


def _lines(envelope: Envelope, greeting: Greeting) -> tuple[bytes, bytes, bytes]:
    size = f" SIZE={envelope.size}" if "size" in greeting.extensions else ""  # RFC 1870 §6
    body = "" if envelope.written.isascii() else " BODY=8BITMIME"  # RFC 6152 §2
    return (
        f"MAIL FROM:<{envelope.sender}>{size}{body}\r\n".encode("ascii"),
        f"RCPT TO:<{envelope.recipient}>\r\n".encode("ascii"),
        b"DATA\r\n",
    )


def _stopped(command: Command, reply: Reply, patience: Patience) -> Conversation:
    """Return the outcome of a letter whose data the server did not want."""
    usable = reply.digit in {4, 5} and reply.code != 421 and not reply.unsent
    if usable and command != "MAIL":
        # RFC 5321 §4.1.1.5: the sender that was taken must go before the next can come.
        usable = (yield Exchange(b"RSET\r\n", patience.reply)).digit == 2
    return Outcome(_refusal(reply), reply.code, reply.text, usable, command)


def _refusal(reply: Reply) -> Kind:
    return "refused" if reply.digit == 5 else "deferred"
