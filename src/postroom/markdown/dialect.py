"""The Markdown dialect of posts: the options of the parser, and what differs from them.

`prepare` rewrites in a source what the parser reads differently from the dialect. HTML, plain text
and checks are all made from the prepared source, so they agree.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache

import pyromark
from attrs import frozen

OPTIONS = (
    pyromark.Options.ENABLE_TABLES
    | pyromark.Options.ENABLE_FOOTNOTES
    | pyromark.Options.ENABLE_STRIKETHROUGH
    | pyromark.Options.ENABLE_TASKLISTS
    | pyromark.Options.ENABLE_HEADING_ATTRIBUTES
)
"""CommonMark with tables, footnotes, strikethrough, task lists and ids of headings."""


@frozen
class _Edit:
    """A replacement of the bytes from `start` to `end` of a source."""

    start: int
    end: int
    text: bytes


@frozen
class Prepared:
    """A source as the parser gets it, with as many lines as `written`, the source of the author."""

    text: str
    written: Prepared | str
    _edits: tuple[_Edit, ...] = ()
    _starts: tuple[int, ...] = ()

    def written_offset(self, offset: int) -> int:
        """Return the offset in the author's source that belongs to `offset` in `text`, in bytes."""
        if isinstance(self.written, str):
            return offset
        if number := bisect_right(self._starts, offset):
            edit, start = self._edits[number - 1], self._starts[number - 1]
            inside, after = offset - start, offset - start - len(edit.text)
            offset = edit.end + after if after >= 0 else min(edit.start + inside, edit.end)
        return self.written.written_offset(offset)


@lru_cache(maxsize=8)  # HTML, text and summary of a post are made one after another
def prepare(markdown: str) -> Prepared:
    """Return `markdown` as the parser must get it."""
    prepared = Prepared(markdown, markdown)
    if _MISREAD.search(markdown):
        prepared = _apply(prepared, _misread(prepared.text))
    return prepared


def _apply(before: Prepared, edits: Iterator[_Edit]) -> Prepared:
    source = before.text.encode()
    applied, starts, parts = [], [], []
    position = length = 0
    for edit in edits:
        length += edit.start - position
        parts += [source[position : edit.start], edit.text]
        applied.append(edit)
        starts.append(length)
        position, length = edit.end, length + len(edit.text)
    parts.append(source[position:])
    return Prepared(b"".join(parts).decode(), before, tuple(applied), tuple(starts))


_MISREAD = re.compile(r"\{[^{}\n]*\}[ \t#]*$", re.MULTILINE)
"""Matches in each source in which `_misread` may find anything."""
# The braces at the end of a heading, with a backslash before them, in front of closing signs or
# the line below a heading.
_BRACES = re.compile(rb"\\?\{[^{}\n]*\}(?=[ \t#]*(?:\n[ \t>]*(?:=+|-+)[ \t]*)?\s*\Z)")
_ATTRIBUTE = rb"(?:[#.][^\s#.]+|[\w-]+=\S+)"
_ATTRIBUTES = re.compile(rb"\{\s*%b(?:\s+%b)*\s*\}" % (_ATTRIBUTE, _ATTRIBUTE))


def _misread(markdown: str) -> Iterator[_Edit]:
    """Yield the edits that make text of what the parser takes for markup."""
    source = markdown.encode()
    for event, span in pyromark.events_with_range(markdown, options=OPTIONS):
        match event:
            case {"Start": {"Heading": _}}:
                if braces := _BRACES.search(source, span["start"], span["end"]):
                    words = source[span["start"] : braces.start()].strip(b"# \t")
                    if not (words and _ATTRIBUTES.fullmatch(braces[0])):
                        # The parser knows no escaped brace here.
                        brace = braces.start() + braces[0].index(b"{")
                        yield _Edit(braces.start(), brace + 1, b"&#123;")
