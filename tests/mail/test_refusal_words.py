"""Words of refusals, and what they outweigh."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.mail.bounce_policy import classify_refusal, classify_reply
from postroom.mail.refusal_words import MAX_WORDS, Blame, read_blame
from tests.support.refusals import BLAME_MAILBOX, BLAME_NOTHING, BLAME_RATE, BLAME_SENDER

CODES = (0, 421, 450, 501, 521, 550, 551, 552, 553, 554, 556)
STATUSES = (
    "",
    *(
        f"{digit}.{subject}.{detail}"
        for digit in (4, 5)
        for subject in range(8)
        for detail in (*range(11), 26)
    ),
)
# All statuses with the most common code, and all codes with a few statuses.
PAIRS = [(550, status) for status in STATUSES] + [
    (code, status) for code in CODES for status in ("", "4.2.2", "5.0.0", "5.1.1", "5.7.1")
]
HARD = "5.1.1 5.1.2 5.1.3 5.1.6 5.1.10 5.2.1".split()
# Statuses that say nothing about the mailbox: RFC 3463 §3.1, §3.4 and §3.6.
SAY_NOTHING = ("", "5.0.0", "5.3.0", "5.5.0")


@pytest.mark.parametrize(
    ("words", "blame"),
    [
        *((words, "sender") for words in BLAME_SENDER),
        *((words, "rate") for words in BLAME_RATE),
        *((words, "mailbox") for words in BLAME_MAILBOX),
        *((words, "nothing") for words in BLAME_NOTHING),
    ],
)
def test_words_tell_what_the_server_blames(words: str, blame: Blame) -> None:
    """The words of each kind are recognised in any case, and after a code and a status."""
    assert read_blame(words) == blame
    assert read_blame(words.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")) == blame
    assert read_blame(f"550-5.1.1 {words}") == blame


@pytest.mark.parametrize("words", BLAME_SENDER)
def test_words_that_blame_the_sender_suppress_nobody(words: str) -> None:
    """The subscriber keeps the subscription, whatever the code and the statuses."""
    for code, status in PAIRS:
        assert classify_refusal(code, [status], words) == "refused"
        assert classify_refusal(code, [status, "5.1.1"], words) == "refused"
    assert classify_reply(550, f"5.1.1 no such user. {words}") == "refused"


@given(
    words=st.sampled_from(BLAME_SENDER),
    others=st.sampled_from((*BLAME_RATE, *BLAME_MAILBOX, *BLAME_NOTHING)),
    mark=st.sampled_from(("; ", ". ", " (", "\n", " - ")),
    status=st.sampled_from(STATUSES),
    first=st.booleans(),
)
def test_other_words_do_not_take_back_the_blame(
    words: str, others: str, mark: str, status: str, *, first: bool
) -> None:
    """Words that blame the sender count before and after all other words."""
    reply = f"{words}{mark}{others}" if first else f"{others}{mark}{words}"
    assert classify_refusal(550, [status], reply) == "refused"


@pytest.mark.parametrize("words", BLAME_RATE)
def test_a_rate_limit_never_suppresses_at_once(words: str) -> None:
    """A rate limit is soft at most, and not even soft if the status blames something else."""
    for code, status in PAIRS:
        assert classify_refusal(code, [status], words) != "hard"
    assert {classify_refusal(550, [status], words) for status in HARD} == {"soft"}
    assert classify_refusal(550, ["5.7.1"], words) == "refused"


@pytest.mark.parametrize("words", BLAME_MAILBOX)
def test_a_missing_mailbox_outweighs_a_status_that_says_nothing(words: str) -> None:
    """Such words count as soft; only a status makes them hard or takes them back."""
    for code, status in itertools.product((0, 550, 554), SAY_NOTHING):
        assert classify_refusal(code, [status], words) == "soft"
    assert classify_refusal(550, ["5.5.0", "5.1.1"], words) == "hard"
    assert classify_refusal(556, [""], words) == "hard"
    for status in ("5.7.1", "5.6.0", "5.3.4", "5.1.8", "5.5.2"):
        assert classify_refusal(550, [status], words) == "refused"
    # The syntax of the command, the connection, the login.
    assert {classify_refusal(code, [""], words) for code in (501, 521, 535)} == {"refused"}


@pytest.mark.parametrize("words", [*BLAME_MAILBOX, *BLAME_NOTHING])
def test_other_words_leave_a_hard_bounce_hard(words: str) -> None:
    """An invalid address is suppressed, also if its name or server is called spam."""
    for status in HARD:
        assert classify_refusal(550, [status], words) == "hard"


def test_a_long_reply_is_read_quickly() -> None:
    """The time does not explode with the length of a reply that anyone can send."""
    began = time.process_time()
    for words in ("a", "no ", "user ", "sender x ", "mail from ", "a.", "@", "rate ", "host "):
        read_blame(words * MAX_WORDS)
    assert time.process_time() - began < 5
