"""Rules for changes since an earlier build that feed readers and visitors would notice."""

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
_HINT = "name an output folder with a feed, or a feed"


@frozen
class EarlierFeed:
    """The feed of an earlier build: its entries (id to URL), and its archive documents.

    For each archive document, the ids of its entries are kept.
    """

    name: str
    entries: Mapping[str, str]
    archives: Mapping[int, frozenset[str]] = field(factory=dict)


def read_earlier_feed(path: Path) -> EarlierFeed:
    """Read an earlier output folder, or one feed document of it.

    All formats hold the same entries, so the first one found is read. Raises `UseError` if there
    is no feed, or none that can be parsed.
    """
    if not path.is_dir():
        return EarlierFeed(path.name, dict(_read_entries(path)))
    for form in FORMATS:
        if (path / form.file).is_file():
            documents = sorted(path.glob(f"history/[0-9]*.{form.archive_ending}"))
            archives = {_number(document): dict(_read_entries(document)) for document in documents}
            # The main feed has the newest version of an entry.
            entries = {i: url for archive in archives.values() for i, url in archive.items()}
            entries |= dict(_read_entries(path / form.file))
            ids = {number: frozenset(archive) for number, archive in archives.items()}
            return EarlierFeed(path.name, entries, ids)
    raise _unreadable(path, "contains no feed")


def _number(path: Path) -> int:
    found = _NUMBER.match(path.name)
    return int(found[1]) if found else 0


def _read_entries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the id and the URL of each entry of a feed document."""
    try:
        data = path.read_bytes()
        items = _json_entries(data) if path.suffix == ".json" else _xml_entries(data)
        yield from list(items)
    except OSError as error:
        raise _unreadable(path, (error.strerror or "cannot be read").lower()) from None
    except (ValueError, TypeError, AttributeError, RecursionError, etree.XMLSyntaxError):
        names = [form.name for form in FORMATS]
        kinds = f"{', '.join(names[:-1])} nor {names[-1]}"
        raise _unreadable(path, f"is neither {kinds}") from None


def _unreadable(path: Path, message: str) -> UseError:
    return UseError([Problem(str(path), message=message, hint=_HINT)])


def _json_entries(data: bytes) -> Iterator[tuple[str, str]]:
    for item in json.loads(data).get("items"):
        yield str(item.get("id")), str(item.get("url"))


def _xml_entries(data: bytes) -> Iterator[tuple[str, str]]:
    root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    if root.tag not in {"rss", f"{_ATOM}feed"}:
        raise ValueError
    for item in root.iter("item"):
        yield item.findtext("guid") or "", item.findtext("link") or ""
    for entry in root.iter(f"{_ATOM}entry"):
        urls = [
            link.get("href", "")
            for link in entry.findall(f"{_ATOM}link")
            if link.get("rel", "alternate") == "alternate"
        ]
        yield entry.findtext(f"{_ATOM}id") or "", next(iter(urls), "")


def lint_regressions(earlier: EarlierFeed, context: LintContext) -> Iterator[Problem]:
    """Yield a problem for each id or URL of the earlier feed that the next build would lose.

    Archive documents that would change are problems, too.
    """
    published = [post for post in context.sources if post.path in context.published]
    yield from _lost_entries(earlier, context, published)
    yield from _changed_archives(earlier, context, published)


def _lost_entries(
    earlier: EarlierFeed, context: LintContext, published: Iterable[SourcePost]
) -> Iterator[Problem]:
    by_id = {post.id: post for post in published}
    by_path = {_url_path(post.url): post for post in published}
    for identity, url in earlier.entries.items():
        post = by_id.get(identity)
        if post and _url_path(post.url) != _url_path(url):
            message = f"was published at {url} in {earlier.name}, and is at {post.url} now"
            hint = f"write slug: {_slug(url)}, or redirect the old URL on the web server"
            yield context.key_problem(post, "slug", message, hint, "earlier-address")
        elif not post and (other := by_path.get(_url_path(url))):
            message = f"is {other.id}, but was {identity} in {earlier.name}"
            hint = f'write id: "{identity}"'
            yield context.key_problem(other, "id", message, hint, "earlier-id")
        elif not post:
            message = f"{url} ({identity}) is no longer published"
            hint = "restore the post; to retract it, add withdrawn: with the date"
            yield Problem(earlier.name, message=message, hint=hint, rule="earlier-gone")


def _url_path(url: str) -> str:
    """Return the path of a URL, which stays the same when the site moves to another domain."""
    try:
        return unquote(urlsplit(url).path)
    except ValueError:  # an earlier feed may hold anything
        return url


def _slug(url: str) -> str:
    return _url_path(url).rstrip("/").removesuffix(".html").rpartition("/")[2]


def _changed_archives(
    earlier: EarlierFeed, context: LintContext, published: Iterable[SourcePost]
) -> Iterator[Problem]:
    """Yield a problem for each change to an archive document (RFC 5005).

    Feed readers may read such a document only once, and would then miss the change.
    """
    chunks = history_chunks(context.loaded.posts, context.site.feeds.entries)
    now = {number: frozenset(post.id for post in posts) for number, posts in enumerate(chunks, 1)}
    changed = sorted(n for n, ids in earlier.archives.items() if now.get(n) != ids)
    if not changed:
        return
    others = f" to {changed[-1]}" if len(changed) > 1 else ""
    change = f"changes history/{changed[0]}{others}, which feed readers do not fetch again"
    archived = {identity for n in earlier.archives for identity in now.get(n, ())}
    late = [post for post in published if post.id in archived - earlier.entries.keys()]
    for post in late:
        hint = "date it on the day of its publication, or accept that feed readers miss it"
        message = f"{post.day} {change}"
        yield context.key_problem(post, "date", message, hint, "earlier-history")
    if not late:
        hint = "keep feeds.entries and all dates, and withdraw posts instead of deleting them"
        yield Problem(earlier.name, 0, 0, "", f"the site {change}", hint, "earlier-history")
