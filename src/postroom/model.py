"""The nouns: frozen values that every room shares and that know no room.

Every URL of a post is absolute, every instant is aware, every text is plain text unless its
name says `html`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Literal, NewType
from zoneinfo import ZoneInfo

from attrs import Factory, frozen

Frequency = Literal["post", "day", "week", "month"]
Every = Literal["day", "week", "month"]
FormatName = Literal["atom", "rss", "json"]
Content = Literal["full", "summary"]
State = Literal["pending", "active", "paused", "left", "bounced", "complained"]
DeliveryState = Literal[
    "planned", "sending", "sent", "deferred", "bounced", "cancelled", "uncertain"
]
Reason = Literal["forgotten", "bounced", "complained"]
LetterKind = Literal["post", "day", "week", "month", "welcome"]
Severity = Literal["off", "warning", "error"]
Html = NewType("Html", str)
"""Sanitised HTML whose addresses are absolute."""


@frozen
class Contact:
    """The contact block that stands in the footer of every page and letter."""

    name: str = ""
    organization: str = ""
    phone: str = ""
    tel: str = ""
    email: str = ""
    address: str = ""
    message: str = ""


@frozen
class ThemeSettings:
    """What a newsroom can change in the theme without a template of its own."""

    accent: str = "#0b6b62"
    font: str = ""
    logo: str = ""


@frozen
class FeedSettings:
    """Which feeds are written, and what an entry holds."""

    entries: int = 20
    content: Mapping[FormatName, Content] = Factory(dict)
    formats: tuple[FormatName, ...] = ("atom", "rss", "json")
    topics: bool = True
    languages: bool = True
    history: bool = True
    hub: str = ""
    license: str = ""
    rights: str = ""


@frozen
class PageSettings:
    """Whether Postroom writes the pages, and at which address a post stands."""

    enabled: bool = True
    permalink: str = "/posts/{slug}/"


@frozen
class DigestSettings:
    """The calendar of the digest and the words of its letter."""

    every: Every = "month"
    offer: tuple[Frequency, ...] = ("post", "day", "week", "month")
    send_at: str = "09:00"
    subject: str = ""
    intro: str = ""
    welcome: bool = False


@frozen
class MailSettings:
    """Who a letter comes from and how fast letters leave."""

    sender: str = ""
    reply_to: str = ""
    bounces: str = ""
    unsubscribe: str = ""
    rate: int = 14
    connections: int = 4
    per_connection: int = 0
    dkim_selector: str = ""


@frozen
class Site:
    """The settings of a newsroom, checked.

    `url` ends with a slash; `id` is the base of every post id (RFC 4151 tag, or any URI).
    """

    title: str
    url: str
    id: str
    language: str
    timezone: ZoneInfo
    description: str = ""
    posts: str = "posts"
    output: str = "public"
    topics: tuple[str, ...] = ()
    theme: ThemeSettings = ThemeSettings()
    checks: Mapping[str, Severity] = Factory(dict)
    contact: Contact = Contact()
    feeds: FeedSettings = FeedSettings()
    pages: PageSettings = PageSettings()
    digest: DigestSettings = DigestSettings()
    mail: MailSettings = MailSettings()

    @property
    def publisher(self) -> str:
        """Who speaks where a post names no author: the organisation, else the newsroom."""
        return self.contact.organization or self.title


@frozen
class Image:
    """A post's lead picture; its size in pixels is known, not 0, if the file is the newsroom's."""

    src: str
    alt: str = ""
    width: int = 0
    height: int = 0


@frozen
class Enclosure:
    """A file that belongs to a post (RSS 2.0; RFC 4287 §4.2.7.2); `length` is in bytes."""

    url: str
    type: str
    length: int


@frozen
class Attachment:
    """A file beside a post, and the place in the output where it is copied."""

    source: str
    output: str


@frozen
class Post:
    """One published piece of news.

    `published` and `updated` are unique among the posts of a newsroom; `day` is the calendar date
    in the newsroom's zone, the only part of the time that is ever shown.
    """

    id: str
    slug: str
    title: str
    url: str
    path: str
    published: datetime
    updated: datetime
    day: date
    updated_day: date
    html: Html
    summary: str
    text: str
    topics: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    lang: str = ""
    image: Image | None = None
    enclosure: Enclosure | None = None
    withdrawn: date | None = None
    attachments: tuple[Attachment, ...] = ()
    extra: Mapping[str, object] = Factory(dict)


@frozen
class Topic:
    """A label on posts, the segment of its addresses, and its posts, newest first."""

    name: str
    slug: str
    url: str
    posts: tuple[Post, ...]


@frozen
class Feed:
    """One feed document: where it stands and what it holds, newest entry first.

    `previous` is the address of the archive document before it, `current` that of the feed an
    archive belongs to; `complete` says that nothing is left out (RFC 5005). `note` and
    `stylesheet` are for people who open the feed in a browser.
    """

    id: str
    title: str
    url: str
    page_url: str
    posts: tuple[Post, ...]
    language: str
    description: str = ""
    content: Content = "full"
    previous: str = ""
    current: str = ""
    complete: bool = False
    note: str = ""
    stylesheet: str = ""


@frozen
class Digest:
    """The posts of one calendar period, newest first; `first` and `last` are its days."""

    period: str
    every: Every
    first: date
    last: date
    posts: tuple[Post, ...]
    url: str


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
class Outcome:
    """What became of a delivery: its state, the server's reply, and when to try again."""

    delivery: int
    state: DeliveryState
    reply: str = ""
    due: datetime | None = None


@frozen
class Event:
    """Something that happened to a subscriber, or to the list as a whole, and must be provable."""

    at: datetime
    kind: str
    detail: str = ""
    subscriber: int | None = None
