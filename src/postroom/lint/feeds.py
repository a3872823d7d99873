"""A feed document → what a strict validator, or a reader, would object to.

Each rule is a function of the parsed document; `lint` runs those that fit the format.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from lxml import etree, html
from lxml.etree import _Element as Element

from postroom.errors import Problem
from postroom.models import FORMATS
from postroom.settings.validation import is_uri, is_web_address

_ATOM = "{http://www.w3.org/2005/Atom}"
_CONTENT = "{http://purl.org/rss/1.0/modules/content/}encoded"
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_ADDRESSES = ("href", "src", "poster", "cite", "srcset")
_RISKY = frozenset("script style iframe object embed form svg math meta link base".split())
_MARKUP = re.compile(r"</?[A-Za-z][^>]*>|&(?:[A-Za-z]+|#[0-9]+);")
# HTML Living Standard §13.2.5.6, tag open state: what follows "<" where text ends.
_TAG_OPEN = re.compile(r"<[A-Za-z/!?][^>]*>?")
# HTML Living Standard, srcset attributes: a comma ends a candidate after its descriptor or a blank.
_CANDIDATES = re.compile(r"(?<=[0-9][wx]),\s*|,\s+")
_LARGEST = 5_000_000
"""Bytes: validators and some readers refuse more."""


def lint_feed(data: bytes, path: str) -> list[Problem]:
    """Return every problem of the feed document `data` that lies at `path`, worst first."""
    if len(data) > _LARGEST:
        what = f"is larger than {_LARGEST // 1_000_000} MB"
        return [_problem(path, "size", what, "lower feeds.entries, or set feeds.content: summary")]
    endings = ((form.key, (form.file, form.archive_ending)) for form in FORMATS)
    key = next((key for key, names in endings if path.endswith(names)), "atom")
    return [_problem(path, *finding) for finding in CHECKS[key](data)]


def _problem(path: str, key: str, what: str, repair: str) -> Problem:
    return Problem(path, key=key, message=what, hint=repair, rule=f"feed-{key}")


FeedFinding = tuple[str, str, str]
_XmlRule: TypeAlias = Callable[[Element], Iterator[FeedFinding]]


def _atom_parts(root: Element) -> Iterator[FeedFinding]:
    for name in ("id", "title", "updated"):
        for parent in (root, *root.iter(f"{_ATOM}entry")):
            if len(parent.findall(f"{_ATOM}{name}")) != 1:
                yield name, f"{_where(parent)} has not exactly one", "report it"
    if root.find(f"{_ATOM}author") is None and any(
        entry.find(f"{_ATOM}author") is None for entry in root.iter(f"{_ATOM}entry")
    ):
        yield "author", "neither the feed nor each entry has one", "set contact.organization"


def _where(element: Element) -> str:
    title = element.findtext(f"{_ATOM}title") or element.findtext("title") or "the feed"
    return f"'{title}'"


def _ids(root: Element) -> Iterator[FeedFinding]:
    ids = [e.findtext(f"{_ATOM}id") or "" for e in root.iter(f"{_ATOM}entry")]
    yield from _unique_uris(ids)


def _guids(root: Element) -> Iterator[FeedFinding]:
    yield from _unique_uris([item.findtext("guid") or "" for item in root.iter("item")])
    for guid in root.iter("guid"):
        if guid.get("isPermaLink") != "false" and not is_web_address(guid.text or ""):
            yield "guid", f"'{guid.text}' is called a permalink", "report it"


def _unique_uris(ids: Iterable[str]) -> Iterator[FeedFinding]:
    for identity, count in Counter(ids).items():
        if count > 1:
            yield "id", f"'{identity}' stands {count} times", "give each post its own id"
        if not is_uri(identity):
            yield "id", f"'{identity}' is no URI", "write a URI such as tag:example.com,2026:first"


def _updates(root: Element) -> Iterator[FeedFinding]:
    times = Counter(e.findtext(f"{_ATOM}updated") for e in root.iter(f"{_ATOM}entry"))
    for time, count in times.items():
        if count > 1:
            yield "updated", f"{count} entries share {time}", "change the time of one"


def _atom_links(root: Element) -> Iterator[FeedFinding]:
    if not root.xpath("a:link[@rel='self']", namespaces={"a": _ATOM[1:-1]}):
        yield "link", "the feed has no self link", "report it"
    for parent in (root, *root.iter(f"{_ATOM}entry")):
        kinds = Counter(
            (link.get("type"), link.get("hreflang"))
            for link in parent.findall(f"{_ATOM}link")
            if link.get("rel", "alternate") == "alternate"
        )
        if any(count > 1 for count in kinds.values()):
            yield "link", f"{_where(parent)} has two alternates of one type", "report it"
    for link in root.iter(f"{_ATOM}link"):
        if link.get("rel") == "enclosure" and not (link.get("type") and link.get("length")):
            yield "enclosure", f"'{link.get('href')}' has no type or length", "report it"
        yield from _absolute(link.get("href", ""), "link")


def _rss_links(root: Element) -> Iterator[FeedFinding]:
    channel = next(root.iter("channel"), root)
    own = [
        link.get("href") for link in channel.findall(f"{_ATOM}link") if link.get("rel") == "self"
    ]
    if len(own) != 1:
        yield "link", "the channel has no self link", "report it"
    if channel.findtext("link") in own:
        yield "link", "the channel's link leads to the feed, not to the site", "report it"
    for link in (*root.iter("link"), *root.iter("comments")):
        yield from _absolute(link.text or "", "link")


def _absolute(address: str, key: str) -> Iterator[FeedFinding]:
    if not is_uri(address):
        yield key, f"'{address}' is no absolute address", "write it whole"


def _languages(root: Element) -> Iterator[FeedFinding]:
    tags = [element.get(_XML_LANG) for element in root.iter() if element.get(_XML_LANG)]
    for tag in (*tags, *(element.text for element in root.iter("language"))):
        if not _LANGUAGE.fullmatch(tag or ""):
            yield "language", f"'{tag}' is no language tag", "write en or en-US"


def _plain_titles(root: Element) -> Iterator[FeedFinding]:
    for title in (*root.iter(f"{_ATOM}title"), *root.iter("title")):
        if title.get("type", "text") == "text" and _MARKUP.search(title.text or ""):
            yield "title", f"'{title.text}' looks like HTML", "write the title as plain text"


def _title_references(data: bytes) -> Iterator[FeedFinding]:
    for title in re.findall(rb"<title>([^<]*)</title>", data):
        # RSS Best Practices Profile, titles: readers disagree on named references.
        if re.search(rb"&(?!#x)", title):
            yield "title", f"'{title.decode()}' has a named reference", "report it"


def _summaries(root: Element) -> Iterator[FeedFinding]:
    for item in root.iter("item"):
        names = [child.tag for child in item]
        if _CONTENT in names and "description" not in names[: names.index(_CONTENT)]:
            yield "description", f"{_where(item)} has none before its content", "report it"
    for entry in root.iter(f"{_ATOM}entry"):
        names = [child.tag for child in entry]
        if f"{_ATOM}content" in names and (
            f"{_ATOM}summary" not in names[: names.index(f"{_ATOM}content")]
        ):
            yield "summary", f"{_where(entry)} has none before its content", "report it"


def _descriptions(root: Element) -> Iterator[FeedFinding]:
    for description in root.iter("description"):
        if markup := _TAG_OPEN.search(description.text or ""):
            parent = description.getparent()
            where = _where(root if parent is None else parent)
            what = f"that of {where} holds '{markup[0][:40]}', which is not shown as text"
            yield "description", what, "report it"


def _enclosures(root: Element) -> Iterator[FeedFinding]:
    for item in root.iter("item"):
        files = item.findall("enclosure")
        if len(files) > 1:
            yield "enclosure", f"{_where(item)} has {len(files)}", "RSS holds one"
        for file in files:
            if not (file.get("url") and file.get("type") and (file.get("length") or "").isdigit()):
                yield "enclosure", f"{_where(item)} lacks url, type or length", "report it"


def _contents(root: Element) -> Iterator[FeedFinding]:
    for element in root.iter(f"{_ATOM}content", _CONTENT):
        yield from lint_content(element.text or "")


def lint_content(text: str) -> Iterator[FeedFinding]:
    """Yield what in an entry's HTML a reader would drop, block or resolve wrongly."""
    if not text.strip():
        return
    for element in html.fragment_fromstring(text, create_parent="div").iter():
        if not isinstance(element.tag, str):
            continue
        if element.tag in _RISKY:
            yield "content", f"holds <{element.tag}>", "take it out"
        for name, value in element.attrib.items():
            if name.startswith("on"):
                yield "content", f"holds the handler {name}", "take it out"
            if name == "style" and not re.fullmatch(r"text-align:\s?[a-z]+;?", value):
                yield "content", f"holds the style '{value}'", "take it out"
            if name in _ADDRESSES:
                for address in _CANDIDATES.split(value) if name == "srcset" else [value]:
                    yield from _leading_somewhere(address.split(" ")[0])


def _leading_somewhere(address: str) -> Iterator[FeedFinding]:
    if address.casefold().startswith(("javascript:", "vbscript:")):
        yield "content", f"'{address}' leads to a script", "take it out"
    else:
        yield from _absolute(address, "content")


_ATOM_RULES = (
    _atom_parts,
    _ids,
    _updates,
    _atom_links,
    _languages,
    _plain_titles,
    _summaries,
    _contents,
)
_RSS_RULES = (
    _guids, _rss_links, _languages, _plain_titles,
    _summaries, _descriptions, _enclosures, _contents,
)  # fmt: skip


def _lint_atom(data: bytes) -> Iterator[FeedFinding]:
    yield from _lint_xml(data, _ATOM_RULES)


def _lint_rss(data: bytes) -> Iterator[FeedFinding]:
    yield from _lint_xml(data, (*_RSS_RULES, lambda _: _title_references(data)))


def _lint_xml(data: bytes, rules: Iterable[_XmlRule]) -> Iterator[FeedFinding]:
    try:
        root = etree.fromstring(data)
    except etree.XMLSyntaxError as error:
        yield "xml", f"is not well-formed: {error.msg}", "report it"
        return
    for rule in rules:
        yield from rule(root)


def _lint_json(data: bytes) -> Iterator[FeedFinding]:
    try:
        document = json.loads(data)
    except ValueError as error:
        yield "json", f"is not JSON: {error}", "report it"
        return
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        yield "json", "is no JSON Feed: it has no list of items", "report it"
        return
    yield from _unique_uris([item.get("id", "") for item in items])
    for item in items:
        if "content_html" not in item and "content_text" not in item:
            yield "content", f"'{item.get('title')}' has none", "report it"
        yield from lint_content(item.get("content_html", ""))
        yield from _absolute(item.get("url", ""), "url")


CHECKS: Mapping[str, Callable[[bytes], Iterator[FeedFinding]]] = {
    "atom": _lint_atom,
    "rss": _lint_rss,
    "json": _lint_json,
}
"""The check of each feed format, by its key."""
