"""Markdown → plain text: whole posts for a letter, single lines for titles and summaries."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

import pyromark

from postroom.markdown.dialect import HIDDEN, OPTIONS, Resolve
from postroom.markdown.lines import shortened
from postroom.markdown.writer import TextWriter

_INLINE = ("Emphasis", "Strong", "Strikethrough", "Link", "Image")
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_TELLING = frozenset({"a", "iframe", "img"})
"""Tags that say something to who sees no HTML: where a link leads, what a picture shows."""


def first_heading(markdown: str) -> tuple[str, str]:
    """Return the text of a first-level heading that opens `markdown`, and the rest.

    The rest has as many lines as `markdown`. Without a heading, the text is empty and all is rest.
    """
    events = pyromark.events_with_range(markdown, options=OPTIONS, merge_text=True)
    match next(events, None):
        case ({"Start": {"Heading": {"level": "H1"}}}, {"start": int(start), "end": int(end)}):
            source = markdown.encode()
            lines = b"\n" * source.count(b"\n", start, end)
            inside = itertools.takewhile(_is_within_heading, (event for event, _ in events))
            title = " ".join("".join(_words(_seen(inside))).split())
            return title, (source[:start] + lines + source[end:]).decode() if title else markdown
    return "", markdown


def _is_within_heading(event: object) -> bool:
    return not (isinstance(event, dict) and isinstance(event.get("End"), dict))


def inline_text(markdown: str) -> str:
    """Return the words of `markdown` on one line, without any mark-up."""
    return " ".join("".join(_words(_events(markdown))).split())


def _events(markdown: str) -> Iterator[object]:
    events = pyromark.events(markdown, options=OPTIONS)
    return _seen(events) if "<" in markdown else events


def _seen(events: Iterable[object]) -> Iterator[object]:
    """Yield `events` without those in scripts and their kin; `<br>` as a break, of tags some.

    What is never closed in its block hides nothing, and is text itself.
    """
    held: list[object] = []
    hidden = ""
    for event in events:
        source, closing, name = _tag(event)
        if hidden and closing and name == hidden:
            held, hidden = [], ""
        elif hidden and not _bounds_block(event):
            held.append(event)
        elif name in HIDDEN and not closing:
            held, hidden = [{"Text": source}], name
        elif source:
            yield from ["HardBreak"] if name == "br" else [event] if name in _TELLING else []
        else:
            yield from held
            held, hidden = [], ""
            yield event
    yield from held


def _tag(event: object) -> tuple[str, str, str]:
    """Return the source of an inline tag, its slash and its name; nothing of any other event."""
    if not isinstance(event, dict) or "InlineHtml" not in event:
        return "", "", ""
    source = str(event["InlineHtml"])
    tag = _TAG.match(source)
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
    """Return the words of the first paragraph, cut at a word before `length` characters.

    Headings, pictures, lists, quotes, tables and code do not count unless there is nothing else.
    """
    containers = pictures = 0
    words: list[str] = []
    for event in _events(markdown):
        match event:
            case {"Start": {"List": _} | {"BlockQuote": _} | {"FootnoteDefinition": _}}:
                containers += 1
            case {"End": {"List": _} | {"BlockQuote": _} | "FootnoteDefinition"}:
                containers -= 1
            case {"Start": {"Image": _}}:
                pictures += 1
            case {"End": "Image"}:
                pictures -= 1
            case {"Start": "Paragraph"}:
                words.clear()
            case {"End": "Paragraph"} if not containers and "".join(words).strip():
                return shortened("".join(words), length)
            case _ if not pictures:
                words += _words([event])
    return shortened(inline_text(markdown), length)


def to_text(markdown: str, resolve: Resolve, width: int = 72) -> str:
    """Return `markdown` as plain text of at most `width` columns, addresses never broken.

    Links are numbered and their addresses listed at the end, one alone on a line.
    """
    writer = TextWriter(resolve, width)
    for event in _events(markdown):
        writer.take(event)
    return writer.finished()
