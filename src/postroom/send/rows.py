"""What a run needs of the rows of a newsroom, and of the way to the mail server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from postroom import planning
from postroom.delivery.arrivals import News
from postroom.model import (
    Arrival,
    Bookmark,
    Claim,
    DeliveryState,
    FrozenLetter,
    Letter,
    LetterKind,
    Members,
    Outcome,
    Release,
)

Clock: TypeAlias = Callable[[], datetime]
Hashed: TypeAlias = Callable[[str], str]
"""Makes the hash under which the address with a key is suppressed."""


class Arrivals(planning.Arrivals, Protocol):
    """The log of arrivals and the state row."""

    def settle(self, new: Sequence[Arrival], struck: Sequence[int], state: Release) -> None:
        """Append to the log, strike, and set the state row, in one transaction."""


class Groups(planning.Groups, Protocol):
    """The active subscribers, by what they are owed."""

    def raise_bookmarks(self, members: Members, to: Bookmark) -> int:
        """Raise the bookmarks of those to whom nothing is owed."""


class Letters(Protocol):
    """The frozen letters."""

    def freeze(self, letter: FrozenLetter) -> int:
        """Keep a letter and return its id; the same one is frozen once."""

    def freeze_anew(self, letter: FrozenLetter) -> int:
        """Keep a letter in the place of the same one; who has that keeps it."""

    def find(self, number: int) -> FrozenLetter | None:
        """Return the letter with this id."""

    def kept(self, letter: FrozenLetter) -> FrozenLetter | None:
        """Return the same letter as it was frozen before."""

    def has_readers(self, number: int) -> bool:
        """Tell whether somebody has, or may have, the letter with this id."""

    def open_in(self, run: int) -> Iterable[tuple[int, str]]:
        """Yield the letter and the reader's token of each open row of a run's plan."""

    def waiting(self, kind: LetterKind) -> Iterable[FrozenLetter]:
        """Return the letters of a kind that are open for somebody."""


class Ledger(Protocol):
    """The rows of deliveries."""

    def sweep(self, run: int, now: datetime) -> Sequence[int]:
        """Close what a dead run left in sending: its fate is uncertain."""

    def plan(self, run: int, members: Members, letter: int, to: Bookmark, now: datetime) -> int:
        """Plan a letter for all members."""

    def greet(self, subscriber: int, letter: int, now: datetime) -> bool:
        """Plan the welcome letter for an active subscriber who has no open letter."""

    def take_up(self, run: int, letter: int) -> int:
        """Make the open rows of a welcome letter part of this run's plan."""

    def cancel_stale(self, run: int, now: datetime) -> int:
        """Cancel the open rows that the plan of the run did not take up."""

    def wake(self, run: int, now: datetime) -> int:
        """Plan the deferred rows whose time has come."""

    def planned(self, run: int) -> int:
        """Return how many rows of the run's plan wait to be sent."""

    def tally(self) -> Mapping[DeliveryState, int]:
        """Return how many deliveries there are in each state."""

    def count_uncertain(self) -> int:
        """Return how many uncertain deliveries are open."""

    def record(self, run: int, outcomes: Sequence[Outcome], now: datetime) -> int:
        """Write down what became of deliveries."""

    def turn(
        self, run: int, outcomes: Sequence[Outcome], limit: int, now: datetime, hashed: Hashed
    ) -> tuple[Claim, ...]:
        """Record, and put up to `limit` planned rows into sending, in one transaction."""

    def turn_again(  # noqa: PLR0913 - the store's
        self,
        run: int,
        outcomes: Sequence[Outcome],
        limit: int,
        now: datetime,
        hashed: Hashed,
        *,
        after: int,
    ) -> tuple[Claim, ...]:
        """Do the same with uncertain rows that nobody has acknowledged."""


class Runs(Protocol):
    """The runs and the lease."""

    def begin(self, now: datetime) -> int:
        """Take the lease and return the id of the new run."""

    def end(self, run: int, now: datetime) -> None:
        """Give the lease back."""


class Store(Protocol):
    """The rows of a newsroom, by noun."""

    @property
    def arrivals(self) -> Arrivals:
        """The log of arrivals."""

    @property
    def groups(self) -> Groups:
        """The groups of subscribers."""

    @property
    def letters(self) -> Letters:
        """The frozen letters."""

    @property
    def ledger(self) -> Ledger:
        """The deliveries."""

    @property
    def runs(self) -> Runs:
        """The runs."""


class Desk(Protocol):
    """Where letters are written: the posts as they stand, and a letter in words."""

    def news(self, clock: datetime) -> Mapping[str, News]:
        """Read the posts as they stand at the instant `clock`; return those that are visible."""

    def write(self, letter: Letter, date: datetime) -> bytes:
        """Return the content of `letter`, dated `date`, as it is frozen."""


class Reply(Protocol):
    """What became of one letter that was handed to the mail server."""

    @property
    def kind(self) -> Literal["accepted", "deferred", "refused", "uncertain"]:
        """What the server made of it."""

    @property
    def code(self) -> int:
        """The reply's code, 0 if there was none."""

    @property
    def text(self) -> str:
        """What the server said."""

    @property
    def usable(self) -> bool:
        """Whether the connection can carry the next letter."""

    @property
    def command(self) -> str:
        """What the server answered to: MAIL, RCPT, DATA, `end of data`, or nothing."""


class Connection(Protocol):
    """One connection to the mail server.

    `open` and `close` take their time. A letter does not: after `begin`, `go_on` whenever the
    socket is ready, to be written to where `wants_to_write`, else to be read from; `give_up` when
    the steady clock reaches `until`.
    """

    @property
    def wants_to_write(self) -> bool:
        """Whether the socket is to be waited for to write, not to read."""

    @property
    def until(self) -> float:
        """The instant of the steady clock up to which the server may take its time."""

    def fileno(self) -> int:
        """Return the number of the socket, -1 if the connection is closed."""

    def open(self) -> object:
        """Connect and log in; raises `RelayError`."""

    def begin(self, envelope_from: str, recipient: str, written: bytes) -> None:
        """Begin to hand over one message, written as it goes over the wire."""

    def go_on(self) -> Reply | None:
        """Do what can be done without waiting; return what became of it, once known."""

    def give_up(self) -> Reply:
        """Wait no longer, and return what that means for the letter."""

    def close(self) -> None:
        """Say goodbye."""
