"""Classify bounces, and decide how many failures and complaints are too many.

Most refusals are not the fault of the email address: a relay with a wrong setting refuses every
email. So a subscriber is removed at once only for a status that says the email address itself is
bad (a hard bounce), and only if the words of the reply do not contradict it. Soft bounces remove a
subscriber only if they continue for weeks, and remove only a few subscribers a day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from postroom.mail.refusal_words import read_blame

Refusal: TypeAlias = Literal["hard", "soft", "refused"]

SOFT_LIMIT = 5
"""Number of days with soft bounces, without a delivery in between, that remove a subscriber.

Mailman removes at a score of 5, at most one point a day; phpList after 10 in a row, Mailchimp
after 7.
"""
SOFT_SPAN = timedelta(days=28)
"""Minimum time from the first to the last soft bounce: longer than a holiday or an outage."""
COMPLAINT_SPAN = timedelta(days=30)
"""How far back complaints and emails are counted."""
# RFC 2034 §4: the status comes first in the text, or after the code of a reply that is quoted in
# it. qmail writes it at the end, as "(#5.1.1)".
_STATUS = re.compile(
    r"(?:\A#?|(?<![0-9.])[245][0-9]{2}[ -]#?)([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=[\s,;:]|$)"
    r"|\(#([245]\.[0-9]{1,3}\.[0-9]{1,3})\)\.?\s*\Z"
)
_CODE = re.compile(r"\A[0-9]{3} ")
# RFC 3463 §3.2: no such mailbox, no such domain, bad syntax, moved; §3.3: mailbox disabled,
# permanently in class 5. RFC 7505 §4.2: a domain without mail.
_HARD = frozenset("5.1.1 5.1.2 5.1.3 5.1.6 5.1.10 5.2.1".split())
# RFC 7504 §3: a domain that accepts no mail. Code 521 is about the replying server, our own relay.
_HARD_CODE = 556
# RFC 5321 §4.2.3: mailbox unavailable, not local, full, or its name not allowed. Servers use the
# same codes when they deny relaying, so these are soft bounces only.
_SOFT_CODES = frozenset((550, 551, 552, 553))
# RFC 3463 §3.2, §3.3 and §3.5: address, mailbox and routing, except the statuses about the sender
# (X.1.7, X.1.8) and the message length (X.2.3). System (3), protocol (5), content (6) and policy
# (7) are not about the address.
_SOFT = re.compile(r"[45]\.(?:1\.(?![78]$)|2\.(?!3$)|4\.)[0-9]+")
# An undefined status (RFC 3463 §3.1) says no more than the code.
_UNDEFINED = ("", "5.0.0")
# RFC 3463 §3.1, §3.4, §3.6: other or undefined status, of the mail system, of the protocol.
_SAYS_NOTHING = re.compile(r"[245]\.[035]\.0")
_MIN_COMPLAINTS = 2


def enhanced_statuses(text: str) -> tuple[str, ...]:
    """Return the enhanced status codes (RFC 3463) in a server's reply, its own one first.

    `text` is the reply without its three-digit reply code, such as `5.1.1 no such user`. The other
    codes are those of replies that it quotes: `not sent: 550 5.7.1 blocked`.
    """
    return tuple(dict.fromkeys(match[1] or match[2] for match in _STATUS.finditer(text)))


def enhanced_status(text: str) -> str:
    """Return the first of the `enhanced_statuses` of a server's reply, "" if it has none."""
    return next(iter(enhanced_statuses(text)), "")


def classify_reply(code: int, text: str) -> Refusal:
    """Classify a permanent reply of a server, given as its reply code and its text."""
    return classify_refusal(code, enhanced_statuses(text), text)


def classify_refusal(code: int, statuses: Iterable[str], words: str) -> Refusal:
    """Classify a permanent refusal by its reply code, enhanced status codes and words.

    Words that blame us make it `refused`, whatever the status, and words about a rate make it soft
    at most. Words that blame the mailbox make it soft at least if no status says anything else.
    They never make it hard: that takes a status. If the statuses differ, the mildest one counts,
    since some may come from the relay, others from the server that refused the email.
    """
    blame = read_blame(words)
    if blame == "sender":
        return "refused"
    telling = telling_statuses(statuses)
    refusal = _weigh_statuses(code, telling)
    if blame == "rate" and refusal == "hard":
        return "soft"
    says_nothing = all(not status or _SAYS_NOTHING.fullmatch(status) for status in telling)
    if blame == "mailbox" and refusal == "refused" and says_nothing and _may_be_mailbox(code):
        return "soft"
    return refusal


def _weigh_statuses(code: int, statuses: Sequence[str]) -> Refusal:
    if all(is_hard(code, status) for status in statuses):
        return "hard"
    if all(is_hard(code, status) or is_soft(code, status) for status in statuses):
        return "soft"
    return "refused"


def telling_statuses(statuses: Iterable[str]) -> tuple[str, ...]:
    """Return the statuses that count: those that say something, if there are any.

    Otherwise return the others without the undefined ones, or one empty status.
    """
    defined = [status for status in statuses if status and not status.endswith(".0.0")]
    telling = [status for status in defined if not _SAYS_NOTHING.fullmatch(status)]
    return tuple(telling or defined or [""])


def _may_be_mailbox(code: int) -> bool:
    """Tell whether a reply with this code may be about a mailbox; 0 means that there is no code.

    The second digit 0 is about syntax, 2 about the connection (RFC 5321 §4.2.1), 3 about
    authentication (RFC 4954 §6).
    """
    return not code or (code // 100 == 5 and code // 10 % 10 not in {0, 2, 3})


def is_hard(code: int, status: str) -> bool:
    """Tell whether a refusal is a hard bounce: the email address is permanently bad.

    `code` is the SMTP reply code, or 0 if a report states only an enhanced status; `status` is the
    enhanced status code (RFC 3463), or "".
    """
    if code and code // 100 != 5:
        return False
    return status in _HARD or (code == _HARD_CODE and status in _UNDEFINED)


def is_soft(code: int, status: str) -> bool:
    """Tell whether a refusal is a soft bounce: possibly, but not surely, about the email address.

    A refusal that is neither hard nor soft is not about the email address: relaying was denied,
    the sender was not trusted, or the content was rejected. It never removes the subscriber.
    """
    if is_hard(code, status) or (code and code // 100 != 5):
        return False
    if status in _UNDEFINED:
        return code in _SOFT_CODES
    return _SOFT.fullmatch(status) is not None


def reply_status(reply: str) -> str:
    """Return the enhanced status of a whole reply such as `550 5.1.1 no such user`.

    Returns "" for a reply without one.
    """
    return enhanced_status(_CODE.sub("", reply))


def is_lasting(instants: Sequence[datetime]) -> bool:
    """Tell whether soft bounces at these `instants` are enough to remove a subscriber.

    The caller must leave out the bounces before the last email that arrived.
    """
    if len({instant.date() for instant in instants}) < SOFT_LIMIT:
        return False
    return max(instants) - min(instants) >= SOFT_SPAN


def daily_removal_limit(active: int) -> int:
    """Return how many of `active` subscribers soft bounces may remove in one day.

    If a relay refuses every email, this limit leaves the operator time to find the cause.
    """
    return max(1, active // 100)


def exceeds_complaint_limit(complaints: int, emails: int) -> bool:
    """Tell whether the rate of complaints is too high to send another issue.

    Mailbox providers require a rate below 0.3 %. A single complaint is ignored: it may be a slip,
    and on a short list it is always above that rate.
    """
    return complaints >= _MIN_COMPLAINTS and complaints * 1000 >= emails * 3
