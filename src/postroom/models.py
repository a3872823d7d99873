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
    """The settings of the theme: the accent colour, the font and the logo.

    A site can set them without templates of its own.
    """

    accent: str = "#0b6b62"
    font: str = ""
    logo: str = ""


@frozen
class FeedFormat:
    """A format of feeds, such as Atom.

    `key` is the format's name in the settings, `file` the file name of a feed in this format, and
    `archive_ending` the end of the file name of its archive documents (RFC 5005 §4). `writer` is
    the function that makes the bytes of a document, written `module:function`.
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
    """The settings of the feeds: their formats, their number, and the content of entries."""

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
    """Whether Postroom writes the web pages, and the pattern of the URL paths of posts."""

    enabled: bool = True
    permalink: str = "/posts/{slug}/"


@frozen
class DigestSettings:
    """The settings of digests: how often and when, and the subject and introduction of the email.

    `every` is the default frequency, `offer` the frequencies that subscribers can choose, `send_at`
    a local time, and `welcome` whether new subscribers get a welcome issue.
    """

    every: DigestFrequency = "month"
    offer: tuple[Frequency, ...] = ("post", "day", "week", "month")
    send_at: str = "09:00"
    subject: str = ""
    intro: str = ""
    welcome: bool = False


@frozen
class MailSettings:
    """The settings of emails: the sender's addresses, and how fast emails are sent.

    `rate` is in emails a second; `connections` is the number of SMTP connections, each of which is
    renewed after `per_connection` emails (0: never).
    """

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

    `url` ends with a slash; `id` is the site's own id, an RFC 4151 tag or another URI, to
    which the ids of new posts are appended.
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
        """The author of posts that name no author: the organisation, or else the site's title."""
        return self.contact.organization or self.title


Html = NewType("Html", str)
"""Sanitised HTML with absolute URLs."""


@frozen
class Image:
    """A post's lead image.

    `width` and `height` are in pixels, and 0 for an image that is not a file of the site.
    """

    src: str
    alt: str = ""
    width: int = 0
    height: int = 0


@frozen
class Enclosure:
    """A media file that feeds offer with a post (RSS 2.0; RFC 4287 §4.2.7.2).

    `length` is in bytes, `type` is a media type such as `audio/mpeg`.
    """

    url: str
    type: str
    length: int


@frozen
class Attachment:
    """A file that is stored beside a post: its source, and the path of its copy in the output."""

    source: str
    output: str


@frozen
class Post:
    """A published post.

    No two posts of a site have the same `published`, nor the same `updated`. `day` and
    `updated_day` are the dates of these instants in the site's time zone; pages and emails show
    them.
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
    """A topic with its posts, newest first; `slug` is its path segment in URLs."""

    name: str
    slug: str
    url: str
    posts: tuple[Post, ...]


@frozen
class Feed:
    """A feed document; its posts are newest first.

    A long feed is split into the current document and archive documents with older posts
    (RFC 5005).
    `previous` is the URL of the archive document with the next older posts. In an archive document,
    `current` is the URL of the feed to which it belongs. `complete` says that this one document
    holds all posts. `stylesheet` is for people who open the feed in a browser. `icon` and `logo`
    are URLs.
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
    stylesheet: str = ""
    icon: str = ""
    logo: str = ""


@frozen
class Digest:
    """The posts of a calendar period, newest first.

    `period` is its name, such as 2026-11; `first` and `last` are its first and last day.
    """

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
"""What a report of a bounce or complaint changed in the database.

`stopped`: the subscriber gets no more emails. `noted`: an event was recorded. `known`: nothing, as
the report had been recorded before. `gone`: nothing, as there is no such subscriber.
"""
IssueKind = Literal["post", "day", "week", "month", "welcome"]


@frozen
class LogEntry:
    """A row of the post log: a run of `send` has seen a post for the first time.

    `seq` counts the entries from 1. `day` decides which issues may hold the post, and never
    changes. An entry is `retracted` if its post vanished before the cutoff of its issue; it is then
    due to nobody. If the post appears again, it gets a second entry, which is `returned`;
    `first_day` is the `day` of the post's first entry.
    """

    seq: int
    day: date
    post_id: str
    first_day: date
    retracted: bool = False
    returned: bool = False


@frozen
class Cursor:
    """The position in the post log up to which a subscriber has been served.

    A log entry is behind the cursor, and no longer due, if its day is before `date` or its seq is
    at most `seq`.
    """

    date: date
    seq: int = 0


@frozen
class Subscriber:
    """A person on the list.

    Empty `topics` stand for all topics, an empty `language` for all languages. `start` is the first
    day whose posts are due to the subscriber. `issues` counts the closed deliveries, those that are
    sent or uncertain. `token` is the secret in the URL of the unsubscribe page.
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
    """The state that a run of `send` stores for the next run.

    `clock` is the instant of the run, `zone` the site's time zone, and `released` the newest date
    whose `send_at` has passed. No later log entry gets a day before `floor`: that is `released`,
    or, after a change of the time zone, the date in the old zone if that is later.
    """

    clock: datetime
    released: date
    zone: str
    floor: date = date.min


@frozen
class Issue:
    """The email that all subscribers of a segment are sent, as a list of posts.

    `posts` are post ids, newest first. When the issue is delivered, the subscriber's cursor is
    raised to `cutoff`: to its date if the issue is for a period, to its seq for frequency `post`.
    """

    frequency: IssueKind
    cutoff: Cursor
    posts: tuple[str, ...]
    language: str


@frozen
class Group:
    """The active subscribers with the same frequency, cursor, topics and language.

    Empty `topics` stand for all topics, an empty `language` for all languages.
    """

    frequency: Frequency
    cursor: Cursor
    topics: frozenset[str] = frozenset()
    language: str = ""


@frozen
class Segment:
    """The subscribers of a group to whom the same posts are due.

    A post is due to the whole group or to nobody in it. Returned posts (see `LogEntry`) are an
    exception, since some of the group may have received them already; they divide the group into
    segments. The returned entries in `due` are due to every subscriber of the segment, the returned
    entries in `delivered` to none of them.
    A returned post is due to subscribers who started on or before its `first_day` and have no
    closed delivery that holds it.
    """

    group: Group
    due: tuple[LogEntry, ...] = ()
    delivered: tuple[LogEntry, ...] = ()


@frozen
class IssueSnapshot:
    """An issue with its rendered content, stored so that all subscribers are sent the same.

    `date` is the instant of the run that rendered the issue. `content` is the rendered email
    without the parts that differ between subscribers. `id` is 0 until the issue is stored.
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
    """A delivery that a run has claimed to send it, with the subscriber's address and token.

    `number` counts the subscriber's issues from 0; `attempts` includes the attempt of this run.
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
    """A failed delivery whose cause may be the subscriber's address.

    `hashed` is the keyed hash under which the address would be suppressed. `hard` tells whether the
    address will never work; `detail` is the server's reply. `delivery` is the id of the failed
    delivery, so that a failure that is reported several times counts once.
    """

    subscriber: int
    hashed: str
    hard: bool
    detail: str
    delivery: int = 0


@frozen
class DeliveryOutcome:
    """The result of an attempt to deliver: the new state, the server's reply, and when to retry.

    `failure` is set if the address of the subscriber may have caused the reply. `refused` says that
    the email was refused permanently, but not by a hard bounce: the subscriber stays on the list,
    and misses the issue unless it can be sent later.
    """

    delivery: int
    state: DeliveryState
    reply: str = ""
    retry_at: datetime | None = None
    failure: DeliveryFailure | None = None
    refused: bool = False


@frozen
class BounceTrace:
    """The facts in a bounce or complaint report that identify the email concerned.

    `delivery` is the id of the email's delivery. A report may lack it; `token` is then the
    subscriber's token, and `report` identifies the report, so that it counts once. `named` are the
    keys of the addresses that have failed according to the report; there may be none.
    """

    delivery: int = 0
    token: str = field(default="", repr=False)
    report: str = ""
    named: frozenset[str] = field(default=frozenset(), repr=False)


@frozen
class DeliveryRow:
    """A delivery as `status` shows it.

    `since` is the instant of the delivery's last change, `reply` the server's last reply, `refused`
    the instant of a permanent refusal. `issue` is the id of the issue; `frequency`, `cutoff` and
    `language` are those of the issue.
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
    """A run of `send`, and the number of its deliveries in each state.

    A delivery counts for the last run that planned or claimed it. `ended` is None while the run is
    sending, and stays None if the run crashes.
    """

    id: int
    started: datetime
    ended: datetime | None
    counts: Mapping[DeliveryState, int]


@frozen
class SubscriberEvent:
    """An event that the operator must be able to prove later, such as a consent or a complaint.

    `subscriber` is the id of the subscriber, None for an event of the whole list.
    """

    at: datetime
    kind: str
    detail: str = ""
    subscriber: int | None = None
