"""Classify bounces, and decide how many failures and complaints are too many.

Most refusals are not the fault of the email address: a relay with a wrong setting refuses every
email. So a subscriber is removed at once only for a status that says the email address itself is
bad (a hard bounce). Soft bounces remove a subscriber only if they continue for weeks, and remove
only a few subscribers a day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

SOFT_LIMIT = 5
"""Number of days with soft bounces, without a delivery in between, that remove a subscriber.

Mailman removes at a score of 5, at most one point a day; phpList after 10 in a row, Mailchimp
after 7.
"""
SOFT_SPAN = timedelta(days=28)
"""Minimum time from the first to the last soft bounce: longer than a holiday or an outage."""
COMPLAINT_SPAN = timedelta(days=30)
"""How far back complaints and emails are counted."""
# RFC 2034 §4: the status comes first in the text. qmail writes it at the end, as "(#5.1.1)".
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=\s|$)")
_QMAIL_STATUS = re.compile(r"\(#([245]\.[0-9]{1,3}\.[0-9]{1,3})\)\.?\s*$")
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
_MIN_COMPLAINTS = 2


def enhanced_status(text: str) -> str:
    """Return the enhanced status code (RFC 3463) in a server's reply, "" if it has none.

    `text` is the reply without its three-digit reply code, such as `5.1.1 no such user`.
    """
    match = _STATUS.match(text) or _QMAIL_STATUS.search(text)
    return match[1] if match else ""


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
