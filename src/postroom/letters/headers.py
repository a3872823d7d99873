"""Header fields → the lines of a message.

Python's email package breaks long names, encodes long List-* fields so that no mail program reads
them, and in versions still in use lets an encoded line break start a field of its own. So the lines
are written here, by three rules: words, mailboxes, and fields that must stay plain.
"""

from __future__ import annotations

import re
import unicodedata
from email.header import Header, decode_header, make_header
from email.utils import parseaddr

_LINE = 76
LIMIT = 254
"""Characters of an address at most (RFC 5321 §4.5.3.1.3, less the two angle brackets)."""
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")


def words(name: str, value: str) -> str:
    """Return a field of free text such as Subject (RFC 5322 §3.6.5, RFC 2047 §5)."""
    _refuse_breaks(name, value)
    # A blank at the end of a line may be lost on the way.
    plain = _is_plain(value) and value == value.strip()
    if not plain or len(name) + len(value) + 2 > _LINE:
        value = _encoded(value, len(name) + 2)
    return f"{name}: {value}\r\n"


def mailbox(name: str, value: str) -> str:
    """Return a field that holds one mailbox such as `News <news@example.com>` (RFC 5322 §3.4).

    The domain is written in its ASCII form (RFC 5891).
    """
    _refuse_breaks(name, value)
    display, address = parted(value)
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


def plain(name: str, value: str) -> str:
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


def parted(value: str) -> tuple[str, str]:
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


def unfolded(raw: str) -> str:
    """Return the value of a field on one line (RFC 5322 §2.2.3)."""
    return re.sub(r"\r?\n(?=[ \t])", "", raw).strip(" \t")


def decoded(raw: str) -> str:
    """Return the words of a field as a mail program shows them (RFC 2047 §6)."""
    return str(make_header(decode_header(re.sub(r"\r?\n(?=[ \t])", "", raw))))


def decoded_mailbox(raw: str) -> tuple[str, str]:
    """Return the name and the address of a field that holds one mailbox."""
    display, address = parseaddr(re.sub(r"\r?\n(?=[ \t])", "", raw))
    return decoded(display), address


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
