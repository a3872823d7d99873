"""Render Markdown as plain text, and find its title and first paragraph."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Iterator

import pyromark
from attrs import define, field

from postroom.markdown.dialect import OPTIONS, prepare
from postroom.markdown.html import HIDDEN, SCHEMES, Resolve, sanitize
from postroom.text import display_width, shorten, wrap


@define
class _Margin:
    """The prefixes for the lines of a list item, quote or footnote.

    The first line may have another prefix than the `rest`, such as `- ` and two spaces.
    """

    first: str
    rest: str


@define
class TextWriter:
    """Converts the events of a Markdown parser to lines of plain text."""

    resolve: Resolve
    width: int
    lines: list[str] = field(factory=list)
    words: list[str] = field(factory=list)
    links: dict[str, int] = field(factory=dict)
    open_links: list[tuple[str, int]] = field(factory=list)
    open_tags: list[tuple[str, int]] = field(factory=list)
    notes: dict[str, int] = field(factory=dict)
    margins: list[_Margin] = field(factory=list)
    counters: list[int | None] = field(factory=list)
    cells: list[str] = field(factory=list)
    rows: list[list[str]] = field(factory=list)

    def take(self, event: object) -> None:
        """Process the next event of the document."""
        match event:
            case {"Text": str(text)} | {"Code": str(text)} | {"Html": str(text)}:
                self.words.append(text)
            case "SoftBreak":
                self.words.append(" ")
            case "HardBreak":
                self.words.append("\n")
            case {"InlineHtml": str(source)}:
                self._tag(source)
            case {"FootnoteReference": str(label)}:
                self.words.append(self._note(label))
            case {"TaskListMarker": done}:
                self.words.append("[x] " if done else "[ ] ")
            case "Rule":
                self._flush()
                self._line("* * *")
            case {"Start": tag}:
                self._start(tag)
            case {"End": tag}:
                self._end(tag)
            case _:
                pass

    def _start(self, tag: object) -> None:
        match tag:
            case {"Link": {"dest_url": str(url), "link_type": kind}}:
                whole = f"mailto:{url}" if kind == "Email" else url
                self.open_links.append((whole, len(self.words)))
            case {"Image": _}:
                self.words.append("[")
            case "Emphasis" | "Strong" | "Strikethrough" | "TableCell":
                pass
            case _:
                self._flush()
                self._open(tag)

    def _open(self, tag: object) -> None:
        match tag:
            case {"List": first}:
                self.counters.append(first if isinstance(first, int) else None)
            case "Item":
                self._item()
            case {"BlockQuote": _}:
                self.margins.append(_Margin("> ", "> "))
            case {"FootnoteDefinition": str(label)}:
                self.margins.append(_Margin(f"{self._note(label)} ", "    "))
            case "Paragraph" if self.counters and all(m.first == m.rest for m in self.margins):
                self._gap()
            case _:
                pass

    def _item(self) -> None:
        counter = self.counters[-1]
        marker = "- " if counter is None else f"{counter}. "
        if counter is not None:
            self.counters[-1] = counter + 1
        self.margins.append(_Margin(marker, " " * len(marker)))

    def _end(self, tag: object) -> None:
        match tag:
            case "Link":
                self._close_link()
            case "Image":
                self._close_image()
            case "TableCell":
                self.cells.append(" ".join("".join(self.words).split()))
                self.words.clear()
            case "Emphasis" | "Strong" | "Strikethrough":
                pass
            case _:
                self._close(tag)

    def _close(self, tag: object) -> None:
        match tag:
            case "TableHead" | "TableRow":
                self.rows.append([*self.cells])
                self.cells.clear()
            case "Item" | {"BlockQuote": _} | "FootnoteDefinition":
                self._flush()
                self.margins.pop()
            case {"List": _}:
                self.counters.pop()
                if not self.counters:
                    self._gap()
            case "Table":
                self._table()
                self._gap()
            case "CodeBlock":
                self._code()
            case "HtmlBlock":
                self._html("".join(self.words))
                self._flush()
            case {"Heading": _}:
                self._flush(underline=True)
            case _:
                self._flush()

    def _note(self, label: str) -> str:
        """Return the reference to a footnote, such as `[^1]`, with the same number as in HTML."""
        return f"[^{self.notes.setdefault(label, len(self.notes) + 1)}]"

    def _tag(self, source: str) -> None:
        """Process an HTML tag inside a paragraph; the end tag of an element is a later event."""
        if source.startswith("</"):
            self._close_tag()
        else:
            made = sanitize(source, self.resolve)
            self._pieces(made.removesuffix("</a>") if source[:2].lower() == "<a" else made)

    def _html(self, source: str) -> None:
        """Process a block of HTML: write its text and number its links."""
        self.words.clear()
        self._pieces(sanitize(source, self.resolve))

    def _pieces(self, made: str) -> None:
        for piece in _MARKUP.split(made):
            tag = _TAG.match(piece)
            if not tag:
                self.words.append(_WHITE_SPACE.sub(" ", html.unescape(piece)))
            elif piece == "</a>":
                self._close_tag()
            elif tag[1] == "a":
                self.open_tags.append((_attribute(piece, "href"), len(self.words)))
            elif tag[1] == "img":
                description = _attribute(piece, "alt")
                self.words += [f"[{description}]"] if description else []
            else:
                self.words.append(
                    "\n- " if piece.startswith("<li") else _SEPARATORS.get(tag[1], "")
                )

    def _close_tag(self) -> None:
        if self.open_tags:
            url, start = self.open_tags.pop()
            self._number_link(url, start)

    def _close_link(self) -> None:
        written, start = self.open_links.pop()
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", written)
        if not scheme:
            self._number_link(self.resolve(written), start)
        elif scheme[1].lower() in SCHEMES:
            self._number_link(written, start)

    def _number_link(self, url: str, start: int) -> None:
        """Append the number of the link to `url`, such as ` [1]`.

        The words from index `start` on are the text of the link. A link whose text is the URL
        itself gets no number.
        """
        text = "".join(self.words[start:]).strip()
        if url and text not in {url, url.removeprefix("mailto:")}:
            number = self.links.setdefault(url, len(self.links) + 1)
            self.words.append(f" [{number}]")

    def _close_image(self) -> None:
        if self.words[-1] == "[":
            self.words.pop()
        else:
            self.words.append("]")

    def _table(self) -> None:
        """Write a line for each row of a table.

        If a line would be too long, the cells of each row are written as a list instead.
        """
        head, *rows = self.rows
        lines = [" | ".join(row) for row in self.rows]
        if (
            max(map(display_width, lines)) + sum(len(margin.rest) for margin in self.margins)
            <= self.width
        ):
            for line in lines:
                self._line(line, gap=False)
        else:
            for row in rows or [head]:
                self._record(head if rows else [], row)
        self.rows.clear()

    def _record(self, head: list[str], row: list[str]) -> None:
        self.margins.append(_Margin("- ", "  "))
        for label, cell in itertools.zip_longest(head, row, fillvalue=""):
            if cell:
                self._line(f"{label}: {cell}" if label else cell, gap=False)
        self.margins.pop()

    def _code(self) -> None:
        first, rest = self._margin()
        for line in "".join(self.words).removesuffix("\n").split("\n"):
            self.lines.append(f"{first}    {line}".rstrip())
            first = rest
        self.words.clear()
        self._gap()

    def _flush(self, *, underline: bool = False) -> None:
        while self.open_tags:
            self._close_tag()
        text = "".join(self.words)
        self.words.clear()
        if text.strip():
            self._line(text, gap=not self.counters, underline=underline)

    def _line(self, text: str, *, gap: bool = True, underline: bool = False) -> None:
        first, rest = self._margin()
        start = len(self.lines)
        for part in text.strip().split("\n"):
            self.lines += wrap(part, self.width, first, rest)
            first = rest
        if underline:
            longest = max(display_width(line) for line in self.lines[start:])
            self.lines.append(rest + "-" * (min(longest, self.width) - len(rest)))
        if gap:
            self._gap()

    def _margin(self) -> tuple[str, str]:
        first = "".join(margin.first for margin in self.margins)
        for margin in self.margins:
            margin.first = margin.rest
        return first, "".join(margin.rest for margin in self.margins)

    def _gap(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def finish(self) -> str:
        """Return the text with the URLs of its links at the end."""
        self._flush()
        self._gap()
        self.lines += [f"[{number}] {url}" for url, number in self.links.items()]
        return "\n".join(self.lines).strip("\n")


_TAG = re.compile(r"</?([a-z][a-z0-9]*)")
_LINES = "blockquote br dd div dt figcaption h1 h2 h3 h4 h5 h6 hr li ol p pre summary table tr ul"
_SEPARATORS = dict.fromkeys(_LINES.split(), "\n") | {"td": " ", "th": " "}
"""The text that replaces a tag that separates words."""
_MARKUP = re.compile(r"""(<[^<>"]*(?:"[^"]*"[^<>"]*)*>)""")
_WHITE_SPACE = re.compile(r"[ \t\r\n\f]+")


def _attribute(tag: str, name: str) -> str:
    found = re.search(rf'\s{name}="([^"]*)"', tag)
    return html.unescape(found[1]) if found else ""


_INLINE = ("Emphasis", "Strong", "Strikethrough", "Link", "Image")
_TAG_TEXT = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_INFORMATIVE = frozenset({"a", "iframe", "img"})
"""Tags that plain text keeps: the URL of a link, the description of an image."""


def first_heading(markdown: str) -> tuple[str, str]:
    """Return the text of a first-level heading at the start of `markdown`, and the rest.

    The rest has as many lines as `markdown`. Without a heading the text is empty and the rest is
    `markdown`.
    """
    prepared = prepare(markdown)
    events = pyromark.events_with_range(prepared.text, options=OPTIONS, merge_text=True)
    match next(events, None):
        case ({"Start": {"Heading": {"level": "H1"}}}, {"start": int(start), "end": int(end)}):
            source = markdown.encode()
            start, end = prepared.written_offset(start), prepared.written_offset(end)
            lines = b"\n" * source.count(b"\n", start, end)
            inside = itertools.takewhile(_is_within_heading, (event for event, _ in events))
            title = " ".join("".join(_words(_without_hidden(inside))).split())
            return title, (source[:start] + lines + source[end:]).decode() if title else markdown
    return "", markdown


def _is_within_heading(event: object) -> bool:
    return not (isinstance(event, dict) and isinstance(event.get("End"), dict))


def inline_text(markdown: str) -> str:
    """Return the text of `markdown` on one line."""
    return " ".join("".join(_words(_events(markdown))).split())


def _events(markdown: str) -> Iterator[object]:
    events = pyromark.events(prepare(markdown).text, options=OPTIONS)
    return _without_hidden(events) if "<" in markdown else events


def _without_hidden(events: Iterable[object]) -> Iterator[object]:
    """Yield `events` without hidden elements such as scripts, and without tags that add no text.

    `<br>` becomes a line break. A hidden element that its block does not close becomes text.
    """
    pending: list[object] = []
    hidden = ""
    for event in events:
        source, closing, name = _tag(event)
        if hidden and closing and name == hidden:
            pending, hidden = [], ""
        elif hidden and not _bounds_block(event):
            pending.append(event)
        elif name in HIDDEN and not closing:
            pending, hidden = [{"Text": source}], name
        elif source:
            yield from ["HardBreak"] if name == "br" else [event] if name in _INFORMATIVE else []
        else:
            yield from pending
            pending, hidden = [], ""
            yield event
    yield from pending


def _tag(event: object) -> tuple[str, str, str]:
    """Return the source of an inline tag, `/` if it is an end tag, and its name.

    All three are empty for other events.
    """
    if not isinstance(event, dict) or "InlineHtml" not in event:
        return "", "", ""
    source = str(event["InlineHtml"])
    tag = _TAG_TEXT.match(source)
    return source, tag[1] if tag else "", tag[2].lower() if tag else ""


def _bounds_block(event: object) -> bool:
    match event:
        case {"Start": dict(tag)} | {"End": dict(tag)}:
            return not any(name in tag for name in _INLINE)
        case {"Start": tag} | {"End": tag}:
            return tag not in _INLINE
    return False


def _words(events: Iterable[object]) -> Iterator[str]:
    for event in events:
        match event:
            case {"Text": str(words)} | {"Code": str(words)}:
                yield words
            case "SoftBreak" | "HardBreak" | "Rule":
                yield " "
            case _ if _bounds_block(event):
                yield " "


def first_paragraph(markdown: str, length: int = 200) -> str:
    """Return the text of the first paragraph, shortened to at most `length` characters.

    Headings, images, lists, quotes, tables and code are used only if there is nothing else.
    """
    containers = images = 0
    words: list[str] = []
    for event in _events(markdown):
        match event:
            case {"Start": {"List": _} | {"BlockQuote": _} | {"FootnoteDefinition": _}}:
                containers += 1
            case {"End": {"List": _} | {"BlockQuote": _} | "FootnoteDefinition"}:
                containers -= 1
            case {"Start": {"Image": _}}:
                images += 1
            case {"End": "Image"}:
                images -= 1
            case {"Start": "Paragraph"}:
                words.clear()
            case {"End": "Paragraph"} if not containers and "".join(words).strip():
                return shorten("".join(words), length)
            case _ if not images:
                words += _words([event])
    return shorten(inline_text(markdown), length)


def to_text(markdown: str, resolve: Resolve, width: int = 72) -> str:
    """Return `markdown` as plain text of at most `width` columns, with unbroken URLs.

    Links are numbered. Their URLs are listed at the end, each on a line of its own.
    """
    writer = TextWriter(resolve, width)
    for event in _events(markdown):
        writer.take(event)
    return writer.finish()
