"""What is said and heard over a connection that is open, command by command or many at once."""

from __future__ import annotations

import re
import smtplib
import socket
import time
from collections.abc import Sequence

from postroom.smtp.wire import Reply, reason, words

# RFC 5321 §4.5.3.1.5 gives a line of a reply 512 bytes; servers say more.
_LONGEST_LINE, _LONGEST_REPLY = 8192, 65_536
_CLOSED, _ENDLESS = "the server closed the connection", "the server's reply has no end"
_CODE = re.compile(rb"[0-9]{3}(?![0-9])")


class Talk:
    """A connection that smtplib has opened, without what smtplib does around each command.

    Whatever goes wrong becomes a `Reply` with code 0. After such a one nobody knows what the
    server will say next, so close the connection.
    """

    def __init__(self, smtp: smtplib.SMTP, sock: socket.socket) -> None:
        """Take over the socket of `smtp`."""
        self._smtp = smtp
        self._sock = sock
        self._heard = b""

    def say(self, lines: Sequence[str], seconds: float) -> Reply | None:
        """Send commands as `hand_over` does."""
        return self.hand_over("".join(f"{line}\r\n" for line in lines).encode("ascii"), seconds)

    def hand_over(self, data: bytes, seconds: float) -> Reply | None:
        """Send bytes, in one piece; return why that failed, if it did: then not all have left."""
        try:
            self._sock.settimeout(seconds)
            self._sock.sendall(data)
        except OSError as error:
            return Reply(0, reason(error))
        return None

    def hear(self, seconds: float) -> Reply:
        """Return the next reply, for which the server has `seconds` in all (RFC 5321 §4.2)."""
        try:
            lines = self._lines(time.monotonic() + seconds)
        except OSError as error:
            return Reply(0, reason(error))
        code = int(lines[-1][:3]) if _CODE.match(lines[-1]) else 0
        return Reply(code, words(b" ".join(line[4:] for line in lines)))

    def _lines(self, until: float) -> list[bytes]:
        lines, heard = [self._line(until)], 0
        while lines[-1][3:4] == b"-":
            heard += len(lines[-1])
            if heard > _LONGEST_REPLY:
                raise OSError(_ENDLESS)
            lines.append(self._line(until))
        return lines

    def _line(self, until: float) -> bytes:
        while (end := self._heard.find(b"\n", 0, _LONGEST_LINE)) < 0:
            if len(self._heard) >= _LONGEST_LINE:
                raise OSError(_ENDLESS)
            self._hear_more(until - time.monotonic())
        line, self._heard = self._heard[:end], self._heard[end + 1 :]
        return line.rstrip(b"\r")

    def _hear_more(self, seconds: float) -> None:
        if seconds <= 0:
            raise TimeoutError
        self._sock.settimeout(seconds)
        piece = self._sock.recv(4096)
        if not piece:
            raise ConnectionError(_CLOSED)
        self._heard += piece

    def close(self) -> None:
        """Close the connection."""
        self._smtp.close()
