"""Parse the URLs of mail servers: `smtp://`, `imap://`, `maildir:` and their TLS variants.

No message repeats a part of a URL, since any part may turn out to be the password.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, cast
from urllib.parse import unquote

from attrs import field, frozen

from postroom.errors import Problem, SettingsError

SMTP_URL_VAR = "POSTROOM_SMTP_URL"
MAILBOX_URL_VAR = "POSTROOM_MAILBOX_URL"
Scheme: TypeAlias = Literal["smtp", "smtp+starttls", "smtps"]

# RFC 3986 §3.2, RFC 5092 §3: user, password and mailbox percent-encode '@', '/', '?', '#' and
# white space.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z+]+)://"
    r"(?:(?P<user>[^:@/?#\s]*)(?::(?P<password>[^@/?#\s]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:@/?#\[\]\s]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?P<path>[^?#;\s]*))?"
)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


@frozen
class _UrlKind:
    """One kind of server URL: its environment variable, and the words for messages about it.

    `ports` holds the default port of each scheme. The first scheme has no TLS and is
    therefore allowed only for this machine; `exposes` names the data that it would not encrypt.
    """

    variable: str
    server: str
    example: str
    ports: Mapping[str, int]
    exposes: str
    protected: str

    def error(self, message: str, hint: str) -> SettingsError:
        """Return an error about the value of the environment variable."""
        return SettingsError([Problem(self.variable, message=message, hint=hint)])

    def not_a_url(self) -> SettingsError:
        """Return the error for a value that is no URL of this kind."""
        hint = f"write {self.example}, with %40 for '@' and %2F for '/' in user and password"
        return self.error(f"is not the URL of {self.server}", hint)


# RFC 8314 §7.3 for ports 587 and 465.
_SMTP = _UrlKind(
    variable=SMTP_URL_VAR,
    server="an SMTP server",
    example="smtp+starttls://user:password@host:587",
    ports={"smtp": 25, "smtp+starttls": 587, "smtps": 465},
    exposes="passwords and emails",
    protected="smtp+starttls:// or smtps://",
)
# RFC 8314 §7.2 for port 993.
_IMAP = _UrlKind(
    variable=MAILBOX_URL_VAR,
    server="a mailbox",
    example="imaps://user:password@host/INBOX or maildir:/path",
    ports={"imap": 143, "imaps": 993},
    exposes="the password",
    protected="imaps://",
)


@frozen
class _ServerUrl:
    """The decoded parts of a URL; an absent part is empty."""

    scheme: str
    host: str
    port: int
    user: str
    password: str
    path: str


def _parse_server_url(url: str, kind: _UrlKind) -> _ServerUrl:
    match = _URL.fullmatch(url)
    if not match or _BAD_PERCENT.search(url):
        raise kind.not_a_url()
    scheme = match["scheme"].lower()
    if scheme not in kind.ports:
        raise kind.error("has an unknown scheme", f"begin it with {kind.protected}")
    port = int(match["port"] or kind.ports[scheme])
    if not 0 < port < 65536:
        example = list(kind.ports.values())[1]
        raise kind.error("has an impossible port", f"write one from 1 to 65535, such as {example}")
    host = _parse_host(match["host"], kind)
    plain = next(iter(kind.ports))
    if scheme == plain and not _is_loopback(host):
        hint = f"write {kind.protected}; {plain}:// is for this machine alone"
        raise kind.error(f"would send {kind.exposes} unprotected", hint)
    user, password, path = (
        _decode(match[part] or "", kind) for part in ("user", "password", "path")
    )
    return _ServerUrl(scheme, host, port, user, password, path)


def _parse_host(written: str, kind: _UrlKind) -> str:
    try:
        if written.startswith("["):
            return str(ipaddress.IPv6Address(written[1:-1]))
        return written.encode("idna").decode("ascii").lower()
    except ValueError:
        raise kind.error("has an impossible host", f"write {kind.example}") from None


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    # RFC 6761 §6.3
    return host == "localhost"


def _decode(quoted: str, kind: _UrlKind) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        # RFC 4616 §2: NUL separates user and password, and neither holds one.
        if not _CONTROLS.search(text := unquote(quoted, errors="strict")):
            return text
    raise kind.error("has percent-encoded bytes that are not text", "percent-encode UTF-8")


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@frozen
class SmtpServer:
    """An SMTP server, the protection of its connections, and the login.

    Its text names neither user nor password; its representation hides the password.
    """

    scheme: Scheme
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Return `smtps://host:465`."""
        return f"{self.scheme}://{_bracket(self.host)}:{self.port}"


def parse_smtp_url(url: str | None) -> SmtpServer:
    """Return the server in `url`, the value of `POSTROOM_SMTP_URL`.

    Raises `SettingsError` if there is no value or it is not the URL of an SMTP server.
    """
    if not url:
        raise _SMTP.error("is not set", f"set it to {_SMTP.example}")
    server = _parse_server_url(url, _SMTP)
    if server.path:
        raise _SMTP.not_a_url()
    if bool(server.user) != bool(server.password):
        hint = f"write {_SMTP.example}"
        raise _SMTP.error("has a user without a password, or the reverse", hint)
    scheme = cast("Scheme", server.scheme)
    return SmtpServer(scheme, server.host, server.port, server.user, server.password)


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
        return f"imap{'s' * self.tls}://{_bracket(self.host)}:{self.port}/{self.folder}"


def parse_mailbox_url(url: str) -> MailboxServer | Path:
    """Return the server, or the folder of the Maildir, in the value of `POSTROOM_MAILBOX_URL`.

    Raises `SettingsError` if the value is not the URL of a mailbox.
    """
    if _CONTROLS.search(url):
        raise _IMAP.error("has a line break or control character", f"write {_IMAP.example}")
    if url.lower().startswith("maildir:"):
        path = url.partition(":")[2].removeprefix("//")
        if not path.startswith("/"):
            raise _IMAP.error("has no absolute path", "write maildir:/var/mail/bounces")
        return Path(path)
    server = _parse_server_url(url, _IMAP)
    if not (server.user and server.password):
        raise _IMAP.not_a_url()
    if not server.path.isascii():
        # RFC 3501 §5.1.3 has an encoding of its own for them.
        raise _IMAP.error("has a mailbox name that is not ASCII", "rename the mailbox")
    folder = server.path or "INBOX"
    tls = server.scheme == "imaps"
    return MailboxServer(tls, server.host, server.port, server.user, server.password, folder)
