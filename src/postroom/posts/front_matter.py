"""Parse the front matter of posts and the dates in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

from attrs import Factory, evolve, frozen

from postroom.errors import Problem
from postroom.models import Site
from postroom.settings import validation
from postroom.settings.validation import ValidationError, error_at
from postroom.settings.yaml_reader import MapNode, Node, ScalarNode, YamlError, parse
from postroom.text import slugify

LIMIT = 16 * 1024
FENCE = "---"
_OPENING = re.compile(rf"{FENCE}[ \t]*\r?\n")
_CLOSING = re.compile(rf"^{FENCE}[ \t]*\r?$", re.MULTILINE)
YEARS = range(1900, 3000)
"""The years that dates in posts may have."""


@frozen
class WrittenDate:
    """A date as an author writes it: a day, perhaps with a time and an offset."""

    day: date
    time: datetime | None = None


@frozen
class WrittenImage:
    """`image:` as written; `src` may be the path of a file beside the post."""

    src: str
    alt: str = ""


@frozen
class WrittenEnclosure:
    """The key `enclosure` as its author wrote it; a local file needs neither type nor length."""

    url: str
    type: str = ""
    length: int = 0


@frozen
class Hold:
    """The effect of a front-matter key that holds a post back.

    The post is a draft, or it is hidden before the date `until` or from the date `since` on.
    """

    draft: bool = False
    until: WrittenDate | None = None
    since: WrittenDate | None = None


@frozen
class FrontMatter:
    """The values in the front matter of a post; a value that is not given is empty."""

    title: str = ""
    date: WrittenDate | None = None
    updated: WrittenDate | None = None
    id: str = ""
    slug: str = ""
    summary: str = ""
    topics: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    lang: str = ""
    image: WrittenImage | None = None
    enclosure: WrittenEnclosure | None = None
    draft: bool = False
    publish_dates: tuple[WrittenDate, ...] = ()
    expiry_dates: tuple[WrittenDate, ...] = ()
    withdrawn: WrittenDate | None = None
    extra: Mapping[str, object] = Factory(dict)
    lines: Mapping[str, int] = Factory(dict)


@frozen
class PostText:
    """A post split into its front matter, which is None if the post has none, and its body.

    The front matter is `text[start:end]` of the post. `body_line` is the line on which the body
    begins.
    """

    head: str | None
    body: str
    body_line: int
    start: int = 0
    end: int = 0


def split_post(text: str) -> PostText | None:
    """Split the front matter from the body; return None if the front matter is never closed."""
    opening = _OPENING.match(text)
    if not opening:
        return PostText(None, text, 1)
    closing = _CLOSING.search(text, opening.end())
    if not closing:
        return None
    start, end = opening.end(), closing.start()
    body_line = text.count("\n", 0, closing.end()) + 2
    return PostText(text[start:end], text[closing.end() + 1 :], body_line, start, end)


def parse_front_matter(text: str, path: str) -> tuple[FrontMatter, list[Problem], list[Problem]]:
    """Parse `text`, the front matter of the post at `path`, which begins on line 2 of the file.

    Return the front matter, the errors and the warnings. With errors the front matter is empty.
    """
    try:
        node = parse(text, first_line=2, limit=LIMIT)
        known, other = _split_keys(node)
        head = _make_front_matter(
            validation.struct(dict, {n: _reader(n) for n in known.pairs})(known)
        )
    except YamlError as error:
        problem = Problem(path, error.line, error.column, "front matter", error.message, error.hint)
        return FrontMatter(), [problem], []
    except ValidationError as error:
        found = [Problem(path, f.line, f.column, f.key, f.message, f.hint) for f in error.faults]
        return FrontMatter(), found, []
    lines = {_HOLDING_NAMES.get(_fold(n), n): key.line for n, (key, _) in known.pairs.items()}
    extra = {name: validation.to_plain(value) for name, (_, value) in other.pairs.items()}
    return evolve(head, extra=extra, lines=lines), [], _near_misses(other, path)


def _split_keys(node: Node) -> tuple[MapNode, MapNode]:
    if not isinstance(node, MapNode):
        raise error_at(node, f"write 'key: value' lines between the two '{FENCE}'")
    known = {name: pair for name, pair in node.pairs.items() if _is_known(name)}
    other = {name: pair for name, pair in node.pairs.items() if not _is_known(name)}
    return MapNode(known, node.line, node.column), MapNode(other, node.line, node.column)


def _is_known(name: str) -> bool:
    return name in _FIELDS or _fold(name) in _HOLDING_NAMES


def _reader(name: str) -> validation.Validator[Any]:
    return _FIELDS.get(name) or _HOLDING[_HOLDING_NAMES[_fold(name)]]


def _fold(name: str) -> str:
    """Return a key without case and separators: `publishdate` for `Publish-Date`."""
    return re.sub("[-_ ]", "", name).casefold()


def _make_front_matter(values: Mapping[str, Any]) -> FrontMatter:
    """Make front matter of `values`; if several keys hold the post back, all of them apply."""
    holds = [value for value in values.values() if isinstance(value, Hold)]
    return FrontMatter(
        **{name: value for name, value in values.items() if not isinstance(value, Hold)},
        draft=any(hold.draft for hold in holds),
        publish_dates=tuple(hold.until for hold in holds if hold.until),
        expiry_dates=tuple(hold.since for hold in holds if hold.since),
    )


def _near_misses(other: MapNode, path: str) -> list[Problem]:
    return [
        Problem(
            path=path,
            line=key.line,
            column=key.column,
            key=name,
            message="is not a key of Postroom",
            hint=f"did you mean '{near}'?",
            rule="post-key",
        )
        for name, (key, value) in other.pairs.items()
        if (near := validation.near_match(name, _FIELDS) or _near_hold(name, value))
    ]


def _near_hold(name: str, value: Node) -> str:
    """Return the key that `name` probably misspells, if that key could hold the post back.

    Only a key for which `value` is valid counts. This distinguishes `publishe: false` from
    `publisher: Example Press`, a key of another program.
    """
    near = validation.near_match(name, _HOLDING)
    try:
        return near if near and _HOLDING[near](value) else ""
    except ValidationError:
        return ""


_DAY = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_TIME = re.compile(
    r"[Tt ]\s*([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,][0-9]+)?)?"
    r"\s*(?:(Z|z|UTC)|([+-])([0-9]{2}):?([0-5][0-9]))?"
)


def parse_date(node: Node) -> WrittenDate:
    """Read a date, or a date and time with or without an offset, much like RFC 3339 §5.6."""
    value = validation.text(node)
    found = _DAY.match(value)
    if not found:
        raise error_at(node, "write a date such as 2026-11-22 or 2026-11-22 09:30")
    try:
        day = date(*(int(part) for part in found.groups()))
    except ValueError:
        raise error_at(node, "this day does not exist; write a date such as 2026-11-22") from None
    if day.year not in YEARS:
        raise error_at(node, f"write a year from {YEARS[0]} to {YEARS[-1]}")
    rest = value[found.end() :]
    return WrittenDate(day, _time(node, day, rest) if rest else None)


def _time(node: Node, day: date, rest: str) -> datetime:
    found = _TIME.fullmatch(rest)
    if not found:
        raise error_at(node, "write the time as 09:30, 09:30:15 or 09:30 +08:00")
    hour, minute, second, utc, sign, hours, minutes = found.groups()
    try:
        zone = UTC if utc else None
        if sign:
            zone = timezone(timedelta(hours=int(sign + hours), minutes=int(sign + minutes)))
        return datetime.combine(day, time(int(hour), int(minute), int(second or 0), tzinfo=zone))
    except ValueError:
        raise error_at(node, "this time does not exist; write one such as 09:30") from None


def _slug(node: Node) -> str:
    value = validation.text(node)
    if value != slugify(value):
        raise error_at(node, f"write {slugify(value) or 'letters, digits and hyphens'}")
    return value


def _image(node: Node) -> WrittenImage:
    if isinstance(node, ScalarNode):
        return WrittenImage(validation.non_empty(node))
    return validation.struct(
        WrittenImage, {"src": validation.non_empty, "alt": validation.text}, ("src",)
    )(node)


def _enclosure(node: Node) -> WrittenEnclosure:
    if isinstance(node, ScalarNode):
        return WrittenEnclosure(validation.non_empty(node))
    media_type = validation.matching(
        r"[a-z]+/[A-Za-z0-9.+-]+", "write a media type such as audio/mpeg"
    )
    length = validation.number(0, 10**11)
    readers = {"url": validation.non_empty, "type": media_type, "length": length}
    return validation.struct(WrittenEnclosure, readers, ("url",))(node)


_FIELDS: dict[str, validation.Validator[Any]] = {
    "title": validation.text,
    "date": parse_date,
    "updated": parse_date,
    "id": validation.uri,
    "slug": _slug,
    "summary": validation.text,
    "topics": validation.list_of(validation.non_empty),
    "authors": validation.list_of(validation.non_empty),
    "lang": validation.language,
    "image": _image,
    "enclosure": _enclosure,
    "withdrawn": parse_date,
}

_PUBLIC = ("published", "publish", "public", "live")
_HELD_BACK = (
    "draft", "private", "pending", "in review", "future", "scheduled", "hidden", "unlisted",
    "unpublished", "archived", "trash",
)  # fmt: skip


def _hold_if(*, answer: bool) -> validation.Validator[Hold]:
    """Return a validator that accepts true or false; `answer` is the value that means draft."""
    return lambda node: Hold(draft=validation.boolean(node) is answer)


def _until(node: Node) -> Hold:
    return Hold(until=parse_date(node))


def _since(node: Node) -> Hold:
    return Hold(since=parse_date(node))


def _published(node: Node) -> Hold:
    """Read true, false, or the date from which the post may be seen."""
    if _DAY.match(validation.text(node)):
        return _until(node)
    try:
        return _hold_if(answer=False)(node)
    except ValidationError:
        raise error_at(node, "write true, false or a date such as 2026-11-22") from None


def _status(node: Node) -> Hold:
    word = validation.text(node).casefold().replace("-", " ").replace("_", " ")
    if word not in (*_PUBLIC, *_HELD_BACK):
        public, hold_back = validation.either(_PUBLIC), validation.either(_HELD_BACK)
        raise error_at(node, f"write {public}, or to hold the post back {hold_back}")
    return Hold(draft=word in _HELD_BACK)


# The keys by which generators hold posts back, such as Hugo (draft, publishDate, expiryDate and
# their aliases), Jekyll (published), Docusaurus (unlisted), Pelican and WordPress (status).
_HOLDING: dict[str, validation.Validator[Hold]] = {
    "draft": _hold_if(answer=True),
    "published": _published,
    "publish": _published,
    "status": _status,
    "visibility": _status,
    "unlisted": _hold_if(answer=True),
    "hidden": _hold_if(answer=True),
    "private": _hold_if(answer=True),
    "headless": _hold_if(answer=True),
    "publishDate": _until,
    "pubDate": _until,
    "expiryDate": _since,
    "unpublishDate": _since,
}
_HOLDING_NAMES = {_fold(name): name for name in _HOLDING}
"""The documented keys that hold a post back, keyed by their names as `_fold` returns them."""


def start_of(moment: WrittenDate, site: Site) -> datetime:
    """Return the instant of `moment`; a date without a time begins at midnight in the site's zone.

    If the clocks skip midnight on that day, the instant of the clock change is returned.
    """
    written = moment.time or datetime.combine(moment.day, time())
    return (written if written.tzinfo else written.replace(tzinfo=site.timezone)).astimezone(UTC)


def instant_of(moment: WrittenDate, identity: str, site: Site) -> datetime:
    """Return the instant at which a post with the date `moment` is published.

    A date without a time gets a time in the first hour of the day, which a hash of the id
    `identity` determines: feed readers drop entries whose times are equal.
    """
    if moment.time is None:
        digest = hashlib.sha256(identity.encode()).digest()
        second = timedelta(seconds=int.from_bytes(digest[:4], "big") % 3600)
        return start_of(moment, site) + second
    return start_of(moment, site)


def take_instant(instant: datetime, taken: dict[datetime, datetime]) -> datetime:
    """Return `instant`, or the first second after it that is free, and add it to `taken`.

    `taken` maps each used instant to a later instant, where the search for a free one continues.
    So a long series of used instants is not searched again for every post.
    """
    passed = []
    while instant in taken:
        passed.append(instant)
        instant = taken[instant]
    taken.update(dict.fromkeys((*passed, instant), instant + timedelta(seconds=1)))
    return instant


def to_site_time(instant: datetime, site: Site) -> datetime:
    """Return `instant` in the site's time zone, with a fixed offset of whole minutes.

    A fixed offset keeps comparisons right: Python ignores the offsets when it compares two times
    of one zone, although an hour occurs twice when summer time ends. RFC 3339 has no offsets with
    seconds, which some zones had long ago.
    """
    offset = instant.astimezone(site.timezone).utcoffset() or timedelta()
    return instant.astimezone(timezone(offset - offset % timedelta(minutes=1)))


def day_of(moment: WrittenDate, instant: datetime, site: Site) -> date:
    """Return the calendar date of `moment` in the site's time zone."""
    return moment.day if moment.time is None else instant.astimezone(site.timezone).date()
