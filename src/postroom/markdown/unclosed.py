"""Find markup that is never closed, because it would hide all text after it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyromark
from attrs import frozen

from postroom.markdown.dialect import OPTIONS, prepare

HIDDEN = frozenset("script style svg math template object applet select textarea title".split())
"""Elements that are removed with their content."""

# A medium hides its content from browsers that play it.
_HIDING = "|".join(sorted(HIDDEN | {"audio", "video"}))
_HIDING_TAG = re.compile(rf"<(/?)({_HIDING})\b", re.IGNORECASE)
_TAG = re.compile(rf"<(/?)(?:({_HIDING})|p|h[1-6]|li|t[dh]|d[dt])\b", re.IGNORECASE)


def visible_html(source: str) -> str:
    """Return `source` with each unclosed tag of a hidden element escaped, so that it is text.

    An author who writes about <title> without code quotes would otherwise lose all text after it.
    A tag inside a paragraph must be closed in it.
    """
    if _HIDING_TAG.search(source):
        unclosed = set(_unclosed_tags(source))
        source = _HIDING_TAG.sub(
            lambda tag: f"&lt;{tag[0][1:]}" if tag.start() in unclosed else tag[0], source
        )
    if "<!" in source or "<?" in source:
        for start, end in (("<!--", "-->"), ("<!", ">"), ("<?", ">")):
            whole, last, rest = source.rpartition(end)
            source = whole + last + rest.replace(start, f"&lt;{start[1:]}")
    return source


def _unclosed_tags(source: str) -> Iterator[int]:
    """Yield the offset of each start tag of a hidden element that has no end tag."""
    ends = {tag[2].lower(): tag.start() for tag in _HIDING_TAG.finditer(source) if tag[1]}
    pending: list[int] = []
    names: dict[str, int] = {}
    block = ""
    depth = 0
    for tag in _TAG.finditer(source):
        closing, name = bool(tag[1]), tag[0].lstrip("</").lower()
        if tag[2]:
            if not closing and tag.start() > ends.get(name, 0):
                yield tag.start()
            elif not closing:
                names.setdefault(name, len(pending))
                pending.append(tag.start())
            elif name in names:
                # All that was opened after the first tag of this name is inside it.
                del pending[names[name] :]
                names = {each: place for each, place in names.items() if place < len(pending)}
        elif not pending:
            block, depth = ("" if closing else name), 1
        elif name == block:
            depth += -1 if closing else 1
            if not depth:
                yield from pending
                pending, names, block = [], {}, ""


@frozen
class Unclosed:
    """Markup of a Markdown text that is never closed: `written`, which `end` would close."""

    written: str
    end: str
    line: int
    column: int


_RISKY = re.compile(rf"<(?:[!?]|pre\b|(?:{_HIDING})\b)", re.IGNORECASE)
_START = re.compile(
    rf"<!--|<!\[CDATA\[|<\?|<!(?=[a-z])|<(?:pre|{_HIDING})\b".encode(), re.IGNORECASE
)
# CommonMark §4.6, and HTML Living Standard §13.1.6 for comments such as <!-->.
_ENDS = {
    b"<!--": (2, re.compile(rb"-->")),
    b"<![cdata[": (0, re.compile(rb"\]\]>")),
    b"<?": (0, re.compile(rb"\?>")),
    b"<!": (0, re.compile(rb">")),
}


def find_unclosed(markdown: str) -> Unclosed | None:
    """Return the first markup in an HTML block of `markdown` that is never closed, or None.

    An HTML block is one that begins with a tag (CommonMark §4.6). Unclosed markup in a paragraph
    is text, and hides nothing.
    """
    if not _RISKY.search(markdown):
        return None
    text = prepare(markdown).text
    source = text.encode()
    for event, span in pyromark.events_with_range(text, options=OPTIONS):
        if event == {"Start": "HtmlBlock"}:
            found = _unclosed_in(source, span["start"], span["end"])
            if found:
                line = source.count(b"\n", 0, found.start()) + 1
                begin = source.rfind(b"\n", 0, found.start()) + 1
                column = len(source[begin : found.start()].decode()) + 1
                return Unclosed(*_names(found[0].decode()), line, column)
    return None


def _unclosed_in(source: bytes, start: int, end: int) -> re.Match[bytes] | None:
    """Return the first start without an end in the block between two offsets."""
    position = start
    while found := _START.search(source, position, end):
        if found[0].lower() in _ENDS:
            shared, pattern = _ENDS[found[0].lower()]
            closing = pattern.search(source, found.end() - shared, end)
        else:
            # The blank lines of an SVG image make several blocks of it.
            pattern = re.compile(b"</" + found[0][1:] + rb"\b", re.IGNORECASE)
            closing = pattern.search(source, found.end())
        if not closing:
            return found
        position = closing.end()
    return None


def _names(start: str) -> tuple[str, str]:
    """Return how a message names a start and its end, such as `<title>` and `</title>`."""
    ends = {"<!--": "-->", "<![CDATA[": "]]>", "<?": "?>", "<!": ">"}
    return (start, ends[start]) if start in ends else (f"{start}>", f"</{start[1:]}>")
