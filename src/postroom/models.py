"""Frozen values that all packages share: settings, posts, subscribers and deliveries.

URLs of posts are absolute, instants have a time zone, and texts are plain text unless their name
says `html`.
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
    """The contact block in the footer of pages and emails."""

    name: str = ""
    organization: str = ""
    phone: str = ""
    tel: str = ""
    email: str = ""
    address: str = ""
    message: str = ""


@frozen
class ThemeSettings:
    """The parts of the theme that a site can change without templates of its own."""

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
    """The feeds that are written, and the content of their entries."""

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
    """Whether Postroom writes the web pages, and the path of a post's URL."""

    enabled: bool = True
    permalink: str = "/posts/{slug}/"


@frozen
class DigestSettings:
    """The calendar of the digest, and the subject and introduction of its email."""

    every: DigestFrequency = "month"
    offer: tuple[Frequency, ...] = ("post", "day", "week", "month")
    send_at: str = "09:00"
    subject: str = ""
    intro: str = ""
    welcome: bool = False


@frozen
class MailSettings:
    """The sender of emails, and how fast they are sent."""

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
    """The valid settings of a site.

    `url` ends with a slash; `id` is the base of all post ids (RFC 4151 tag, or any URI).
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
        """The author of posts that name none: the organisation, or else the site's title."""
        return self.contact.organization or self.title


Html = NewType("Html", str)
"""Sanitised HTML with absolute URLs."""


@frozen
class Image:
    """A post's lead image; its size in pixels is 0 unless the file belongs to the site."""

    src: str
    alt: str = ""
    width: int = 0
    height: int = 0


@frozen
class Enclosure:
    """A file that is offered with a post (RSS 2.0; RFC 4287 §4.2.7.2); `length` is in bytes."""

    url: str
    type: str
    length: int


@frozen
class Attachment:
    """A file beside a post, and its path in the output."""

    source: str
    output: str


@frozen
class Post:
    """A published post.

    `published` and `updated` are unique among the posts of a site; `day` and `updated_day` are
    their dates in the site's zone, which pages and emails show.
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
    """A topic, its path segment in URLs, and its posts, newest first."""

    name: str
    slug: str
    url: str
    posts: tuple[Post, ...]


@frozen
class Feed:
    """A feed document; its posts are newest first.

    `previous` is the URL of the archive document before it, `current` that of the feed to which an
    archive document belongs; `complete` says that no post is left out (RFC 5005). `note` and
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
    """The posts of a calendar period, newest first; `first` and `last` are dates."""

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
"""What a report changed: the subscriber was stopped; an event was recorded; nothing, because the
report was known; nothing, because there is no such subscriber."""
IssueKind = Literal["post", "day", "week", "month", "welcome"]


@frozen
class LogEntry:
    """A row of the post log: the sender has seen a post for the first time.

    `day` decides which issue may hold the post and never changes. A `retracted` entry vanished
    before its cutoff and is due to nobody. A `returned` entry is the second or a later one of its
    post, and `first_day` is the day of the first.
    """

    seq: int
    day: date
    post_id: str
    first_day: date
    retracted: bool = False
    returned: bool = False


@frozen
class Cursor:
    """Up to where a subscriber has been served.

    An entry is behind it if its day is before `date` or its seq is at most `seq`.
    """

    date: date
    seq: int = 0


@frozen
class Subscriber:
    """A person on the list.

    Without topics all topics match, without a language all languages. `issues` counts the closed
    deliveries, `start` is the first day whose posts are due, `token` opens the unsubscribe page.
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
    """The state that a run leaves to the next one: its clock, zone and newest released date.

    No later log entry gets a day before `floor`, which is `released` or, after a change of zone,
    the date in the old zone if that is later.
    """

    clock: datetime
    released: date
    zone: str
    floor: date = date.min


@frozen
class Issue:
    """The email that all subscribers of a segment are sent.

    `cutoff` is the cursor to which it raises theirs: a date for the issue of a period, a seq for
    frequency `post`. `posts` are ids, newest first.
    """

    frequency: IssueKind
    cutoff: Cursor
    posts: tuple[str, ...]
    language: str


@frozen
class Delivery:
    """A row of the delivery ledger: this issue, to this subscriber, in this state.

    `number` is the count of deliveries closed before it, `retry_at` the instant from which a
    deferred one may be tried again.
    """

    subscriber: int
    number: int
    issue: Issue
    state: DeliveryState = "planned"
    attempts: int = 0
    retry_at: datetime | None = None


@frozen
class Group:
    """The active subscribers with the same frequency, cursor, topics and language.

    Without topics all topics match, without a language all languages.
    """

    frequency: Frequency
    cursor: Cursor
    topics: frozenset[str] = frozenset()
    language: str = ""


@frozen
class Segment:
    """The subscribers of a group to whom the same posts are due.

    Posts that returned split a group. The entries in `due` are due to all of the segment, those in
    `delivered` to nobody in it. A returned post is due to subscribers who started on or before its
    first day and have no closed delivery with it.
    """

    group: Group
    due: tuple[LogEntry, ...] = ()
    delivered: tuple[LogEntry, ...] = ()


@frozen
class IssueSnapshot:
    """An issue as it was frozen.

    `date` is the instant of the run that froze it; `content` is the rendered email, which only the
    sender reads.
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
    """A delivery that a run has claimed, with the subscriber's address and token.

    `number` counts the subscriber's issues from 0; `attempts` includes this one.
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
    """A failure to deliver an email that may be caused by the subscriber's address.

    `hashed` is the suppression hash of the address's key, `hard` whether the address will never
    work, `detail` the server's reply. `delivery` is the id of the delivery: its failure counts
    once, however often it is reported.
    """

    subscriber: int
    hashed: str
    hard: bool
    detail: str
    delivery: int = 0


@frozen
class DeliveryOutcome:
    """The result of a delivery: its new state, the server's reply, and when to try again.

    `failure` is set if the reply is about the subscriber's address. `refused` says that the email
    was refused permanently for another reason, so that the subscriber misses the issue.
    """

    delivery: int
    state: DeliveryState
    reply: str = ""
    retry_at: datetime | None = None
    failure: DeliveryFailure | None = None
    refused: bool = False


@frozen
class BounceTrace:
    """The identity of the email that a report is about: a delivery's id, or a subscriber's token.

    `report` is an identity of the report, used if it names no delivery. `named` are the keys of the
    addresses that have failed according to the report; there may be none.
    """

    delivery: int = 0
    token: str = field(default="", repr=False)
    report: str = ""
    named: frozenset[str] = field(default=frozenset(), repr=False)


@frozen
class DeliveryRow:
    """A delivery as `status` shows it.

    `since` is the instant of its last change, `reply` the server's reply, `refused` the instant of
    a permanent refusal. `issue` is an id; `frequency`, `cutoff` and `language` describe it.
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
    """A run, and the number of its deliveries in each state.

    A delivery belongs to the last run that changed it. `ended` is None while the run is sending,
    and stays None if it crashes.
    """

    id: int
    started: datetime
    ended: datetime | None
    counts: Mapping[DeliveryState, int]


@frozen
class SubscriberEvent:
    """An event of a subscriber, or of the whole list, that must be provable later."""

    at: datetime
    kind: str
    detail: str = ""
    subscriber: int | None = None
