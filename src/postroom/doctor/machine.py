"""The mail server, the clock and the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from postroom.doctor.finding import Finding, advice, as_findings, problem, well
from postroom.errors import PostroomError

# The HTML of a letter is cut at 90 KB; quoted-printable can treble it, and the text comes to it.
_LARGEST_LETTER = 500_000


class Offer(Protocol):
    """What a mail server offers to those it has let in."""

    @property
    def tls(self) -> str:
        """The version of TLS in use, or nothing."""

    @property
    def size(self) -> int:
        """The longest message it takes, in bytes; 0 if there is no known limit."""


class Relay(Protocol):
    """A mail server that can be connected to."""

    def open(self) -> Offer:
        """Connect and log in; raises `RelayError`."""

    def close(self) -> None:
        """End the connection."""


def relay(server: Relay, name: str) -> tuple[Finding, ...]:
    """Connect to the mail server called `name`, log in, send nothing, and return what was found."""
    try:
        offer = server.open()
    except PostroomError as error:
        return as_findings(error.problems)
    finally:
        server.close()
    protected = f"over {offer.tls}" if offer.tls else "without TLS, on this machine"
    reached = well("connection", f"{name} lets us in, {protected}")
    if 0 < offer.size < _LARGEST_LETTER:
        what = f"takes {offer.size} bytes at most, and a long letter may have {_LARGEST_LETTER}"
        return (reached, advice("size", what, "ask its operator for a higher limit"))
    limit = f"takes letters of up to {offer.size} bytes" if offer.size else "sets no limit"
    return (reached, well("size", limit))


def clock(now: datetime, changed: datetime, due: int, waiting: int) -> tuple[Finding, ...]:
    """Return whether the clock can be right.

    `changed` is when a file of the newsroom was changed last; `due` posts are published and
    `waiting` posts are dated later than `now`.
    """
    shown = f"shows {now.isoformat(timespec='seconds')}"
    if waiting and not due:
        repair = "set the clock, or correct the dates of the posts"
        return (problem("clock", f"{shown}, and every post waits for a later date", repair),)
    # Other machines, and file systems that round, may be a little ahead.
    if changed > now + timedelta(minutes=5):
        when = changed.isoformat(timespec="seconds")
        return (problem("clock", f"{shown}, but a post was changed at {when}", "set the clock"),)
    return (well("clock", shown),)


def database(writes: Callable[[], str]) -> tuple[Finding, ...]:
    """Return whether the ledger can be kept: `writes` tries it and returns where it is.

    It raises `PostroomError` or `OSError` if it cannot.
    """
    try:
        return (well("database", f"{writes()} can be written"),)
    except PostroomError as error:
        return as_findings(error.problems)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        what = f"{error.filename or 'it'} cannot be written ({reason})"
        return (problem("database", what, "correct its owner or its rights"),)
