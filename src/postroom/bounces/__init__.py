"""Messages that came back → what they change.

`report` reads a message, and what it means is done here. Nothing is ever sent: whoever answers an
answering machine, or reports a report, begins a conversation that never ends (RFC 3834 §2).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from attrs import field, frozen

from postroom.bounces.report import CAP, Kind, Report, read_report
from postroom.model import Change, Subscriber, Trace

__all__ = ["CAP", "Book", "Desk", "Kind", "Report", "act", "read_report"]


class Book(Protocol):
    """Where what reports say is written down; each method is one transaction."""

    def failed(
        self, trace: Trace, *, hard: bool, detail: str, hashed: Callable[[str], str], at: datetime
    ) -> Change:
        """Note that a letter did not arrive."""
        ...

    def refused(self, trace: Trace, detail: str, at: datetime) -> Change:
        """Note that a letter was refused, and not for its address."""
        ...

    def complained(self, trace: Trace, hashed: Callable[[str], str], at: datetime) -> Change:
        """Note that a reader called a letter spam."""
        ...


@frozen
class Desk:
    """What acting needs: the book, how a subscriber leaves by token, and the hash of a key.

    `leave` tells whether it was news, and `with_token` whose the token is, or None.
    """

    book: Book
    leave: Callable[[str, datetime], bool]
    with_token: Callable[[str], Subscriber | None]
    hashed: Callable[[str], str] = field(repr=False)


def act(report: Report, desk: Desk, at: datetime) -> Change | None:
    """Do what a report asks for, at the instant `at`; return None if it asks for nothing.

    Only what bears a number that we signed, or a reader's token, is acted on: the address that a
    report names proves nothing. Doing it twice changes nothing more.
    """
    if not report.is_ours:
        return None
    trace = Trace(report.delivery, report.token, report.fingerprint, report.named)
    said = f"{report.status} {report.words.removeprefix(report.status).strip()}".strip()
    match report.kind:
        case "leave":
            return _left(report.token, desk, at)
        case "complaint":
            return desk.book.complained(trace, desk.hashed, at)
        case "hard" | "soft":
            hard = report.kind == "hard"
            return desk.book.failed(trace, hard=hard, detail=said, hashed=desk.hashed, at=at)
        case "refused":
            return desk.book.refused(trace, said, at)
        case _:
            return None


def _left(token: str, desk: Desk, at: datetime) -> Change:
    if desk.leave(token, at):
        return "stopped"
    return "known" if desk.with_token(token) else "gone"
