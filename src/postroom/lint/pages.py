"""The output folder → what its pages are called, hold and lead to, each page parsed once."""

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
from postroom.lint.email_html import link_text_fault
from postroom.models import Site
from postroom.publish.output import MANIFEST
from postroom.publish.pages import relative_root
from postroom.settings.validation import percent_encode

_IDS = etree.XPath("//@id", smart_strings=False)
_ADDRESSES = etree.XPath("//@href | //@src", smart_strings=False)
_TITLE = etree.XPath("string(/html/head/title)", smart_strings=False)
_IS_EMPTY = etree.XPath("not(/html/body/*)")
_LOOKED_AT = ("h1", "h2", "h3", "h4", "h5", "h6", "img", "a")
_SAYS_NOTHING = etree.XPath(
    "not(normalize-space() or @aria-label or @title or @aria-hidden"
    " or .//img[normalize-space(@alt)])"
)


@define
class Occurrence:
    """A place that pages lead to: the first of them, and how many there are."""

    page: str
    pages: int = 0


@frozen
class SiteIndex:
    """What lies in the output, and of its pages the ids, titles and places they lead to.

    Paths count from the output folder. `standing` tells of a path whether a file lies there that
    the build did not make, and that a host serves beside its own.
    """

    site: Site
    files: frozenset[str]
    standing: Callable[[str], bool] = field(repr=False)
    ids: dict[str, frozenset[str]] = Factory(dict)
    twice: dict[str, Occurrence] = Factory(dict)
    titles: dict[str, list[str]] = Factory(dict)
    links: dict[tuple[str, str], Occurrence] = Factory(dict)
    faults: dict[tuple[str, str], Occurrence] = Factory(dict)
    """What is wrong with the mark-up of pages, by rule and words."""

    def holds(self, path: str) -> bool:
        """Tell whether a host finds something at `path`; it adds a folder's index itself."""
        return path in self.files or f"{path}/index.html" in self.files or self.standing(path)

    def has_part(self, path: str, fragment: str) -> bool:
        """Tell whether a browser finds `fragment` on the page at `path`; if in doubt, it does."""
        # HTML Living Standard: an empty fragment and `top` lead to the top, `:~:` to a text.
        if path not in self.ids or fragment.casefold() in {"", "top"} or fragment.startswith(":~:"):
            return True
        return fragment in self.ids[path]

    def take(self, path: str, page: bytes) -> None:
        """Take note of the page that lies at `path`."""
        try:
            root = html.document_fromstring(page, html.HTMLParser(encoding="utf-8"))
        except etree.ParserError:  # there is nothing in it
            return
        ids = _strings(_IDS(root))
        self.ids[path] = frozenset(ids)
        if len(self.ids[path]) < len(ids):
            for identity, count in Counter(ids).items():
                if count > 1:
                    self._count(self.twice.setdefault(identity, Occurrence(path)))
        self.titles.setdefault(" ".join(str(_TITLE(root)).split()), []).append(path)
        if not _IS_EMPTY(root):
            for fault in dict.fromkeys(_faults(root, urljoin(self.site.url, quote(path)))):
                self._count(self.faults.setdefault(fault, Occurrence(path)))
        for place in {*self._places(path, _strings(_ADDRESSES(root)))}:
            self._count(self.links.setdefault(place, Occurrence(path)))

    @staticmethod
    def _count(met: Occurrence) -> None:
        met.pages += 1

    def _places(self, path: str, addresses: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the path and the fragment of each address that leads into the output."""
        url = urljoin(self.site.url, quote(path))
        root = relative_root(url, self.site)
        for address in dict.fromkeys(addresses):
            if root and address.startswith(root) and "../" not in (rest := address[len(root) :]):
                target, _, fragment = rest.partition("#")
            elif address.startswith(self.site.url):
                target, _, fragment = address[len(self.site.url) :].partition("#")
            else:
                absolute = _joined(url, address)
                if not absolute.startswith(self.site.url):
                    continue
                target, fragment = urldefrag(absolute[len(self.site.url) :])
            yield _file(target), unquote(fragment)


def index_site(
    folder: Path, site: Site, standing: Callable[[str], bool], passed: frozenset[str]
) -> SiteIndex:
    """Look at the output in `folder`; the files in `passed` came with posts and are not ours."""
    files = frozenset(_files(folder))
    found = SiteIndex(site, files, standing)
    for path in sorted(files - passed):
        if path.endswith(".html") and posixpath.basename(path) != "email.html":
            found.take(path, (folder / path).read_bytes())
    return found


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder)
        for name in names:
            if name != MANIFEST:
                yield (below / name).as_posix()


def _faults(root: html.HtmlElement, url: str) -> Iterator[tuple[str, str]]:
    """Yield the rule and the words of what is wrong with the mark-up of the page at `url`."""
    if not root.get("lang", "").strip():
        yield "page-language", "<html> names no language"
    if not str(_TITLE(root)).strip():
        yield "page-title", "is empty"
    # What stands in the text of a post is told at the post.
    looked_at = [one for one in root.iter(*_LOOKED_AT) if not _is_prose(one)]
    levels = [int(str(one.tag)[1]) for one in looked_at if one.tag not in {"a", "img"}]
    if levels.count(1) != 1:
        yield "page-heading", f"there are {levels.count(1)} first-level headings"
    for above, below in pairwise(levels):
        if below > above + 1:
            yield "page-heading", f"<h{below}> follows <h{above}>"
    for one in looked_at:
        if one.tag == "img" and "alt" not in one.attrib:
            yield "page-alt", f"the picture {_joined(url, one.get('src', ''))} has no alt"
        elif one.tag == "a" and "href" in one.attrib:
            yield from _link_faults(one, one.get("href", ""), url)


def _is_prose(element: etree._Element) -> bool:
    return any(one.get("class") == "prose" for one in element.iterancestors("div"))


def _link_faults(link: etree._Element, address: str, url: str) -> Iterator[tuple[str, str]]:
    if _SAYS_NOTHING(link):
        yield "page-empty-link", f"the link to {_joined(url, address)} has no words"
    if ":" in address and (fault := link_text_fault(percent_encode(address))):
        yield "page-link", f"the link to '{address}' {fault}"


def _strings(found: object) -> list[str]:
    return [str(one) for one in found] if isinstance(found, list) else []


def _joined(url: str, address: str) -> str:
    try:
        return urljoin(url, address)
    except ValueError:
        return ""


def _file(target: str) -> str:
    """Return the path of the file that a host sends for `target`, written below the root."""
    path = target.partition("?")[0]
    path = unquote(path) if "%" in path else path
    return f"{path}index.html" if not path or path.endswith("/") else path


_SERVICE = "list/"
_REPAIRS = {
    "page-language": "write <html lang>",
    "page-title": "let the template fill it",
    "page-heading": "give a page one <h1>, and skip no level below it",
    "page-alt": "describe it, or write alt='' if it adorns",
    "page-empty-link": "let its words say where it leads",
    "page-link": "write the whole address",
}


def lint_pages(
    survey: SiteIndex, written: LintContext, blamed: Collection[str]
) -> Iterator[Problem]:
    """Yield what is wrong with pages; a place in `blamed` is told as the fault of a post."""
    yield from _ids(survey)
    for (rule, what), met in survey.faults.items():
        key = "title" if rule == "page-title" else ""
        yield evolve(_problem(survey, met, what, _REPAIRS[rule], rule), key=key)
    yield from _titles(survey, written)
    if written.site.pages.enabled:
        yield from _links(survey, blamed)


def _problem(survey: SiteIndex, met: Occurrence, what: str, repair: str, rule: str) -> Problem:
    others = f", on {met.pages} pages" if met.pages > 1 else ""
    path = f"{survey.site.output}/{met.page}"
    return Problem(path, message=what + others, hint=repair, rule=rule)


def _ids(survey: SiteIndex) -> Iterator[Problem]:
    for identity, met in survey.twice.items():
        what = f"the id '{identity}' stands twice"
        yield _problem(survey, met, what, "give one of them another", "page-id")


def _titles(survey: SiteIndex, written: LintContext) -> Iterator[Problem]:
    for title, pages in survey.titles.items():
        if len(pages) == 1 or not title:
            continue
        # Where posts share it, a post is where it can be changed.
        pages.sort(key=lambda page: page not in written.by_page)
        first, second, *more = pages
        others = _source(second, survey, written) + (f" and {len(more)} more" if more else "")
        repair = "give one of them another"
        what = f"is that of {others} too"
        if one := written.by_page.get(first):
            yield written.in_head(one, "title", what, repair, "page-title")
        else:
            path = _source(first, survey, written)
            yield Problem(path, 0, 0, "title", what, repair, "page-title")


def _source(page: str, survey: SiteIndex, written: LintContext) -> str:
    one = written.by_page.get(page)
    return written.name(one) if one else f"{survey.site.output}/{page}"


def _links(survey: SiteIndex, blamed: Collection[str]) -> Iterator[Problem]:
    for (path, fragment), met in survey.links.items():
        place = f"{path}#{fragment}" if fragment else path
        if place in blamed or path in blamed:
            continue
        if not survey.holds(path):
            if not path.startswith(_SERVICE):
                what = f"a link leads to {path}, which is not there"
                yield _problem(survey, met, what, "correct the template", "page-link")
        elif not survey.has_part(path, fragment):
            what = f"a link leads to #{fragment}, which {path} has not"
            yield _problem(survey, met, what, "correct the template", "page-anchor")
