"""Rules for the front matter and the text of posts, and for settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta

from attrs import evolve, frozen

from postroom.errors import Problem
from postroom.lint.context import LintContext
from postroom.lint.internal_links import InternalLinks
from postroom.lint.links import is_generic_link_text
from postroom.markdown.extract import (
    MarkdownHeading,
    MarkdownImage,
    MarkdownLink,
    MarkdownPlaces,
    ShownSigns,
    extract_places,
)
from postroom.models import Site
from postroom.posts.front_matter import WrittenDate, start_of
from postroom.posts.source import SourcePost
from postroom.settings.site import FILE_NAME

_LONGEST_TITLE = 70
_LATEST = timedelta(days=183)
_LARGEST_IMAGE = 1_000_000
# RFC 4151 §2.1: a month or a day that is left out is the first.
_TAG = re.compile(r"tag:[^,:]+,([0-9]{4})(?:-([0-9]{2}))?(?:-([0-9]{2}))?:", re.IGNORECASE)


def lint_front_matter(context: LintContext) -> Iterator[Problem]:
    """Yield the problems in the front matter of published and scheduled posts."""
    start = _tag_date(context.site.id)
    for post in context.visible_posts():
        yield from _lint_texts_of_lists(post, context)
        yield from _lint_dates(post, context, start)
    yield from _equal_dates(context)


def _lint_texts_of_lists(post: SourcePost, context: LintContext) -> Iterator[Problem]:
    if not post.head.summary:
        hint = "add a summary of one or two sentences"
        yield context.key_problem(post, "summary", "is missing", hint, "post-summary")
    if len(post.title) > _LONGEST_TITLE:
        message = f"has {len(post.title)} characters"
        hint = f"shorten it to {_LONGEST_TITLE}, and put the rest into the summary"
        yield context.key_problem(post, "title", message, hint, "post-title")
    if post.head.image and not post.head.image.alt:
        message = f"'{post.head.image.src}' has no description"
        hint = f"write image: {{src: {post.head.image.src}, alt: What it shows}}"
        yield context.key_problem(post, "image", message, hint, "post-alt")


def _lint_dates(post: SourcePost, context: LintContext, start: date | None) -> Iterator[Problem]:
    latest = (context.at + _LATEST).date()
    dates = [
        ("date", post.date),
        ("updated", post.head.updated),
        ("withdrawn", post.head.withdrawn),
        *(("publishDate", publish_date) for publish_date in post.head.publish_dates),
    ]
    for key, written in dates:
        if written and written.day > latest:
            message = f"{written.day} is more than half a year ahead"
            hint = "correct the year, or wait"
            yield context.key_problem(post, key, message, hint, "post-date-ahead")
    if start and post.day < start:
        message = f"{post.day} is before {start}, the date in the id of the site"
        hint = "correct the year, or write an earlier date into id in postroom.yaml"
        yield context.key_problem(post, "date", message, hint, "post-date-early")
    updated = post.head.updated
    if updated and _is_before(updated, post.date, context.site):
        message = f"{updated.day} is before the date of the post, {post.date.day}"
        hint = "correct one of the two dates"
        yield context.key_problem(post, "updated", message, hint, "post-date-order")


def _is_before(first: WrittenDate, second: WrittenDate, site: Site) -> bool:
    """Compare two dates as exactly as both are written: by instant, or by day."""
    if first.time and second.time:
        return start_of(first, site) < start_of(second, site)
    return first.day < second.day


def _tag_date(identity: str) -> date | None:
    """Return the date of a tag URI; None for any other id, and for an invalid date."""
    found = _TAG.match(identity)
    if not found:
        return None
    try:
        return date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        return None


def _equal_dates(context: LintContext) -> Iterator[Problem]:
    first: dict[datetime, SourcePost] = {}
    timed = [post for post in context.visible_posts() if post.date.time is not None]
    for post in sorted(timed, key=lambda post: (post.instant, post.id)):
        other = first.setdefault(post.instant, post)
        if other is not post:
            message = f"is the same as that of {context.source_path(other)}"
            hint = "change one of them by a minute"
            yield context.key_problem(post, "date", message, hint, "post-date-twin")


@frozen
class ExternalLink:
    """A link to another site, and its place in a post."""

    url: str
    problem: Problem


def lint_texts(
    targets: InternalLinks, external: list[ExternalLink] | None = None
) -> Iterator[Problem]:
    """Yield the problems in the texts of published and scheduled posts.

    Links to other sites are appended to `external`.
    """
    for post in targets.context.visible_posts():
        places = extract_places(post.body)
        text = _Text(post, targets)
        yield from text.lint(places)
        if external is not None:
            external += text.external_links(places)


@frozen
class _Text:
    """The rules for the text of one post."""

    post: SourcePost
    targets: InternalLinks

    def lint(self, places: MarkdownPlaces) -> Iterator[Problem]:
        yield from self._lint_links(places.links)
        yield from self._lint_images(places.images)
        yield from self._lint_lead_image()
        yield from self._lint_headings(places.headings)
        for signs in places.shown_signs:
            message = f"the signs of '{signs.source}' are shown"
            hint = "put a space around it, move the punctuation out of the signs, or write HTML"
            yield self._problem(signs, message, hint, "post-emphasis")

    def _problem(
        self,
        place: MarkdownLink | MarkdownImage | MarkdownHeading | ShownSigns,
        message: str,
        hint: str,
        rule: str,
    ) -> Problem:
        path = self.targets.context.source_path(self.post)
        line = self.post.body_line + place.line - 1
        return Problem(path, line, place.column, "", message, hint, rule)

    def _lint_links(self, links: Iterable[MarkdownLink]) -> Iterator[Problem]:
        for link in links:
            if fault := self.targets.fault(self.post, link.address):
                yield self._problem(link, fault.message, fault.hint, fault.rule)
            else:
                yield from self._lint_attachment(link)
            if not link.words.strip() or is_generic_link_text(link.words):
                message = f"the link to '{link.address}' says '{link.words}'"
                hint = "write a text that names the target"
                yield self._problem(link, message, hint, "post-link-words")

    def _lint_images(self, images: Iterable[MarkdownImage]) -> Iterator[Problem]:
        for image in images:
            if not image.alt and not image.decorative:
                message = f"'{image.address}' has no description"
                hint = f"write ![What it shows]({image.address}), or <img alt> if it is decorative"
                yield self._problem(image, message, hint, "post-alt")
            if fault := self.targets.fault(self.post, image.address):
                rule = "post-image" if fault.rule == "post-link" else fault.rule
                yield self._problem(image, fault.message, fault.hint, rule)
            else:
                yield from self._lint_size(image)
                yield from self._lint_attachment(image)

    def _lint_attachment(self, place: MarkdownLink | MarkdownImage) -> Iterator[Problem]:
        context = self.targets.context
        path = context.resolve_path(self.post, place.address)
        if path in context.folder.sizes and context.folder.may_run_scripts(path):
            message = f"'{place.address}' may run scripts on the site"
            hint = "publish it elsewhere, or remove it; remove the scripts of an SVG"
            yield self._problem(place, message, hint, "attachment-active")

    def _lint_lead_image(self) -> Iterator[Problem]:
        context = self.targets.context
        if not (image := self.post.head.image):
            return
        lead = MarkdownImage(image.src, image.alt, 1, 1)
        for problem in (*self._lint_size(lead), *self._lint_attachment(lead)):
            line = self.post.head.lines.get("image", 1)
            path = context.source_path(self.post)
            yield evolve(problem, path=path, line=line, column=0, key="image")

    def _lint_size(self, image: MarkdownImage) -> Iterator[Problem]:
        folder = self.targets.context.folder
        path = self.targets.context.resolve_path(self.post, image.address)
        size = folder.sizes.get(path, 0)
        if size > _LARGEST_IMAGE:
            message = f"'{image.address}' has {size / 1_000_000:.1f} MB"
            hint = "make it smaller: a width of 1600 pixels is enough"
            yield self._problem(image, message, hint, "post-image-size")
        if image.sized:
            return
        if size and not all(folder.pixels(path)):
            message = f"'{image.address}' has no width and height"
            hint = "save it as PNG, JPEG or WebP; give an SVG width and height"
            yield self._problem(image, message, hint, "post-image-pixels")
        elif not path and image.address.lower().startswith(("http:", "https:")):
            message = f"'{image.address}' is on another site; its width and height are not known"
            hint = "put the file beside the post, or write <img src alt width height>"
            yield self._problem(image, message, hint, "post-image-pixels")

    def _lint_headings(self, headings: Iterable[MarkdownHeading]) -> Iterator[Problem]:
        found = list(headings)
        # The title of the post is level 1. A text that has level 1 itself is moved down by one.
        above = 0 if any(heading.level == 1 for heading in found) else 1
        for heading in found:
            if heading.level > above + 1:
                message = f"a heading of level {heading.level} follows one of level {above}"
                if heading is found[0]:
                    message = f"the first heading is of level {heading.level}"
                hint = f"write it with {'#' * (above + 1)}"
                yield self._problem(heading, message, hint, "post-heading")
            above = heading.level

    def external_links(self, places: MarkdownPlaces) -> Iterator[ExternalLink]:
        head, context = self.post.head, self.targets.context
        by_key = {
            "image": head.image.src if head.image else "",
            "enclosure": head.enclosure.url if head.enclosure else "",
        }
        for key, source in by_key.items():
            if url := self.targets.external_url(self.post, source):
                problem = context.key_problem(self.post, key, "", "", "post-link-outside")
                yield ExternalLink(url, problem)
        in_text: tuple[MarkdownLink | MarkdownImage, ...] = (*places.links, *places.images)
        for place in in_text:
            if url := self.targets.external_url(self.post, place.address):
                yield ExternalLink(url, self._problem(place, "", "", "post-link-outside"))


def lint_settings(site: Site) -> Iterator[Problem]:
    """Yield a problem for each setting that is valid but not advisable."""
    if site.url.startswith("http:"):
        message = f"{site.url} is not encrypted"
        hint = f"write https:{site.url.removeprefix('http:')}, and let the web server redirect"
        yield Problem(FILE_NAME, key="url", message=message, hint=hint, rule="settings-url")
