"""Messages of single subscribers: replacing the placeholder equals building each message."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import dkim
import pytest
from attrs import evolve
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroom.errors import ContentError, PostroomError, SettingsError
from postroom.mail.tokens import Keys, envelope_sender, new_token
from postroom.mail.unsubscribe import TOKEN_PLACEHOLDER, preferences_url, unsubscribe_url
from postroom.models import Cursor, Issue, MailSettings, Site
from postroom.newsletter import mime, personalize
from postroom.newsletter.mime import compose_message, encode_body, encode_headers
from postroom.newsletter.personalize import PreparedIssue, list_id, prepare_issue
from postroom.newsletter.render import RenderedEmail, render_email
from postroom.posts import loader
from postroom.scheduling.periods import group_by_period
from postroom.scheduling.rules import message_key
from postroom.settings.site import load_settings
from postroom.theme.environment import Theme
from tests.support import generated_sites
from tests.support.header_cases import HIDDEN_BCC, NAMES
from tests.support.site import AT, ROOT

DATE = datetime(2026, 11, 22, 9, 0, tzinfo=timezone(timedelta(hours=8)))
MAIL = MailSettings(
    sender="Example News <news@example.com>",
    reply_to="Press office <press@example.com>",
    bounces="bounces@example.com",
    unsubscribe="https://news.example.com",
)
SITE = evolve(generated_sites.site_with(), mail=MAIL)
PAGE, CHOICES = unsubscribe_url(SITE), preferences_url(SITE)
TOKEN = new_token(lambda size: bytes(range(size)))
ADDRESS = "reader@example.org"
EMAIL = RenderedEmail("We moved", f'<p><a href="{PAGE}">Leave</a></p>\n', f"We moved.\n\n{PAGE}\n")
ONCE = ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version")
KEPT = ("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "Message-ID", "Date")


def made(email: RenderedEmail = EMAIL, site: Site = SITE, address: str = ADDRESS) -> bytes:
    """Return a message to one subscriber."""
    prepared = prepare_issue(email, site, DATE)
    return prepared.message(address, TOKEN, prepared.message_id("0123456789abcdef" * 4))


def site_with_mail(**mail: Any) -> Site:
    """Return the site with these mail settings changed."""
    return evolve(SITE, mail=evolve(MAIL, **mail))


def read(data: bytes) -> EmailMessage:
    """Parse a message with the standard library."""
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def raw(data: bytes, name: str) -> str:
    """Return the raw value, unfolded, of the only field of this name."""
    (value,) = message_from_bytes(data, policy=policy.compat32).get_all(name, [])
    return mime.unfold(value)


def parts(data: bytes) -> tuple[str, str]:
    """Return the text and the HTML of a message."""
    text, html = (part.get_content() for part in read(data).iter_parts())
    return text.replace("\r\n", "\n"), html.replace("\r\n", "\n")


def quoted(name: str) -> str:
    """Return `name` as a quoted string of RFC 5322 §3.2.4."""
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def problems(caught: pytest.ExceptionInfo[PostroomError]) -> list[str]:
    """Return the problems of an error, one line each."""
    return [str(problem) for problem in caught.value.problems]


names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())


@pytest.fixture(scope="module")
def demo() -> tuple[RenderedEmail, Site]:
    """Return an email of the demonstration with personal links, and its site."""
    site = evolve(load_settings(ROOT), mail=MAIL)
    (digest, *_) = group_by_period(loader.load_posts(ROOT, site, AT).posts, site)
    theme, leave, prefer = (
        Theme(ROOT, site.language),
        unsubscribe_url(site),
        preferences_url(site),
    )
    return render_email(digest, site, theme, unsubscribe=leave, preferences=prefer), site


# Replacing the placeholder and building the message.


def in_base32(token: str) -> str:
    """Return the 132 bits of a token and three zeros as 27 digits of base32 (RFC 4648 §6)."""
    alphabet = SAFE[26:52] + SAFE[:26] + SAFE[52:] + "-_"
    digits = [alphabet.index(character) for character in token]
    bits = "".join(f"{digit:06b}" for digit in digits) + "000"
    numbers = (int(bits[start : start + 5], 2) for start in range(0, len(bits), 5))
    return "".join("abcdefghijklmnopqrstuvwxyz234567"[number] for number in numbers)


def build_message(
    email: RenderedEmail, site: Site, address: str, token: str, message_id: str
) -> bytes:
    """Build the message for one subscriber with the standard library."""
    page = f"{site.mail.unsubscribe}/list/unsubscribe/{token}"
    local, _, domain = site.mail.bounces.partition("@")
    unsubscribe = f"{local}+leave-{in_base32(token)}@{domain}"
    lines = [
        mime.encode_mailbox("To", address),
        mime.encode_plain("Message-ID", f"<{message_id}>"),
        mime.encode_mailbox("From", site.mail.sender),
        mime.encode_mailbox("Reply-To", site.mail.reply_to),
        mime.encode_text("Subject", email.subject),
        mime.encode_plain("Date", format_datetime(DATE)),
        mime.encode_plain("List-Id", "<news.news.example.com>"),
        mime.encode_plain("List-Unsubscribe", f"<{page}>, <mailto:{unsubscribe}>"),
        mime.encode_plain("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ]
    mail = EmailMessage(policy=policy.SMTP.clone(max_line_length=76))
    mail.set_content(email.text.replace(TOKEN_PLACEHOLDER, token), cte="quoted-printable")
    html = email.html.replace(TOKEN_PLACEHOLDER, token)
    mail.add_alternative(html, subtype="html", cte="quoted-printable")
    for part in mail.iter_parts():
        del part["MIME-Version"]
    both = email.text.encode() + email.html.encode()
    mail.set_boundary(f"=_{hashlib.sha256(both).hexdigest()[:32]}")
    return "".join(lines).encode("ascii") + without_from_lines(mail.as_bytes(), token)


def without_from_lines(body: bytes, token: str) -> bytes:
    """Encode the beginning of each line that begins with `From `, or might (RFC 3156 §3).

    It might if it begins with the last four characters of a token and a space.
    """
    lines = [b""]
    for line in body.split(b"\r\n"):
        if lines[-1].endswith(token[:-4].encode() + b"=") and line[:5].decode() == f"{token[-4:]} ":
            start, rest = line[:4] + b"=20", line[5:]
        elif line.startswith(b"From "):
            start, rest = b"=46rom", line[4:]
        else:
            start, rest = b"", line
        if len(start + rest) > 76:
            lines += [start + b"=", rest]
        else:
            lines.append(start + rest)
    return b"\r\n".join(lines[1:])


SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
tokens = st.text(SAFE + "-_", min_size=22, max_size=22)
keys = st.text("0123456789abcdef", min_size=64, max_size=64)
addresses = st.builds(
    "{}@{}.example.com".format,
    st.text(SAFE + "!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=64),
    st.text(SAFE, min_size=1, max_size=60),
)
# Fillers of every length move the placeholder to every column of a line, even across soft breaks.
fillers = st.one_of(
    st.integers(0, 90).map("x".__mul__),
    st.integers(0, 30).map("é".__mul__),
    st.integers(0, 30).map("示".__mul__),
    st.text(max_size=40),
    st.sampled_from([" ", "\n", "\t", " \n", "=", "=20\n", ".\n", "\nFrom ", "🧲", "--=_", "\r"]),
)
contents = st.lists(st.one_of(fillers, st.sampled_from([PAGE, CHOICES])), max_size=12).map("".join)
subjects = st.text(max_size=90).map(lambda text: " ".join(text.replace("\0", "").split()))
emails = st.builds(RenderedEmail, subjects, contents, contents)
BROKEN = [RenderedEmail("We moved", "é" * n + PAGE, "x" * n + PAGE + "\n") for n in range(0, 76, 5)]


@settings(deadline=None, max_examples=100)
@given(emails, addresses, tokens, keys)
@example(BROKEN[0], ADDRESS, "-" * 22, "0" * 64)
@example(BROKEN[1], ADDRESS, "--" + "_" * 20, "0" * 64)
def test_replacing_equals_building(
    email: RenderedEmail, address: str, token: str, key: str
) -> None:
    """Replacing the placeholder gives the same bytes as building the message."""
    prepared = prepare_issue(email, SITE, DATE)
    message_id = f"{key[:32]}@example.com"
    assert prepared.message_id(key) == message_id
    expected = build_message(email, SITE, address, token, message_id)
    assert prepared.message(address, token, message_id) == expected


@pytest.mark.parametrize("offset", range(80))
@pytest.mark.parametrize("filler", ["x", "é"])
def test_a_token_across_a_soft_line_break_is_complete(filler: str, offset: int) -> None:
    """The token arrives complete wherever a line of quoted-printable ends."""
    start = filler * offset
    email = RenderedEmail("We moved", f"{start}{PAGE}{start}{CHOICES}", f"{start}{PAGE}\n")
    data = made(email)
    assert data == build_message(email, SITE, ADDRESS, TOKEN, raw(data, "Message-ID").strip("<>"))
    mine = f"{start}https://news.example.com/list/unsubscribe/{TOKEN}"
    expected = f"{mine}{start}https://news.example.com/list/preferences/{TOKEN}\n"
    assert parts(data) == (f"{mine}\n", expected)


def test_replacing_equals_building_for_a_real_email(
    demo: tuple[RenderedEmail, Site],
) -> None:
    """An email of the demonstration with links in both parts has the same bytes too."""
    email, site = demo
    data = made(email, site)
    assert data == build_message(email, site, ADDRESS, TOKEN, raw(data, "Message-ID").strip("<>"))


@settings(deadline=None)
@given(emails, st.integers(0, 80), st.sampled_from(["x", "é"]), tokens)
def test_no_token_makes_a_line_that_begins_with_from(
    email: RenderedEmail, offset: int, filler: str, token: str
) -> None:
    """No line begins with `From `, even if a token ends so at a soft break (RFC 3156 §3)."""
    ended = f"{token[:-4]}From"
    around = f"{filler * offset}{PAGE} and {PAGE} \n"
    email = evolve(email, html=email.html + around, text=email.text + around)
    data = prepare_issue(email, SITE, DATE).message(ADDRESS, ended, "0@example.com")
    assert [line for line in data.split(b"\r\n") if line.startswith(b"From ")] == []
    expected = email.text.replace(TOKEN_PLACEHOLDER, ended)
    assert parts(data)[0].splitlines() == expected.splitlines()
    assert max(len(line) for line in data.partition(b"\r\n\r\n")[2].split(b"\r\n")) <= 76


@settings(deadline=None)
@given(emails, tokens)
def test_nothing_of_the_placeholder_remains(email: RenderedEmail, token: str) -> None:
    """No message contains the placeholder, neither encoded nor decoded."""
    prepared = prepare_issue(email, SITE, DATE)
    data = prepared.message(ADDRESS, token, prepared.message_id("0"))
    texts = (data.replace(b"=\r\n", b"").decode("ascii"), *parts(data))
    for placeholder in (TOKEN_PLACEHOLDER, in_base32(TOKEN_PLACEHOLDER)):
        assert [text for text in texts if placeholder in text] == []


@settings(deadline=None)
@given(emails, addresses, addresses)
def test_messages_differ_only_in_personal_data(
    email: RenderedEmail, first: str, second: str
) -> None:
    """Messages of two subscribers differ only in To, Message-ID and token."""
    prepared = prepare_issue(email, SITE, DATE)
    rests = []
    for address, token, key in ((first, SECRETS[0], "1"), (second, SECRETS[1], "2")):
        data = prepared.message(address, token, prepared.message_id(key))
        own = f"To: {address}\r\nMessage-ID: <{key}@example.com>\r\n".encode()
        assert data.startswith(own)
        broken = "(?:=\r\n)?".join(token).encode()
        rest = re.sub(broken, b"", data.removeprefix(own))
        rests.append(rest.replace(in_base32(token).encode(), b""))
    assert rests[0] == rests[1]


SECRETS = ("0123456789ABCDEFGHIJKL", "MNOPQRSTUVWXYZ-_543210")


def test_a_frozen_issue_is_bytes() -> None:
    """Another run makes the same message from the frozen bytes alone."""
    prepared = prepare_issue(EMAIL, SITE, DATE)
    restored = PreparedIssue(prepared.content)
    assert restored == prepared
    assert restored.domain == "example.com"
    message_id = restored.message_id("0")
    made_again = restored.message(ADDRESS, TOKEN, message_id)
    assert made_again == prepared.message(ADDRESS, TOKEN, message_id)


@pytest.mark.parametrize(
    ("address", "token", "message_id", "said"),
    [
        (f"{ADDRESS}, other@example.com", TOKEN, "1@example.com", "the email address is not one"),
        (f"Reader <{ADDRESS}>", TOKEN, "1@example.com", "the email address is not one"),
        (
            f"{ADDRESS}\r\nBcc: other@example.com",
            TOKEN,
            "1@example.com",
            "the email address is not one",
        ),
        (f"{ADDRESS}\0", TOKEN, "1@example.com", "the email address is not one"),
        ("jörg@example.com", TOKEN, "1@example.com", "the email address is not one"),
        (f"{'a' * 250}@example.com", TOKEN, "1@example.com", "the email address is not one"),
        (ADDRESS, TOKEN[1:], "1@example.com", "the token is not 22 characters"),
        (ADDRESS, "é" * 22, "1@example.com", "the token is not 22 characters"),
        (ADDRESS, "x" * 20 + "\r\n", "1@example.com", "the token is not 22 characters"),
        (ADDRESS, "=" * 22, "1@example.com", "the token is not 22 characters"),
        (ADDRESS, TOKEN, "1@example.org", "the Message-ID is not in the domain"),
        (ADDRESS, TOKEN, "1@sub.example.com", "the Message-ID is not in the domain"),
        (ADDRESS, TOKEN, "1>\r\nBcc: a@example.com", "the Message-ID is not in the domain"),
        (ADDRESS, TOKEN, "", "the Message-ID is not in the domain"),
    ],
)
def test_unsafe_personal_data_is_refused(
    address: str, token: str, message_id: str, said: str
) -> None:
    """An unsafe email address, token or Message-ID is refused by an error that repeats none."""
    with pytest.raises(ValueError, match=said) as caught:
        prepare_issue(EMAIL, SITE, DATE).message(address, token, message_id)
    assert not any(value in str(caught.value) for value in (address, token, message_id) if value)


# Requirements of an issue.


@pytest.mark.parametrize(
    ("mail", "said"),
    [
        (
            {"sender": ""},
            "mail.from: is missing, and emails need a sender; write from: Example News <news@…>",
        ),
        (
            {"unsubscribe": ""},
            (
                "mail.unsubscribe: is missing, and emails need a link to unsubscribe; write the "
                "URL where postroom serve answers"
            ),
        ),
        (
            {"unsubscribe": "http://news.example.com"},
            (
                "mail.unsubscribe: 'http://news.example.com' is not https, which one-click "
                "unsubscribing needs; write a URL with https"
            ),
        ),
        (
            {"bounces": f"{'b' * 31}@example.com"},
            (
                f"mail.bounces: '{'b' * 31}@example.com' is too long or not plain ASCII; "
                "write a shorter email address in ASCII"
            ),
        ),
        (
            {"bounces": "bücher@example.com"},
            (
                "mail.bounces: 'bücher@example.com' is too long or not plain ASCII; "
                "write a shorter email address in ASCII"
            ),
        ),
    ],
    ids=["no sender", "no unsubscribe URL", "http", "long bounces", "non-ASCII bounces"],
)
def test_missing_settings_are_named(mail: Mapping[str, str], said: str) -> None:
    """A missing or wrong setting is one problem with a hint."""
    with pytest.raises(SettingsError) as caught:
        prepare_issue(EMAIL, site_with_mail(**mail), DATE)
    assert problems(caught) == [f"postroom.yaml: {said}"]


def test_all_missing_settings_are_named_at_once() -> None:
    """One error names all missing settings."""
    with pytest.raises(SettingsError) as caught:
        prepare_issue(EMAIL, evolve(SITE, mail=MailSettings()), DATE)
    assert [problem.key for problem in caught.value.problems] == ["mail.from", "mail.unsubscribe"]


def test_an_invalid_sender_is_named() -> None:
    """A sender that some servers reject is one problem."""
    with pytest.raises(ContentError) as caught:
        prepare_issue(EMAIL, site_with_mail(sender="Jörg <jörg@example.com>"), DATE)
    said = (
        "email: From: 'jörg@example.com' is not an email address that every mail program accepts; "
        "reword it"
    )
    assert problems(caught) == [said]


PLACEHOLDERS = (TOKEN_PLACEHOLDER, in_base32(TOKEN_PLACEHOLDER))
placeholders = pytest.mark.parametrize("placeholder", PLACEHOLDERS, ids=["token", "address"])


@placeholders
@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('<a href="https://evil.example/?{}">x</a>', ""),
        ("", "https://evil.example/?{}"),
        ("{}", ""),
    ],
    ids=["link", "text", "word"],
)
def test_a_post_with_a_placeholder_is_refused(html: str, text: str, placeholder: str) -> None:
    """A post with a placeholder is refused, because it would receive every token."""
    email = RenderedEmail(
        EMAIL.subject, EMAIL.html + html.format(placeholder), EMAIL.text + text.format(placeholder)
    )
    with pytest.raises(ContentError) as caught:
        prepare_issue(email, SITE, DATE)
    assert str(caught.value) == (
        f"email: contains '{placeholder}', which is reserved for each subscriber's token; "
        "remove it from the posts"
    )


@placeholders
@pytest.mark.parametrize("place", ["subject", "sender"])
def test_a_header_with_a_placeholder_is_refused(place: str, placeholder: str) -> None:
    """A subject or sender with a placeholder is refused."""
    email = evolve(EMAIL, subject=placeholder) if place == "subject" else EMAIL
    sender = f"{placeholder} <news@example.com>" if place == "sender" else MAIL.sender
    sample = "x" * len(TOKEN_PLACEHOLDER)
    changed = sample if placeholder == TOKEN_PLACEHOLDER else in_base32(sample)
    with pytest.raises(ContentError, match=f"would arrive as '{changed}"):
        prepare_issue(email, site_with_mail(sender=sender), DATE)


def test_the_unsubscribe_address_fits_into_a_local_part() -> None:
    """The local part has 64 characters at most (RFC 5321 §4.5.3.1.1), and may have all of them."""
    bounces = f"{'b' * 30}@example.com"
    address = raw(made(site=site_with_mail(bounces=bounces)), "List-Unsubscribe")
    found = re.search(r"<mailto:([^@]*)@example\.com>", address)
    assert found
    assert len(found[1]) == 64


def test_an_issue_that_an_earlier_version_froze_keeps_its_form() -> None:
    """An issue whose email address has the placeholder of the token is filled with the token."""
    prepared = prepare_issue(EMAIL, SITE, DATE)
    earlier = prepared.content.replace(PLACEHOLDERS[1].encode(), TOKEN_PLACEHOLDER.encode())
    data = PreparedIssue(earlier).message(ADDRESS, TOKEN, prepared.message_id("0"))
    assert f"<mailto:bounces+leave-{TOKEN}@example.com>" in raw(data, "List-Unsubscribe")


def test_an_escaped_unsubscribe_url_is_recognised() -> None:
    """An unsubscribe URL with `&` is recognised in HTML, where it is escaped."""
    site = site_with_mail(unsubscribe="https://news.example.com/a&b")
    page = unsubscribe_url(site)
    assert page == f"https://news.example.com/a&b/list/unsubscribe/{TOKEN_PLACEHOLDER}"
    email = RenderedEmail("We moved", f'<a href="{page.replace("&", "&amp;")}">Leave</a>', page)
    assert f"a&amp;b/list/unsubscribe/{TOKEN}" in parts(made(email, site))[1]


Tamper = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    ("place", "tamper", "said"),
    [
        ("head", lambda data: data + b"Bcc: injected@example.com\r\n", "Bcc: the field would be"),
        ("head", lambda data: data + b"To: other@example.com\r\n", "To: the field would be"),
        ("head", lambda data: data + b"Subject: We moved\r\n", "Subject: the field would be"),
        ("head", lambda data: re.sub(rb"List-Unsubscribe-Post.*\n", b"", data), "Post: the field"),
        ("head", lambda data: re.sub(rb"Date.*\n", b"", data), "Date: the field would be lost"),
        ("head", lambda data: data.replace(b"One-", b"Two-"), "would arrive as 'List-Unsub.*Two-"),
        ("head", lambda data: data.replace(b"/unsubscribe/", b"/love/"), "List-Unsubscribe: '<"),
        ("head", lambda data: data.replace(b"<news.", b"<old."), "List-Id: '<news"),
        ("head", lambda data: data.replace(b"We moved", b"We  moved"), "Subject: 'We moved' would"),
        ("head", lambda data: data + b"\r\n", "the field would be lost"),
        ("body", lambda data: data.replace(b"We moved.", b"We stay."), "would arrive damaged"),
        ("body", lambda data: data.replace(b"text/plain", b"text/html"), "would arrive damaged"),
        ("body", lambda data: data.replace(b"=_", b"=-", 1), "would arrive damaged"),
        ("body", lambda data: data.replace(b"/unsubscribe/", b"/love/", 1), "would arrive damaged"),
    ],
    ids=[
        "injected Bcc",
        "second To",
        "second Subject",
        "lost one-click",
        "lost Date",
        "other one-click",
        "other page",
        "other list",
        "other words",
        "early end",
        "other text",
        "other kind",
        "other boundary",
        "other link",
    ],
)
def test_a_message_that_reads_back_differently_is_refused(
    monkeypatch: pytest.MonkeyPatch, place: str, tamper: Tamper, said: str
) -> None:
    """An error of the email package or of our rules stops the issue."""
    right = {"head": encode_headers, "body": encode_body}[place]
    monkeypatch.setattr(personalize, right.__name__, lambda given: tamper(right(given)))  # type: ignore[operator]
    with pytest.raises(ContentError, match=said):
        prepare_issue(EMAIL, SITE, DATE)


# Messages.


@names
def test_m1_headers_read_back(name: str) -> None:
    """Every header field reads back as intended, for any company name and subject."""
    data = made(
        evolve(EMAIL, subject=name), site_with_mail(sender=f"{quoted(name)} <news@example.com>")
    )
    found = message_from_bytes(data, policy=policy.compat32).keys()
    assert found == (
        "To Message-ID From Reply-To Subject Date List-Id List-Unsubscribe "
        "List-Unsubscribe-Post MIME-Version Content-Type".split()
    )
    leave = (
        f"<https://news.example.com/list/unsubscribe/{TOKEN}>,"
        f" <mailto:bounces+leave-{in_base32(TOKEN)}@example.com>"
    )
    assert mime.decode_field(raw(data, "Subject")) == name
    assert mime.decode_mailbox(raw(data, "From")) == (name, "news@example.com")
    assert [raw(data, field) for field in ("To", "List-Unsubscribe")] == [ADDRESS, leave]


def test_m2_an_encoded_line_break_adds_no_field() -> None:
    """An encoded line break in subject and sender adds no Bcc field."""
    site = site_with_mail(sender=f"{quoted(HIDDEN_BCC)} <news@example.com>")
    data = made(evolve(EMAIL, subject=HIDDEN_BCC), site)
    assert read(data).get_all("Bcc") is None
    assert b"\nBcc" not in data


@pytest.mark.parametrize("length", [20, 40, 100, 200, 600])
def test_m3_machine_readable_fields_stay_plain(length: int) -> None:
    """Machine-readable fields are never encoded, however long the unsubscribe URL is."""
    site = site_with_mail(unsubscribe=f"https://news.example.com/{'x' * length}")
    page = unsubscribe_url(site)
    data = made(RenderedEmail("Я", page, page), site)
    assert raw(data, "List-Unsubscribe").startswith(f"<{page.replace(TOKEN_PLACEHOLDER, TOKEN)}>, ")
    assert [name for name in KEPT if "=?" in raw(data, name)] == []
    assert max(map(len, data.splitlines())) <= 998


@pytest.mark.parametrize("host", ["news.example.com", "press.news.example.com", "a.example"])
def test_m3_unsubscribe_urls_have_a_line_each(host: str) -> None:
    """Each of the two URLs has a line within 76 characters, which no forwarder encodes."""
    site = site_with_mail(unsubscribe=f"https://{host}")
    data = made(RenderedEmail("We moved", unsubscribe_url(site), ""), site)
    lines = data.partition(b"\r\n\r\n")[0].splitlines()
    assert [line for line in lines if len(line) > 76] == []
    # A forwarder written in Python.
    passed = message_from_bytes(data, policy=policy.SMTP).as_bytes()
    assert raw(passed, "List-Unsubscribe") == raw(data, "List-Unsubscribe")


@names
def test_m4_names_read_back(name: str) -> None:
    """The names in From and Reply-To read back unchanged."""
    site = site_with_mail(
        sender=f"{name} <news@example.com>", reply_to=f"{name} <press@example.com>"
    )
    data = made(EMAIL, site)
    found = [mime.decode_mailbox(raw(data, field)) for field in ("From", "Reply-To")]
    assert found == [(name, "news@example.com"), (name, "press@example.com")]


@pytest.mark.parametrize(
    ("domain", "ascii_form"),
    [("münchen.example", "xn--mnchen-3ya.example"), ("例子.测试", "xn--fsqu00a.xn--0zwm56d")],
)
def test_m4_a_domain_of_any_script_is_written_in_ascii(domain: str, ascii_form: str) -> None:
    """Sender, Message-ID and unsubscribe address have the domain as A-labels."""
    data = made(EMAIL, site_with_mail(sender=f"News <news@{domain}>", bounces=f"bounces@{domain}"))
    assert raw(data, "From") == f"News <news@{ascii_form}>"
    assert raw(data, "Message-ID").endswith(f"@{ascii_form}>")
    assert raw(data, "List-Unsubscribe").endswith(f"@{ascii_form}>")


def test_m5_the_text_precedes_the_html(demo: tuple[RenderedEmail, Site]) -> None:
    """A message has a text part, then an HTML part, in UTF-8 with short lines."""
    data = made(*demo)
    message = read(data)
    described = [
        (part.get_content_type(), part.get_content_charset()) for part in message.iter_parts()
    ]
    assert message.get_content_type() == "multipart/alternative"
    assert described == [("text/plain", "utf-8"), ("text/html", "utf-8")]
    top, _, lines = data.partition(b"\r\n\r\n")
    assert max(map(len, lines.split(b"\r\n"))) <= 78
    assert max(map(len, top.split(b"\r\n"))) <= 998
    assert re.findall(rb"\r(?!\n)|(?<!\r)\n", data) == []


def test_m6_each_field_occurs_once_and_there_is_one_recipient() -> None:
    """From, To and the other fields occur once; there is no Cc or Bcc."""
    message = read(made())
    assert [len(message.get_all(name, [])) for name in ONCE] == [1] * 6
    assert [address.addr_spec for address in message["To"].addresses] == [ADDRESS]
    assert [message.get_all(name) for name in ("Cc", "Bcc", "Sender")] == [None] * 3


def test_m6_failures_are_reported_to_the_bounces_address() -> None:
    """The envelope sender is the setting `mail.bounces`, not From."""
    found = envelope_sender(MAIL.bounces, 42, Keys((b"a key for the test",)))
    assert re.fullmatch(r"bounces\+42-[a-z2-7]{16}@example\.com", found)


def issue_of(*ids: str) -> Issue:
    """Return an issue with these posts."""
    return Issue("month", Cursor(date(2026, 12, 1)), ids, "en")


def test_m7_a_message_id_belongs_to_one_issue_and_subscriber() -> None:
    """Every issue and subscriber has a Message-ID of its own, the same in a retry."""
    prepared = prepare_issue(EMAIL, SITE, DATE)
    ids = [
        prepared.message_id(message_key(subscriber, issue_of(post)))
        for subscriber in (1, 2)
        for post in "ab"
    ]
    again = prepared.message_id(message_key(1, issue_of("a")))
    assert (len(set(ids)), again) == (4, ids[0])
    assert [found for found in ids if not re.fullmatch(r"[0-9a-f]{32}@example\.com", found)] == []


def test_m7_the_date_is_that_of_the_run() -> None:
    """The date is the instant of the run that froze the issue, in the time zone of the site."""
    assert raw(made(), "Date") == "Sun, 22 Nov 2026 09:00:00 +0800"


def test_m8_a_message_has_the_list_headers() -> None:
    """Every message has the three List-* fields; a draft has none of them."""
    lists = ("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post")
    assert [len(read(made()).get_all(name, [])) for name in lists] == [1, 1, 1]
    shown = compose_message(
        EMAIL, sender=MAIL.sender, recipient=ADDRESS, date=DATE, message_id="<1@a.b>"
    )
    assert [name for name in read(shown) if name.startswith(("List-", "Precedence"))] == []


# Signatures.

SIGNED = (*ONCE, "Content-Type", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post")
RELAXED, SIMPLE = (b"relaxed", b"relaxed"), (b"simple", b"simple")


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    """Return a new private key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def sign(data: bytes, key: rsa.RSAPrivateKey, canonical: tuple[bytes, bytes] = RELAXED) -> bytes:
    """Return the message signed as a relay should sign it."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    covered = [name.encode() for name in SIGNED]
    signature: bytes = dkim.sign(
        data, b"mail", b"example.com", pem, canonicalize=canonical, include_headers=covered
    )
    return signature + data


def is_verified(data: bytes, key: rsa.RSAPrivateKey) -> bool:
    """Tell whether the signature is valid."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    holds: bool = dkim.verify(data, dnsfunc=lambda _name, **_: record)
    return holds


def test_m9_n4_a_signature_covers_the_unsubscribe_fields(key: rsa.RSAPrivateKey) -> None:
    """A signed message is valid, and its signature covers both List-Unsubscribe fields."""
    data = sign(made(), key)
    signature = re.sub(r"\s", "", raw(data, "DKIM-Signature")).lower()
    covered = dict(part.split("=", 1) for part in signature.split(";"))["h"].split(":")
    assert set(map(str.lower, SIGNED)) <= set(covered)
    assert is_verified(data, key)


@pytest.mark.parametrize("name", SIGNED)
def test_m9_n4_a_changed_field_fails(key: rsa.RSAPrivateKey, name: str) -> None:
    """The signature is invalid if an important field was changed or removed."""
    data = sign(made(), key)
    pattern = rb"(?m)^(%s:\s[\s<]*)(.)" % name.encode()
    changed = re.sub(pattern, rb"\1~\2", data)
    lost = re.sub(rb"(?m)^%s:.*\n(?:[ \t].*\n)*" % name.encode(), b"", data)
    assert changed != data != lost
    assert (is_verified(changed, key), is_verified(lost, key)) == (False, False)


def test_m9_n4_a_changed_body_fails(key: rsa.RSAPrivateKey) -> None:
    """The signature is invalid if the body was changed."""
    data = sign(made(), key)
    assert not is_verified(data.replace(b"We moved.", b"We stay."), key)


@pytest.mark.parametrize(
    "refold",
    [
        lambda data: data.replace(b">,\r\n <mailto", b">,\r\n\t<mailto"),
        lambda data: data.replace(b">,\r\n <mailto", b">, <mailto"),
        lambda data: data.replace(b"Unsubscribe:\r\n <", b"Unsubscribe: <"),
        lambda data: data.replace(b"List-Unsubscribe-Post: ", b"LIST-UNSUBSCRIBE-POST:\r\n\t"),
    ],
    ids=["with a tab", "on one line", "on the line of the name", "in capitals"],
)
def test_m9_n4_a_relay_may_refold(key: rsa.RSAPrivateKey, refold: Tamper) -> None:
    """A refolded message is valid by relaxed rules (RFC 6376 §3.4.2), not by simple ones."""
    relaxed, simple = sign(made(), key), sign(made(), key, SIMPLE)
    assert refold(relaxed) != relaxed
    assert (is_verified(refold(relaxed), key), is_verified(refold(simple), key)) == (True, False)


# Requirements of laws and mailbox providers.


def test_n3_one_click_is_enough() -> None:
    """There is one https URL with the token, and the field for one-click POST."""
    data = made()
    uris = re.findall(r"<([^>]*)>", raw(data, "List-Unsubscribe"))
    assert [uri.partition(":")[0] for uri in uris] == ["https", "mailto"]
    assert uris[0] == f"https://news.example.com/list/unsubscribe/{TOKEN}"
    assert raw(data, "List-Unsubscribe-Post") == "List-Unsubscribe=One-Click"
    assert ADDRESS not in raw(data, "List-Unsubscribe")


def test_n3_without_bounces_address_there_is_only_the_page() -> None:
    """Without `mail.bounces`, List-Unsubscribe has no mailto URL."""
    data = made(site=site_with_mail(bounces=""))
    assert raw(data, "List-Unsubscribe") == f"<https://news.example.com/list/unsubscribe/{TOKEN}>"


def test_n7_the_unsubscribe_url_is_in_both_parts(demo: tuple[RenderedEmail, Site]) -> None:
    """Both parts contain the unsubscribe URL of List-Unsubscribe."""
    page = f"https://news.example.com/list/unsubscribe/{TOKEN}"
    text, html = parts(made(*demo))
    assert f"\n{page}\n" in text
    assert re.search(rf'<a [^>]*href="{page}"[^>]*>[^<]+</a>', html)


def test_n10_an_email_has_one_sender() -> None:
    """From holds one mailbox, and Reply-To is the setting."""
    message = read(made())
    assert [address.addr_spec for address in message["From"].addresses] == ["news@example.com"]
    assert str(message["Reply-To"]) == "Press office <press@example.com>"
    assert "Reply-To" not in read(made(site=site_with_mail(reply_to="")))


@pytest.mark.parametrize(
    ("identity", "value"),
    [
        ("tag:news.example.com,2026:", "<news.news.example.com>"),
        ("tag:Example.com,2026-01-01:press/2", "<press-2.example.com>"),
        ("tag:editor@example.com,2026:", "<news.example.com>"),
        ("https://example.com/news/", "<news.example.com>"),
        ("urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", "<news.{}.localhost>"),
    ],
)
def test_n12_list_id_survives_a_change_of_domain(identity: str, value: str) -> None:
    """List-Id comes from the setting `id`, which never changes, not from `url`."""
    here = evolve(SITE, id=identity)
    there = evolve(
        here, url="https://elsewhere.example/", mail=site_with_mail(sender="a@b.example").mail
    )
    assert list_id(here) == list_id(there)
    assert list_id(here) == value.format(hashlib.sha256(identity.encode()).hexdigest()[:32])
    # RFC 2919 §3: at most 255 characters with a dot and without spaces.
    assert re.fullmatch(r"<[a-z0-9-]+(\.[a-z0-9-]+)+>", list_id(here))


def test_n15_the_postal_address_is_in_both_parts(demo: tuple[RenderedEmail, Site]) -> None:
    """Both parts name the sender and the postal address."""
    email, site = demo
    for part in parts(made(email, site)):
        assert site.contact.address in part
        assert site.contact.organization in part


def test_n21_both_parts_have_the_same_personal_links(
    demo: tuple[RenderedEmail, Site],
) -> None:
    """Each part has both personal URLs once."""
    for part in parts(made(*demo)):
        found = re.findall(rf"/list/(\w+)/{TOKEN}", part)
        assert found == ["unsubscribe", "preferences"]


BREAKS = ("\r\n", "\n", "\r", "\0", "\u2028", "\x85", "\v", "Bcc: a@example.com", "=?utf-8?q?=0A?=")
MARKS = ("<", ">", '"', ",", ":", "é", " ", "To: b@example.com")
values = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(BREAKS + MARKS), max_size=12).map("".join),
)


@settings(deadline=None, max_examples=100)
@given(values, values)
@example("a\r\nBcc: a@example.com", "b")
@example("\u2028", "a\r\nBcc: a@example.com")
@example(HIDDEN_BCC, HIDDEN_BCC)
def test_n22_no_value_adds_a_field(subject: str, name: str) -> None:
    """Any subject and sender is refused or reads back unchanged, and never becomes a field."""
    email = evolve(EMAIL, subject=subject)
    try:
        data = made(email, site_with_mail(sender=f"{quoted(name)} <news@example.com>"))
    except ContentError:
        assert re.search("[\r\n\0]|\\s", subject + name)
        return
    assert read(data).keys() == read(made()).keys()
    assert mime.decode_field(raw(data, "Subject")) == subject
    assert mime.decode_mailbox(raw(data, "From")) == (
        " ".join(name.split()),
        "news@example.com",
    )
