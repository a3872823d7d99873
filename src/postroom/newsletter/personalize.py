"""Make the message of each subscriber by replacing placeholders in the finished issue.

Building a message takes two milliseconds; replacing the placeholders in a finished message takes
microseconds. Both ways give the same bytes: a token is exactly as long as its placeholder, and
quoted-printable does not encode any of its characters (RFC 2045 §6.7), so no line break moves.
Email addresses carry the token in another form, which has a placeholder of its own.
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
from postroom.mail.tokens import token_in_address, unsubscribe_address
from postroom.mail.unsubscribe import TOKEN_PLACEHOLDER, preferences_url, unsubscribe_url
from postroom.models import Site
from postroom.newsletter import mime
from postroom.newsletter.mime import check_message, check_parts, encode_body, encode_headers
from postroom.newsletter.render import RenderedEmail
from postroom.newsletter.requirements import missing_mail_settings

_TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{len(TOKEN_PLACEHOLDER)}}}")
# 128 bits of a key keep Message-IDs unique and the line short.
_KEY_LENGTH = 32
_SAMPLE_ADDRESS = "subscriber@example.com"
_LABEL = re.compile(r"[a-z0-9]+")
MessagePiece: TypeAlias = bytes | slice
"""Fixed bytes, or a slice of the subscriber's token followed by its form in email addresses."""
_ADDRESS_PLACEHOLDER = token_in_address(TOKEN_PLACEHOLDER)
# The order is that of the values in `message`.
_PLACEHOLDERS = (TOKEN_PLACEHOLDER, _ADDRESS_PLACEHOLDER)


def list_id(site: Site) -> str:
    """Return the value of List-Id (RFC 2919 §3).

    The value is made from the setting `id`, which stays the same when the site moves to another
    domain. An id without a domain becomes a name that ends with `.localhost`, as RFC 2919 §3
    requires for lists without a domain.
    """
    tag = re.match(r"tag:(?:[^,:@]*@)?([^,:@]+),[^:]*:(.*)", site.id)
    host, specific = tag.groups() if tag else (urlsplit(site.id).hostname or "", "")
    label = "-".join(_LABEL.findall(specific.lower())) or "news"
    if host:
        return f"<{label}.{host.lower()}>"
    return f"<news.{hashlib.sha256(site.id.encode()).hexdigest()[:32]}.localhost>"


@frozen
class PreparedIssue:
    """A rendered issue that lacks only each subscriber's own data; made by `prepare_issue`.

    `content` is the message without To and Message-ID, with `TOKEN_PLACEHOLDER` in place of the
    token, also in its form in email addresses. `content` can be stored: `PreparedIssue(content)` in
    another run or process makes the same messages.
    """

    content: bytes = field(repr=False)
    domain: str = field(init=False)
    """The domain of From, used in every Message-ID."""
    _pieces: tuple[MessagePiece, ...] = field(init=False, repr=False, eq=False)

    @domain.default
    def _domain_of_from(self) -> str:
        headers = BytesParser(policy=policy.compat32).parsebytes(self.content, headersonly=True)
        return mime.decode_mailbox(str(headers["From"]))[1].rpartition("@")[2]

    @_pieces.default
    def _split(self) -> tuple[MessagePiece, ...]:
        return tuple(_pieces(self.content))

    def message_id(self, key: str) -> str:
        """Return the Message-ID for `key`, which identifies the issue and the subscriber.

        Every attempt to send the email uses the same Message-ID, so that mail programs recognise a
        duplicate.
        """
        return f"{key[:_KEY_LENGTH]}@{self.domain}"

    def message(self, address: str, token: str, message_id: str) -> bytes:
        """Return the message to `address`, with `token` in its links and headers.

        Raises `ValueError` for an email address that is not plain ASCII without a name, an invalid
        token, or a Message-ID of another domain. The error text repeats none of them.
        """
        if not mime.is_plain_address(address):
            raise ValueError("the email address is not one that every mail program accepts")
        if not _TOKEN.fullmatch(token):
            raise ValueError("the token is not 22 characters of a URL")
        if not mime.is_plain_address(message_id) or not message_id.endswith(f"@{self.domain}"):
            raise ValueError("the Message-ID is not in the domain of the sender")
        headers = f"To: {address}\r\n{mime.encode_plain('Message-ID', f'<{message_id}>')}".encode(
            "ascii"
        )
        filler = f"{token}{token_in_address(token)}".encode("ascii")
        filled = (filler[piece] if isinstance(piece, slice) else piece for piece in self._pieces)
        return b"".join((headers, *filled))


def prepare_issue(email: RenderedEmail, site: Site, date: datetime) -> PreparedIssue:
    """Build the message of an issue, from which each subscriber's message is made.

    `email` was rendered with `TOKEN_PLACEHOLDER` in its links. `date` is the instant of the run.
    As a check, a sample message is made and parsed again.

    Raises `SettingsError` if the settings lack a sender or an unsubscribe URL, and `ContentError`
    if a mail program would read the message differently, or if a post contains the placeholder.
    """
    if problems := list(missing_mail_settings(site)):
        raise SettingsError(problems)
    _refuse_stray_placeholders(email, site)
    meant = _headers(email, site, date)
    prepared = PreparedIssue(encode_headers(meant) + encode_body(email))
    _check_sample(prepared, email, site, meant)
    return prepared


def _refuse_stray_placeholders(email: RenderedEmail, site: Site) -> None:
    # A link of a post with the placeholder would send each subscriber's token to another site.
    rest = f"{email.html}\n{email.text}"
    for page in (unsubscribe_url(site), preferences_url(site)):
        rest = rest.replace(page, "").replace(escape(page), "")
    for placeholder in _PLACEHOLDERS:
        if placeholder in rest:
            message = f"contains '{placeholder}', which is reserved for each subscriber's token"
            raise ContentError([Problem("email", message=message, hint="remove it from the posts")])


def _list_unsubscribe(site: Site, token: str) -> str:
    """Return the value of List-Unsubscribe (RFC 2369 §3.2): a URL and, if possible, an address."""
    url = f"<{unsubscribe_url(site, token)}>"
    if not site.mail.bounces:
        return url
    bounces = mime.split_address(site.mail.bounces)[1]
    return f"{url}, <mailto:{unsubscribe_address(bounces, token)}>"


def _headers(email: RenderedEmail, site: Site, date: datetime) -> Mapping[str, str]:
    reply_to = {"Reply-To": site.mail.reply_to} if site.mail.reply_to else {}
    return {
        "From": site.mail.sender,
        **reply_to,
        "Subject": email.subject,
        "Date": format_datetime(date),
        "List-Id": list_id(site),
        # RFC 8058 §3.1: one https URL, and the field that allows one-click unsubscribing.
        "List-Unsubscribe": _list_unsubscribe(site, TOKEN_PLACEHOLDER),
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def _check_sample(
    prepared: PreparedIssue, email: RenderedEmail, site: Site, meant: Mapping[str, str]
) -> None:
    token, message_id = "x" * len(TOKEN_PLACEHOLDER), prepared.message_id("x")
    sample = prepared.message(_SAMPLE_ADDRESS, token, message_id)
    personal = {
        "To": _SAMPLE_ADDRESS,
        "Message-ID": f"<{message_id}>",
        "List-Unsubscribe": _list_unsubscribe(site, token),
    }
    check_message(sample, {**meant, **personal})
    html, text = (part.replace(TOKEN_PLACEHOLDER, token) for part in (email.html, email.text))
    check_parts(sample, RenderedEmail(email.subject, html, text))


def _pieces(message: bytes) -> Iterator[MessagePiece]:
    """Split a message at its placeholders, even if a soft line break is inside a placeholder.

    In the result, bytes are copied as they are, and a slice is replaced by that part of a token or
    of its form in email addresses.
    """
    end = 0
    for match, first in _find_placeholders(message):
        yield message[end : match.start()]
        start = first
        for number, gap in enumerate(match.groups(), first + 1):
            if gap:
                yield slice(start, number)
                yield gap
                start = number
        yield slice(start, first + len(match.groups()) + 1)
        end = match.end()
    yield message[end:]


def _find_placeholders(message: bytes) -> list[tuple[re.Match[bytes], int]]:
    """Find all placeholders, in order, each with the offset of its value, as in `MessagePiece`."""
    found: list[tuple[re.Match[bytes], int]] = []
    first = 0
    for placeholder in _PLACEHOLDERS:
        soft = rb"((?:=\r\n)?)".join(re.escape(bytes([c])) for c in placeholder.encode())
        found += ((match, first) for match in re.finditer(soft, message))
        first += len(placeholder)
    return sorted(found, key=lambda each: each[0].start())
