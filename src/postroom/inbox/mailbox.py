"""What every mailbox gives: the messages that nobody has looked at, one at a time."""

from __future__ import annotations

import imaplib
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from attrs import field, frozen

from postroom.errors import MailboxError, Problem, SettingsError
from postroom.settings.urls import MAILBOX_URL_VAR, MailboxServer


@frozen
class MailboxMessage:
    """A message in a mailbox: by what the mailbox knows it, and its beginning.

    `fault` says why it could not be read; then it has no bytes.
    """

    name: str
    data: bytes = field(default=b"", repr=False)
    fault: str = ""


class Mailbox(Protocol):
    """Messages that wait; nothing is ever deleted from it."""

    def waiting(self, cap: int) -> Iterator[MailboxMessage]:
        """Yield those that are neither seen nor flagged, `cap` bytes of each at most.

        Raises `MailboxError`.
        """
        ...

    def settle(self, one: MailboxMessage, *, understood: bool) -> None:
        """Mark a message: as seen if it was understood, else as flagged, for a person to read.

        Raises `MailboxError`.
        """
        ...


_PATIENCE = 60.0
# A server's answer is one line, of which imaplib takes a million bytes.
_AT_ONCE = 2000
_SHOWN = 300


class Imap:
    """One connection to the server; use it within `opened`."""

    def __init__(self, connection: imaplib.IMAP4, server: MailboxServer) -> None:
        self._connection = connection
        self._server = server
        self._number = 0

    def select(self) -> None:
        """Open the server's folder for reading and flagging."""
        quoted = '"' + re.sub(r'(["\\])', r"\\\1", self._server.folder) + '"'
        with _told(self._server):
            answer = self._done(self._connection.select(quoted))
            self._number = int(answer[0] or 0)

    def waiting(self, cap: int) -> Iterator[MailboxMessage]:
        """Yield what is neither seen nor flagged nor deleted, in the server's order."""
        for first in range(1, self._number + 1, _AT_ONCE):
            # An asterisk would stand for the last one even where that is before `first`.
            last = min(first + _AT_ONCE - 1, self._number)
            criteria = (f"{first}:{last}", "UNSEEN", "UNFLAGGED", "UNDELETED")
            with _told(self._server):
                found = self._done(self._connection.uid("SEARCH", *criteria))
            for uid in b" ".join(part for part in found if part).split():
                if (one := self._fetched(uid.decode("ascii"), cap)) is not None:
                    yield one

    def _fetched(self, uid: str, cap: int) -> MailboxMessage | None:
        # PEEK: what we only look at does not become seen (RFC 3501 §6.4.5).
        with _told(self._server):
            status, parts = self._connection.uid("FETCH", uid, f"(BODY.PEEK[]<0.{cap}>)")
        if status != "OK":
            return MailboxMessage(uid, fault=f"cannot be read ({_words(parts)})")
        bodies = [part[1] for part in parts if isinstance(part, tuple)]
        return MailboxMessage(uid, bodies[0]) if bodies else None

    def settle(self, one: MailboxMessage, *, understood: bool) -> None:
        """Set the flag of a message."""
        flag = r"(\Seen)" if understood else r"(\Flagged)"
        with _told(self._server):
            self._done(self._connection.uid("STORE", one.name, "+FLAGS.SILENT", flag))

    @staticmethod
    def _done(answer: tuple[str, list[Any]]) -> list[Any]:
        status, data = answer
        if status != "OK":
            raise imaplib.IMAP4.error(_words(data))
        return data


@contextmanager
def open_imap(server: MailboxServer, trust: ssl.SSLContext | None = None) -> Iterator[Imap]:
    """Connect, log in and open the folder for a block.

    The server's certificate is checked by `trust`, else by the system's store. Raises
    `MailboxError`.
    """
    with _told(server):
        connection = _connected(server, trust)
    try:
        with _told(server):
            _log_in(connection, server)
        mailbox = Imap(connection, server)
        mailbox.select()
        yield mailbox
    finally:
        # Not CLOSE, which would remove what somebody else marked as deleted (RFC 3501 §6.4.2).
        with suppress(imaplib.IMAP4.error, OSError):
            connection.logout()


def _connected(server: MailboxServer, trust: ssl.SSLContext | None) -> imaplib.IMAP4:
    if not server.tls:
        return imaplib.IMAP4(server.host, server.port, timeout=_PATIENCE)
    context = trust or ssl.create_default_context()
    return imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context, timeout=_PATIENCE)


def _log_in(connection: imaplib.IMAP4, server: MailboxServer) -> None:
    if "AUTH=PLAIN" in connection.capabilities:  # RFC 4616 §2: also for what is not ASCII
        answer = f"\0{server.user}\0{server.password}".encode()
        connection.authenticate("PLAIN", lambda _: answer)
    else:
        connection.login(server.user, server.password)


@contextmanager
def _told(server: MailboxServer) -> Iterator[None]:
    """Turn what can go wrong with the server into one line."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        what = f"the certificate is not trusted: {error.verify_message}"
        repair = "correct the host's name, or name its authority's file in SSL_CERT_FILE"
        raise _failed(server, what, repair) from None
    except imaplib.IMAP4.error as error:
        what = f"the server said: {_words([error.args[0] if error.args else ''])}"
        raise _failed(server, what, "check user, password and mailbox") from None
    except UnicodeError:
        what = "the server takes a plain user and password alone"
        raise _failed(server, what, "choose others") from None
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
        raise _failed(server, f"no connection: {reason or error}", "check host and port") from None


def _failed(server: MailboxServer, what: str, repair: str) -> MailboxError:
    return MailboxError([Problem(str(server), message=what, hint=repair)])


def _words(parts: list[Any]) -> str:
    texts = (p.decode("utf-8", "replace") if isinstance(p, bytes) else str(p) for p in parts if p)
    return " ".join(" ".join(texts).split())[:_SHOWN] or "nothing"


_INFO = ":2,"
# Trashed, seen, flagged: somebody has decided about it.
_DONE = frozenset("TSF")


class Maildir:
    """The messages in `new` and `cur` of one folder; its own folders are not looked at."""

    def __init__(self, folder: Path) -> None:
        """Take the Maildir at `folder`, which must be there; raises `SettingsError`."""
        self._folder = folder
        if not all((folder / name).is_dir() for name in ("new", "cur")):
            what, repair = "there is no Maildir at this path", "name the folder that holds new/"
            raise SettingsError([Problem(MAILBOX_URL_VAR, message=what, hint=repair)])

    def waiting(self, cap: int) -> Iterator[MailboxMessage]:
        """Yield what is neither seen nor flagged, oldest name first."""
        for name in self._names():
            try:
                with (self._folder / name).open("rb") as file:
                    data = file.read(cap)
            except FileNotFoundError:
                continue  # another program has moved it
            except OSError as error:
                yield MailboxMessage(name, fault=f"cannot be read ({error.strerror})")
            else:
                yield MailboxMessage(name, data)

    def _names(self) -> list[str]:
        found = [
            (path.name, place)
            for place in ("new", "cur")
            for path in self._folder.joinpath(place).iterdir()
            if path.is_file() and not path.name.startswith(".")
        ]
        return [
            f"{place}/{name}"
            for name, place in sorted(found)
            if place == "new" or not _DONE & set(name.partition(_INFO)[2])
        ]

    def settle(self, one: MailboxMessage, *, understood: bool) -> None:
        """Move a message to `cur` with its flag: one rename, so it is never in two places."""
        place, _, name = one.name.partition("/")
        base, _, flags = name.partition(_INFO)
        flags = "".join(sorted({*flags, "S" if understood else "F"}))
        try:
            (self._folder / place / name).rename(self._folder / "cur" / f"{base}{_INFO}{flags}")
        except FileNotFoundError:
            return
        except OSError as error:
            problem = Problem(one.name, message=f"cannot be moved ({error.strerror})")
            raise MailboxError([problem]) from None


@contextmanager
def open_mailbox(address: MailboxServer | Path) -> Iterator[Mailbox]:
    """Open the mailbox at `address` for a block.

    Raises `SettingsError` if there is none, and `MailboxError`.
    """
    if isinstance(address, Path):
        yield Maildir(address)
        return

    with open_imap(address) as mailbox:
        yield mailbox
