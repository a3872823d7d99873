"""What goes over the wire: a message as DATA takes it, an address as MAIL takes it, a reply."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Generator
from typing import Literal, TypeAlias

from attrs import field, frozen


@frozen
class Timeouts:
    """How many seconds the server may take: to connect, for a reply, and after the final dot.

    The times are those of RFC 5321 §4.5.3.2. The last is the longest on purpose: a letter given up
    too early after its final dot is an uncertain one.
    """

    connect: float = 30.0
    reply: float = 300.0
    end: float = 600.0


@frozen
class ServerFeatures:
    """What the server offered: TLS version in use (or nothing) and its extensions, in lower case.

    `size` is the longest message it takes, in bytes; 0 is no known limit (RFC 1870 §4).
    """

    tls: str
    size: int
    extensions: frozenset[str]


@frozen
class ServerReply:
    """A server's reply; `code` is 0 and `said` the reason where none came.

    `unsent`: not all that it should answer to has left.
    """

    code: int
    said: bytes | str
    unsent: bool = False

    @property
    def digit(self) -> int:
        """The code's first digit, which decides (RFC 5321 §4.2.1); 0 for none that is known."""
        return self.code // 100 if 200 <= self.code <= 599 else 0

    @property
    def text(self) -> str:
        """What was said, as one line; of most replies nobody asks for it."""
        return printable_reply(self.said)


# RFC 5321 §4.1.2, less what only a quoted local part may hold; §4.5.3.1.3 for the length.
_ADDRESS = re.compile(r"[!-;=?-~]{1,252}@[!-;=?-~]{1,252}")


_BARE_LF = re.compile(rb"\n(?<!\r\n)")
_DOT = re.compile(rb"\n\.")


def is_writable(address: str) -> bool:
    """Tell whether MAIL and RCPT can take `address`."""
    return len(address) <= 254 and _ADDRESS.fullmatch(address) is not None


def to_wire(data: bytes) -> bytes:
    """Return what follows the reply to DATA, final dot included (RFC 5321 §4.1.1.4).

    Raises `ValueError` for a message that servers would read differently.
    """
    # RFC 5321 §2.3.8: servers disagree where a letter with bare CR or LF ends.
    # Searching for one byte is several times faster than for two.
    lines = data.split(b"\n")
    if data.count(b"\r") != len(lines) - 1 or _BARE_LF.search(data):
        raise ValueError("the message holds a CR or LF alone")
    # RFC 5321 §4.5.3.1.6: with its CR LF a line has 1,000 bytes at most.
    if max(map(len, lines)) > 999 or len(lines[-1]) > 998:
        raise ValueError("the message holds a line of more than 998 bytes")
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    # RFC 5321 §4.5.2: a dot that begins a line is doubled.
    if data.startswith(b"."):
        data = b"." + data
    if _DOT.search(data):
        data = data.replace(b"\n.", b"\n..")
    return data + b".\r\n"


def printable_reply(reply: bytes | str) -> str:
    """Return a reply's text as one line that a terminal shows as it is, 500 characters at most."""
    text = reply if isinstance(reply, str) else reply.decode("utf-8", "replace")
    line = " ".join(text.split())[:500]
    # Most replies are, and to look at each character takes longer than all else about them.
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else "�" for c in line)


def reply_reason(error: BaseException) -> str:
    """Return why the connection is lost; smtplib says less than the error it has wrapped."""
    inner = error.__context__ if isinstance(error, smtplib.SMTPServerDisconnected) else None
    if isinstance(inner, TimeoutError) or isinstance(error, TimeoutError):
        return "no answer in time"
    told = inner or error
    return printable_reply(getattr(told, "strerror", None) or str(told))


def retry_hint(smtp: smtplib.SMTP, seconds: float) -> None:
    """Let every later step of the connection take `seconds` at most."""
    if smtp.sock is not None:
        smtp.sock.settimeout(seconds)


ReplyKind: TypeAlias = Literal["accepted", "deferred", "refused", "uncertain"]
SmtpCommand: TypeAlias = Literal["", "MAIL", "RCPT", "DATA", "end of data"]
# By which digit a reply lets the conversation go on (RFC 5321 §4.3.2).
_STEPS: tuple[tuple[SmtpCommand, int], ...] = (("MAIL", 2), ("RCPT", 2), ("DATA", 3))
_KINDS: dict[int, ReplyKind] = {2: "accepted", 4: "deferred", 5: "refused"}


@frozen
class TransactionResult:
    """What became of one letter.

    `accepted`: the server took it. `deferred`: it did not, and may later. `refused`: it did not
    and will not. `uncertain`: the final dot was sent and no answer understood.
    `command` is what the server answered to, so that a refused recipient (RCPT) can be told from a
    refused sender (MAIL) or content; it is empty where the server was not asked. `code` is the
    reply's, 0 if there was none. `usable` tells whether the connection can carry the next letter.
    """

    kind: ReplyKind
    code: int
    text: str
    usable: bool
    command: SmtpCommand = ""


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


MailTransaction: TypeAlias = Generator[Exchange, ServerReply, TransactionResult]


def mail_transaction(
    envelope: Envelope, greeting: ServerFeatures, patience: Timeouts
) -> MailTransaction:
    """Hand over one message to a server that gave this `greeting`; return what became of it."""
    if fault := _unfit(envelope, greeting):
        return TransactionResult("refused", 0, fault, usable=True)
    refused = yield from _announced(envelope, greeting, patience)
    if refused:
        return (yield from _stopped(*refused, patience))
    # In one piece: if not all of it has left, the final dot has not.
    reply = yield Exchange(envelope.written, patience.end)
    if reply.unsent:
        return TransactionResult(
            _refusal(reply), reply.code, reply.text, usable=False, command="DATA"
        )
    kind = _KINDS.get(reply.digit, "uncertain")
    # RFC 5321 §3.8: whoever says 421 closes.
    usable = kind != "uncertain" and reply.code != 421
    return TransactionResult(kind, reply.code, reply.text, usable, "end of data")


def _unfit(envelope: Envelope, greeting: ServerFeatures) -> str:
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
    envelope: Envelope, greeting: ServerFeatures, patience: Timeouts
) -> Generator[Exchange, ServerReply, tuple[SmtpCommand, ServerReply] | None]:
    """Say MAIL, RCPT and DATA; return what was not answered well, None if the data may come.

    Where the server takes them at once, all go in one piece: one way there and back for the three
    of them (RFC 2920 §3.1).
    """
    lines, at_once = _lines(envelope, greeting), "pipelining" in greeting.extensions
    refused, reply, said = None, ServerReply(0, ""), b"".join(lines)
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


def _lines(envelope: Envelope, greeting: ServerFeatures) -> tuple[bytes, bytes, bytes]:
    size = f" SIZE={envelope.size}" if "size" in greeting.extensions else ""  # RFC 1870 §6
    body = "" if envelope.written.isascii() else " BODY=8BITMIME"  # RFC 6152 §2
    return (
        f"MAIL FROM:<{envelope.sender}>{size}{body}\r\n".encode("ascii"),
        f"RCPT TO:<{envelope.recipient}>\r\n".encode("ascii"),
        b"DATA\r\n",
    )


def _stopped(command: SmtpCommand, reply: ServerReply, patience: Timeouts) -> MailTransaction:
    """Return the outcome of a letter whose data the server did not want."""
    usable = reply.digit in {4, 5} and reply.code != 421 and not reply.unsent
    if usable and command != "MAIL":
        # RFC 5321 §4.1.1.5: the sender that was taken must go before the next can come.
        usable = (yield Exchange(b"RSET\r\n", patience.reply)).digit == 2
    return TransactionResult(_refusal(reply), reply.code, reply.text, usable, command)


def _refusal(reply: ServerReply) -> ReplyKind:
    return "refused" if reply.digit == 5 else "deferred"
