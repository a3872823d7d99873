"""`POSTROOM_SMTP_URL` → where the mail server is and who logs in."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from pathlib import Path
from typing import Literal, TypeAlias, cast
from urllib.parse import unquote

from attrs import field, frozen

from postroom.errors import Problem, SettingsError

SMTP_URL_VAR = "POSTROOM_SMTP_URL"
Scheme: TypeAlias = Literal["smtp", "smtp+starttls", "smtps"]

# RFC 8314 §7.3 for 587 and 465; plain SMTP is for this machine alone.
_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
# RFC 3986 §3.2: in user and password, '@', '/', '?', '#' and blanks must be written in percents.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z+]+)://"
    r"(?:(?P<user>[^:@/?#\s]*)(?::(?P<password>[^@/?#\s]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:@/?#\[\]\s]+)(?::(?P<port>[0-9]{1,5}))?/?"
)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_EXAMPLE = "smtp+starttls://user:password@host:587"


@frozen
class SmtpServer:
    """Where the mail server is, how the connection is protected, and who logs in.

    Its text names neither user nor password; its representation hides the password.
    """

    scheme: Scheme
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Return `smtps://host:465`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_smtp_url(url: str | None) -> SmtpServer:
    """Return the server that the value of `POSTROOM_SMTP_URL` names.

    Raises `SettingsError` with one sentence that repeats no part of the value, since any part may
    turn out to be the password.
    """
    if not url:
        raise _unreadable("is not set", f"set it to {_EXAMPLE}")
    match = _URL.fullmatch(url)
    if not match or _BAD_PERCENT.search(url):
        repair = f"write {_EXAMPLE}, with %40 for '@' and %2F for '/' in user and password"
        raise _unreadable("is no address of a mail server", repair)
    scheme = match["scheme"].lower()
    if scheme not in _PORTS:
        raise _unreadable("has an unknown scheme", "begin it with smtp+starttls:// or smtps://")
    port = int(match["port"] or _PORTS[scheme])
    if not 0 < port < 65536:
        raise _unreadable("has no possible port", "write one from 1 to 65535, such as 587")
    host = _host(match["host"])
    if scheme == "smtp" and not _is_loopback(host):
        repair = "write smtp+starttls:// or smtps://; smtp:// is for this machine alone"
        raise _unreadable("would send passwords and letters unprotected", repair)
    user, password = (_text(match[part] or "") for part in ("user", "password"))
    if bool(user) != bool(password):
        raise _unreadable("has a user without a password, or the reverse", f"write {_EXAMPLE}")
    return SmtpServer(cast("Scheme", scheme), host, port, user, password)


def _unreadable(what: str, repair: str) -> SettingsError:
    return SettingsError([Problem(SMTP_URL_VAR, message=what, hint=repair)])


def _text(quoted: str) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        # RFC 4616 §2: NUL parts user and password, and neither holds one.
        if not _CONTROLS.search(text := unquote(quoted, errors="strict")):
            return text
    raise _unreadable("has bytes in user or password that are no text", "write them in UTF-8")


def _host(written: str) -> str:
    try:
        if written.startswith("["):
            return str(ipaddress.IPv6Address(written[1:-1]))
        return written.encode("idna").decode("ascii").lower()
    except ValueError:
        raise _unreadable("has no possible host", f"write {_EXAMPLE}") from None


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    # RFC 6761 §6.3
    return host == "localhost"


MAILBOX_URL_VAR = "POSTROOM_MAILBOX_URL"
# RFC 8314 §7.2 for 993; plain IMAP is for this machine alone.
_PORTS_ADDRESS = {"imap": 143, "imaps": 993}
# RFC 3986 §3.2, RFC 5092 §3: in user, password and mailbox, what has a meaning in a URL must be
# written in percents.
_IMAP = re.compile(
    r"(?P<scheme>imaps?)://(?P<user>[^:@/?#\s]+):(?P<password>[^@/?#\s]+)@"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:@/?#\[\]\s]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?P<folder>[^?#;\s]*))?",
    re.IGNORECASE,
)
_EXAMPLE_ADDRESS = "imaps://user:password@host/INBOX or maildir:/path"


@frozen
class MailboxServer:
    """A mailbox on an IMAP server.

    Its text names neither user nor password; its representation hides the password.
    """

    tls: bool
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    folder: str = "INBOX"

    def __str__(self) -> str:
        """Return `imaps://host:993/INBOX`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"imap{'s' * self.tls}://{host}:{self.port}/{self.folder}"


def parse_mailbox_url(url: str) -> MailboxServer | Path:
    """Return the server, or the folder of the Maildir, that `POSTROOM_MAILBOX_URL` names.

    Raises `SettingsError` with one sentence that repeats no part of the value, since any part may
    turn out to be the password.
    """
    if _CONTROLS.search(url):
        raise _unreadable_address(
            "holds a line break or another control character", f"write {_EXAMPLE_ADDRESS}"
        )
    if url.lower().startswith("maildir:"):
        path = url.partition(":")[2].removeprefix("//")
        if not path.startswith("/"):
            raise _unreadable_address("names no whole path", "write maildir:/var/mail/bounces")
        return Path(path)
    match = _IMAP.fullmatch(url)
    if not match or _BAD_PERCENT.search(url):
        repair = f"write {_EXAMPLE_ADDRESS}, with %40 for '@' and %2F for '/' in user and password"
        raise _unreadable_address("is no address of a mailbox", repair)
    scheme = match["scheme"].lower()
    port = int(match["port"] or _PORTS_ADDRESS[scheme])
    if not 0 < port < 65536:
        raise _unreadable_address("has no possible port", "write one from 1 to 65535, such as 993")
    host = _host_address(match["host"])
    if scheme == "imap" and not _is_loopback(host):
        repair = "write imaps://; imap:// is for this machine alone"
        raise _unreadable_address("would send the password unprotected", repair)
    user, password, folder = (
        _text_address(match[part] or "") for part in ("user", "password", "folder")
    )
    return MailboxServer(scheme == "imaps", host, port, user, password, _folder(folder or "INBOX"))


def _unreadable_address(what: str, repair: str) -> SettingsError:
    return SettingsError([Problem(MAILBOX_URL_VAR, message=what, hint=repair)])


def _text_address(quoted: str) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        if not _CONTROLS.search(text := unquote(quoted, errors="strict")):
            return text
    raise _unreadable_address("has bytes that are no text", "write percents of UTF-8")


def _folder(name: str) -> str:
    if name.isascii():
        return name
    # RFC 3501 §5.1.3 has an encoding of its own for them.
    raise _unreadable_address("has a mailbox whose name is not plain ASCII", "give it a plain name")


def _host_address(written: str) -> str:
    try:
        if written.startswith("["):
            return str(ipaddress.IPv6Address(written[1:-1]))
        return written.encode("idna").decode("ascii").lower()
    except ValueError:
        raise _unreadable_address("has no possible host", f"write {_EXAMPLE_ADDRESS}") from None
