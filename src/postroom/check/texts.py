"""The texts of posts → what is wrong with their links, pictures and headings, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import evolve, frozen

from postroom.check.destinations import Destinations
from postroom.errors import Problem
from postroom.markdown.places import Heading, Link, Picture, Places, places
from postroom.posts.draft import Draft

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
class Outside:
    """A link to somewhere else, and where it stands."""

    address: str
    problem: Problem


def text_problems(
    destinations: Destinations, outside: list[Outside] | None = None
) -> Iterator[Problem]:
    """Yield what is wrong in the texts of posts that go out; take their links to elsewhere."""
    for one in destinations.written.going_out():
        found = places(one.body)
        text = _Text(one, destinations)
        yield from text.problems(found)
        if outside is not None:
            outside += text.outside(found)


@frozen
class _Text:
    """The text of one post."""

    one: Draft
    destinations: Destinations

    def problems(self, found: Places) -> Iterator[Problem]:
        yield from self._links(found.links)
        yield from self._pictures(found.pictures)
        yield from self._lead_picture()
        yield from self._headings(found.headings)

    def _problem(
        self, place: Link | Picture | Heading, what: str, repair: str, rule: str
    ) -> Problem:
        name = self.destinations.written.name(self.one)
        line = self.one.body_line + place.line - 1
        return Problem(name, line, place.column, "", what, repair, rule)

    def _links(self, links: Iterable[Link]) -> Iterator[Problem]:
        for link in links:
            if fault := self.destinations.fault(self.one, link.address):
                yield self._problem(link, fault.what, fault.repair, fault.rule)
            if link.words.strip(" .…»>→:!").casefold() in _EMPTY_WORDS:
                what = f"the link to '{link.address}' says '{link.words}'"
                repair = "let its words say where it leads"
                yield self._problem(link, what, repair, "post-link-words")

    def _pictures(self, pictures: Iterable[Picture]) -> Iterator[Problem]:
        for picture in pictures:
            if not picture.alt and not picture.decorative:
                what = f"'{picture.address}' has no description"
                repair = f"write ![What it shows]({picture.address}), or <img alt> if it adorns"
                yield self._problem(picture, what, repair, "post-alt")
            if fault := self.destinations.fault(self.one, picture.address):
                rule = "post-image" if fault.rule == "post-link" else fault.rule
                yield self._problem(picture, fault.what, fault.repair, rule)
            else:
                yield from self._weight(picture)

    def _lead_picture(self) -> Iterator[Problem]:
        written = self.destinations.written
        if not (image := self.one.head.image):
            return
        for problem in self._weight(Picture(image.src, image.alt, 1, 1)):
            line = self.one.head.lines.get("image", 1)
            yield evolve(problem, path=written.name(self.one), line=line, column=0, key="image")

    def _weight(self, picture: Picture) -> Iterator[Problem]:
        folder = self.destinations.written.folder
        path = self.destinations.written.beside(self.one, picture.address)
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

    def _headings(self, headings: Iterable[Heading]) -> Iterator[Problem]:
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

    def outside(self, found: Places) -> Iterator[Outside]:
        head, written = self.one.head, self.destinations.written
        carried = {
            "image": head.image.src if head.image else "",
            "enclosure": head.enclosure.url if head.enclosure else "",
        }
        for key, source in carried.items():
            if address := self.destinations.outside(self.one, source):
                problem = written.in_head(self.one, key, "", "", "post-link-outside")
                yield Outside(address, problem)
        everywhere: tuple[Link | Picture, ...] = (*found.links, *found.pictures)
        for place in everywhere:
            if address := self.destinations.outside(self.one, place.address):
                yield Outside(address, self._problem(place, "", "", "post-link-outside"))
