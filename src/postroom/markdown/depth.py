"""How deep elements stand in each other: what is too deep, mail programs and parsers give up."""

from __future__ import annotations

import re
from collections import Counter

import pyromark

from postroom.markdown.dialect import OPTIONS

DEEPEST = 100
"""Elements around another; libxml2 drops what stands below 255, the frame of a page included."""
_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)", re.IGNORECASE)
# HTML Living Standard §13.1.2: void elements hold nothing, and those after them are closed by the
# next of their kind where nobody closes them.
_SHALLOW = frozenset(
    "area base br col embed hr iframe img input link meta param source track wbr "
    "a p li dt dd rp rt option colgroup caption thead tbody tfoot tr td th".split()
)
_WEIGHTS = {"table": 3, "ul": 2, "ol": 2, "dl": 2}
"""What an element brings along: a table its row and cell, a list its item."""
_LEAVES = ("HtmlBlock", "Paragraph")


def is_too_deep(html: str) -> bool:
    """Tell whether something in `html` stands in more than `DEEPEST` elements."""
    return html.count("<") > DEEPEST and _depth_after(html, Counter()) > DEEPEST


def line_too_deep(markdown: str) -> int:
    """Return the first line, from 1, of `markdown` that stands too deep; 0 if none does."""
    held, tags = 0, Counter[str]()
    for event, span in pyromark.events_with_range(markdown, options=OPTIONS):
        deepest = 0
        match event:
            case {"Start": kind}:
                held += kind not in _LEAVES
            case {"End": kind}:
                held -= kind not in _LEAVES
            case {"Html": str(source)} | {"InlineHtml": str(source)}:
                deepest = _depth_after(source, tags)
        if held + max(deepest, tags.total()) > DEEPEST:
            return markdown.encode().count(b"\n", 0, span["start"]) + 1
    return 0


def _depth_after(html: str, tags: Counter[str]) -> int:
    """Open and close `tags` as `html` does, and return how many were open at most."""
    deepest = 0
    depth = tags.total()
    for closing, written in _TAG.findall(html):
        name = written.lower()
        if name in _SHALLOW or (closing and not tags[name]):
            continue
        weight = _WEIGHTS.get(name, 1)
        change = -weight if closing else weight
        tags[name] += change
        depth += change
        deepest = max(deepest, depth)
    return deepest
