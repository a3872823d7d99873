"""A letter → the bytes of one message.

Python's email package folds long List-* headers into encoded words and, in versions that are
still in use, lets an encoded line break in a name or subject start a header of its own. So some
headers are folded by rules of ours, and a finished message is parsed again and compared with what
was meant before anybody may have it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from email import policy
from email.headerregistry import Address, HeaderRegistry
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import format_datetime, parseaddr

from postroom.errors import ContentError, Problem
from postroom.letters.compose import Rendered

_POLICY = policy.SMTP.clone(header_factory=HeaderRegistry(), max_line_length=78)


def message(
    letter: Rendered, *, sender: str, recipient: str, date: datetime, message_id: str
) -> bytes:
    """Return `letter` as a message of RFC 5322: multipart/alternative, the text first.

    `sender` and `recipient` are mailboxes such as `News <news@example.com>`; the same arguments
    give the same bytes. Raises `ContentError` if the message would not read back as it was meant.
    """
    meant = {
        "From": sender,
        "To": recipient,
        "Subject": letter.subject,
    }
    _refuse_line_breaks(meant)
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = _mailbox(sender)
    mail["To"] = _mailbox(recipient)
    mail["Subject"] = letter.subject
    mail["Date"] = format_datetime(date)
    mail["Message-ID"] = message_id
    # An unsent draft: a mail program that knows the field opens it ready to be sent.
    mail["X-Unsent"] = "1"
    mail.set_content(letter.text, cte="quoted-printable")
    mail.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    mail.set_boundary("=_" + hashlib.sha256(letter.html.encode()).hexdigest()[:32])
    data = mail.as_bytes()
    _read_back(data, [name for name, _ in mail.items()], meant)
    return data


def _mailbox(mailbox: str) -> Address:
    name, address = parseaddr(mailbox)
    user, _, domain = address.rpartition("@")
    return Address(display_name=name, username=user, domain=domain.encode("idna").decode())


def _refuse_line_breaks(meant: Mapping[str, str]) -> None:
    for name, value in meant.items():
        if any(character in value for character in "\r\n\0"):
            problem = Problem("letter", key=name, what="holds a line break", repair="delete it")
            raise ContentError([problem])


def _read_back(data: bytes, names: list[str], meant: Mapping[str, str]) -> None:
    read = BytesParser(policy=policy.default).parsebytes(data)
    if sorted(read.keys()) != sorted(names):
        found = ", ".join(sorted(set(read.keys()) ^ set(names)))
        problem = Problem("letter", key=found, what="a header would change", repair="reword it")
        raise ContentError([problem])
    for name, value in meant.items():
        back = str(read[name])
        same = parseaddr(back) == parseaddr(value) if name != "Subject" else back == value
        if not same:
            what = f"'{value}' would arrive as '{back}'"
            raise ContentError([Problem("letter", key=name, what=what, repair="reword it")])
