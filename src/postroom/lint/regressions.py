"""What an earlier build gave to readers → what the newsroom would take from them now."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from attrs import field, frozen
from lxml import etree

from postroom.errors import Problem, UseError
from postroom.lint.context import LintContext
from postroom.models import FORMATS
from postroom.posts.source import SourcePost
from postroom.publish.feeds.catalog import history_chunks

_ATOM = "{http://www.w3.org/2005/Atom}"
_NUMBER = re.compile(r"([0-9]+)\.")


@frozen
class EarlierFeed:
    """The entries of an earlier build, id → address, and the ids of each archive document."""

    name: str
    entries: Mapping[str, str]
    archives: Mapping[int, frozenset[str]] = field(factory=dict)


def read_earlier_feed(path: Path) -> EarlierFeed:
    """Read an earlier output folder, or one feed document of it.

    Raises `UseError` if there is no feed in it, or none that can be read.
    """
    if not path.is_dir():
        return EarlierFeed(path.name, dict(_entries(path)))
    for form in FORMATS:
        if (path / form.file).is_file():
            documents = sorted(path.glob(f"history/[0-9]*.{form.archive_ending}"))
            held = {_number(one): dict(_entries(one)) for one in documents}
            # Of an entry that stands twice the head tells the newest.
            entries = {i: url for one in held.values() for i, url in one.items()}
            entries |= dict(_entries(path / form.file))
            return EarlierFeed(path.name, entries, {n: frozenset(one) for n, one in held.items()})
    repair = "name an output folder with a feed, or a feed"
    raise UseError([Problem(str(path), message="holds no feed", hint=repair)])


def _number(path: Path) -> int:
    found = _NUMBER.match(path.name)
    return int(found[1]) if found else 0


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the id and the address of each entry of a feed document."""
    try:
        data = path.read_bytes()
        items = _in_json(data) if path.suffix == ".json" else _in_xml(data)
        yield from list(items)
    except OSError as error:
        raise _unreadable(path, (error.strerror or "cannot be read").lower()) from None
    except (ValueError, TypeError, AttributeError, RecursionError, etree.XMLSyntaxError):
        raise _unreadable(path, "is neither Atom, RSS nor JSON Feed") from None


def _unreadable(path: Path, what: str) -> UseError:
    repair = "name an output folder with a feed, or a feed"
    return UseError([Problem(str(path), message=what, hint=repair)])


def _in_json(data: bytes) -> Iterator[tuple[str, str]]:
    for item in json.loads(data).get("items"):
        yield str(item.get("id")), str(item.get("url"))


def _in_xml(data: bytes) -> Iterator[tuple[str, str]]:
    root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    if root.tag not in {"rss", f"{_ATOM}feed"}:
        raise ValueError
    for item in root.iter("item"):
        yield item.findtext("guid") or "", item.findtext("link") or ""
    for entry in root.iter(f"{_ATOM}entry"):
        links = entry.findall(f"{_ATOM}link")
        own = [one.get("href", "") for one in links if one.get("rel", "alternate") == "alternate"]
        yield entry.findtext(f"{_ATOM}id") or "", next(iter(own), "")


def lint_regressions(earlier: EarlierFeed, written: LintContext) -> Iterator[Problem]:
    """Yield each id and address that readers know and would lose, and each archive rewritten."""
    published = [one for one in written.drafts if one.path in written.published]
    yield from _ids(earlier, written, published)
    yield from _history(earlier, written, published)


def _ids(
    earlier: EarlierFeed, written: LintContext, published: Iterable[SourcePost]
) -> Iterator[Problem]:
    known = {one.id: one for one in published}
    places = {_place(one.url): one for one in published}
    for identity, url in earlier.entries.items():
        one = known.get(identity)
        if one and _place(one.url) != _place(url):
            what = f"stood at {url} in {earlier.name}, and stands at {one.url} now"
            repair = f"give it slug: {_slug(url)}, or let the host redirect the old address"
            yield written.in_head(one, "slug", what, repair, "earlier-address")
        elif not one and (other := places.get(_place(url))):
            what = f"is {other.id}, and was {identity} in {earlier.name}"
            yield written.in_head(other, "id", what, f'write id: "{identity}"', "earlier-id")
        elif not one:
            what = f"{url} ({identity}) is published no more"
            repair = "bring it back; if nobody shall read it, with withdrawn: and the date"
            yield Problem(earlier.name, message=what, hint=repair, rule="earlier-gone")


def _place(url: str) -> str:
    """Return the part of an address that stays when the newsroom moves to another domain."""
    try:
        return unquote(urlsplit(url).path)
    except ValueError:  # an earlier feed may hold anything
        return url


def _slug(url: str) -> str:
    return _place(url).rstrip("/").removesuffix(".html").rpartition("/")[2]


def _history(
    earlier: EarlierFeed, written: LintContext, published: Iterable[SourcePost]
) -> Iterator[Problem]:
    """Yield what makes archive documents differ from those that readers have."""
    held = history_chunks(written.loaded.posts, written.site.feeds.entries)
    now = {number: frozenset(post.id for post in posts) for number, posts in enumerate(held, 1)}
    changed = sorted(n for n, ids in earlier.archives.items() if now.get(n) != ids)
    if not changed:
        return
    others = f" to {changed[-1]}" if len(changed) > 1 else ""
    what = f"changes history/{changed[0]}{others}, which readers do not fetch again"
    archived = {identity for n in earlier.archives for identity in now.get(n, ())}
    late = [one for one in published if one.id in archived - earlier.entries.keys()]
    for one in late:
        repair = "date it on the day it comes out, or accept that they miss it in the history"
        yield written.in_head(one, "date", f"{one.day} {what}", repair, "earlier-history")
    if not late:
        repair = "keep feeds.entries and all dates, and withdraw posts instead of deleting them"
        yield Problem(earlier.name, 0, 0, "", f"the newsroom {what}", repair, "earlier-history")
