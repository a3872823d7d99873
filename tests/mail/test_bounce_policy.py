"""Classification of bounces, and the limits of failures and complaints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.mail.bounce_policy import (
    SOFT_LIMIT,
    SOFT_SPAN,
    daily_removal_limit,
    enhanced_status,
    enhanced_statuses,
    exceeds_complaint_limit,
    is_hard,
    is_lasting,
    is_soft,
    reply_status,
)

START = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("5.1.1 <reader@example.com>: Recipient address rejected", "5.1.1"),
        ("5.1.10", "5.1.10"),
        ("4.2.2 mailbox full", "4.2.2"),
        ("sorry, no mailbox here by that name. (#5.1.1)", "5.1.1"),
        ("#5.1.0 address rejected", "5.1.0"),
        ("not sent. The response was: 550 5.7.1 blocked", "5.7.1"),
        ("no such user 5.1.1 here", ""),
        ("5.1.1.2 is no status", ""),
        ("3.1.1 is of no class", ""),
        ("1.5.1.1 release", ""),
        ("", ""),
    ],
)
def test_finds_the_status_of_a_reply(text: str, status: str) -> None:
    """It comes first (RFC 2034 §4), after a code, or at the end in brackets as qmail writes it."""
    assert enhanced_status(text) == status


def test_finds_the_statuses_of_quoted_replies() -> None:
    """A relay quotes the reply of the next server in its own, one status for each."""
    text = "5.1.1 not sent: 550-5.7.1 your server\n550 5.7.1 is blocked, 421 #4.2.0 later"
    assert enhanced_statuses(text) == ("5.1.1", "5.7.1", "4.2.0")
    assert enhanced_statuses("no such user") == ()


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("550 5.7.1 relaying denied", "5.7.1"),
        ("554 no thanks", ""),
        ("554 sorry (#5.7.1)", "5.7.1"),
        ("the email has 9 bytes", ""),
        ("5.7.1 without a code", "5.7.1"),
        ("", ""),
    ],
)
def test_finds_the_status_of_a_recorded_reply(reply: str, status: str) -> None:
    """In a recorded reply the code comes before the status."""
    assert reply_status(reply) == status


@pytest.mark.parametrize("status", "5.1.1 5.1.2 5.1.3 5.1.6 5.1.10 5.2.1".split())
def test_only_a_bad_address_is_hard(status: str) -> None:
    """Only statuses of RFC 3463 §3 and RFC 7505 about a bad address are hard bounces."""
    assert is_hard(550, status)
    assert is_hard(0, status)
    assert not is_soft(550, status)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (550, "5.7.1"),  # relaying denied
        (554, ""),
        (554, "5.7.1"),
        (530, "5.7.0"),
        (535, "5.7.8"),
        (550, "5.7.515"),
        (521, ""),
        (552, "5.2.3"),
        (553, "5.1.7"),
        (553, "5.1.8"),
        (550, "5.6.0"),
        (503, "5.5.1"),
        (500, ""),
        (554, "5.0.0"),
        (451, "4.1.1"),
        (450, ""),
        (421, "5.1.1"),
    ],
)
def test_refusals_about_other_things_are_ignored(code: int, status: str) -> None:
    """A refusal about relaying, policy, login, sender or content is no bounce."""
    assert not is_hard(code, status)
    assert not is_soft(code, status)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (550, ""),
        (551, ""),
        (552, ""),
        (553, ""),
        (550, "5.0.0"),
        (552, "5.2.2"),
        (0, "5.2.2"),
        (0, "4.2.2"),
        (0, "4.1.1"),
        (0, "4.4.7"),
        (550, "5.4.1"),
        (550, "5.1.0"),
        (550, "5.1.4"),
    ],
)
def test_refusals_possibly_about_the_address_are_soft(code: int, status: str) -> None:
    """A full mailbox, a routing failure and a 550 without a status are soft bounces."""
    assert is_soft(code, status)
    assert not is_hard(code, status)


def test_a_domain_without_mail_is_hard_by_its_code_alone() -> None:
    """RFC 7504 §3: 556 means that the domain accepts no mail; 521 is about the replying server."""
    assert is_hard(556, "")
    assert is_hard(556, "5.1.10")
    assert not is_hard(521, "")


@given(st.integers(0, 999), st.from_regex(r"\A[245]\.[0-9]{1,3}\.[0-9]{1,3}\Z") | st.just(""))
def test_a_refusal_is_never_hard_and_soft(code: int, status: str) -> None:
    """No refusal is hard and soft; policy, protocol and temporary replies are neither."""
    assert not (is_hard(code, status) and is_soft(code, status))
    if status[2:3] in {"3", "5", "6", "7"} or (code and code // 100 != 5):
        assert not is_hard(code, status)
        assert not is_soft(code, status)


def days(*numbers: float) -> list[datetime]:
    """Return the instants that are these numbers of days after the start."""
    return [START + timedelta(days=number) for number in numbers]


def test_soft_bounces_must_be_many_and_last() -> None:
    """Soft bounces count on enough different days and over a long enough time."""
    span = SOFT_SPAN.days
    assert is_lasting(days(0, 1, 2, 3, span))
    assert not is_lasting(days(0, 1, 2, span))
    assert not is_lasting(days(0, 1, 2, 3, span - 1))
    assert not is_lasting(days(*range(SOFT_LIMIT + 3)))
    assert not is_lasting(days(0, 0.1, 0.2, 0.3, span))
    assert not is_lasting([])


@pytest.mark.parametrize(("active", "limit"), [(0, 1), (1, 1), (199, 1), (200, 2), (10_000, 100)])
def test_soft_bounces_remove_few_subscribers_a_day(active: int, limit: int) -> None:
    """Soft bounces remove at most one subscriber in a hundred a day, and always one."""
    assert daily_removal_limit(active) == limit


@pytest.mark.parametrize(
    ("complaints", "emails", "stopped"),
    [
        (0, 0, False),
        (1, 1, False),
        (1, 0, False),
        (2, 2, True),
        (2, 0, True),
        (2, 666, True),
        (2, 667, False),
        (3, 1000, True),
        (3, 1001, False),
    ],
)
def test_complaints_stop_at_three_in_a_thousand(
    complaints: int, emails: int, *, stopped: bool
) -> None:
    """A rate of 0.3 % or more stops sending; a single complaint does not."""
    assert exceeds_complaint_limit(complaints, emails) is stopped
