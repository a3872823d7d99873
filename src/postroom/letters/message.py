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
    meant = {"From": sender, "To": recipient, "Subject": letter.subject}
    try:
        head = "".join(
            (
                headers.mailbox("From", sender),
                headers.mailbox("To", recipient),
                headers.words("Subject", letter.subject),
                headers.plain("Date", format_datetime(date)),
                headers.plain("Message-ID", message_id),
                # Mail programs that know the field open the message ready to be sent.
                headers.plain("X-Unsent", "1"),
            )
        )
    except ValueError as error:
        raise ContentError([Problem("letter", what=str(error), repair="reword it")]) from None
    data = head.encode("ascii") + body(letter)
    read_back(data, meant)
    return data


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


_NAMES = frozenset(
    "From To Subject Date Message-ID X-Unsent MIME-Version Content-Type".split(),
)


def read_back(data: bytes, meant: Mapping[str, str], names: frozenset[str] = _NAMES) -> None:
    """Refuse a message whose fields are not exactly `names`, once each, with the values `meant`.

    Raises `ContentError`.
    """
    # The older parser: the newer one puts blanks between the encoded words of a name.
    read = message_from_bytes(data, policy=policy.compat32)
    problems = [
        Problem(
            "letter", key=name, what="the field would be lost, doubled or added", repair="reword it"
        )
        for name in sorted(names | set(read.keys()))
        if name not in names or len(read.get_all(name, [])) != 1
    ]
    for name, value in meant.items():
        raw = str(read[name])
        if name == "Subject":
            same = headers.decoded(raw) == value
        else:
            same = headers.decoded_mailbox(raw) == headers.parted(value)
        if not same:
            what = f"'{value}' would arrive as '{headers.decoded(raw)}'"
            problems.append(Problem("letter", key=name, what=what, repair="reword it"))
    if problems:
        raise ContentError(problems)
