"""A letter → the bytes of one message.

A finished message is parsed again and compared with what was meant before anybody may have it:
what a mail program would read differently is not handed out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import format_datetime

from postroom.errors import ContentError, Problem
from postroom.letters import headers
from postroom.letters.compose import Rendered


def draft(
    letter: Rendered, *, sender: str, recipient: str, date: datetime, message_id: str
) -> bytes:
    """Return `letter` as an unsent message (RFC 5322), multipart/alternative with the text first.

    `sender` and `recipient` are mailboxes such as `News <news@example.com>`; the same arguments
    give the same bytes. Raises `ContentError` if the message would not read back as it was meant.
    """
    meant = {
        "From": sender,
        "To": recipient,
        "Subject": letter.subject,
        "Date": format_datetime(date),
        "Message-ID": message_id,
        # Mail programs that know the field open the message ready to be sent.
        "X-Unsent": "1",
    }
    data = head(meant) + body(letter)
    read_back(data, meant)
    read_back_parts(data, letter)
    return data


def head(meant: Mapping[str, str]) -> bytes:
    """Return the lines of the fields `meant`, in that order.

    Raises `ContentError` for a value that no line can hold unharmed.
    """
    try:
        lines = [_RULES.get(name, headers.plain)(name, value) for name, value in meant.items()]
    except ValueError as error:
        raise ContentError([Problem("letter", what=str(error), repair="reword it")]) from None
    return "".join(lines).encode("ascii")


_RULES = {
    "From": headers.mailbox,
    "Reply-To": headers.mailbox,
    "To": headers.mailbox,
    "Subject": headers.words,
}


def body(letter: Rendered) -> bytes:
    """Return the MIME fields and both parts of `letter` (RFC 2046 §5.1.4: the best part last)."""
    # RFC 2045 §6.7 (5): a line of quoted-printable has 76 characters at most.
    mail = EmailMessage(policy=policy.SMTP.clone(max_line_length=76))
    mail.set_content(letter.text, cte="quoted-printable")
    mail.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    for part in mail.iter_parts():
        del part["MIME-Version"]  # RFC 2045 §4: the message has it once; parts need none
    mark = hashlib.sha256(letter.text.encode() + letter.html.encode()).hexdigest()[:32]
    mail.set_boundary(f"=_{mark}")
    return mail.as_bytes()


def read_back(data: bytes, meant: Mapping[str, str]) -> None:
    """Refuse a message whose fields are not those `meant` and those of MIME, once each.

    Raises `ContentError` that names each field which a mail program would read differently.
    """
    # The older parser: the newer one puts blanks between the encoded words of a name.
    read = message_from_bytes(data, policy=policy.compat32)
    names = {*meant, "MIME-Version", "Content-Type"}
    once = {name for name in names if len(read.get_all(name, [])) == 1}
    problems = [
        Problem(
            "letter", key=name, what="the field would be lost, doubled or added", repair="reword it"
        )
        for name in sorted((names | set(read.keys())) - once)
    ]
    for name in once & set(meant):
        raw, value = str(read[name]), meant[name]
        if not _same(name, raw, value):
            what = f"'{value}' would arrive as '{headers.decoded(raw)}'"
            problems.append(Problem("letter", key=name, what=what, repair="reword it"))
    if problems:
        raise ContentError(problems)


def _same(name: str, raw: str, value: str) -> bool:
    rule = _RULES.get(name)
    if rule is headers.words:
        return headers.decoded(raw) == value
    if rule is headers.mailbox:
        return headers.decoded_mailbox(raw) == headers.parted(value)
    return headers.unfolded(raw) == value


def read_back_parts(data: bytes, letter: Rendered) -> None:
    """Refuse a message whose two parts are not those of `letter`, line by line.

    Raises `ContentError`.
    """
    read = message_from_bytes(data, policy=policy.compat32)
    parts = [part for part in read.walk() if not part.is_multipart()]
    found = [(part.get_content_type(), _lines(part.get_payload(decode=True))) for part in parts]
    text, html = letter.text.encode(), letter.html.encode()
    if found != [("text/plain", _lines(text)), ("text/html", _lines(html))]:
        what = "the text or the HTML would arrive damaged"
        raise ContentError([Problem("letter", what=what, repair="reword it")])


def _lines(contents: object) -> list[bytes]:
    # A part ends with a line break, also one that was made of nothing.
    return (contents.splitlines() or [b""]) if isinstance(contents, bytes) else []
