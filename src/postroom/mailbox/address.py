"""`POSTROOM_MAILBOX_URL` → where the mailbox of reports is and who logs in."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from pathlib import Path
from urllib.parse import unquote

from attrs import field, frozen

from postroom.errors import Problem, SettingsError

VARIABLE = "POSTROOM_MAILBOX_URL"
# RFC 8314 §7.2 for 993; plain IMAP is for this machine alone.
_PORTS = {"imap": 143, "imaps": 993}
# RFC 3986 §3.2, RFC 5092 §3: in user, password and mailbox, what has a meaning in a URL must be
# written in percents.
_IMAP = re.compile(
    r"(?P<scheme>imaps?)://(?P<user>[^:@/?#\s]+):(?P<password>[^@/?#\s]+)@"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:@/?#\[\]\s]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?P<folder>[^?#;\s]*))?",
    re.IGNORECASE,
)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_EXAMPLE = "imaps://user:password@host/INBOX or maildir:/path"


@frozen
class Server:
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


def read_address(url: str) -> Server | Path:
    """Return the server, or the folder of the Maildir, that `POSTROOM_MAILBOX_URL` names.

    Raises `SettingsError` with one sentence that repeats no part of the value, since any part may
    turn out to be the password.
    """
    if _CONTROLS.search(url):
        raise _unreadable("holds a line break or another control character", f"write {_EXAMPLE}")
    if url.lower().startswith("maildir:"):
        path = url.partition(":")[2].removeprefix("//")
        if not path.startswith("/"):
            raise _unreadable("names no whole path", "write maildir:/var/mail/bounces")
        return Path(path)
    match = _IMAP.fullmatch(url)
    if not match or _BAD_PERCENT.search(url):
        repair = f"write {_EXAMPLE}, with %40 for '@' and %2F for '/' in user and password"
        raise _unreadable("is no address of a mailbox", repair)
    scheme = match["scheme"].lower()
    port = int(match["port"] or _PORTS[scheme])
    if not 0 < port < 65536:
        raise _unreadable("has no possible port", "write one from 1 to 65535, such as 993")
    host = _host(match["host"])
    if scheme == "imap" and not _is_loopback(host):
        repair = "write imaps://; imap:// is for this machine alone"
        raise _unreadable("would send the password unprotected", repair)
    user, password, folder = (_text(match[part] or "") for part in ("user", "password", "folder"))
    return Server(scheme == "imaps", host, port, user, password, _folder(folder or "INBOX"))


def _unreadable(what: str, repair: str) -> SettingsError:
    return SettingsError([Problem(VARIABLE, what=what, repair=repair)])


def _text(quoted: str) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        if not _CONTROLS.search(text := unquote(quoted, errors="strict")):
            return text
    raise _unreadable("has bytes that are no text", "write percents of UTF-8")


def _folder(name: str) -> str:
    if name.isascii():
        return name
    # RFC 3501 §5.1.3 has an encoding of its own for them.
    raise _unreadable("has a mailbox whose name is not plain ASCII", "give it a plain name")


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
