"""Read incoming messages from a mailbox, over IMAP or in a Maildir."""

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
    """A message in a mailbox: its UID or file name there, and its first bytes.

    If the message could not be read, `error` says why and `data` is empty.
    """

    name: str
    data: bytes = field(default=b"", repr=False)
    error: str = ""


class Mailbox(Protocol):
    """A source of messages; reading and marking them deletes none."""

    def unread(self, max_bytes: int) -> Iterator[MailboxMessage]:
        """Yield messages that are neither seen nor flagged, at most `max_bytes` of each.

        Raises `MailboxError`.
        """
        ...

    def mark(self, message: MailboxMessage, *, understood: bool) -> None:
        """Mark a message as seen if it was understood, otherwise as flagged for a person.

        Raises `MailboxError`.
        """
        ...


_TIMEOUT = 60.0
# How many messages a search covers: its result is one line, of which imaplib takes 1 MB.
_SEARCH_SIZE = 2000
_MAX_LENGTH = 300


class Imap:
    """A folder on an IMAP server; `open_imap` makes one."""

    def __init__(self, connection: imaplib.IMAP4, server: MailboxServer) -> None:
        self._connection = connection
        self._server = server
        self._count = 0

    def select(self) -> None:
        """Open the folder for reading and flagging."""
        quoted = '"' + re.sub(r'(["\\])', r"\\\1", self._server.folder) + '"'
        with _readable_errors(self._server):
            answer = self._require_ok(self._connection.select(quoted))
            self._count = int(answer[0] or 0)

    def unread(self, max_bytes: int) -> Iterator[MailboxMessage]:
        """Yield messages that are neither seen, flagged nor deleted, in the server's order."""
        for first in range(1, self._count + 1, _SEARCH_SIZE):
            # Not an asterisk: it means the last message even if that is before `first`.
            last = min(first + _SEARCH_SIZE - 1, self._count)
            criteria = (f"{first}:{last}", "UNSEEN", "UNFLAGGED", "UNDELETED")
            with _readable_errors(self._server):
                found = self._require_ok(self._connection.uid("SEARCH", *criteria))
            for uid in b" ".join(part for part in found if part).split():
                if message := self._fetch(uid.decode("ascii"), max_bytes):
                    yield message

    def _fetch(self, uid: str, max_bytes: int) -> MailboxMessage | None:
        # PEEK does not mark the message as seen (RFC 3501 §6.4.5).
        with _readable_errors(self._server):
            status, parts = self._connection.uid("FETCH", uid, f"(BODY.PEEK[]<0.{max_bytes}>)")
        if status != "OK":
            return MailboxMessage(uid, error=f"cannot be read ({_server_text(parts)})")
        bodies = [part[1] for part in parts if isinstance(part, tuple)]
        return MailboxMessage(uid, bodies[0]) if bodies else None

    def mark(self, message: MailboxMessage, *, understood: bool) -> None:
        """Set the flag `\\Seen` if the message was understood, otherwise `\\Flagged`."""
        flag = r"(\Seen)" if understood else r"(\Flagged)"
        with _readable_errors(self._server):
            self._require_ok(self._connection.uid("STORE", message.name, "+FLAGS.SILENT", flag))

    @staticmethod
    def _require_ok(answer: tuple[str, list[Any]]) -> list[Any]:
        status, data = answer
        if status != "OK":
            raise imaplib.IMAP4.error(_server_text(data))
        return data


@contextmanager
def open_imap(server: MailboxServer, trust: ssl.SSLContext | None = None) -> Iterator[Imap]:
    """Connect to an IMAP server, log in and open the folder; log out at the end of the block.

    The server's certificate is verified against `trust`, by default against the certificates that
    the system trusts. Raises `MailboxError`.
    """
    with _readable_errors(server):
        connection = _connect(server, trust)
    try:
        with _readable_errors(server):
            _log_in(connection, server)
        mailbox = Imap(connection, server)
        mailbox.select()
        yield mailbox
    finally:
        # Not CLOSE, which removes messages that others marked as deleted (RFC 3501 §6.4.2).
        with suppress(imaplib.IMAP4.error, OSError):
            connection.logout()


def _connect(server: MailboxServer, trust: ssl.SSLContext | None) -> imaplib.IMAP4:
    if not server.tls:
        return imaplib.IMAP4(server.host, server.port, timeout=_TIMEOUT)
    context = trust or ssl.create_default_context()
    return imaplib.IMAP4_SSL(server.host, server.port, ssl_context=context, timeout=_TIMEOUT)


def _log_in(connection: imaplib.IMAP4, server: MailboxServer) -> None:
    if "AUTH=PLAIN" in connection.capabilities:  # RFC 4616 §2: not only ASCII
        answer = f"\0{server.user}\0{server.password}".encode()
        connection.authenticate("PLAIN", lambda _: answer)
    else:
        connection.login(server.user, server.password)


@contextmanager
def _readable_errors(server: MailboxServer) -> Iterator[None]:
    """Turn every error of the IMAP connection into a `MailboxError` with a one-line message."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        message = f"the certificate is not trusted: {error.verify_message}"
        hint = "correct the host name, or set SSL_CERT_FILE to the CA's certificate"
        raise _error(server, message, hint) from None
    except imaplib.IMAP4.error as error:
        message = f"the server said: {_server_text([error.args[0] if error.args else ''])}"
        raise _error(server, message, "check user, password and mailbox") from None
    except UnicodeError:
        message = "the server accepts only ASCII user names and passwords"
        raise _error(server, message, "choose ASCII ones") from None
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
        raise _error(
            server, f"the connection failed: {reason or error}", "check host and port"
        ) from None


def _error(server: MailboxServer, message: str, hint: str) -> MailboxError:
    return MailboxError([Problem(str(server), message=message, hint=hint)])


def _server_text(parts: list[Any]) -> str:
    texts = (p.decode("utf-8", "replace") if isinstance(p, bytes) else str(p) for p in parts if p)
    return " ".join(" ".join(texts).split())[:_MAX_LENGTH] or "nothing"


_INFO = ":2,"
# Trashed, seen, flagged: a person or program has dealt with it.
_DECIDED = frozenset("TSF")


class Maildir:
    """The messages in `new` and `cur` of a Maildir, without its subfolders."""

    def __init__(self, folder: Path) -> None:
        """Use the Maildir at `folder`; raises `SettingsError` if there is none."""
        self._folder = folder
        if not all((folder / name).is_dir() for name in ("new", "cur")):
            message = "there is no Maildir at this path"
            hint = "give the folder that contains new/ and cur/"
            raise SettingsError([Problem(MAILBOX_URL_VAR, message=message, hint=hint)])

    def unread(self, max_bytes: int) -> Iterator[MailboxMessage]:
        """Yield messages that are neither seen, flagged nor trashed, ordered by name."""
        for name in self._names():
            try:
                with (self._folder / name).open("rb") as file:
                    data = file.read(max_bytes)
            except FileNotFoundError:
                continue  # another program has moved it
            except OSError as error:
                yield MailboxMessage(name, error=f"cannot be read ({error.strerror})")
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
            if place == "new" or not _DECIDED & set(name.partition(_INFO)[2])
        ]

    def mark(self, message: MailboxMessage, *, understood: bool) -> None:
        """Move a message to `cur` and set its flag, with a single rename."""
        place, _, name = message.name.partition("/")
        base, _, flags = name.partition(_INFO)
        flags = "".join(sorted({*flags, "S" if understood else "F"}))
        try:
            (self._folder / place / name).rename(self._folder / "cur" / f"{base}{_INFO}{flags}")
        except FileNotFoundError:
            return
        except OSError as error:
            problem = Problem(message.name, message=f"cannot be moved ({error.strerror})")
            raise MailboxError([problem]) from None


@contextmanager
def open_mailbox(location: MailboxServer | Path) -> Iterator[Mailbox]:
    """Open the IMAP mailbox or the Maildir at `location` for the duration of a `with` block.

    Raises `SettingsError` if a path is not a Maildir, and `MailboxError` if an IMAP server fails.
    """
    if isinstance(location, Path):
        yield Maildir(location)
        return
    with open_imap(location) as mailbox:
        yield mailbox
