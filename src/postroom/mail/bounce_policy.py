"""What a server's refusal says of an address, and when failures or complaints are too many.

A server refuses for many reasons, and few of them are the address: a relay that was set up wrong
refuses everybody. So an address is given up at once only for a status that says the address itself
is bad, and for anything else only after a long row of failures, a few subscribers a day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

SOFT_LIMIT = 5
"""Soft failures on as many days, with no letter delivered in between, that give an address up.

Mailman gives up at a score of 5, one point a day at most; phpList at 10 in a row, Mailchimp at 7.
"""
SOFT_SPAN = timedelta(days=28)
"""How long the row of soft failures must last: longer than a holiday, or the move of a server."""
COMPLAINT_SPAN = timedelta(days=30)
"""How far back complaints and letters are counted."""
# RFC 2034 §4: the status begins the text. qmail writes it at the end, as "(#5.1.1)".
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=\s|$)")
_STATUS_OF_QMAIL = re.compile(r"\(#([245]\.[0-9]{1,3}\.[0-9]{1,3})\)\.?\s*$")
_CODE = re.compile(r"\A[0-9]{3} ")
# RFC 3463 §3.2: no such mailbox, no such domain, no possible address, moved for good; §3.3: a
# mailbox disabled, which its class 5 calls permanent. RFC 7505 §4.2: a domain without mail.
_HARD = frozenset("5.1.1 5.1.2 5.1.3 5.1.6 5.1.10 5.2.1".split())
# RFC 7504 §3: a domain that takes no mail. Its 521 is of the server that says it, our own relay.
_HARD_CODE = 556
# RFC 5321 §4.2.3: the mailbox is not there or may not be used, is not local, is full, has a wrong
# name. Any of them is said of relaying, too, so none is more than a soft failure.
_SOFT_CODES = frozenset((550, 551, 552, 553))
# RFC 3463 §3.2, §3.3 and §3.5: address, mailbox and way there, less what is said of the sender
# (X.1.7, X.1.8) and of the letter's length (X.2.3). System (3), protocol (5), content (6) and
# policy (7) say nothing of the address.
_SOFT = re.compile(r"[45]\.(?:1\.(?![78]$)|2\.(?!3$)|4\.)[0-9]+")
# What "undefined" (RFC 3463 §3.1) says is no more than the code.
_UNDEFINED = ("", "5.0.0")
_FEWEST_COMPLAINTS = 2


def enhanced_status(text: str) -> str:
    """Return the status of RFC 3463 that the text of a server's reply gives, "" if there is none.

    `text` is what stands behind the reply's code, as in `5.1.1 no such user`.
    """
    found = _STATUS.match(text) or _STATUS_OF_QMAIL.search(text)
    return found[1] if found else ""


def is_hard(code: int, status: str) -> bool:
    """Tell whether a refusal says that the address itself is bad, for ever.

    `code` is the reply's, or 0 where a report gives a status alone; `status` is RFC 3463's, or "".
    """
    if code and code // 100 != 5:
        return False
    return status in _HARD or (code == _HARD_CODE and status in _UNDEFINED)


def is_soft(code: int, status: str) -> bool:
    """Tell whether a refusal for good may be the address's fault without saying so for ever.

    A letter that was refused neither hard nor soft says nothing of its address: relaying was
    denied, the sender not trusted, the content not liked. Such a failure is no `Failure`.
    """
    if is_hard(code, status) or (code and code // 100 != 5):
        return False
    if status in _UNDEFINED:
        return code in _SOFT_CODES
    return _SOFT.fullmatch(status) is not None


def reply_status(reply: str) -> str:
    """Return the status of a reply that begins with its code, as in `550 5.1.1 no such user`.

    Return "" for a reply without one.
    """
    return enhanced_status(_CODE.sub("", reply))


def is_lasting(failed: Sequence[datetime]) -> bool:
    """Tell whether soft failures at these instants, none delivered in between, are enough."""
    if len({instant.date() for instant in failed}) < SOFT_LIMIT:
        return False
    return max(failed) - min(failed) >= SOFT_SPAN


def daily_removal_limit(active: int) -> int:
    """Return how many of `active` subscribers soft failures may take off within a day.

    Whatever refuses everybody is the fault of no address; it takes off one in a hundred a day
    while somebody looks for it.
    """
    return max(1, active // 100)


def exceeds_complaint_limit(complaints: int, letters: int) -> bool:
    """Tell whether so many complaints about so many letters forbid the next letter.

    Mailbox providers ask for a rate below 0.3 %. One complaint alone stops nobody: it may be a
    slip, and of a short list it is always too large a part.
    """
    return complaints >= _FEWEST_COMPLAINTS and complaints * 1000 >= letters * 3
