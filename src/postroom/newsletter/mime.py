"""Write the header fields and MIME parts of a message, and check them by parsing them again.

Python's email package breaks long names, encodes long List-* fields so that no mail program reads
them, and in versions still in use turns an encoded line break into a field of its own. So this
module writes header lines itself, in one of three ways: as free text, as a mailbox, or as a plain
field that is never encoded.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from email import message_from_bytes, policy
from email.header import Header, decode_header, make_header
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from postroom.errors import ContentError, Problem
from postroom.mail.address import MAX_LENGTH
from postroom.mail.unsubscribe import TOKEN_PLACEHOLDER
from postroom.newsletter.render import RenderedEmail

_MAX_LINE = 76
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_FROM_LINE = re.compile(rb"^From( [^\r\n]*)", re.MULTILINE)
# The end of a token after a soft break: it may be "From" for some subscriber.
_TOKEN_START, _TOKEN_END = TOKEN_PLACEHOLDER[:-4].encode(), TOKEN_PLACEHOLDER[-4:].encode()
_TOKEN_LINE = re.compile(rb"(?<=%s=\r\n)%s ([^\r\n]*)" % (_TOKEN_START, _TOKEN_END))
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")


def encode_text(name: str, value: str) -> str:
    """Encode a field that holds free text, such as Subject (RFC 5322 §3.6.5, RFC 2047 §5)."""
    _refuse_breaks(name, value)
    # Mail servers may strip spaces at the end of a line.
    plain = _is_plain(value) and value == value.strip()
    if not plain or len(name) + len(value) + 2 > _MAX_LINE:
        value = _encode(value, len(name) + 2)
    return f"{name}: {value}\r\n"


def encode_mailbox(name: str, value: str) -> str:
    """Encode a field that holds one mailbox such as `News <news@example.com>` (RFC 5322 §3.4).

    The domain is written in its ASCII form (RFC 5891).
    """
    _refuse_breaks(name, value)
    display, address = split_address(value)
    if not is_plain_address(address):
        raise ValueError(
            f"{name}: '{address}' is not an email address that every mail program accepts"
        )
    if not display:
        return f"{name}: {address}\r\n"
    phrase = _phrase(display, len(name) + 2)
    gap = " " if len(name) + len(phrase) + len(address) + 5 <= _MAX_LINE else "\r\n "
    return f"{name}: {phrase}{gap}<{address}>\r\n"


def _phrase(display: str, taken: int) -> str:
    quoted = '"' + re.sub(r'(["\\])', r"\\\1", display) + '"'
    phrase = display if _ATOMS.fullmatch(display) else quoted
    return (
        phrase
        if _is_plain(phrase) and len(phrase) + taken <= _MAX_LINE
        else _encode(display, taken)
    )


def encode_plain(name: str, value: str) -> str:
    """Encode a field that no mail program decodes, such as List-Unsubscribe (RFC 2369 §2).

    The field is never encoded, and folded only after ", " in its value and after its name. Lines
    have at most 76 characters if possible, because forwarding programs written in Python encode
    longer ones.
    """
    _refuse_breaks(name, value)
    if not _is_plain(value):
        raise ValueError(f"{name}: '{value}' is not plain ASCII")
    line = f"{name}: {value}"
    if len(line) <= _MAX_LINE:
        return f"{line}\r\n"
    folded = value.replace(", ", ",\r\n ")
    first = folded.partition("\r\n")[0]
    # A value too long for any line stays on the line of its name, where every program finds it.
    gap = "\r\n " if len(name) + len(first) + 2 > _MAX_LINE > len(first) else " "
    return f"{name}:{gap}{folded}\r\n"


def is_plain_address(value: str) -> bool:
    """Tell whether `value` is an email address without a name, quotes or non-ASCII characters."""
    return bool(_ADDRESS.fullmatch(value)) and len(value) <= MAX_LENGTH


def split_address(value: str) -> tuple[str, str]:
    """Split a mailbox into the display name and the email address, with the domain in ASCII."""
    match = re.fullmatch(r"\s*(.*?)\s*<([^<>]+)>\s*", value)
    display, address = match.groups() if match else ("", value.strip())
    if _QUOTED.fullmatch(display):  # RFC 5322 §3.2.4
        display = re.sub(r"\\(.)", r"\1", display[1:-1])
    user, _, domain = address.rpartition("@")
    return " ".join(display.split()), f"{user}@{'.'.join(map(_label, domain.split('.')))}"


def _label(label: str) -> str:
    # Python's own codec implements IDNA 2003: it turns ß into ss, another domain (RFC 5891 §4.4).
    if label.isascii():
        return label
    return "xn--" + unicodedata.normalize("NFC", label.lower()).encode("punycode").decode()


def unfold(raw: str) -> str:
    """Return the value of a header field without its line breaks (RFC 5322 §2.2.3)."""
    return re.sub(r"\r?\n(?=[ \t])", "", raw).strip(" \t")


def decode_field(raw: str) -> str:
    """Return the text of a raw header field as a mail program shows it (RFC 2047 §6)."""
    return str(make_header(decode_header(re.sub(r"\r?\n(?=[ \t])", "", raw))))


def decode_mailbox(raw: str) -> tuple[str, str]:
    """Return the display name and the email address in a raw field that holds one mailbox."""
    display, address = parseaddr(re.sub(r"\r?\n(?=[ \t])", "", raw))
    return decode_field(display), address


def _is_plain(value: str) -> bool:
    # "=?" would be read as the start of an encoded word (RFC 2047 §2).
    return value.isascii() and value.isprintable() and "=?" not in value


def _encode(value: str, taken: int) -> str:
    header = Header(value, "utf-8", maxlinelen=_MAX_LINE, header_name="x" * (taken - 2))
    return header.encode(linesep="\r\n")


def _refuse_breaks(name: str, value: str) -> None:
    for character in value:
        if character in "\r\n\0":
            raise ValueError(f"{name}: the value contains a line break or NUL")


def compose_message(  # noqa: PLR0913 - the fields of a message
    email: RenderedEmail,
    *,
    sender: str,
    recipient: str,
    date: datetime,
    message_id: str,
    is_draft: bool = False,
) -> bytes:
    """Return `email` as a message (RFC 5322), multipart/alternative with the text first.

    `sender` and `recipient` are mailboxes such as `News <news@example.com>`. Mail programs open the
    message for reading, and for editing and sending if `is_draft` is set. The same arguments give
    the same bytes. The message is parsed again as a check; raises `ContentError` if a field or a
    part then differs from the arguments.
    """
    meant = {
        "From": sender,
        "To": recipient,
        "Subject": email.subject,
        "Date": format_datetime(date),
        "Message-ID": message_id,
        # Mail programs that know this field open the message in their editor.
        **({"X-Unsent": "1"} if is_draft else {}),
    }
    data = encode_headers(meant) + encode_body(email)
    check_message(data, meant)
    check_parts(data, email)
    return data


def encode_headers(meant: Mapping[str, str]) -> bytes:
    """Encode header fields, given as a mapping from name to decoded value, in that order.

    Raises `ContentError` for a value that cannot be encoded without loss.
    """
    try:
        lines = [_RULES.get(name, encode_plain)(name, value) for name, value in meant.items()]
    except ValueError as error:
        raise ContentError([Problem("email", message=str(error), hint="reword it")]) from None
    return "".join(lines).encode("ascii")


_RULES = {
    "From": encode_mailbox,
    "Reply-To": encode_mailbox,
    "To": encode_mailbox,
    "Subject": encode_text,
}


def encode_body(email: RenderedEmail) -> bytes:
    """Return the MIME fields and both parts of `email`, the HTML last (RFC 2046 §5.1.4)."""
    # RFC 2045 §6.7 (5): a line of quoted-printable has 76 characters at most.
    message = EmailMessage(policy=policy.SMTP.clone(max_line_length=76))
    message.set_content(email.text, cte="quoted-printable")
    message.add_alternative(email.html, subtype="html", cte="quoted-printable")
    for part in message.iter_parts():
        del part["MIME-Version"]  # RFC 2045 §4: required once in the message, not in parts
    boundary = hashlib.sha256(email.text.encode() + email.html.encode()).hexdigest()[:32]
    message.set_boundary(f"=_{boundary}")
    # Programs that keep mail in mbox files change lines that begin with "From ", which breaks
    # signatures (RFC 3156 §3, RFC 8551 §3.1.4).
    data = _FROM_LINE.sub(lambda line: _begin_line(b"=46rom", line[1]), message.as_bytes())
    return _TOKEN_LINE.sub(lambda line: _begin_line(_TOKEN_END + b"=20", line[1]), data)


def _begin_line(start: bytes, rest: bytes) -> bytes:
    # Where the longer line would pass the limit, a soft break follows (RFC 2045 §6.7 (5)).
    gap = b"=\r\n" if len(start) + len(rest) > _MAX_LINE else b""
    return start + gap + rest


def check_message(data: bytes, meant: Mapping[str, str]) -> None:
    """Check that a message has the header fields `meant` and the MIME fields, each exactly once.

    `meant` maps the name of each field to the value that a mail program should read.
    Raises `ContentError`, which names each field that a mail program would read differently.
    """
    # The newer policies put spaces between the encoded words of a name.
    read = message_from_bytes(data, policy=policy.compat32)
    names = {*meant, "MIME-Version", "Content-Type"}
    once = {name for name in names if len(read.get_all(name, [])) == 1}
    problems = [
        Problem(
            "email",
            key=name,
            message="the field would be lost, repeated or added",
            hint="reword it",
        )
        for name in sorted((names | set(read.keys())) - once)
    ]
    for name in once & set(meant):
        raw, value = str(read[name]), meant[name]
        if not _same(name, raw, value):
            message = f"'{value}' would arrive as '{decode_field(raw)}'"
            problems.append(Problem("email", key=name, message=message, hint="reword it"))
    if problems:
        raise ContentError(problems)


def _same(name: str, raw: str, value: str) -> bool:
    rule = _RULES.get(name)
    if rule is encode_text:
        return decode_field(raw) == value
    if rule is encode_mailbox:
        return decode_mailbox(raw) == split_address(value)
    return unfold(raw) == value


def check_parts(data: bytes, email: RenderedEmail) -> None:
    """Check that the two parts of a message equal the text and HTML of `email`, line by line.

    Raises `ContentError` if they are not.
    """
    read = message_from_bytes(data, policy=policy.compat32)
    parts = [part for part in read.walk() if not part.is_multipart()]
    found = [(part.get_content_type(), _lines(part.get_payload(decode=True))) for part in parts]
    text, html = email.text.encode(), email.html.encode()
    if found != [("text/plain", _lines(text)), ("text/html", _lines(html))]:
        message = "the text or the HTML would arrive damaged"
        raise ContentError([Problem("email", message=message, hint="reword it")])


def _lines(contents: object) -> list[bytes]:
    # Even an empty part ends with a line break.
    return (contents.splitlines() or [b""]) if isinstance(contents, bytes) else []
