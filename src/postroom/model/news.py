"""The nouns of what is published: posts, topics, feeds and digests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import NewType

from attrs import Factory, frozen

from postroom.model.site import Content, Every

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
    every: Every
    first: date
    last: date
    posts: tuple[Post, ...]
    url: str
