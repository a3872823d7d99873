"""Delivery reports (RFC 3464) → what became of a letter."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.message import Message
from typing import Literal, TypeAlias

from attrs import evolve, frozen

from postroom.delivery.failure import enhanced_status, is_hard, is_soft

Fate: TypeAlias = Literal["hard", "soft", "refused", "delayed", "delivered"]
# RFC 3464 §2.3.6, §2.2.2: a type, then what the server said, reply code first.
_DIAGNOSTIC = re.compile(r"(?:[^;]*;)?\s*(?:([245][0-9]{2})(?:[ -]|$))?\s*(.*)")
_STATUS = re.compile(r"\s*([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.])")
# RFC 3464 §2.3.3. OpenSMTPD writes "error"; comments behind the word have been seen.
_FATES: dict[str, Fate] = {
    "delayed": "delayed",
    "delivered": "delivered",
    "relayed": "delivered",
    "expanded": "delivered",
}
_MILDEST_FIRST: tuple[Fate, ...] = ("delivered", "delayed", "refused", "soft", "hard")
_RECIPIENTS = ("Original-Recipient", "Final-Recipient")
_LONGEST = 500


@frozen
class Verdict:
    """What a report says: `status` is RFC 3463's, `words` what the server said, on one line.

    `named` are the addresses of which it says so, in small letters.
    """

    fate: Fate
    status: str = ""
    words: str = ""
    named: frozenset[str] = frozenset()


def verdict(recipients: Iterable[Message]) -> Verdict | None:
    """Return what a report says by its fields about each recipient; None if it says nothing.

    A letter has one recipient. Where the report has several, that one's server sent it on, and it
    failed only if it reached none of them, and hard only if it failed hard for all.
    """
    each: dict[Fate, Verdict] = {}
    named: set[str] = set()
    for fields in recipients:
        if found := _one(fields):
            each.setdefault(found.fate, found)
            named |= {key for name in _RECIPIENTS if (key := _address(text(fields, name)))}
    fate = next((fate for fate in _MILDEST_FIRST if fate in each), None)
    return evolve(each[fate], named=frozenset(named)) if fate else None


def _address(value: str) -> str:
    """Return the address of a field such as `rfc822; reader@example.com` (RFC 3464 §2.3.1)."""
    return value.rpartition(";")[2].strip(" <>").casefold()


def _one(fields: Message) -> Verdict | None:
    action = text(fields, "Action").strip().lower()
    status = _STATUS.match(text(fields, "Status"))
    if not action and not status:
        return None
    given = status[1] if status else ""
    diagnostic = _DIAGNOSTIC.match(_line(text(fields, "Diagnostic-Code")))
    code, said = (diagnostic[1], diagnostic[2]) if diagnostic else (None, "")
    word = re.match(r"[a-z]*", action)
    if word and word[0] in _FATES:
        return Verdict(_FATES[word[0]], given, said)
    return weighed(int(code or 0), (given, enhanced_status(said)), said)


def weighed(code: int, statuses: Iterable[str], words: str) -> Verdict:
    """Return what a failure is that was told by a reply's code and by statuses.

    Where they differ, the mildest counts: the relay's word is not worth more than the words of the
    server that refused.
    """
    # A passing reply that came until the relay gave up is a failure all the same.
    code = 0 if code // 100 == 4 else code
    given = [status for status in statuses if status and not status.endswith(".0.0")] or [""]
    shown = given[0]
    if all(is_hard(code, status) for status in given):
        return Verdict("hard", shown, words)
    if all(is_hard(code, status) or is_soft(code, status) for status in given):
        return Verdict("soft", shown, words)
    return Verdict("refused", shown, words)


def text(fields: Message, name: str) -> str:
    """Return the value of a field as one line, "" if there is none."""
    return _line(str(fields.get(name) or ""))


def _line(value: str) -> str:
    """Return a value on one line without what cannot be shown."""
    shown = "".join(c if c.isprintable() else " " for c in value[: 4 * _LONGEST])
    return " ".join(shown.split())[:_LONGEST]
