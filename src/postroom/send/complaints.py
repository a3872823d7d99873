"""Too many complaints stop the next letter, until a person has looked."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from postroom.delivery.failure import COMPLAINT_SPAN, complaint_stop
from postroom.errors import Problem, StoppedError


class Reports(Protocol):
    """What is needed of the reports that came back."""

    def complaints(self, since: datetime) -> tuple[int, int]:
        """Return how many complaints came and how many letters were sent since an instant."""


def require_few_complaints(reports: Reports, now: datetime) -> None:
    """Raise `StoppedError` if too many of the letters of the last 30 days were called spam."""
    complaints, letters = reports.complaints(now - COMPLAINT_SPAN)
    if complaint_stop(complaints, letters):
        days = COMPLAINT_SPAN.days
        what = f"{complaints} complaints about {letters:,} letters in {days} days, 0.3 % or more"
        repair = (
            "ask only those who asked for it, or providers will refuse all your mail; "
            "--despite-complaints sends nevertheless"
        )
        raise StoppedError([Problem("send", what=what, repair=repair)])
