"""The nouns: frozen values that every room shares and that know no room.

Every URL of a post is absolute, every instant is aware, every text is plain text unless its
name says `html`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Literal, NewType
from zoneinfo import ZoneInfo

from attrs import Factory, field, frozen

Frequency = Literal["post", "day", "week", "month"]
DigestFrequency = Literal["day", "week", "month"]
Content = Literal["full", "summary"]
Severity = Literal["off", "warning", "error"]


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
class FeedFormat:
    """A format of feeds.

    `key` is its name in the settings, `file` that of its feeds, and `archive_ending` that of its
    archive documents. `writer` names the function that makes the bytes of a document.
    """

    key: str
    name: str
    file: str
    archive_ending: str
    media_type: str
    writer: str


FORMATS = (
    FeedFormat(
        key="atom",
        name="Atom",
        file="atom.xml",
        archive_ending="atom.xml",
        media_type="application/atom+xml",
        writer="postroom.publish.feeds.atom:write_atom",
    ),
    FeedFormat(
        key="rss",
        name="RSS",
        file="rss.xml",
        archive_ending="rss.xml",
        media_type="application/rss+xml",
        writer="postroom.publish.feeds.rss:write_rss",
    ),
    FeedFormat(
        key="json",
        name="JSON Feed",
        file="feed.json",
        archive_ending="json",
        media_type="application/feed+json",
        writer="postroom.publish.feeds.json_feed:write_json_feed",
    ),
)
"""The feed formats. A new one needs a row, its writer, and a check in `lint/feeds.py`."""


@frozen
class FeedSettings:
    """Which feeds are written, and what an entry holds."""

    entries: int = 20
    content: Mapping[str, Content] = Factory(dict)
    formats: tuple[str, ...] = tuple(form.key for form in FORMATS)
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

    every: DigestFrequency = "month"
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


Html = NewType("Html", str)
"""Sanitised HTML whose addresses are absolute."""


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
    every: DigestFrequency
    first: date
    last: date
    posts: tuple[Post, ...]
    url: str


State = Literal["pending", "active", "paused", "unsubscribed", "bounced", "complained"]
DeliveryState = Literal[
    "planned", "sending", "sent", "deferred", "bounced", "cancelled", "uncertain"
]
Reason = Literal["forgotten", "bounced", "complained"]
Change = Literal["stopped", "noted", "known", "gone"]
"""What a report changed: somebody gets no more letters; it was written down; it had been before;
nothing, since whom it is about is not there."""
IssueKind = Literal["post", "day", "week", "month", "welcome"]


@frozen
class LogEntry:
    """A post becoming known to the sender: one row of an append-only log.

    `day` decides which letter may hold it and never changes. A `struck` arrival vanished before
    its time and goes to nobody. A `returned` one is its post's second or later, and `first_day` is
    the day of the first.
    """

    seq: int
    day: date
    post_id: str
    first_day: date
    retracted: bool = False
    returned: bool = False


@frozen
class Cursor:
    """What lies behind a subscriber: every arrival with a day before `before` or a seq ≤ `upto`."""

    date: date
    seq: int = 0


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
    cursor: Cursor
    start: date
    issues: int = 0
    token: str = ""


@frozen
class RunState:
    """The one state row of the sender: the last run's clock, and the newest date released.

    No arrival logged after it gets a day before `floor`, which is `released` or, where the zone
    was changed, what the old zone's calendar showed if that is later.
    """

    clock: datetime
    released: date
    zone: str
    floor: date = date.min


@frozen
class Issue:
    """What all subscribers of one group are sent; frozen once it is planned.

    `reach` is what it raises a bookmark to: a boundary for the letter of a period, the last seq
    for one of frequency `post`. `posts` are ids, newest first.
    """

    frequency: IssueKind
    cutoff: Cursor
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
    issue: Issue
    state: DeliveryState = "planned"
    attempts: int = 0
    retry_at: datetime | None = None


@frozen
class Group:
    """Active subscribers who are owed the same: all that planning reads of a subscriber.

    No topics means all of them, no language every language.
    """

    frequency: Frequency
    cursor: Cursor
    topics: frozenset[str] = frozenset()
    language: str = ""


@frozen
class Segment:
    """Those of a group to whom one letter goes.

    Posts that returned divide a group: of the arrivals in `owed` each member is owed every one, of
    those in `settled` none. Owed is who started on or before the post's first day and has no
    delivered letter that holds the post.
    """

    group: Group
    due: tuple[LogEntry, ...] = ()
    delivered: tuple[LogEntry, ...] = ()


@frozen
class IssueSnapshot:
    """A letter as it was frozen, for all who are owed the same posts.

    `date` is the instant of the run that froze it; `content` is what its sender needs to make the
    message of one subscriber, and nobody else reads it.
    """

    frequency: IssueKind
    cutoff: date
    language: str
    posts: tuple[str, ...]
    date: datetime
    content: bytes = b""
    id: int = 0


@frozen
class ClaimedDelivery:
    """A delivery that a run has taken for sending, with what it needs for the message.

    `number` counts the subscriber's letters from 0; `attempts` counts the tries, this one included.
    """

    id: int
    subscriber: int
    number: int
    issue: int
    address: str
    token: str
    attempts: int = 0


@frozen
class DeliveryFailure:
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
class DeliveryOutcome:
    """What became of a delivery: its state, the server's reply, and when to try again.

    `failure` is what the reply says of the subscriber's address, if anything. `refused`: the email
    was refused for good, and the subscriber, who is still on the list, goes without.
    """

    delivery: int
    state: DeliveryState
    reply: str = ""
    retry_at: datetime | None = None
    failure: DeliveryFailure | None = None
    refused: bool = False


@frozen
class BounceTrace:
    """By what a report names its letter: the id of a delivery, else the reader's token.

    `report` tells the report from others: what names no delivery is known again by it. `named` are
    the keys of the addresses that it says have failed; it may say none.
    """

    delivery: int = 0
    token: str = field(default="", repr=False)
    report: str = ""
    named: frozenset[str] = field(default=frozenset(), repr=False)


@frozen
class DeliveryRow:
    """A delivery, for a person to read.

    `since` is when it came into its state, `due` when it is tried again, `reply` the server's
    words, `refused` when the server refused it. `issue` is the id of what was sent, `frequency`,
    `cutoff` and `language` say which one that is.
    """

    address: str
    state: DeliveryState
    since: datetime
    retry_at: datetime | None
    reply: str
    issue: int
    frequency: IssueKind
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
class SubscriberEvent:
    """Something that happened to a subscriber, or to the list as a whole, and must be provable."""

    at: datetime
    kind: str
    detail: str = ""
    subscriber: int | None = None
