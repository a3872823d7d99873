"""What posts say of themselves → what is missing, odd or too long in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta

from attrs import evolve, frozen

from postroom.errors import Problem
from postroom.lint.context import LintContext
from postroom.lint.internal_links import InternalLinks
from postroom.markdown.extract import (
    MarkdownHeading,
    MarkdownImage,
    MarkdownLink,
    MarkdownPlaces,
    extract_places,
)
from postroom.models import Site
from postroom.posts.source import SourcePost
from postroom.settings.site import FILE_NAME

_LONGEST_TITLE = 70
_AHEAD = timedelta(days=183)
# RFC 4151 §2.1: a month or a day that is left out is the first.
_TAG = re.compile(r"tag:[^,:]+,([0-9]{4})(?:-([0-9]{2}))?(?:-([0-9]{2}))?:", re.IGNORECASE)


def lint_front_matter(written: LintContext) -> Iterator[Problem]:
    """Yield what is wrong with the heads of posts that go out."""
    began = _beginning(written.site.id)
    for one in written.going_out():
        yield from _said(one, written)
        yield from _dated(one, written, began)
    yield from _twins(written)


def _said(one: SourcePost, written: LintContext) -> Iterator[Problem]:
    if not one.head.summary:
        repair = "add summary: one or two sentences that make people read on"
        yield written.in_head(one, "summary", "is missing", repair, "post-summary")
    if len(one.title) > _LONGEST_TITLE:
        what = f"has {len(one.title)} characters"
        repair = f"say it in {_LONGEST_TITLE}, and the rest in the summary"
        yield written.in_head(one, "title", what, repair, "post-title")
    if one.head.image and not one.head.image.alt:
        what = f"'{one.head.image.src}' has no description"
        repair = f"write image: {{src: {one.head.image.src}, alt: What it shows}}"
        yield written.in_head(one, "image", what, repair, "post-alt")


def _dated(one: SourcePost, written: LintContext, began: date | None) -> Iterator[Problem]:
    latest = (written.at + _AHEAD).date()
    moments = [
        ("date", one.date),
        ("updated", one.head.updated),
        ("withdrawn", one.head.withdrawn),
        *(("publishDate", each) for each in one.head.publish_dates),
    ]
    for key, moment in moments:
        if moment and moment.day > latest:
            what = f"{moment.day} is more than half a year ahead"
            repair = "correct the year, or wait"
            yield written.in_head(one, key, what, repair, "post-date-ahead")
    if began and one.day < began:
        what = f"{one.day} lies before {began}, the date in the settings' id"
        repair = "correct the year, or give id in postroom.yaml an earlier date before you publish"
        yield written.in_head(one, "date", what, repair, "post-date-early")


def _beginning(identity: str) -> date | None:
    """Return the date of a tag URI; None for any other id, and a date that there is not."""
    found = _TAG.match(identity)
    if not found:
        return None
    try:
        return date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        return None


def _twins(written: LintContext) -> Iterator[Problem]:
    first: dict[datetime, SourcePost] = {}
    timed = [one for one in written.going_out() if one.date.time is not None]
    for one in sorted(timed, key=lambda one: (one.instant, one.id)):
        other = first.setdefault(one.instant, one)
        if other is not one:
            what = f"is the time of {written.name(other)} too"
            repair = "change the time of one by a minute"
            yield written.in_head(one, "date", what, repair, "post-date-twin")


_LARGEST = 1_000_000
_EMPTY_WORDS = frozenset(
    {
        "", "click", "click here", "here", "link", "more", "read more", "learn more", "this",
        "this link", "this page", "hier", "hier klicken", "klicken sie hier", "mehr", "weiterlesen",
        "ici", "cliquez ici", "en savoir plus", "lire la suite", "aquí", "haga clic aquí",
        "haz clic aquí", "leer más", "más", "点击这里", "这里", "此处", "更多", "هنا", "اضغط هنا",
        "المزيد", "כאן", "לחצו כאן", "לחץ כאן", "עוד",
    }
)  # fmt: skip


@frozen
class ExternalLink:
    """A link to somewhere else, and where it stands."""

    address: str
    problem: Problem


def lint_texts(
    destinations: InternalLinks, outside: list[ExternalLink] | None = None
) -> Iterator[Problem]:
    """Yield what is wrong in the texts of posts that go out; take their links to elsewhere."""
    for one in destinations.context.going_out():
        found = extract_places(one.body)
        text = _Text(one, destinations)
        yield from text.problems(found)
        if outside is not None:
            outside += text.outside(found)


@frozen
class _Text:
    """The text of one post."""

    one: SourcePost
    destinations: InternalLinks

    def problems(self, found: MarkdownPlaces) -> Iterator[Problem]:
        yield from self._links(found.links)
        yield from self._pictures(found.pictures)
        yield from self._lead_picture()
        yield from self._headings(found.headings)

    def _problem(
        self,
        place: MarkdownLink | MarkdownImage | MarkdownHeading,
        what: str,
        repair: str,
        rule: str,
    ) -> Problem:
        name = self.destinations.context.name(self.one)
        line = self.one.body_line + place.line - 1
        return Problem(name, line, place.column, "", what, repair, rule)

    def _links(self, links: Iterable[MarkdownLink]) -> Iterator[Problem]:
        for link in links:
            if fault := self.destinations.fault(self.one, link.address):
                yield self._problem(link, fault.message, fault.hint, fault.rule)
            if link.words.strip(" .…»>→:!").casefold() in _EMPTY_WORDS:
                what = f"the link to '{link.address}' says '{link.words}'"
                repair = "let its words say where it leads"
                yield self._problem(link, what, repair, "post-link-words")

    def _pictures(self, pictures: Iterable[MarkdownImage]) -> Iterator[Problem]:
        for picture in pictures:
            if not picture.alt and not picture.decorative:
                what = f"'{picture.address}' has no description"
                repair = f"write ![What it shows]({picture.address}), or <img alt> if it adorns"
                yield self._problem(picture, what, repair, "post-alt")
            if fault := self.destinations.fault(self.one, picture.address):
                rule = "post-image" if fault.rule == "post-link" else fault.rule
                yield self._problem(picture, fault.message, fault.hint, rule)
            else:
                yield from self._weight(picture)

    def _lead_picture(self) -> Iterator[Problem]:
        written = self.destinations.context
        if not (image := self.one.head.image):
            return
        for problem in self._weight(MarkdownImage(image.src, image.alt, 1, 1)):
            line = self.one.head.lines.get("image", 1)
            yield evolve(problem, path=written.name(self.one), line=line, column=0, key="image")

    def _weight(self, picture: MarkdownImage) -> Iterator[Problem]:
        folder = self.destinations.context.folder
        path = self.destinations.context.beside(self.one, picture.address)
        size = folder.sizes.get(path, 0)
        if size > _LARGEST:
            what = f"'{picture.address}' has {size / 1_000_000:.1f} MB"
            repair = "save it smaller: 1600 pixels wide are enough"
            yield self._problem(picture, what, repair, "post-image-size")
        if picture.sized:
            return
        if size and not all(folder.pixels(path)):
            what = f"'{picture.address}' does not tell its width and height"
            repair = "save it anew as PNG, JPEG or WebP; give an SVG width and height"
            yield self._problem(picture, what, repair, "post-image-pixels")
        elif not path and picture.address.lower().startswith(("http:", "https:")):
            what = f"'{picture.address}' comes from elsewhere, its width and height are not known"
            repair = "put the file beside the post, or write <img src alt width height>"
            yield self._problem(picture, what, repair, "post-image-pixels")

    def _headings(self, headings: Iterable[MarkdownHeading]) -> Iterator[Problem]:
        found = list(headings)
        # The title stands above: a text with a first-level heading is moved down by one as a whole.
        above = 0 if any(heading.level == 1 for heading in found) else 1
        for heading in found:
            if heading.level > above + 1:
                what = f"a heading of level {heading.level} follows one of level {above}"
                if heading is found[0]:
                    what = f"the first heading is of level {heading.level}"
                repair = f"write it with {'#' * (above + 1)}"
                yield self._problem(heading, what, repair, "post-heading")
            above = heading.level

    def outside(self, found: MarkdownPlaces) -> Iterator[ExternalLink]:
        head, written = self.one.head, self.destinations.context
        carried = {
            "image": head.image.src if head.image else "",
            "enclosure": head.enclosure.url if head.enclosure else "",
        }
        for key, source in carried.items():
            if address := self.destinations.outside(self.one, source):
                problem = written.in_head(self.one, key, "", "", "post-link-outside")
                yield ExternalLink(address, problem)
        everywhere: tuple[MarkdownLink | MarkdownImage, ...] = (*found.links, *found.pictures)
        for place in everywhere:
            if address := self.destinations.outside(self.one, place.address):
                yield ExternalLink(address, self._problem(place, "", "", "post-link-outside"))


def lint_settings(site: Site) -> Iterator[Problem]:
    """Yield what is unwise in the settings."""
    if site.url.startswith("http:"):
        what = f"{site.url} comes without encryption"
        repair = f"write https:{site.url.removeprefix('http:')}, and let the host redirect"
        yield Problem(FILE_NAME, key="url", message=what, hint=repair, rule="settings-url")
