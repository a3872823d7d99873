"""Markdown → where its links, pictures and headings stand, as an author looks for them.

Lines and columns count from 1, in the text that is given. HTML in the text counts as well.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Mapping

import pyromark
from attrs import define, field, frozen

from postroom.markdown.html import OPTIONS

# A comment is passed over whole; else a tag that leads somewhere, shows something or is a heading.
_TAG = re.compile(
    rb"<!--.*?-->|<(/?)(a|img|iframe|audio|video|source|track|h[1-6])\b((?:\"[^\"]*\"|'[^']*'|[^'\">])*)>",
    re.DOTALL | re.IGNORECASE,
)
_ANY_TAG = re.compile(r"<[^<>]*>")
_ATTRIBUTE = re.compile(r"([A-Za-z-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")

# HTML Living Standard, srcset attributes: an address reaches to a blank, and takes no comma along.
_CANDIDATE = re.compile(r"[\s,]*(\S*[^\s,])(?:,|[^,]*)")


@frozen
class MarkdownLink:
    """Something that leads to `address`, with the words that it shows."""

    address: str
    words: str
    line: int
    column: int


@frozen
class MarkdownImage:
    """A picture; `decorative` says that its author wrote an empty description.

    `sized` says that the author gave it a width and a height.
    """

    address: str
    alt: str
    line: int
    column: int
    decorative: bool = False
    sized: bool = False


@frozen
class MarkdownHeading:
    """A heading of level 1 to 6."""

    level: int
    line: int
    column: int


@frozen
class MarkdownPlaces:
    """All of a text's links, pictures and headings, in their order."""

    links: tuple[MarkdownLink, ...]
    pictures: tuple[MarkdownImage, ...]
    headings: tuple[MarkdownHeading, ...]


def extract_places(markdown: str) -> MarkdownPlaces:
    """Return the links, pictures and headings of `markdown`."""
    surveyor = _Extractor(markdown.encode())
    for event, span in pyromark.events_with_range(markdown, options=OPTIONS, merge_text=True):
        surveyor.take(event, span["start"], span["end"])
    return MarkdownPlaces(tuple(surveyor.links), tuple(surveyor.pictures), tuple(surveyor.headings))


@frozen
class _OpenElement:
    """Something open: what it is, where it leads, where it begins, and its first word."""

    kind: str
    address: str
    start: int
    word: int


@define
class _Extractor:
    """Markdown events, one by one, → places; `marks` holds what is open."""

    source: bytes
    words: list[str] = field(factory=list)
    marks: list[_OpenElement] = field(factory=list)
    links: list[MarkdownLink] = field(factory=list)
    pictures: list[MarkdownImage] = field(factory=list)
    headings: list[MarkdownHeading] = field(factory=list)
    begins: list[int] = field(init=False)
    """Where each line begins."""

    @begins.default
    def _beginnings(self) -> list[int]:
        return [0, *(end.end() for end in re.finditer(b"\n", self.source))]

    def take(self, event: object, start: int, end: int) -> None:
        match event:
            case {"Text": str(text)} | {"Code": str(text)}:
                self.words.append(text)
            case "SoftBreak" | "HardBreak":
                self.words.append(" ")
            case {"Start": "HtmlBlock"} | {"InlineHtml": _}:
                self._html(start, end)
            case {"Start": {"Link": {"dest_url": str(address), "link_type": kind}}}:
                whole = f"mailto:{address}" if kind == "Email" else address
                self._open("link", whole, start)
            case {"Start": {"Image": {"dest_url": str(address)}}}:
                self._open("image", address, start)
            case {"Start": {"Heading": {"level": str(level)}}}:
                self.headings.append(MarkdownHeading(int(level[1]), *self._place(start)))
            case {"End": "Link"}:
                self._close("link")
            case {"End": "Image"}:
                self._close("image")
            case _:
                pass

    def _open(self, kind: str, address: str, start: int) -> None:
        self.marks.append(_OpenElement(kind, address, start, len(self.words)))

    def _close(self, kind: str) -> None:
        """End what is open of this kind; a tag that was never closed inside it leads nowhere."""
        mark = self.marks.pop()
        while mark.kind != kind:
            mark = self.marks.pop()
        words = " ".join("".join(self.words[mark.word :]).split())
        if kind == "image":
            self.pictures.append(MarkdownImage(mark.address, words, *self._place(mark.start)))
        else:
            self.links.append(MarkdownLink(mark.address, words, *self._place(mark.start)))

    def _html(self, start: int, end: int) -> None:
        behind = start
        for tag in _TAG.finditer(self.source, start, end):
            self._between(behind, tag.start())
            behind = tag.end()
            if tag[2]:
                self._tag(tag[2].decode().lower(), tag)
        self._between(behind, end)

    def _between(self, start: int, end: int) -> None:
        shown = _ANY_TAG.sub(" ", self.source[start:end].decode())
        self.words.append(html.unescape(shown))

    def _tag(self, name: str, tag: re.Match[bytes]) -> None:
        place = self._place(tag.start())
        values = _attributes(tag[3].decode())
        if tag[1]:
            if name == "a" and self.marks and self.marks[-1].kind == "tag":
                self._close("tag")
        elif name == "a":
            if "href" in values:
                self._open("tag", values["href"], tag.start())
        elif name == "img":
            self._picture(values, place)
        elif name.startswith("h"):
            self.headings.append(MarkdownHeading(int(name[1]), *place))
        elif values.get("src"):
            self.links.append(
                MarkdownLink(values["src"], values.get("title") or values["src"], *place)
            )

    def _picture(self, values: Mapping[str, str], place: tuple[int, int]) -> None:
        alt = values.get("alt", "")
        self.words.append(alt)
        sized = bool(values.get("width") and values.get("height"))
        decorative = "alt" in values and not alt
        self.pictures.append(MarkdownImage(values.get("src", ""), alt, *place, decorative, sized))
        for address in _CANDIDATE.findall(values.get("srcset", "")):
            self.pictures.append(MarkdownImage(address, alt, *place, decorative=True, sized=True))

    def _place(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self.begins, offset)
        return line, len(self.source[self.begins[line - 1] : offset].decode()) + 1


def _attributes(source: str) -> dict[str, str]:
    found = _ATTRIBUTE.findall(source)
    return {name.lower(): html.unescape("".join(values)).strip() for name, *values in found}
