"""Markdown → plain text: whole posts for a letter, single lines for titles and summaries."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

import pyromark
from attrs import define, field

from postroom.markdown.dialect import OPTIONS, Resolve


def first_heading(markdown: str) -> tuple[str, str]:
    """Return the text of a first-level heading that opens `markdown`, and what follows it.

    Without one, the text is empty and everything follows.
    """
    stripped = markdown.lstrip("\n")
    match = re.match(r"#[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*(?:\n|\Z)", stripped)
    if not match:
        match = re.match(r"(\S.*)\n=+[ \t]*(?:\n|\Z)", stripped)
    if not match:
        return "", markdown
    return inline_text(match.group(1)), stripped[match.end() :]


def inline_text(markdown: str) -> str:
    """Return the words of `markdown` on one line, without any mark-up."""
    return " ".join("".join(_words(markdown)).split())


def _words(markdown: str) -> Iterator[str]:
    for event in pyromark.events(markdown, options=OPTIONS):
        match event:
            case {"Text": str(words)} | {"Code": str(words)}:
                yield words
            case "SoftBreak" | "HardBreak" | {"End": _}:
                yield " " if event in ("SoftBreak", "HardBreak") or _is_block(event) else ""
            case _:
                pass


def _is_block(event: object) -> bool:
    inline = ("Emphasis", "Strong", "Strikethrough", "Link", "Image")
    return not (isinstance(event, dict) and event.get("End") in inline)


def first_paragraph(markdown: str, length: int = 200) -> str:
    """Return the words of the first paragraph, cut at a word before `length` characters."""
    for block in re.split(r"\n\s*\n", markdown):
        words = inline_text(block)
        if words and not block.lstrip().startswith(
            ("#", "|", "<", "```", ">", "![", "[^", "- ", "* ")
        ):
            return textwrap.shorten(words, length, placeholder="…")
    return textwrap.shorten(inline_text(markdown), length, placeholder="…")


def to_text(markdown: str, resolve: Resolve, width: int = 72) -> str:
    """Return `markdown` as plain text of at most `width` columns, addresses never broken.

    Links are numbered and their addresses listed at the end, one alone on a line.
    """
    writer = _TextWriter(resolve, width)
    for event in pyromark.events(markdown, options=OPTIONS):
        writer.take(event)
    return writer.finished()


@define
class _TextWriter:
    """Markdown events, one by one, → lines of text."""

    resolve: Resolve
    width: int
    lines: list[str] = field(factory=list)
    words: list[str] = field(factory=list)
    links: list[str] = field(factory=list)
    open_links: list[str] = field(factory=list)
    indents: list[str] = field(factory=list)
    counters: list[int | None] = field(factory=list)
    marker: str = ""
    cells: list[str] = field(factory=list)
    verbatim: bool = False

    def take(self, event: object) -> None:
        match event:
            case {"Text": str(text)} | {"Code": str(text)}:
                self.words.append(text)
            case "SoftBreak":
                self.words.append(" ")
            case "HardBreak":
                self.words.append("\n")
            case {"FootnoteReference": label}:
                self.words.append(f"[^{label}]")
            case {"TaskListMarker": done}:
                self.words.append("[x] " if done else "[ ] ")
            case "Rule":
                self._line("* * *")
            case {"Start": tag}:
                self._start(tag)
            case {"End": tag}:
                self._end(tag)
            case _:
                pass

    def _start(self, tag: object) -> None:
        match tag:
            case {"Link": {"dest_url": str(address)}}:
                self.open_links.append(address)
            case {"Image": _}:
                self.words.append("[")
            case {"List": first}:
                self._flush()
                self.counters.append(first if isinstance(first, int) else None)
            case "Item":
                self._item()
            case {"BlockQuote": _} | "BlockQuote":
                self.indents.append("> ")
            case {"FootnoteDefinition": label}:
                self.marker = f"[^{label}] "
            case {"CodeBlock": _}:
                self._flush()
                self.verbatim = True
            case _:
                pass

    def _item(self) -> None:
        self._flush()
        counter = self.counters[-1]
        self.marker = "- " if counter is None else f"{counter}. "
        if counter is not None:
            self.counters[-1] = counter + 1
        self.indents.append(" " * len(self.marker))

    def _end(self, tag: object) -> None:
        match tag:
            case "Link":
                self._close_link()
            case "Image":
                self.words.append("]")
            case "TableCell":
                self.cells.append(" ".join("".join(self.words).split()))
                self.words.clear()
            case "TableHead" | "TableRow":
                self._line(" | ".join(self.cells), gap=False)
                self.cells.clear()
            case "Item" | {"BlockQuote": _} | "BlockQuote":
                self._flush()
                self.indents.pop()
            case {"List": _}:
                self.counters.pop()
                self._gap()
            case "Table":
                self._gap()
            case "CodeBlock":
                self._code()
            case "Emphasis" | "Strong" | "Strikethrough":
                pass
            case {"Heading": _}:
                self._flush(underline=True)
            case _:
                self._flush()

    def _close_link(self) -> None:
        written = self.open_links.pop()
        address = (
            written if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", written) else self.resolve(written)
        )
        if not "".join(self.words).endswith(address.removeprefix("mailto:")):
            if address not in self.links:
                self.links.append(address)
            self.words.append(f" [{self.links.index(address) + 1}]")

    def _code(self) -> None:
        self.verbatim = False
        for line in "".join(self.words).splitlines():
            self.lines.append(f"{''.join(self.indents)}    {line}".rstrip())
        self.words.clear()
        self._gap()

    def _flush(self, *, underline: bool = False) -> None:
        text = "".join(self.words)
        self.words.clear()
        if text.strip():
            self._line(text, gap=not self.counters, underline=underline)

    def _line(self, text: str, *, gap: bool = True, underline: bool = False) -> None:
        first, rest = self._margins()
        start = len(self.lines)
        for part in text.strip().split("\n"):
            self.lines += wrapped(part, self.width, first, rest)
            first = rest
        if underline:
            longest = max(len(line) for line in self.lines[start:])
            self.lines.append("-" * min(longest, self.width))
        if gap:
            self._gap()

    def _margins(self) -> tuple[str, str]:
        rest = "".join(self.indents)
        if not self.marker:
            return rest, rest
        marker, self.marker = self.marker, ""
        return rest[: len(rest) - len(marker)] + marker if self.counters else marker, rest

    def _gap(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def finished(self) -> str:
        self._flush()
        self._gap()
        self.lines += [f"[{number}] {address}" for number, address in enumerate(self.links, 1)]
        return "\n".join(self.lines).strip("\n")


def wrapped(text: str, width: int = 72, first: str = "", rest: str = "") -> list[str]:
    """Return `text` in lines of at most `width` columns; words and addresses are never broken."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
