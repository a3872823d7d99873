"""The letter of one subscriber: what the fast way makes is what the slow way makes, to the byte."""

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
from postroom.newsletter.mime import draft_message, encode_body, encode_headers
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
LETTER = RenderedEmail("We moved", f'<p><a href="{PAGE}">Leave</a></p>\n', f"We moved.\n\n{PAGE}\n")
ONCE = ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version")
KEPT = ("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "Message-ID", "Date")


def made(letter: RenderedEmail = LETTER, site: Site = SITE, address: str = ADDRESS) -> bytes:
    """Return a message to one subscriber."""
    prepared = prepare_issue(letter, site, DATE)
    return prepared.message(address, TOKEN, prepared.message_id("0123456789abcdef" * 4))


def sent_by(**mail: Any) -> Site:
    """Return settings with other mail settings."""
    return evolve(SITE, mail=evolve(MAIL, **mail))


def read(data: bytes) -> EmailMessage:
    """Return a message as the standard library reads it."""
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def raw(data: bytes, name: str) -> str:
    """Return the value of the one field of this name as it stands in the message, unfolded."""
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
    """Return a letter of the demonstration with a subscriber's links, and its settings."""
    site = evolve(load_settings(ROOT), mail=MAIL)
    (digest, *_) = group_by_period(loader.load_posts(ROOT, site, AT).posts, site)
    theme, leave, prefer = (
        Theme(ROOT, site.language),
        unsubscribe_url(site),
        preferences_url(site),
    )
    return render_email(digest, site, theme, unsubscribe=leave, preferences=prefer), site


# The fast way and the slow way.


def slowly(letter: RenderedEmail, site: Site, address: str, token: str, message_id: str) -> bytes:
    """Return the message as it is built for one subscriber alone, by the standard library."""
    page = f"{site.mail.unsubscribe}/list/unsubscribe/{token}"
    local, _, domain = site.mail.bounces.partition("@")
    lines = [
        mime.encode_mailbox("To", address),
        mime.encode_plain("Message-ID", f"<{message_id}>"),
        mime.encode_mailbox("From", site.mail.sender),
        mime.encode_mailbox("Reply-To", site.mail.reply_to),
        mime.encode_text("Subject", letter.subject),
        mime.encode_plain("Date", format_datetime(DATE)),
        mime.encode_plain("List-Id", "<news.news.example.com>"),
        mime.encode_plain("List-Unsubscribe", f"<{page}>, <mailto:{local}+leave-{token}@{domain}>"),
        mime.encode_plain("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ]
    mail = EmailMessage(policy=policy.SMTP.clone(max_line_length=76))
    mail.set_content(letter.text.replace(TOKEN_PLACEHOLDER, token), cte="quoted-printable")
    html = letter.html.replace(TOKEN_PLACEHOLDER, token)
    mail.add_alternative(html, subtype="html", cte="quoted-printable")
    for part in mail.iter_parts():
        del part["MIME-Version"]
    both = letter.text.encode() + letter.html.encode()
    mail.set_boundary(f"=_{hashlib.sha256(both).hexdigest()[:32]}")
    return "".join(lines).encode("ascii") + mail.as_bytes()


SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
tokens = st.text(SAFE + "-_", min_size=22, max_size=22)
keys = st.text("0123456789abcdef", min_size=64, max_size=64)
addresses = st.builds(
    "{}@{}.example.com".format,
    st.text(SAFE + "!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=64),
    st.text(SAFE, min_size=1, max_size=60),
)
# Fillers of every length move the placeholder over every place of a line, soft breaks included.
fillers = st.one_of(
    st.integers(0, 90).map("x".__mul__),
    st.integers(0, 30).map("é".__mul__),
    st.integers(0, 30).map("示".__mul__),
    st.text(max_size=40),
    st.sampled_from([" ", "\n", "\t", " \n", "=", "=20\n", ".\n", "\nFrom ", "🧲", "--=_", "\r"]),
)
contents = st.lists(st.one_of(fillers, st.sampled_from([PAGE, CHOICES])), max_size=12).map("".join)
subjects = st.text(max_size=90).map(lambda text: " ".join(text.replace("\0", "").split()))
letters = st.builds(RenderedEmail, subjects, contents, contents)
BROKEN = [RenderedEmail("We moved", "é" * n + PAGE, "x" * n + PAGE + "\n") for n in range(0, 76, 5)]


@settings(deadline=None, max_examples=300)
@given(letters, addresses, tokens, keys)
@example(BROKEN[0], ADDRESS, "-" * 22, "0" * 64)
@example(BROKEN[1], ADDRESS, "--" + "_" * 20, "0" * 64)
def test_the_fast_way_makes_what_the_slow_way_makes(
    letter: RenderedEmail, address: str, token: str, key: str
) -> None:
    """Putting bytes into place gives, to the byte, what building each message gives."""
    prepared = prepare_issue(letter, SITE, DATE)
    message_id = f"{key[:32]}@example.com"
    assert prepared.message_id(key) == message_id
    expected = slowly(letter, SITE, address, token, message_id)
    assert prepared.message(address, token, message_id) == expected


@pytest.mark.parametrize("offset", range(80))
@pytest.mark.parametrize("filler", ["x", "é"])
def test_a_token_across_a_soft_line_break_is_whole(filler: str, offset: int) -> None:
    """Wherever a line of quoted-printable ends, the reader's token arrives whole."""
    start = filler * offset
    letter = RenderedEmail("We moved", f"{start}{PAGE}{start}{CHOICES}", f"{start}{PAGE}\n")
    data = made(letter)
    assert data == slowly(letter, SITE, ADDRESS, TOKEN, raw(data, "Message-ID").strip("<>"))
    mine = f"{start}https://news.example.com/list/unsubscribe/{TOKEN}"
    expected = f"{mine}{start}https://news.example.com/list/preferences/{TOKEN}\n"
    assert parts(data) == (f"{mine}\n", expected)


def test_a_letter_of_the_demonstration_is_the_same_both_ways(
    demo: tuple[RenderedEmail, Site],
) -> None:
    """A real letter, with links in both parts, is the same both ways."""
    letter, site = demo
    data = made(letter, site)
    assert data == slowly(letter, site, ADDRESS, TOKEN, raw(data, "Message-ID").strip("<>"))


@settings(deadline=None)
@given(letters, tokens)
def test_nothing_of_the_placeholder_remains(letter: RenderedEmail, token: str) -> None:
    """No message holds the placeholder, neither in its bytes nor in what they say."""
    prepared = prepare_issue(letter, SITE, DATE)
    data = prepared.message(ADDRESS, token, prepared.message_id("0"))
    told = (data.replace(b"=\r\n", b"").decode("ascii"), *parts(data))
    assert [one for one in told if TOKEN_PLACEHOLDER in one] == []


@settings(deadline=None)
@given(letters, addresses, addresses)
def test_two_letters_differ_in_what_is_personal_alone(
    letter: RenderedEmail, one: str, other: str
) -> None:
    """Two subscribers' messages differ in To, Message-ID and the token, and in nothing else."""
    prepared = prepare_issue(letter, SITE, DATE)
    rests = []
    for address, token, key in ((one, SECRETS[0], "1"), (other, SECRETS[1], "2")):
        data = prepared.message(address, token, prepared.message_id(key))
        own = f"To: {address}\r\nMessage-ID: <{key}@example.com>\r\n".encode()
        assert data.startswith(own)
        broken = "(?:=\r\n)?".join(token).encode()
        rests.append(re.sub(broken, b"", data.removeprefix(own)))
    assert rests[0] == rests[1]


SECRETS = ("0123456789ABCDEFGHIJKL", "MNOPQRSTUVWXYZ-_543210")


def test_what_is_frozen_is_bytes() -> None:
    """Another run, which has the frozen bytes alone, makes the same message."""
    prepared = prepare_issue(LETTER, SITE, DATE)
    thawed = PreparedIssue(prepared.content)
    assert thawed == prepared
    assert thawed.domain == "example.com"
    message_id = thawed.message_id("0")
    made_again = thawed.message(ADDRESS, TOKEN, message_id)
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
def test_what_would_break_a_message_is_refused(
    address: str, token: str, message_id: str, said: str
) -> None:
    """An address, token or Message-ID that would say more than it should is refused, unrepeated."""
    with pytest.raises(ValueError, match=said) as caught:
        prepare_issue(LETTER, SITE, DATE).message(address, token, message_id)
    assert not any(value in str(caught.value) for value in (address, token, message_id) if value)


# What a letter needs before it can be made.


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
            {"bounces": f"{'b' * 36}@example.com"},
            (
                f"mail.bounces: '{'b' * 36}@example.com' is too long or not plain ASCII; "
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
    ids=["no sender", "no way to leave", "http", "long bounces", "strange bounces"],
)
def test_lacking_settings_are_named(mail: Mapping[str, str], said: str) -> None:
    """Settings that lack what letters need are a problem of the settings, with the repair."""
    with pytest.raises(SettingsError) as caught:
        prepare_issue(LETTER, sent_by(**mail), DATE)
    assert problems(caught) == [f"postroom.yaml: {said}"]


def test_all_lacking_settings_are_named_at_once() -> None:
    """Whoever corrects the settings sees everything in one run."""
    with pytest.raises(SettingsError) as caught:
        prepare_issue(LETTER, evolve(SITE, mail=MailSettings()), DATE)
    assert [one.key for one in caught.value.problems] == ["mail.from", "mail.unsubscribe"]


def test_a_sender_that_no_server_takes_is_named() -> None:
    """A sender that is no address every server takes is one line, no broken run."""
    with pytest.raises(ContentError) as caught:
        prepare_issue(LETTER, sent_by(sender="Jörg <jörg@example.com>"), DATE)
    said = (
        "email: From: 'jörg@example.com' is not an email address that every mail program accepts; "
        "reword it"
    )
    assert problems(caught) == [said]


STRAY = f"https://evil.example/?{TOKEN_PLACEHOLDER}"


@pytest.mark.parametrize(
    "letter",
    [
        evolve(LETTER, html=f'{LETTER.html}<a href="{STRAY}">x</a>'),
        evolve(LETTER, text=f"{LETTER.text}{STRAY}"),
        evolve(LETTER, html=f"{LETTER.html}{TOKEN_PLACEHOLDER}"),
    ],
    ids=["link", "text", "word"],
)
def test_no_post_gets_the_readers_token(letter: RenderedEmail) -> None:
    """A post that holds the placeholder would learn each reader's token, so it is refused."""
    with pytest.raises(ContentError) as caught:
        prepare_issue(letter, SITE, DATE)
    assert str(caught.value) == (
        "email: contains 'postroom-token-is-here', which is reserved for each subscriber's token; "
        "remove it from the posts"
    )


@pytest.mark.parametrize("place", ["subject", "sender"])
def test_no_field_gets_the_readers_token(place: str) -> None:
    """Nor does a subject or a sender that holds the placeholder go out."""
    letter = evolve(LETTER, subject=TOKEN_PLACEHOLDER) if place == "subject" else LETTER
    sender = f"{TOKEN_PLACEHOLDER} <news@example.com>" if place == "sender" else MAIL.sender
    with pytest.raises(ContentError, match="would arrive as 'xxxxxxxxxxxxxxxxxxxxxx"):
        prepare_issue(letter, sent_by(sender=sender), DATE)


def test_an_address_that_html_writes_otherwise_is_known() -> None:
    """A page whose address holds `&` is the reader's page in HTML, too."""
    site = sent_by(unsubscribe="https://news.example.com/a&b")
    page = unsubscribe_url(site)
    assert page == f"https://news.example.com/a&b/list/unsubscribe/{TOKEN_PLACEHOLDER}"
    letter = RenderedEmail("We moved", f'<a href="{page.replace("&", "&amp;")}">Leave</a>', page)
    assert f"a&amp;b/list/unsubscribe/{TOKEN}" in parts(made(letter, site))[1]


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
def test_a_letter_that_reads_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch, place: str, tamper: Tamper, said: str
) -> None:
    """Whatever an email package or a rule of ours gets wrong, the letter does not leave."""
    right = {"head": encode_headers, "body": encode_body}[place]
    monkeypatch.setattr(personalize, right.__name__, lambda given: tamper(right(given)))  # type: ignore[operator]
    with pytest.raises(ContentError, match=said):
        prepare_issue(LETTER, SITE, DATE)


# Messages.


@names
def test_m1_values_come_back_from_a_letter(name: str) -> None:
    """Every field comes back as it was meant, whatever company and subject are called."""
    data = made(evolve(LETTER, subject=name), sent_by(sender=f"{quoted(name)} <news@example.com>"))
    found = message_from_bytes(data, policy=policy.compat32).keys()
    assert found == (
        "To Message-ID From Reply-To Subject Date List-Id List-Unsubscribe "
        "List-Unsubscribe-Post MIME-Version Content-Type".split()
    )
    leave = (
        f"<https://news.example.com/list/unsubscribe/{TOKEN}>,"
        f" <mailto:bounces+leave-{TOKEN}@example.com>"
    )
    assert mime.decode_field(raw(data, "Subject")) == name
    assert mime.decode_mailbox(raw(data, "From")) == (name, "news@example.com")
    assert [raw(data, field) for field in ("To", "List-Unsubscribe")] == [ADDRESS, leave]


def test_m2_an_encoded_line_break_adds_no_field() -> None:
    """An encoded line break in subject and sender sends no blind copy."""
    site = sent_by(sender=f"{quoted(HIDDEN_BCC)} <news@example.com>")
    data = made(evolve(LETTER, subject=HIDDEN_BCC), site)
    assert read(data).get_all("Bcc") is None
    assert b"\nBcc" not in data


@pytest.mark.parametrize("length", [20, 40, 100, 200, 600])
def test_m3_fields_for_programs_stay_plain(length: int) -> None:
    """However long the address to leave at is, no field that programs read is ever encoded."""
    site = sent_by(unsubscribe=f"https://news.example.com/{'x' * length}")
    page = unsubscribe_url(site)
    data = made(RenderedEmail("Я", page, page), site)
    assert raw(data, "List-Unsubscribe").startswith(f"<{page.replace(TOKEN_PLACEHOLDER, TOKEN)}>, ")
    assert [name for name in KEPT if "=?" in raw(data, name)] == []
    assert max(map(len, data.splitlines())) <= 998


@pytest.mark.parametrize("host", ["news.example.com", "press.news.example.com", "a.example"])
def test_m3_addresses_to_leave_have_a_line_each(host: str) -> None:
    """Each of the two addresses has a line of 76, which no program on the way encodes."""
    site = sent_by(unsubscribe=f"https://{host}")
    data = made(RenderedEmail("We moved", unsubscribe_url(site), ""), site)
    lines = data.partition(b"\r\n\r\n")[0].splitlines()
    assert [line for line in lines if len(line) > 76] == []
    # What a program written in Python makes of the letter when it passes it on.
    passed = message_from_bytes(data, policy=policy.SMTP).as_bytes()
    assert raw(passed, "List-Unsubscribe") == raw(data, "List-Unsubscribe")


@names
def test_m4_a_company_keeps_its_name(name: str) -> None:
    """The sender's name comes back unchanged, and so does that of whom answers go to."""
    site = sent_by(sender=f"{name} <news@example.com>", reply_to=f"{name} <press@example.com>")
    data = made(LETTER, site)
    found = [mime.decode_mailbox(raw(data, field)) for field in ("From", "Reply-To")]
    assert found == [(name, "news@example.com"), (name, "press@example.com")]


@pytest.mark.parametrize(
    ("domain", "ascii_form"),
    [("münchen.example", "xn--mnchen-3ya.example"), ("例子.测试", "xn--fsqu00a.xn--0zwm56d")],
)
def test_m4_a_domain_of_any_script_is_written_in_ascii(domain: str, ascii_form: str) -> None:
    """Sender, Message-ID and the address to leave at hold the form that every server knows."""
    data = made(LETTER, sent_by(sender=f"News <news@{domain}>", bounces=f"bounces@{domain}"))
    assert raw(data, "From") == f"News <news@{ascii_form}>"
    assert raw(data, "Message-ID").endswith(f"@{ascii_form}>")
    assert raw(data, "List-Unsubscribe").endswith(f"@{ascii_form}>")


def test_m5_the_text_stands_before_the_html(demo: tuple[RenderedEmail, Site]) -> None:
    """A letter is a text and an HTML part in that order, in UTF-8, and its lines are short."""
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


def test_m6_each_field_stands_once_and_one_person_gets_it() -> None:
    """The fields of identity stand once, one reader is addressed, nobody gets a copy."""
    message = read(made())
    assert [len(message.get_all(name, [])) for name in ONCE] == [1] * 6
    assert [one.addr_spec for one in message["To"].addresses] == [ADDRESS]
    assert [message.get_all(name) for name in ("Cc", "Bcc", "Sender")] == [None] * 3


def test_m6_failures_are_reported_to_the_address_for_them() -> None:
    """The envelope's sender is the settings' address for failures, not the sender of the letter."""
    found = envelope_sender(MAIL.bounces, 42, Keys((b"a key for the test",)))
    assert re.fullmatch(r"bounces\+42-[a-z2-7]{16}@example\.com", found)


def planned(*ids: str) -> Issue:
    """Return a planned letter with these posts."""
    return Issue("month", Cursor(date(2026, 12, 1)), ids, "en")


def test_m7_a_message_id_is_of_one_letter_to_one_reader() -> None:
    """Each reader and letter has a Message-ID of the sender's domain; a retry has the same."""
    prepared = prepare_issue(LETTER, SITE, DATE)
    found = [
        prepared.message_id(message_key(reader, planned(post)))
        for reader in (1, 2)
        for post in "ab"
    ]
    again = prepared.message_id(message_key(1, planned("a")))
    assert (len(set(found)), again) == (4, found[0])
    assert [one for one in found if not re.fullmatch(r"[0-9a-f]{32}@example\.com", one)] == []


def test_m7_the_date_is_the_runs() -> None:
    """The date is the instant of the run that froze the letter, in the newsroom's zone."""
    assert raw(made(), "Date") == "Sun, 22 Nov 2026 09:00:00 +0800"


def test_m8_a_letter_says_how_to_leave() -> None:
    """Every letter has the three fields of a list; one that is only shown has none of them."""
    lists = ("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post")
    assert [len(read(made()).get_all(name, [])) for name in lists] == [1, 1, 1]
    shown = draft_message(
        LETTER, sender=MAIL.sender, recipient=ADDRESS, date=DATE, message_id="<1@a.b>"
    )
    assert [name for name in read(shown) if name.startswith(("List-", "Precedence"))] == []


# Signatures.

SIGNED = (*ONCE, "Content-Type", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post")
RELAXED, SIMPLE = (b"relaxed", b"relaxed"), (b"simple", b"simple")


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    """Return a key that nobody needs tomorrow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def sign(data: bytes, key: rsa.RSAPrivateKey, canonical: tuple[bytes, bytes] = RELAXED) -> bytes:
    """Return the message as a relay signs it that covers what a letter needs."""
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


def verified(data: bytes, key: rsa.RSAPrivateKey) -> bool:
    """Tell whether the signature holds."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    holds: bool = dkim.verify(data, dnsfunc=lambda _name, **_: record)
    return holds


def test_m9_n4_a_signature_covers_the_fields_to_leave_by(key: rsa.RSAPrivateKey) -> None:
    """A signed letter verifies, and its signature names both List-Unsubscribe fields."""
    data = sign(made(), key)
    signature = re.sub(r"\s", "", raw(data, "DKIM-Signature")).lower()
    covered = dict(part.split("=", 1) for part in signature.split(";"))["h"].split(":")
    assert set(map(str.lower, SIGNED)) <= set(covered)
    assert verified(data, key)


@pytest.mark.parametrize("name", SIGNED)
def test_m9_n4_a_changed_field_fails(key: rsa.RSAPrivateKey, name: str) -> None:
    """A letter in which any field that matters was changed or taken away does not verify."""
    data = sign(made(), key)
    pattern = rb"(?m)^(%s:\s[\s<]*)(.)" % name.encode()
    changed = re.sub(pattern, rb"\1~\2", data)
    lost = re.sub(rb"(?m)^%s:.*\n(?:[ \t].*\n)*" % name.encode(), b"", data)
    assert changed != data != lost
    assert (verified(changed, key), verified(lost, key)) == (False, False)


def test_m9_n4_changed_words_fail(key: rsa.RSAPrivateKey) -> None:
    """A letter whose body was changed does not verify."""
    data = sign(made(), key)
    assert not verified(data.replace(b"We moved.", b"We stay."), key)


@pytest.mark.parametrize(
    "refold",
    [
        lambda data: data.replace(b">,\r\n <mailto", b">,\r\n\t<mailto"),
        lambda data: data.replace(b">,\r\n <mailto", b">, <mailto"),
        lambda data: data.replace(b"Unsubscribe:\r\n <", b"Unsubscribe: <"),
        lambda data: data.replace(b"List-Unsubscribe-Post: ", b"LIST-UNSUBSCRIBE-POST:\r\n\t"),
    ],
    ids=["with a tab", "on one line", "beside the name", "in capitals"],
)
def test_m9_n4_a_relay_may_fold_anew(key: rsa.RSAPrivateKey, refold: Tamper) -> None:
    """Folded in another way, a letter verifies (RFC 6376 §3.4.2), but by the simple rules not."""
    relaxed, simple = sign(made(), key), sign(made(), key, SIMPLE)
    assert refold(relaxed) != relaxed
    assert (verified(refold(relaxed), key), verified(refold(simple), key)) == (True, False)


# What laws and mailbox providers ask of a newsletter.


def test_n3_one_click_is_enough() -> None:
    """There is one https address with the reader's token in it, and the field that says POST."""
    data = made()
    uris = re.findall(r"<([^>]*)>", raw(data, "List-Unsubscribe"))
    assert [uri.partition(":")[0] for uri in uris] == ["https", "mailto"]
    assert uris[0] == f"https://news.example.com/list/unsubscribe/{TOKEN}"
    assert raw(data, "List-Unsubscribe-Post") == "List-Unsubscribe=One-Click"
    assert ADDRESS not in raw(data, "List-Unsubscribe")


def test_n3_without_an_address_for_failures_the_page_stands_alone() -> None:
    """Where no mailbox is read, no mail is offered as a way to leave."""
    data = made(site=sent_by(bounces=""))
    assert raw(data, "List-Unsubscribe") == f"<https://news.example.com/list/unsubscribe/{TOKEN}>"


def test_n7_the_way_to_leave_stands_in_both_parts(demo: tuple[RenderedEmail, Site]) -> None:
    """Both parts show the page to leave at, and it is the one of the field."""
    page = f"https://news.example.com/list/unsubscribe/{TOKEN}"
    text, html = parts(made(*demo))
    assert f"\n{page}\n" in text
    assert re.search(rf'<a [^>]*href="{page}"[^>]*>[^<]+</a>', html)


def test_n10_a_letter_has_one_sender() -> None:
    """From holds one mailbox of the settings' domain, and Reply-To is the settings'."""
    message = read(made())
    assert [one.addr_spec for one in message["From"].addresses] == ["news@example.com"]
    assert str(message["Reply-To"]) == "Press office <press@example.com>"
    assert "Reply-To" not in read(made(site=sent_by(reply_to="")))


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
def test_n12_a_list_keeps_its_name_when_the_domain_moves(identity: str, value: str) -> None:
    """List-Id comes from the settings' id, which never changes, and not from their address."""
    here = evolve(SITE, id=identity)
    there = evolve(here, url="https://elsewhere.example/", mail=sent_by(sender="a@b.example").mail)
    assert list_id(here) == list_id(there)
    assert list_id(here) == value.format(hashlib.sha256(identity.encode()).hexdigest()[:32])
    # RFC 2919 §3: at most 255 characters, a dot in them, no blanks.
    assert re.fullmatch(r"<[a-z0-9-]+(\.[a-z0-9-]+)+>", list_id(here))


def test_n15_the_postal_address_stands_in_both_parts(demo: tuple[RenderedEmail, Site]) -> None:
    """Both parts say who writes and where they are, and the sender is of the settings' domain."""
    letter, site = demo
    for part in parts(made(letter, site)):
        assert site.contact.address in part
        assert site.contact.organization in part


def test_n21_both_parts_lead_to_the_same_pages_of_a_reader(
    demo: tuple[RenderedEmail, Site],
) -> None:
    """Each part has the reader's two pages, once."""
    for part in parts(made(*demo)):
        found = re.findall(rf"/list/(\w+)/{TOKEN}", part)
        assert found == ["unsubscribe", "preferences"]


BREAKS = ("\r\n", "\n", "\r", "\0", "\u2028", "\x85", "\v", "Bcc: a@example.com", "=?utf-8?q?=0A?=")
MARKS = ("<", ">", '"', ",", ":", "é", " ", "To: b@example.com")
values = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(BREAKS + MARKS), max_size=12).map("".join),
)


@settings(deadline=None, max_examples=300)
@given(values, values)
@example("a\r\nBcc: a@example.com", "b")
@example("\u2028", "a\r\nBcc: a@example.com")
@example(HIDDEN_BCC, HIDDEN_BCC)
def test_n22_no_value_adds_a_field(subject: str, name: str) -> None:
    """Any subject and any sender is refused, or arrives as it was, and never becomes a field."""
    letter = evolve(LETTER, subject=subject)
    try:
        data = made(letter, sent_by(sender=f"{quoted(name)} <news@example.com>"))
    except ContentError:
        assert re.search("[\r\n\0]|\\s", subject + name)
        return
    assert read(data).keys() == read(made()).keys()
    assert mime.decode_field(raw(data, "Subject")) == subject
    assert mime.decode_mailbox(raw(data, "From")) == (
        " ".join(name.split()),
        "news@example.com",
    )
