"""What messages that came back mean, and what they may change."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
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
    claimed,
    returned,
)

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
MEANINGS: Mapping[str, tuple[ReportKind, int, str, str]] = {
    "challenge": ("auto-reply", 0, "", ""),
    "complaint-by-number": ("complaint", 42, "", ""),
    "exchange-access-denied": ("soft", 42, "", "5.4.1"),
    "exchange-not-found": ("hard", 42, "", "5.1.10"),
    "exchange-over-quota": ("soft", 42, "", "5.2.2"),
    "exim-bare-550": ("soft", 42, "", ""),
    "exim-no-such-user": ("hard", 42, "", "5.1.1"),
    "forged": ("hard", 0, "", "5.1.1"),
    "full-mailbox-plain": ("soft", 42, "", "5.2.2"),
    "gmail-not-found": ("hard", 42, "", "5.1.1"),
    "unsubscribe": ("unsubscribe", 0, TOKEN, ""),
    "unsubscribe-auto-reply": ("auto-reply", 0, "", ""),
    "unsubscribe-by-program": ("unsubscribe", 0, TOKEN, ""),
    "not-spam": ("unknown", 0, "", ""),
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
    "qmail-gave-up": ("soft", 42, "", ""),
    "qmail-no-mailbox": ("hard", 42, "", "5.1.1"),
    "qmail-refused": ("refused", 42, "", "5.7.1"),
    "read-receipt": ("auto-reply", 0, "", ""),
    "ses-suppressed": ("hard", 42, "", "5.1.1"),
    "several-reasons": ("soft", 42, "", "5.2.2"),
    "several-recipients": ("delivered", 42, "", "2.0.0"),
    "vacation": ("auto-reply", 0, "", ""),
    "yahoo-complaint": ("complaint", 0, TOKEN, ""),
    "yahoo-plain": ("soft", 42, "", ""),
}


def read(data: bytes | str) -> ReturnedMessage:
    """Return what a message means."""
    return parse_returned_message(data.encode() if isinstance(data, str) else data, KEYS)


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_message_is_understood(name: str) -> None:
    """Rule 14: DSNs, VERP, and refusals in the words of nine kinds of server.

    5.1.1 is hard, 4.2.2 delayed or soft; a complaint, an answering machine and a wish to leave are
    told apart.
    """
    found = read(returned(name))
    assert (found.kind, found.delivery, found.token, found.status) == MEANINGS[name]
    assert found.message_id.startswith("<")
    assert found.message_id.endswith(">")


def test_the_words_of_the_server_are_kept_on_one_line() -> None:
    """What the server said comes without its code, unfolded, and hides in what is printed."""
    found = read(returned("postfix-no-such-user"))
    assert (
        found.diagnostic == "5.1.1 <reader@example.net>: Recipient address rejected: User unknown"
    )
    assert "reader@example.net" not in repr(found)
    assert TOKEN not in repr(read(returned("unsubscribe")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_the_way_a_message_is_handed_over_does_not_matter(name: str, ends: bytes) -> None:
    """Lines may end either way, and a pipe puts a line with "From " before the first."""
    data = b"From MAILER-DAEMON  Sun Nov 22 09:00:05 2026\n" + returned(name)
    found = read(data.replace(b"\n", ends))
    assert evolve(found, diagnostic="") == evolve(read(returned(name)), diagnostic="")


@pytest.mark.parametrize("name", ["Delivered-To", "X-Original-To", "Envelope-To", "To"])
def test_the_number_is_that_of_the_address_it_was_sent_to(name: str) -> None:
    """Where a report returns another letter of ours, the envelope is trusted more."""
    other = envelope_sender(BOUNCES, 7, KEYS)
    data = returned("number-in-returned-email")
    assert read(data.replace(b"To: postmaster@example.com", b"To: x", 1)).delivery == 42
    assert read(f"{name}: {other}\n".encode() + data).delivery == 7


def test_capitals_and_old_keys_are_taken() -> None:
    """Servers may write a sender in capitals, and a key may have been changed since."""
    data = returned("postfix-no-such-user")
    assert read(data.replace(SENDER.encode(), SENDER.upper().encode())).delivery == 42
    newer = parse_keys("a newer secret key,a secret key of this test")
    assert parse_returned_message(data, newer).delivery == 42
    assert parse_returned_message(data, parse_keys("another secret key")).delivery == 0


def test_the_token_is_found_where_letters_hold_it() -> None:
    """The page and the address that letters name in List-Unsubscribe are the ones looked for."""
    token = new_token()
    site = evolve(
        generated_sites.site_with(),
        mail=MailSettings(bounces=BOUNCES, unsubscribe="https://news.example.com/base"),
    )
    plain = returned("yahoo-complaint")
    head, _, rest = plain.partition(b"List-Unsubscribe: ")
    rest = rest.partition(b"List-Unsubscribe-Post")[2]
    for value in (unsubscribe_url(site, token), f"mailto:{unsubscribe_address(BOUNCES, token)}"):
        found = read(head + f"List-Unsubscribe: <{value}>\n".encode() + rest)
        assert (found.kind, found.token) == ("complaint", token)


def test_the_mildest_reason_counts() -> None:
    """Where the relay and the server that refused differ, nobody is given up by the worse word."""
    assert pick_status(550, ["5.1.1", "5.1.1"], "").kind == "hard"
    assert pick_status(550, ["5.1.1", "5.2.2"], "").kind == "soft"
    assert pick_status(550, ["5.1.1", "5.7.1"], "") == BounceVerdict("refused", "5.1.1", "")
    assert pick_status(450, ["5.0.0", "4.1.1"], "").kind == "soft"
    assert pick_status(0, ["5.0.0"], "").kind == "refused"


def test_a_status_that_says_nothing_gives_way_to_the_servers_own() -> None:
    """Exim reports 5.0.0 for whatever it was told; what it was told stands behind it."""
    data = returned("exim-no-such-user")
    plain = data.replace(b"smtp; 550 5.1.1 No such user here", b"smtp; 550 No such user here")
    assert [read(each).kind for each in (data, plain)] == ["hard", "soft"]


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
def test_the_addresses_that_failed_are_told(name: str, named: set[str]) -> None:
    """They prove nothing, but a letter may have failed behind the reader's own mailbox."""
    data = returned(name).replace(b"; reader@example.net", b"; <Reader@Example.net>")
    if name == "several-reasons":
        data = data.replace(b"rfc822;one@example.org", b"rfc822;reader@example.net")
    assert read(data).addresses == named


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
def test_an_encoded_report_is_read(encoding: str) -> None:
    """RFC 6522 §3 forbids to encode the fields of a report, and it has been done."""
    data = returned("postfix-no-such-user")
    before, part, rest = data.partition(b"Content-Type: message/delivery-status\n")
    fields, boundary, after = rest.partition(b"--=_report\n")
    if encoding == "base64":
        fields = b"\n" + base64.encodebytes(fields.lstrip())
    head = part + f"Content-Transfer-Encoding: {encoding}\n".encode()
    found = read(before + head + fields + boundary + after)
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
        "Return-Path: <>",
        "Return-Path: <MAILER-DAEMON>",
        "Subject: Out of office",
        "Subject: Abwesenheitsnotiz",
    ],
)
def test_machines_are_told_from_people(field: str) -> None:
    """Rule 13: RFC 3834 and what is older; a person's mail without any of it is unknown."""
    mail = "From: a@example.net\nTo: bounces@example.com\n\nI am away.\n"
    assert read(mail).kind == "unknown"
    assert read(f"{field}\n{mail}").kind == "auto-reply"


def test_who_wants_to_leave_is_heard_in_doubt() -> None:
    """Only what surely answers by itself is not; a wish that is passed over is worse."""
    mail = f"From: a@example.net\nTo: <{unsubscribe_address(BOUNCES, TOKEN)}>\n\n"
    for field in ("X-Auto-Response-Suppress: All", "Auto-Submitted: auto-generated", "Subject:"):
        assert read(f"{field}\n{mail}").kind == "unsubscribe"
    for field in ("Auto-Submitted: auto-replied", "X-Autoreply: yes"):
        assert read(f"{field}\n{mail}").kind == "auto-reply"


def test_of_a_long_message_the_beginning_counts() -> None:
    """A report that returns an endless letter is read as far as a report goes."""
    data = returned("postfix-no-such-user").replace(b"--=_report--", b"")
    assert read(data + b"and so on\n" * MAX_BYTES).kind == "hard"


def test_reports_are_told_apart() -> None:
    """A report is known again by its Message-ID, on whatever way it came, else by its bytes."""
    one, other = returned("yahoo-complaint"), returned("outlook-complaint")
    assert read(b"Delivered-To: x\n" + one).fingerprint == read(one).fingerprint
    assert read(one).fingerprint != read(other).fingerprint
    nameless = [data.replace(b"Message-ID", b"X-ID") for data in (one, other)]
    assert read(nameless[0]).fingerprint != read(nameless[1]).fingerprint


def _nested(depth: int) -> bytes:
    heads = (f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(depth))
    return "".join(heads).encode()


_RETURNED = b"From: mailer-daemon@x\n\nA message that you sent could not be delivered\n"
HOSTILE: Mapping[str, bytes] = {
    "a line without end": _RETURNED + b"a" * MAX_BYTES,
    "long lines": _RETURNED + (b"a" * 990 + b"\n") * 1000,
    "parts within parts": _nested(20_000),
    "parts of many lines": _nested(90) + b"--x\n" * 100_000,
    "letters within letters": b"Content-Type: message/rfc822\n\n" * 30_000,
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
def test_nothing_takes_long(case: str) -> None:
    """A message made to hang its reader does not, and raises nothing."""
    began = time.process_time()
    read(HOSTILE[case])
    assert time.process_time() - began < 20


WORDS = st.sampled_from(
    [
        b"+42-aaaaaaaaaaaaaaaa@",
        b"bounces+leave-aaaaaaaaaaaaaaaaaaaaaa@example.com",
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
    """Open a store with a reader, whose letter is delivery 1."""
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
    letter = opened.issues.freeze(
        IssueSnapshot("month", date(2026, 12, 1), "en", ("p",), NOW, b"x")
    )
    opened.deliveries.plan(run, Segment(group), letter, Cursor(date(2026, 12, 1)), NOW)
    claims = claimed(opened, run, NOW)
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
def test_nobody_is_taken_off_without_a_number_or_a_token(store: Store, data: bytes) -> None:
    """Whatever bytes come, nothing raises; and without a proof of ours nothing changes.

    The messages hold the number of a delivery and the token of a reader that are not here.
    """
    report = read(data)
    change = apply_report(report, context(store), NOW)
    assert change in {None, "gone"} or report.delivery
    if not report.is_trusted:
        assert change is None
    assert store.subscribers.count() == {"active": 1}
    hashed = KEYS.suppression("reader@example.net")
    assert store.suppressions.among([hashed]) == frozenset()


def test_a_forged_report_changes_nothing(store: Store) -> None:
    """Whoever names somebody's address, or guesses a number, takes nobody off the list."""
    guessed = returned("forged").replace(b"+42-", b"+1-")
    for data in (returned("forged"), guessed):
        assert apply_report(read(data), context(store), NOW) is None
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
def test_a_signed_report_does_what_it_means(store: Store, name: str, state: str) -> None:
    """Rule 9: a complaint suppresses. So does a hard failure; leaving needs the token alone."""
    data = returned(name, 1, "a-token-of-a-reader-00")
    changes = [apply_report(read(data), context(store), NOW) for _ in range(2)]
    assert store.subscribers.count() == {state: 1}
    assert changes[1] in {None, "known"}
    suppressed = store.suppressions.among([KEYS.suppression("reader@example.net")])
    assert bool(suppressed) is (state in {"bounced", "complained"})
