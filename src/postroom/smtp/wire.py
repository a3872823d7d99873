"""What goes over the wire: a message as DATA takes it, an address as MAIL takes it, a reply."""

from __future__ import annotations

import re
import smtplib

from attrs import frozen


@frozen
class Reply:
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
        return words(self.said)


# RFC 5321 §4.1.2, less what only a quoted local part may hold; §4.5.3.1.3 for the length.
_ADDRESS = re.compile(r"[!-;=?-~]{1,252}@[!-;=?-~]{1,252}")


_BARE_LF = re.compile(rb"\n(?<!\r\n)")
_DOT = re.compile(rb"\n\.")


def is_writable(address: str) -> bool:
    """Tell whether MAIL and RCPT can take `address`."""
    return len(address) <= 254 and _ADDRESS.fullmatch(address) is not None


def wire(data: bytes) -> bytes:
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


def words(reply: bytes | str) -> str:
    """Return a reply's text as one line that a terminal shows as it is, 500 characters at most."""
    text = reply if isinstance(reply, str) else reply.decode("utf-8", "replace")
    line = " ".join(text.split())[:500]
    # Most replies are, and to look at each character takes longer than all else about them.
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else "�" for c in line)


def reason(error: BaseException) -> str:
    """Return why the connection is lost; smtplib says less than the error it has wrapped."""
    inner = error.__context__ if isinstance(error, smtplib.SMTPServerDisconnected) else None
    if isinstance(inner, TimeoutError) or isinstance(error, TimeoutError):
        return "no answer in time"
    told = inner or error
    return words(getattr(told, "strerror", None) or str(told))


def wait(smtp: smtplib.SMTP, seconds: float) -> None:
    """Let every later step of the connection take `seconds` at most."""
    if smtp.sock is not None:
        smtp.sock.settimeout(seconds)
