"""Header fields → the lines of a message.

Python's email package breaks long names, encodes long List-* fields so that no mail program reads
them, and in versions still in use lets an encoded line break start a field of its own. So the lines
are written here, by three rules: words, mailboxes, and fields that must stay plain.
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
from postroom.newsletter.render import RenderedEmail

_LINE = 76
LIMIT = 254
"""Characters of an address at most (RFC 5321 §4.5.3.1.3, less the two angle brackets)."""
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")


def encode_text(name: str, value: str) -> str:
    """Return a field of free text such as Subject (RFC 5322 §3.6.5, RFC 2047 §5)."""
    _refuse_breaks(name, value)
    # A blank at the end of a line may be lost on the way.
    plain = _is_plain(value) and value == value.strip()
    if not plain or len(name) + len(value) + 2 > _LINE:
        value = _encoded(value, len(name) + 2)
    return f"{name}: {value}\r\n"


def encode_mailbox(name: str, value: str) -> str:
    """Return a field that holds one mailbox such as `News <news@example.com>` (RFC 5322 §3.4).

    The domain is written in its ASCII form (RFC 5891).
    """
    _refuse_breaks(name, value)
    display, address = split_address(value)
    if not is_plain_address(address):
        raise ValueError(f"{name}: '{address}' is no address that every mail program takes")
    if not display:
        return f"{name}: {address}\r\n"
    shown = _phrase(display, len(name) + 2)
    gap = " " if len(name) + len(shown) + len(address) + 5 <= _LINE else "\r\n "
    return f"{name}: {shown}{gap}<{address}>\r\n"


def _phrase(display: str, taken: int) -> str:
    quoted = '"' + re.sub(r'(["\\])', r"\\\1", display) + '"'
    shown = display if _ATOMS.fullmatch(display) else quoted
    return shown if _is_plain(shown) and len(shown) + taken <= _LINE else _encoded(display, taken)


def encode_plain(name: str, value: str) -> str:
    """Return a field that no mail program decodes, such as List-Unsubscribe (RFC 2369 §2).

    It is folded at ", " and after its name alone, and never encoded. Lines of 76 characters
    matter: a program written in Python that takes a letter and passes it on encodes what is longer.
    """
    _refuse_breaks(name, value)
    if not _is_plain(value):
        raise ValueError(f"{name}: '{value}' is not plain ASCII")
    line = f"{name}: {value}"
    if len(line) <= _LINE:
        return f"{line}\r\n"
    folded = value.replace(", ", ",\r\n ")
    first = folded.partition("\r\n")[0]
    # What fits on no line stays beside its name, where every program looks for it.
    gap = "\r\n " if len(name) + len(first) + 2 > _LINE > len(first) else " "
    return f"{name}:{gap}{folded}\r\n"


def is_plain_address(value: str) -> bool:
    """Tell whether `value` is an address alone, of the kind that needs neither quotes nor UTF-8."""
    return bool(_ADDRESS.fullmatch(value)) and len(value) <= LIMIT


def split_address(value: str) -> tuple[str, str]:
    """Return the name and the address of a mailbox, the address with its domain in ASCII."""
    match = re.fullmatch(r"\s*(.*?)\s*<([^<>]+)>\s*", value)
    display, address = match.groups() if match else ("", value.strip())
    if _QUOTED.fullmatch(display):  # RFC 5322 §3.2.4
        display = re.sub(r"\\(.)", r"\1", display[1:-1])
    user, _, domain = address.rpartition("@")
    return " ".join(display.split()), f"{user}@{'.'.join(map(_label, domain.split('.')))}"


def _label(label: str) -> str:
    # Python's own codec is of 2003 and writes ß as ss, which is another domain (RFC 5891 §4.4).
    if label.isascii():
        return label
    return "xn--" + unicodedata.normalize("NFC", label.lower()).encode("punycode").decode()


def unfold(raw: str) -> str:
    """Return the value of a field on one line (RFC 5322 §2.2.3)."""
    return re.sub(r"\r?\n(?=[ \t])", "", raw).strip(" \t")


def decode_field(raw: str) -> str:
    """Return the words of a field as a mail program shows them (RFC 2047 §6)."""
    return str(make_header(decode_header(re.sub(r"\r?\n(?=[ \t])", "", raw))))


def decode_mailbox(raw: str) -> tuple[str, str]:
    """Return the name and the address of a field that holds one mailbox."""
    display, address = parseaddr(re.sub(r"\r?\n(?=[ \t])", "", raw))
    return decode_field(display), address


def _is_plain(value: str) -> bool:
    # "=?" would begin an encoded word (RFC 2047 §2) that nobody wrote.
    return value.isascii() and value.isprintable() and "=?" not in value


def _encoded(value: str, taken: int) -> str:
    header = Header(value, "utf-8", maxlinelen=_LINE, header_name="x" * (taken - 2))
    return header.encode(linesep="\r\n")


def _refuse_breaks(name: str, value: str) -> None:
    for character in value:
        if character in "\r\n\0":
            raise ValueError(f"{name}: the value holds a line break or NUL")


def draft_message(
    letter: RenderedEmail, *, sender: str, recipient: str, date: datetime, message_id: str
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
    data = encode_headers(meant) + encode_body(letter)
    check_message(data, meant)
    check_parts(data, letter)
    return data


def encode_headers(meant: Mapping[str, str]) -> bytes:
    """Return the lines of the fields `meant`, in that order.

    Raises `ContentError` for a value that no line can hold unharmed.
    """
    try:
        lines = [_RULES.get(name, encode_plain)(name, value) for name, value in meant.items()]
    except ValueError as error:
        raise ContentError([Problem("letter", message=str(error), hint="reword it")]) from None
    return "".join(lines).encode("ascii")


_RULES = {
    "From": encode_mailbox,
    "Reply-To": encode_mailbox,
    "To": encode_mailbox,
    "Subject": encode_text,
}


def encode_body(letter: RenderedEmail) -> bytes:
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


def check_message(data: bytes, meant: Mapping[str, str]) -> None:
    """Refuse a message whose fields are not those `meant` and those of MIME, once each.

    Raises `ContentError` that names each field which a mail program would read differently.
    """
    # The older parser: the newer one puts blanks between the encoded words of a name.
    read = message_from_bytes(data, policy=policy.compat32)
    names = {*meant, "MIME-Version", "Content-Type"}
    once = {name for name in names if len(read.get_all(name, [])) == 1}
    problems = [
        Problem(
            "letter",
            key=name,
            message="the field would be lost, doubled or added",
            hint="reword it",
        )
        for name in sorted((names | set(read.keys())) - once)
    ]
    for name in once & set(meant):
        raw, value = str(read[name]), meant[name]
        if not _same(name, raw, value):
            what = f"'{value}' would arrive as '{decode_field(raw)}'"
            problems.append(Problem("letter", key=name, message=what, hint="reword it"))
    if problems:
        raise ContentError(problems)


def _same(name: str, raw: str, value: str) -> bool:
    rule = _RULES.get(name)
    if rule is encode_text:
        return decode_field(raw) == value
    if rule is encode_mailbox:
        return decode_mailbox(raw) == split_address(value)
    return unfold(raw) == value


def check_parts(data: bytes, letter: RenderedEmail) -> None:
    """Refuse a message whose two parts are not those of `letter`, line by line.

    Raises `ContentError`.
    """
    read = message_from_bytes(data, policy=policy.compat32)
    parts = [part for part in read.walk() if not part.is_multipart()]
    found = [(part.get_content_type(), _lines(part.get_payload(decode=True))) for part in parts]
    text, html = letter.text.encode(), letter.html.encode()
    if found != [("text/plain", _lines(text)), ("text/html", _lines(html))]:
        what = "the text or the HTML would arrive damaged"
        raise ContentError([Problem("letter", message=what, hint="reword it")])


def _lines(contents: object) -> list[bytes]:
    # A part ends with a line break, also one that was made of nothing.
    return (contents.splitlines() or [b""]) if isinstance(contents, bytes) else []
