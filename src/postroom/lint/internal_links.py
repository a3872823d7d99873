"""Rules for the targets of URLs in posts: pages, files and other posts of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from datetime import date, datetime
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from attrs import Factory, field, frozen

from postroom.errors import Problem
from postroom.lint.context import LintContext
from postroom.lint.links import url_fault
from postroom.lint.pages import SiteIndex
from postroom.mail.unsubscribe import SERVICE_PATH
from postroom.markdown.anchors import own_id
from postroom.markdown.html import SCHEMES
from postroom.posts.source import SourcePost
from postroom.publish.pages import output_path
from postroom.settings.validation import is_web_address, near_match, normalize_url

_MARKDOWN = (".md", ".markdown")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[-_ ]+")


@frozen
class InternalLinks:
    """Finds broken links from posts to pages and files of the same site.

    `blamed` collects the target of each broken link: its path in the output, and the fragment. With
    it, the rules for pages do not report the same link again.
    """

    context: LintContext
    index: SiteIndex
    blamed: set[str] = Factory(set)
    _paths_by_stem: Mapping[str, str] = field(init=False, repr=False)

    @_paths_by_stem.default
    def _make_paths_by_stem(self) -> Mapping[str, str]:
        return {_stem(path): path for path in self.context.by_path}

    def fault(self, post: SourcePost, url: str) -> Problem | None:
        """Return what is wrong with the target of `url` in `post`, or None.

        The caller must add the path and the line to the problem.
        """
        try:
            absolute = self.absolute(post, url)
        except ValueError:
            return _fault("post-link", f"'{url}' is not a valid URL", "correct it")
        scheme = _SCHEME.match(url)
        if scheme and scheme[1].lower() not in SCHEMES:
            message = f"'{url}' is left out of the output"
            return _fault("post-link", message, "use https:, mailto: or tel:")
        if not url:
            return _fault("post-link", "the link has no URL", "write where it leads")
        if scheme and (broken := url_fault(normalize_url(url))):
            return _fault("post-link", f"'{url}' {broken}", "correct it")
        if not absolute.startswith(self.context.site.url):
            return None
        found = self._target_fault(post, url, absolute)
        if found:
            self.blamed.add(_place_in_output(absolute, self.context))
        return found

    def absolute(self, post: SourcePost, url: str) -> str:
        """Return `url` as an absolute URL of the output; raises `ValueError` if it is not valid."""
        parts = urlsplit(url)
        if not (parts.scheme or parts.netloc or parts.path):
            return urljoin(post.url, parts._replace(fragment=own_id(parts.fragment)).geturl())
        target = self.context.by_path.get(self.context.resolve_path(post, url))
        if target and not target.head.draft:
            fragment = own_id(parts.fragment)
            return f"{target.url}#{fragment}" if fragment else target.url
        return urljoin(post.url, url)

    def _target_fault(self, post: SourcePost, url: str, absolute: str) -> Problem | None:
        path = self.context.resolve_path(post, url)
        page = output_path(urldefrag(absolute).url.partition("?")[0], self.context.site)
        target = self.context.by_path.get(path) or self.context.by_page.get(page)
        if target and (fault := self._unpublished(post, target, url)):
            return fault
        if path.lower().endswith(_MARKDOWN) and not target:
            return self._missing_post(post, url, path)
        if target or path in self.context.folder.sizes or self.index.has_file(page):
            return self._missing_anchor(page, url, absolute)
        if page.startswith(SERVICE_PATH) or not self.context.site.pages.enabled:
            return None  # another program serves this page
        message = f"'{url}' leads to {page}, which does not exist"
        return _fault("post-link", message, "correct the URL, or put the file beside the post")

    def _unpublished(self, post: SourcePost, target: SourcePost, url: str) -> Problem | None:
        leads = f"'{url}' leads to {self.context.source_path(target)}, which"
        if target.head.draft:
            return _fault("post-link-unpublished", f"{leads} is a draft", _PUBLISH_FIRST)
        # Nobody reads a scheduled post before its date.
        read = max(post.begins, self.context.at)
        if target.ends and target.has_expired(read):
            message = f"{leads} expires on {self._day(target.ends)}"
            return _fault("post-link-expired", message, _REMOVE_LINK)
        published = self.context.published.get(target.path)
        if not published and target.begins > read:
            message = f"{leads} is scheduled for {self._day(target.begins)}"
            return _fault("post-link-unpublished", message, _PUBLISH_FIRST)
        if published and published.withdrawn:
            message = f"{leads} was withdrawn on {published.withdrawn}"
            return _fault("post-link-withdrawn", message, _REMOVE_LINK)
        return None

    def _day(self, instant: datetime) -> date:
        return instant.astimezone(self.context.site.timezone).date()

    def _missing_post(self, post: SourcePost, url: str, path: str) -> Problem:
        message = f"'{url}' is not a file in {self.context.site.posts}/"
        similar = self._paths_by_stem.get(_stem(path))
        if not similar:
            return _fault("post-link", message, "correct the name")
        relative = posixpath.relpath(similar, posixpath.dirname(post.path) or ".")
        return _fault("post-link", message, f"did you mean '{relative}'?")

    def _missing_anchor(self, page: str, url: str, absolute: str) -> Problem | None:
        if self.index.has_anchor(page, unquote(urldefrag(absolute).fragment)):
            return None
        fragment = unquote(urlsplit(url).fragment)
        message = f"'{url}' leads to '#{fragment}', which {page} does not have"
        hint = f'write <a id="{fragment}"></a> at the target, or link to the page'
        if near := near_match(fragment, self.index.ids.get(page, ())):
            hint = f"did you mean '#{near}'?"
        return _fault("post-anchor", message, hint)

    def external_url(self, post: SourcePost, url: str) -> str:
        """Return `url` as an absolute URL if it leads to another site, else an empty string."""
        try:
            absolute = normalize_url(urldefrag(urljoin(post.url, url)).url)
        except ValueError:
            return ""
        is_internal = absolute.startswith(self.context.site.url)
        return "" if is_internal or not is_web_address(absolute) else absolute


_PUBLISH_FIRST = "publish it first, or remove the link"
_REMOVE_LINK = "remove the link, or link to another page"


def _fault(rule: str, message: str, hint: str) -> Problem:
    return Problem("", message=message, hint=hint, rule=rule)


def _place_in_output(absolute: str, context: LintContext) -> str:
    """Return the path in the output, and the fragment, to which a URL of the site leads."""
    url, fragment = urldefrag(absolute)
    page = output_path(url.partition("?")[0], context.site)
    return f"{page}#{unquote(fragment)}" if fragment else page


def _stem(path: str) -> str:
    """Return the file name in `path` without the date at its start and without its suffix."""
    stem = posixpath.splitext(posixpath.basename(path))[0]
    return _DATED.sub("", stem).casefold()
