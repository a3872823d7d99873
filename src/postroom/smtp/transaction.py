"""The SMTP protocol for sending one message, without I/O (sans-I/O).

This module makes the commands, interprets the replies, and converts a message to the form for the
DATA command; `smtp.connection` sends and receives the bytes.
"""

from __future__ import annotations

import re
import smtplib
from collections.abc import Generator
from typing import Literal, TypeAlias

from attrs import field, frozen


@frozen
class Timeouts:
    """The longest times to wait for the server, in seconds.

    `connect` is for opening the connection, up to the reply to the login; `reply` is for the reply
    to a command, and `end` for the message up to the reply after its final dot. `reply` and `end`
    follow RFC 5321 §4.5.3.2. `end` is the longest, because the delivery becomes uncertain if it
    passes without a reply.
    """

    connect: float = 120.0
    reply: float = 300.0
    end: float = 600.0


@frozen
class ServerFeatures:
    """The features of a server, as it announces them in its reply to EHLO.

    `extensions` are the names of its SMTP extensions in lower case. `size` is the size in bytes of
    the largest message that it accepts, 0 for no known limit (RFC 1870 §4). `tls` is the TLS
    version in use, empty without TLS.
    """

    tls: str
    size: int
    extensions: frozenset[str]


@frozen
class ServerReply:
    """A reply of the server.

    `code` is 0 if there was no reply, with the reason in `raw`, or if the reply is malformed.
    `unsent` tells that the connection ended before all bytes of the command or message were sent.
    """

    code: int
    raw: bytes | str
    unsent: bool = False

    @property
    def digit(self) -> int:
        """The first digit of the code, 0 for an invalid code.

        It tells success (2, 3), temporary refusal (4) and permanent refusal (5) apart (RFC 5321
        §4.2.1).
        """
        return self.code // 100 if 200 <= self.code <= 599 else 0

    @property
    def text(self) -> str:
        """The text of the reply as one printable line."""
        return printable_reply(self.raw)


# RFC 5321 §4.1.2 without what only a quoted local part may hold; §4.5.3.1.3 for the length.
_ADDRESS = re.compile(r"[!-;=?-~]{1,252}@[!-;=?-~]{1,252}")
_BARE_LF = re.compile(rb"\n(?<!\r\n)")
_DOT = re.compile(rb"\n\.")


def is_writable(address: str) -> bool:
    """Tell whether the commands MAIL and RCPT can carry the email address `address`.

    It must be plain ASCII, without blanks and angle brackets, and have 254 characters at most.
    """
    return len(address) <= 254 and _ADDRESS.fullmatch(address) is not None


def to_wire(data: bytes) -> bytes:
    """Return the message `data` in the form for the DATA command (RFC 5321 §4.1.1.4).

    Dots at the beginning of lines are doubled, and the final dot is added. Raises `ValueError`
    for a message with a bare CR or LF, which servers would read in different ways, or with a line
    that is too long.
    """
    # RFC 5321 §2.3.8: servers disagree where a message with a bare CR or LF ends.
    # Searching for one byte is several times faster than for two.
    lines = data.split(b"\n")
    if data.count(b"\r") != len(lines) - 1 or _BARE_LF.search(data):
        raise ValueError("the message holds a bare CR or LF")
    # RFC 5321 §4.5.3.1.6: with its CR LF a line has 1,000 bytes at most.
    if max(map(len, lines)) > 999 or len(lines[-1]) > 998:
        raise ValueError("the message holds a line of more than 998 bytes")
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    # RFC 5321 §4.5.2, dot-stuffing: a dot at the beginning of a line is doubled.
    if data.startswith(b"."):
        data = b"." + data
    if _DOT.search(data):
        data = data.replace(b"\n.", b"\n..")
    return data + b".\r\n"


def printable_reply(reply: bytes | str) -> str:
    """Return the text of a reply as one printable line of up to 500 characters."""
    text = reply if isinstance(reply, str) else reply.decode("utf-8", "replace")
    line = " ".join(text.split())[:500]
    # Most replies are printable, and a loop over the characters is the slowest part of a reply.
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else "�" for c in line)


def describe_error(error: BaseException) -> str:
    """Return as one line why a connection failed or was lost.

    If smtplib has wrapped another error, use that one, because its text says more.
    """
    inner = error.__context__ if isinstance(error, smtplib.SMTPServerDisconnected) else None
    if isinstance(inner, TimeoutError) or isinstance(error, TimeoutError):
        return "no answer in time"
    cause = inner or error
    return printable_reply(getattr(cause, "strerror", None) or str(cause))


ReplyKind: TypeAlias = Literal["accepted", "deferred", "refused", "uncertain"]
SmtpCommand: TypeAlias = Literal["", "MAIL", "RCPT", "DATA", "end of data"]
# The first digit of the reply that lets the transaction go on (RFC 5321 §4.3.2).
_STEPS: tuple[tuple[SmtpCommand, int], ...] = (("MAIL", 2), ("RCPT", 2), ("DATA", 3))
_KINDS: dict[int, ReplyKind] = {2: "accepted", 4: "deferred", 5: "refused"}


@frozen
class TransactionResult:
    """The result of one mail transaction.

    `kind` is `accepted` if the server took the message, `deferred` if it did not but may later,
    `refused` if it never will, and `uncertain` if the final dot was sent and no valid reply came.
    `command` is the command to which the server replied. It tells a refused recipient (RCPT) from a
    refused sender (MAIL) and from refused content, and is empty if no command was sent. `code` is
    the code of the reply, 0 if there was none. `usable` tells whether the connection can carry the
    next message.
    """

    kind: ReplyKind
    code: int
    text: str
    usable: bool
    command: SmtpCommand = ""


@frozen
class Envelope:
    """A message in the form that `to_wire` returns, with its envelope sender and recipient."""

    sender: str
    recipient: str
    message: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """The size of the message in bytes, as the SIZE parameter declares it (RFC 1870 §3).

        The final dot does not count; doubled dots count twice.
        """
        return len(self.message) - 3


@frozen
class Exchange:
    """A step of a transaction: bytes to send, and a reply to wait for.

    The server must accept the bytes and reply within `seconds`.
    """

    data: bytes = field(repr=False)
    seconds: float


MailTransaction: TypeAlias = Generator[Exchange, ServerReply, TransactionResult]


def mail_transaction(
    envelope: Envelope, features: ServerFeatures, timeouts: Timeouts
) -> MailTransaction:
    """Submit one message to a server with these `features`, as a generator without I/O.

    It yields each `Exchange` to carry out, must be sent the server's reply, and returns the
    `TransactionResult`.
    """
    if reason := _unsupported(envelope, features):
        return TransactionResult("refused", 0, reason, usable=True)
    refused = yield from _send_commands(envelope, features, timeouts)
    if refused:
        return (yield from _end_refused(*refused, timeouts))
    # In one piece: if not all of it was sent, neither was the final dot.
    reply = yield Exchange(envelope.message, timeouts.end)
    if reply.unsent:
        return TransactionResult(
            _refusal_kind(reply), reply.code, reply.text, usable=False, command="DATA"
        )
    kind = _KINDS.get(reply.digit, "uncertain")
    # RFC 5321 §3.8: a server that replies 421 closes the connection.
    usable = kind != "uncertain" and reply.code != 421
    return TransactionResult(kind, reply.code, reply.text, usable, "end of data")


def _unsupported(envelope: Envelope, features: ServerFeatures) -> str:
    """Return why the server cannot take the message, an empty string if it can."""
    sender, recipient, size = envelope.sender, envelope.recipient, envelope.size
    if not (is_writable(recipient) and (is_writable(sender) or not sender)):
        return "an email address is not plain ASCII, or holds blanks or angle brackets"
    if features.size and size > features.size:
        return f"the email has {size:,} bytes, and the server takes {features.size:,} at most"
    if not envelope.message.isascii() and "8bitmime" not in features.extensions:
        return "the email has 8-bit text, which the server does not take"
    return ""


def _send_commands(
    envelope: Envelope, features: ServerFeatures, timeouts: Timeouts
) -> Generator[Exchange, ServerReply, tuple[SmtpCommand, ServerReply] | None]:
    """Send the commands MAIL, RCPT and DATA; return None if the message may follow.

    Otherwise return the first command that the server did not accept, with its reply. If the server
    supports pipelining, all commands are sent at once, in one round trip (RFC 2920 §3.1).
    """
    commands, pipelining = _commands(envelope, features), "pipelining" in features.extensions
    refused, reply, unsent = None, ServerReply(0, ""), b"".join(commands)
    for data, (command, good) in zip(commands, _STEPS, strict=True):
        reply = yield Exchange(unsent if pipelining else data, timeouts.reply)
        unsent = b""
        if reply.digit != good:
            refused = refused or (command, reply)
        if reply.digit == 0 or reply.code == 421 or (refused and not pipelining):
            return refused
    if refused and reply.digit == 3:
        # RFC 2920 §3.1: the server waits for data although there is no recipient; send none.
        yield Exchange(b".\r\n", timeouts.end)
    return refused


def _commands(envelope: Envelope, features: ServerFeatures) -> tuple[bytes, bytes, bytes]:
    size = f" SIZE={envelope.size}" if "size" in features.extensions else ""  # RFC 1870 §6
    body = "" if envelope.message.isascii() else " BODY=8BITMIME"  # RFC 6152 §2
    return (
        f"MAIL FROM:<{envelope.sender}>{size}{body}\r\n".encode("ascii"),
        f"RCPT TO:<{envelope.recipient}>\r\n".encode("ascii"),
        b"DATA\r\n",
    )


def _end_refused(command: SmtpCommand, reply: ServerReply, timeouts: Timeouts) -> MailTransaction:
    """Return the result of a message after the server did not accept `command`.

    If the connection remains usable, reset it for the next message.
    """
    usable = reply.digit in {4, 5} and reply.code != 421 and not reply.unsent
    if usable and command != "MAIL":
        # RFC 5321 §4.1.1.5: RSET clears the accepted sender before the next transaction.
        usable = (yield Exchange(b"RSET\r\n", timeouts.reply)).digit == 2
    return TransactionResult(_refusal_kind(reply), reply.code, reply.text, usable, command)


def _refusal_kind(reply: ServerReply) -> ReplyKind:
    return "refused" if reply.digit == 5 else "deferred"
