"""One rendered letter → the message of each subscriber, by putting bytes into place.

Building a message takes two milliseconds, putting an address, a token and a Message-ID into one
that is built takes microseconds. The two ways give the same bytes: a token has as many characters
as the placeholder it stands for, all of which quoted-printable writes as they are (RFC 2045 §6.7),
so no line of the body moves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email import policy
from email.parser import BytesParser
from email.utils import format_datetime
from html import escape
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

from attrs import field, frozen

from postroom.config import FILE_NAME
from postroom.errors import ContentError, Problem, SettingsError
from postroom.letters import headers
from postroom.letters.compose import Rendered
from postroom.letters.message import body, head, read_back, read_back_parts
from postroom.model import Site
from postroom.tokens import leave_address

TOKEN_PLACEHOLDER = "postroom-token-is-here"  # noqa: S105 - stands for tokens, is none
"""As long as a token, and made of characters that a token is made of."""
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{len(TOKEN_PLACEHOLDER)}}}")
_LEAVE, _PREFER = "list/leave/", "list/preferences/"
# 128 bits of a key tell all letters apart, and leave the line short.
_KEY_LENGTH = 32
_LABEL = re.compile(r"[a-z0-9]+")
Piece: TypeAlias = bytes | slice
"""Bytes as they are, or a part of the subscriber's token."""


def unsubscribe_page(site: Site, token: str = TOKEN_PLACEHOLDER) -> str:
    """Return the address where the subscriber with `token` leaves, by one POST (RFC 8058)."""
    return urljoin(site.mail.unsubscribe.rstrip("/") + "/", _LEAVE + token)


def preferences_page(site: Site, token: str = TOKEN_PLACEHOLDER) -> str:
    """Return the address where the subscriber with `token` chooses what to get."""
    return urljoin(site.mail.unsubscribe.rstrip("/") + "/", _PREFER + token)


def list_id(site: Site) -> str:
    """Return the value of List-Id (RFC 2919 §3).

    It is made of the settings' `id`, which stays when the domain moves. An id without a domain
    becomes a name below `localhost`, as RFC 2919 §3 wants for lists that have none.
    """
    tag = re.match(r"tag:(?:[^,:@]*@)?([^,:@]+),[^:]*:(.*)", site.id)
    host, specific = tag.groups() if tag else (urlsplit(site.id).hostname or "", "")
    label = "-".join(_LABEL.findall(specific.lower())) or "news"
    if host:
        return f"<{label}.{host.lower()}>"
    return f"<news.{hashlib.sha256(site.id.encode()).hexdigest()[:32]}.localhost>"


@frozen
class Prepared:
    """A letter of which only the subscriber's own data is missing; made by `prepare`.

    `content` is the message without To and Message-ID, with `TOKEN_PLACEHOLDER` for the token. It
    is all there is: `Prepared(content)` makes the same messages again, in another run or process.
    """

    content: bytes = field(repr=False)
    domain: str = field(init=False)
    """The domain of From, which stands at the right of every Message-ID."""
    _pieces: tuple[Piece, ...] = field(init=False, repr=False, eq=False)

    @domain.default
    def _domain_of_from(self) -> str:
        head = BytesParser(policy=policy.compat32).parsebytes(self.content, headersonly=True)
        return headers.decoded_mailbox(str(head["From"]))[1].rpartition("@")[2]

    @_pieces.default
    def _cut(self) -> tuple[Piece, ...]:
        return tuple(_pieces(self.content))

    def message_id(self, key: str) -> str:
        """Return the Message-ID for `key`, which says which letter it is and to whom.

        It is the same whenever the letter is tried again, so that who gets it twice sees it once.
        """
        return f"{key[:_KEY_LENGTH]}@{self.domain}"

    def message(self, address: str, token: str, message_id: str) -> bytes:
        """Return the message to `address`, whose links and fields carry `token`.

        Raises `ValueError`, which repeats none of the three, for an address that would not stand
        alone in its field, for what cannot be a token and for a Message-ID of another domain.
        """
        if not headers.is_plain_address(address):
            raise ValueError("the address is not one that every mail program takes")
        if not _TOKEN.fullmatch(token):
            raise ValueError("the token is not 22 characters of a URL")
        if not headers.is_plain_address(message_id) or not message_id.endswith(f"@{self.domain}"):
            raise ValueError("the Message-ID is not one of the sender's domain")
        own = f"To: {address}\r\n{headers.plain('Message-ID', f'<{message_id}>')}".encode("ascii")
        secret = token.encode("ascii")
        filled = (secret[p] if isinstance(p, slice) else p for p in self._pieces)
        return b"".join((own, *filled))


def prepare(letter: Rendered, site: Site, date: datetime) -> Prepared:
    """Return `letter` ready for subscribers.

    It was composed with the pages of `TOKEN_PLACEHOLDER` as its links; `date` is the run's
    instant. A message made of it is read back before any other can be made.
    Raises `SettingsError` if the settings lack a sender or a way to leave, and `ContentError` if a
    mail program would read the letter differently, or if the placeholder stands elsewhere.
    """
    if problems := list(lacking(site)):
        raise SettingsError(problems)
    _refuse_stray_placeholders(letter, site)
    meant = _meant(letter, site, date)
    prepared = Prepared(head(meant) + body(letter))
    _try_out(prepared, letter, meant)
    return prepared


def lacking(site: Site) -> Iterator[Problem]:
    """Yield what the settings lack for a letter to leave."""
    mail = site.mail
    if not mail.sender:
        repair = f"write from: {site.title} <news@…>"
        yield Problem(FILE_NAME, key="mail.from", what="letters need a sender", repair=repair)
    if not mail.unsubscribe:
        what, repair = "letters need a way to leave", "write where postroom serve answers"
        yield Problem(FILE_NAME, key="mail.unsubscribe", what=what, repair=repair)
    elif urlsplit(mail.unsubscribe).scheme != "https":  # RFC 8058 §3.1
        what = f"'{mail.unsubscribe}' is not https, so no mail program leaves by one click"
        yield Problem(FILE_NAME, key="mail.unsubscribe", what=what, repair="write https")
    if mail.bounces:
        bounces = headers.parted(mail.bounces)[1]
        local = leave_address(bounces, TOKEN_PLACEHOLDER).rpartition("@")[0]
        if not headers.is_plain_address(bounces) or len(local) > 64:  # RFC 5321 §4.5.3.1.1
            what, repair = f"'{mail.bounces}' is too long or not plain", "write a shorter one"
            yield Problem(FILE_NAME, key="mail.bounces", what=what, repair=repair)


def _refuse_stray_placeholders(letter: Rendered, site: Site) -> None:
    # In a post, it would hand the reader's token to whoever the post's link leads to.
    rest = f"{letter.html}\n{letter.text}"
    for page in (unsubscribe_page(site), preferences_page(site)):
        rest = rest.replace(page, "").replace(escape(page), "")
    if TOKEN_PLACEHOLDER in rest:
        what = f"holds '{TOKEN_PLACEHOLDER}', which stands for each reader's token"
        raise ContentError([Problem("letter", what=what, repair="take it out of the posts")])


def _meant(letter: Rendered, site: Site, date: datetime) -> Mapping[str, str]:
    leave = f"<{unsubscribe_page(site)}>"
    if site.mail.bounces:
        address = headers.parted(site.mail.bounces)[1]
        leave += f", <mailto:{leave_address(address, TOKEN_PLACEHOLDER)}>"
    answers = {"Reply-To": site.mail.reply_to} if site.mail.reply_to else {}
    return {
        "From": site.mail.sender,
        **answers,
        "Subject": letter.subject,
        "Date": format_datetime(date),
        "List-Id": list_id(site),
        # RFC 8058 §3.1: one https address, and the field that says one click is enough.
        "List-Unsubscribe": leave,
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def _try_out(prepared: Prepared, letter: Rendered, meant: Mapping[str, str]) -> None:
    token, message_id = "x" * len(TOKEN_PLACEHOLDER), prepared.message_id("x")
    sample = prepared.message("reader@example.com", token, message_id)
    leave = meant["List-Unsubscribe"].replace(TOKEN_PLACEHOLDER, token)
    own = {"To": "reader@example.com", "Message-ID": f"<{message_id}>", "List-Unsubscribe": leave}
    read_back(sample, {**meant, **own})
    html, text = (part.replace(TOKEN_PLACEHOLDER, token) for part in (letter.html, letter.text))
    read_back_parts(sample, Rendered(letter.subject, html, text))


def _pieces(message: bytes) -> Iterator[Piece]:
    """Cut a message at its placeholders, also where a soft line break goes through one."""
    soft = rb"((?:=\r\n)?)".join(re.escape(bytes([c])) for c in TOKEN_PLACEHOLDER.encode())
    end = 0
    for match in re.finditer(soft, message):
        yield message[end : match.start()]
        start = 0
        for number, gap in enumerate(match.groups(), 1):
            if gap:
                yield slice(start, number)
                yield gap
                start = number
        yield slice(start, len(TOKEN_PLACEHOLDER))
        end = match.end()
    yield message[end:]
