"""A post's head → checked values, or every fault in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

from attrs import Factory, evolve, frozen

from postroom import schema
from postroom.errors import Problem
from postroom.schema import Faults, refuse
from postroom.yamltext import Node, Scalar, Table, UnreadableError, parse

LIMIT = 16 * 1024
_FENCE = re.compile(r"---[ \t]*\n")
_END = re.compile(r"^---[ \t]*$", re.MULTILINE)
YEARS = range(1900, 3000)
"""The years that a post may be of."""

_SPOKEN = {"+": " plus ", "#": " sharp ", "&": " and ", "%": " percent ", "@": " at "}


@frozen
class Moment:
    """A point in time as an author writes it: a day, with or without a time, zone or none."""

    day: date
    time: datetime | None = None


@frozen
class WrittenImage:
    """`image:` as written; `src` may be a path beside the post."""

    src: str
    alt: str = ""


@frozen
class WrittenEnclosure:
    """`enclosure:` as written; a local file needs neither type nor length."""

    url: str
    type: str = ""
    length: int = 0


@frozen
class Hold:
    """How one key holds a post back: as a draft, until a moment comes, or from a moment on."""

    draft: bool = False
    until: Moment | None = None
    since: Moment | None = None


@frozen
class Head:
    """What a post says of itself; what it does not say is empty."""

    title: str = ""
    date: Moment | None = None
    updated: Moment | None = None
    id: str = ""
    slug: str = ""
    summary: str = ""
    topics: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    lang: str = ""
    image: WrittenImage | None = None
    enclosure: WrittenEnclosure | None = None
    draft: bool = False
    publish_dates: tuple[Moment, ...] = ()
    expiry_dates: tuple[Moment, ...] = ()
    withdrawn: Moment | None = None
    extra: Mapping[str, object] = Factory(dict)
    lines: Mapping[str, int] = Factory(dict)


@frozen
class Split:
    """A post's text in two: the head (None without a fence) and the body with its first line."""

    head: str | None
    body: str
    body_line: int


def split(text: str) -> Split | None:
    """Part the front matter from the body; None if the front matter is never closed."""
    opening = _FENCE.match(text)
    if not opening:
        return Split(None, text, 1)
    closing = _END.search(text, opening.end())
    if not closing:
        return None
    body = text[closing.end() + 1 :]
    return Split(
        text[opening.end() : closing.start()], body, text.count("\n", 0, closing.end()) + 2
    )


def read(text: str, path: str) -> tuple[Head, list[Problem], list[Problem]]:
    """Read the head `text` of the post at `path`; its first line is line 2 of the file.

    Returns the head, the errors and the warnings. With errors the head is empty.
    """
    try:
        node = parse(text, first_line=2, limit=LIMIT)
        known, other = _parted(node)
        head = _make_head(schema.table(dict, {n: _reader(n) for n in known.pairs})(known))
    except UnreadableError as fault:
        place = Problem(path, fault.line, fault.column, "front matter", fault.what, fault.repair)
        return Head(), [place], []
    except Faults as error:
        found = [Problem(path, f.line, f.column, f.key, f.what, f.repair) for f in error.faults]
        return Head(), found, []
    lines = {_HOLDING_NAMES.get(_folded(n), n): key.line for n, (key, _) in known.pairs.items()}
    extra = {name: schema.plain(value) for name, (_, value) in other.pairs.items()}
    return evolve(head, extra=extra, lines=lines), [], _near_misses(other, path)


def _parted(node: Node) -> tuple[Table, Table]:
    if not isinstance(node, Table):
        raise refuse(node, "write key: value lines between the two '---'")
    known = {name: pair for name, pair in node.pairs.items() if _is_known(name)}
    other = {name: pair for name, pair in node.pairs.items() if not _is_known(name)}
    return Table(known, node.line, node.column), Table(other, node.line, node.column)


def _is_known(name: str) -> bool:
    return name in _READERS or _folded(name) in _HOLDING_NAMES


def _reader(name: str) -> schema.Reader[Any]:
    return _READERS.get(name) or _HOLDING[_HOLDING_NAMES[_folded(name)]]


def _folded(name: str) -> str:
    """Return `publishDate` as `publishdate`, as well as `publish_date` and `Publish-Date`."""
    return re.sub("[-_ ]", "", name).casefold()


def _make_head(values: Mapping[str, Any]) -> Head:
    """Make a head of what its keys say; if any of them holds the post back, it is held back."""
    holds = [value for value in values.values() if isinstance(value, Hold)]
    return Head(
        **{name: value for name, value in values.items() if not isinstance(value, Hold)},
        draft=any(hold.draft for hold in holds),
        publish_dates=tuple(hold.until for hold in holds if hold.until),
        expiry_dates=tuple(hold.since for hold in holds if hold.since),
    )


def _near_misses(other: Table, path: str) -> list[Problem]:
    return [
        Problem(
            path=path,
            line=key.line,
            column=key.column,
            key=name,
            what="is not a key of Postroom",
            repair=f"did you mean '{near}'?",
            rule="post-key",
        )
        for name, (key, value) in other.pairs.items()
        if (near := schema.near_match(name, _READERS) or _near_hold(name, value))
    ]


def _near_hold(name: str, value: Node) -> str:
    """Return the key that holds posts back and that `name` is a slip of, if `value` fits it.

    `publisher: Example Press` is a key of another program.
    """
    near = schema.near_match(name, _HOLDING)
    try:
        return near if near and _HOLDING[near](value) else ""
    except Faults:
        return ""


_DAY = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_TIME = re.compile(
    r"[Tt ]\s*([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,][0-9]+)?)?"
    r"\s*(?:(Z|z|UTC)|([+-])([0-9]{2}):?([0-5][0-9]))?"
)


def moment(node: Node) -> Moment:
    """Read a date, or a date and time with or without an offset (RFC 3339 §5.6 and its kin)."""
    value = schema.text(node)
    found = _DAY.match(value)
    if not found:
        raise refuse(node, "write a date such as 2026-11-22 or 2026-11-22 09:30")
    try:
        day = date(*(int(part) for part in found.groups()))
    except ValueError:
        raise refuse(node, "there is no such day; write a date such as 2026-11-22") from None
    if day.year not in YEARS:
        raise refuse(node, f"write a year from {YEARS[0]} to {YEARS[-1]}")
    rest = value[found.end() :]
    return Moment(day, _time(node, day, rest) if rest else None)


def _time(node: Node, day: date, rest: str) -> datetime:
    found = _TIME.fullmatch(rest)
    if not found:
        raise refuse(node, "write the time as 09:30, 09:30:15 or 09:30 +08:00")
    hour, minute, second, utc, sign, hours, minutes = found.groups()
    try:
        zone = UTC if utc else None
        if sign:
            zone = timezone(timedelta(hours=int(sign + hours), minutes=int(sign + minutes)))
        return datetime.combine(day, time(int(hour), int(minute), int(second or 0), tzinfo=zone))
    except ValueError:
        raise refuse(node, "there is no such time; write one such as 09:30") from None


def _slug(node: Node) -> str:
    value = schema.text(node)
    if value != slugify(value):
        raise refuse(node, f"write {slugify(value) or 'letters, digits and hyphens'}")
    return value


def slugify(text: str) -> str:
    """Return `text` as one segment of an address: lower case, of any script, with hyphens."""
    small = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    hyphened = re.sub("-+", "-", "".join(_in_slug(character) for character in small)).strip("-")
    # A file system takes names of 255 bytes, and `.html` may follow.
    return hyphened[:120].encode()[:240].decode(errors="ignore").strip("-")


def _in_slug(character: str) -> str:
    category = unicodedata.category(character)
    # Letters, marks and numbers of every script: \w alone would split words of Hindi or Thai.
    # Their joiners, which nobody sees, are left out: they do not part words either.
    return character if category[0] in "LMN" else "" if category == "Cf" else "-"


def topic_slug(name: str) -> str:
    """Return the segment of a topic's address: readable, in any script; `C++` is `c-plus-plus`.

    Names with the same one are the same topic.
    """
    return slugify(re.sub(r"[+#&%@]", lambda sign: _SPOKEN[sign[0]], name))


def _image(node: Node) -> WrittenImage:
    if isinstance(node, Scalar):
        return WrittenImage(schema.some_text(node))
    return schema.table(WrittenImage, {"src": schema.some_text, "alt": schema.text}, ("src",))(node)


def _enclosure(node: Node) -> WrittenEnclosure:
    if isinstance(node, Scalar):
        return WrittenEnclosure(schema.some_text(node))
    media_type = schema.matching(r"[a-z]+/[A-Za-z0-9.+-]+", "write a media type such as audio/mpeg")
    length = schema.number(0, 10**11)
    readers = {"url": schema.some_text, "type": media_type, "length": length}
    return schema.table(WrittenEnclosure, readers, ("url",))(node)


_READERS: dict[str, schema.Reader[Any]] = {
    "title": schema.text,
    "date": moment,
    "updated": moment,
    "id": schema.uri,
    "slug": _slug,
    "summary": schema.text,
    "topics": schema.several(schema.some_text),
    "authors": schema.several(schema.some_text),
    "lang": schema.language,
    "image": _image,
    "enclosure": _enclosure,
    "withdrawn": moment,
}

_OUT = ("published", "publish", "public", "live")
_HELD = (
    "draft", "private", "pending", "in review", "future", "scheduled", "hidden", "unlisted",
    "unpublished", "archived", "trash",
)  # fmt: skip


def _held_if(*, answer: bool) -> schema.Reader[Hold]:
    """Return a reader of true or false; `answer` is the one that makes a draft."""
    return lambda node: Hold(draft=schema.truth(node) is answer)


def _until(node: Node) -> Hold:
    return Hold(until=moment(node))


def _since(node: Node) -> Hold:
    return Hold(since=moment(node))


def _published(node: Node) -> Hold:
    """Read true, false, or the date from which the post may be seen."""
    if _DAY.match(schema.text(node)):
        return _until(node)
    try:
        return _held_if(answer=False)(node)
    except Faults:
        raise refuse(node, "write true, false or a date such as 2026-11-22") from None


def _status(node: Node) -> Hold:
    word = schema.text(node).casefold().replace("-", " ").replace("_", " ")
    if word not in (*_OUT, *_HELD):
        out, held = schema.either(_OUT), schema.either(_HELD)
        raise refuse(node, f"write {out}, or to hold the post back {held}")
    return Hold(draft=word in _HELD)


# The keys by which generators hold posts back, such as Hugo (draft, publishDate, expiryDate and
# their aliases), Jekyll (published), Docusaurus (unlisted), Pelican and WordPress (status).
_HOLDING: dict[str, schema.Reader[Hold]] = {
    "draft": _held_if(answer=True),
    "published": _published,
    "publish": _published,
    "status": _status,
    "visibility": _status,
    "unlisted": _held_if(answer=True),
    "hidden": _held_if(answer=True),
    "private": _held_if(answer=True),
    "headless": _held_if(answer=True),
    "publishDate": _until,
    "pubDate": _until,
    "expiryDate": _since,
    "unpublishDate": _since,
}
_HOLDING_NAMES = {_folded(name): name for name in _HOLDING}
"""The keys that hold a post back, as they are documented, by what all their spellings share."""
