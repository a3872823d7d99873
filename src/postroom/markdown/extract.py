"""Find the links, images, headings and shown signs of a Markdown text, with their positions.

Lines and columns are counted from 1. HTML in the text is searched as well.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Mapping

import pyromark
from attrs import define, field, frozen

from postroom.markdown.dialect import OPTIONS, Prepared, prepare

# A whole comment, which is skipped, or a tag of a link, an image, a medium or a heading.
_TAG = re.compile(
    rb"<!--.*?-->|<(/?)(a|img|iframe|audio|video|source|track|h[1-6])\b((?:\"[^\"]*\"|'[^']*'|[^'\">])*)>",
    re.DOTALL | re.IGNORECASE,
)
# Two pairs of signs that would be strong emphasis or a deletion, without a backslash.
_SIGNS = re.compile(rb"(?<![\\*~])(\*\*|~~)(?![\s*~])([^\n*~]+)(?<!\s)\1(?![*~])")
_ANY_TAG = re.compile(r"<[^<>]*>")
_ATTRIBUTE = re.compile(r"([A-Za-z-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")

# HTML Living Standard, srcset attributes: a URL ends at white space, without a final comma.
_CANDIDATE = re.compile(r"[\s,]*(\S*[^\s,])(?:,|[^,]*)")


@frozen
class MarkdownLink:
    """A link or an embedded medium, with the text that it shows."""

    address: str
    words: str
    line: int
    column: int


@frozen
class MarkdownImage:
    """An image.

    `decorative` is true if the author wrote an empty description, `sized` if the author wrote a
    width and a height.
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
class ShownSigns:
    """Emphasis that is not rendered, so that its signs are shown: `source` is how it is written."""

    source: str
    line: int
    column: int


@frozen
class MarkdownPlaces:
    """The links, images, headings and shown signs of a text, each in the order of the text."""

    links: tuple[MarkdownLink, ...]
    images: tuple[MarkdownImage, ...]
    headings: tuple[MarkdownHeading, ...]
    shown_signs: tuple[ShownSigns, ...] = ()


def extract_places(markdown: str) -> MarkdownPlaces:
    """Return the links, images, headings and shown signs of `markdown`."""
    prepared = prepare(markdown)
    extractor = _Extractor(prepared.text.encode(), markdown.encode(), prepared)
    for event, span in pyromark.events_with_range(prepared.text, options=OPTIONS, merge_text=True):
        extractor.take(event, span["start"], span["end"])
    return extractor.places()


@frozen
class _OpenElement:
    """An element that is not closed yet; `word` is the index of the first word of its text."""

    kind: str
    address: str
    start: int
    word: int


@define
class _Extractor:
    """Collects links, images, headings and shown signs from Markdown events.

    The events are those of `source`, the prepared text; places are those in the `written` text.
    `open_elements` is a stack.
    """

    source: bytes
    written: bytes
    prepared: Prepared
    words: list[str] = field(factory=list)
    open_elements: list[_OpenElement] = field(factory=list)
    links: list[MarkdownLink] = field(factory=list)
    images: list[MarkdownImage] = field(factory=list)
    headings: list[MarkdownHeading] = field(factory=list)
    shown_signs: list[ShownSigns] = field(factory=list)
    is_in_code: bool = False
    line_offsets: list[int] = field(init=False)
    """The offset of each line in `written`."""

    @line_offsets.default
    def _find_line_offsets(self) -> list[int]:
        return [0, *(end.end() for end in re.finditer(b"\n", self.written))]

    def places(self) -> MarkdownPlaces:
        """Return everything that was collected."""
        return MarkdownPlaces(
            tuple(self.links),
            tuple(self.images),
            tuple(self.headings),
            tuple(self.shown_signs),
        )

    def take(self, event: object, start: int, end: int) -> None:
        match event:
            case {"Text": str(text)}:
                self.words.append(text)
                if not self.is_in_code:
                    self._find_signs(start, end)
            case {"Code": str(text)}:
                self.words.append(text)
            case {"Start": {"CodeBlock": _}} | {"End": "CodeBlock"}:
                self.is_in_code = not self.is_in_code
            case "SoftBreak" | "HardBreak":
                self.words.append(" ")
            case {"Start": "HtmlBlock"} | {"InlineHtml": _}:
                self._html(start, end)
            case {"Start": {"Link": {"dest_url": str(url), "link_type": kind}}}:
                self._open("link", f"mailto:{url}" if kind == "Email" else url, start)
            case {"Start": {"Image": {"dest_url": str(url)}}}:
                self._open("image", url, start)
            case {"Start": {"Heading": {"level": str(level)}}}:
                self.headings.append(MarkdownHeading(int(level[1]), *self._place(start)))
            case {"End": "Link"}:
                self._close("link")
            case {"End": "Image"}:
                self._close("image")
            case _:
                pass

    def _find_signs(self, start: int, end: int) -> None:
        for found in _SIGNS.finditer(self.source, start, end):
            around = self.source[start : found.start()].decode()[-1:]
            around += found[2].decode()[:1] + found[2].decode()[-1:]
            around += self.source[found.end() : end].decode()[:1]
            # Elsewhere they are meant: 2**3**4.
            if not around.isascii():
                self.shown_signs.append(ShownSigns(found[0].decode(), *self._place(found.start())))

    def _open(self, kind: str, address: str, start: int) -> None:
        self.open_elements.append(_OpenElement(kind, address, start, len(self.words)))

    def _close(self, kind: str) -> None:
        """Close the innermost element of this kind; ignore unclosed tags inside it."""
        element = self.open_elements.pop()
        while element.kind != kind:
            element = self.open_elements.pop()
        words = " ".join("".join(self.words[element.word :]).split())
        if kind == "image":
            self.images.append(MarkdownImage(element.address, words, *self._place(element.start)))
        else:
            self.links.append(MarkdownLink(element.address, words, *self._place(element.start)))

    def _html(self, start: int, end: int) -> None:
        position = start
        for tag in _TAG.finditer(self.source, start, end):
            self._add_text(position, tag.start())
            position = tag.end()
            if tag[2]:
                self._tag(tag[2].decode().lower(), tag)
        self._add_text(position, end)

    def _add_text(self, start: int, end: int) -> None:
        text = _ANY_TAG.sub(" ", self.source[start:end].decode())
        self.words.append(html.unescape(text))

    def _tag(self, name: str, tag: re.Match[bytes]) -> None:
        place = self._place(tag.start())
        values = _attributes(tag[3].decode())
        if tag[1]:
            if name == "a" and self.open_elements and self.open_elements[-1].kind == "tag":
                self._close("tag")
        elif name == "a":
            if "href" in values:
                self._open("tag", values["href"], tag.start())
        elif name == "img":
            self._add_image(values, place)
        elif name.startswith("h"):
            self.headings.append(MarkdownHeading(int(name[1]), *place))
        elif values.get("src"):
            self.links.append(
                MarkdownLink(values["src"], values.get("title") or values["src"], *place)
            )

    def _add_image(self, values: Mapping[str, str], place: tuple[int, int]) -> None:
        alt = values.get("alt", "")
        self.words.append(alt)
        sized = bool(values.get("width") and values.get("height"))
        decorative = "alt" in values and not alt
        self.images.append(MarkdownImage(values.get("src", ""), alt, *place, decorative, sized))
        for address in _CANDIDATE.findall(values.get("srcset", "")):
            self.images.append(MarkdownImage(address, alt, *place, decorative=True, sized=True))

    def _place(self, offset: int) -> tuple[int, int]:
        offset = self.prepared.written_offset(offset)
        line = bisect_right(self.line_offsets, offset)
        return line, len(self.written[self.line_offsets[line - 1] : offset].decode()) + 1


def _attributes(source: str) -> dict[str, str]:
    found = _ATTRIBUTE.findall(source)
    return {name.lower(): html.unescape("".join(values)).strip() for name, *values in found}
