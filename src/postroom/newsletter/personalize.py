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
from urllib.parse import urlsplit

from attrs import field, frozen

from postroom.errors import ContentError, Problem, SettingsError
from postroom.mail.tokens import unsubscribe_address
from postroom.mail.unsubscribe import TOKEN_PLACEHOLDER, preferences_url, unsubscribe_url
from postroom.models import Site
from postroom.newsletter import mime
from postroom.newsletter.mime import check_message, check_parts, encode_body, encode_headers
from postroom.newsletter.render import RenderedEmail
from postroom.settings.site import FILE_NAME

"""As long as a token, and made of characters that a token is made of."""
_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{len(TOKEN_PLACEHOLDER)}}}")
# 128 bits of a key tell all letters apart, and leave the line short.
_KEY_LENGTH = 32
_LABEL = re.compile(r"[a-z0-9]+")
MessagePiece: TypeAlias = bytes | slice
"""Bytes as they are, or a part of the subscriber's token."""


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
class PreparedIssue:
    """A letter of which only the subscriber's own data is missing; made by `prepare`.

    `content` is the message without To and Message-ID, with `TOKEN_PLACEHOLDER` for the token. It
    is all there is: `Prepared(content)` makes the same messages again, in another run or process.
    """

    content: bytes = field(repr=False)
    domain: str = field(init=False)
    """The domain of From, which stands at the right of every Message-ID."""
    _pieces: tuple[MessagePiece, ...] = field(init=False, repr=False, eq=False)

    @domain.default
    def _domain_of_from(self) -> str:
        head = BytesParser(policy=policy.compat32).parsebytes(self.content, headersonly=True)
        return mime.decode_mailbox(str(head["From"]))[1].rpartition("@")[2]

    @_pieces.default
    def _cut(self) -> tuple[MessagePiece, ...]:
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
        if not mime.is_plain_address(address):
            raise ValueError("the address is not one that every mail program takes")
        if not _TOKEN.fullmatch(token):
            raise ValueError("the token is not 22 characters of a URL")
        if not mime.is_plain_address(message_id) or not message_id.endswith(f"@{self.domain}"):
            raise ValueError("the Message-ID is not one of the sender's domain")
        own = f"To: {address}\r\n{mime.encode_plain('Message-ID', f'<{message_id}>')}".encode(
            "ascii"
        )
        secret = token.encode("ascii")
        filled = (secret[p] if isinstance(p, slice) else p for p in self._pieces)
        return b"".join((own, *filled))


def prepare_issue(letter: RenderedEmail, site: Site, date: datetime) -> PreparedIssue:
    """Return `letter` ready for subscribers.

    It was composed with the pages of `TOKEN_PLACEHOLDER` as its links; `date` is the run's
    instant. A message made of it is read back before any other can be made.
    Raises `SettingsError` if the settings lack a sender or a way to leave, and `ContentError` if a
    mail program would read the letter differently, or if the placeholder stands elsewhere.
    """
    if problems := list(missing_mail_settings(site)):
        raise SettingsError(problems)
    _refuse_stray_placeholders(letter, site)
    meant = _meant(letter, site, date)
    prepared = PreparedIssue(encode_headers(meant) + encode_body(letter))
    _try_out(prepared, letter, meant)
    return prepared


def missing_mail_settings(site: Site) -> Iterator[Problem]:
    """Yield what the settings lack for a letter to leave."""
    mail = site.mail
    if not mail.sender:
        repair = f"write from: {site.title} <news@…>"
        yield Problem(FILE_NAME, key="mail.from", message="letters need a sender", hint=repair)
    if not mail.unsubscribe:
        what, repair = "letters need a way to leave", "write where postroom serve answers"
        yield Problem(FILE_NAME, key="mail.unsubscribe", message=what, hint=repair)
    elif urlsplit(mail.unsubscribe).scheme != "https":  # RFC 8058 §3.1
        what = f"'{mail.unsubscribe}' is not https, so no mail program leaves by one click"
        yield Problem(FILE_NAME, key="mail.unsubscribe", message=what, hint="write https")
    if mail.bounces:
        bounces = mime.split_address(mail.bounces)[1]
        local = unsubscribe_address(bounces, TOKEN_PLACEHOLDER).rpartition("@")[0]
        if not mime.is_plain_address(bounces) or len(local) > 64:  # RFC 5321 §4.5.3.1.1
            what, repair = f"'{mail.bounces}' is too long or not plain", "write a shorter one"
            yield Problem(FILE_NAME, key="mail.bounces", message=what, hint=repair)


def _refuse_stray_placeholders(letter: RenderedEmail, site: Site) -> None:
    # In a post, it would hand the reader's token to whoever the post's link leads to.
    rest = f"{letter.html}\n{letter.text}"
    for page in (unsubscribe_url(site), preferences_url(site)):
        rest = rest.replace(page, "").replace(escape(page), "")
    if TOKEN_PLACEHOLDER in rest:
        what = f"holds '{TOKEN_PLACEHOLDER}', which stands for each reader's token"
        raise ContentError([Problem("letter", message=what, hint="take it out of the posts")])


def _meant(letter: RenderedEmail, site: Site, date: datetime) -> Mapping[str, str]:
    leave = f"<{unsubscribe_url(site)}>"
    if site.mail.bounces:
        address = mime.split_address(site.mail.bounces)[1]
        leave += f", <mailto:{unsubscribe_address(address, TOKEN_PLACEHOLDER)}>"
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


def _try_out(prepared: PreparedIssue, letter: RenderedEmail, meant: Mapping[str, str]) -> None:
    token, message_id = "x" * len(TOKEN_PLACEHOLDER), prepared.message_id("x")
    sample = prepared.message("reader@example.com", token, message_id)
    leave = meant["List-Unsubscribe"].replace(TOKEN_PLACEHOLDER, token)
    own = {"To": "reader@example.com", "Message-ID": f"<{message_id}>", "List-Unsubscribe": leave}
    check_message(sample, {**meant, **own})
    html, text = (part.replace(TOKEN_PLACEHOLDER, token) for part in (letter.html, letter.text))
    check_parts(sample, RenderedEmail(letter.subject, html, text))


def _pieces(message: bytes) -> Iterator[MessagePiece]:
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
