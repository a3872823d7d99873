"""The nouns of the settings: a newsroom as its `postroom.yaml` describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from zoneinfo import ZoneInfo

from attrs import Factory, frozen

Frequency = Literal["post", "day", "week", "month"]
Every = Literal["day", "week", "month"]
FormatName = Literal["atom", "rss", "json"]
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
