"""Rules for HTML pages in the output folder; each page is parsed once."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urljoin

from attrs import Factory, define, evolve, field, frozen
from lxml import etree, html

from postroom.errors import Problem
from postroom.lint.context import LintContext
from postroom.lint.links import url_fault
from postroom.mail.unsubscribe import SERVICE_PATH
from postroom.models import Site
from postroom.publish.output import MANIFEST
from postroom.publish.pages import relative_root
from postroom.settings.validation import normalize_url

_IDS = etree.XPath("//@id", smart_strings=False)
_URLS = etree.XPath("//@href | //@src", smart_strings=False)
_TITLE = etree.XPath("string(/html/head/title)", smart_strings=False)
_IS_EMPTY = etree.XPath("not(/html/body/*)")
_CHECKED_TAGS = ("h1", "h2", "h3", "h4", "h5", "h6", "img", "a")
_HAS_NO_TEXT = etree.XPath(
    "not(normalize-space() or @aria-label or @title or @aria-hidden"
    " or .//img[normalize-space(@alt)])"
)
_TEMPLATE_HINT = "correct the template"


@define
class Occurrence:
    """The first page that has a link, a fault or a duplicate id, and the number of such pages."""

    page: str
    pages: int = 0


@frozen
class SiteIndex:
    """The files of the output, and the ids, titles, links and faults of its pages.

    Paths are relative to the output folder. `is_foreign` tells whether a path is a file that the
    build did not make and that is served beside the output.
    """

    site: Site
    files: frozenset[str]
    is_foreign: Callable[[str], bool] = field(repr=False)
    ids: dict[str, frozenset[str]] = Factory(dict)
    duplicate_ids: dict[str, Occurrence] = Factory(dict)
    titles: dict[str, list[str]] = Factory(dict)
    links: dict[tuple[str, str], Occurrence] = Factory(dict)
    faults: dict[Problem, Occurrence] = Factory(dict)
    """Faults in the HTML, without a path."""

    def has_file(self, path: str) -> bool:
        """Tell whether a web server finds a file for `path`: for a folder, its index.html."""
        return path in self.files or f"{path}/index.html" in self.files or self.is_foreign(path)

    def has_anchor(self, path: str, fragment: str) -> bool:
        """Tell whether a browser may find `fragment` on the page at `path`.

        The answer is true for pages whose ids are not known.
        """
        # HTML Living Standard: an empty fragment and `top` lead to the top, `:~:` to a text.
        if path not in self.ids or fragment.casefold() in {"", "top"} or fragment.startswith(":~:"):
            return True
        return fragment in self.ids[path]

    def add(self, path: str, page: bytes) -> None:
        """Add the page at `path` to the index."""
        try:
            root = html.document_fromstring(page, html.HTMLParser(encoding="utf-8"))
        except etree.ParserError:  # the page is empty
            return
        ids = _strings(_IDS(root))
        self.ids[path] = frozenset(ids)
        if len(self.ids[path]) < len(ids):
            for identity, count in Counter(ids).items():
                if count > 1:
                    self.duplicate_ids.setdefault(identity, Occurrence(path)).pages += 1
        self.titles.setdefault(" ".join(str(_TITLE(root)).split()), []).append(path)
        if not _IS_EMPTY(root):
            for fault in dict.fromkeys(_faults(root, urljoin(self.site.url, quote(path)))):
                self.faults.setdefault(fault, Occurrence(path)).pages += 1
        for target in {*self._targets(path, _strings(_URLS(root)))}:
            self.links.setdefault(target, Occurrence(path)).pages += 1

    def _targets(self, path: str, urls: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the target of each of `urls` that leads into the output, as path and fragment."""
        base = urljoin(self.site.url, quote(path))
        root = relative_root(base, self.site)
        for url in dict.fromkeys(urls):
            if root and url.startswith(root) and "../" not in (rest := url[len(root) :]):
                target, _, fragment = rest.partition("#")
            elif url.startswith(self.site.url):
                target, _, fragment = url[len(self.site.url) :].partition("#")
            else:
                absolute = _join(base, url)
                if not absolute.startswith(self.site.url):
                    continue
                target, fragment = urldefrag(absolute[len(self.site.url) :])
            yield _served_file(target), unquote(fragment)


def index_site(
    folder: Path, site: Site, is_foreign: Callable[[str], bool], attachments: frozenset[str]
) -> SiteIndex:
    """Index the output in `folder`; pages among the attachments of posts are not linted."""
    files = frozenset(_list_files(folder))
    index = SiteIndex(site, files, is_foreign)
    for path in sorted(files - attachments):
        if path.endswith(".html") and posixpath.basename(path) != "email.html":
            index.add(path, (folder / path).read_bytes())
    return index


def _list_files(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        below = Path(parent).relative_to(folder)
        for name in names:
            if name != MANIFEST:
                yield (below / name).as_posix()


def _fault(rule: str, message: str, hint: str, key: str = "") -> Problem:
    return Problem("", key=key, message=message, hint=hint, rule=rule)


def _faults(root: html.HtmlElement, url: str) -> Iterator[Problem]:
    """Yield a problem for each fault in the HTML of the page at `url`."""
    if not root.get("lang", "").strip():
        yield _fault("page-language", "<html> has no lang", "write <html lang>")
    if not str(_TITLE(root)).strip():
        yield _fault("page-title", "is empty", "fill it in the template", "title")
    # Faults in the text of a post are reported for the post.
    checked = [element for element in root.iter(*_CHECKED_TAGS) if not _is_prose(element)]
    yield from _heading_faults([int(str(e.tag)[1]) for e in checked if e.tag not in {"a", "img"}])
    for element in checked:
        if element.tag == "img" and "alt" not in element.attrib:
            message = f"the image {_join(url, element.get('src', ''))} has no alt"
            yield _fault("page-alt", message, "describe it, or write alt='' if it is decorative")
        elif element.tag == "a" and "href" in element.attrib:
            yield from _link_faults(element, element.get("href", ""), url)


def _heading_faults(levels: list[int]) -> Iterator[Problem]:
    hint = "write one <h1> for each page, and skip no level below it"
    if levels.count(1) != 1:
        yield _fault("page-heading", f"has {levels.count(1)} first-level headings", hint)
    for above, below in pairwise(levels):
        if below > above + 1:
            yield _fault("page-heading", f"<h{below}> follows <h{above}>", hint)


def _is_prose(element: etree._Element) -> bool:
    return any(around.get("class") == "prose" for around in element.iterancestors("div"))


def _link_faults(link: etree._Element, target: str, url: str) -> Iterator[Problem]:
    if _HAS_NO_TEXT(link):
        message = f"the link to {_join(url, target)} has no text"
        yield _fault("page-empty-link", message, "write a text that names the target")
    if ":" in target and (fault := url_fault(normalize_url(target))):
        yield _fault("page-link", f"the link target '{target}' {fault}", "write an absolute URL")


def _strings(found: object) -> list[str]:
    return [str(item) for item in found] if isinstance(found, list) else []


def _join(base: str, url: str) -> str:
    try:
        return urljoin(base, url)
    except ValueError:
        return ""


def _served_file(target: str) -> str:
    """Return the path of the file that a web server sends for `target`, relative to the root."""
    path = target.partition("?")[0]
    path = unquote(path) if "%" in path else path
    return f"{path}index.html" if not path or path.endswith("/") else path


def lint_pages(
    index: SiteIndex, context: LintContext, blamed: Collection[str]
) -> Iterator[Problem]:
    """Yield the problems of all pages.

    `blamed` holds the targets of links that were already reported for a post; they are left out.
    """
    for identity, occurrence in index.duplicate_ids.items():
        fault = _fault("page-id", f"the id '{identity}' is not unique", "rename one of them")
        yield _located(fault, occurrence, index)
    for fault, occurrence in index.faults.items():
        yield _located(fault, occurrence, index)
    yield from _duplicate_titles(index, context)
    if context.site.pages.enabled:
        yield from _broken_links(index, blamed)


def _located(fault: Problem, occurrence: Occurrence, index: SiteIndex) -> Problem:
    others = f", on {occurrence.pages} pages" if occurrence.pages > 1 else ""
    path = f"{index.site.output}/{occurrence.page}"
    return evolve(fault, path=path, message=fault.message + others)


def _duplicate_titles(index: SiteIndex, context: LintContext) -> Iterator[Problem]:
    for title, pages in index.titles.items():
        if len(pages) == 1 or not title:
            continue
        # A post among them comes first: its author can change the title.
        pages.sort(key=lambda page: page not in context.by_page)
        first, second, *more = pages
        others = _source(second, index, context) + (f" and {len(more)} more" if more else "")
        message, hint = f"is also the title of {others}", "change one of them"
        if post := context.by_page.get(first):
            yield context.key_problem(post, "title", message, hint, "page-title")
        else:
            path = _source(first, index, context)
            yield Problem(path, 0, 0, "title", message, hint, "page-title")


def _source(page: str, index: SiteIndex, context: LintContext) -> str:
    post = context.by_page.get(page)
    return context.source_path(post) if post else f"{index.site.output}/{page}"


def _broken_links(index: SiteIndex, blamed: Collection[str]) -> Iterator[Problem]:
    for (path, fragment), occurrence in index.links.items():
        target = f"{path}#{fragment}" if fragment else path
        if target in blamed or path in blamed:
            continue
        if not index.has_file(path):
            if not path.startswith(SERVICE_PATH):
                message = f"a link leads to {path}, which does not exist"
                fault = _fault("page-link", message, _TEMPLATE_HINT)
                yield _located(fault, occurrence, index)
        elif not index.has_anchor(path, fragment):
            message = f"a link leads to #{fragment}, which {path} does not have"
            fault = _fault("page-anchor", message, _TEMPLATE_HINT)
            yield _located(fault, occurrence, index)
