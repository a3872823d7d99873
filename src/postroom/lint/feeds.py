"""Rules for feed documents: what validators and feed readers object to.

Each rule is a function of the parsed document. `CHECKS` has one check for each format.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import evolve
from lxml import etree, html
from lxml.etree import _Element as Element

from postroom.errors import Problem
from postroom.lint.context import file_problem
from postroom.models import FORMATS
from postroom.settings.validation import is_uri, is_web_address

_ATOM = "{http://www.w3.org/2005/Atom}"
_CONTENT = "{http://purl.org/rss/1.0/modules/content/}encoded"
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_URL_ATTRIBUTES = ("href", "src", "poster", "cite", "srcset")
_REMOVED_TAGS = frozenset("script style iframe object embed form svg math meta link base".split())
# Markup that somebody wrote to have an effect. A title may name tags: "How <dl> works".
_MARKUP = re.compile(
    r"<(a|abbr|b|code|del|em|i|mark|q|s|small|span|strong|sub|sup|u)(?: [^<>]*)?>.+?</\1>"
    r"|&(?:amp|#[0-9]+);",
    re.IGNORECASE,
)
# HTML Living Standard §13.2.5.6, tag open state: what follows "<" where text ends.
_TAG_OPEN = re.compile(r"<[A-Za-z/!?][^>]*>?")
# HTML Living Standard, srcset attributes: a comma ends a candidate after its descriptor or a blank.
_CANDIDATES = re.compile(r"(?<=[0-9][wx]),\s*|,\s+")
_REPORT = "report this as a bug of Postroom"
_REMOVE = "remove it"
_LARGEST = 5_000_000
"""The largest feed document, in bytes, that validators and some feed readers accept."""


_FILES = "|".join(re.escape(form.file) for form in FORMATS)
_ENDINGS = "|".join(re.escape(form.archive_ending) for form in FORMATS)
_PATH = re.compile(rf"(?:(?:topics|lang)/[^/]+/)?(?:{_FILES})|history/[0-9]+\.(?:{_ENDINGS})")


def is_feed_path(path: str) -> bool:
    """Tell whether a build writes a feed document to `path` in the output folder."""
    return bool(_PATH.fullmatch(path))


def lint_feed(data: bytes, path: str) -> list[Problem]:
    """Return every problem of the feed document `data` at `path`.

    The file name in `path` determines the format. Raises `KeyError` if no feed has that name.
    """
    if len(data) > _LARGEST:
        message = f"is larger than {_LARGEST // 1_000_000} MB"
        hint = "lower feeds.entries, or set feeds.content: summary"
        return [file_problem("feed-size", message, hint, path)]
    problems = CHECKS[_format_of(path.rpartition("/")[2])](data)
    return [evolve(problem, path=path) for problem in problems]


def _format_of(name: str) -> str:
    for form in FORMATS:
        if name == form.file or name.endswith(f".{form.archive_ending}"):
            return form.key
    return name


_Rules = Iterable[Callable[[Element], Iterator[Problem]]]


def _lint_xml(data: bytes, rules: _Rules) -> Iterator[Problem]:
    try:
        root = etree.fromstring(data)
    except etree.XMLSyntaxError as error:
        yield file_problem("feed-xml", f"is not well-formed: {error.msg}", _REPORT)
        return
    for rule in rules:
        yield from rule(root)
    if root.tag == "rss":
        yield from _title_references(data)


def _lint_atom(data: bytes) -> Iterator[Problem]:
    yield from _lint_xml(data, _ATOM_RULES)


def _lint_rss(data: bytes) -> Iterator[Problem]:
    yield from _lint_xml(data, _RSS_RULES)


def _atom_parts(root: Element) -> Iterator[Problem]:
    for name in ("id", "title", "updated"):
        for parent in (root, *root.iter(f"{_ATOM}entry")):
            if len(parent.findall(f"{_ATOM}{name}")) != 1:
                yield file_problem(
                    f"feed-{name}", f"{_where(parent)} does not have exactly one", _REPORT
                )
    if root.find(f"{_ATOM}author") is None and any(
        entry.find(f"{_ATOM}author") is None for entry in root.iter(f"{_ATOM}entry")
    ):
        yield file_problem(
            "feed-author",
            "neither the feed nor each entry has an author",
            "set contact.organization",
        )


def _where(element: Element) -> str:
    title = element.findtext(f"{_ATOM}title") or element.findtext("title") or "the feed"
    return f"'{title}'"


def _ids(root: Element) -> Iterator[Problem]:
    ids = [e.findtext(f"{_ATOM}id") or "" for e in root.iter(f"{_ATOM}entry")]
    yield from _unique_uris(ids)


def _guids(root: Element) -> Iterator[Problem]:
    yield from _unique_uris([item.findtext("guid") or "" for item in root.iter("item")])
    for guid in root.iter("guid"):
        if guid.get("isPermaLink") != "false" and not is_web_address(guid.text or ""):
            yield file_problem(
                "feed-guid", f"'{guid.text}' is marked as a permalink, but is not a URL", _REPORT
            )


def _unique_uris(ids: Iterable[str]) -> Iterator[Problem]:
    for identity, count in Counter(ids).items():
        if count > 1:
            yield file_problem(
                "feed-id", f"'{identity}' is used {count} times", "give each post its own id"
            )
        if not is_uri(identity):
            yield file_problem(
                "feed-id",
                f"'{identity}' is not a URI",
                "write a URI such as tag:example.com,2026:first",
            )


def _updates(root: Element) -> Iterator[Problem]:
    times = Counter(e.findtext(f"{_ATOM}updated") for e in root.iter(f"{_ATOM}entry"))
    for time, count in times.items():
        if count > 1:
            yield file_problem(
                "feed-updated", f"{count} entries share {time}", "change the date of one"
            )


def _atom_links(root: Element) -> Iterator[Problem]:
    if not root.xpath("a:link[@rel='self']", namespaces={"a": _ATOM[1:-1]}):
        yield file_problem("feed-link", "the feed has no self link", _REPORT)
    for parent in (root, *root.iter(f"{_ATOM}entry")):
        kinds = Counter(
            (link.get("type"), link.get("hreflang"))
            for link in parent.findall(f"{_ATOM}link")
            if link.get("rel", "alternate") == "alternate"
        )
        if any(count > 1 for count in kinds.values()):
            yield file_problem(
                "feed-link", f"{_where(parent)} has two alternate links of one type", _REPORT
            )
    for link in root.iter(f"{_ATOM}link"):
        if link.get("rel") == "enclosure" and not (link.get("type") and link.get("length")):
            yield file_problem(
                "feed-enclosure", f"'{link.get('href')}' has no type or length", _REPORT
            )
        yield from _absolute(link.get("href", ""), "feed-link")


def _rss_links(root: Element) -> Iterator[Problem]:
    channel = next(root.iter("channel"), root)
    self_urls = [
        link.get("href") for link in channel.findall(f"{_ATOM}link") if link.get("rel") == "self"
    ]
    if len(self_urls) != 1:
        yield file_problem("feed-link", "the channel has no self link", _REPORT)
    if channel.findtext("link") in self_urls:
        yield file_problem(
            "feed-link", "the channel's link leads to the feed, not to the site", _REPORT
        )
    for link in (*root.iter("link"), *root.iter("comments")):
        yield from _absolute(link.text or "", "feed-link")


def _absolute(url: str, rule: str) -> Iterator[Problem]:
    if not is_uri(url):
        yield file_problem(rule, f"'{url}' is not an absolute URL", "write it in full")


def _languages(root: Element) -> Iterator[Problem]:
    tags = [element.get(_XML_LANG) for element in root.iter() if element.get(_XML_LANG)]
    for tag in (*tags, *(element.text for element in root.iter("language"))):
        if not _LANGUAGE.fullmatch(tag or ""):
            yield file_problem(
                "feed-language", f"'{tag}' is not a language tag", "write en or en-US"
            )


def _plain_titles(root: Element) -> Iterator[Problem]:
    for title in (*root.iter(f"{_ATOM}title"), *root.iter("title")):
        if title.get("type", "text") == "text" and _MARKUP.search(title.text or ""):
            yield file_problem(
                "feed-title", f"'{title.text}' contains HTML", "write the title as plain text"
            )


def _title_references(data: bytes) -> Iterator[Problem]:
    for title in re.findall(rb"<title>([^<]*)</title>", data):
        # RSS Best Practices Profile, titles: feed readers disagree on named references.
        if re.search(rb"&(?!#x)", title):
            yield file_problem(
                "feed-title", f"'{title.decode()}' has a named character reference", _REPORT
            )


def _summaries(root: Element) -> Iterator[Problem]:
    for item in root.iter("item"):
        names = [child.tag for child in item]
        if _CONTENT in names and "description" not in names[: names.index(_CONTENT)]:
            yield file_problem(
                "feed-description",
                f"{_where(item)} has no description before its content",
                _REPORT,
            )
    for entry in root.iter(f"{_ATOM}entry"):
        names = [child.tag for child in entry]
        if f"{_ATOM}content" in names and (
            f"{_ATOM}summary" not in names[: names.index(f"{_ATOM}content")]
        ):
            yield file_problem(
                "feed-summary", f"{_where(entry)} has no summary before its content", _REPORT
            )


def _descriptions(root: Element) -> Iterator[Problem]:
    for description in root.iter("description"):
        if markup := _TAG_OPEN.search(description.text or ""):
            parent = description.getparent()
            where = _where(root if parent is None else parent)
            message = f"that of {where} contains '{markup[0][:40]}', which is not shown as text"
            yield file_problem("feed-description", message, _REPORT)


def _enclosures(root: Element) -> Iterator[Problem]:
    for item in root.iter("item"):
        files = item.findall("enclosure")
        if len(files) > 1:
            yield file_problem(
                "feed-enclosure",
                f"{_where(item)} has {len(files)} enclosures",
                "attach one file: RSS allows no more",
            )
        for file in files:
            if not (file.get("url") and file.get("type") and (file.get("length") or "").isdigit()):
                yield file_problem(
                    "feed-enclosure", f"{_where(item)} lacks a URL, type or length", _REPORT
                )


def _contents(root: Element) -> Iterator[Problem]:
    for element in root.iter(f"{_ATOM}content", _CONTENT):
        yield from lint_content(element.text or "")


def lint_content(text: str) -> Iterator[Problem]:
    """Yield a problem for HTML of an entry that feed readers would not show as intended.

    Feed readers remove some elements, block some content, and differ in resolving relative URLs.
    """
    if not text.strip():
        return
    for element in html.fragment_fromstring(text, create_parent="div").iter():
        if not isinstance(element.tag, str):
            continue
        if element.tag in _REMOVED_TAGS:
            yield file_problem("feed-content", f"contains <{element.tag}>", _REMOVE)
        for name, value in element.attrib.items():
            if name.startswith("on"):
                yield file_problem("feed-content", f"contains the event handler {name}", _REMOVE)
            if name == "style" and not re.fullmatch(r"text-align:\s?[a-z]+;?", value):
                yield file_problem("feed-content", f"contains the style '{value}'", _REMOVE)
            if name in _URL_ATTRIBUTES:
                for url in _CANDIDATES.split(value) if name == "srcset" else [value]:
                    yield from _lint_url(url.split(" ")[0])


def _lint_url(url: str) -> Iterator[Problem]:
    if url.casefold().startswith(("javascript:", "vbscript:")):
        yield file_problem("feed-content", f"'{url}' runs a script", _REMOVE)
    else:
        yield from _absolute(url, "feed-content")


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


def _lint_json(data: bytes) -> Iterator[Problem]:
    try:
        document = json.loads(data)
    except ValueError as error:
        yield file_problem("feed-json", f"is not JSON: {error}", _REPORT)
        return
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        message = "is not a JSON Feed: it has no list of items"
        yield file_problem("feed-json", message, _REPORT)
        return
    yield from _unique_uris([item.get("id", "") for item in items])
    for item in items:
        if "content_html" not in item and "content_text" not in item:
            yield file_problem("feed-content", f"'{item.get('title')}' has none", _REPORT)
        yield from lint_content(item.get("content_html", ""))
        yield from _absolute(item.get("url", ""), "feed-url")


CHECKS: Mapping[str, Callable[[bytes], Iterator[Problem]]] = {
    "atom": _lint_atom,
    "rss": _lint_rss,
    "json": _lint_json,
}
"""The check of each row of `publish.feeds.FORMATS`."""
