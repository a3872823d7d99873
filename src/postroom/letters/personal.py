"""One rendered letter → the message of each subscriber, by putting bytes into place.

Building a message takes two milliseconds, putting an address, a token and a Message-ID into one
that is built takes microseconds. The two ways give the same bytes: a token has as many characters
as the placeholder it stands for, all of which quoted-printable writes as they are (RFC 2045 §6.7),
so no line of the body moves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

from attrs import frozen

from postroom.letters import headers
from postroom.letters.compose import Rendered
from postroom.letters.message import body, read_back
from postroom.model import Site

TOKEN_PLACEHOLDER = "postroom-token-is-here"  # noqa: S105 - stands for tokens, is none
"""As long as a token, and made of characters that a token is made of."""
_LEAVE = "list/leave/"
Piece: TypeAlias = bytes | slice
"""Bytes as they are, or a part of the subscriber's token."""


def unsubscribe_page(site: Site, token: str) -> str:
    """Return the address where the subscriber with `token` leaves."""
    return urljoin(site.mail.unsubscribe.rstrip("/") + "/", _LEAVE + token)


def list_id(site: Site) -> str:
    """Return the value of List-Id, which stays when the domain moves (RFC 2919 §2)."""
    tag = re.match(r"tag:([^,:@]+),", site.id)
    host = tag[1] if tag else urlsplit(site.url).hostname or "localhost"
    return f"<news.{host}>"


@frozen
class Prepared:
    """A letter of which only the subscriber's own data is missing; made by `prepare`."""

    pieces: tuple[Piece, ...]

    def message(self, address: str, token: str, message_id: str) -> bytes:
        """Return the message to `address`, whose links and fields carry `token`.

        `address` is plain ASCII; the token has as many characters as the placeholder.
        """
        secret = token.encode("ascii")
        if len(secret) != len(TOKEN_PLACEHOLDER):
            raise ValueError("a token has 22 characters")
        own = f"To: {address}\r\nMessage-ID: <{message_id}>\r\n".encode("ascii")
        if own.count(b"\r\n") != 2 or b"\0" in own:
            raise ValueError("an address or Message-ID holds a line break or NUL")
        filled = (secret[p] if isinstance(p, slice) else p for p in self.pieces)
        return b"".join((own, *filled))


def prepare(letter: Rendered, site: Site, date: datetime) -> Prepared:
    """Return `letter`, composed with `TOKEN_PLACEHOLDER` in its links, ready for subscribers.

    `date` is the run's instant. The first message is read back before any can be made.
    Raises `ContentError` if a mail program would read the letter differently, `ValueError` if the
    settings lack a sender.
    """
    fields = _fields(letter, site, date)
    head = "".join(text for _, text in fields).encode("ascii")
    prepared = Prepared(_pieces(head + body(letter)))
    sample = prepared.message("reader@example.com", "x" * len(TOKEN_PLACEHOLDER), "x@example.com")
    meant: Mapping[str, str] = {
        "From": site.mail.sender,
        "To": "reader@example.com",
        "Subject": letter.subject,
    }
    names = {name for name, _ in fields}
    read_back(
        sample, meant, frozenset(names | {"To", "Message-ID", "MIME-Version", "Content-Type"})
    )
    return prepared


def _fields(letter: Rendered, site: Site, date: datetime) -> list[tuple[str, str]]:
    page = unsubscribe_page(site, TOKEN_PLACEHOLDER)
    local, _, domain = site.mail.bounces.partition("@")
    leave = f", <mailto:{local}+leave-{TOKEN_PLACEHOLDER}@{domain}>" if domain else ""
    fields = [
        ("From", headers.mailbox("From", site.mail.sender)),
        ("Subject", headers.words("Subject", letter.subject)),
        ("Date", headers.plain("Date", format_datetime(date))),
        ("List-Id", headers.plain("List-Id", list_id(site))),
        # RFC 8058 §3.1: one https address, and the field that says one click is enough.
        ("List-Unsubscribe", headers.plain("List-Unsubscribe", f"<{page}>{leave}")),
        (
            "List-Unsubscribe-Post",
            headers.plain("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ),
    ]
    if site.mail.reply_to:
        fields.insert(1, ("Reply-To", headers.mailbox("Reply-To", site.mail.reply_to)))
    return fields


def _pieces(message: bytes) -> tuple[Piece, ...]:
    """Cut a message at its placeholders, also where a soft line break goes through one."""
    soft = rb"((?:=\r\n)?)".join(re.escape(bytes([c])) for c in TOKEN_PLACEHOLDER.encode())
    pieces: list[Piece] = []
    end = 0
    for match in re.finditer(soft, message):
        pieces.append(message[end : match.start()])
        start = 0
        for number, gap in enumerate(match.groups(), 1):
            if gap:
                pieces += [slice(start, number), gap]
                start = number
        pieces.append(slice(start, len(TOKEN_PLACEHOLDER)))
        end = match.end()
    return (*pieces, message[end:])
