"""Where the addresses in posts lead: to a page, a file, a post that is not there yet, nowhere."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from datetime import date, datetime
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from attrs import Factory, field, frozen

from postroom.lint.context import LintContext
from postroom.lint.email_html import link_text_fault
from postroom.lint.pages import SiteIndex
from postroom.markdown.html import SCHEMES
from postroom.posts.source import SourcePost
from postroom.publish.pages import output_path
from postroom.settings.validation import is_web_address, percent_encode

_SERVICE = "list/"
"""The pages of `postroom serve`."""
_MARKDOWN = (".md", ".markdown")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[-_ ]+")


@frozen
class LinkFault:
    """An address that leads nowhere good: the rule, what was found, and how to repair it."""

    rule: str
    message: str
    hint: str


@frozen
class InternalLinks:
    """Judges the addresses in posts; `blamed` gathers the places in the output they lead to."""

    context: LintContext
    index: SiteIndex
    blamed: set[str] = Factory(set)
    _namesakes: Mapping[str, str] = field(init=False, repr=False)

    @_namesakes.default
    def _paths_by_stem(self) -> Mapping[str, str]:
        return {_stem(path): path for path in self.context.by_path}

    def fault(self, one: SourcePost, address: str) -> LinkFault | None:
        """Return what is wrong with where `address`, written in the post `one`, leads."""
        try:
            absolute = self.absolute(one, address)
        except ValueError:
            return LinkFault("post-link", f"'{address}' cannot be read as an address", "correct it")
        scheme = _SCHEME.match(address)
        if scheme and scheme[1].lower() not in SCHEMES:
            known = "https:, mailto: and tel:"
            return LinkFault("post-link", f"'{address}' is left out of the text", f"use {known}")
        if not address:
            return LinkFault("post-link", "no address is written", "write where it leads")
        if scheme and (bad := link_text_fault(percent_encode(address))):
            return LinkFault("post-link", f"'{address}' {bad}", "correct it")
        if not absolute.startswith(self.context.site.url):
            return None
        found = self._target(one, address, absolute)
        if found:
            self.blamed.add(_in_output(absolute, self.context))
        return found

    def absolute(self, one: SourcePost, address: str) -> str:
        """Return the address as readers get it; raises `ValueError` if it is none."""
        fragment = urlsplit(address).fragment
        target = self.context.by_path.get(self.context.beside(one, address))
        if target and not target.head.draft:
            return f"{target.url}#{fragment}" if fragment else target.url
        return urljoin(one.url, address)

    def _target(self, one: SourcePost, address: str, absolute: str) -> LinkFault | None:
        beside = self.context.beside(one, address)
        page = output_path(urldefrag(absolute).url.partition("?")[0], self.context.site)
        target = self.context.by_path.get(beside) or self.context.by_page.get(page)
        if target and (fault := self._unpublished(one, target, address)):
            return fault
        if beside.lower().endswith(_MARKDOWN) and not target:
            return self._no_post(one, address, beside)
        if target or beside in self.context.folder.sizes:
            return self._anchor(page, address)
        if self.index.holds(page):
            return self._anchor(page, address)
        if page.startswith(_SERVICE) or not self.context.site.pages.enabled:
            return None  # others answer there
        what = f"'{address}' leads to {page}, which is not there"
        return LinkFault("post-link", what, "correct the address, or put the file beside the post")

    def _unpublished(self, one: SourcePost, target: SourcePost, address: str) -> LinkFault | None:
        name = self.context.name(target)
        if target.head.draft:
            what = f"'{address}' leads to {name}, which is a draft"
            return LinkFault(
                "post-link-unpublished", what, "publish it first, or take the link out"
            )
        # What waits is read on the day it comes.
        read = max(one.begins, self.context.at)
        if target.ends and target.has_expired(read):
            what = f"'{address}' leads to {name}, which expires on {self._day(target.ends)}"
            return LinkFault(
                "post-link-expired", what, "take the link out, or link to what is left"
            )
        post = self.context.published.get(target.path)
        if not post and target.begins > read:
            what = f"'{address}' leads to {name}, which waits until {self._day(target.begins)}"
            return LinkFault(
                "post-link-unpublished", what, "publish it first, or take the link out"
            )
        if post and post.withdrawn:
            what = f"'{address}' leads to {name}, which was withdrawn on {post.withdrawn}"
            return LinkFault(
                "post-link-withdrawn", what, "take the link out, or link to what is left"
            )
        return None

    def _day(self, instant: datetime) -> date:
        return instant.astimezone(self.context.site.timezone).date()

    def _no_post(self, one: SourcePost, address: str, beside: str) -> LinkFault:
        what = f"'{address}' is no file under {self.context.site.posts}/"
        near = self._namesakes.get(_stem(beside))
        if not near:
            return LinkFault("post-link", what, "correct the name")
        way = posixpath.relpath(near, posixpath.dirname(one.path) or ".")
        return LinkFault("post-link", what, f"did you mean '{way}'?")

    def _anchor(self, page: str, address: str) -> LinkFault | None:
        fragment = unquote(urlsplit(address).fragment)
        if self.index.has_part(page, fragment):
            return None
        what = f"'{address}' leads to '#{fragment}', which {page} has not"
        repair = f'write <a id="{fragment}"></a> where it shall lead, or link to the page'
        return LinkFault("post-anchor", what, repair)

    def outside(self, one: SourcePost, address: str) -> str:
        """Return what an address that leads to the web, not to the newsroom, asks a host for."""
        try:
            absolute = percent_encode(urldefrag(urljoin(one.url, address)).url)
        except ValueError:
            return ""
        ours = absolute.startswith(self.context.site.url)
        return "" if ours or not is_web_address(absolute) else absolute


def _in_output(absolute: str, written: LintContext) -> str:
    """Return the place in the output that an address of the newsroom names, its part included."""
    address, fragment = urldefrag(absolute)
    page = output_path(address.partition("?")[0], written.site)
    return f"{page}#{unquote(fragment)}" if fragment else page


def _stem(path: str) -> str:
    """Return what makes a post's name its own: without folder, date and suffix."""
    stem = posixpath.splitext(posixpath.basename(path))[0]
    return _DATED.sub("", stem).casefold()
