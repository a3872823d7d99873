"""Make plain text of the HTML of a post, and find the title of a Markdown text."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Mapping, Sequence

import pyromark
from attrs import define, field

from postroom.markdown.dialect import OPTIONS, prepare
from postroom.markdown.html import sanitize
from postroom.markdown.inline import (
    SEPARATE,
    InlineText,
    Token,
    attributes_of,
    inline_text,
    tokens_of,
)
from postroom.markdown.numbering import ListNumbers
from postroom.models import Html
from postroom.text import display_width, wrap


@define
class _Margin:
    """The prefixes for the lines of a list item, quote or footnote.

    The first line may have another prefix than the `rest`, such as `- ` and two spaces.
    """

    first: str
    rest: str


_WIDEST_SPAN = 50
"""Columns or rows that a cell covers at most; browsers have a limit, too."""


@define
class _Table:
    """The cells of a table; `spans` holds those that go on in the next row, by column."""

    rows: list[list[str]] = field(factory=list)
    cells: list[str] = field(factory=list)
    spans: dict[int, tuple[int, str]] = field(factory=dict)
    kinds: set[str] = field(factory=set)
    attributes: Mapping[str, str] = field(factory=dict)
    has_head: bool = False

    def open_cell(self, kind: str, attributes: Mapping[str, str]) -> None:
        """Begin a cell: `th` or `td`."""
        if not self.rows:
            self.kinds.add(kind)
        self.attributes = attributes

    def close_cell(self, text: str) -> None:
        """Add a cell, and those that it covers to its right and below."""
        self._continue_spans()
        rows = self._span("rowspan")
        for column in range(self._span("colspan")):
            words = "" if column else text
            if rows > 1:
                self.spans[len(self.cells)] = (rows - 1, words)
            self.cells.append(words)

    def _span(self, name: str) -> int:
        written = self.attributes.get(name, "")
        return min(max(int(written[:4]), 1), _WIDEST_SPAN) if written.isdecimal() else 1

    def _continue_spans(self) -> None:
        while span := self.spans.pop(len(self.cells), None):
            rows, words = span
            if rows > 1:
                self.spans[len(self.cells)] = (rows - 1, words)
            self.cells.append(words)

    def close_row(self) -> None:
        """End a row."""
        if self.cells or self.spans:
            self._continue_spans()
            self.has_head = self.has_head or (not self.rows and self.kinds == {"th"})
            self.rows.append(self.cells)
            self.cells = []


@define
class _TextWriter:
    """Converts the tags and texts of sanitised HTML to lines of plain text."""

    tokens: Sequence[Token]
    width: int
    inline: InlineText = field(factory=lambda: InlineText(in_full=True))
    lines: list[str] = field(factory=list)
    margins: list[_Margin] = field(factory=list)
    outside: list[int] = field(factory=list)
    """For each container that is open, the number of margins around it."""
    lists: list[ListNumbers] = field(factory=list)
    table: _Table | None = None
    inner_tables: int = 0
    in_code: bool = False

    def write(self) -> str:
        """Return the text with the URLs of its links at the end."""
        for position, (closing, name, attributes, text) in enumerate(self.tokens):
            if text:
                self._text(text)
            elif name not in SEPARATE:
                self.inline.take(closing, name, attributes)
                if self.inline.note:
                    self._begin_note()
            elif self.inline.is_in_media():
                self.inline.pieces.append(" ")
            elif self.table:
                self._take_in_table(self.table, closing, name, attributes)
            elif closing:
                self._close(name)
            else:
                self._open(name, attributes, position)
        self._flush()
        self._gap()
        self.lines += [f"[{number}] {url}" for url, number in self.inline.links.items()]
        return "\n".join(self.lines).strip("\n")

    def _text(self, text: str) -> None:
        if self.in_code:
            self.inline.pieces.append(html.unescape(text))
        elif self.inline.pieces or not text.isspace():
            self.inline.add(text)

    def _open(self, name: str, attributes: str, position: int) -> None:
        self._flush(gap=not self.lists and name not in _CLOSE)
        match name:
            case "p" if all(margin.first == margin.rest for margin in self.margins):
                self._gap()
            case "ul" | "ol":
                self.lists.append(ListNumbers.of(self.tokens, position))
            case "li":
                marker = self.lists[-1].marker(attributes) if self.lists else "- "
                self._indent(_Margin(marker, " " * len(marker)))
            case "blockquote":
                self._indent(_Margin("> ", "> "))
            case "dd":
                self._indent(_Margin("  ", "  "))
            case "div":
                self.outside.append(len(self.margins))
            case "pre":
                self.in_code = True
            case "hr":
                self._line("* * *")
            case "table":
                self.table = _Table()

    def _indent(self, margin: _Margin) -> None:
        self.outside.append(len(self.margins))
        self.margins.append(margin)

    def _begin_note(self) -> None:
        """Begin a footnote with its number; its `div` is open."""
        self.margins.append(_Margin(f"[^{self.inline.note}] ", "    "))
        self.inline.note = ""

    def _close(self, name: str) -> None:
        match name:
            case "pre":
                self._code()
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                self._flush(gap=not self.lists, underline=True)
            case "li" | "blockquote" | "dd" | "div":
                self._flush(gap=not self.lists and name != "div")
                if self.outside:
                    del self.margins[self.outside.pop() :]
            case "ul" | "ol":
                self._flush()
                self.lists.pop()
                if not self.lists:
                    self._gap()
            case _:
                self._flush(gap=not self.lists and name not in _CLOSE)

    def _take_in_table(self, table: _Table, closing: str, name: str, attributes: str) -> None:
        """Process a tag in a table; blocks and tables inside its cells only separate words."""
        if name == "table":
            self.inner_tables += -1 if closing else 1
            if self.inner_tables < 0:
                self.inner_tables = 0
                self._flush()
                self._write_table(table)
                self.table = None
                self._gap()
        elif self.inner_tables or name not in {"tr", "td", "th", "caption"}:
            self.inline.pieces.append(" ")
        elif name == "caption":
            self._flush(gap=False)
        elif name == "tr":
            if closing:
                table.close_row()
        elif closing:
            table.close_cell(" ".join(self.inline.take_all().split()))
        else:
            table.open_cell(name, attributes_of(attributes))

    def _write_table(self, table: _Table) -> None:
        """Write a line for each row of a table.

        If a line would be too long, the cells of each row are written as a list instead.
        """
        if not table.rows:
            return
        lines = [" | ".join(row) for row in table.rows]
        used = sum(len(margin.rest) for margin in self.margins)
        if max(map(display_width, lines)) + used <= self.width:
            for line in lines:
                self._line(line, gap=False)
            return
        head, *rows = table.rows if table.has_head else [[], *table.rows]
        for row in rows or [head]:
            self._record(head if rows else [], row)

    def _record(self, head: list[str], row: list[str]) -> None:
        self.margins.append(_Margin("- ", "  "))
        for label, cell in itertools.zip_longest(head, row, fillvalue=""):
            if cell:
                self._line(f"{label}: {cell}" if label else cell, gap=False)
        self.margins.pop()

    def _code(self) -> None:
        self.in_code = False
        first, rest = self._margin()
        for line in self.inline.take_all().removesuffix("\n").split("\n"):
            self.lines.append(f"{first}    {line}".rstrip())
            first = rest
        self._gap()

    def _flush(self, *, gap: bool = True, underline: bool = False) -> None:
        if self.inline.pieces:
            text = self.inline.take_all()
            if text.strip():
                self._line(text, gap=gap, underline=underline)

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


_CLOSE = frozenset("caption dd details div dl dt figcaption li section summary".split())
"""Elements without an empty line before and after them."""


def to_text(source: Html, width: int = 72) -> str:
    """Return the HTML of a post as plain text of at most `width` columns, with unbroken URLs.

    Links are numbered. Their URLs are listed at the end, each on a line of its own.
    """
    return _TextWriter(tokens_of(source), width).write()


_HEADING = re.compile(r"<h1[^<>]*>(.*?)</h1>", re.DOTALL)


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
            heading = _HEADING.search(pyromark.html(prepared.text, options=OPTIONS))
            title = _title(heading[1]) if heading else ""
            return title, (source[:start] + lines + source[end:]).decode() if title else markdown
    return "", markdown


def _title(written: str) -> str:
    if "<" in written:
        written = sanitize(written, lambda url: url)
    return inline_text(written)
