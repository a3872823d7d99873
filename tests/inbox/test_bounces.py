"""Parsing and applying returned messages."""

from __future__ import annotations

import base64
import quopri
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from postroom.db.store import Store, open_store
from postroom.inbox.bounces import (
    MAX_BYTES,
    BounceContext,
    BounceVerdict,
    ReportKind,
    ReturnedMessage,
    apply_report,
    parse_returned_message,
    pick_status,
)
from postroom.mail import unsubscribe
from postroom.mail.tokens import envelope_sender, new_token, parse_keys, unsubscribe_address
from postroom.mail.unsubscribe import unsubscribe_url
from postroom.models import (
    Cursor,
    DeliveryOutcome,
    IssueSnapshot,
    MailSettings,
    Segment,
    Subscriber,
)
from tests.support import generated_sites
from tests.support.bounce_messages import (
    BOUNCES,
    FOLDER,
    KEYS,
    NAMES,
    SENDER,
    TOKEN,
    begin,
    claim_all,
    returned,
)
from tests.support.refusals import BLAME_SENDER

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
MEANINGS: Mapping[str, tuple[ReportKind, int, str, str]] = {
    "challenge": ("auto-reply", 0, "", ""),
    "complaint-by-number": ("complaint", 42, "", ""),
    "exchange-access-denied": ("soft", 42, "", "5.4.1"),
    "exchange-not-found": ("hard", 42, "", "5.1.10"),
    "exchange-plain": ("hard", 42, "", "5.1.10"),
    "exchange-over-quota": ("soft", 42, "", "5.2.2"),
    "exim-bare-550": ("refused", 42, "", ""),
    "exim-no-such-user": ("hard", 42, "", "5.1.1"),
    "forged": ("hard", 0, "", "5.1.1"),
    "full-mailbox-plain": ("soft", 42, "", "5.2.2"),
    "gmail-not-found": ("hard", 42, "", "5.1.1"),
    "unsubscribe": ("unsubscribe", 0, TOKEN, ""),
    "unsubscribe-auto-reply": ("auto-reply", 0, "", ""),
    "unsubscribe-by-program": ("unsubscribe", 0, TOKEN, ""),
    "not-spam": ("unknown", 0, "", ""),
    "null-sender": ("unknown", 0, "", ""),
    "number-in-returned-email": ("hard", 42, "", "5.1.1"),
    "opt-out": ("complaint", 0, TOKEN, ""),
    "out-of-office": ("auto-reply", 0, "", ""),
    "outlook-complaint": ("complaint", 0, TOKEN, ""),
    "person": ("unknown", 0, "", ""),
    "postfix-delayed": ("delayed", 42, "", "4.2.2"),
    "postfix-expired": ("soft", 42, "", "4.4.1"),
    "postfix-no-such-user": ("hard", 42, "", "5.1.1"),
    "postfix-relay-denied": ("refused", 42, "", "5.7.1"),
    "postfix-relayed": ("delivered", 42, "", "2.1.5"),
    "postfix-smtputf8": ("hard", 42, "", "5.1.1"),
    "qmail-gave-up": ("soft", 42, "", ""),
    "qmail-no-mailbox": ("hard", 42, "", "5.1.1"),
    "qmail-refused": ("refused", 42, "", "5.7.1"),
    "read-receipt": ("auto-reply", 0, "", ""),
    "ses-suppressed": ("hard", 42, "", "5.1.1"),
    "several-reasons": ("soft", 42, "", "5.2.2"),
    "several-recipients": ("delivered", 42, "", "2.0.0"),
    "vacation": ("auto-reply", 0, "", ""),
    "vacation-with-original": ("auto-reply", 0, "", ""),
    "yahoo-complaint": ("complaint", 0, TOKEN, ""),
    "yahoo-plain": ("soft", 42, "", ""),
}


def parse(data: bytes | str) -> ReturnedMessage:
    """Parse a message."""
    return parse_returned_message(data.encode() if isinstance(data, str) else data, KEYS)


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_message_is_recognised(name: str) -> None:
    """Rule 14: DSNs, VERP, complaints, auto-replies and unsubscribe emails.

    5.1.1 is hard, 4.2.2 is delayed or soft.
    """
    found = parse(returned(name))
    assert (found.kind, found.delivery, found.token, found.status) == MEANINGS[name]
    assert found.message_id.startswith("<")
    assert found.message_id.endswith(">")


def test_diagnostic_is_one_line() -> None:
    """The server's text is unfolded, without its reply code, and not in the repr."""
    found = parse(returned("postfix-no-such-user"))
    assert (
        found.diagnostic == "5.1.1 <reader@example.net>: Recipient address rejected: User unknown"
    )
    assert "reader@example.net" not in repr(found)
    assert TOKEN not in repr(parse(returned("unsubscribe")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_line_ends_and_separator_do_not_matter(name: str, ends: bytes) -> None:
    """Line ends of LF or CR LF and an mbox separator are accepted."""
    data = b"From MAILER-DAEMON  Sun Nov 22 09:00:05 2026\n" + returned(name)
    found = parse(data.replace(b"\n", ends))
    assert evolve(found, diagnostic="") == evolve(parse(returned(name)), diagnostic="")


@pytest.mark.parametrize("name", ["Delivered-To", "X-Original-To", "Envelope-To", "To"])
def test_recipient_precedes_returned_email(name: str) -> None:
    """The delivery id in the recipient has precedence over that of a returned email."""
    other = envelope_sender(BOUNCES, 7, KEYS)
    data = returned("number-in-returned-email")
    assert parse(data.replace(b"To: postmaster@example.com", b"To: x", 1)).delivery == 42
    assert parse(f"{name}: {other}\n".encode() + data).delivery == 7


def test_capitals_and_old_keys_are_accepted() -> None:
    """An envelope sender in capitals or signed with an older key is accepted."""
    data = returned("postfix-no-such-user")
    assert parse(data.replace(SENDER.encode(), SENDER.upper().encode())).delivery == 42
    newer = parse_keys("a newer secret key,a secret key of this test")
    assert parse_returned_message(data, newer).delivery == 42
    assert parse_returned_message(data, parse_keys("another secret key")).delivery == 0


def test_token_is_found_in_list_unsubscribe() -> None:
    """The URL and the address of List-Unsubscribe in our emails are recognised."""
    token = new_token()
    site = evolve(
        generated_sites.site_with(),
        mail=MailSettings(bounces=BOUNCES, unsubscribe="https://news.example.com/base"),
    )
    plain = returned("yahoo-complaint")
    head, _, rest = plain.partition(b"List-Unsubscribe: ")
    rest = rest.partition(b"List-Unsubscribe-Post")[2]
    for value in (unsubscribe_url(site, token), f"mailto:{unsubscribe_address(BOUNCES, token)}"):
        found = parse(head + f"List-Unsubscribe: <{value}>\n".encode() + rest)
        assert (found.kind, found.token) == ("complaint", token)


def test_mildest_status_counts() -> None:
    """The milder status counts if the relay and the refusing server differ."""
    assert pick_status(550, ["5.1.1", "5.1.1"], "", "").kind == "hard"
    assert pick_status(550, ["5.1.1", "5.2.2"], "", "").kind == "soft"
    assert pick_status(550, ["5.1.1", "5.7.1"], "", "") == BounceVerdict("refused", "5.1.1", "")
    assert pick_status(0, ["5.0.0", "4.1.1"], "", "").kind == "soft"
    assert pick_status(0, ["5.0.0"], "", "").kind == "refused"


def test_undefined_status_is_ignored() -> None:
    """Exim always reports 5.0.0; the server's own status is in the diagnostic."""
    data = returned("exim-no-such-user")
    plain = data.replace(b"smtp; 550 5.1.1 No such user here", b"smtp; 550 No such user here")
    assert [parse(each).kind for each in (data, plain)] == ["hard", "soft"]


def report_of(*fields: str) -> bytes:
    """Return a report with these fields about its recipient."""
    before, part, rest = returned("postfix-no-such-user").partition(b"Final-Recipient:")
    after = rest[rest.index(b"\n\n--=_report") :]
    lines = "\n".join(("Action: failed", *fields))
    return before + part + b" rfc822; reader@example.net\n" + lines.encode() + after


@pytest.mark.parametrize(
    ("fields", "kind", "status"),
    [
        (("Status: 5.1.1", "Diagnostic-Code: smtp; 550 5.1.1 {}"), "refused", "5.1.1"),
        (("Status: 5.2.1", "Diagnostic-Code: smtp; 550 {}"), "refused", "5.2.1"),
        (("Status: 5.1.1", "X-Supplementary-Info: <192.0.2.9 smtp; 550 {}>"), "refused", "5.1.1"),
        (("Status: 4.2.2", "Diagnostic-Code: smtp; 452 {}"), "refused", "4.2.2"),
        (
            ("Status: 5.0.0", "Diagnostic-Code: smtp; 550 Unavailable. It said: 550 5.7.1 {}"),
            "refused",
            "5.7.1",
        ),
    ],
)
@pytest.mark.parametrize("words", BLAME_SENDER)
def test_a_report_that_blames_the_sender_suppresses_nobody(
    fields: tuple[str, ...], kind: str, status: str, words: str
) -> None:
    """The words count in each field that servers write them in."""
    found = parse(report_of(*(field.format(words) for field in fields)))
    assert (found.kind, found.status, found.delivery) == (kind, status, 42)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (("Status: 5.2.1", "Diagnostic-Code: smtp; 550-5.2.1 User gets mail at 550 5.2.1 a rate"),
         "soft"),
        (("Status: 5.5.0", "Diagnostic-Code: smtp; 550 5.5.0 mailbox unavailable"), "soft"),
        (("Status: 5.0.0", "Diagnostic-Code: smtp; 554 This mailbox is disabled (554.30)"), "soft"),
        (("Status: 5.0.0", 'X-Supplementary-Info: <192.0.2.9 #5.0.0 smtp; 550 "Unknown User">'),
         "soft"),
        (("Status: 5.0.0", "Diagnostic-Code: smtp; 550 not sent: 550 5.7.1 no"), "refused"),
        (("Status: 5.0.0", "Diagnostic-Code: smtp; 550 not sent: 550 5.1.1 no"), "hard"),
        (("Status: 5.5.0", "Diagnostic-Code: smtp; 554 no"), "refused"),
        (("Status: 5.5.0", "Diagnostic-Code: smtp; 550 5.1.1 unknown user"), "hard"),
    ],
)  # fmt: skip
def test_words_and_quoted_statuses_of_a_report_count(fields: tuple[str, ...], kind: str) -> None:
    """A rate is soft, a missing mailbox outweighs an empty status, and quoted replies count."""
    assert parse(report_of(*fields)).kind == kind


def test_blame_at_the_end_of_a_long_reply_counts() -> None:
    """The reply is read in full, although only its beginning is stored."""
    words = "no such user here\n " * 100 + "because your server is blacklisted"
    found = parse(report_of("Status: 5.1.1", f"Diagnostic-Code: smtp; 550 5.1.1 {words}"))
    assert (found.kind, len(found.diagnostic)) == ("refused", 500)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("postfix-no-such-user", {"reader@example.net"}),
        ("several-reasons", {"one@example.org", "two@example.org", "reader@example.net"}),
        ("qmail-no-mailbox", {"reader@example.net"}),
        ("exim-bare-550", {"reader@example.net"}),
        ("yahoo-complaint", set()),
    ],
)
def test_failed_addresses_are_returned(name: str, named: set[str]) -> None:
    """The failed addresses are returned; they may belong to a server that forwarded the email."""
    data = returned(name).replace(b"; reader@example.net", b"; <Reader@Example.net>")
    if name == "several-reasons":
        data = data.replace(b"rfc822;one@example.org", b"rfc822;reader@example.net")
    assert parse(data).addresses == named


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
def test_an_encoded_report_is_read(encoding: str) -> None:
    """Some servers encode the fields of a report, although RFC 6522 §3 forbids it."""
    data = returned("postfix-no-such-user")
    before, part, rest = data.partition(b"Content-Type: message/delivery-status\n")
    fields, boundary, after = rest.partition(b"--=_report\n")
    if encoding == "base64":
        fields = b"\n" + base64.encodebytes(fields.lstrip())
    head = part + f"Content-Transfer-Encoding: {encoding}\n".encode()
    found = parse(before + head + fields + boundary + after)
    assert (found.kind, found.status, found.delivery) == ("hard", "5.1.1", 42)


@pytest.mark.parametrize(
    "field",
    [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-generated",
        "X-Autoreply: yes",
        "X-Auto-Response-Suppress: All",
        "Precedence: auto_reply",
        "Precedence: bulk",
        "List-Id: <list.example.org>",
        "Subject: Out of office",
        "Subject: Abwesenheitsnotiz",
    ],
)
def test_auto_replies_are_recognised(field: str) -> None:
    """Rule 13: by RFC 3834 and older fields; a person's email without them is unknown."""
    mail = "From: a@example.net\nTo: bounces@example.com\n\nI am away.\n"
    assert parse(mail).kind == "unknown"
    assert parse(f"{field}\n{mail}").kind == "auto-reply"


@pytest.mark.parametrize("sender", ["<>", "<MAILER-DAEMON>"])
@pytest.mark.parametrize(
    "quoted", ["", "\nList-Unsubscribe: <https://news.example.com/x>\n\nHello."]
)
def test_a_null_sender_alone_is_unknown(sender: str, quoted: str) -> None:
    """A message that may be a report or an auto-reply is named, so that a person reads it."""
    mail = f"Return-Path: {sender}\nFrom: a@example.net\nTo: bounces@example.com\n\n"
    assert parse(f"{mail}Call 550 123.\n{quoted}").kind == "unknown"


def test_a_report_without_a_reason_is_unknown() -> None:
    """A report about a delivery whose status cannot be read is no auto-reply."""
    head = "From: relay@example.net\nContent-Type: multipart/report; boundary=b1; report-type="
    parts = "\n\n--b1\n\nIt failed.\n--b1\nContent-Type: application/octet-stream\n\n?\n--b1--\n"
    assert parse(f"{head}delivery-status{parts}").kind == "unknown"
    assert parse(f"{head}disposition-notification{parts}").kind == "auto-reply"


@pytest.mark.parametrize("encoding", ["8bit", "base64", "quoted-printable"])
def test_a_report_in_utf_8_is_read_in_any_encoding(encoding: str) -> None:
    """RFC 6533 §3: the status part may be encoded, and so may single characters of an address."""
    data = returned("postfix-smtputf8")
    head, _, rest = data.partition(b"8bit\n\n")
    fields, _, tail = rest.partition(b"\n--b1")
    encode: Mapping[str, Callable[[bytes], bytes]] = {
        "8bit": bytes,
        "base64": base64.encodebytes,
        "quoted-printable": quopri.encodestring,
    }
    part = encoding.encode() + b"\n\n" + encode[encoding](fields)
    found = parse(head + part + b"\n--b1" + tail)
    assert (found.kind, found.delivery, found.status) == ("hard", 42, "5.1.1")
    assert found.addresses == {"müller@example.net"}


def test_no_encoded_character_of_an_address_is_an_error() -> None:
    """A number that is no character is left as it is."""
    data = returned("postfix-smtputf8").replace(rb"\x{FC}", rb"\x{FFFFFF}")
    assert parse(data).addresses == {"müller@example.net", r"m\x{ffffff}ller@example.net"}


def test_doubtful_unsubscribe_email_counts() -> None:
    """A doubtful unsubscribe email counts; only certain auto-replies are ignored."""
    mail = f"From: a@example.net\nTo: <{unsubscribe_address(BOUNCES, TOKEN)}>\n\n"
    for field in ("X-Auto-Response-Suppress: All", "Auto-Submitted: auto-generated", "Subject:"):
        assert parse(f"{field}\n{mail}").kind == "unsubscribe"
    for field in ("Auto-Submitted: auto-replied", "X-Autoreply: yes"):
        assert parse(f"{field}\n{mail}").kind == "auto-reply"


def test_only_the_beginning_is_read() -> None:
    """The first MiB is enough for a report that returns an endless email."""
    data = returned("postfix-no-such-user").replace(b"--=_report--", b"")
    assert parse(data + b"and so on\n" * MAX_BYTES).kind == "hard"


def test_fingerprints_differ() -> None:
    """The fingerprint depends on the Message-ID, or on the bytes without one."""
    complaint, other = returned("yahoo-complaint"), returned("outlook-complaint")
    assert parse(b"Delivered-To: x\n" + complaint).fingerprint == parse(complaint).fingerprint
    assert parse(complaint).fingerprint != parse(other).fingerprint
    nameless = [data.replace(b"Message-ID", b"X-ID") for data in (complaint, other)]
    assert parse(nameless[0]).fingerprint != parse(nameless[1]).fingerprint


def _nested(depth: int) -> bytes:
    heads = (f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(depth))
    return "".join(heads).encode()


_RETURNED = b"From: mailer-daemon@x\n\nA message that you sent could not be delivered\n"
HOSTILE: Mapping[str, bytes] = {
    "a line without end": _RETURNED + b"a" * MAX_BYTES,
    "long lines": _RETURNED + (b"a" * 990 + b"\n") * 1000,
    "parts within parts": _nested(20_000),
    "parts of many lines": _nested(90) + b"--x\n" * 100_000,
    "emails within emails": b"Content-Type: message/rfc822\n\n" * 30_000,
    "many parts": b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\n" * 100_000,
    "many reports": b"Content-Type: message/delivery-status\n\n" + b"Action: failed\n\n" * 40_000,
    "failed addresses": b"X-Failed-Recipients: " + b'"<(,\n ' * 150_000 + b"\n\nx",
    "many numbers": returned("forged") + b"+1-aaaaaaaaaaaaaaaa@" * 50_000,
    "parameters": b"Content-Type: multipart/report" + b";boundary*1=x" * 80_000 + b"\n\nx",
    "no charset": b'Content-Type: text/plain; charset="\xff\xfe"\n\n\xff\xfe',
    "an impossible charset": b"Subject: =?idna?q?=ff?=\nFrom: =?\xff?b?=?=\n\nx",
    "nothing": b"",
    "a carriage return": b"\r" * MAX_BYTES,
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_message_is_parsed_quickly(case: str) -> None:
    """A hostile message is parsed in little time and raises nothing."""
    began = time.process_time()
    parse(HOSTILE[case])
    assert time.process_time() - began < 20


WORDS = st.sampled_from(
    [
        b"+42-aaaaaaaaaaaaaaaa@",
        b"bounces+leave-aaaaaaaaaaaaaaaaaaaaaa@example.com",
        b"bounces+LEAVE-AAAAAAAAAAAAAAAAAAAAAAAAAA7@example.com",
        b"Content-Type: message/delivery-status\n\n",
        b"Content-Type: message/feedback-report\n\nFeedback-Type: abuse\n",
        b"Content-Type: multipart/report; boundary=x\n\n--x\n",
        b"Action: failed\nStatus: 5.1.1\n",
        b"To: ",
        b"\n\n",
        b"=?utf-8?b?",
        *(path.read_bytes() for path in sorted(FOLDER.glob("*.eml"))),
    ]
)
ANYTHING = st.lists(st.binary(max_size=40) | WORDS, max_size=6).map(b"".join)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Open a store with one subscriber, whose email is delivery 1."""
    opened = open_store(None, tmp_path)
    reader = Subscriber(
        0,
        "reader@example.net",
        "active",
        "month",
        frozenset(),
        "",
        Cursor(date(2026, 11, 1)),
        date(2026, 11, 1),
        token="a-token-of-a-reader-00",
    )
    opened.subscribers.add([reader], NOW)
    run = begin(opened, NOW)
    ((group, _),) = opened.segments.groups()
    issue = opened.issues.freeze(IssueSnapshot("month", date(2026, 12, 1), "en", ("p",), NOW, b"x"))
    opened.deliveries.plan(run, Segment(group), issue, Cursor(date(2026, 12, 1)), NOW)
    claims = claim_all(opened, run, NOW)
    opened.deliveries.record(run, [DeliveryOutcome(claims[0].id, "sent")], NOW)
    yield opened
    opened.database.close()


def context(store: Store) -> BounceContext:
    """Return the dependencies of `apply_report`."""
    by_email = partial(unsubscribe.unsubscribe, store.subscribers, method="mail")
    return BounceContext(store.bounces, by_email, store.subscribers.with_token, KEYS.suppression)


@given(ANYTHING)
@example(returned("forged", 1))
@example(returned("unsubscribe"))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_untrusted_message_changes_nothing(store: Store, data: bytes) -> None:
    """Messages without a valid id or token change nothing and raise nothing, whatever their bytes.

    The id and token in the messages do not exist here.
    """
    report = parse(data)
    change = apply_report(report, context(store), NOW)
    assert change in {None, "gone"} or report.delivery
    if not report.is_trusted:
        assert change is None
    assert store.subscribers.count() == {"active": 1}
    hashed = KEYS.suppression("reader@example.net")
    assert store.suppressions.among([hashed]) == frozenset()


def test_a_forged_report_changes_nothing(store: Store) -> None:
    """A report with a known address or a guessed id changes no subscriber."""
    guessed = returned("forged").replace(b"+42-", b"+1-")
    for data in (returned("forged"), guessed):
        assert apply_report(parse(data), context(store), NOW) is None
    assert store.subscribers.count() == {"active": 1}


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("postfix-no-such-user", "bounced"),
        ("qmail-no-mailbox", "bounced"),
        ("complaint-by-number", "complained"),
        ("yahoo-complaint", "complained"),
        ("unsubscribe", "unsubscribed"),
        ("unsubscribe-auto-reply", "active"),
        ("postfix-relay-denied", "active"),
        ("postfix-delayed", "active"),
        ("several-recipients", "active"),
        ("vacation", "active"),
        ("not-spam", "active"),
        ("exchange-over-quota", "active"),
    ],
)
def test_trusted_message_is_applied(store: Store, name: str, state: str) -> None:
    """Rule 9: complaints and hard bounces suppress; unsubscribing needs only the token."""
    data = returned(name, 1, "a-token-of-a-reader-00")
    changes = [apply_report(parse(data), context(store), NOW) for _ in range(2)]
    assert store.subscribers.count() == {state: 1}
    assert changes[1] in {None, "known"}
    suppressed = store.suppressions.among([KEYS.suppression("reader@example.net")])
    assert bool(suppressed) is (state in {"bounced", "complained"})
