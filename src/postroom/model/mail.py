"""The nouns of delivery: subscribers, what they are owed, and the rows of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Literal

from attrs import field, frozen

from postroom.model.site import Frequency

State = Literal["pending", "active", "paused", "left", "bounced", "complained"]
DeliveryState = Literal[
    "planned", "sending", "sent", "deferred", "bounced", "cancelled", "uncertain"
]
Reason = Literal["forgotten", "bounced", "complained"]
Change = Literal["stopped", "noted", "known", "gone"]
"""What a report changed: somebody gets no more letters; it was written down; it had been before;
nothing, since whom it is about is not there."""
LetterKind = Literal["post", "day", "week", "month", "welcome"]


@frozen
class Arrival:
    """A post becoming known to the sender: one row of an append-only log.

    `day` decides which letter may hold it and never changes. A `struck` arrival vanished before
    its time and goes to nobody. A `returned` one is its post's second or later, and `first_day` is
    the day of the first.
    """

    seq: int
    day: date
    post_id: str
    first_day: date
    struck: bool = False
    returned: bool = False


@frozen
class Bookmark:
    """What lies behind a subscriber: every arrival with a day before `before` or a seq ≤ `upto`."""

    before: date
    upto: int = 0


@frozen
class Subscriber:
    """An address with a state, a frequency, topics and a bookmark.

    No topics means all of them, no language every language. `letters` counts the closed letters,
    `start` is the day from which posts are owed, `token` opens the unsubscribe page.
    """

    id: int
    address: str
    state: State
    frequency: Frequency
    topics: frozenset[str]
    language: str
    bookmark: Bookmark
    start: date
    letters: int = 0
    token: str = ""


@frozen
class Release:
    """The one state row of the sender: the last run's clock, and the newest date released.

    No arrival logged after it gets a day before `floor`, which is `released` or, where the zone
    was changed, what the old zone's calendar showed if that is later.
    """

    clock: datetime
    released: date
    zone: str
    floor: date = date.min


@frozen
class Letter:
    """What all subscribers of one group are sent; frozen once it is planned.

    `reach` is what it raises a bookmark to: a boundary for the letter of a period, the last seq
    for one of frequency `post`. `posts` are ids, newest first.
    """

    frequency: LetterKind
    reach: Bookmark
    posts: tuple[str, ...]
    language: str


@frozen
class Delivery:
    """One row of the ledger: a letter, to one subscriber, in one state.

    `number` is the count of letters closed before it, `retry_at` the instant from which a deferred
    one may be tried again.
    """

    subscriber: int
    number: int
    letter: Letter
    state: DeliveryState = "planned"
    attempts: int = 0
    retry_at: datetime | None = None


@frozen
class Group:
    """Active subscribers who are owed the same: all that planning reads of a subscriber.

    No topics means all of them, no language every language.
    """

    frequency: Frequency
    bookmark: Bookmark
    topics: frozenset[str] = frozenset()
    language: str = ""


@frozen
class Members:
    """Those of a group to whom one letter goes.

    Posts that returned divide a group: of the arrivals in `owed` each member is owed every one, of
    those in `settled` none. Owed is who started on or before the post's first day and has no
    delivered letter that holds the post.
    """

    group: Group
    owed: tuple[Arrival, ...] = ()
    settled: tuple[Arrival, ...] = ()


@frozen
class FrozenLetter:
    """A letter as it was frozen, for all who are owed the same posts.

    `date` is the instant of the run that froze it; `content` is what its sender needs to make the
    message of one subscriber, and nobody else reads it.
    """

    frequency: LetterKind
    boundary: date
    language: str
    posts: tuple[str, ...]
    date: datetime
    content: bytes = b""
    id: int = 0


@frozen
class Claim:
    """A delivery that a run has taken for sending, with what it needs for the message.

    `number` counts the subscriber's letters from 0; `attempts` counts the tries, this one included.
    """

    id: int
    subscriber: int
    number: int
    letter: int
    address: str
    token: str
    attempts: int = 0


@frozen
class Failure:
    """A server did not take a letter for good, and the reason may be the subscriber's address.

    `hashed` is the suppression hash of the address's key, `hard` whether the address is bad for
    ever, `detail` the server's words. `delivery` is the id of the letter's row in the ledger: the
    failure of one letter counts once, however often it is told.
    """

    subscriber: int
    hashed: str
    hard: bool
    detail: str
    delivery: int = 0


@frozen
class Outcome:
    """What became of a delivery: its state, the server's reply, and when to try again.

    `failure` is what the reply says of the subscriber's address, if anything. `refused`: the email
    was refused for good, and the subscriber, who is still on the list, goes without.
    """

    delivery: int
    state: DeliveryState
    reply: str = ""
    due: datetime | None = None
    failure: Failure | None = None
    refused: bool = False


@frozen
class Trace:
    """By what a report names its letter: the id of a delivery, else the reader's token.

    `report` tells the report from others: what names no delivery is known again by it. `named` are
    the keys of the addresses that it says have failed; it may say none.
    """

    delivery: int = 0
    token: str = field(default="", repr=False)
    report: str = ""
    named: frozenset[str] = field(default=frozenset(), repr=False)


@frozen
class Entry:
    """A delivery, for a person to read.

    `since` is when it came into its state, `due` when it is tried again, `reply` the server's
    words, `refused` when the server refused it. `issue` is the id of what was sent, `frequency`,
    `cutoff` and `language` say which one that is.
    """

    address: str
    state: DeliveryState
    since: datetime
    due: datetime | None
    reply: str
    issue: int
    frequency: LetterKind
    cutoff: date
    language: str
    refused: datetime | None = None


@frozen
class PastRun:
    """A run, and how many letters that it was the last to touch are in each state now.

    `ended` is None while it sends, and for ever if it died.
    """

    id: int
    started: datetime
    ended: datetime | None
    counts: Mapping[DeliveryState, int]


@frozen
class Event:
    """Something that happened to a subscriber, or to the list as a whole, and must be provable."""

    at: datetime
    kind: str
    detail: str = ""
    subscriber: int | None = None
