"""Header fields and messages: mail programs read exactly the intended values."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.quoprimime import header_decode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.errors import ContentError
from postroom.newsletter import mime
from postroom.newsletter.mime import check_message, check_parts, compose_message, encode_body
from postroom.newsletter.render import RenderedEmail
from tests.support.header_cases import HIDDEN_BCC, NAMES

FIELDS = ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"]
DATE = datetime(2026, 11, 22, 9, 0, tzinfo=timezone(timedelta(hours=8)))
TEXT = "Überall in Köln\n" + "x é " * 100 + "z\n"
HTML = f"<p>{'Überall in Köln. ' * 20}</p>\n"


def fields(data: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a message's fields, unfolded (RFC 5322 §2.2.3)."""
    head = data.partition(b"\r\n\r\n")[0].decode("ascii")
    lines = re.sub(r"\r\n(?=[ \t])", "", head).split("\r\n")
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def as_shown(raw: str) -> str:
    """Return the text of a field as a mail program shows it (RFC 2047 §6.2)."""
    joined = re.sub(r"(?<=\?=)[ \t]+(?==\?)", "", raw)
    return re.sub(r"=\?utf-8\?([bq])\?([^? ]*)\?=", _one_word, joined)


def _one_word(word: re.Match[str]) -> str:
    if word[1] == "b":
        return base64.b64decode(word[2], validate=True).decode()
    return header_decode(word[2]).encode("latin-1").decode()


def mailbox_as_shown(raw: str) -> tuple[str, str]:
    """Return the name and the email address of a field with one mailbox (RFC 5322 §3.4)."""
    match = re.fullmatch(r"(?:(.*\S)\s+)?<([^<>\s]+)>", raw)
    name, address = (match[1] or "", match[2]) if match else ("", raw)
    quoted = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', name)
    return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else as_shown(name), address


def unfolded(field: str) -> str:
    """Return the unfolded value of an encoded field."""
    return fields(field.encode())[0][1]


def make(subject: str = "We moved", sender: str = "News <news@example.com>") -> bytes:
    """Return a message with this subject and sender."""
    return compose_message(
        RenderedEmail(subject, HTML, TEXT),
        sender=sender,
        recipient="reader@example.org",
        date=DATE,
        message_id="<2026-11.1@news.example.com>",
    )


def quoted(name: str) -> str:
    """Return `name` as a quoted string of RFC 5322 §3.2.4."""
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
rules = pytest.mark.parametrize(
    "rule",
    [mime.encode_text, mime.encode_mailbox, mime.encode_plain],
    ids=["text", "mailbox", "plain"],
)


@names
def test_a_sender_name_reads_back(name: str) -> None:
    """Any name of a sender reads back unchanged."""
    raw = unfolded(mime.encode_mailbox("From", f"{name} <news@example.com>"))
    assert mailbox_as_shown(raw) == (name, "news@example.com")


@names
def test_a_quoted_sender_name_reads_back(name: str) -> None:
    """A name in the quotes of RFC 5322 means the name without them."""
    raw = unfolded(mime.encode_mailbox("From", f"{quoted(name)} <news@example.com>"))
    assert mailbox_as_shown(raw) == (name, "news@example.com")


@names
def test_a_subject_reads_back(name: str) -> None:
    """Any subject reads back unchanged."""
    assert as_shown(unfolded(mime.encode_text("Subject", name))) == name


@names
def test_a_message_has_exactly_its_fields(name: str) -> None:
    """No subject and no name adds, loses or repeats a field."""
    data = make(subject=name, sender=f"{name} <news@example.com>")
    assert [field for field, _ in fields(data)] == FIELDS


@names
def test_no_header_line_is_long(name: str) -> None:
    """A long name or subject is folded, so that no line has more than 78 characters."""
    head = make(subject=name, sender=f"{name} <news@example.com>").partition(b"\r\n\r\n")[0]
    assert [line for line in head.split(b"\r\n") if len(line) > 78] == []


@names
def test_no_encoded_word_is_long(name: str) -> None:
    """An encoded word has at most 75 characters: RFC 2047 §2 allows no more."""
    written = mime.encode_text("Subject", name) + mime.encode_mailbox(
        "To", f"{name} <a@example.com>"
    )
    assert [word for word in re.findall(r"=\?\S+\?=", written) if len(word) > 75] == []


def test_an_encoded_line_break_stays_in_the_subject() -> None:
    """An encoded line break and `Bcc:` in a subject add no Bcc field."""
    message = message_from_bytes(make(subject=HIDDEN_BCC), policy=policy.default)
    assert (message["Bcc"], as_shown(dict(fields(make(subject=HIDDEN_BCC)))["Subject"])) == (
        None,
        HIDDEN_BCC,
    )


def test_a_short_plain_subject_is_not_encoded() -> None:
    """A short ASCII subject is written unchanged."""
    assert mime.encode_text("Subject", "We moved, again") == "Subject: We moved, again\r\n"


@pytest.mark.parametrize("character", ["\r", "\n", "\r\n", "\0"], ids=["CR", "LF", "CRLF", "NUL"])
@rules
def test_a_line_break_is_refused(rule: Callable[[str, str], str], character: str) -> None:
    """A line break or NUL in a value raises an error; it is neither written nor dropped."""
    with pytest.raises(ValueError, match=r"^X-Field: the value contains a line break or NUL$"):
        rule("X-Field", f"News{character}Bcc: a@example.com <b@example.com>")


@pytest.mark.parametrize("break_", ["\r\n", "\0"], ids=["CRLF", "NUL"])
@pytest.mark.parametrize("place", ["subject", "sender"])
def test_a_line_break_is_one_problem(place: str, break_: str) -> None:
    """A line break in a subject or a sender is one problem with one line."""
    value = f"News{break_}Bcc: a@example.com <b@example.com>"
    with pytest.raises(ContentError) as caught:
        make(**{place: value})
    name = {"subject": "Subject", "sender": "From"}[place]
    assert str(caught.value) == f"email: {name}: the value contains a line break or NUL; reword it"


@pytest.mark.parametrize(
    ("domain", "ascii_form"),
    [
        ("example.com", "example.com"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("例子.测试", "xn--fsqu00a.xn--0zwm56d"),
        ("مثال.إختبار", "xn--mgbh0fb.xn--kgbechtv"),
    ],
)
def test_a_domain_is_written_in_ascii(domain: str, ascii_form: str) -> None:
    """The domain of an email address is written as A-labels (RFC 5891)."""
    raw = mime.encode_mailbox("From", f"News <news@{domain}>")
    assert raw == f"From: News <news@{ascii_form}>\r\n"


@pytest.mark.parametrize(
    "address", ["jörg@example.com", "no-domain", "", "two words@example.com", "a@b@example.com"]
)
def test_an_unsafe_address_is_refused(address: str) -> None:
    """An email address that some mail programs read differently is one problem."""
    with pytest.raises(ContentError) as caught:
        make(sender=f"News <{address}>" if address else "")
    assert [
        (problem.path, problem.message.partition(":")[0]) for problem in caught.value.problems
    ] == [("email", "From")]


def test_a_mailbox_without_a_name_is_its_address() -> None:
    """An email address without a name has no brackets."""
    assert mime.encode_mailbox("To", " reader@example.org ") == "To: reader@example.org\r\n"


def test_a_long_unsubscribe_url_stays_plain() -> None:
    """A URL of 200 characters is neither encoded nor folded."""
    address = "https://news.example.com/list/unsubscribe/".ljust(200, "x")
    field = mime.encode_plain("List-Unsubscribe", f"<{address}>")
    assert field == f"List-Unsubscribe: <{address}>\r\n"


@pytest.mark.parametrize(
    ("length", "lines"),
    [(58, ["X-Unsubscribed: <{}>"]), (59, ["X-Unsubscribed:", " <{}>"]), (76, None)],
    ids=["line of the name", "next line", "too long for both"],
)
def test_a_plain_value_stays_within_76_characters(length: int, lines: list[str] | None) -> None:
    """A value too long for the line of its name moves to the next line if it fits there."""
    address = "https://example.com/".ljust(length, "x")
    field = mime.encode_plain("X-Unsubscribed", f"<{address}>")
    expected = lines or ["X-Unsubscribed: <{}>"]
    assert field == "".join(f"{line.format(address)}\r\n" for line in expected)
    assert not lines or max(map(len, field.splitlines())) <= 76


def test_plain_fields_are_folded_between_addresses() -> None:
    """Two long URLs have a line each, and read back unchanged."""
    value = "<https://news.example.com/list/x/abcdefghijklmnop>, <mailto:leave@example.com>"
    field = mime.encode_plain("List-Unsubscribe", value)
    assert (field.count("\r\n"), unfolded(field)) == (2, value)


@pytest.mark.parametrize("value", ["<https://münchen.example/>", "=?utf-8?q?a?=", "tab\there"])
def test_a_plain_field_takes_only_plain_text(value: str) -> None:
    """A value that needs encoding is refused in a plain field."""
    with pytest.raises(ValueError, match=r"^List-Help: '.*' is not plain ASCII$"):
        mime.encode_plain("List-Help", value)


PIECES = [
    '"',
    "\\",
    ",",
    "<",
    ">",
    "(",
    "=?",
    "?=",
    "=?utf-8?b?QQ==?=",
    " ",
    "é",
    "示例",
    "🧲",
    "a",
]
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=160) | st.lists(
    st.sampled_from(PIECES), max_size=60
).map("".join)
one_line = any_text.map(lambda text: " ".join(text.replace("\0", "").split()))


@settings(deadline=None)
@given(subject=one_line, name=one_line)
@example(subject=HIDDEN_BCC, name=HIDDEN_BCC)
def test_any_line_of_text_reads_back(subject: str, name: str) -> None:
    """Any single line of text reads back unchanged as subject and as name."""
    read = dict(fields(make(subject, f"{quoted(name)} <news@example.com>")))
    shown = (as_shown(read["Subject"]), mailbox_as_shown(read["From"]))
    assert shown == (subject, (name, "news@example.com"))


@settings(deadline=None)
@given(subject=any_text, name=any_text)
@example(subject="a\vb", name="a\x85b")
@example(subject="a\r\nBcc: b", name="a\r\nBcc: b")
def test_no_text_adds_a_field(subject: str, name: str) -> None:
    """Any text is refused or reads back unchanged, and never becomes another field."""
    try:
        data = make(subject, f"{quoted(name)} <news@example.com>")
    except ContentError:
        return
    read = dict(fields(data))
    assert (list(read), as_shown(read["Subject"])) == (FIELDS, subject)


MEANT = {
    "From": "News <news@example.com>",
    "To": "reader@example.org",
    "Subject": "We moved",
    "Date": "Sun, 22 Nov 2026 09:00:00 +0800",
    "Message-ID": "<2026-11.1@news.example.com>",
}


def altered(old: bytes, new: bytes) -> bytes:
    """Return a message with `old` replaced by `new`."""
    data = make(sender="News, daily <news@example.com>")
    assert old in data
    return data.replace(old, new, 1)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (altered(b"\r\nDate", b"\r\nBcc: a@example.com\r\nDate"), "Bcc"),
        (altered(b"\r\nDate", b"\r\nTo: a@example.com\r\nDate"), "To"),
        (altered(b"\r\nMIME-Version: 1.0", b""), "MIME-Version"),
        (altered(b"Subject: We moved", b"Subject: We  moved"), "Subject"),
        (altered(b'"News, daily"', b"News, daily"), "From"),
        (altered(b"<news@", b"<views@"), "From"),
        (altered(b"<2026-11.1@", b"<2026-11.2@"), "Message-ID"),
    ],
    ids=["added", "repeated", "lost", "other text", "other name", "other address", "other value"],
)
def test_a_damaged_message_is_refused(data: bytes, key: str) -> None:
    """A message that does not read back as intended is refused, and the problem names the field."""
    with pytest.raises(ContentError) as caught:
        check_message(data, MEANT | {"From": "News, daily <news@example.com>"})
    assert [problem.key for problem in caught.value.problems] == [key]


def test_a_correct_message_passes() -> None:
    """A message that reads back as intended passes the check."""
    check_message(make(), MEANT)
    assert fields(make())[0] == ("From", "News <news@example.com>")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"in K=C3=B6ln", b"in Bonn"),
        (b"text/html", b"text/plain"),
        (b"\r\n--=_", b"\r\n--=x"),
        (b"</p>", b"</p>\r\nand more"),
    ],
    ids=["other text", "other type", "one part", "extra line"],
)
def test_damaged_parts_are_refused(old: bytes, new: bytes) -> None:
    """A message with another text or HTML than the email is refused."""
    email = RenderedEmail("We moved", HTML, TEXT)
    data = make()
    check_parts(data, email)
    start, mark, end = data.partition(b"\r\n\r\n")
    assert old in end
    with pytest.raises(ContentError, match="would arrive damaged"):
        check_parts(start + mark + end.replace(old, new), email)


def parts() -> list[EmailMessage]:
    """Return the parts of a draft as the standard library reads them."""
    message = message_from_bytes(make(), policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/alternative"
    return [part for part in message.iter_parts() if isinstance(part, EmailMessage)]


def test_the_text_precedes_the_html() -> None:
    """A message has a text part, then an HTML part, both UTF-8 in quoted-printable."""
    described = [
        (part.get_content_type(), part.get_content_charset(), part["Content-Transfer-Encoding"])
        for part in parts()
    ]
    assert described == [
        ("text/plain", "utf-8", "quoted-printable"),
        ("text/html", "utf-8", "quoted-printable"),
    ]


def test_a_part_has_only_the_fields_it_needs() -> None:
    """A part has its type and encoding, and no field of the message header."""
    assert [part.keys() for part in parts()] == [["Content-Type", "Content-Transfer-Encoding"]] * 2


def test_both_parts_read_back() -> None:
    """Both parts read back unchanged."""
    contents = [part.get_content().replace("\r\n", "\n") for part in parts()]
    assert contents == [TEXT, HTML]


def test_no_line_of_a_body_is_long() -> None:
    """A line of quoted-printable has at most 76 characters (RFC 2045 §6.7)."""
    lines = make().partition(b"\r\n\r\n")[2]
    assert [line for line in lines.split(b"\r\n") if len(line) > 76] == []


def test_lines_end_with_crlf() -> None:
    """Every line ends with CR LF, and neither occurs alone (RFC 5322 §2.3)."""
    assert re.findall(rb"\r(?!\n)|(?<!\r)\n", make()) == []


def test_the_date_keeps_its_time_zone() -> None:
    """The date is the given instant in the time zone of the site."""
    assert dict(fields(make()))["Date"] == "Sun, 22 Nov 2026 09:00:00 +0800"


def test_the_same_email_makes_the_same_bytes() -> None:
    """A message does not depend on the time or the machine."""
    assert make() == make()


def test_another_email_has_another_boundary() -> None:
    """The boundary is a hash of both parts, so neither contains it."""
    emails = [RenderedEmail("We moved", html, text) for html in ("<p>a</p>", "b") for text in "xy"]
    marks = {re.findall(rb'boundary="(.*)"', encode_body(email))[0] for email in emails}
    assert len(marks) == len(emails)


FROM_LINES = st.lists(
    st.sampled_from(["From ", "From", " ", "x", "é", "=", "From here on ", "long-word-" * 7, "\n"]),
    max_size=60,
).map("".join)


@given(text=FROM_LINES)
@example(text="From here on\nFrom \n>From all\n")
@example(text="From " + "x" * 70 + "From " + "y" * 80)
@settings(deadline=None)
def test_no_line_of_a_body_begins_like_an_mbox_separator(text: str) -> None:
    """No line begins with `From `, all are short enough, and both parts are read as written."""
    email = RenderedEmail("We moved", f"<p>a</p>\n{text}\n", f"{text}\n")
    body = encode_body(email)
    lines = body.split(b"\r\n")
    assert not [line for line in lines if line.startswith(b"From ")]
    assert max(map(len, lines)) <= 76
    check_parts(b"Subject: We moved\r\n" + body, email)
