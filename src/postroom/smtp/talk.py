"""What is said and heard over an open connection, without waiting: many of them fit in a thread."""

from __future__ import annotations

import smtplib
import socket
import ssl
import time
from contextlib import suppress

from attrs import evolve

from postroom.smtp.wire import Reply, reason

# RFC 5321 §4.5.3.1.5 gives a line of a reply 512 bytes; servers say more.
_LONGEST_LINE, _LONGEST_REPLY = 8192, 65_536
_CLOSED, _ENDLESS = "the server closed the connection", "the server's reply has no end"


class Talk:
    """A connection that smtplib has opened, from there on.

    Say something, then `go_on` until there is a reply; in between wait for the socket, to write
    where `wants_to_write`, else to read, and until the instant `until` of the steady clock at most.
    Whatever goes wrong becomes a `Reply` with code 0. After such a one nobody knows what the server
    will say next, so close the connection.
    """

    def __init__(self, smtp: smtplib.SMTP, sock: socket.socket) -> None:
        """Take over the socket of `smtp`."""
        self._smtp = smtp
        self._sock = sock
        sock.settimeout(0)
        self._unsent = memoryview(b"")
        self._heard = b""
        self.until = 0.0
        self.wants_to_write = False

    def say(self, data: bytes, seconds: float) -> None:
        """Begin to send `data`; the server has so many seconds to take it and to reply."""
        self._unsent = memoryview(data)
        self.until = time.monotonic() + seconds

    def go_on(self) -> Reply | None:
        """Send and hear what can be without waiting; return the reply, once it is whole."""
        try:
            if self._unsent:
                self._send()
                # The server needs its time; the socket will tell.
                if not self._has_heard_more:
                    return None
            while (reply := self._taken()) is None:
                self._hear()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            # TLS may have to read before it can write, and the other way round.
            if isinstance(error, ssl.SSLError):
                self.wants_to_write = isinstance(error, ssl.SSLWantWriteError)
            return None
        except OSError as error:
            return self._last_words() or self._lost(reason(error))
        return reply

    def _send(self) -> None:
        self.wants_to_write = True
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        self.wants_to_write = False

    @property
    def _has_heard_more(self) -> bool:
        """Whether there is something at hand of which the socket will not tell."""
        return bool(self._heard or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()))

    def expired(self) -> Reply:
        """Return the reply of a server whose time is up."""
        return self._lost("no answer in time")

    def _last_words(self) -> Reply | None:
        """Return what a server said that did not let us finish, and left (RFC 5321 §3.8)."""
        if self._unsent:
            with suppress(OSError):
                while (reply := self._taken()) is None:
                    self._hear()
                return evolve(reply, unsent=True)
        return None

    @property
    def is_quiet(self) -> bool:
        """Whether the server has said nothing unasked, be it that it closes the connection."""
        try:
            self._hear()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return not self._heard
        except OSError:
            return False
        return False

    def _lost(self, why: str) -> Reply:
        return Reply(0, why, unsent=bool(self._unsent))

    def _hear(self) -> None:
        piece = self._sock.recv(4096)
        if not piece:
            raise ConnectionError(_CLOSED)
        self._heard += piece

    def _taken(self) -> Reply | None:
        """Take the reply from what was heard, if it is whole (RFC 5321 §4.2.1)."""
        lines, start = [], 0
        while (end := self._heard.find(b"\n", start, start + _LONGEST_LINE)) >= 0:
            lines.append(self._heard[start:end])
            start = end + 1
            if lines[-1][3:4] != b"-":
                self._heard = self._heard[start:]
                return _reply(lines)
        if len(self._heard) - start >= _LONGEST_LINE or start > _LONGEST_REPLY:
            raise OSError(_ENDLESS)
        return None

    def fileno(self) -> int:
        """Return the number of the socket, for who waits for it."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._smtp.close()


def _reply(lines: list[bytes]) -> Reply:
    code, following = lines[-1][:3], lines[-1][3:4]
    is_code = len(code) == 3 and code.isdigit() and not following.isdigit()
    said = lines[0][4:] if len(lines) == 1 else b" ".join(line[4:] for line in lines)
    return Reply(int(code) if is_code else 0, said)
