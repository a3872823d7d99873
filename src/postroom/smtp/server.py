"""`POSTROOM_SMTP_URL` → where the mail server is and who logs in."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Literal, TypeAlias, cast
from urllib.parse import unquote

from attrs import field, frozen

from postroom.errors import Problem, SettingsError

VARIABLE = "POSTROOM_SMTP_URL"
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
class Server:
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


def read_server(url: str | None) -> Server:
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
    return Server(cast("Scheme", scheme), host, port, user, password)


def _unreadable(what: str, repair: str) -> SettingsError:
    return SettingsError([Problem(VARIABLE, what=what, repair=repair)])


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
